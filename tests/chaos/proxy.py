"""A reverse proxy on loopback that injects a plan's faults, and stands still at named points while somebody looks.

It passes bytes on as they are: an object of any size goes through in small pieces, and signatures over the host that
the client named stay good. A client's connection has one to the service of its own, so that what a server does with
connections is seen by the client::

    plan = FaultPlan(seed=7, rates={"lost_reply@classic": 0.02})
    with FaultProxy(upstream=sandbox.api_url, service="classic", plan=plan, on_point=watch) as proxy:
        client = ClassicClient(endpoint_url=proxy.url, …)

One proxy serves one service; ``/identity/token`` counts as IAM's wherever it is asked for. A service that is away drops
connections, and one that restarts is found again by the next request.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.chaos.calls import call_of
from tests.chaos.faults import CallInfo, Fault, FaultPlan
from tests.chaos.http11 import PIECE, Body, GoneError, Head, Incoming, Kept, Reader, body_of, drain, pieces, reply

Phase = Literal["arrived", "forwarded", "answered"]

log = logging.getLogger(__name__)

_READ_TO_NAME = 256 * 1024
"""So much of a request's body is read before it is named and passed on; the rest streams."""

_BEFORE: dict[str, int] = {"http_429": 429, "http_500": 500, "http_502": 502, "http_503": 503}
_AFTER: dict[str, int] = {"after_500": 500, "after_502": 502, "after_503": 503}
_JSON, _XML, _HTML = "application/json", "text/xml", "text/html"

# As the service words them: softlayer-go #75 for the rate limit; softlayer-go looks for the other two.
_RATE = (
    "Rate limit of 50 requests for every 1 second(s) exceeded.",
    "SoftLayer_Exception_WebService_RateLimitExceeded",
)
_TOKEN = (
    "The access token has expired or is not valid.",
    "SoftLayer_Exception_Account_Authentication_AccessTokenValidation",
)
_INTERNAL = ("Internal Error", "SoftLayer_Exception_Public")
_WORDED = {"rate_limit": _RATE, "expired_token": _TOKEN, "error_in_200": _INTERNAL, "after_error_in_200": _INTERNAL}


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a request stands.

    :param service: as for :class:`tests.chaos.faults.CallInfo`, which has method and target too.
    :param phase: ``arrived``: it is here and was not passed on; ``forwarded``: it was carried out and its reply was not
        passed back; ``answered``: it was. A fault may keep a request from a later phase.
    :param peer_port: the client's port, by which :func:`tests.chaos.peers.process_of` finds who asked.
    """

    service: str
    method: str
    target: str
    phase: Phase
    peer_port: int


class DroppedError(Exception):
    """The connection to the client ends here, on purpose.

    ``on_point`` may raise it as well: at ``arrived`` the request is then never carried out, whether its sender lives or
    not; at ``forwarded`` its reply is lost. Where ``on_point`` returns, a request is passed on even if its sender died
    meanwhile, as a network does.
    """


class FaultProxy:
    """Passes requests on to a service; a context manager.

    :param upstream: the service's URL, http on loopback.
    :param service: classic, cos, iam or airflow.
    :param plan: decides which faults happen.
    :param on_point: called at each point, in the connection's thread, which waits for it. What it raises ends the
        connection, and is kept in :attr:`errors`.
    :param sleep: waits for seconds, where a request is slow; in real time, and not beyond :meth:`stop`, if not given.
    :param slow_seconds: how long a slow request is held up at most.
    """

    def __init__(
        self,
        *,
        upstream: str,
        service: str,
        plan: FaultPlan,
        on_point: Callable[[Point], None] | None = None,
        sleep: Callable[[float], object] | None = None,
        slow_seconds: float = 1.0,
    ) -> None:
        parts = urlsplit(upstream)
        assert parts.scheme == "http", upstream
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = (parts.hostname, parts.port)
        self.service = service
        self.plan = plan
        self.on_point = on_point
        self.stopping = threading.Event()
        self.sleep = sleep or self.stopping.wait
        self.slow_seconds = slow_seconds
        self.errors: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._acceptor = threading.Thread(target=self._accept, name=f"proxy-{service}-accept", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._acceptor.start()

    def stop(self) -> None:
        """End all connections and threads."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._acceptor.ident is not None:
            self._acceptor.join()
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

    def connect(self) -> socket.socket:
        """Open a connection to the service, and note it.

        :raises OSError: if it is away.
        """
        made = socket.create_connection(self.upstream, timeout=5)
        made.settimeout(None)
        return self._keep(made)

    def forget(self, one: socket.socket) -> None:
        """Close a connection."""
        with self._lock:
            self._open.discard(one)
        one.close()

    def _keep(self, one: socket.socket) -> socket.socket:
        """Note a connection, so that :meth:`stop` ends it."""
        with self._lock:
            if self.stopping.is_set():
                one.close()
                raise GoneError
            self._open.add(one)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return one

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                client, peer = self._listener.accept()
            except OSError as error:
                if not self.stopping.wait(0.05):  # else the listener is closed
                    log.warning("the proxy of %s could not take a connection: %s", self.service, error)
                continue
            thread = threading.Thread(
                target=self._serve, name=f"proxy-{self.service}", args=(client, peer[1]), daemon=True
            )
            with self._lock:
                self._threads.add(thread)
            thread.start()

    def _serve(self, client: socket.socket, peer: int) -> None:
        one: _Connection | None = None
        try:
            one = _Connection(self, self._keep(client), peer)
            while one.exchange():
                pass
        except (GoneError, DroppedError, OSError):
            pass
        except BaseException as error:  # kept for whoever runs the proxy; its client must not wait
            log.exception("the proxy of %s failed", self.service)
            self.errors.append(error)
        finally:
            if one is not None:
                one.close()
            self.forget(client)
            with self._lock:
                self._threads.discard(threading.current_thread())


class _Connection:
    """One client's connection."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, peer: int) -> None:
        self._proxy = proxy
        self._client = client
        self._peer = peer
        self._reader = Reader(client)
        self._upstream: Reader | None = None
        self._kept: list[Kept] = []

    def close(self) -> None:
        """Let go of everything but the client's connection."""
        self._close_upstream()
        self._let_go()

    def exchange(self) -> bool:
        """Carry one request and its reply.

        :returns: whether the connection goes on.
        """
        head = self._reader.head()
        if head is None:
            return False
        verb, target = head.words[:2]
        body = body_of(self._reader, head)
        if head.headers.get("expect", "").lower() == "100-continue":
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = head.without("expect")
        begun = b""
        while len(begun) < _READ_TO_NAME and (piece := body.piece()):
            begun += piece
        call = call_of(self._proxy.service, verb, target, begun, head.headers)
        one = _Request(head=head, begun=begun, body=body, verb=verb, call=call)
        self._point(call, "arrived")
        fault = self._proxy.plan.decide(call)
        made = self._instead(one, fault) if fault is not None else None
        if made is not None:
            drain(body)
            self._client.sendall(made)
            self._point(call, "answered")
            return not head.ends
        answer = self._twice(one, fault) if fault is not None and fault.name == "twice" else self._forward(one)
        self._point(call, "forwarded")
        goes_on = self._back(one, answer, fault)
        self._let_go()
        self._point(call, "answered")
        return goes_on and not head.ends

    # Faults

    def _instead(self, one: _Request, fault: Fault) -> bytes | None:
        """What comes before anything is done: an answer in the service's place, or the connection's end."""
        if fault.name == "slow":
            self._proxy.sleep(self._proxy.slow_seconds * max(0.05, fault.draw))
        elif fault.name == "drop_before":
            raise DroppedError
        elif fault.name == "reset_before":
            self._reset()
        elif fault.name == "hang":
            self._hang()
        elif fault.name in _BEFORE:
            return _page(_BEFORE[fault.name], one)
        elif fault.name in ("rate_limit", "error_in_200", "expired_token"):
            return _refusal(one, fault)
        return None

    def _back(self, one: _Request, answer: _Answer, fault: Fault | None) -> bool:
        """Pass the reply back, or what a fault makes of it.

        :returns: whether the connection goes on.
        """
        name = fault.name if fault is not None else ""
        if name == "truncated_body":
            self._truncate(answer)
        if name in ("lost_reply", "reset_after", "hang_after", "empty_200", "after_error_in_200") or name in _AFTER:
            drain(answer.body)
        if name == "lost_reply":
            raise DroppedError
        if name == "reset_after":
            self._reset()
        if name == "hang_after":
            self._hang()
        made: bytes | None = None
        if name in _AFTER:
            made = _page(_AFTER[name], one)
        elif name == "empty_200":
            made = reply(200, _XML if one.xml or one.call.service == "cos" else _JSON, b"")
        elif name == "after_error_in_200" and fault is not None:
            made = _refusal(one, fault)
        if made is not None:
            self._client.sendall(made)
        else:
            self._client.sendall(answer.head.raw + answer.body.piece())
            for piece in pieces(answer.body):
                self._client.sendall(piece)
        return not answer.ends

    def _truncate(self, answer: _Answer) -> None:
        """Half a body, and then nothing. Where its length was not announced, or is nothing, the whole reply is lost."""
        length = answer.body.length
        chunk = answer.body.piece() if length is None and not answer.ends else b""
        if length or chunk:
            self._client.sendall(answer.head.raw + chunk)
        left = (length or PIECE) // 2
        while left > 0 and (piece := answer.body.piece()):
            if length or chunk:
                self._client.sendall(piece[:left] if length else piece[: len(piece) // 2])
            left -= len(piece) if length else left
        drain(answer.body)
        raise DroppedError

    def _reset(self) -> None:
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise DroppedError

    def _hang(self) -> None:
        """Say nothing until the client has gone or the proxy stops."""
        while self._client.recv(PIECE):
            pass
        raise DroppedError

    def _twice(self, one: _Request, fault: Fault) -> _Answer:
        """Deliver a request twice, one after the other, and give the first or the second reply."""
        request = self._keep(one.begun, one.body)
        answer = self._forward(_Request(head=one.head, begun=b"", body=request, verb=one.verb, call=one.call))
        # The reply to give may be large, and has to be out of the connection before the second delivery.
        kept = self._keep(b"", answer.body) if fault.draw < 0.5 else None
        drain(answer.body)
        if answer.ends:
            self._close_upstream()
        request.rewind()
        again = self._forward(_Request(head=one.head, begun=b"", body=request, verb=one.verb, call=one.call))
        if kept is None:
            return again
        drain(again.body)
        return _Answer(head=answer.head, body=kept, ends=answer.ends or again.ends)

    def _keep(self, begun: bytes, body: Body) -> Kept:
        self._kept.append(Kept(begun, body))
        return self._kept[-1]

    def _let_go(self) -> None:
        for one in self._kept:
            one.close()
        self._kept.clear()

    # The service

    def _close_upstream(self) -> None:
        """Let go of the connection to the service; the next request opens another."""
        if self._upstream is not None:
            self._proxy.forget(self._upstream.source)
            self._upstream = None

    def _forward(self, one: _Request) -> _Answer:
        """Send a request on, and read the head of its reply."""
        try:
            source = self._to_service()
            source.sendall(one.head.raw + one.begun)
            for piece in pieces(one.body):
                source.sendall(piece)
            assert self._upstream is not None
            while True:
                head = self._upstream.head()
                if head is None:
                    raise GoneError
                if head.status >= 200:
                    body = body_of(self._upstream, head, reply_to=one.verb)
                    return _Answer(head=head, body=body, ends=head.ends or body.by_end)
        except (GoneError, OSError):
            raise DroppedError from None

    def _to_service(self) -> socket.socket:
        """The connection to the service. One that has ended meanwhile is replaced: nothing was sent on it yet."""
        if self._upstream is not None:
            waiting = select.poll()
            waiting.register(self._upstream.source, select.POLLIN)
            if waiting.poll(0):
                self._close_upstream()
        if self._upstream is None:
            self._upstream = Reader(self._proxy.connect())
        return self._upstream.source

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


@dataclass(frozen=True, kw_only=True)
class _Request:
    head: Head
    begun: bytes
    body: Incoming | Kept
    verb: str
    call: CallInfo

    @property
    def xml(self) -> bool:
        """Whether it speaks XML-RPC."""
        return self.begun.lstrip()[:5] == b"<?xml" or b"<methodCall>" in self.begun[:200]


@dataclass(frozen=True, kw_only=True)
class _Answer:
    head: Head
    body: Body
    ends: bool


def _page(status: int, one: _Request) -> bytes:
    """A gateway's page."""
    body = f"<html><body><h1>{status} {HTTPStatus(status).phrase}</h1></body></html>".encode()
    return reply(status, _HTML, body, head_only=one.verb == "HEAD")


def _refusal(one: _Request, fault: Fault) -> bytes:
    """A refusal in the words of the service."""
    if one.call.service == "cos":
        # Both are told of stores: S3 has the first, and clients of IBM's met the second when their tokens grew old.
        status, code, words = (
            (400, "ExpiredToken", "The provided token has expired.")
            if fault.draw < 0.5
            else (403, "AccessDenied", "Access Denied")
        )
        text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"
        return reply(status, "application/xml", text.encode(), head_only=one.verb == "HEAD")
    if one.call.service == "iam":
        text = '{"errorCode":"BXNIM0408E","errorMessage":"Provided token is expired","context":{}}'
        return reply(400, _JSON, text.encode())
    words, code = _WORDED[fault.name]
    if one.xml:  # faults of XML-RPC come with a 200
        text = (
            "<?xml version='1.0' encoding='iso-8859-1'?><methodResponse><fault><value><struct>"
            f"<member><name>faultCode</name><value><string>{code}</string></value></member>"
            f"<member><name>faultString</name><value><string>{words}</string></value></member>"
            "</struct></value></fault></methodResponse>"
        )
        return reply(200, _XML, text.encode())
    status = 500 if fault.name in ("rate_limit", "expired_token") else 200
    return reply(status, _JSON, f'{{"error":"{words}","code":"{code}"}}'.encode())
