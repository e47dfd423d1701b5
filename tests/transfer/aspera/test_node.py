"""The node API's one call: what is asked, and what is made of every kind of answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from sealift.cos.fasp import FaspConnection
from sealift.transfer.aspera.errors import AsperaError
from sealift.transfer.aspera.node import LARGEST_REPLY, NodeClient

TOKEN = SecretStr("PLANTED-delegated-token")
SPEC = {"remote_host": "ats.example.com", "token": "PLANTED-transfer-token", "unknown": 1}
GOOD = {"transfer_specs": [{"transfer_spec": SPEC}]}


class Node:
    """Answers as a test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[], tuple[int, bytes]] = lambda: (200, json.dumps(GOOD).encode())
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        node = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                node.seen.append((self.path, dict(self.headers), json.loads(body)))
                status, reply = node.answer()
                self.send_response(status)
                self.send_header("Content-Length", str(len(reply)))
                if status in (301, 302):
                    self.send_header("Location", f"{node.url}/elsewhere")
                self.end_headers()
                self.wfile.write(reply)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that went away is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def client(self, **more: Any) -> NodeClient:
        connection = FaspConnection(
            access_key_id="key-id",
            access_key_secret=SecretStr("PLANTED-secret"),
            endpoint=more.get("endpoint", self.url),
        )
        return NodeClient(connection=connection, timeout=more.get("timeout", 10.0))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


def ask(client: NodeClient) -> Any:
    return client.download_spec(key="images/disk-0.vhd", token=TOKEN)


def refusal(node: Node, status: int, reply: Any) -> AsperaError:
    """Have the node answer so; no error may hold a secret, nor what pydantic or httpx would tell of it."""
    body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    node.answer = lambda: (status, body)
    with pytest.raises(AsperaError) as caught:
        ask(node.client())
    assert "PLANTED" not in str(caught.value)
    assert caught.value.__context__ is None
    return caught.value


def test_the_request_is_the_one_that_ibm_s_own_clients_make(node: Node) -> None:
    spec = ask(node.client())
    assert spec.remote_host == "ats.example.com"
    ((path, headers, body),) = node.seen
    credentials = {"type": "token", "token": {"delegated_refresh_token": "PLANTED-delegated-token"}}
    assert path == "/files/download_setup"
    assert headers["Authorization"] == "Basic a2V5LWlkOlBMQU5URUQtc2VjcmV0"
    assert json.loads(headers["X-Aspera-Storage-Credentials"]) == credentials
    paths = [{"source": "images/disk-0.vhd", "destination": "disk-0.vhd"}]
    request = {"paths": paths, "tags": {"aspera": {"node": {"storage_credentials": credentials}}}}
    assert body == {"transfer_requests": [{"transfer_request": request}]}


@pytest.mark.parametrize(
    ("status", "retryable", "refused", "words"),
    [
        (400, False, False, "refused the request"),
        (401, False, True, "access key or the token"),
        (403, False, True, "access key or the token"),
        (404, False, False, "does not find the object"),
        (408, True, False, "for now"),
        (429, True, False, "for now"),
        (500, True, False, "for now"),
        (503, True, False, "for now"),
    ],
)
@pytest.mark.parametrize("how", ["status", "error in 200", "error in a spec's place"])
def test_refusals(node: Node, status: int, retryable: bool, refused: bool, words: str, how: str) -> None:
    error = {"error": {"code": status, "reason": "No", "user_message": "PLANTED-delegated-token is not good"}}
    reply = {"transfer_specs": [error]} if how == "error in a spec's place" else error
    found = refusal(node, status if how == "status" else 200, reply)
    assert (found.retryable, found.refused) == (retryable, refused)
    assert words in str(found)
    assert "*** is not good; No" in str(found)
    assert len(node.seen) == 1


def test_a_redirection_is_not_followed_as_the_secrets_go_to_no_other_server(node: Node) -> None:
    assert not refusal(node, 302, {}).retryable
    assert len(node.seen) == 1


@pytest.mark.parametrize(
    ("reply", "retryable"),
    [
        (b"", True),
        (b"<html>", True),
        (b"[" * 100_000, True),
        (b"{}", False),
        (b"[]", False),
        (b'{"transfer_specs": []}', False),
        (b'{"transfer_specs": [1]}', False),
        (b'{"transfer_specs": {"a": 1}}', False),
        (b'{"error": "text"}', False),
        (b'{"transfer_specs": [{"transfer_spec": {}}]}', False),
        (b'{"transfer_specs": [{"transfer_spec": [1]}]}', False),
        (b" " * (LARGEST_REPLY + 1), True),
    ],
)
def test_what_is_no_transfer_spec(node: Node, reply: bytes, retryable: bool) -> None:
    assert refusal(node, 200, reply).retryable is retryable


def test_a_server_that_is_not_there_may_be_there_later(node: Node) -> None:
    with pytest.raises(AsperaError, match="cannot be reached") as caught:
        ask(node.client(endpoint="http://127.0.0.1:1"))
    assert caught.value.retryable
    assert caught.value.__context__ is None


def test_a_server_that_does_not_answer_may_answer_later(node: Node) -> None:
    released = threading.Event()

    def wait() -> tuple[int, bytes]:
        released.wait(20)
        return 200, b""

    node.answer = wait
    with pytest.raises(AsperaError, match="did not answer in time") as caught:
        ask(node.client(timeout=0.2))
    released.set()
    assert caught.value.retryable


def test_no_text_made_of_a_client_or_a_connection_has_the_secret(node: Node) -> None:
    client = node.client()
    assert "PLANTED" not in f"{client!r} {client._connection!r} {client._connection}"
