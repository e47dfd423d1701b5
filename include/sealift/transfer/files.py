"""The file that a download writes: its room on disk, and writes that neither stall nor fill the page cache.

An image is larger than the memory of most machines. Written the usual way it drives everything else out of the page
cache, and then waits for the disk all the same. So whole blocks are written past the cache (``O_DIRECT``) where the
file system can: that takes half of the processor time, and leaves nothing to do for the flush at the end. What cannot
be written so, the last bytes of a file and files in memory, goes the usual way. On disks that is done 256 KiB at once:
larger buffered writes take up to seven times as long on some kernels. And one thread at a time: the kernel lets only
one write to a file, and those who wait for it keep a core busy with waiting.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Final

ALIGNED: Final = 4096
"""What offset, length and memory of a direct write must be multiples of: no disk wants more."""

PIECE: Final = 256 * 1024
"""Bytes of a buffered write to a disk."""

PIECE_IN_MEMORY: Final = 1024 * 1024
"""Bytes of a write to a file in memory, which waits for nothing."""

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


class OutFile:
    """Writes an open file at any place. May be used by many threads.

    :param fd: the file, open for writing.
    :param path: where it is; it is opened once more for direct writes.
    """

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._direct: int | None = None
        self._buffered = threading.Lock()
        without_disk = in_memory(fd)
        self._piece = PIECE_IN_MEMORY if without_disk else PIECE
        if not without_disk:
            try:
                self._direct = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
        self._refused = False

    @property
    def direct(self) -> bool:
        """Whether whole blocks go past the page cache."""
        return self._direct is not None and not self._refused

    def write(self, data: memoryview, at: int) -> None:
        """Write all of these bytes.

        :param data: the bytes; only from the beginning of a page of memory can they be written directly.
        :param at: where the first one goes.
        :raises OSError: the file cannot be written, or the disk is full.
        """
        while data:
            whole = len(data) // ALIGNED * ALIGNED if self.direct and at % ALIGNED == 0 else 0
            count = self._directly(data[:whole], at) if whole else self._usually(data[: self._piece], at)
            data, at = data[count:], at + count

    def _usually(self, data: memoryview, at: int) -> int:
        with self._buffered:
            return os.pwrite(self._fd, data, at)

    def _directly(self, data: memoryview, at: int) -> int:
        assert self._direct is not None
        try:
            return os.pwrite(self._direct, data, at)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # A file system that opens a file so and then does not write it so.
        self._refused = True
        return 0

    def close(self) -> None:
        """Close what was opened for direct writes; the file that was given stays open."""
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None


def make_room(fd: int, size: int) -> None:
    """Give a file its size, and its room on disk at once; where the file system cannot, its size only.

    :param fd: the file, open for writing.
    :param size: in bytes, above 0.
    :raises OSError: the disk is too small.
    """
    if in_memory(fd):
        # There is no disk whose space could be split up; room in memory takes as long to make as the bytes to write.
        os.ftruncate(fd, size)
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        os.ftruncate(fd, size)


def in_memory(fd: int) -> bool:
    """Whether a file is on a file system that has no disk below it (proc(5), ``/proc/self/mountinfo``).

    :param fd: the open file.
    """
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split(" ")[2:3] == [number]:
            return after.partition(" ")[0] in _IN_MEMORY
    return False
