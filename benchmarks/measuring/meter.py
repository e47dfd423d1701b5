"""Counts the calls of some callers only: a little proxy in front of the sandbox, to which just these are led.

The history tells what was called, not who called. What a triggerer asks goes through here, and is told apart by what
its clients say of themselves: the poll, on which servers wait, and the starts of captures and exports.
"""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"})


class CallMeter:
    """The proxy; a context manager.

    :param upstream: where the calls go on to.
    """

    def __init__(self, upstream: str) -> None:
        """Open nothing yet."""
        self._host = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Its own address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _count(self, user_agent: str) -> None:
        with self._lock:
            self.calls[user_agent] += 1

    def of(self, caller: str) -> int:
        """Tell how many calls a part of Sealift made: one that says so in its ``User-Agent``."""
        with self._lock:
            return sum(count for user_agent, count in self.calls.items() if f"({caller})" in user_agent)

    def __enter__(self) -> Self:
        """Serve."""
        meter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 300

            def _forward(self) -> None:
                meter._count(self.headers.get("User-Agent") or "")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                upstream = http.client.HTTPConnection(meter._host, timeout=120)
                try:
                    upstream.request(self.command, self.path, body=body or None, headers=headers)
                    reply = upstream.getresponse()
                    content = reply.read()
                finally:
                    upstream.close()
                self.send_response_only(reply.status, reply.reason)
                for name, value in reply.getheaders():
                    if name.lower() not in _HOP | {"content-length"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = _forward  # noqa: N815 - the names that http.server looks for

            def log_message(self, *args: object) -> None:
                """Say nothing of every call."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="call-meter", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
