"""Sockets without a network: what the clients under test write goes to the sandbox's own request handlers.

The clients' HTTP code stays as it is, down to ``http.client``: only the function that would open a TCP connection is
replaced. On the other side the sandbox's handlers read a request from memory and write their reply to memory. So a call
costs no thread, no port and no system call, and happens at exactly one moment.
"""

from __future__ import annotations

import io
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

CLASSIC_PORT: Final = 1001
COS_PORT: Final = 1002
"""Ports that nothing listens on: they only tell the two services apart."""


class Exchange(Protocol):
    """Carries one request out and gives the reply's bytes, or raises what a socket would."""

    def __call__(self, port: int, request: bytes, timeout: float | None, /) -> bytes: ...


class ClientSocket:
    """What the client takes for a TCP connection.

    :param port: which service it leads to.
    :param exchange: carries requests out.
    """

    def __init__(self, port: int, exchange: Exchange) -> None:
        self._port = port
        # urllib3 registers a pool's connections for the process's end: they must not keep a whole scenario alive.
        self._exchange = weakref.ref(exchange)
        self._sent = bytearray()
        self._timeout: float | None = None
        self.broken = False

    def sendall(self, data: Any, flags: int = 0) -> None:
        if self.broken:
            raise BrokenPipeError(32, "Broken pipe")
        self._sent += data

    def makefile(self, mode: str = "rb", *args: Any, **kwargs: Any) -> io.BufferedReader:
        request, self._sent = bytes(self._sent), bytearray()
        exchange = self._exchange()
        try:
            reply = b"" if exchange is None else exchange(self._port, request, self._timeout)
        except BaseException:
            self.broken = True
            raise
        if not reply:
            self.broken = True
        return io.BufferedReader(io.BytesIO(reply))  # type: ignore[arg-type]

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    def setsockopt(self, *args: Any) -> None:
        """Nothing to set."""

    def shutdown(self, how: int) -> None:
        self.broken = True

    def close(self) -> None:
        self.broken = True


class ServerSocket:
    """What a request handler of the sandbox takes for a TCP connection: one request in, a reply out.

    :param request: everything that the client sent.
    """

    timeout = None

    def __init__(self, request: bytes) -> None:
        self._in = io.BytesIO(request)
        self.reply = bytearray()

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        return self._in.readinto(buffer)

    def makefile(self, mode: str, buffering: int = -1) -> Any:
        return io.BufferedReader(self._in) if "r" in mode else _Writer(self)  # type: ignore[arg-type]

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.reply += data

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        data = os.pread(file.fileno(), count or 0, offset)
        self.reply += data
        return len(data)

    def settimeout(self, seconds: float | None) -> None:
        """Nothing waits."""

    def setsockopt(self, *args: Any) -> None:
        """Nothing to set."""

    def shutdown(self, how: int) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    def _decref_socketios(self) -> None:
        """Called by ``socket.SocketIO`` when it is closed."""


class _Writer(io.RawIOBase):
    def __init__(self, sock: ServerSocket) -> None:
        self._sock = sock

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._sock.reply += data
        return len(data)


_exchange: Exchange | None = None


def install() -> None:
    """Have urllib3 and ``http.client``, which the clients use, open such connections in this process, for good."""
    import urllib3.connection
    import urllib3.util.connection

    from sealift.cos import direct

    def create_connection(address: tuple[str, int], *args: Any, **kwargs: Any) -> Any:
        if _exchange is None:
            raise ConnectionRefusedError(111, "Connection refused: no scenario runs")
        connect: Callable[[int], None] | None = getattr(_exchange, "connect", None)
        if connect is not None:
            connect(address[1])
        return ClientSocket(address[1], _exchange)

    def wait_for_read(sock: Any, timeout: float | None = None) -> bool:
        return bool(sock.broken)

    urllib3.util.connection.create_connection = create_connection  # type: ignore[assignment]
    urllib3.connection.wait_for_read = wait_for_read  # type: ignore[assignment]
    socket.create_connection = create_connection
    direct._has_something_to_say = lambda connection: wait_for_read(connection.sock)
    # Anything else that wants a connection is a mistake of the simulator.
    socket.socket.connect = _refuse  # type: ignore[method-assign,assignment]


def _refuse(self: socket.socket, address: Any) -> None:
    if self.family == socket.AF_UNIX:
        _connect(self, address)
        return
    raise AssertionError(f"a simulated process opened a real connection to {address}")


_connect = socket.socket.connect


def lead_to(exchange: Exchange | None) -> None:
    """Say what carries out requests from now on."""
    global _exchange  # noqa: PLW0603 - one scenario at a time has this process's network
    _exchange = exchange
