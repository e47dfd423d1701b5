"""Many small reads become few large ones, and give the same bytes."""

from __future__ import annotations

import random

import pytest

from sealift.images import kept_pages
from sealift.images.kept_pages import PAGE, KeptPages
from sealift.images.source import BytesSource, ShortReadError

DATA = random.Random(3).randbytes(3 * PAGE + 1234)


def test_reads_are_exact_and_few() -> None:
    source = BytesSource(DATA)
    pages = KeptPages(source)
    chance = random.Random(4)
    assert pages.size == len(DATA)
    for _ in range(200):
        offset = chance.randrange(len(DATA))
        length = chance.choice((0, 1, 512, 4096, PAGE, 2 * PAGE))
        length = min(length, len(DATA) - offset)
        assert pages.read(offset, length) == DATA[offset : offset + length]
    assert pages.read(0, len(DATA)) == DATA
    assert source.requests == 4


def test_old_pages_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_pages, "KEPT", 2)
    source = BytesSource(DATA)
    pages = KeptPages(source)
    for page in (0, 1, 2, 0):
        pages.read(page * PAGE, 1)
    assert source.requests == 4
    pages.read(2 * PAGE + 5, 1)
    assert source.requests == 4


def test_nothing_is_read_beyond_the_end() -> None:
    pages = KeptPages(BytesSource(DATA), name="disk 0")
    with pytest.raises(ShortReadError, match="disk 0 has"):
        pages.read(len(DATA) - 1, 2)
