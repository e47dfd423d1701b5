"""Two disks are the same, or differ from a byte on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images.compare import compare_content, content_digest
from sealift.images.source import FileSource
from sealift.images.sparse import sparse_digest
from sealift.images.virtual_disk import open_disk
from tests.images.convert.samples import MIB, PiecesDisk, write_disk


def test_the_same_disk_in_two_formats_is_the_same(mixed: dict[str, Path]) -> None:
    with mixed["raw"].open("rb") as file:
        due = sparse_digest(file.fileno(), mixed["raw"].stat().st_size)
    with FileSource(mixed["sealift"]) as one, FileSource(mixed["qcow2-compressed"]) as other:
        told: list[int] = []
        found = compare_content(open_disk(one), open_disk(other), progress=told.append)
        assert (found.difference, found.digest) == (None, due)
        assert told == sorted(told)
        assert content_digest(open_disk(one)) == content_digest(open_disk(other), threads=1) == due


def test_what_neither_stores_is_not_read() -> None:
    one = PiecesDisk({5 * MIB: b"x"}, size=2**40)
    other = PiecesDisk({5 * MIB: b"x", 9 * MIB: bytes(100)}, size=2**40)
    assert compare_content(one, other).difference is None
    assert sorted(one.reads) == sorted(other.reads) == [(5 * MIB, 65536), (9 * MIB, 65536)]


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 3 * MIB - 1), bit=st.integers(0, 7), where=st.booleans())
def test_the_first_byte_that_differs_is_found(at: int, bit: int, where: bool) -> None:
    data = random.Random(1).randbytes(3 * MIB)
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    disks = [PiecesDisk({0: data}, size=len(data)), PiecesDisk({0: bytes(changed)}, size=len(data))]
    found = compare_content(disks[where], disks[not where])
    assert (found.difference, found.digest) == (at, None)


def test_data_that_only_one_stores_are_a_difference() -> None:
    blank, written = PiecesDisk({}, size=10 * MIB), PiecesDisk({7 * MIB + 3: b"\0\0x"}, size=10 * MIB)
    assert compare_content(blank, written).difference == compare_content(written, blank).difference == 7 * MIB + 5


def test_a_longer_disk_is_another_unless_it_may_be_longer() -> None:
    short = PiecesDisk({0: b"x" * 1000}, size=1000)
    filled = PiecesDisk({0: b"x" * 1000 + bytes(24)}, size=1024)
    assert compare_content(short, filled).difference == 1000
    assert compare_content(filled, short, longer=True).difference == 1000
    found = compare_content(short, filled, longer=True)
    assert (found.difference, found.digest) == (None, content_digest(filled))
    assert content_digest(short, size=1024) == content_digest(filled) != content_digest(short)
    more = PiecesDisk({0: b"x" * 1001}, size=1024)
    assert compare_content(short, more, longer=True).difference == 1000


def test_a_disk_that_cannot_be_read_is_no_disk_that_is_the_same(tmp_path: Path) -> None:
    path = write_disk(tmp_path / "d.raw", {0: b"x" * MIB}, size=MIB)
    with FileSource(path) as source:
        disk = open_disk(source, raw=True)
        path.write_bytes(b"x")
        with pytest.raises(OSError, match="ended at byte"):
            compare_content(PiecesDisk({0: b"x" * MIB}, size=MIB), disk)
