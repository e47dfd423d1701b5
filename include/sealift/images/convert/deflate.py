"""Deflate for grains and clusters: a fast library where it is there, and no work on what does not get smaller.

Compression is what a conversion costs. zlib-ng at level 5 writes what zlib at its default level does, give or take 4 %,
in a third to a half of the time, and like zlib lets other threads run meanwhile. (ISA-L is three times as fast again,
but writes 6 to 16 % more of what is on system disks.) Data that are compressed or encrypted already are told by a
sample, and stored as they are (RFC 1951, section 3.2.4): any reader of deflate takes that.

One library gives the same bytes for the same data, whatever the number of threads; two libraries do not, nor need two
versions of one.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Mapping
from types import ModuleType
from typing import Final, Literal

LIBRARIES: Final[Mapping[str, tuple[str, int, int]]] = {
    "zlib-ng": ("zlib_ng.zlib_ng", 5, 2),
    "zlib": ("zlib", 6, 1),
}
"""Module of each library, its level, and that for samples: the fastest that makes up codes for what it finds (level
1 of zlib-ng does not, and would take base64 for noise). The library that is taken first is at the top."""

Library = Literal["zlib-ng", "zlib"]

SAMPLE_PIECES: Final = 4
SAMPLE_PIECE: Final = 1024
NO_GAIN: Final = 0.98
"""What becomes of a sample, as a part of it, from which on its data are stored as they are."""

_STORED_AT_MOST: Final = 65_535
_STORED: Final = struct.Struct("<BHH")
_ZLIB_HEADER: Final = b"\x78\x01"


class Deflate:
    """Compresses units of a disk. May be used by many threads.

    :param library: which one; None for the fastest that is installed.
    :param level: of compression, 1 to 9; None for the one that comes near the sizes of qemu-img.
    :raises ModuleNotFoundError: the library is not installed.
    """

    def __init__(self, *, library: Library | None = None, level: int | None = None) -> None:
        self.library, self._module = _load(library)
        _, usual, self._for_samples = LIBRARIES[self.library]
        self.level = usual if level is None else level

    def stream(self, data: bytes) -> bytes:
        """Compress into a zlib stream (RFC 1950), as VMDKs hold.

        :param data: what to compress, at least a byte.
        :returns: the stream; never longer than :func:`stored_size` and six bytes.
        """
        if self._gains(data):
            found: bytes = self._module.compress(data, self.level)
            if len(found) < len(data):
                return found
        return b"".join([_ZLIB_HEADER, *_stored(data), self._module.adler32(data).to_bytes(4, "big")])

    def raw(self, data: bytes, *, window_bits: int) -> bytes:
        """Compress into bare deflate (RFC 1951), as qcow2 images hold.

        :param data: what to compress, at least a byte.
        :param window_bits: how far back matches may reach: 2 to the power of this many bytes, 9 to 15.
        :returns: the stream; never longer than :func:`stored_size`.
        """
        if self._gains(data):
            packer = self._module.compressobj(self.level, zlib.DEFLATED, -window_bits, 9)
            found: bytes = packer.compress(data) + packer.flush()
            if len(found) < len(data):
                return found
        return b"".join(_stored(data))

    def _gains(self, data: bytes) -> bool:
        """Tell from a sample whether data get smaller."""
        if len(data) <= SAMPLE_PIECES * SAMPLE_PIECE:
            return True
        step = (len(data) - SAMPLE_PIECE) // (SAMPLE_PIECES - 1)
        sample = b"".join([data[at * step : at * step + SAMPLE_PIECE] for at in range(SAMPLE_PIECES)])
        return len(self._module.compress(sample, self._for_samples)) < NO_GAIN * len(sample)


def stored_size(length: int) -> int:
    """Say how long bare deflate is that stores data as they are: the longest that :class:`Deflate` gives.

    :param length: of the data, in bytes.
    :returns: bytes.
    """
    return length + _STORED.size * max(1, -(-length // _STORED_AT_MOST))


def _stored(data: bytes) -> list[bytes]:
    pieces = []
    for at in range(0, len(data), _STORED_AT_MOST):
        piece = data[at : at + _STORED_AT_MOST]
        last = at + len(piece) == len(data)
        pieces += [_STORED.pack(last, len(piece), len(piece) ^ 0xFFFF), piece]
    return pieces


def _load(library: Library | None) -> tuple[Library, ModuleType]:
    names: list[Library] = [library] if library is not None else ["zlib-ng", "zlib"]
    for name in names[:-1]:
        try:
            return name, importlib.import_module(LIBRARIES[name][0])
        except ModuleNotFoundError:
            continue
    return names[-1], importlib.import_module(LIBRARIES[names[-1]][0])
