"""Reading a source in full, in order, with a few reads ahead of what is being looked at.

A proof of every byte is bound by its digest, which needs the bytes in their order and runs on one core. Reads of a
bucket take their time in between; so some are under way while the bytes before them are hashed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from typing import Final

from sealift.images.source import RangeSource, ReadsAhead, ReadsInto, ShortReadError

SPAN: Final = 8 * 1024 * 1024
"""Bytes of one read, where nothing else decides."""

SHORT_SPAN: Final = 1024 * 1024
"""Bytes of one read of a source that is ahead by itself: what is read is still in the processor's cache when hashed."""

AHEAD: Final = 4
"""Reads that are under way or wait to be looked at: so many spans are in memory at most, and the one in hand."""


def even_spans(start: int, end: int, length: int = SPAN) -> Iterator[tuple[int, int]]:
    """Cut a stretch into spans.

    :param start: its first byte.
    :param end: the first byte after it.
    :param length: bytes of each span but the last.
    :returns: (start, end) of each.
    """
    while start < end:
        yield start, min(start + length, end)
        start += length


def span_for(source: RangeSource) -> int:
    """Choose how much of a source is best read at once.

    :param source: the source.
    :returns: a number of bytes: few where a read costs nothing, many where each is a request.
    """
    return SHORT_SPAN if isinstance(source, ReadsAhead) else SPAN


def read_spans(
    source: RangeSource, spans: Iterable[tuple[int, int]], *, ahead: int = AHEAD
) -> Iterator[tuple[int, bytes | memoryview]]:
    """Read spans of a source in their order, some of them ahead.

    :param source: where the bytes come from; its ``read``, or its ``read_into`` where it has one, is called from
        several threads.
    :param spans: (start, end) of each, as many bytes as may be in memory ``ahead`` + 1 times.
    :param ahead: reads under way.
    :returns: where each span begins, and its bytes: exactly as many as it has. Those of a source with ``read_into`` are
        good until the next are asked for: the memory is used again.
    :raises ShortReadError: the source gave fewer or more bytes than asked for.
    :raises Exception: whatever the source raises, in the place of the span that it was raised for.
    """
    if isinstance(source, ReadsAhead):
        yield from _read_in_turn(source, spans, ahead)
        return
    waiting: deque[tuple[int, int, Future[bytes | memoryview]]] = deque()
    memory = _Memory()
    pool = ThreadPoolExecutor(max_workers=ahead, thread_name_prefix="sealift-read")

    def begin(start: int, end: int) -> Future[bytes | memoryview]:
        if isinstance(source, ReadsInto):
            return pool.submit(_read_into, source, start, memory.take(end - start))
        return pool.submit(source.read, start, end - start)

    try:
        for start, end in spans:
            waiting.append((start, end, begin(start, end)))
            if len(waiting) > ahead:
                at, data = _arrived(*waiting.popleft())
                yield at, data
                memory.give(data)
        while waiting:
            yield _arrived(*waiting.popleft())
    finally:
        for _, _, future in waiting:
            future.cancel()
        pool.shutdown(wait=True, cancel_futures=True)


def _read_in_turn(source: ReadsAhead, spans: Iterable[tuple[int, int]], ahead: int) -> Iterator[tuple[int, memoryview]]:
    """Read a source that is ahead by itself; threads would only hand over what is in memory already."""
    coming: deque[tuple[int, int]] = deque()
    memory = _Memory()
    for start, end in chain(spans, repeat((0, 0), ahead)):
        source.will_read(start, end - start)
        coming.append((start, end))
        if len(coming) > ahead:
            at, until = coming.popleft()
            view = memory.take(until - at)
            if view:
                yield at, _read_into(source, at, view)
            memory.give(view)


class _Memory:
    """Memory that is used again: as much as was needed at one time."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self, length: int) -> memoryview:
        buffer = self._free.pop() if self._free else bytearray(length)
        # One that is too small has no reader any more; a larger one takes its place.
        return memoryview(buffer if len(buffer) >= length else bytearray(length))[:length]

    def give(self, data: bytes | memoryview) -> None:
        if isinstance(data, memoryview) and isinstance(data.obj, bytearray):
            self._free.append(data.obj)


def _read_into(source: ReadsInto, start: int, view: memoryview) -> memoryview:
    source.read_into(start, view)
    return view


def _arrived(start: int, end: int, future: Future[bytes | memoryview]) -> tuple[int, bytes | memoryview]:
    data = future.result()
    if len(data) != end - start:
        raise ShortReadError(f"{len(data)} bytes came where {end - start} were asked for, from byte {start} on")
    return start, data
