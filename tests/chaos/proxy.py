"""A reverse proxy on loopback that injects a plan's faults, and stands still at named points while somebody looks.

It passes bytes on as they are: an object of any size goes through in small pieces. A client's connection has one to the
service of its own, so that what a server does with connections is seen by the client.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.chaos.calls import call_of
from tests.chaos.faults import CallInfo, Fault, FaultPlan

Phase = Literal["arrived", "forwarded", "answered"]

_PIECE = 64 * 1024
_LARGEST_HEAD = 256 * 1024
_KEPT = 256 * 1024
"""So much of a request's body is read before it is named and passed on; the rest streams."""

_BEFORE: dict[str, int] = {"http_429": 429, "http_500": 500, "http_502": 502, "http_503": 503}
_AFTER: dict[str, int] = {"after_500": 500, "after_502": 502, "after_503": 503}
_JSON, _XML, _HTML = "application/json", "text/xml", "text/html"
_RATE = (
    "Rate limit of 50 requests for every 1 second(s) exceeded.",
    "SoftLayer_Exception_WebService_RateLimitExceeded",
)
_TOKEN = ("The access token has expired.", "SoftLayer_Exception_Account_Authentication_AccessTokenValidation")
_INTERNAL = ("Internal Error", "SoftLayer_Exception_Public")


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a request stands.

    :param phase: it has arrived and is not passed on; it was answered and the answer is not passed back; it was.
    :param peer_port: the client's port, by which :func:`tests.chaos.peers.process_of` finds who asked.
    """

    service: str
    method: str
    target: str
    phase: Phase
    peer_port: int


class GoneError(Exception):
    """One of the two sides is not there any more."""


class DroppedError(Exception):
    """The connection to the client ends here, on purpose."""


class FaultProxy:
    """Passes requests on to a service; a context manager.

    :param upstream: the service's URL, http on loopback.
    :param service: classic, cos, iam or airflow.
    :param plan: decides which faults happen.
    :param on_point: called at each point, in the connection's thread, which waits for it.
    :param sleep: waits for seconds, where a request is slow.
    :param slow_seconds: how long a slow request is held up at most.
    """

    def __init__(
        self,
        *,
        upstream: str,
        service: str,
        plan: FaultPlan,
        on_point: Callable[[Point], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        slow_seconds: float = 1.0,
    ) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = (parts.hostname, parts.port)
        self.service = service
        self.plan = plan
        self.on_point = on_point
        self.sleep = sleep
        self.slow_seconds = slow_seconds
        self.stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to serve."""
        self._start(self._accept, "proxy-accept")

    def stop(self) -> None:
        """End all connections and threads."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(timeout=30)
            assert not thread.is_alive(), f"{thread.name} does not end"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def keep(self, one: socket.socket) -> socket.socket:
        """Note an open socket, so that :meth:`stop` ends it."""
        with self._lock:
            if self.stopping.is_set():
                one.close()
                raise GoneError
            self._open.add(one)
        return one

    def forget(self, one: socket.socket) -> None:
        """Close a socket."""
        with self._lock:
            self._open.discard(one)
        one.close()

    def _start(self, target: Callable[..., None], name: str, *args: object) -> None:
        thread = threading.Thread(target=target, name=name, args=args, daemon=True)
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                client, peer = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, f"proxy-{self.service}", client, peer[1])

    def _serve(self, client: socket.socket, peer: int) -> None:
        with contextlib.suppress(GoneError, DroppedError, OSError):
            self.keep(client)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one = _Connection(self, client, peer)
            try:
                while one.exchange():
                    pass
            finally:
                one.close()
        self.forget(client)


@dataclass
class _Reader:
    """Reads heads and bodies off a socket; what came too early is kept."""

    source: socket.socket
    buffer: bytes = b""

    def more(self) -> bytes:
        piece = self.source.recv(_PIECE)
        if not piece:
            raise GoneError
        return piece

    def head(self) -> bytes | None:
        """Read up to the empty line, with it; None where nothing more comes."""
        while b"\r\n\r\n" not in self.buffer:
            try:
                self.buffer += self.more()
            except GoneError:
                if self.buffer:
                    raise
                return None
            if len(self.buffer) > _LARGEST_HEAD:
                raise GoneError
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def take(self, most: int) -> bytes:
        if not self.buffer:
            self.buffer = self.more()
        piece, self.buffer = self.buffer[:most], self.buffer[most:]
        return piece

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self.buffer += self.more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line + b"\r\n"


@dataclass
class _Body:
    """A body that is read in pieces, in the very bytes in which it came."""

    reader: _Reader
    left: int | None = 0
    chunked: bool = False
    ended: bool = field(default=False)

    def piece(self) -> bytes:
        """Read on; empty at the end."""
        if self.ended:
            return b""
        if self.chunked:
            return self._chunk()
        if self.left is None:  # up to the end of the connection
            try:
                return self.reader.take(_PIECE)
            except GoneError:
                self.ended = True
                return b""
        if self.left == 0:
            self.ended = True
            return b""
        piece = self.reader.take(min(self.left, _PIECE))
        self.left -= len(piece)
        return piece

    def _chunk(self) -> bytes:
        line = self.reader.line()
        size = int(line.split(b";")[0], 16)
        data = line
        left = size + 2
        if size == 0:
            self.ended = True
            while (trailer := self.reader.line()) != b"\r\n":
                data += trailer
            return data + b"\r\n"
        while left:
            piece = self.reader.take(left)
            data += piece
            left -= len(piece)
        return data

    def first(self, most: int) -> bytes:
        """Read so much of it, or all."""
        data = b""
        while len(data) < most and (piece := self.piece()):
            data += piece
        return data


@dataclass
class _Message:
    """A request or a reply: its head as it came, and its body."""

    head: bytes
    body: _Body

    @property
    def start(self) -> list[str]:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    def header(self, name: str) -> str:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return ""


def _body_of(reader: _Reader, head: bytes, *, reply_to: str = "") -> _Body:
    """Find how long a body is; ``reply_to`` is the verb that a reply answers."""
    message = _Message(head, _Body(reader))
    status = int(message.start[1]) if reply_to else 0
    if reply_to == "HEAD" or status in (204, 304) or 100 <= status < 200:
        return _Body(reader)
    if message.header("transfer-encoding").lower() == "chunked":
        return _Body(reader, chunked=True)
    length = message.header("content-length")
    return _Body(reader, left=int(length) if length else (None if reply_to else 0))


class _Connection:
    """One client's connection."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, peer: int) -> None:
        self._proxy = proxy
        self._client = client
        self._peer = peer
        self._reader = _Reader(client)
        self._upstream: _Reader | None = None
        self._sent = False

    def close(self) -> None:
        if self._upstream is not None:
            self._proxy.forget(self._upstream.source)
            self._upstream = None

    def exchange(self) -> bool:
        """Carry one request and its reply.

        :returns: whether the connection goes on.
        """
        head = self._reader.head()
        if head is None:
            return False
        request = _Message(head, _body_of(self._reader, head))
        verb, target, _ = request.start
        if request.header("expect").lower() == "100-continue":
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.head = _without(head, b"expect")
        begun = request.body.first(_KEPT)
        call = call_of(self._proxy.service, verb, target, begun)
        self._point(call, "arrived")
        fault = self._proxy.plan.decide(call)
        name = fault.name if fault else ""
        self._before(request, name, fault, xml=begun.lstrip().startswith(b"<?xml"))
        again = (name == "twice" and request.body.ended) or (name == "twice" and request.body.left == 0)
        reply = self._forward(request, begun, verb)
        if again:
            second = fault is not None and fault.draw >= 0.5
            kept = self._whole(reply)
            reply = self._forward(request, begun, verb)
            if not second:
                self._whole(reply)
                self._point(call, "forwarded")
                self._client.sendall(kept)
                self._point(call, "answered")
                return True
        self._point(call, "forwarded")
        goes_on = self._after(reply, name, verb)
        self._point(call, "answered")
        closes = "close" in (request.header("connection").lower(), reply.header("connection").lower())
        if closes or reply.body.left is None:
            return False
        return goes_on

    # Faults

    def _before(self, request: _Message, name: str, fault: Fault | None, *, xml: bool) -> None:
        """What comes before anything is done; an answer of its own ends the exchange."""
        if name == "slow" and fault is not None:
            self._proxy.sleep(self._proxy.slow_seconds * max(0.05, fault.draw))
        elif name == "drop_before":
            raise DroppedError
        elif name == "reset_before":
            self._reset()
        elif name == "hang":
            self._hang()
        elif name in _BEFORE:
            self._answer(request, _BEFORE[name], _HTML, _page(_BEFORE[name]))
        elif name in ("rate_limit", "error_in_200", "expired_token"):
            self._refuse(request, name, xml=xml)

    def _refuse(self, request: _Message, name: str, *, xml: bool) -> None:
        if self._proxy.service == "cos":
            error = "<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
            self._answer(request, 400, _XML, f"<?xml version='1.0'?>{error}".encode())
        words, code = {"rate_limit": _RATE, "error_in_200": _INTERNAL, "expired_token": _TOKEN}[name]
        if xml:  # faults of XML-RPC come with a 200
            body = (
                f"<?xml version='1.0'?><methodResponse><fault><value><struct><member><name>faultCode</name><value>"
                f"<string>{code}</string></value></member><member><name>faultString</name><value><string>{words}"
                "</string></value></member></struct></value></fault></methodResponse>"
            ).encode()
            self._answer(request, 200, _XML, body)
        status = 200 if name == "error_in_200" else 500
        self._answer(request, status, _JSON, f'{{"error":"{words}","code":"{code}"}}'.encode())

    def _after(self, reply: _Message, name: str, verb: str) -> bool:
        """Pass the reply back, or what a fault makes of it."""
        if name in ("lost_reply", "reset_after", "hang_after", "empty_200") or name in _AFTER:
            self._whole(reply)
        if name == "lost_reply":
            raise DroppedError
        if name == "reset_after":
            self._reset()
        if name == "hang_after":
            self._hang()
        if name in _AFTER:
            body = _page(_AFTER[name])
            self._client.sendall(_reply(_AFTER[name], _HTML, body if verb != "HEAD" else b"", length=len(body)))
            return True
        if name == "empty_200":
            self._client.sendall(_reply(200, _JSON, b""))
            return True
        if name == "truncated_body":
            self._truncate(reply)
        self._client.sendall(reply.head)
        while piece := reply.body.piece():
            self._client.sendall(piece)
        return True

    def _truncate(self, reply: _Message) -> None:
        """Half a body, and then nothing: the length that was announced does not come."""
        whole = self._whole(reply)[len(reply.head) :]
        if whole:
            self._client.sendall(reply.head + whole[: len(whole) // 2])
        raise DroppedError

    def _reset(self) -> None:
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise DroppedError

    def _hang(self) -> None:
        """Say nothing until the client has gone."""
        while not self._proxy.stopping.is_set():
            readable, _, _ = select.select([self._client], [], [], 0.05)
            if readable:
                with contextlib.suppress(OSError):
                    if self._client.recv(_PIECE):
                        continue
                break
        raise DroppedError

    def _answer(self, request: _Message, status: int, kind: str, body: bytes) -> None:
        """Answer in the service's place, and end the connection where the request's body was not read."""
        head_only = request.start[0] == "HEAD"
        self._client.sendall(_reply(status, kind, b"" if head_only else body, length=len(body), close=True))
        with contextlib.suppress(GoneError, OSError, ValueError):
            while request.body.piece():
                pass
        raise DroppedError

    # The service

    def _forward(self, request: _Message, begun: bytes, verb: str) -> _Message:
        """Send the request on, and read the head of its reply; on a fresh connection where a kept one has died."""
        kept = self._upstream is not None
        try:
            return self._try(request, begun, verb)
        except (GoneError, OSError):
            self.close()
            if not kept or self._sent:
                raise DroppedError from None
        try:
            return self._try(request, begun, verb)
        except (GoneError, OSError):
            raise DroppedError from None

    def _try(self, request: _Message, begun: bytes, verb: str) -> _Message:
        self._sent = False
        if self._upstream is None:
            made = socket.create_connection(self._proxy.upstream, timeout=10)
            made.settimeout(None)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._upstream = _Reader(self._proxy.keep(made))
        elif select.select([self._upstream.source], [], [], 0)[0]:
            raise GoneError  # a kept connection that says something now has ended
        source = self._upstream.source
        source.sendall(request.head + begun)
        self._sent = True
        while piece := request.body.piece():
            source.sendall(piece)
        while True:
            head = self._upstream.head()
            if head is None:
                raise GoneError
            if not head.split(b" ", 2)[1].startswith(b"1"):
                return _Message(head, _body_of(self._upstream, head, reply_to=verb))

    def _whole(self, reply: _Message) -> bytes:
        data = reply.head
        while piece := reply.body.piece():
            data += piece
        return data

    def _point(self, call: CallInfo, phase: Phase) -> None:
        if self._proxy.on_point is not None:
            self._proxy.on_point(
                Point(
                    service=call.service,
                    method=call.method,
                    target=call.target,
                    phase=phase,
                    peer_port=self._peer,
                )
            )


def _without(head: bytes, name: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if line.partition(b":")[0].strip().lower() != name)


def _page(status: int) -> bytes:
    return f"<html><body><h1>{status} {HTTPStatus(status).phrase}</h1></body></html>".encode()


def _reply(status: int, kind: str, body: bytes, *, length: int | None = None, close: bool = False) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body) if length is None else length}",
        *(["Connection: close"] if close else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
