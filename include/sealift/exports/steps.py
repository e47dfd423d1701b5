"""The steps of one server's export, in order, without Airflow: clients come in, facts go out.

Each step looks first and acts only on what it does not find, so that any of them may be run again at any time.
"""

from __future__ import annotations

from sealift.exports.capturing import (
    Captured,
    ensure_captured,
    find_template,
)
from sealift.exports.exporting import ExportStarted, ensure_export_started, forget_claim
from sealift.exports.offline import JustRead
from sealift.exports.proving import Recorded, prove_and_record
from sealift.exports.remembering import CaptureMemory
from sealift.exports.slots import OfflineGate, OfflineSlots
from sealift.exports.surveying import SlotsPlace, Survey, settle_time, survey

__all__ = [
    "CaptureMemory",
    "Captured",
    "ExportStarted",
    "JustRead",
    "OfflineGate",
    "OfflineSlots",
    "Recorded",
    "SlotsPlace",
    "Survey",
    "ensure_captured",
    "ensure_export_started",
    "find_template",
    "forget_claim",
    "prove_and_record",
    "settle_time",
    "survey",
]
