"""A small threaded HTTP server: what the Classic API, IAM and the admin endpoint share."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sealift.sandbox.classic.values import whole
from sealift.sandbox.tls import TlsFiles

_log = logging.getLogger(__name__)
_LONGEST_BODY = 16 * 2**20
_IDLE_SECONDS = 120.0
_VERBS = frozenset({"do_GET", "do_POST", "do_PUT", "do_DELETE", "do_HEAD"})


@dataclass(kw_only=True)
class Request:
    """A request as it came in; the body is read already.

    :param path: without the query, percent signs decoded.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes
    local: bool

    def first(self, name: str) -> str | None:
        """:returns: the first value of a query parameter, or None."""
        values = self.query.get(name)
        return values[0] if values else None


@dataclass(kw_only=True)
class Response:
    """A response; ``drop`` closes the connection in its place."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop: bool = False


Answer = Callable[[Request], Response]


class WebServer:
    """Serves from a background thread until closed.

    :param host: the address to listen on.
    :param port: the port; 0 takes a free one.
    :param answer: makes the response to each request, in a thread of the connection's own.
    :param tls: certificate and key, for https.
    """

    def __init__(self, *, host: str, port: int, answer: Answer, tls: TlsFiles | None = None) -> None:
        self._server = _Server((host, port), answer, tls)
        self.port = int(self._server.server_address[1])
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="sandbox-api", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end all connections, those kept alive too."""
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], answer: Answer, tls: TlsFiles | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.answer = answer
        self._context: ssl.SSLContext | None = None
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(tls.cert, tls.key)
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, peer = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:  # the handshake waits for the connection's own thread
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._guard:
            self._open.add(connection)
        return connection, peer

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        _log.debug("connection from %s ended badly", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Apache"
    sys_version = ""
    timeout = _IDLE_SECONDS
    wbufsize = -1  # header and body leave together

    server: _Server

    def _serve(self) -> None:
        length = whole(self.headers.get("Content-Length", "0"))
        if self.headers.get("Transfer-Encoding") or length is None or length > _LONGEST_BODY:
            self.close_connection = True
            self._send(Response(status=HTTPStatus.LENGTH_REQUIRED))
            return
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=self.headers,
            body=self.rfile.read(length),
            local=ipaddress.ip_address(self.client_address[0].partition("%")[0]).is_loopback,
        )
        try:
            response = self.server.answer(request)
        except Exception:  # noqa: BLE001 - a fault of the sandbox must reach its log and the client, not end the thread
            _log.exception("%s %s failed inside the sandbox", self.command, parts.path)
            response = Response(status=HTTPStatus.NOT_IMPLEMENTED, body=b'{"error": "the sandbox itself failed"}')
        if response.drop:
            self.close_connection = True
            return
        self._send(response)

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def __getattr__(self, name: str) -> Any:
        """Every verb is served alike; the base class looks for ``do_<verb>``."""
        if name in _VERBS:
            return self._serve
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        _log.debug(format, *args)
