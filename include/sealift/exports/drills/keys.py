"""Keys of what drills write: one object for each rehearsal, whose key alone says whose turn it is next.

They lie below ``reports/`` and not beside the export: a server was rehearsed, even if the export is deleted later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from sealift.exports.names import PERIOD_PATTERN, period_of_run, room_prefix

_STAMP: Final = "%Y%m%dT%H%M%S%fZ"


class Outcome(StrEnum):
    """What came of a rehearsal."""

    PASSED = "passed"
    """The export came back and is proven."""
    FAILED = "failed"
    """It did not come back: what arrived is not what was exported, or does not start."""
    UNFINISHED = "unfinished"
    """It could not be rehearsed: room, network, rights, or a worker was missing. Says nothing of the export."""
    GONE = "gone"
    """It was deleted after it had been chosen."""


_FILE: Final = re.compile(
    rf"drills/(?P<guest>[1-9]\d*)/(?P<period>{PERIOD_PATTERN})/(?P<stamp>\d{{8}}T\d{{12}}Z)-"
    rf"(?P<outcome>{'|'.join(Outcome)})-(?P<drill>{PERIOD_PATTERN})\.json",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """A rehearsal, as far as its key tells.

    :param guest_id: the server.
    :param period: the export's period.
    :param ended_at: when it ended (UTC).
    :param outcome: what came of it.
    :param drill_id: the drill that it was part of.
    """

    guest_id: int
    period: str
    ended_at: datetime
    outcome: Outcome
    drill_id: str


def drill_id_for(run_id: str) -> str:
    """Name a drill: the same run always makes the same.

    :param run_id: the run's id, in any characters.
    :returns: at most 40 safe characters.
    :raises SettingsError: the run has no id.
    """
    return period_of_run(run_id)


def drills_prefix(prefix: str, guest_id: int | None = None) -> str:
    """Return what the keys of all rehearsals begin with, or of one server's.

    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the one server, or None for all.
    :returns: as ``reports/drills/``.
    """
    return f"{room_prefix(prefix, 'reports')}drills/" + (f"{guest_id}/" if guest_id is not None else "")


def rehearsal_key(*, prefix: str, one: Rehearsed) -> str:
    """Return the key of a rehearsal.

    :param prefix: what all keys begin with; may be empty.
    :param one: the rehearsal.
    :returns: as ``reports/drills/12345678/20261123T0200Z/20261128T021500000000Z-passed-<drill id>.json``.
    """
    stamp = one.ended_at.astimezone(UTC).strftime(_STAMP)
    return f"{drills_prefix(prefix, one.guest_id)}{one.period}/{stamp}-{one.outcome.value}-{one.drill_id}.json"


def parse_rehearsal_file(rest: str) -> Rehearsed | None:
    """Say which rehearsal lies at a key below ``reports/``.

    :param rest: the key behind :func:`sealift.exports.names.room_prefix`.
    :returns: what the key tells, or None where nothing of ours would be written there.
    """
    match = _FILE.fullmatch(rest)
    if match is None:
        return None
    try:
        ended_at = datetime.strptime(match["stamp"], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Rehearsed(
        guest_id=int(match["guest"]),
        period=match["period"],
        ended_at=ended_at,
        outcome=Outcome(match["outcome"]),
        drill_id=match["drill"],
    )


def is_rehearsal_file(rest: str) -> bool:
    """Say whether a rehearsal lies at a key below ``reports/``.

    :param rest: the key behind :func:`sealift.exports.names.room_prefix`.
    :returns: False where nothing of ours would be written there.
    """
    return parse_rehearsal_file(rest) is not None
