"""Holes and written zeros are the same; data is found wherever it lies."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealift.images import sparse

MIB = 1024 * 1024


@pytest.fixture
def holey(tmp_path: Path) -> Iterator[int]:
    """A file of 8 MiB with a page of data at 1 MiB and one byte at its end."""
    path = tmp_path / "holey"
    with path.open("wb") as file:
        file.seek(MIB)
        file.write(b"x" * 4096)
        file.seek(8 * MIB - 1)
        file.write(b"y")
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_extents_cover_all_data(holey: int) -> None:
    extents = list(sparse.data_extents(holey, 8 * MIB))
    assert any(start <= MIB and end >= MIB + 4096 for start, end in extents)
    assert extents[-1][1] == 8 * MIB
    assert sum(end - start for start, end in extents) < 2 * MIB, "the test's file system has no holes"


def test_extents_stop_at_size(holey: int) -> None:
    assert all(end <= 2 * MIB for _, end in sparse.data_extents(holey, 2 * MIB))
    assert list(sparse.data_extents(holey, MIB)) == []


def test_file_system_without_holes(holey: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, at: int, whence: int) -> int:
        raise OSError(errno.EINVAL, "no such whence")

    monkeypatch.setattr(os, "lseek", refuse)
    assert list(sparse.data_extents(holey, 8 * MIB)) == [(0, 8 * MIB)]
    assert list(sparse.units_with_data(holey, 8 * MIB, MIB)) == list(range(8))


def test_other_errors_are_not_taken_for_holes(holey: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, at: int, whence: int) -> int:
        raise OSError(errno.EIO, "disk is broken")

    monkeypatch.setattr(os, "lseek", fail)
    with pytest.raises(OSError, match="disk is broken"):
        list(sparse.data_extents(holey, 8 * MIB))


def test_units_come_once_and_in_order(holey: int) -> None:
    assert list(sparse.units_with_data(holey, 8 * MIB, MIB)) == [1, 7]
    assert list(sparse.units_with_data(holey, 8 * MIB, 16 * MIB)) == [0]


def test_digest_is_what_it_says(holey: int, tmp_path: Path) -> None:
    expected = hashlib.sha256(b"sealift-sparse-1\n" + (8 * MIB).to_bytes(8, "big"))
    expected.update((16).to_bytes(8, "big") + (b"x" * 4096).ljust(65536, b"\0"))
    expected.update((127).to_bytes(8, "big") + b"y".rjust(65536, b"\0"))
    assert sparse.sparse_digest(holey, 8 * MIB) == f"sparse-sha256:{expected.hexdigest()}"

    full = tmp_path / "full"
    full.write_bytes(sparse.pread_exactly(holey, 8 * MIB, 0))
    with full.open("rb") as file:
        assert sparse.sparse_digest(file.fileno(), 8 * MIB) == sparse.sparse_digest(holey, 8 * MIB)


def test_digest_knows_size_and_place(tmp_path: Path) -> None:
    chunk = b"z" * 65536
    digests = {
        sparse.digest_of_chunks(size, [(number, chunk)]) for size in (10 * 65536, 11 * 65536) for number in (3, 4)
    }
    assert len(digests) == 4


def test_pread_exactly_raises_at_the_end(holey: int) -> None:
    with pytest.raises(EOFError, match="ended at byte 8388608"):
        sparse.pread_exactly(holey, 10, 8 * MIB - 5)


@pytest.mark.parametrize(("data", "zero"), [(b"", True), (bytes(5), True), (bytes(3 * MIB), True), (b"\0\1", False)])
def test_is_zero(data: bytes, zero: bool) -> None:
    assert sparse.is_zero(data) is zero
