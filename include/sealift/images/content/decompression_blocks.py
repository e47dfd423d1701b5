"""Decompresses lz4 and zstd block by block, so that no more than a block's content is in memory.

After the formats' descriptions: lz4's "legacy frame" (lz4_Frame_format.md), which is what the kernel reads, and RFC
8878 for zstd.
"""

from __future__ import annotations

import struct
from typing import Final

import lz4.block
import zstandard

from sealift.images.content.decompression import LARGEST_WINDOW, WindowError

_LZ4_MAGIC: Final = 0x184C_2102
_LZ4_BLOCK: Final = 8 * 1024 * 1024
_LZ4_LARGEST: Final = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16
"""Bytes that a block of lz4 can have when nothing in it could be compressed."""
_ZSTD_MAGIC: Final = 0xFD2F_B528
_ZSTD_LARGEST: Final = 128 * 1024
_RLE: Final = 1
_RESERVED: Final = 3


class _Buffer:
    """What was fed and not used yet."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def add(self, data: bytes) -> None:
        self._data += data

    def peek(self, length: int) -> bytes:
        return bytes(self._data[:length])

    def take(self, length: int) -> bytes:
        taken = bytes(self._data[:length])
        del self._data[:length]
        return taken


class Lz4:
    """Blocks, each with its length before it, after a magic number. The file's end is the end."""

    def __init__(self) -> None:
        self._buffer = _Buffer()
        self._begun = False
        self.ended = False

    @property
    def _needed(self) -> int:
        """Bytes without which the next step cannot be made."""
        if len(self._buffer) < 4:
            return 4
        (length,) = struct.unpack("<I", self._buffer.peek(4))
        return 4 if length == _LZ4_MAGIC or not 0 < length <= _LZ4_LARGEST else 4 + int(length)

    @property
    def hungry(self) -> bool:
        """Whether more compressed data are needed to go on."""
        return len(self._buffer) < self._needed

    @property
    def complete(self) -> bool:
        """Whether the file may end here; fewer than four bytes that are left are padding."""
        return self._begun and len(self._buffer) < 4

    @property
    def unused(self) -> int:
        """How many of the bytes that were fed come after the end."""
        return len(self._buffer)

    def feed(self, data: bytes) -> bytes:
        """Take more compressed data and return a block's content, if there is a whole one.

        :param data: the next bytes.
        :raises ValueError: they are damaged.
        """
        self._buffer.add(data)
        if self.hungry:
            return b""
        (length,) = struct.unpack("<I", self._buffer.peek(4))
        if length == _LZ4_MAGIC:
            self._begun = True
            self._buffer.take(4)
            return b""
        if not 0 < length <= _LZ4_LARGEST:
            self.ended = True
            return b""
        self._buffer.take(4)
        try:
            found: bytes = lz4.block.decompress(self._buffer.take(length), uncompressed_size=_LZ4_BLOCK)
            return found
        except lz4.block.LZ4BlockError as error:
            raise ValueError(str(error)) from None


class Zstd:
    """Frames of blocks. What comes after a frame is another one, or not zstd's any more."""

    def __init__(self) -> None:
        self._buffer = _Buffer()
        self._stream = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
        self._in_frame = False
        self._in_end = False
        self._has_checksum = False
        self._begun = False
        self.ended = False

    @property
    def _needed(self) -> int:
        """Bytes without which the next step cannot be made."""
        if self._in_end:
            return 4
        if self._in_frame:
            return self._block_length() if len(self._buffer) >= 3 else 3
        if len(self._buffer) < 5:
            return 5
        return _header_length(self._buffer.peek(5)[4])

    def _block_length(self) -> int:
        size, kind = self._block_header()
        return 3 + (1 if kind == _RLE else min(size, _ZSTD_LARGEST))

    def _block_header(self) -> tuple[int, int]:
        header = int.from_bytes(self._buffer.peek(3), "little")
        return header >> 3, header >> 1 & 3

    @property
    def hungry(self) -> bool:
        """Whether more compressed data are needed to go on."""
        return len(self._buffer) < self._needed

    @property
    def complete(self) -> bool:
        """Whether the file may end here."""
        return self._begun and not self._in_frame and not self._in_end and len(self._buffer) < 5

    @property
    def unused(self) -> int:
        """How many of the bytes that were fed come after the end."""
        return len(self._buffer)

    def feed(self, data: bytes) -> bytes:
        """Take more compressed data and return a block's content, if there is a whole one.

        :param data: the next bytes.
        :raises ValueError: they are damaged.
        :raises WindowError: they need more memory than is given.
        """
        self._buffer.add(data)
        if not self._in_frame and not self._in_end and len(self._buffer) >= 4:
            (magic,) = struct.unpack("<I", self._buffer.peek(4))
            if magic != _ZSTD_MAGIC:
                self.ended = True
                return b""
        if self.hungry:
            return b""
        try:
            return self._step()
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None

    def _step(self) -> bytes:
        needed = self._needed
        if self._in_end:
            self._in_end = False
            return self._stream.decompress(self._buffer.take(needed))
        if not self._in_frame:
            if self._begun:
                self._stream = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
            self._begun = self._in_frame = True
            header = self._buffer.take(needed)
            self._has_checksum = bool(header[4] & 4)
            window = _window(header)
            if window > LARGEST_WINDOW:
                raise WindowError(f"it needs a window of {window} bytes, more than {LARGEST_WINDOW}", offset=0)
            return self._stream.decompress(header)
        size, kind = self._block_header()
        if kind == _RESERVED or size > _ZSTD_LARGEST:
            raise ValueError(f"a block of type {kind} with {size} bytes")
        last = bool(self._buffer.peek(1)[0] & 1)
        if last:
            self._in_frame = False
            self._in_end = self._has_checksum
        return self._stream.decompress(self._buffer.take(needed))


def _header_length(descriptor: int) -> int:
    """Return the length of a frame's header, with the magic number."""
    single = descriptor >> 5 & 1
    size_flag = descriptor >> 6
    content_size = (single, 2, 4, 8)[size_flag]
    return 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + content_size


def _window(header: bytes) -> int:
    """Return how many bytes a frame looks back."""
    descriptor = header[4]
    if not descriptor >> 5 & 1:
        base = 1 << (10 + (header[5] >> 3))
        return base + base // 8 * (header[5] & 7)
    at = 5 + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(header[at:], "little")
    return size + 256 if descriptor >> 6 == 1 else size
