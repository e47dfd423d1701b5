"""Reading a source in full, in order, with a few reads ahead of what is being looked at.

A proof of every byte is bound by its digest, which needs the bytes in their order and runs on one core. Reads of a
bucket take their time in between; so some are under way while the bytes before them are hashed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from sealift.images.source import RangeSource, ShortReadError

SPAN: Final = 4 * 1024 * 1024
"""Bytes of one read, where nothing else decides."""

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


def read_spans(
    source: RangeSource, spans: Iterable[tuple[int, int]], *, ahead: int = AHEAD
) -> Iterator[tuple[int, bytes]]:
    """Read spans of a source in their order, some of them ahead.

    :param source: where the bytes come from; its ``read`` is called from several threads.
    :param spans: (start, end) of each, as many bytes as may be in memory ``ahead`` + 1 times.
    :param ahead: reads under way.
    :returns: where each span begins, and its bytes: exactly as many as it has.
    :raises ShortReadError: the source gave fewer or more bytes than asked for.
    :raises Exception: whatever the source raises, in the place of the span that it was raised for.
    """
    waiting: deque[tuple[int, int, Future[bytes]]] = deque()
    pool = ThreadPoolExecutor(max_workers=ahead, thread_name_prefix="sealift-read")
    try:
        for start, end in spans:
            waiting.append((start, end, pool.submit(source.read, start, end - start)))
            if len(waiting) > ahead:
                yield _arrived(*waiting.popleft())
        while waiting:
            yield _arrived(*waiting.popleft())
    finally:
        for _, _, future in waiting:
            future.cancel()
        pool.shutdown(wait=True, cancel_futures=True)


def _arrived(start: int, end: int, future: Future[bytes]) -> tuple[int, bytes]:
    data = future.result()
    if len(data) != end - start:
        raise ShortReadError(f"{len(data)} bytes came where {end - start} were asked for, from byte {start} on")
    return start, data
