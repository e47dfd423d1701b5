"""Sparse raw files: where their data lies, and a digest that does not have to read the holes.

A 25 GiB disk that holds 3 MB would cost seconds to hash or to copy byte by byte. Everything here works on what is
stored, and gives the same answer whether zeros are holes or written out.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator

DIGEST_CHUNK = 64 * 1024
"""Unit of :func:`sparse_digest` in bytes. Part of the digest's definition."""

_DIGEST_PREFIX = b"sealift-sparse-1\n"


@functools.lru_cache(maxsize=4)
def _zeros(length: int) -> bytes:
    return bytes(length)


def is_zero(data: bytes) -> bool:
    """Tell whether every byte of ``data`` is zero.

    :param data: any number of bytes.
    :returns: True as well for no bytes at all.
    """
    # Comparing bytes with bytes is one memcmp, which stops at the first difference; memoryviews compare item by item.
    return data == _zeros(len(data))


def data_extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) byte ranges of an open file that are not holes, in order.

    On a file system that knows no holes the whole file is one range; zeros inside a range are the caller's to find.

    :param fd: an open, seekable file descriptor. Its position is moved.
    :param size: where to stop, in bytes.
    :returns: the ranges; an end is the first byte after its range.
    :raises OSError: if the file cannot be searched.
    """
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                yield at, size
                return
            raise
        if start >= size:
            return
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, end
        at = end


def units_with_data(fd: int, size: int, unit: int) -> Iterator[int]:
    """Yield the numbers of the ``unit``-sized pieces of an open file that touch data, each once, in order.

    :param fd: an open, seekable file descriptor. Its position is moved.
    :param size: where to stop, in bytes.
    :param unit: bytes per piece.
    :returns: the numbers, from 0.
    """
    after_last = 0
    for start, end in data_extents(fd, size):
        first = max(start // unit, after_last)
        after_last = max(after_last, -(-end // unit))
        yield from range(first, after_last)


def pread_exactly(fd: int, length: int, offset: int) -> bytes:
    """Return ``length`` bytes from ``offset`` of an open file.

    :param fd: an open file descriptor. Its position does not matter and stays.
    :param length: number of bytes.
    :param offset: first byte, from 0.
    :returns: the bytes.
    :raises EOFError: if the file ends first.
    """
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise EOFError(f"the file ended at byte {offset + len(data)} while {length} bytes at {offset} were read")
        data += more
    return data


class ChunkDigest:
    """The digest of a disk, taken in as its bytes come; see :func:`digest_of_chunks` for what it is.

    :param size: length of the whole disk in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._digest = hashlib.sha256(_DIGEST_PREFIX + size.to_bytes(8, "big"))

    def chunk(self, number: int, data: bytes) -> None:
        """Take in a chunk. Chunks come in rising order; those that are all zero may be left out.

        :param number: of the chunk, from 0.
        :param data: its bytes.
        """
        if not is_zero(data):
            self._digest.update(number.to_bytes(8, "big"))
            self._digest.update(data)

    def stretch(self, offset: int, data: bytes) -> None:
        """Take in several chunks that follow each other.

        :param offset: byte of the disk where they begin: a multiple of 64 KiB.
        :param data: whole chunks, but for the last, which may end early: what is missing of it up to the disk's end is
            zeros.
        """
        for at in range(0, len(data), DIGEST_CHUNK):
            number = (offset + at) // DIGEST_CHUNK
            length = min(DIGEST_CHUNK, self._size - number * DIGEST_CHUNK)
            self.chunk(number, data[at : at + length].ljust(length, b"\0"))

    def hexdigest(self) -> str:
        """Return the digest of what has come so far: ``sparse-sha256:<hex>``."""
        return f"sparse-sha256:{self._digest.hexdigest()}"


def digest_of_chunks(size: int, chunks: Iterable[tuple[int, bytes]]) -> str:
    """Return the digest of a disk from its chunks.

    The digest is SHA-256 over a version line, the disk's size, and then number and bytes of every chunk of 64 KiB that
    is not all zero (numbers and size as 8 bytes, big-endian).

    :param size: length of the whole disk in bytes.
    :param chunks: (number, bytes) of at least the chunks that are not zero, in rising order.
    :returns: ``sparse-sha256:<hex>``.
    """
    digest = ChunkDigest(size)
    for number, chunk in chunks:
        digest.chunk(number, chunk)
    return digest.hexdigest()


def sparse_digest(fd: int, size: int) -> str:
    """Return the digest of an open raw disk file; see :func:`digest_of_chunks`.

    :param fd: an open, seekable file descriptor. Its position is moved.
    :param size: length of the disk in bytes.
    :returns: ``sparse-sha256:<hex>``.
    :raises EOFError: if the file is shorter than ``size``.
    """
    return digest_of_chunks(
        size,
        (
            (number, pread_exactly(fd, min(DIGEST_CHUNK, size - number * DIGEST_CHUNK), number * DIGEST_CHUNK))
            for number in units_with_data(fd, size, DIGEST_CHUNK)
        ),
    )
