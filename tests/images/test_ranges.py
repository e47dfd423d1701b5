"""Ranges: joined, cut and read together, always the same bytes."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.images import ranges
from sealift.images.ranges import gather, merged, stretches, units_in
from sealift.images.source import BytesSource, ShortReadError

LISTS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 40)), max_size=12).map(
    lambda pairs: sorted((start, start + length) for start, length in pairs)
)


def covered(spans: list[tuple[int, int]]) -> set[int]:
    return {at for start, end in spans for at in range(start, end)}


@given(spans=LISTS)
def test_joined_ranges_hold_the_same_bytes_and_do_not_touch(spans: list[tuple[int, int]]) -> None:
    found = list(merged(spans))
    assert covered(found) == covered(spans)
    assert all(start < end for start, end in found)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


@given(spans=LISTS, unit=st.sampled_from([1, 4, 16]), batch=st.sampled_from([16, 64]), size=st.integers(1, 260))
def test_stretches_hold_all_that_is_stored_in_whole_units_and_no_batch_twice(
    spans: list[tuple[int, int]], unit: int, batch: int, size: int
) -> None:
    inside = [(start, min(end, size)) for start, end in merged(spans) if start < size]
    found = list(stretches(inside, unit=unit, batch=batch, size=size))
    assert covered(inside) <= covered(found)
    assert all(start % unit == 0 and (end % unit == 0 or end == size) for start, end in found)
    assert all(start // batch == (end - 1) // batch for start, end in found)
    numbers = [start // batch for start, _ in found]
    assert numbers == sorted(set(numbers))
    # Nothing is read before the first or after the last byte of a batch that is stored, but for the rest of a unit.
    for start, end in found:
        here = covered(inside) & set(range(start, end))
        assert min(here) - start < unit
        assert end - 1 - max(here) < unit


@given(spans=LISTS, unit=st.sampled_from([1, 3, 16]))
def test_units_are_counted_once(spans: list[tuple[int, int]], unit: int) -> None:
    assert units_in(merged(spans), unit=unit) == len({at // unit for at in covered(spans)})


@given(spans=LISTS, gap=st.sampled_from([0, 3, 50]), together=st.sampled_from([1, 60, 1000]))
def test_what_is_read_together_is_what_was_asked_for(spans: list[tuple[int, int]], gap: int, together: int) -> None:
    data = random.Random(1).randbytes(300)
    order = list(reversed(spans))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "GAP", gap)
        patch.setattr(ranges, "TOGETHER", together)
        found = gather(BytesSource(data), order)
    assert [bytes(one) for one in found] == [data[start:end] for start, end in order]


def test_neighbours_come_with_one_request_and_others_do_not() -> None:
    source = BytesSource(bytes(40 * ranges.MIB))
    block = 2 * ranges.MIB
    gather(source, [(at * (block + 512), at * (block + 512) + block) for at in range(4)])
    assert source.requests == 1
    gather(source, [(0, 10), (30 * ranges.MIB, 30 * ranges.MIB + 10)])
    assert (source.requests, source.bytes_read) == (3, 4 * block + 3 * 512 + 20)
    gather(source, [(0, 6 * ranges.MIB), (6 * ranges.MIB, 12 * ranges.MIB)])
    assert source.requests == 5
    with pytest.raises(ShortReadError):
        gather(source, [(0, 10), (40 * ranges.MIB - 1, 40 * ranges.MIB + 1)])
