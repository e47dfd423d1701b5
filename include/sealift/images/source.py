"""Where image bytes come from: anything that has a size and answers range reads.

The rest of the room reads images only through :class:`RangeSource`, so that one and the same proof runs over a local
file and over an object in a bucket (``sealift.cos.source.ObjectSource`` fits the protocol).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from sealift.images.sparse import data_extents


class RangeSource(Protocol):
    """Bytes of a known total length that can be read piece by piece."""

    @property
    def size(self) -> int:
        """Length of the whole in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``; a short read raises."""
        ...


@runtime_checkable
class KnowsHoles(Protocol):
    """A source that can tell which of its bytes are stored, as a sparse file can."""

    def data_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) ranges that are stored, in rising order; all else reads as zeros."""
        ...


@runtime_checkable
class ReadsInto(Protocol):
    """A source that reads into memory that is there, which spares allocating it and copying the bytes once more."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the bytes from ``offset`` on; a short read raises."""
        ...


@runtime_checkable
class ReadsAhead(ReadsInto, Protocol):
    """A source that fetches bytes by itself once it knows that they will be read, as the kernel does a file's."""

    def will_read(self, offset: int, length: int) -> None:
        """Say what will be read soon; does not wait for it."""
        ...


class ShortReadError(OSError):
    """A source gave fewer bytes than asked for, or was asked for bytes that it does not have."""


class ImageFormatError(ValueError):
    """Bytes are not what the format demands.

    :param message: what was found, where, and what was expected.
    :param offset: byte of the file where it was found.
    """

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def check_range(*, name: str, size: int, offset: int, length: int) -> None:
    """Refuse a range that is not inside the source.

    :param name: what the source is called in the message.
    :param size: length of the source in bytes.
    :param offset: first byte wanted.
    :param length: number of bytes wanted.
    :raises ShortReadError: if any byte of the range lies outside.
    """
    if offset < 0 or length < 0 or offset + length > size:
        raise ShortReadError(f"{name} has {size} bytes; bytes {offset} to {offset + length} were asked for")


class FileSource:
    """A local file as a :class:`RangeSource`; counts what was read.

    :param path: the file. It is opened at once and kept open until :meth:`close`.
    :raises OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._fd: int | None = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self.size: int = os.fstat(self._fd).st_size
        self.bytes_read = 0
        self.requests = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :returns: the bytes.
        :raises ShortReadError: if the file has fewer bytes, also when it shrank after it was opened.
        :raises ValueError: if the source is closed.
        """
        if self._fd is None:
            raise ValueError(f"{self._path} is closed")
        check_range(name=str(self._path), size=self.size, offset=offset, length=length)
        self.requests += 1
        pieces: list[bytes] = []
        while length > 0:
            piece = os.pread(self._fd, length, offset)
            if not piece:
                raise ShortReadError(f"{self._path} ended at byte {offset}, {length} bytes before it should")
            pieces.append(piece)
            self.bytes_read += len(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill memory with the bytes from ``offset`` on; errors as for :meth:`read`.

        :param offset: first byte, from 0.
        :param view: where the bytes go: as many as it is long.
        """
        if self._fd is None:
            raise ValueError(f"{self._path} is closed")
        check_range(name=str(self._path), size=self.size, offset=offset, length=len(view))
        self.requests += 1
        while view:
            count = os.preadv(self._fd, [view], offset)
            if not count:
                raise ShortReadError(f"{self._path} ended at byte {offset}, {len(view)} bytes before it should")
            self.bytes_read += count
            offset, view = offset + count, view[count:]

    def will_read(self, offset: int, length: int) -> None:
        """Let the kernel fetch bytes into its cache, without waiting for them.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :raises ValueError: if the source is closed.
        """
        if self._fd is None:
            raise ValueError(f"{self._path} is closed")
        with contextlib.suppress(OSError):  # an advice; what cannot be read shows where it is read
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_WILLNEED)

    def data_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) ranges of the file that are not holes, in rising order.

        :returns: the ranges; all else reads as zeros.
        :raises ValueError: if the source is closed.
        """
        if self._fd is None:
            raise ValueError(f"{self._path} is closed")
        yield from data_extents(self._fd, self.size)

    def close(self) -> None:
        """Close the file. Closing twice does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BytesSource:
    """Bytes in memory as a :class:`RangeSource`; counts what was read.

    :param data: the bytes.
    :param name: what they are called in messages.
    """

    def __init__(self, data: bytes, *, name: str = "the data") -> None:
        self._data = data
        self._name = name
        self.size: int = len(data)
        self.bytes_read = 0
        self.requests = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :returns: the bytes.
        :raises ShortReadError: if the data has fewer bytes.
        """
        check_range(name=self._name, size=self.size, offset=offset, length=length)
        self.requests += 1
        self.bytes_read += length
        return self._data[offset : offset + length]
