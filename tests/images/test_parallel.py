"""Results in order, work in bounds, errors in their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sealift.images.parallel import MIB, MOST_THREADS, UNDER_WAY, batch_for, in_order, threads_for


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(in_order(work, range(40), threads=threads)) == [number * number for number in range(40)]


def test_items_are_not_taken_far_ahead_of_the_results() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), threads=3)
    for number in range(10):
        assert next(results) == number
        assert len(taken) <= number + 1 + 3 + 1
    results.close()
    assert len(taken) < 20


def test_an_error_comes_in_the_place_of_its_result_and_ends_the_work() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 5:
            raise OSError("the source is gone")
        done.append(number)
        return number

    found: list[int] = []
    with pytest.raises(OSError, match="the source is gone"):
        found.extend(in_order(work, range(1000), threads=2))
    assert len(done) < 20
    assert not [one for one in threading.enumerate() if one.name.startswith("sealift-images")]


def test_whoever_stops_taking_results_stops_the_threads() -> None:
    results = in_order(lambda number: number, range(1000), threads=4)
    assert next(results) == 0
    results.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("sealift-images")]


def test_threads_suit_the_machine_and_memory_does_not_grow_with_them() -> None:
    assert 4 <= threads_for(None) <= MOST_THREADS
    assert [threads_for(wanted) for wanted in (1, 7, 100)] == [1, 7, MOST_THREADS]
    with pytest.raises(ValueError, match="not 0"):
        threads_for(0)
    for threads in range(1, MOST_THREADS + 1):
        batch = batch_for(threads)
        assert batch * threads <= UNDER_WAY
        assert MIB <= batch <= 4 * MIB
        assert batch & (batch - 1) == 0
