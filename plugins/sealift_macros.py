"""Template macros for DAGs that come after an export: where a server's manifest and images are in the bucket.

``{{ macros.sealift.manifest_key(prefix='weekly', guest_id=12345678, slot=logical_date) }}``
"""

from __future__ import annotations

from datetime import datetime

from airflow.plugins_manager import AirflowPlugin

from sealift.exports import names


def period(slot: datetime | None = None, run_id: str = "") -> str:
    """Name what a run of plan_exports exported.

    :param slot: the logical date of a scheduled run.
    :param run_id: the run's id, of a manual run.
    :returns: as ``20261123T0200Z``.
    """
    return names.period_for(slot=slot, run_id=run_id)


def export_id(guest_id: int, slot: datetime | None = None, run_id: str = "") -> str:
    """Name one server's export.

    :param guest_id: the virtual server's id.
    :param slot: the logical date of a scheduled run.
    :param run_id: the run's id, of a manual run.
    :returns: ``<guest id>-<period>``.
    """
    return names.export_id(guest_id=int(guest_id), period=period(slot, run_id))


def manifest_key(prefix: str, guest_id: int, slot: datetime | None = None, run_id: str = "") -> str:
    """Give the key of the manifest that makes an export done.

    :param prefix: the prefix of the exports.
    :param guest_id: the virtual server's id.
    :param slot: the logical date of a scheduled run.
    :param run_id: the run's id, of a manual run.
    :returns: the key in the bucket.
    """
    return names.manifest_key(prefix=prefix, guest_id=int(guest_id), period=period(slot, run_id))


class SealiftPlugin(AirflowPlugin):
    """Makes the functions above available as ``macros.sealift``."""

    name = "sealift"
    macros = [period, export_id, manifest_key]
