"""Disks are read in pages that are kept, in few requests, and within a budget."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images.file_systems import window
from sealift.images.file_systems.window import PAGE, BudgetError, CachedDisk, Reading, Window
from sealift.images.source import BytesSource, ShortReadError

MIB = 2**20
DATA = random.Random(3).randbytes(3 * MIB + 777)


def disk(*, budget: int = 64 * MIB, data: bytes = DATA) -> tuple[CachedDisk, BytesSource, Reading]:
    source = BytesSource(data)
    reading = Reading(budget=budget)
    return CachedDisk(source, reading=reading, name="disk 0"), source, reading


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 300_000), st.booleans()), max_size=20))
def test_what_is_read_is_what_is_there(reads: list[tuple[int, int, bool]]) -> None:
    cached, source, reading = disk(budget=1024 * MIB)
    for offset, length, once in reads:
        length = min(length, len(DATA) - offset)
        read = cached.read_once if once else cached.read
        assert read(offset, length) == DATA[offset : offset + length]
    assert (reading.bytes_read, reading.requests) == (source.bytes_read, source.requests)


def test_a_page_is_fetched_once() -> None:
    cached, source, _ = disk()
    for at in range(0, PAGE, 100):
        cached.read(at, 10)
    assert (source.requests, source.bytes_read) == (1, PAGE)
    assert cached.read_once(5, 10) == DATA[5:15]
    assert source.requests == 1


def test_reading_on_fetches_ahead() -> None:
    cached, source, _ = disk()
    for at in range(0, MIB, 4096):
        assert cached.read(at, 4096) == DATA[at : at + 4096]
    assert source.requests == 1 + -(-(MIB // PAGE - 1) // window.AHEAD_PAGES)


def test_a_long_read_is_few_requests() -> None:
    cached, source, _ = disk()
    assert cached.read(100, 3 * MIB) == DATA[100 : 100 + 3 * MIB]
    assert source.requests <= 4
    assert source.bytes_read == len(DATA[: -(-(3 * MIB + 100) // PAGE) * PAGE])


def test_reading_once_fetches_no_more_than_asked_and_keeps_nothing() -> None:
    cached, source, _ = disk()
    assert cached.read_once(5000, 512) == DATA[5000:5512]
    assert cached.read_once(5000, 512) == DATA[5000:5512]
    assert (source.requests, source.bytes_read) == (2, 1024)


def test_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "CACHE_SIZE", 4 * PAGE)
    cached, source, reading = disk()
    for page in range(10):
        cached.read(page * 2 * PAGE, 1)
    assert source.requests == 10
    cached.read(9 * 2 * PAGE, 1)
    assert source.requests == 10
    cached.read(0, 1)
    assert source.requests == 11
    assert sum(map(len, reading._kept.values())) <= 4 * PAGE


def test_disks_of_a_server_share_budget_and_pages_but_not_content() -> None:
    reading = Reading(budget=3 * PAGE)
    one = CachedDisk(BytesSource(b"1" * PAGE), reading=reading, name="disk 0")
    other = CachedDisk(BytesSource(b"2" * 4 * PAGE), reading=reading, name="disk 1")
    assert (one.read(0, 3), other.read(0, 3), one.read(0, 3)) == (b"111", b"222", b"111")
    other.read(2 * PAGE, 1)
    with pytest.raises(BudgetError, match=f"{3 * PAGE} bytes were read"):
        other.read(3 * PAGE, 1)
    reading.allow(PAGE)
    assert other.read(3 * PAGE, 1) == b"2"


def test_reads_have_an_end_even_from_kept_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "MOST_READS", 10)
    cached, _, _ = disk()
    for _ in range(10):
        cached.read(0, 1)
    with pytest.raises(BudgetError, match="in circles"):
        cached.read(0, 1)


def test_windows_stay_inside() -> None:
    cached, _, _ = disk()
    part = Window(cached, start=1000, size=5000, name="disk 0 partition 1")
    inner = Window(part, start=500, size=100, name="a part of it")
    assert part.read(10, 20) == DATA[1010:1030]
    assert inner.read_once(0, 100) == DATA[1500:1600]
    with pytest.raises(ShortReadError, match="partition 1 has 5000 bytes"):
        part.read(4999, 2)
    with pytest.raises(ShortReadError, match="a part of it has 100 bytes"):
        inner.read_once(-1, 2)
    with pytest.raises(ShortReadError):
        Window(part, start=4000, size=1001, name="too long")
    with pytest.raises(ShortReadError, match="disk 0 has"):
        cached.read(len(DATA), 1)
