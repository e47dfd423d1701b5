"""The sandbox's object store over HTTP and TLS, clients with both kinds of key, and a scripted fake for odd stores."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sealift.cos.client import CosClient
from sealift.sandbox.faults import Faults
from sealift.sandbox.iam import Identity
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.server import StoreServer, serve_store
from sealift.sandbox.tls import TlsFiles, make_tls

INSTANCE = "crn:v1:bluemix:public:cloud-object-storage:global:a/1:instance-1::"
KEYS = {
    "manager": "PLANTED-manager-key",
    "writer": "PLANTED-writer-key",
    "reader": "PLANTED-reader-key",
    "stranger": "PLANTED-stranger-key",
    "unknown": "PLANTED-unknown-key",
}
HMAC = {"access_key_id": "PLANTEDACCESSKEYID", "secret_access_key": "PLANTED-hmac-secret"}


@dataclass
class Store:
    """A running store and what tests need to know of it."""

    objects: ObjectStore
    server: StoreServer
    faults: Faults
    identity: Identity
    sleeps: list[float] = field(default_factory=list)
    made: list[CosClient] = field(default_factory=list)
    ca: str | None = None

    def client(self, who: str = "manager", **settings: Any) -> CosClient:
        """A client with an API key of this role, or with the HMAC key."""
        keys: dict[str, Any] = HMAC if who == "hmac" else {"api_key": KEYS.get(who, who)}
        given: dict[str, Any] = {
            "region": "us-south",
            "endpoint_url": self.server.url,
            "iam_endpoint": f"{self.server.url}/identity/token",
            "service_instance_id": INSTANCE,
            "timeout": 20.0,
            "sleep": self.sleeps.append,
            "rng": random.Random(7),
            "verify": self.ca or True,
        }
        client = CosClient(**(given | keys | settings))
        self.made.append(client)
        return client


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"))


def _store(root: Path, *, tls: TlsFiles | None) -> Iterator[Store]:
    objects = ObjectStore(root=root / "store")
    faults = Faults()
    identity = Identity(path=root / "iam.json", faults=faults)
    identity.add_api_key(key=KEYS["manager"], name="manager", roles={"*": "Manager"})
    identity.add_api_key(key=KEYS["writer"], name="writer", roles={"exports": "Writer"})
    identity.add_api_key(key=KEYS["reader"], name="reader", roles={"*": "Reader"})
    identity.add_api_key(key=KEYS["stranger"], name="stranger", roles={})
    identity.add_hmac(**HMAC, roles={"*": "Manager"})
    objects.create_bucket("exports", location_constraint="us-south-standard", service_instance=INSTANCE)
    objects.create_bucket("elsewhere", location_constraint="eu-de-smart", service_instance=INSTANCE)
    server = serve_store(store=objects, identity=identity, tls=tls, faults=faults)
    store = Store(objects=objects, server=server, faults=faults, identity=identity, ca=str(tls.ca) if tls else None)
    yield store
    for client in store.made:
        client.close()
    server.close()
    objects.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The store over HTTP."""
    yield from _store(tmp_path, tls=None)


@pytest.fixture
def tls_store(tmp_path: Path, tls_files: TlsFiles) -> Iterator[Store]:
    """The store over TLS."""
    yield from _store(tmp_path, tls=tls_files)


@pytest.fixture(params=["http", "tls"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, tls_files: TlsFiles) -> Iterator[Store]:
    """The store over HTTP and over TLS: the SDK sends bodies differently."""
    yield from _store(tmp_path, tls=tls_files if request.param == "tls" else None)


@pytest.fixture(params=["manager", "hmac"])
def key_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Reply:
    """What the fake answers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    truncate: bool = False


@dataclass
class Request:
    """What the fake was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int] = ("", 0)


class Fake:
    """An HTTP server that answers as a function says; for what the sandbox's store never does."""

    Reply = Reply

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.respond: Callable[[Request], Reply] = lambda _: Reply(status=500)
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path, dict(self.headers), body, self.client_address)
                fake.seen.append(request)
                reply = fake.respond(request)
                if reply.close:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(reply.status)
                for name, value in ({"Content-Length": str(len(reply.body))} | reply.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body[: len(reply.body) // 2] if reply.truncate else reply.body)
                if reply.truncate:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.sleeps: list[float] = []

    def client(self, **settings: Any) -> CosClient:
        given: dict[str, Any] = {
            "region": "us-south",
            "endpoint_url": self.url,
            "timeout": 10.0,
            "sleep": self.sleeps.append,
            "rng": random.Random(7),
        }
        return CosClient(**(given | (settings if "api_key" in settings else HMAC | settings)))

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.stop()
