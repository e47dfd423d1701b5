"""Decompresses what the Linux kernel can: gzip, bzip2, xz, lzma, lz4 and zstd, as a stream of bounded memory."""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from typing import Final, Protocol

from sealift.images.source import ImageFormatError

CHUNK: Final = 256 * 1024
"""Bytes that are read of the file, and decompressed, at once."""
LARGEST_WINDOW: Final = 32 * 1024 * 1024
"""Bytes that a decompressor may look back; compressing at the highest levels can ask for more."""

_MAGICS: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x5d\0\0", "lzma"),
    (b"\x89LZO\0\r\n\x1a\n", "lzo"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_NOT_ZERO: Final = re.compile(rb"[^\0]")


class WindowError(ImageFormatError):
    """Decompressing needs more memory than is given to it."""


class Readable(Protocol):
    """A file that can be read at any place."""

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from ``offset``; fewer only at the file's end."""
        ...


class Decoder(Protocol):
    """What turns pieces of a compressed file into content."""

    @property
    def ended(self) -> bool:
        """Whether the compressed data came to their end."""
        ...

    @property
    def hungry(self) -> bool:
        """Whether more compressed data are needed to go on."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the file may end here."""
        ...

    @property
    def unused(self) -> int:
        """How many of the bytes that were fed come after the end."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Take more compressed data, which may be none, and return some content.

        :raises ValueError: they are damaged.
        """
        ...


def name_compression(begins: bytes) -> str:
    """Name a compression by its first bytes; empty if it is none that is known.

    :param begins: at least the first nine bytes.
    """
    return next((name for magic, name in _MAGICS if begins.startswith(magic)), "")


def open_compressed(compression: str, file: Readable, at: int, end: int, *, most: int) -> Decompressed | None:
    """Open compressed data.

    :param compression: as :func:`name_compression` names it.
    :param file: the file.
    :param at: where they begin.
    :param end: where they end at the latest.
    :param most: bytes that may come out.
    :returns: None for a compression that is not read.
    """
    decoder: Decoder
    if compression == "gzip":
        decoder = _Gzip()
    elif compression == "bzip2":
        decoder = _Standard(bz2.BZ2Decompressor())
    elif compression in ("xz", "lzma"):
        form = lzma.FORMAT_XZ if compression == "xz" else lzma.FORMAT_ALONE
        decoder = _Standard(lzma.LZMADecompressor(format=form, memlimit=LARGEST_WINDOW + 8 * 1024 * 1024))
    elif compression in ("lz4", "zstd"):
        from sealift.images.content.decompression_blocks import Lz4, Zstd

        decoder = Lz4() if compression == "lz4" else Zstd()
    else:
        return None
    return Decompressed(decoder, file, at, end, most=most)


class Decompressed:
    """The content of a compressed part of a file, one piece after the other.

    :param decoder: of its compression.
    :param file: the file.
    :param at: where the compressed data begin.
    :param end: where they end at the latest.
    :param most: bytes that may come out.
    """

    def __init__(self, decoder: Decoder, file: Readable, at: int, end: int, *, most: int) -> None:
        self._decoder = decoder
        self._file = file
        self._start = at
        self._at = at
        self._end = end
        self._most = most
        self._ready = b""
        self._place = 0  # up to which of it was taken
        self.given = 0
        """How many bytes came out so far."""

    def _error(self, what: str) -> ImageFormatError:
        return ImageFormatError(f"the compressed data that begin at byte {self._start} {what}", offset=self._at)

    def _more(self) -> bytes:
        """Return the next piece of content; empty at the end."""
        while not self._decoder.ended:
            data = b""
            if self._decoder.hungry:
                data = self._file.read(self._at, max(0, min(CHUNK, self._end - self._at)))
                if not data:
                    if self._decoder.complete:
                        return b""
                    raise self._error(f"end at byte {self._at} before they are complete")
                self._at += len(data)
            try:
                piece = self._decoder.feed(data)
            except WindowError:
                raise
            except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
                if "emory" in str(error):  # liblzma says so where a limit is reached
                    raise WindowError(str(error), offset=self._start) from None
                raise self._error(f"are damaged at or before byte {self._at}: {error}") from None
            self.given += len(piece)
            if self.given > self._most:
                raise self._error(f"give more than {self._most} bytes")
            if piece:
                return piece
        return b""

    def take(self, length: int) -> bytes:
        """Return the next bytes; fewer only at the end.

        :param length: number of bytes.
        :raises ImageFormatError: the data are damaged, or there are too many.
        """
        pieces = []
        while length > 0 and self._fill():
            piece = self._ready[self._place : self._place + length]
            self._place += len(piece)
            length -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _fill(self) -> bool:
        """Have something ready, and say whether there is."""
        if self._place == len(self._ready):
            self._ready, self._place = self._more(), 0
        return bool(self._ready)

    def skip(self, length: int) -> None:
        """Pass over the next bytes.

        :param length: number of bytes.
        :raises ImageFormatError: the data are damaged, or end before.
        """
        while length > 0:
            if not self._fill():
                raise self._error(f"end {length} bytes before a file in them does")
            step = min(length, len(self._ready) - self._place)
            self._place += step
            length -= step

    def skip_zeros(self) -> bool:
        """Pass over zeros, and say whether anything else comes after them.

        :raises ImageFormatError: the data are damaged.
        """
        while self._fill():
            match = _NOT_ZERO.search(self._ready, self._place)
            self._place = match.start() if match else len(self._ready)
            if match:
                return True
        return False

    def finish(self) -> int:
        """Read to the end, so that what has a checksum is compared with it.

        :returns: where the compressed data end in the file.
        :raises ImageFormatError: the data are damaged.
        """
        self._ready, self._place = b"", 0
        while self._more():
            pass
        return self._at - self._decoder.unused


class _Gzip:
    complete = False

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)

    @property
    def ended(self) -> bool:
        return self._stream.eof

    @property
    def hungry(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused(self) -> int:
        return len(self._stream.unused_data)

    def feed(self, data: bytes) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, CHUNK)


class _Standard:
    """bzip2 and lzma of the standard library, which have one interface."""

    complete = False

    def __init__(self, stream: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._stream = stream

    @property
    def ended(self) -> bool:
        return self._stream.eof

    @property
    def hungry(self) -> bool:
        return self._stream.needs_input

    @property
    def unused(self) -> int:
        return len(self._stream.unused_data)

    def feed(self, data: bytes) -> bytes:
        return self._stream.decompress(data, CHUNK)
