"""HTTP/1.1 as far as a proxy needs it: heads and bodies off a socket, in the very bytes in which they came."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from functools import cached_property
from http import HTTPStatus
from typing import IO, Protocol

PIECE = 64 * 1024
_LARGEST_HEAD = 256 * 1024
_IN_MEMORY = 1024 * 1024


class GoneError(Exception):
    """One of the two sides is not there any more, or does not speak HTTP."""


class Reader:
    """Reads a socket; what came too early is kept."""

    def __init__(self, source: socket.socket) -> None:
        self.source = source
        self._early = b""

    def _more(self) -> bytes:
        piece = self.source.recv(PIECE)
        if not piece:
            raise GoneError
        return piece

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._early:
            if len(self._early) > _LARGEST_HEAD:
                raise GoneError
            self._early += self._more()
        found, _, self._early = self._early.partition(mark)
        return found + mark

    def head(self) -> Head | None:
        """Read a message's head; None where the other side has ended between two messages."""
        if not self._early:
            try:
                self._early = self._more()
            except GoneError:
                return None
        return Head(self._until(b"\r\n\r\n"))

    def line(self) -> bytes:
        """Read a line, with its end."""
        return self._until(b"\r\n")

    def take(self, most: int) -> bytes:
        """Read what is there, at most so much."""
        if not self._early:
            self._early = self._more()
        piece, self._early = self._early[:most], self._early[most:]
        return piece


class Head:
    """The first line and the headers of a message.

    :param raw: the bytes, with the empty line.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @cached_property
    def _lines(self) -> list[str]:
        return self.raw.decode("latin-1").split("\r\n")

    @cached_property
    def words(self) -> list[str]:
        """The first line's three parts."""
        words = self._lines[0].split(" ", 2)
        if len(words) < 2 or "HTTP/1." not in (words[0][:7], words[-1][:7]):
            raise GoneError
        return words

    @property
    def status(self) -> int:
        """A reply's status."""
        if not self.words[1].isdigit():
            raise GoneError
        return int(self.words[1])

    @cached_property
    def headers(self) -> dict[str, str]:
        """The headers by their names in lower case; the last of a name holds."""
        pairs = (line.partition(":") for line in self._lines[1:] if ":" in line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    @property
    def ends(self) -> bool:
        """Whether the connection ends with this message."""
        said = self.headers.get("connection", "").lower()
        old = "HTTP/1.0" in (self.words[0], self.words[-1])
        return "close" in said or (old and "keep-alive" not in said)

    def without(self, name: str) -> Head:
        """The head without a header."""
        kept = [line for line in self._lines if line.partition(":")[0].strip().lower() != name]
        return Head("\r\n".join(kept).encode("latin-1"))


class Body(Protocol):
    """A body in pieces."""

    length: int | None
    """As announced; None where only its end tells."""

    def piece(self) -> bytes:
        """Read on; empty at the end."""
        ...


class Incoming:
    """A body that still comes.

    :param length: as announced; None where the connection's end is the body's.
    :param chunked: whether it comes in chunks, which are passed on with their frames.
    """

    def __init__(self, reader: Reader, *, length: int | None = 0, chunked: bool = False) -> None:
        self._reader = reader
        self._chunked = chunked
        self.length = None if chunked else length
        self.by_end = length is None and not chunked
        self._left = 0 if length is None else length
        self.ended = not chunked and length == 0

    def piece(self) -> bytes:
        """Read on; empty at the end."""
        if self.ended:
            return b""
        if self.by_end:
            try:
                return self._reader.take(PIECE)
            except GoneError:
                self.ended = True
                return b""
        if self._chunked and self._left == 0:
            return self._frame()
        piece = self._reader.take(min(self._left, PIECE))
        self._left -= len(piece)
        self.ended = not self._chunked and self._left == 0
        return piece

    def _frame(self) -> bytes:
        """A chunk's first line; the last chunk with all that follows it."""
        line = self._reader.line()
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise GoneError from None
        if size:
            self._left = size + 2
            return line
        self.ended = True
        while (trailer := self._reader.line()) != b"\r\n":
            line += trailer
        return line + b"\r\n"


class Kept:
    """A body that was read whole, and can be read again and again; large ones lie in a file.

    :param begun: what was read already.
    :param body: where the rest comes from.
    """

    def __init__(self, begun: bytes, body: Body) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by close
        self._file.write(begun)
        for piece in pieces(body):
            self._file.write(piece)
        self.length: int | None = self._file.tell() if body.length is not None else None
        self.rewind()

    def rewind(self) -> None:
        """Begin again."""
        self._file.seek(0)

    def piece(self) -> bytes:
        """Read on; empty at the end."""
        return self._file.read(PIECE)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def pieces(body: Body) -> Iterator[bytes]:
    """The pieces that are left of a body."""
    while piece := body.piece():
        yield piece


def drain(body: Body) -> None:
    """Read a body to its end."""
    for _ in pieces(body):
        pass


def body_of(reader: Reader, head: Head, *, reply_to: str = "") -> Incoming:
    """The body that follows a head.

    :param reply_to: the verb that a reply answers; empty for a request.
    """
    status = head.status if reply_to else 0
    if reply_to == "HEAD" or status in (204, 304) or 100 <= status < 200:
        return Incoming(reader)
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        return Incoming(reader, chunked=True, length=None)
    length = head.headers.get("content-length")
    if length is None:
        return Incoming(reader, length=None if reply_to else 0)
    if not length.isdigit():
        raise GoneError
    return Incoming(reader, length=int(length))


def reply(status: int, kind: str, body: bytes, *, head_only: bool = False) -> bytes:
    """A whole reply."""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)
