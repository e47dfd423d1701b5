"""Figures over time: durations by size and data center, bytes per slot, coverage, and how long failures last."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import Field

from sealift.exports.status.coverage import ReadModel
from sealift.exports.status.rows import Row, State
from sealift.exports.status.snapshot import Slot, Snapshot

_GB: Final = 10**9
_CLASSES: Final = (25, 50, 100, 200, 400, 800, 1600)
"""Upper ends of the classes of size, in GB."""
_WITHIN: Final = (3600, 4 * 3600, 12 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600)
"""Upper ends of the classes of time to recover, in seconds."""


class Durations(ReadModel):
    """How long captures and exports of servers of one data center and size took."""

    datacenter: str = Field(description="The data center; empty where it is not known")
    up_to_gb: int | None = Field(description="Capacity of the disks up to so many GB; none: more than all classes")
    captures: int = Field(description="Captures that were measured")
    capture_median: float | None = Field(description="Seconds that half of the captures took at most")
    capture_p90: float | None = Field(description="Seconds that nine of ten captures took at most")
    exports: int = Field(description="Exports that were measured")
    export_median: float | None = Field(description="Seconds that half of the exports took at most")
    export_p90: float | None = Field(description="Seconds that nine of ten exports took at most")


class SlotFigures(ReadModel):
    """A slot's figures."""

    period: str = Field(description="The slot")
    at: datetime = Field(description="The slot's time; of a manual run, when its plan was made")
    scheduled: bool = Field(description="Whether it is a slot of a schedule, and no manual run")
    counts: dict[State, int] = Field(description="Servers by state; a state without any is left out")
    covered: float | None = Field(
        description="Share of servers exported, of those that were to be: exported, running, failed and missing ones"
    )
    levels: dict[str, int] = Field(description="Exports by proof level, of those whose manifests were read")
    bytes: int = Field(description="Bytes of the images whose manifests were read")
    capacity_bytes: int = Field(description="Capacity of their disks")


class RecoveryClass(ReadModel):
    """Failures that were over within some time."""

    up_to_seconds: int | None = Field(description="Recovered within so many seconds; none: later than all classes")
    failures: int = Field(description="So many of them, without those of the classes before")


class SlotRecovery(ReadModel):
    """The failures of one slot."""

    period: str = Field(description="The slot")
    at: datetime = Field(description="The slot's time; of a manual run, when its plan was made")
    failures: int = Field(description="Servers that failed in it, whatever came after")
    open: int = Field(description="Those after which no export of the server was done yet")
    median_seconds: float | None = Field(description="From the failure to that export, in half of the others")


class Recovery(ReadModel):
    """How long servers that failed stayed without the export that had failed, or a newer one."""

    failures: int = Field(description="Failures in the slots shown")
    recovered: int = Field(description="Those after which an export of the server was done")
    median_seconds: float | None = Field(description="From the report of the failure to that export, in half of them")
    p90_seconds: float | None = Field(description="The same, in nine of ten")
    open: int = Field(description="Those after which none was done yet")
    within: list[RecoveryClass] = Field(description="Recovered failures by the time that it took, shortest first")
    by_slot: list[SlotRecovery] = Field(description="The slots in which something failed, oldest first")


class Charts(ReadModel):
    """The figures of the newest slots."""

    slots: list[SlotFigures] = Field(description="By slot, oldest first")
    durations: list[Durations] = Field(description="By data center and size")
    recovery: Recovery = Field(description="Time to recover from a failure")
    changed_at: datetime = Field(description="When a change was found last")


class _Part(NamedTuple):
    """What follows from one slot's rows alone: kept as long as they stay."""

    figures: SlotFigures
    durations: dict[tuple[str, int], tuple[list[float], list[float]]]
    failed: list[Row]


def charts(snapshot: Snapshot, *, slots: int = 52) -> Charts:
    """Work the figures out.

    :param snapshot: what is known.
    :param slots: the newest slots, so many.
    :returns: the figures.
    """
    chosen = snapshot.slots[:slots]
    parts = [_part(snapshot, slot) for slot in chosen]
    by_class: dict[tuple[str, int], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for part in parts:
        for key, (captures, exports) in part.durations.items():
            by_class[key][0].extend(captures)
            by_class[key][1].extend(exports)
    return Charts(
        slots=[part.figures for part in reversed(parts)],
        durations=[_durations(*key, *found) for key, found in sorted(by_class.items())],
        recovery=_recovery(snapshot, parts),
        changed_at=snapshot.changed_at,
    )


def _part(snapshot: Snapshot, slot: Slot) -> _Part:
    known = snapshot.parts.get(slot.period)
    if isinstance(known, _Part):
        return known
    rows = list(snapshot.rows[slot.period].values())
    durations: dict[tuple[str, int], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for row in rows:
        if row.capture_seconds or row.export_seconds:
            captures, exports = durations[row.datacenter, _class(row.capacity)]
            if row.capture_seconds:
                captures.append(row.capture_seconds)
            if row.export_seconds:
                exports.append(row.export_seconds)
    made = _Part(
        figures=_slot_figures(slot.period, slot.at, rows, scheduled=slot.scheduled),
        durations={key: (sorted(captures), sorted(exports)) for key, (captures, exports) in durations.items()},
        failed=[row for row in rows if row.failed_at],
    )
    snapshot.parts[slot.period] = made
    return made


def _durations(datacenter: str, place: int, captures: list[float], exports: list[float]) -> Durations:
    # Runs that are in order already: quick to sort.
    captures.sort()
    exports.sort()
    return Durations(
        datacenter=datacenter,
        up_to_gb=_CLASSES[place] if place < len(_CLASSES) else None,
        captures=len(captures),
        capture_median=ranked(captures, 0.5),
        capture_p90=ranked(captures, 0.9),
        exports=len(exports),
        export_median=ranked(exports, 0.5),
        export_p90=ranked(exports, 0.9),
    )


def ranked(values: Sequence[float], share: float) -> float | None:
    """Return the value that a share of some values does not exceed.

    :param values: the values, the smallest first.
    :param share: from 0 to 1.
    :returns: one of the values, or None where there are none.
    """
    if not values:
        return None
    return values[max(0, math.ceil(len(values) * share) - 1)]


def _class(capacity: int) -> int:
    for place, end in enumerate(_CLASSES):
        if capacity <= end * _GB:
            return place
    return len(_CLASSES)


def _slot_figures(period: str, at: datetime, rows: Sequence[Row], *, scheduled: bool) -> SlotFigures:
    counts: dict[State, int] = {}
    levels: dict[str, int] = {}
    size = capacity = 0
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
        if row.state is State.EXPORTED and row.read:
            levels[row.level] = levels.get(row.level, 0) + 1
            size += row.bytes
            capacity += row.capacity
    due = sum(counts.get(one, 0) for one in (State.EXPORTED, State.RUNNING, State.FAILED, State.MISSING))
    return SlotFigures(
        period=period,
        at=at,
        scheduled=scheduled,
        counts=counts,
        covered=round(counts.get(State.EXPORTED, 0) / due, 4) if due else None,
        levels=levels,
        bytes=size,
        capacity_bytes=capacity,
    )


def _recovery(snapshot: Snapshot, parts: Sequence[_Part]) -> Recovery:
    took: list[float] = []
    by_slot: list[SlotRecovery] = []
    for place, part in enumerate(parts):
        if not part.failed:
            continue
        ends = [(_next_export(snapshot, place, row), row.failed_at) for row in part.failed]
        its = sorted(done - failed_at for done, failed_at in ends if done is not None)
        took += its
        by_slot.append(
            SlotRecovery(
                period=part.figures.period,
                at=part.figures.at,
                failures=len(ends),
                open=len(ends) - len(its),
                median_seconds=ranked(its, 0.5),
            )
        )
    took.sort()
    return Recovery(
        failures=sum(one.failures for one in by_slot),
        recovered=len(took),
        median_seconds=ranked(took, 0.5),
        p90_seconds=ranked(took, 0.9),
        open=sum(one.open for one in by_slot),
        within=_classes(took),
        by_slot=by_slot[::-1],
    )


def _classes(took: Sequence[float]) -> list[RecoveryClass]:
    reached = [0, *(bisect_right(took, end) for end in _WITHIN), len(took)]
    ends: list[int | None] = [*_WITHIN, None]
    return [
        RecoveryClass(up_to_seconds=end, failures=upper - lower)
        for end, lower, upper in zip(ends, reached, reached[1:], strict=False)
    ]


def _next_export(snapshot: Snapshot, place: int, failed: Row) -> float | None:
    """When the export that failed was done after all, or else that of a newer slot."""
    for one in range(place, -1, -1):
        row = snapshot.row(failed.number, snapshot.slots[one].period)
        if row is not None and row.state is State.EXPORTED and row.done_at > failed.failed_at:
            return row.done_at
    return None
