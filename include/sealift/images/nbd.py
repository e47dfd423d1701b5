"""Serves a virtual disk, read-only, to a program on this machine that speaks NBD: QEMU, for one.

So a program can read an image that lies in a bucket, in whatever format, without a copy on disk. Only what such a
reader needs of the protocol is there: fixed newstyle negotiation (``GO``, ``INFO``, ``EXPORT_NAME``, ``LIST``,
``ABORT``) and the commands read, disconnect, flush and cache; everything that would write is refused. After the NBD
project's protocol document (doc/proto.md). The socket is a file that only its owner can open.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sealift.images.source import RangeSource

_MAGIC: Final = 0x4E42444D41474943
_OPTION: Final = 0x49484156454F5054
_OPTION_REPLY: Final = 0x3E889045565A9
_REQUEST: Final = 0x25609513
_REPLY: Final = 0x67446698

_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_EXPORT_NAME, _ABORT, _LIST, _INFO, _GO = 1, 2, 3, 6, 7
_ACK, _SERVER, _REP_INFO = 1, 2, 3
_UNSUPPORTED, _INVALID = 2**31 + 1, 2**31 + 3
_HAS_FLAGS, _READ_ONLY, _SEND_FLUSH, _MULTI_CONN, _SEND_CACHE = 1, 2, 4, 256, 1024
_FLAGS: Final = _HAS_FLAGS | _READ_ONLY | _SEND_FLUSH | _MULTI_CONN | _SEND_CACHE
_READ, _DISCONNECT, _FLUSH, _CACHE = 0, 2, 3, 5
_EPERM, _EIO, _EINVAL = 1, 5, 22

LARGEST_READ: Final = 32 * 1024 * 1024
"""Bytes of one read: what the protocol lets a client ask for at most where nothing else was agreed."""

_LARGEST_OPTION: Final = 64 * 1024


class NbdServer:
    """Serves one disk over a socket in the file system, to any number of connections, until it is closed.

    :param disk: the disk; its ``read`` is called from several threads, one for each connection.
    :param path: the socket to make; its folder should be one that nobody else can write to.
    :param failed: told of every read that failed, since QEMU tells the guest no more than that there was an error.
    """

    def __init__(self, *, disk: RangeSource, path: Path, failed: Callable[[Exception], None] | None = None) -> None:
        self.path = path
        self._disk = disk
        self._failed = failed or (lambda _error: None)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        os.chmod(self.path, 0o600)
        self._listener.listen(16)
        accepting = threading.Thread(target=self._accept, name="sealift-nbd", daemon=True)
        self._threads.append(accepting)
        accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections, and remove the socket."""
        with self._lock:
            self._closed = True
            open_now = list(self._open)
        for one in (self._listener, *open_now):
            # Closing alone would leave a thread that waits in accept() or recv() where it is.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._open.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), name="sealift-nbd", daemon=True)
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                if _Negotiation(connection, size=self._disk.size).agreed():
                    self._transmit(connection)
        except (OSError, _Gone):
            pass  # the client went away, or the server was closed
        finally:
            with self._lock:
                self._open.discard(connection)

    def _transmit(self, connection: socket.socket) -> None:
        while True:
            magic, _flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", _exactly(connection, 28))
            if magic != _REQUEST or kind == _DISCONNECT:
                return
            error, data = self._answer(kind, offset, length, connection)
            connection.sendall(struct.pack(">IIQ", _REPLY, error, cookie))
            if data:
                connection.sendall(data)

    def _answer(self, kind: int, offset: int, length: int, connection: socket.socket) -> tuple[int, bytes]:
        if kind in (_FLUSH, _CACHE):
            return 0, b""
        if kind != _READ:
            if kind == 1:  # a write brings its bytes along
                _discard(connection, length)
            return _EPERM, b""
        if not 0 < length <= LARGEST_READ or offset + length > self._disk.size:
            return _EINVAL, b""
        try:
            return 0, self._disk.read(offset, length)
        except Exception as error:  # noqa: BLE001 - told of; the guest sees a disk error, as from a broken disk
            self._failed(error)
            return _EIO, b""


class _Gone(Exception):  # noqa: N818 - the name is the event
    """The client went away in the middle of something."""


class _Negotiation:
    """What comes before the first read: which disk, and that it is read-only."""

    def __init__(self, connection: socket.socket, *, size: int) -> None:
        self._connection = connection
        self._size = size

    def agreed(self) -> bool:
        """Negotiate, and say whether the client wants to read."""
        self._connection.sendall(struct.pack(">QQH", _MAGIC, _OPTION, _FIXED_NEWSTYLE | _NO_ZEROES))
        (client,) = struct.unpack(">I", _exactly(self._connection, 4))
        while True:
            magic, option, length = struct.unpack(">QII", _exactly(self._connection, 16))
            if magic != _OPTION or length > _LARGEST_OPTION:
                return False
            _exactly(self._connection, length)  # the name of an export: there is one, whatever it is called
            if option == _EXPORT_NAME:
                self._connection.sendall(struct.pack(">QH", self._size, _FLAGS))
                if not client & _NO_ZEROES:
                    self._connection.sendall(bytes(124))
                return True
            if option == _ABORT:
                self._reply(option, _ACK)
                return False
            if option == _LIST:
                self._reply(option, _SERVER, struct.pack(">I", 0))
                self._reply(option, _ACK)
            elif option in (_INFO, _GO):
                if length < 6:
                    self._reply(option, _INVALID)
                    continue
                self._reply(option, _REP_INFO, struct.pack(">HQH", 0, self._size, _FLAGS))
                self._reply(option, _REP_INFO, struct.pack(">HIII", 3, 1, 4096, LARGEST_READ))
                self._reply(option, _ACK)
                if option == _GO:
                    return True
            else:
                self._reply(option, _UNSUPPORTED)

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self._connection.sendall(struct.pack(">QIII", _OPTION_REPLY, option, kind, len(data)) + data)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise _Gone
        data += piece
    return bytes(data)


def _discard(connection: socket.socket, length: int) -> None:
    while length > 0:
        piece = connection.recv(min(length, 65536))
        if not piece:
            raise _Gone
        length -= len(piece)
