"""How long captures and exports take here: measured in each export, kept in its manifest, read by the next plan.

**Measuring.** A figure goes into a manifest only where this export saw both of its ends. A capture begins with the
account's creation date of its template, and ends between the last poll that saw the template unfinished and the first
that saw it whole: a wait that came later (a cleared task, a template adopted after the fact, a triggerer that was down)
saw no end, and nothing is written. An export begins when a task submitted it, and ends with the last object's
Last-Modified: one that was found rather than submitted has no known beginning. Clocks that contradict each other spoil
a figure, and it is left out.

**The rule.** Durations grow with the disks, have a part that does not, and have outliers. So from ten figures on:

* half of what a quick one takes (the first quartile of all durations) counts as the fixed part, and never more than
  half of any single duration;
* the rest of each duration gives a rate in bytes per second. The median is the usual rate, the slowest tenth (but never
  the slowest one alone) the slow rate;
* size / rate + the fixed part is what a size takes, usually or slowly.

Order statistics, since one absurd figure shifts each of them by one place at most. Half, since nobody can tell how much
of a duration is fixed where all disks are of one size: for disks much larger than any measured, the estimate is then
short by a factor of two at most, and that is the margin which :mod:`sealift.exports.deadlines` puts on top.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from sealift.cos.errors import CosError
from sealift.cos.models import ObjectInfo
from sealift.exports import names
from sealift.exports.deadlines import ASSUMED_BYTES_PER_SECOND
from sealift.exports.errors import LedgerError
from sealift.exports.manifest import ManifestSpan, ManifestTiming, read_manifest
from sealift.exports.ports import CosApi

log = logging.getLogger(__name__)

MANIFESTS_AT_MOST: Final = 64
"""So many manifests are read, however many there are."""

LISTED_AT_MOST: Final = 10_000
"""So many manifests are listed to choose from: ten pages."""

FIGURES_AT_LEAST: Final = 10
"""Fewer figures than these say nothing."""

CLOSE_ENOUGH: Final = timedelta(minutes=2)
"""How far apart the two polls around an end may lie; or a tenth of the duration, where that is more."""

CLOCKS_APART: Final = timedelta(minutes=1)
"""How far another clock may be ahead of ours."""


class Figure(NamedTuple):
    """One measured duration: of so many bytes of disks, in seconds."""

    size: int
    seconds: float


class Pace(BaseModel):
    """What the durations of captures, or of exports, come down to; see the module's first lines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    figures: int = Field(ge=FIGURES_AT_LEAST, description="How many measured durations this comes from")
    fixed_seconds: float = Field(ge=0, description="The part of a duration that does not grow with the disks")
    usual_bytes_per_second: float = Field(gt=0, description="Capacity of the disks per second of the rest: the median")
    slow_bytes_per_second: float = Field(gt=0, description="The same of the slowest tenth")

    def usual(self, size: int) -> timedelta:
        """Say how long disks usually take.

        :param size: bytes of all disks together.
        :returns: the time; never less for more bytes.
        """
        return _time(self.fixed_seconds + size / self.usual_bytes_per_second)

    def slow(self, size: int) -> timedelta:
        """Say how long disks take in one of ten cases; parameters as for :meth:`usual`.

        :returns: the time; never less for more bytes, and never less than :meth:`usual`.
        """
        return _time(self.fixed_seconds + size / self.slow_bytes_per_second)


class History(BaseModel):
    """What a plan knows of how long captures and exports take; the plan keeps it, so that all waves judge alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capture: Pace | None = Field(default=None, description="Pace of captures; none where too few were measured")
    export: Pace | None = Field(default=None, description="Pace of exports; none where too few were measured")
    says: str = Field(default="No history was read.", description="Where the deadlines come from, in words")


def pace_of(figures: Sequence[Figure]) -> Pace | None:
    """Work out a pace by the rule in the module's first lines.

    :param figures: measured durations; those without size or duration do not count.
    :returns: the pace, or None where there are too few.
    """
    usable = [one for one in figures if one.size > 0 and 0 < one.seconds < math.inf]
    if len(usable) < FIGURES_AT_LEAST:
        return None
    fixed = _ranked([one.seconds for one in usable], math.ceil(len(usable) / 4)) / 2
    rates = [one.size / max(one.seconds - fixed, one.seconds / 2) for one in usable]
    return Pace(
        figures=len(usable),
        fixed_seconds=fixed,
        usual_bytes_per_second=_ranked(rates, math.ceil(len(rates) / 2)),
        slow_bytes_per_second=_ranked(rates, max(2, math.ceil(len(rates) / 10))),
    )


def read_history(cos: CosApi, *, bucket: str, prefix: str, listed: Collection[ObjectInfo] | None = None) -> History:
    """Read how long the exports of a bucket took, from a bounded sample of its manifests.

    The newest manifest of every server comes first, then the second newest of every server, and so on: many servers
    say more of an account than one server does. What cannot be read does not count, and keeps no plan from being made.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param listed: the manifests to choose from, where they were listed already; no more are listed then.
    :returns: the paces, where there is enough to tell.
    """
    captures: list[Figure] = []
    exports: list[Figure] = []
    read = 0
    try:
        infos = cos.list(bucket, names.manifests_prefix(prefix)) if listed is None else listed
        for key in _sample(infos):
            try:
                manifest = read_manifest(cos, bucket=bucket, key=key)
            except LedgerError as error:
                log.warning("Passed over for the history of durations: %s", error)
                continue
            read += 1
            timing = manifest.timing if manifest is not None else None
            if timing is not None and timing.capture is not None:
                captures.append(Figure(timing.capacity_bytes, timing.capture.seconds))
            if timing is not None and timing.export is not None:
                exports.append(Figure(timing.capacity_bytes, timing.export.seconds))
    except CosError as error:
        log.warning("The history of durations could not be read to its end: %s", error, exc_info=error)
    capture, export = pace_of(captures), pace_of(exports)
    words = [
        f"{read} manifests were read",
        _words("captures", capture, len(captures)),
        _words("exports", export, len(exports)),
    ]
    return History(capture=capture, export=export, says="; ".join(words) + ".")


def timing_of(
    *,
    capacity_bytes: int,
    created_at: datetime | None,
    unfinished_at: datetime | None,
    whole_at: datetime | None,
    submitted_at: datetime | None,
    objects: Collection[ObjectInfo],
    now: datetime,
) -> ManifestTiming | None:
    """Put together what was measured of one export.

    :param capacity_bytes: of all captured disks, as planned.
    :param created_at: when the template was created, by the account.
    :param unfinished_at: the last poll that saw the template unfinished, if one did.
    :param whole_at: the first poll after it that saw the template whole.
    :param submitted_at: when a task of this run submitted the export; None where it found it.
    :param objects: the disks' objects.
    :param now: the present time.
    :returns: the figures, or None where nothing was measured.
    """
    capture = export = None
    if created_at is not None and created_at.tzinfo and unfinished_at is not None and whole_at is not None:
        apart = whole_at - unfinished_at
        close = timedelta(0) < apart <= max(CLOSE_ENOUGH, (whole_at - created_at) / 10)
        if close and created_at < unfinished_at and whole_at <= now + CLOCKS_APART:
            capture = _span(created_at, whole_at)
    if submitted_at is not None and objects:
        completed = [one.last_modified for one in objects]
        # An object that was there before the submission, or that a clock ahead of ours has dated, tells of no duration.
        if submitted_at < min(completed) and max(completed) <= now + CLOCKS_APART:
            export = _span(submitted_at, max(completed))
    if capacity_bytes <= 0 or (capture is None and export is None):
        return None
    return ManifestTiming(capacity_bytes=capacity_bytes, capture=capture, export=export)


def rate_words(bytes_per_second: float) -> str:
    """Write a rate.

    :param bytes_per_second: the rate.
    :returns: as ``41 MB/s``, with a digit behind the point below 10.
    """
    megabytes = bytes_per_second / 10**6
    return f"{megabytes:.0f} MB/s" if megabytes >= 10 else f"{megabytes:.1f} MB/s"


def _sample(infos: Iterable[ObjectInfo]) -> Iterator[str]:
    by_guest: dict[int, list[ObjectInfo]] = defaultdict(list)
    for info in itertools.islice(infos, LISTED_AT_MOST):
        parsed = names.parse_manifest_key(info.key)
        if parsed is not None:
            by_guest[parsed[0]].append(info)
    ranked = [
        (place, -info.last_modified.timestamp(), info.key)
        for infos in by_guest.values()
        for place, info in enumerate(sorted(infos, key=lambda one: one.last_modified, reverse=True))
    ]
    return (key for _, _, key in sorted(ranked)[:MANIFESTS_AT_MOST])


def _span(began_at: datetime, ended_at: datetime) -> ManifestSpan:
    return ManifestSpan(seconds=(ended_at - began_at).total_seconds(), began_at=began_at, ended_at=ended_at)


def _words(what: str, pace: Pace | None, measured: int) -> str:
    if pace is None:
        assumed = rate_words(ASSUMED_BYTES_PER_SECOND)
        return f"{what}: {measured} measured, {FIGURES_AT_LEAST} needed, so {assumed} are assumed"
    return (
        f"{what}: from {pace.figures} measured, usually {rate_words(pace.usual_bytes_per_second)}, slowest tenth "
        f"{rate_words(pace.slow_bytes_per_second)}, on top of {pace.fixed_seconds / 60:.0f} min"
    )


def _ranked(values: Sequence[float], rank: int) -> float:
    """Return the value of a rank, the smallest being 1."""
    return sorted(values)[rank - 1]


def _time(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, timedelta(days=365).total_seconds()))
