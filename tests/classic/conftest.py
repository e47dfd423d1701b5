"""A scripted Classic API: a real HTTP server that speaks recorded shapes over REST or XML-RPC, fault by fault."""

from __future__ import annotations

import json
import random
import socket
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sealift.classic.client import ClassicClient
from sealift.classic.limiter import Limiter

API_KEY = "PLANTED-classic/key+1=é"
USERNAME = "SL123456"


@dataclass
class Seen:
    """A request as the server understood it, the same for both transports."""

    service: str
    method: str
    identifier: int | None
    args: list[Any]
    mask: str | None
    filter: dict[str, Any] | None
    limit: int | None
    offset: int
    http_method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What the server does with a request."""

    value: Any = None
    total: int | None = None
    error: str | None = None
    code: str | None = None
    status: int | None = None
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    truncate: bool = False
    hang: bool = False


def ok(value: Any, *, total: int | None = None) -> Answer:
    return Answer(value=value, total=total)


def fault(error: str, code: str | None = None, *, status: int = 500) -> Answer:
    """An error as each transport carries it: REST by status and JSON, XML-RPC by a fault in an HTTP 200."""
    return Answer(error=error, code=code, status=status)


class ScriptedApi:
    """Answers requests from a list, or from a function; the last answer repeats."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.seen: list[Seen] = []
        self.script: list[Answer] = []
        self.respond: Callable[[Seen], Answer] | None = None
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    Answer = Answer
    ok = staticmethod(ok)
    fault = staticmethod(fault)

    def answers(self, *script: Answer) -> None:
        self.script = list(script)

    def next_answer(self, seen: Seen) -> Answer:
        with self._lock:
            self.seen.append(seen)
            if self.respond is None:
                return self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return self.respond(seen)

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def encode(self, answer: Answer) -> tuple[int, bytes]:
        if answer.raw is not None:
            return answer.status or 200, answer.raw
        if self.transport == "rest":
            if answer.error is None:
                return answer.status or 200, json.dumps(answer.value).encode()
            body = {"error": answer.error} | ({"code": answer.code} if answer.code else {})
            return answer.status or 500, json.dumps(body).encode()
        if answer.error is None:
            body = xmlrpc.client.dumps((answer.value,), methodresponse=True, allow_none=True)
        else:
            code: Any = answer.code or "SoftLayer_Exception"
            body = xmlrpc.client.dumps(xmlrpc.client.Fault(code, answer.error))
        return 200, body.encode()


def _understand(api: ScriptedApi, handler: BaseHTTPRequestHandler, body: bytes) -> Seen:
    parts = urlsplit(handler.path)
    common: dict[str, Any] = {
        "http_method": handler.command,
        "path": handler.path,
        "headers": dict(handler.headers),
        "body": body,
    }
    if api.transport == "rest":
        steps = parts.path.removeprefix("/rest/v3.1/").removesuffix(".json").split("/")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        offset, limit = (int(one) for one in query.get("resultLimit", "0,0").split(","))
        return Seen(
            service=steps[0],
            method=steps[-1],
            identifier=int(steps[1]) if len(steps) == 3 else None,
            args=json.loads(body)["parameters"] if body else [],
            mask=query.get("objectMask"),
            filter=json.loads(query["objectFilter"]) if "objectFilter" in query else None,
            limit=limit or None,
            offset=offset,
            **common,
        )
    params, method = xmlrpc.client.loads(body)
    service = parts.path.rsplit("/", 1)[-1]
    headers = params[0]["headers"]
    limits = headers.get("resultLimit", {})
    return Seen(
        service=service,
        method=str(method),
        identifier=headers.get(f"{service}InitParameters", {}).get("id"),
        args=list(params[1:]),
        mask=headers.get("SoftLayer_ObjectMask", {}).get("mask"),
        filter=headers.get(f"{service}ObjectFilter"),
        limit=limits.get("limit"),
        offset=limits.get("offset", 0),
        **common,
    )


def _handler(api: ScriptedApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = api.next_answer(_understand(api, self, body))
            if answer.hang:
                api.released.wait(timeout=30)
            if answer.close or answer.hang:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, data = api.encode(answer)
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if api.transport == "rest" else "text/xml")
            self.send_header("Content-Length", str(len(data)))
            if answer.total is not None:
                self.send_header("SoftLayer-Total-Items", str(answer.total))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if answer.truncate:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - http.server's names

    return Handler


@pytest.fixture(params=["xmlrpc", "rest"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def api(transport: str) -> Iterator[ScriptedApi]:
    server = ScriptedApi(transport)
    yield server
    server.stop()


@pytest.fixture
def secret() -> str:
    """The client's key, to be found nowhere."""
    return API_KEY


@pytest.fixture
def sleeps() -> list[float]:
    """The pauses that the client made instead of waiting."""
    return []


@pytest.fixture
def make_client(api: ScriptedApi, sleeps: list[float]) -> Iterator[Callable[..., ClassicClient]]:
    made: list[ClassicClient] = []

    def make(**settings: Any) -> ClassicClient:
        given: dict[str, Any] = {
            "username": USERNAME,
            "api_key": API_KEY,
            "endpoint_url": api.url,
            "transport": api.transport,
            "timeout": 10.0,
            "sleep": sleeps.append,
            "rng": random.Random(7),
            "limiter": Limiter(rate=49, sleep=lambda _: None),
        }
        client = ClassicClient(**(given | settings))
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., ClassicClient]) -> ClassicClient:
    return make_client()
