"""Spans are read ahead, but come in their order, each whole, and no more of them are in memory than was asked for."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.images.reading_through import even_spans, read_spans
from sealift.images.source import BytesSource, ShortReadError


class Held:
    """A source of which each read waits until it is let go."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.begun: list[int] = []
        self.most = self.under_way = 0
        self._lock = threading.Lock()
        self.go = threading.Event()
        self.changed = threading.Condition(self._lock)

    def read(self, offset: int, length: int) -> bytes:
        with self.changed:
            self.begun.append(offset)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.changed.notify_all()
        assert self.go.wait(30)
        with self.changed:
            self.under_way -= 1
        return self._data[offset : offset + length]


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 6))
def test_all_bytes_come_in_their_order(data: bytes, length: int, ahead: int) -> None:
    source = BytesSource(data)
    found = list(read_spans(source, even_spans(0, len(data), length), ahead=ahead))
    assert b"".join(piece for _, piece in found) == data
    assert [at for at, _ in found] == list(range(0, len(data), length))


def test_so_many_reads_are_under_way_and_no_more() -> None:
    source = Held(random.Random(1).randbytes(1000))
    pieces = read_spans(source, even_spans(0, 1000, 10), ahead=3)
    first: list[tuple[int, bytes]] = []
    taker = threading.Thread(target=lambda: first.append(next(pieces)))
    taker.start()
    with source.changed:
        assert source.changed.wait_for(lambda: source.under_way == 3, timeout=30)
    source.go.set()
    taker.join(30)
    assert first[0][0] == 0
    # Whoever looks at the first span finds at most three more that were begun, and one that waits its turn.
    assert len(source.begun) <= 5
    assert len(list(pieces)) == 99
    assert source.most == 3


def test_a_source_that_fails_ends_the_reading_in_its_place() -> None:
    class Breaks(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            if offset == 20:
                raise OSError("the disk is gone")
            return super().read(offset, length)

    pieces = read_spans(Breaks(bytes(100)), even_spans(0, 100, 10))
    assert [next(pieces)[0], next(pieces)[0]] == [0, 10]
    with pytest.raises(OSError, match="the disk is gone"):
        next(pieces)
    assert not [one for one in threading.enumerate() if one.name.startswith("sealift-read")]


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    for _ in read_spans(BytesSource(bytes(100)), even_spans(0, 100, 10)):
        break
    # The generator is closed as soon as nobody holds it.
    assert not [one for one in threading.enumerate() if one.name.startswith("sealift-read")]


def test_a_short_answer_is_no_answer() -> None:
    class Short(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            return super().read(offset, length)[:-1]

    with pytest.raises(ShortReadError, match="9 bytes came where 10 were asked for, from byte 0 on"):
        list(read_spans(Short(bytes(100)), even_spans(0, 100, 10)))
