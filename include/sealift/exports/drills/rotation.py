"""Whose turn it is: which servers a drill takes, and which export of each. Pure; no chance decides.

A drill has a number of places. They go, in this order,

1. to servers whose last rehearsal, and only that one, did not pass: each once more, in places of its own;
2. to servers that were never rehearsed, those first that have been waiting longest with an export;
3. to servers whose last rehearsal is longest ago.

A server that does not pass twice in a row has its turn by rule 3 again: what fails for good must not take the places of
the others. So, of S servers of which p have places in each drill, every one has its turn within ceil(S / p) drills,
whatever fails; each server that comes anew meanwhile can delay it by one place. Equal servers go in the order of a
digest, so that the same books give the same answer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sealift.exports.drills.keys import Outcome, Rehearsed


class Why(StrEnum):
    """Why a server has its turn."""

    AGAIN = "again"
    """Its last rehearsal did not pass."""
    NEVER = "never"
    """It was never rehearsed."""
    LONGEST = "longest-ago"
    """Its last rehearsal is longer ago than that of others."""
    NAMED = "named"
    """Somebody named it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A server that can be rehearsed.

    :param guest_id: the server.
    :param exports: its exports: when the manifest of each was written, by period. At least one.
    :param past: its rehearsals, in any order.
    """

    guest_id: int
    exports: Mapping[str, datetime]
    past: Sequence[Rehearsed] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A server whose turn it is.

    :param guest_id: the server.
    :param why: why.
    """

    guest_id: int
    why: Why


def places_for(servers: int, *, within: int) -> int:
    """Say how many places a drill needs so that each server has its turn within so many drills.

    :param servers: how many servers there are.
    :param within: so many drills, 1 or more.
    :returns: the places; those for servers that did not pass come in addition, see :func:`choose`.
    """
    return -(-servers // within)


def rounds_for(servers: int, *, places: int) -> int:
    """Say within how many drills each server has its turn.

    :param servers: how many servers there are.
    :param places: places of each drill, 1 or more.
    :returns: so many drills.
    """
    return math.ceil(servers / places)


def of_drills(past: Iterable[Rehearsed]) -> list[Rehearsed]:
    """Give what each drill came to for a server: the last try counts, and what was gone counts as no rehearsal.

    :param past: the server's rehearsals, in any order.
    :returns: one for each drill, the oldest first.
    """
    last: dict[str, Rehearsed] = {}
    for one in sorted(past, key=_in_order):
        if one.outcome is not Outcome.GONE:
            last[one.drill_id] = one
    return sorted(last.values(), key=_in_order)


def choose(candidates: Iterable[Candidate], *, places: int, at_most: int | None = None, seed: str = "") -> list[Turn]:
    """Choose the servers of a drill.

    :param candidates: all servers that have an export.
    :param places: places for those whose turn it is, 1 or more; up to as many more are for those that did not pass.
    :param at_most: most servers in all, where there is a bound; those that did not pass come first.
    :param seed: what the order of equal servers follows from.
    :returns: the servers, in the order of their turns.
    """
    again, others = [], []
    for one in candidates:
        drills = of_drills(one.past)
        tie = hashlib.sha256(f"{seed}/{one.guest_id}".encode()).digest()
        if not drills:
            others.append((0, min(one.exports.values()), tie, one.guest_id, Why.NEVER))
            continue
        since = drills[-1].ended_at
        if _failed_once(drills):
            again.append((1, since, tie, one.guest_id, Why.AGAIN))
        else:
            others.append((1, since, tie, one.guest_id, Why.LONGEST))
    again.sort()
    # More than there are places for: they wait as the others do.
    others = sorted([*others, *again[places:]])
    taken = [*again[:places], *others[:places]][:at_most]
    return [Turn(guest_id=guest_id, why=why) for _, _, _, guest_id, why in taken]


def export_for(candidate: Candidate) -> str:
    """Choose a server's export: the newest one until it has passed, then one that was never rehearsed, then the oldest.

    :param candidate: the server.
    :returns: the export's period.
    """
    newest_first = sorted(candidate.exports, key=lambda period: (candidate.exports[period], period), reverse=True)
    last: dict[str, Rehearsed] = {}
    for one in sorted(candidate.past, key=_in_order):
        if one.outcome is not Outcome.GONE:
            last[one.period] = one
    newest = newest_first[0]
    if newest not in last or last[newest].outcome is not Outcome.PASSED:
        return newest
    fresh = [period for period in newest_first if period not in last]
    if fresh:
        return fresh[0]
    return min(newest_first, key=lambda period: (last[period].ended_at, period))


def _failed_once(drills: Sequence[Rehearsed]) -> bool:
    failed = [one.outcome is not Outcome.PASSED for one in drills[-2:]]
    return failed[-1] and not (len(failed) == 2 and failed[0])


def _in_order(one: Rehearsed) -> tuple[datetime, str, str, str]:
    return one.ended_at, one.drill_id, one.period, one.outcome.value
