"""Every name and key that Sealift chooses: export ids, templates, notes, object keys and URIs.

The template's name is the only handle by which a capture can be found again after a lost reply (no call takes an
idempotency token), so it follows from the export id alone and never from the clock or from chance.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
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
_NOTE = re.compile(r"Sealift export \S+ to ([A-Za-z0-9.-]+)/([A-Za-z0-9._/-]+)/")
PERIOD_PATTERN = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{PERIOD_MAX - 1}}}"
_IMAGE_FILE = re.compile(
    rf"(?P<home>[A-Za-z0-9._-]+-(?P<guest>[1-9]\d*))/(?P<export>(?P=guest)-{PERIOD_PATTERN})/"
    r"(?:disk-(?P<disk>0|[1-9]\d*)\.(?:vhd|vmdk)|server\.json)"
)
_PLAN_FILE = re.compile(
    r"(?P<plan>[A-Za-z0-9][A-Za-z0-9._-]*)"
    r"(?:\.json|/(?P<run>report)\.json|/wave-(?P<wave>\d{4,})(?P<report>\.report)?\.json)"
)
_SLOT = re.compile(r"(\d{8}T\d{4})(\d{2})?Z")
_CLAIM_FILE = re.compile(rf"(?P<guest>[1-9]\d*)/(?P<period>{PERIOD_PATTERN})/\d{{8}}\.json")
_CAPTURED_FILE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]*/[1-9]\d*-{PERIOD_PATTERN}\.json")
_EXAMINATION_FILE = re.compile(rf"examinations/{PERIOD_PATTERN}\.json")
_PROOF_FILE = re.compile(rf"[1-9]\d*/{PERIOD_PATTERN}/(\d{{4,}})\.json")


# Periods and ids


def period_of_slot(slot: datetime) -> str:
    """Name a scheduled slot.

    :param slot: the slot's time, with a time zone.
    :returns: as ``20261123T0200Z``; seconds are named only where the slot has some.
    :raises SettingsError: the slot has no time zone.
    """
    if slot.tzinfo is None:
        raise SettingsError(f"The slot {slot.isoformat()} has no time zone; give it one, for example +00:00.")
    utc = slot.astimezone(UTC)
    return utc.strftime("%Y%m%dT%H%M%SZ" if utc.second else "%Y%m%dT%H%MZ")


def slot_of_period(period: str) -> datetime | None:
    """Say which scheduled slot a period names.

    :param period: any period.
    :returns: the slot in UTC, or None where the period names a manual run.
    """
    match = _SLOT.fullmatch(period)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1] + (match[2] or "00"), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def period_of_run(run_id: str) -> str:
    """Name a manual run: readable, safe in names and keys, at most 40 characters, and different for different run ids.

    :param run_id: the run's id, in any characters.
    :returns: as ``manual-20261123T020000Z-1b9f0c3d``; always ends in eight hexadecimal digits of the run id's SHA-256.
    :raises SettingsError: the run has no id.
    """
    if not run_id:
        raise SettingsError("The run has no id, so that its exports cannot be named; give the run an id.")
    return f"{_readable(run_id, PERIOD_MAX - 9)}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def period_for(*, slot: datetime | None, run_id: str) -> str:
    """Name what a run exports: its scheduled slot where it has one, else the run itself.

    :param slot: the scheduled time, or None for a manual run.
    :param run_id: the run's id.
    :returns: at most 40 characters that can stand in names and keys.
    :raises SettingsError: the slot has no time zone, or there is neither slot nor run id.
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
    """Refuse a period that cannot stand in names and keys.

    :param period: the period.
    :returns: the period, unchanged.
    :raises SettingsError: it is empty, longer than 40 characters, or holds others than letters, digits, ``.``, ``_``,
        ``-``.
    """
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
    :returns: as ``12345678-20261123T0200Z``.
    :raises SettingsError: the id or the period cannot be one.
    """
    if guest_id <= 0:
        raise SettingsError(f"{guest_id} is not the id of a virtual server; ids are above 0.")
    return f"{guest_id}-{check_period(period)}"


def parse_export_id(value: str) -> tuple[int, str]:
    """Take an export id apart.

    :param value: as :func:`export_id` makes it.
    :returns: guest id and period.
    :raises SettingsError: it is not an export id.
    """
    match = _EXPORT_ID.fullmatch(value)
    if match is None:
        raise SettingsError(f"{value!r} is not an export id; one looks like 12345678-20261123T0200Z.")
    return int(match[1]), check_period(match[2])


# Templates


def template_suffix(period: str) -> str:
    """Return what the names of all templates of a period end in.

    :param period: the scheduled slot or manual run.
    :returns: as ``-20261123T0200Z``.
    """
    return f"-{period}"


def template_name(export: str) -> str:
    """Name the template of an export: ``sealift-<export id>``.

    :param export: the export id.
    :returns: the template's exact name.
    """
    return TEMPLATE_PREFIX + export


def parse_template_name(name: str | None) -> str | None:
    """Return the export id that a template's name carries, or None if the template is not ours.

    :param name: a template's name, as the account shows it.
    :returns: the export id, or None.
    """
    if not name or not name.startswith(TEMPLATE_PREFIX):
        return None
    rest = name.removeprefix(TEMPLATE_PREFIX)
    try:
        parse_export_id(rest)
    except SettingsError:
        return None
    return rest


def template_note(*, export: str, bucket: str, key_prefix: str) -> str:
    """Write the note that a template carries, so that whoever finds it knows what it is for and where it went.

    :param export: the export id.
    :param bucket: the bucket that the export goes to.
    :param key_prefix: the export's :func:`image_prefix`.
    :returns: one line.
    """
    return f"Sealift export {export} to {bucket}/{key_prefix}/"


# Keys in the bucket


def key_safe(text: str) -> str:
    """Replace what IBM asks to leave out of object names (``?``, ``=``, ``<``, blanks …) by ``-``.

    Source: IMGDOC export-image-ibm-cos.

    :param text: any text.
    :returns: letters, digits, ``.``, ``_`` and ``-`` only; ``unnamed`` where nothing else is left.
    """
    return _UNSAFE.sub("-", text).strip(".-") or "unnamed"


def normal_prefix(prefix: str) -> str:
    """Return a key prefix without slashes at its ends.

    :param prefix: as the user wrote it; may be empty.
    :returns: the prefix, or an empty text.
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
    """Say where an export's objects lie: ``<prefix>/images/<hostname>-<guest id>/<export id>``.

    :param prefix: what all keys begin with; may be empty.
    :param hostname: the server's host name.
    :param guest_id: the server's id.
    :param export: the export id.
    :returns: without a slash at its end.
    """
    return _join(prefix, f"images/{key_safe(hostname)}-{guest_id}/{export}")


def disk_uri(*, region: str, bucket: str, images: str, extension: str = "vhd") -> str:
    """Write the URI that ``copyToIcos`` is given; the service puts ``-0``, ``-1`` … before the extension.

    Source: IMGDOC export-image-ibm-cos.

    :param region: the bucket's region, as ``us-south``.
    :param bucket: the bucket.
    :param images: the export's :func:`image_prefix`.
    :param extension: ``vhd``; whether the service takes the format from it is unconfirmed.
    :returns: as ``cos://us-south/bucket/images/…/disk.vhd``.
    """
    return f"cos://{region}/{bucket}/{images}/disk.{extension}"


def disk_key(*, images: str, index: int, extension: str = "vhd") -> str:
    """Return the key of the ``index``-th exported disk, counted from 0 without gaps.

    Source for the numbers: IMGDOC export-image-ibm-cos.

    :param images: the export's :func:`image_prefix`.
    :param index: number of the disk, from 0.
    :param extension: as for :func:`disk_uri`.
    :returns: as ``images/…/disk-0.vhd``.
    """
    return f"{images}/disk-{index}.{extension}"


def disks_prefix(images: str) -> str:
    """Return what the keys of all disks of an export begin with.

    :param images: the export's :func:`image_prefix`.
    :returns: the beginning, to list by.
    """
    return f"{images}/disk-"


def record_key(images: str) -> str:
    """Return the key of the configuration record.

    :param images: the export's :func:`image_prefix`.
    :returns: as ``images/…/server.json``.
    """
    return f"{images}/server.json"


def manifests_prefix(prefix: str, guest_id: int | None = None) -> str:
    """Return what the keys of all manifests begin with, or of one guest's.

    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the one guest, or None for all.
    :returns: with a slash at its end.
    """
    return _join(prefix, "manifests/") + (f"{guest_id}/" if guest_id is not None else "")


def manifest_key(*, prefix: str, guest_id: int, period: str) -> str:
    """Return the key of the manifest that makes the export of (guest, period) done.

    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the virtual server.
    :param period: the scheduled slot or manual run.
    :returns: as ``manifests/12345678/20261123T0200Z.json``.
    """
    return f"{manifests_prefix(prefix, guest_id)}{period}.json"


def parse_manifest_key(key: str) -> tuple[int, str] | None:
    """Return guest id and period of a manifest's key, or None if it is not one.

    :param key: any object's key.
    :returns: guest id and period, or None.
    """
    parts = key.split("/")
    if len(parts) < 3 or parts[-3] != "manifests" or not parts[-2].isdigit() or not parts[-1].endswith(".json"):
        return None
    return int(parts[-2]), parts[-1].removesuffix(".json")


def plan_key(*, prefix: str, plan_id: str) -> str:
    """Return the key of a whole plan.

    :param prefix: what all keys begin with; may be empty.
    :param plan_id: the plan, see :func:`plan_id_for`.
    :returns: as ``plans/<plan id>.json``.
    """
    return _join(prefix, f"plans/{plan_id}.json")


def wave_key(*, prefix: str, plan_id: str, number: int) -> str:
    """Return the key of one wave's slice of a plan.

    :param prefix: what all keys begin with; may be empty.
    :param plan_id: the plan.
    :param number: the wave's number, from 0.
    :returns: as ``plans/<plan id>/wave-0000.json``.
    """
    return _join(prefix, f"plans/{plan_id}/wave-{number:04d}.json")


def waves_prefix(prefix: str, plan_id: str) -> str:
    """Return what the keys of all waves of a plan begin with; parameters as for :func:`wave_key`.

    :returns: as ``plans/<plan id>/wave-``.
    """
    return _join(prefix, f"plans/{plan_id}/wave-")


def wave_report_key(*, prefix: str, plan_id: str, number: int) -> str:
    """Return the key of one wave's report; parameters as for :func:`wave_key`.

    :returns: as ``plans/<plan id>/wave-0000.report.json``.
    """
    return _join(prefix, f"plans/{plan_id}/wave-{number:04d}.report.json")


def report_key(*, prefix: str, plan_id: str) -> str:
    """Return the key of the run's report; parameters as for :func:`plan_key`.

    :returns: as ``plans/<plan id>/report.json``.
    """
    return _join(prefix, f"plans/{plan_id}/report.json")


def slots_root(*, prefix: str, account_id: int) -> str:
    """Say where the offline slots of an account are: one place for all of its runs, whatever their prefix.

    :param prefix: what the deployment puts before them; may be empty.
    :param account_id: the account.
    :returns: as ``offline-slots/307608``.
    """
    return _join(prefix, f"offline-slots/{account_id}")


def claims_root(*, prefix: str) -> str:
    """Say where all claims on exports to the bucket are.

    :param prefix: what all keys begin with; may be empty.
    :returns: as ``claims``.
    """
    return _join(prefix, "claims")


def claim_root(*, prefix: str, guest_id: int, period: str) -> str:
    """Say where it is kept who may submit an export to the bucket.

    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the virtual server.
    :param period: the scheduled slot or manual run.
    :returns: as ``claims/12345678/20261123T0200Z``.
    """
    return f"{claims_root(prefix=prefix)}/{guest_id}/{period}"


def captured_key(*, prefix: str, plan_id: str, export: str) -> str:
    """Say where it is kept which template a capture made, until its export's manifest is written.

    :param prefix: what all keys begin with; may be empty.
    :param plan_id: the plan.
    :param export: the export id.
    :returns: as ``captured/<plan id>/12345678-20261123T0200Z.json``.
    """
    return _join(prefix, f"captured/{plan_id}/{export}.json")


def proofs_prefix(*, prefix: str, guest_id: int, period: str) -> str:
    """Return what the keys of an export's later proofs begin with; parameters as for :func:`manifest_key`.

    :returns: as ``proofs/12345678/20261123T0200Z/``.
    """
    return _join(prefix, f"proofs/{guest_id}/{period}/")


def proof_key(*, prefix: str, guest_id: int, period: str, number: int) -> str:
    """Return the key of one of an export's later proofs; the other parameters as for :func:`manifest_key`.

    :param number: from 1.
    :returns: as ``proofs/12345678/20261123T0200Z/0001.json``.
    """
    return f"{proofs_prefix(prefix=prefix, guest_id=guest_id, period=period)}{number:04d}.json"


def examination_key(*, prefix: str, run_id: str) -> str:
    """Return the key of the doctor's report: a later try of the same run replaces it.

    :param prefix: what all keys begin with; may be empty.
    :param run_id: the run that examined.
    :returns: as ``reports/examinations/scheduled-20261123T020000Z-1b9f0c3d.json``.
    """
    return _join(prefix, f"reports/examinations/{period_of_run(run_id)}.json")


def wave_run_id(*, plan_id: str, number: int) -> str:
    """Name the DAG run that carries a wave: derived from the plan, so that starting twice starts once.

    :param plan_id: the plan.
    :param number: the wave's number, from 0.
    :returns: as ``<plan id>.wave-0000``.
    """
    return f"{plan_id}.wave-{number:04d}"


def wave_runs_before(run_id: str, *, most: int) -> list[str]:
    """Name the runs of the waves right before one.

    :param run_id: the wave's run, see :func:`wave_run_id`.
    :param most: how many.
    :returns: their ids; fewer for the first waves, and none where it is no wave's run.
    """
    plan_id, found, number = run_id.rpartition(".wave-")
    if not found or not number.isdigit():
        return []
    return [wave_run_id(plan_id=plan_id, number=one) for one in range(max(0, int(number) - most), int(number))]


# What lies at a key


ROOMS: Final = ("captured", "claims", "images", "index", "manifests", "plans", "proofs", "reports", "retention")
"""The first part of all keys behind the prefix."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What the key of an export's object tells.

    :param home: ``<hostname>-<guest id>``.
    :param export_id: the export.
    :param disk: the disk's number, or None for the configuration record.
    """

    home: str
    export_id: str
    disk: int | None


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What the key of a plan's object tells.

    :param plan_id: the plan.
    :param wave: the wave's number, where the object is a wave's.
    :param report: the object is a report.
    """

    plan_id: str
    wave: int | None
    report: bool


def room_prefix(prefix: str, room: str) -> str:
    """Return what all keys of one of the :data:`ROOMS` begin with.

    :param prefix: what all keys begin with; may be empty.
    :param room: the room.
    :returns: with a slash at its end.
    """
    return _join(prefix, f"{room}/")


def parse_image_file(rest: str) -> ImageFile | None:
    """Say what lies at a key below ``images/``.

    :param rest: the key behind :func:`room_prefix`.
    :returns: what it is, or None where nothing of ours would be written there.
    """
    match = _IMAGE_FILE.fullmatch(rest)
    if match is None:
        return None
    return ImageFile(match["home"], match["export"], None if match["disk"] is None else int(match["disk"]))


def parse_plan_file(rest: str) -> PlanFile | None:
    """Say what lies at a key below ``plans/``.

    :param rest: the key behind :func:`room_prefix`.
    :returns: what it is, or None where nothing of ours would be written there.
    """
    match = _PLAN_FILE.fullmatch(rest)
    if match is None:
        return None
    wave = None if match["wave"] is None else int(match["wave"])
    return PlanFile(match["plan"], wave, bool(match["run"] or match["report"]))


def parse_plan_place(text: str) -> tuple[str | None, str] | None:
    """Say which plan a person means: by its id, or by the key of any object that belongs to it.

    :param text: as ``manual-20261123T020000Z-1b9f0c3d``, or ``nightly/plans/<plan id>.json``, or a wave's or a
        report's key.
    :returns: the prefix (None where only the id was given) and the plan's id; None where it can be no plan.
    """
    text = text.strip().strip("/")
    if _TOKEN.fullmatch(text) and not text.endswith(".json"):
        return None, text
    before, found, rest = f"/{text}".rpartition("/plans/")
    file = parse_plan_file(rest) if found else None
    return None if file is None else (before.strip("/"), file.plan_id)


def parse_claim_file(rest: str) -> str | None:
    """Say whose claim lies at a key below ``claims/``.

    :param rest: the key behind :func:`room_prefix`.
    :returns: the export id, or None where nothing of ours would be written there.
    """
    match = _CLAIM_FILE.fullmatch(rest)
    return None if match is None else f"{match['guest']}-{match['period']}"


def is_captured_file(rest: str) -> bool:
    """Say whether a capture's template is kept at a key below ``captured/``.

    :param rest: the key behind :func:`room_prefix`.
    :returns: False where nothing of ours would be written there.
    """
    return _CAPTURED_FILE.fullmatch(rest) is not None


def is_examination_file(rest: str) -> bool:
    """Say whether a report of the doctor lies at a key below ``reports/``.

    :param rest: the key behind :func:`room_prefix`.
    :returns: False where nothing of ours would be written there.
    """
    return _EXAMINATION_FILE.fullmatch(rest) is not None


def proof_number(rest: str) -> int | None:
    """Say which later proof of its export lies at a key below ``proofs/``.

    :param rest: the key behind :func:`room_prefix`.
    :returns: its number, from 1, or None where nothing of ours would be written there.
    """
    match = _PROOF_FILE.fullmatch(rest)
    return None if match is None else int(match[1])


def parse_template_note(note: str | None) -> tuple[str, str] | None:
    """Return where a template's note says that its export goes; see :func:`template_note`.

    :param note: a template's note, as the account shows it; people can change it.
    :returns: the bucket and the export's :func:`image_prefix`, or None.
    """
    match = _NOTE.fullmatch(note or "")
    return None if match is None else (match[1], match[2])


def _join(prefix: str, rest: str) -> str:
    return f"{prefix}/{rest}" if prefix else rest


def _readable(run_id: str, length: int) -> str:
    compact = _ISO_TIME.sub(lambda m: f"{m[1]}{m[2]}{m[3]}T{m[4]}{m[5]}{m[6] or ''}Z", run_id)
    safe = _RUNS.sub("-", _UNSAFE.sub("-", compact))
    return safe[:length].strip("._-") or "run"
