"""Where the bytes of a new image go: a sink takes them in the order of the file, but for the first, which come last.

A format that begins with what is only known at the end (where a table came to lie, which blocks are stored) cannot be
written from its first byte to its last. It does not have to be: a file can be written at its beginning later, and the
parts of a multipart upload may be sent in any order. So a writer says how many bytes of the beginning it holds back,
never more than 5 MiB, and gives them at the end.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final, Protocol

from sealift.images.convert.errors import ConversionError

LARGEST_HEAD: Final = 5 * 1024 * 1024
"""Bytes that a writer may hold back: so many may be missing at the beginning of S3's smallest part."""

PIECE: Final = 256 * 1024
"""Bytes written at once. Larger buffered writes take up to seven times as long on some kernels."""

Data = bytes | bytearray | memoryview


class PieceSink(Protocol):
    """Takes one image. Not for several threads."""

    def begin(self, *, head: int, largest: int) -> None:
        """Begin.

        :param head: bytes of the beginning that come last: the first :meth:`write` is about what follows them.
        :param largest: bytes that the whole image can have at the most.
        """
        ...

    def write(self, data: Data) -> None:
        """Take the next bytes."""
        ...

    def zeros(self, count: int) -> None:
        """Take so many zeros as the next bytes."""
        ...

    def finish(self, head: bytes) -> None:
        """Take the bytes of the beginning; after this the image is whole."""
        ...

    def abort(self) -> str:
        """Leave nothing behind of an image that is not whole. Never fails.

        :returns: what is left all the same, in words; empty where nothing is.
        """
        ...


class Output:
    """A sink, and where in the file it is.

    :param sink: takes the bytes; begun.
    :param at: byte of the file that comes next.
    """

    def __init__(self, sink: PieceSink, *, at: int) -> None:
        self._sink = sink
        self.position = at
        """Byte of the file that comes next."""

    def write(self, data: Data) -> None:
        """Write bytes.

        :param data: the bytes.
        """
        if len(data):
            self._sink.write(data)
            self.position += len(data)

    def zeros(self, count: int) -> None:
        """Write zeros.

        :param count: how many.
        """
        if count > 0:
            self._sink.zeros(count)
            self.position += count

    def align(self, unit: int) -> None:
        """Write zeros up to a multiple.

        :param unit: of what the position is to be a multiple.
        """
        self.zeros(-self.position % unit)


class FileSink:
    """A local file: written beside its place, flushed to disk, and renamed once it is whole. Zeros become holes.

    :param path: the file; one that is there is replaced once the new one is whole.
    :param unfinished: what it is called until then; its name with ``.part`` behind if not given.
    """

    def __init__(self, path: Path, *, unfinished: Path | None = None) -> None:
        self.path = Path(path)
        self.unfinished = unfinished or self.path.with_name(f"{self.path.name}.part")
        self._fd: int | None = None
        self._at = 0

    def begin(self, *, head: int, largest: int) -> None:
        """Begin; parameters as for :meth:`PieceSink.begin`.

        :raises ConversionError: the file cannot be made, or another process writes it.
        """
        del largest  # a file system with holes does not need it, and how much of it is needed nobody knows
        try:
            fd = os.open(self.unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._in_words(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
        except BlockingIOError as error:
            os.close(fd)
            raise ConversionError(
                f"Another process writes {self.unfinished}. Wait for its end, or choose another file."
            ) from error
        except OSError as error:
            os.close(fd)
            raise self._in_words(error) from error
        self._fd, self._at = fd, head

    def write(self, data: Data) -> None:
        """Write the next bytes.

        :param data: the bytes.
        :raises ConversionError: the disk is full, or fails.
        """
        self._write(data, self._at)
        self._at += len(data)

    def zeros(self, count: int) -> None:
        """Leave a hole.

        :param count: its bytes.
        """
        self._at += count

    def finish(self, head: bytes) -> None:
        """Write the beginning, flush all to disk, and give the file its name.

        :param head: the first bytes.
        :raises ConversionError: the disk is full, or fails.
        """
        fd = self._opened
        self._write(head, 0)
        try:
            os.ftruncate(fd, self._at)
            os.fsync(fd)
            os.replace(self.unfinished, self.path)
            _flush_folder(self.path.parent)
        except OSError as error:
            raise self._in_words(error) from error
        os.close(fd)
        self._fd = None

    def abort(self) -> str:
        """Remove what was written.

        :returns: which file could not be removed, and why; empty where nothing is left.
        """
        if self._fd is None:
            return ""
        try:
            self.unfinished.unlink(missing_ok=True)
        except OSError as error:
            return f"{self.unfinished} could not be removed: {error.strerror or error}."
        finally:
            os.close(self._fd)
            self._fd = None
        return ""

    @property
    def _opened(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path} has not been begun")
        return self._fd

    def _write(self, data: Data, at: int) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._opened, view[:PIECE], at)
                view = view[written:]
                at += written
        except OSError as error:
            raise self._in_words(error) from error

    def _in_words(self, error: OSError) -> ConversionError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return ConversionError(
                f"The disk of {self.path} is full. Make room, or choose a folder on another disk, and convert again."
            )
        return ConversionError(f"{self.unfinished} cannot be written: {error.strerror or error}.")


def _flush_folder(folder: Path) -> None:
    """Make a new name last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
