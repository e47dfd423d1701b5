"""Keys of what retention writes: dry runs and what came of them, notes of what is being removed, and holds."""

from __future__ import annotations

import re
from typing import Final

from sealift.exports.names import PERIOD_PATTERN, period_of_run, room_prefix

ROOM: Final = "retention"
"""The first part of these keys behind the prefix."""

_FILE = re.compile(rf"(?:{PERIOD_PATTERN}(?:\.result)?|(?:removing|holds)/[1-9]\d*/{PERIOD_PATTERN})\.json", re.ASCII)
_EXPORT = re.compile(rf"(?P<guest>[1-9]\d*)/(?P<period>{PERIOD_PATTERN})\.json", re.ASCII)


def retention_id_for(run_id: str) -> str:
    """Name a dry run: the same run always makes the same.

    :param run_id: the run's id, in any characters.
    :returns: at most 40 safe characters.
    :raises SettingsError: the run has no id.
    """
    return period_of_run(run_id)


def dry_run_key(*, prefix: str, retention_id: str) -> str:
    """Return the key of a dry run.

    :param prefix: what all keys begin with; may be empty.
    :param retention_id: see :func:`retention_id_for`.
    :returns: as ``retention/manual-20261123T020000Z-1b9f0c3d.json``.
    """
    return f"{room_prefix(prefix, ROOM)}{retention_id}.json"


def result_key(*, prefix: str, retention_id: str) -> str:
    """Return the key of what came of a dry run; parameters as for :func:`dry_run_key`.

    :returns: as ``retention/manual-20261123T020000Z-1b9f0c3d.result.json``.
    """
    return f"{room_prefix(prefix, ROOM)}{retention_id}.result.json"


def removing_prefix(prefix: str) -> str:
    """Return what the keys of all notes begin with that an export is being removed.

    :param prefix: what all keys begin with; may be empty.
    :returns: with a slash at its end.
    """
    return f"{room_prefix(prefix, ROOM)}removing/"


def removing_key(*, prefix: str, guest_id: int, period: str) -> str:
    """Return the key of the note that an export is being removed.

    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the virtual server.
    :param period: the scheduled slot or manual run.
    :returns: as ``retention/removing/12345678/20261123T0200Z.json``.
    """
    return f"{removing_prefix(prefix)}{guest_id}/{period}.json"


def holds_prefix(prefix: str) -> str:
    """Return what the keys of all holds begin with.

    :param prefix: what all keys begin with; may be empty.
    :returns: with a slash at its end.
    """
    return f"{room_prefix(prefix, ROOM)}holds/"


def hold_key(*, prefix: str, guest_id: int, period: str) -> str:
    """Return the key of the hold on an export; parameters as for :func:`removing_key`.

    :returns: as ``retention/holds/12345678/20261123T0200Z.json``.
    """
    return f"{holds_prefix(prefix)}{guest_id}/{period}.json"


def parse_export_key(key: str, root: str) -> tuple[int, str] | None:
    """Say which export a note or a hold is about.

    :param key: its key.
    :param root: :func:`removing_prefix` or :func:`holds_prefix`.
    :returns: guest id and period, or None where nothing of ours would be written there.
    """
    match = _EXPORT.fullmatch(key.removeprefix(root)) if key.startswith(root) else None
    return None if match is None else (int(match["guest"]), match["period"])


def is_retention_file(rest: str) -> bool:
    """Say whether an object of ours lies at a key below ``retention/``.

    :param rest: the key behind :func:`sealift.exports.names.room_prefix`.
    :returns: False where nothing of ours would be written there.
    """
    return _FILE.fullmatch(rest) is not None
