"""A service for the proxy's own tests: it has what HTTP has, and says what it got."""

from __future__ import annotations

import hashlib
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PlainService(ThreadingHTTPServer):
    """Answers with what HTTP has; the path says with what. A request's body is told by its length and hash."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self._taken: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Handler)
        self.port: int = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, peer = super().get_request()
        self._taken.append(connection)
        return connection, peer

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
        for one in self._taken:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PlainService

    def log_message(self, *_: Any) -> None:
        pass

    def _body(self) -> str:
        digest, size = hashlib.sha256(), 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            while count := int(self.rfile.readline().split(b";")[0], 16):
                digest.update(self.rfile.read(count))
                size += count
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                piece = self.rfile.read(min(left, 64 * 1024))
                digest.update(piece)
                size += len(piece)
                left -= len(piece)
        return f"{size} {digest.hexdigest()}"

    def _serve(self) -> None:
        got = self._body()
        self.server.seen.append((self.command, self.path, got))
        path = self.path.partition("?")[0]
        if path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n")
        elif path in ("/204", "/304"):
            self.send_response(int(path[1:]))
            if path == "/304":
                self.send_header("Content-Length", "1234")  # of what it would be
            self.end_headers()
        elif path == "/by-end":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"until the end")
            self.close_connection = True
        elif path == "/early":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            self._plain(b"late")
        elif path.startswith("/large/"):
            self.send_response(200)
            self.send_header("Content-Length", str(size := int(path.removeprefix("/large/"))))
            self.end_headers()
            while size and self.command != "HEAD":
                self.wfile.write(b"z" * min(size, 256 * 1024))
                size -= min(size, 256 * 1024)
        else:
            self._plain(got.encode())

    def _plain(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names
