"""Request bodies as streams: with a length, in HTTP chunks, and in S3's own signed or unsigned chunks with trailers.

Every reader gives bytes through ``readinto``; when it gives 0, it has checked all that the request claimed of its body.
"""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO, Protocol

from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.signatures import SigningKey

_MAX_LINE = 16 * 1024
_MAX_TRAILERS = 64
_HEX = re.compile(rb"[0-9a-fA-F]{1,15}")


class Body(Protocol):
    """A body being read."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the body goes now.

        :returns: bytes read; 0 at the end.
        :raises S3Error: IncompleteBody and whatever the body's end proves wrong.
        """
        ...


class LengthBody:
    """Exactly so many bytes."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream, self.left = stream, length

    def readinto(self, buffer: memoryview) -> int:
        """See :class:`Body`."""
        if not self.left:
            return 0
        count = _readinto(self._stream, buffer[: min(len(buffer), self.left)])
        if not count:
            raise S3Error("IncompleteBody")
        self.left -= count
        return count


class ChunkedBody:
    """HTTP's ``Transfer-Encoding: chunked``; S3 has trailers only inside aws-chunked, so others are skipped."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._left, self.ended = stream, 0, False

    def readinto(self, buffer: memoryview) -> int:
        """See :class:`Body`."""
        if self.ended:
            return 0
        if not self._left:
            self._left = _chunk_size(_line(self._stream).partition(b";")[0])
            if not self._left:
                while _line(self._stream):
                    pass
                self.ended = True
                return 0
        count = _readinto(self._stream, buffer[: min(len(buffer), self._left)])
        if not count:
            raise S3Error("IncompleteBody")
        self._left -= count
        if not self._left and _line(self._stream):
            raise S3Error("IncompleteBody", "A chunk is longer than it says.")
        return count


class _Lines:
    """Gives lines and blocks of another body: the frame of aws-chunked may itself come in HTTP chunks."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._buffer = bytearray(64 * 1024)
        self._start = self._end = 0

    def _fill(self) -> bool:
        self._start, self._end = 0, self._body.readinto(memoryview(self._buffer))
        return self._end > 0

    def readinto(self, buffer: memoryview) -> int:
        if self._start < self._end:
            count = min(len(buffer), self._end - self._start)
            buffer[:count] = memoryview(self._buffer)[self._start : self._start + count]
            self._start += count
            return count
        return self._body.readinto(buffer)

    def readline(self) -> bytes:
        line = bytearray()
        while True:
            if self._start == self._end and not self._fill():
                raise S3Error("IncompleteBody")
            newline = self._buffer.find(b"\n", self._start, self._end)
            stop = self._end if newline < 0 else newline + 1
            line += self._buffer[self._start : stop]
            self._start = stop
            if len(line) > _MAX_LINE:
                raise S3Error("InvalidRequest", "A line of the chunked body is too long.")
            if newline >= 0:
                return bytes(line).rstrip(b"\r\n")


class AwsChunkedBody:
    """S3's ``aws-chunked``: chunks that may each be signed, then trailing headers that may be signed.

    :param length: the decoded length that the client announced, ``None`` if it did not.
    :param signer: checks the chunks' signatures; ``None`` for STREAMING-UNSIGNED-PAYLOAD-TRAILER.
    :param signed_trailer: whether the trailers carry a signature.
    """

    def __init__(self, body: Body, *, length: int | None, signer: SigningKey | None, with_trailer: bool) -> None:
        self._lines = _Lines(body)
        self._length, self._signer, self._with_trailer = length, signer, with_trailer
        self._previous = signer.seed if signer else ""
        self._left = 0
        self._claimed = ""
        self._sha256 = hashlib.sha256()
        self._received = 0
        self._ended = False
        self.trailers: dict[str, str] = {}

    def readinto(self, buffer: memoryview) -> int:
        """See :class:`Body`."""
        if self._ended:
            return 0
        if not self._left:
            self._open_chunk()
            if not self._left:
                self._check_chunk()
                self._end()
                return 0
        count = self._lines.readinto(buffer[: min(len(buffer), self._left)])
        if not count:
            raise S3Error("IncompleteBody")
        if self._signer:
            self._sha256.update(buffer[:count])
        self._left -= count
        self._received += count
        if not self._left:
            if self._lines.readline():
                raise S3Error("IncompleteBody", "A chunk is longer than it says.")
            self._check_chunk()
        return count

    def _open_chunk(self) -> None:
        size, _, extension = self._lines.readline().partition(b";")
        self._left = _chunk_size(size)
        self._claimed = extension.decode("latin-1").strip().removeprefix("chunk-signature=")
        self._sha256 = hashlib.sha256()

    def _check_chunk(self) -> None:
        if self._signer:
            expected = self._signer.chunk_signature(self._previous, self._sha256.hexdigest())
            if expected != self._claimed:
                raise S3Error("SignatureDoesNotMatch", "The signature of a chunk does not match.")
            self._previous = expected

    def _end(self) -> None:
        signature = None
        for _ in range(_MAX_TRAILERS):
            line = self._lines.readline().decode("latin-1")
            if not line:
                break
            name, _, value = line.partition(":")
            if name.strip().lower() == "x-amz-trailer-signature":
                signature = value.strip()
            else:
                self.trailers[name.strip().lower()] = value.strip()
        if self._signer and self._with_trailer:
            expected = self._signer.trailer_signature(self._previous, sorted(self.trailers.items()))
            if signature != expected:
                raise S3Error("SignatureDoesNotMatch", "The signature of the trailing headers does not match.")
        if self._length is not None and self._received != self._length:
            raise S3Error("IncompleteBody")
        if self._lines.readinto(memoryview(bytearray(1))):
            raise S3Error("IncompleteBody", "There are bytes behind the last chunk.")
        self._ended = True


class HashedBody:
    """A body whose SHA-256 the request was signed with."""

    def __init__(self, body: Body, sha256: str) -> None:
        self._body, self._expected, self._sha256, self._ended = body, sha256.lower(), hashlib.sha256(), False

    def readinto(self, buffer: memoryview) -> int:
        """See :class:`Body`."""
        if self._ended:
            return 0
        count = self._body.readinto(buffer)
        if count:
            self._sha256.update(buffer[:count])
        else:
            if self._sha256.hexdigest() != self._expected:
                raise S3Error("XAmzContentSHA256Mismatch")
            self._ended = True
        return count


def _chunk_size(text: bytes) -> int:
    text = text.strip()
    if not _HEX.fullmatch(text):
        raise S3Error("InvalidRequest", "The size of a chunk cannot be read.")
    return int(text, 16)


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(_MAX_LINE)
    if not line.endswith(b"\n"):
        raise S3Error("IncompleteBody")
    return line.rstrip(b"\r\n")


def _readinto(stream: BinaryIO, buffer: memoryview) -> int:
    return stream.readinto1(buffer)  # type: ignore[attr-defined,no-any-return]  # only BufferedReader has it
