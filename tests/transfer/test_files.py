"""The file that a download writes: every byte in its place, by whichever way the file system allows."""

from __future__ import annotations

import errno
import mmap
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.transfer import files
from sealift.transfer.files import ALIGNED, OutFile, in_memory, make_room


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def block(data: bytes) -> memoryview:
    """Memory as a download uses it: from the beginning of a page."""
    memory = memoryview(mmap.mmap(-1, max(len(data), 1)))
    memory[: len(data)] = data
    return memory[: len(data)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-2, 2), st.integers(0, 40_000)), max_size=8), st.randoms())
def test_whatever_is_written_where_stands_there(
    folder: Path, writes: list[tuple[int, int, int]], chance: random.Random
) -> None:
    path = folder / "f"
    expected = bytearray(100_000)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        make_room(fd, len(expected))
        file = OutFile(fd, path)
        for page, beside, length in writes:
            at = max(0, page * ALIGNED + beside)
            data = chance.randbytes(length)
            file.write(block(data), at)
            expected[at : at + length] = data
        file.close()
        os.fsync(fd)
        assert os.pread(fd, len(expected), 0) == expected
    finally:
        os.close(fd)
    assert path.read_bytes() == expected


def test_whole_blocks_go_past_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    written: list[tuple[int, int, int]] = []
    pwrite = os.pwrite

    def noted(fd: int, data: memoryview, at: int) -> int:
        count = pwrite(fd, data, at)
        written.append((fd, at, count))
        return count

    with path.open("w+b") as out:
        file = OutFile(out.fileno(), path)
        if not file.direct:
            pytest.skip("this file system has no direct writes")
        monkeypatch.setattr(files.os, "pwrite", noted)
        file.write(block(bytes(2**20)), 0)
        file.write(block(bytes(ALIGNED + 5)), 2**20)
        usual = out.fileno()
        assert [(at, count) for fd, at, count in written if fd != usual] == [(0, 2**20), (2**20, ALIGNED)]
        assert [(at, count) for fd, at, count in written if fd == usual] == [(2**20 + ALIGNED, 5)]
        file.close()


@pytest.mark.parametrize(("memory", "piece"), [(False, 256 * 1024), (True, 1024 * 1024)])
def test_buffered_writes_to_a_disk_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, memory: bool, piece: int
) -> None:
    counts: list[int] = []
    open_, pwrite = os.open, os.pwrite

    def without_direct(path: Path, flags: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return open_(path, flags)

    monkeypatch.setattr(files, "in_memory", lambda _fd: memory)
    monkeypatch.setattr(files.os, "open", without_direct)
    monkeypatch.setattr(files.os, "pwrite", lambda fd, data, at: counts.append(len(data)) or pwrite(fd, data, at))
    with (tmp_path / "f").open("w+b") as out:
        file = OutFile(out.fileno(), tmp_path / "f")
        assert not file.direct
        file.write(block(bytes(2**20 + 1)), 0)
    assert counts == [piece] * (2**20 // piece) + [1]


@pytest.mark.parametrize("refuses", ["open", "write"])
def test_a_file_system_without_direct_writes_is_written_the_usual_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    path = tmp_path / "f"
    data = random.Random(3).randbytes(2**20 + 100)
    with path.open("w+b") as out:
        usual = out.fileno()
        open_, pwrite = os.open, os.pwrite

        def refused_open(*args: object, **kwargs: object) -> int:
            if refuses == "open":
                raise OSError(errno.EINVAL, "Invalid argument")
            return open_(*args, **kwargs)  # type: ignore[arg-type]

        def refused_write(fd: int, piece: memoryview, at: int) -> int:
            if fd != usual:
                raise OSError(errno.EINVAL, "Invalid argument")
            return pwrite(fd, piece, at)

        monkeypatch.setattr(files.os, "open", refused_open)
        monkeypatch.setattr(files.os, "pwrite", refused_write)
        file = OutFile(usual, path)
        file.write(block(data), 0)
        assert not file.direct
        file.close()
    assert path.read_bytes() == data


def test_a_full_disk_is_told_of_whichever_way_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: memoryview, at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (tmp_path / "f").open("w+b") as out:
        file = OutFile(out.fileno(), tmp_path / "f")
        monkeypatch.setattr(files.os, "pwrite", full)
        for length in (5, 2**20):
            with pytest.raises(OSError, match="No space"):
                file.write(block(bytes(length)), 0)
        file.close()


def test_a_write_that_is_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(5)
    data = chance.randbytes(300_000)
    pwrite = os.pwrite
    monkeypatch.setattr(
        files.os, "pwrite", lambda fd, piece, at: pwrite(fd, piece[: chance.choice((1, 512, 4096))], at)
    )
    with (tmp_path / "f").open("w+b") as out:
        # Memory that does not begin a page is no longer the kernel's to write directly, after an odd count.
        file = OutFile(out.fileno(), tmp_path / "f")
        file.write(block(data), 0)
        file.close()
    assert (tmp_path / "f").read_bytes() == data


def test_room_is_made_at_once_on_a_disk_and_not_in_memory(folder: Path) -> None:
    fd = os.open(folder / "f", os.O_RDWR | os.O_CREAT)
    try:
        memory = in_memory(fd)
        assert memory == str(folder).startswith("/dev/shm")
        make_room(fd, 8 * 2**20)
        assert os.fstat(fd).st_size == 8 * 2**20
        assert (os.fstat(fd).st_blocks * 512 >= 8 * 2**20) is not memory
    finally:
        os.close(fd)
