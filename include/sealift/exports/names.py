"""Every name and key that Sealift chooses: export ids, templates, notes, object keys and URIs.

The template's name is the only handle by which a capture can be found again after a lost reply (no call takes an
idempotency token), so it follows from the export id alone and never from the clock or from chance.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Final

from sealift.exports.errors import SettingsError

TEMPLATE_PREFIX: Final = "sealift-"
"""What the names of all our templates begin with; ``templates_with_prefix`` finds captures by it."""

PERIOD_MAX: Final = 40
"""Longest period. With a guest id this keeps template names at 61 characters or less; IBM publishes no limit."""

KEY_MAX_BYTES: Final = 1024
"""Longest object key that COS takes, in bytes of UTF-8."""

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_RUNS = re.compile(r"[-_]{2,}")
_ISO_TIME = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?(?:Z|\+00:?00)?")
_EXPORT_ID = re.compile(r"([1-9]\d*)-(.+)", re.DOTALL)


# Periods and ids


def period_of_slot(slot: datetime) -> str:
    """Name a scheduled slot.

    :param slot: the slot's time, with a time zone.
    :returns: as ``20261123T0200Z``; seconds are named only where the slot has some.
    """
    if slot.tzinfo is None:
        raise SettingsError(f"The slot {slot.isoformat()} has no time zone; give it one, for example +00:00.")
    utc = slot.astimezone(UTC)
    return utc.strftime("%Y%m%dT%H%M%SZ" if utc.second else "%Y%m%dT%H%MZ")


def period_of_run(run_id: str) -> str:
    """Name a manual run: readable, safe in names and keys, at most 40 characters, and different for different run ids.

    :param run_id: the run's id, in any characters.
    :returns: as ``manual-20261123T020000Z-1b9f0c3d``; always ends in eight hexadecimal digits of the run id's SHA-256.
    """
    if not run_id:
        raise SettingsError("The run has no id, so that its exports cannot be named; give the run an id.")
    return f"{_readable(run_id, PERIOD_MAX - 9)}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def period_for(*, slot: datetime | None, run_id: str) -> str:
    """Name what a run exports: its scheduled slot where it has one, else the run itself.

    :param slot: the scheduled time, or None for a manual run.
    :param run_id: the run's id.
    """
    return period_of_run(run_id) if slot is None else period_of_slot(slot)


def plan_id_for(*, dag_id: str, run_id: str) -> str:
    """Name the plan of a run: the same run makes the same plan id, so that starting twice starts once.

    :param dag_id: the DAG that makes the plan.
    :param run_id: the run's id.
    :returns: at most 60 safe characters.
    """
    digest = hashlib.sha256(f"{dag_id}\n{run_id}".encode()).hexdigest()[:8]
    return f"{_readable(run_id, 51)}-{digest}"


def check_period(period: str) -> str:
    """Return the period if it can stand in names and keys; raise :class:`SettingsError` if not."""
    if not _TOKEN.fullmatch(period) or len(period) > PERIOD_MAX:
        raise SettingsError(
            f"The period {period!r} cannot be used in names: use 1 to {PERIOD_MAX} letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit."
        )
    return period


def export_id(*, guest_id: int, period: str) -> str:
    """Make the export id ``<guest id>-<period>``.

    :param guest_id: the guest's id, above 0.
    :param period: the scheduled slot or manual run, see :func:`period_for`.
    """
    if guest_id <= 0:
        raise SettingsError(f"{guest_id} is not the id of a virtual server; ids are above 0.")
    return f"{guest_id}-{check_period(period)}"


def parse_export_id(value: str) -> tuple[int, str]:
    """Take an export id apart.

    :returns: guest id and period.
    :raises SettingsError: it is not an export id.
    """
    match = _EXPORT_ID.fullmatch(value)
    if match is None:
        raise SettingsError(f"{value!r} is not an export id; one looks like 12345678-20261123T0200Z.")
    return int(match[1]), check_period(match[2])


# Templates


def template_name(export: str) -> str:
    """Name the template of an export: ``sealift-<export id>``."""
    return TEMPLATE_PREFIX + export


def parse_template_name(name: str | None) -> str | None:
    """Return the export id that a template's name carries, or None if the template is not ours."""
    if not name or not name.startswith(TEMPLATE_PREFIX):
        return None
    rest = name.removeprefix(TEMPLATE_PREFIX)
    try:
        parse_export_id(rest)
    except SettingsError:
        return None
    return rest


def template_note(*, export: str, bucket: str, key_prefix: str) -> str:
    """Write the note that a template carries, so that whoever finds it knows what it is for and where it went."""
    return f"Sealift export {export} to {bucket}/{key_prefix}/"


# Keys in the bucket


def key_safe(text: str) -> str:
    """Replace what IBM asks to leave out of object names (``?``, ``=``, ``<``, blanks …) by ``-``."""
    return _UNSAFE.sub("-", text).strip(".-") or "unnamed"


def normal_prefix(prefix: str) -> str:
    """Return a key prefix without slashes at its ends.

    :raises SettingsError: the prefix holds what COS or the export dislikes.
    """
    bare = prefix.strip("/")
    for part in bare.split("/") if bare else []:
        if not _TOKEN.fullmatch(part):
            raise SettingsError(
                f"The prefix {prefix!r} cannot be used: its part {part!r} must be letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit."
            )
    return bare


def image_prefix(*, prefix: str, hostname: str, guest_id: int, export: str) -> str:
    """Say where an export's objects lie: ``<prefix>/images/<hostname>-<guest id>/<export id>``."""
    return _join(prefix, f"images/{key_safe(hostname)}-{guest_id}/{export}")


def disk_uri(*, region: str, bucket: str, images: str, extension: str = "vhd") -> str:
    """Write the URI that ``copyToIcos`` is given; the service puts ``-0``, ``-1`` … before the extension.

    :param images: the export's :func:`image_prefix`.
    """
    return f"cos://{region}/{bucket}/{images}/disk.{extension}"


def disk_key(*, images: str, index: int, extension: str = "vhd") -> str:
    """Return the key of the ``index``-th exported disk, counted from 0 without gaps."""
    return f"{images}/disk-{index}.{extension}"


def disks_prefix(images: str) -> str:
    """Return what the keys of all disks of an export begin with."""
    return f"{images}/disk-"


def record_key(images: str) -> str:
    """Return the key of the configuration record."""
    return f"{images}/server.json"


def manifests_prefix(prefix: str, guest_id: int | None = None) -> str:
    """Return what the keys of all manifests begin with, or of one guest's."""
    return _join(prefix, "manifests/") + (f"{guest_id}/" if guest_id is not None else "")


def manifest_key(*, prefix: str, guest_id: int, period: str) -> str:
    """Return the key of the manifest that makes the export of (guest, period) done."""
    return f"{manifests_prefix(prefix, guest_id)}{period}.json"


def parse_manifest_key(key: str) -> tuple[int, str] | None:
    """Return guest id and period of a manifest's key, or None if it is not one."""
    parts = key.split("/")
    if len(parts) < 3 or parts[-3] != "manifests" or not parts[-2].isdigit() or not parts[-1].endswith(".json"):
        return None
    return int(parts[-2]), parts[-1].removesuffix(".json")


def plan_key(*, prefix: str, plan_id: str) -> str:
    """Return the key of a whole plan."""
    return _join(prefix, f"plans/{plan_id}.json")


def wave_key(*, prefix: str, plan_id: str, number: int) -> str:
    """Return the key of one wave's slice of a plan."""
    return _join(prefix, f"plans/{plan_id}/wave-{number:04d}.json")


def wave_report_key(*, prefix: str, plan_id: str, number: int) -> str:
    """Return the key of one wave's report."""
    return _join(prefix, f"plans/{plan_id}/wave-{number:04d}.report.json")


def report_key(*, prefix: str, plan_id: str) -> str:
    """Return the key of the run's report."""
    return _join(prefix, f"plans/{plan_id}/report.json")


def wave_run_id(*, plan_id: str, number: int) -> str:
    """Name the DAG run that carries a wave: derived from the plan, so that starting twice starts once."""
    return f"{plan_id}.wave-{number:04d}"


def _join(prefix: str, rest: str) -> str:
    return f"{prefix}/{rest}" if prefix else rest


def _readable(run_id: str, length: int) -> str:
    compact = _ISO_TIME.sub(lambda m: f"{m[1]}{m[2]}{m[3]}T{m[4]}{m[5]}{m[6] or ''}Z", run_id)
    safe = _RUNS.sub("-", _UNSAFE.sub("-", compact))
    return safe[:length].strip("._-") or "run"
