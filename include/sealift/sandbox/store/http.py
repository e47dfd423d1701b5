"""HTTP/1.1 as far as an object store needs it: one connection per thread, streamed bodies, sendfile for answers.

The standard library's request handler keeps headers in an email parser and bodies out of reach of sendfile with limits,
``Expect: 100-continue`` that waits until somebody wants the body, and trailers. This does.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_plus, unquote_to_bytes

from sealift.sandbox.store.blobs import BUFFER
from sealift.sandbox.store.bodies import Body, ChunkedBody, LengthBody
from sealift.sandbox.store.errors import S3Error

_MAX_LINE = 64 * 1024
_MAX_HEADERS = 200
_IDLE_SECONDS = 120.0
_LINGER_SECONDS = 5.0
_LINGER_BYTES = 64 * 2**20


class BadRequest(Exception):  # noqa: N818 - named as the HTTP status is
    """Bytes that are no HTTP request."""


@dataclass(slots=True, kw_only=True)
class Request:
    """A request whose body is not read yet.

    :param headers: by lower-case name; several of a name joined by commas.
    :param query: decoded; the first of several of a name.
    """

    method: str
    target: str
    raw_path: str
    raw_query: str
    headers: dict[str, str]
    query: dict[str, str]
    body: Body

    @property
    def path(self) -> str:
        """The decoded path.

        :raises S3Error: InvalidURI where it is no UTF-8.
        """
        try:
            path = unquote_to_bytes(self.raw_path.encode("latin-1")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise S3Error("InvalidURI") from error
        if "\x00" in path:
            raise S3Error("InvalidURI")
        return path


@dataclass(slots=True, kw_only=True)
class Response:
    """An answer: bytes, or a range of a file.

    :param file: opened already, so that it stays readable when the object goes; closed after sending.
    :param length: what Content-Length says; for HEAD it may differ from the bytes sent.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: BinaryIO | None = None
    offset: int = 0
    length: int | None = None
    drop: bool = False


Handler = Callable[[Request], Response]


def open_file(path: Path) -> BinaryIO:
    """Open a file for sending."""
    return path.open("rb", buffering=0)


class _ContinueBody:
    """Asks for the body (``100 Continue``) when somebody begins to read it."""

    def __init__(self, body: Body, ask: Callable[[], None]) -> None:
        self._body, self._ask, self.asked = body, ask, False

    def readinto(self, buffer: memoryview) -> int:
        if not self.asked:
            self.asked = True
            self._ask()
        return self._body.readinto(buffer)


class Connection:
    """Serves the requests of one client connection, one after the other."""

    def __init__(self, sock: socket.socket, handler: Handler) -> None:
        self._socket, self._handler = sock, handler
        sock.settimeout(_IDLE_SECONDS)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = io.BufferedReader(socket.SocketIO(sock, "r"), 64 * 1024)

    def serve(self) -> None:
        """Serve until the client goes, asks to close, or breaks the protocol."""
        try:
            while self._serve_one():
                pass
        except (OSError, ValueError):
            return  # the client went away, or the server is closing the socket under this thread

    def _serve_one(self) -> bool:
        try:
            request = self._read_head()
        except BadRequest as error:
            self._send(Response(status=400, body=str(error).encode(), headers={"Connection": "close"}), head_only=False)
            return False
        if request is None:
            return False
        raw = request.body
        waiting: _ContinueBody | None = None
        if request.headers.get("expect", "").lower() == "100-continue":
            waiting = _ContinueBody(raw, lambda: self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n"))
            request.body = waiting
        keep = request.headers.get("connection", "").lower() != "close"
        response = self._handler(request)
        if response.drop:
            if response.file:
                response.file.close()
            return False
        unread = _unread(raw)
        if unread or (waiting and not waiting.asked):
            # Even where the body would be empty: botocore, answered without 100 Continue, reads the connection's next
            # answer wrongly and waits until its timeout.
            keep = False
        if not keep:
            response.headers["Connection"] = "close"
        self._send(response, head_only=request.method == "HEAD")
        if unread:
            self._linger()
        return keep

    def _read_head(self) -> Request | None:
        line = self._stream.readline(_MAX_LINE)
        while line in (b"\r\n", b"\n"):
            line = self._stream.readline(_MAX_LINE)
        if not line:
            return None
        pieces = line.decode("latin-1").split()
        if len(pieces) != 3 or not pieces[2].startswith("HTTP/1."):
            raise BadRequest("the request line cannot be read")
        headers = self._read_headers()
        method, target, version = pieces
        if version == "HTTP/1.0":
            headers.setdefault("connection", "close")
        if "://" in target.partition("?")[0]:
            target = "/" + target.partition("://")[2].partition("/")[2]
        raw_path, _, raw_query = target.partition("?")
        return Request(
            method=method, target=target, raw_path=raw_path, raw_query=raw_query, headers=headers,
            query=_parse_query(raw_query), body=self._body(headers),
        )  # fmt: skip

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(_MAX_HEADERS):
            line = self._stream.readline(_MAX_LINE)
            if line in (b"\r\n", b"\n"):
                return headers
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not line.endswith(b"\n") or name != name.strip():
                raise BadRequest("a header line cannot be read")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        raise BadRequest("there are too many headers")

    def _body(self, headers: Mapping[str, str]) -> Body:
        coding = headers.get("transfer-encoding", "").lower()
        if coding:
            if coding != "chunked" or "content-length" in headers:
                raise BadRequest("the transfer encoding is not supported")
            return ChunkedBody(self._stream)
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise BadRequest("the content length is no number")
        return LengthBody(self._stream, int(length))

    def _send(self, response: Response, *, head_only: bool) -> None:
        length = response.length if response.length is not None else len(response.body)
        bodiless = response.status in (204, 304)
        lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        if not bodiless:
            lines.append(f"Content-Length: {length}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        try:
            if head_only or bodiless:
                self._socket.sendall(head)
            elif response.file is None:
                self._socket.sendall(head + response.body)
            else:
                self._socket.sendall(head)
                self._send_file(response.file, response.offset, length)
        finally:
            if response.file:
                response.file.close()

    def _send_file(self, file: BinaryIO, offset: int, length: int) -> None:
        if not length:
            return
        if not isinstance(self._socket, ssl.SSLSocket):
            if self._socket.sendfile(file, offset, length) != length:
                raise OSError("the stored file is shorter than its record says")
            return
        buffer = memoryview(bytearray(BUFFER))
        while length:
            count = os.preadv(file.fileno(), [buffer[: min(length, BUFFER)]], offset)
            if not count:
                raise OSError("the stored file is shorter than its record says")
            self._socket.sendall(buffer[:count])
            offset += count
            length -= count

    def _linger(self) -> None:
        """Take what the client still sends for a moment: closing at once would reset the answer away."""
        deadline, left, buffer = time.monotonic() + _LINGER_SECONDS, _LINGER_BYTES, memoryview(bytearray(BUFFER))
        if not isinstance(self._socket, ssl.SSLSocket):
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.settimeout(1.0)
        while left > 0 and time.monotonic() < deadline:
            count = self._socket.recv_into(buffer)
            if not count:
                return
            left -= count


def _unread(body: Body) -> bool:
    """Tell whether a body has bytes left, reading on where few are: that keeps the connection."""
    if isinstance(body, LengthBody) and body.left == 0:
        return False
    if isinstance(body, ChunkedBody):
        return not body.ended
    return True


def _parse_query(raw: str) -> dict[str, str]:
    query: dict[str, str] = {}
    for piece in raw.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            query.setdefault(unquote_plus(name), unquote_plus(value))
    return query


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
