"""How well it is rehearsed that exports come back: what share of the servers, at which level, within what time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from sealift.exports.drills.choosing import list_candidates, list_rehearsals
from sealift.exports.drills.keys import Outcome, Rehearsed, rehearsal_key
from sealift.exports.drills.models import Chosen, DrilledServer, DrillReport, Rehearsal, Spread, in_time
from sealift.exports.drills.rehearsing import note_rehearsal
from sealift.exports.drills.rotation import Candidate, of_drills
from sealift.exports.ports import Clock, CosApi
from sealift.exports.proofs import ProvenRecovery

_READERS: Final = 16

_WORDLESS: Final = (
    "Its task ended without a word: it was killed, its worker was lost, or it was never started. The task's log may "
    "say more; the next drill takes this server first."
)


def drill_report(cos: CosApi, *, bucket: str, prefix: str, days: int, now: datetime) -> DrillReport:
    """Make the report. It costs the pages of the ledger, and a read for each rehearsal within the days.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param days: rehearsals of so many days count.
    :param now: the present time, with a time zone.
    :returns: the report.
    :raises sealift.cos.errors.CosError: the bucket cannot be read.
    """
    since = now - timedelta(days=days)
    candidates = list_candidates(cos, bucket=bucket, prefix=prefix)
    within = {one for candidate in candidates for one in candidate.past if one.ended_at >= since}
    lasts = {of_drills(candidate.past)[-1] for candidate in candidates if of_drills(candidate.past)}
    read = _read(cos, within | lasts, bucket=bucket, prefix=prefix)
    return make_report(candidates, read, days=days, now=now)


def make_report(
    candidates: Sequence[Candidate], read: Mapping[Rehearsed, Rehearsal], *, days: int, now: datetime
) -> DrillReport:
    """Make the report of what was read.

    :param candidates: the servers with an export.
    :param read: rehearsals that were read, by what their keys tell.
    :param days: rehearsals of so many days count.
    :param now: the present time, with a time zone.
    :returns: the report.
    """
    since = now - timedelta(days=days)
    levels: Counter[str] = Counter()
    lines, never, failing = [], 0, 0
    for candidate in candidates:
        drills = of_drills(candidate.past)
        last = drills[-1] if drills else None
        told = read.get(last) if last is not None else None
        if last is None:
            never += 1
        elif last.outcome is not Outcome.PASSED:
            failing += 1
        elif last.ended_at >= since:
            levels[(told.proof_level if told else None) or "unknown"] += 1
        lines.append(_line(candidate, last, told))
    recent = [read[one] for candidate in candidates for one in candidate.past if one.ended_at >= since and one in read]
    whole = [
        one.recovery
        for one in recent
        if one.outcome is Outcome.PASSED and one.recovery is not None and not one.recovery.resumed_bytes
    ]
    return DrillReport(
        made_at=now,
        days=days,
        servers=len(candidates),
        proven=levels.total(),
        by_level=dict(sorted(levels.items(), reverse=True)),
        never=never,
        failing=failing,
        rehearsals=sum(one.outcome is not Outcome.GONE for one in recent),
        time_to_recover=spread(one.seconds for one in whole),
        download=spread(one.download_seconds for one in whole),
        proof=spread(one.proof_seconds for one in whole),
        boot=spread(one.boot_seconds for one in whole if one.boot_seconds is not None),
        lines=sorted(lines, key=_order),
    )


def spread(values: Iterable[float]) -> Spread | None:
    """Say how durations are spread, by the nearest-rank method (ISO 3534-1): every figure is one that was measured.

    :param values: the durations in seconds.
    :returns: the spread, or None where there are no durations.
    """
    known = sorted(values)
    if not known:
        return None

    def rank(percent: int) -> float:
        return known[max(1, math.ceil(percent / 100 * len(known))) - 1]

    return Spread(count=len(known), p50=rank(50), p95=rank(95), longest=known[-1])


def close_drill(
    cos: CosApi,
    chosen: Sequence[Chosen],
    *,
    bucket: str,
    prefix: str,
    drill_id: str,
    asked_level: str,
    made_by: str,
    clock: Clock,
) -> list[Rehearsal]:
    """Say what came of each export of a drill that has ended; of one that left no word, note that it did not finish.

    :param cos: the object store.
    :param chosen: the drill's exports.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param drill_id: the drill.
    :param asked_level: how deep they were to be proven.
    :param made_by: what closes the drill.
    :param clock: tells the time, in UTC.
    :returns: the rehearsals, in the order of the exports.
    :raises sealift.cos.errors.CosError: the bucket cannot be read or written.
    """
    guests = {one.guest_id for one in chosen}
    mine: dict[tuple[int, str], Rehearsed] = {}
    listed = [
        one
        for one in list_rehearsals(cos, bucket=bucket, prefix=prefix)
        if one.drill_id == drill_id and one.guest_id in guests
    ]
    for one in sorted(listed, key=lambda one: one.ended_at):
        mine[one.guest_id, one.period] = one
    read = _read(cos, mine.values(), bucket=bucket, prefix=prefix)
    ended = []
    for two in chosen:
        key = mine.get((two.guest_id, two.period))
        made = read.get(key) if key is not None else None
        if made is None:
            made = Rehearsal(
                drill_id=drill_id,
                export_id=two.export_id,
                guest_id=two.guest_id,
                period=two.period,
                hostname=two.hostname,
                outcome=Outcome.UNFINISHED,
                ended_at=clock(),
                made_by=made_by,
                asked_level=asked_level,
                words=_WORDLESS,
            )
            note_rehearsal(cos, made, bucket=bucket, prefix=prefix)
        ended.append(made)
    return ended


def line_of(one: Rehearsal) -> str:
    """Put a rehearsal into a line.

    :param one: the rehearsal.
    :returns: the line.
    """
    words = f"{one.hostname:<24} {one.outcome.value:<10} {one.proof_level or '-':<3} "
    if one.recovery is not None:
        words += f"{times_of(one.recovery)} "
    return f"{words}{one.export_id}" + (f" - {one.words}" if one.words else "")


def table_of(report: DrillReport, *, at_most: int) -> list[str]:
    """Put a report's servers into lines: those that need somebody first.

    :param report: the report.
    :param at_most: most servers to show; how many more there are is said.
    :returns: the lines, with one of headings.
    """
    if not report.lines:
        return []
    made = [f"{'Server':<24} {'Id':>10}  {'Last':<10} {'When (UTC)':<16} {'Level':<5} {'Recovered in':<12} Remarks"]
    for one in report.lines[:at_most]:
        at = f"{one.ended_at:%Y-%m-%d %H:%M}" if one.ended_at else "-"
        took = in_time(one.seconds) if one.seconds is not None else "-"
        outcome = one.outcome.value if one.outcome else "never"
        line = f"{one.hostname or '-':<24} {one.guest_id:>10}  {outcome:<10} {at:<16} {one.proof_level or '-':<5} "
        made.append(f"{line}{took:<12} {one.words}".rstrip())
    if len(report.lines) > at_most:
        made.append(f"… and {len(report.lines) - at_most} more.")
    return made


def times_of(recovery: ProvenRecovery) -> str:
    """Put a time to recover into words.

    :param recovery: the time, and what it is made of.
    """
    boot = "" if recovery.boot_seconds is None else f", boot {in_time(recovery.boot_seconds)}"
    resumed = "" if not recovery.resumed_bytes else ", of a download that was resumed"
    return (
        f"{in_time(recovery.seconds)} (download {in_time(recovery.download_seconds)}, "
        f"proof {in_time(recovery.proof_seconds)}{boot}{resumed})"
    )


def _read(cos: CosApi, wanted: Iterable[Rehearsed], *, bucket: str, prefix: str) -> dict[Rehearsed, Rehearsal]:
    """Read rehearsals; one that was deleted since, or that is not ours, is left out."""
    due = list(wanted)

    def one_of(one: Rehearsed) -> Rehearsal | None:
        body = cos.read(bucket, rehearsal_key(prefix=prefix, one=one))
        try:
            found = Rehearsal.model_validate_json(body or b"")
        except ValidationError:
            return None
        return found if found.rehearsed == one else None

    if not due:
        return {}
    with ThreadPoolExecutor(min(_READERS, len(due))) as pool:
        return {one: found for one, found in zip(due, pool.map(one_of, due), strict=True) if found is not None}


def _line(candidate: Candidate, last: Rehearsed | None, told: Rehearsal | None) -> DrilledServer:
    if last is None:
        return DrilledServer(guest_id=candidate.guest_id, hostname="")
    return DrilledServer(
        guest_id=candidate.guest_id,
        hostname=told.hostname if told else "",
        outcome=last.outcome,
        export_id=f"{last.guest_id}-{last.period}",
        ended_at=last.ended_at,
        proof_level=told.proof_level if told else None,
        seconds=told.recovery.seconds if told and told.recovery else None,
        words=told.words if told else "",
    )


def _order(line: DrilledServer) -> tuple[int, float, int]:
    if line.outcome is None:
        return (1, 0.0, line.guest_id)
    at = line.ended_at.timestamp() if line.ended_at else 0.0
    return (0 if line.outcome is not Outcome.PASSED else 2, at, line.guest_id)
