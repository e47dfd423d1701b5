"""Spans are read ahead, but come in their order, each whole, and no more of them are in memory than was asked for."""

from __future__ import annotations

import random
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.images.reading_through import even_spans, read_spans
from sealift.images.source import BytesSource, FileSource, ShortReadError


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


class Into(BytesSource):
    """A source that reads into memory that is there."""

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.read(offset, len(view))


def cut(data: st.DataObject, size: int) -> list[tuple[int, int]]:
    """Spans of any lengths that together are the whole."""
    places = sorted({0, size, *data.draw(st.lists(st.integers(0, size), max_size=12))})
    return list(pairwise(places))


@given(st.data(), st.binary(max_size=300), st.integers(1, 6))
def test_memory_that_is_used_again_holds_each_span_in_its_turn(data: st.DataObject, body: bytes, ahead: int) -> None:
    spans = cut(data, len(body))
    found = [(at, bytes(piece)) for at, piece in read_spans(Into(body), spans, ahead=ahead)]
    assert found == [(start, body[start:end]) for start, end in spans]


@given(data=st.data(), ahead=st.integers(1, 6))
def test_a_file_is_read_in_turn(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ahead: int) -> None:
    body = random.Random(1).randbytes(data.draw(st.integers(0, 20_000)))
    path = tmp_path_factory.mktemp("read") / "f"
    path.write_bytes(body)
    spans = cut(data, len(body))
    with FileSource(path) as source:
        found = [(at, bytes(piece)) for at, piece in read_spans(source, spans, ahead=ahead)]
        assert (source.bytes_read, source.requests) == (len(body), len(spans))
    assert found == [(start, body[start:end]) for start, end in spans]


def test_as_much_memory_is_taken_as_is_used_at_one_time() -> None:
    body = bytes(100_000)
    blocks = {id(piece.obj) for _, piece in read_spans(Into(body), even_spans(0, len(body), 1000), ahead=3)}  # type: ignore[union-attr]
    assert len(blocks) <= 5


def test_a_file_that_is_cut_while_it_is_read_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(10_000))
    with FileSource(path) as source:
        pieces = read_spans(source, even_spans(0, 10_000, 1000), ahead=2)
        next(pieces)
        path.write_bytes(bytes(4_500))
        with pytest.raises(ShortReadError, match="ended at byte 4500, 500 bytes before it should"):
            list(pieces)
