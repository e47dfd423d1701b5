"""The store's server: accepts connections on one port and gives each its own thread."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

from sealift.sandbox.faults import FaultSource
from sealift.sandbox.history import OFF, History
from sealift.sandbox.iam import Identity
from sealift.sandbox.store.http import Connection, Handler
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.service import StoreService
from sealift.sandbox.tls import TlsFiles

if TYPE_CHECKING:
    from sealift.sandbox.aspera.ats import Ats

_HANDSHAKE_SECONDS = 10.0
_JOIN_SECONDS = 5.0


class StoreServer:
    """A running server.

    :param host: an address of this machine; loopback unless somebody decided otherwise.
    :param port: 0 takes a free one.
    """

    def __init__(
        self, *, handler: Handler, host: str = "127.0.0.1", port: int = 0, tls: TlsFiles | None = None
    ) -> None:
        self._handler = handler
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(tls.cert, tls.key)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=512)
        self.port: int = self._listener.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{name}:{self.port}"
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._closed = False
        self._acceptor = threading.Thread(target=self._accept, name=f"store-{self.port}", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Stop: no new connections, present ones are cut. The store itself stays open."""
        with self._lock:
            self._closed = True
            open_now = dict(self._connections)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept; closing alone would not
        self._listener.close()
        for sock in open_now:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(_JOIN_SECONDS)
        for thread in open_now.values():
            thread.join(_JOIN_SECONDS)

    def __enter__(self) -> StoreServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if self._closed:
                    return
                continue
            thread = threading.Thread(target=self._serve, args=(sock,), name="store-connection", daemon=True)
            with self._lock:
                if self._closed:
                    sock.close()
                    return
                self._connections[sock] = thread
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        served: socket.socket = sock
        try:
            if self._tls:
                sock.settimeout(_HANDSHAKE_SECONDS)
                served = self._tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
                with self._lock:
                    self._connections[served] = self._connections.pop(sock)
            Connection(served, self._handler).serve()
        except OSError:
            pass  # a client that does not speak TLS, does not trust the certificate, or went away
        finally:
            with self._lock:
                self._connections.pop(served, None)
                self._connections.pop(sock, None)
            served.close()
            sock.close()


def serve_store(
    *,
    store: ObjectStore,
    identity: Identity,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: TlsFiles | None = None,
    faults: FaultSource | None = None,
    history: History = OFF,
    ats: Ats | None = None,
) -> StoreServer:
    """Serve a store (path-style S3) and IAM's token endpoint (``/identity/token``) in threads of this process.

    :param ats: the Aspera Transfer Service that buckets name; None names one that cannot be reached.
    :returns: the running server: ``.url``, ``.port``, ``.close()``.
    """
    service = StoreService(store=store, identity=identity, faults=faults, history=history, ats=ats)
    return StoreServer(handler=service.answer, host=host, port=port, tls=tls)
