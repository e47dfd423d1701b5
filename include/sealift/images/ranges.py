"""Ranges of bytes: joined where they touch, cut into stretches, and read together where they lie together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sealift.images.source import RangeSource

MIB: Final = 1024 * 1024

TOGETHER: Final = 8 * MIB + 64 * 1024
"""Bytes that one request brings at the most, unless a single range is longer: 8 MiB of blocks, and their bitmaps."""

GAP: Final = 64 * 1024
"""Bytes between two ranges that are rather read than asked around: a request costs more."""


def merged(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join ranges that touch or overlap.

    :param ranges: (start, end) in rising order of their starts.
    :returns: the same bytes in as few ranges as can be, in rising order; empty ranges are left out.
    """
    begun: tuple[int, int] | None = None
    for start, end in ranges:
        if start >= end:
            continue
        if begun is None:
            begun = (start, end)
        elif start <= begun[1]:
            begun = (begun[0], max(begun[1], end))
        else:
            yield begun
            begun = (start, end)
    if begun is not None:
        yield begun


def stretches(ranges: Iterable[tuple[int, int]], *, unit: int, batch: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut ranges of a disk into stretches of whole units, at most one for each batch of the disk.

    A stretch may hold bytes that are in no range: those between two ranges of its batch.

    :param ranges: (start, end) in rising order.
    :param unit: each stretch begins and ends at a multiple of it, or at the end of the disk.
    :param batch: no stretch reaches over a multiple of it; a multiple of ``unit``.
    :param size: bytes of the disk.
    :returns: the stretches in rising order; they do not overlap.
    """
    number = -1
    begun = done = 0
    for start, end in ranges:
        at = max(start - start % unit, 0)
        end = min(-(-end // unit) * unit, size)
        while at < end:
            if at // batch != number:
                if number >= 0:
                    yield begun, done
                number, begun, done = at // batch, at, at
            stop = min(end, (number + 1) * batch)
            done = max(done, stop)
            at = stop
    if number >= 0:
        yield begun, done


def units_in(ranges: Iterable[tuple[int, int]], *, unit: int) -> int:
    """Count the units of a disk that ranges touch.

    :param ranges: (start, end) in rising order, joined as :func:`merged` does.
    :param unit: bytes of a unit.
    :returns: how many; each counts once.
    """
    count = after_last = 0
    for start, end in ranges:
        first = max(start // unit, after_last)
        after_last = max(after_last, -(-end // unit))
        count += max(0, after_last - first)
    return count


def gather(source: RangeSource, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
    """Read several ranges of a file, with one request where they lie together.

    :param source: the file.
    :param ranges: (start, end) in any order; they may overlap.
    :returns: the bytes of each range, in the order of ``ranges``.
    :raises OSError: as the source raises where it does not have all of these bytes.
    """
    order = sorted(range(len(ranges)), key=lambda index: ranges[index])
    found: list[memoryview] = [memoryview(b"")] * len(ranges)
    at = 0
    while at < len(order):
        start, end = ranges[order[at]]
        beyond = at + 1
        while beyond < len(order):
            following, its_end = ranges[order[beyond]]
            if following > end + GAP or max(end, its_end) - start > TOGETHER:
                break
            end = max(end, its_end)
            beyond += 1
        data = memoryview(source.read(start, end - start))
        for index in order[at:beyond]:
            first, last = ranges[index]
            found[index] = data[first - start : last - start]
        at = beyond
    return found
