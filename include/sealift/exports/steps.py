"""The steps of one server's export, in order, without Airflow: clients come in, facts go out.

Each step looks first and acts only on what it does not find, so that any of them may be run again at any time.
"""

from __future__ import annotations

from sealift.exports.capturing import (
    AskTheAccount,
    Captured,
    OfflineGate,
    captures_in_flight,
    ensure_captured,
    find_template,
)
from sealift.exports.exporting import ExportStarted, ensure_export_started
from sealift.exports.proving import Recorded, prove_and_record

__all__ = [
    "AskTheAccount",
    "Captured",
    "ExportStarted",
    "OfflineGate",
    "Recorded",
    "captures_in_flight",
    "ensure_captured",
    "ensure_export_started",
    "find_template",
    "prove_and_record",
]
