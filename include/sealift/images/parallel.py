"""Work of several threads whose results come in order, with a bound on how much is under way or waits to be taken."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS: Final = 12
"""More would want more connections to the object store than the client keeps."""

MIB: Final = 1024 * 1024
UNDER_WAY: Final = 12 * MIB
"""Bytes of a disk that all threads together work on; what is made of them takes as much again, or twice."""


def threads_for(wanted: int | None) -> int:
    """Say how many threads read and work: two more than there are cores, since some always wait for bytes.

    :param wanted: so many; None for what suits the machine.
    :returns: one to twelve.
    :raises ValueError: fewer than one are wanted.
    """
    if wanted is not None and wanted < 1:
        raise ValueError(f"one thread or more works, not {wanted}")
    usable = len(os.sched_getaffinity(0))
    return min(MOST_THREADS, wanted if wanted is not None else max(4, usable + 2))


def batch_for(threads: int) -> int:
    """Say how many bytes of a disk a thread reads and works on at once.

    :param threads: how many there are.
    :returns: a power of two from 1 to 4 MiB: the more threads, the fewer, so that memory does not grow with them.
    """
    batch = 4 * MIB
    while batch > MIB and batch * threads > UNDER_WAY:
        batch //= 2
    return batch


def in_order(work: Callable[[T], R], items: Iterable[T], *, threads: int) -> Generator[R, None, None]:
    """Do work in threads, and give its results in the order of the items.

    :param work: done for each item, in any thread.
    :param items: taken one by one, by the thread that takes the results, and never far ahead of it.
    :param threads: how many work; one more item than that is under way or waits.
    :returns: the results. Whoever stops taking them closes the iterator, and no thread works on.
    :raises BaseException: what work raised, in the place of its result.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="sealift-images") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
