"""HTTP itself, byte by byte over a socket."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from sealift.sandbox.store import ObjectStore, StoreServer

BUCKET = "exports"


class Wire:
    """A socket that sends text and reads one answer at a time."""

    def __init__(self, server: StoreServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.stream = self.socket.makefile("rb")

    def send(self, text: str, body: bytes = b"") -> None:
        self.socket.sendall(text.replace("\n", "\r\n").encode("latin-1") + body)

    def head(self) -> tuple[int, dict[str, str]]:
        status = int(self.stream.readline().split()[1])
        headers = {}
        while line := self.stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = self.head()
        return status, headers, self.stream.read(int(headers.get("content-length", 0)))

    def closed(self) -> bool:
        return self.stream.read(1) == b""


@pytest.fixture
def wire(server: StoreServer) -> Iterator[Wire]:
    made = Wire(server)
    yield made
    made.stream.close()
    made.socket.close()


def test_a_connection_carries_many_requests(wire: Wire, token: str, store: ObjectStore) -> None:
    for number in range(3):
        wire.send(
            f"PUT /exports/k{number} HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\nContent-Length: 2\n\n", b"hi"
        )
        assert wire.answer()[0] == 200
    wire.send(f"GET /exports/k1 HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\n\n")
    assert wire.answer()[2] == b"hi"


def test_requests_may_come_before_their_turn(wire: Wire, token: str, store: ObjectStore) -> None:
    store.put_bytes(bucket=BUCKET, key="a", data=b"A")
    one = f"GET /exports/a HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\n\n"
    wire.send(one + one)
    assert [wire.answer()[2], wire.answer()[2]] == [b"A", b"A"]


def test_connection_close_is_kept(wire: Wire, token: str) -> None:
    wire.send(f"HEAD /exports HTTP/1.1\nHost: x\nConnection: close\nAuthorization: Bearer {token}\n\n")
    status, headers = wire.head()
    assert (status, headers["connection"]) == (200, "close")
    assert wire.closed()


def test_continue_is_sent_when_the_body_is_wanted(wire: Wire, token: str, store: ObjectStore) -> None:
    wire.send(
        f"PUT /exports/k HTTP/1.1\nHost: x\nExpect: 100-continue\nAuthorization: Bearer {token}\nContent-Length: 2\n\n"
    )
    assert wire.head()[0] == 100
    wire.send("hi")
    assert wire.answer()[0] == 200
    assert store.path_of(BUCKET, "k").read_bytes() == b"hi"


def test_continue_is_sent_for_an_empty_body_too(wire: Wire, token: str, store: ObjectStore) -> None:
    for key in ("one", "two"):
        wire.send(
            f"PUT /exports/{key} HTTP/1.1\nHost: x\nExpect: 100-continue\nAuthorization: Bearer {token}\n"
            "Content-Length: 0\n\n"
        )
        assert wire.head()[0] == 100
        assert wire.answer()[0] == 200
    assert store.head(BUCKET, "two").size == 0


@pytest.mark.parametrize(
    ("target", "more", "status"),
    [
        ("/nowhere/k", "", 404),
        ("/exports/there", "If-None-Match: *\n", 412),
        ("/exports/there", 'If-Match: "other"\n', 412),
        ("/exports/k", "x-amz-checksum-crc128: x\n", 400),
    ],
)
def test_a_refusal_comes_before_the_body(
    wire: Wire, token: str, store: ObjectStore, target: str, more: str, status: int
) -> None:
    store.put_bytes(bucket=BUCKET, key="there", data=b"x")
    wire.send(
        f"PUT {target} HTTP/1.1\nHost: x\nExpect: 100-continue\nAuthorization: Bearer {token}\n{more}"
        "Content-Length: 1000000\n\n"
    )
    got, headers, body = wire.answer()
    assert (got, headers["connection"]) == (status, "close")
    assert b"<Code>" in body
    assert wire.closed()


def test_a_refusal_is_readable_even_while_the_client_sends(server: StoreServer, token: str) -> None:
    wire = Wire(server)
    wire.send(f"PUT /nowhere/k HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\nContent-Length: 8388608\n\n")
    for _ in range(8):
        wire.socket.sendall(bytes(2**20))
    assert wire.answer()[0] == 404
    assert wire.closed()
    wire.stream.close()
    wire.socket.close()


@pytest.mark.parametrize(
    "text",
    [
        "nonsense\n\n",
        "GET / HTTP/2.0\n\n",
        "GET /\n\n",
        "GET / HTTP/1.1\nno colon\n\n",
        "GET / HTTP/1.1\nSpace : x\n\n",
        "PUT /a/b HTTP/1.1\nContent-Length: -1\n\n",
        "PUT /a/b HTTP/1.1\nTransfer-Encoding: gzip\n\n",
        "PUT /a/b HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 3\n\n",
    ],
)
def test_what_is_no_request_is_refused(wire: Wire, text: str) -> None:
    wire.send(text)
    assert wire.answer()[0] == 400
    assert wire.closed()


def test_too_many_headers_are_refused(wire: Wire) -> None:
    wire.send("GET / HTTP/1.1\n" + "x: y\n" * 300 + "\n")
    assert wire.answer()[0] == 400


def test_a_body_in_http_chunks_is_stored(wire: Wire, token: str, store: ObjectStore) -> None:
    wire.send(
        f"PUT /exports/k HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\nTransfer-Encoding: chunked\n\n"
        "3\nabc\n2\nde\n0\n\n"
    )
    assert wire.answer()[0] == 200
    assert store.path_of(BUCKET, "k").read_bytes() == b"abcde"


def test_a_put_without_a_length_is_refused(wire: Wire, token: str) -> None:
    wire.send(f"PUT /exports/k HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\n\n")
    assert wire.answer()[0] == 411


def test_head_says_the_length_and_sends_nothing(wire: Wire, token: str, store: ObjectStore) -> None:
    store.put_bytes(bucket=BUCKET, key="a", data=b"12345")
    wire.send(f"HEAD /exports/a HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\n\n")
    status, headers = wire.head()
    assert (status, headers["content-length"]) == (200, "5")
    wire.send(f"GET /exports/a HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\n\n")
    assert wire.answer()[2] == b"12345"


def test_every_answer_has_a_request_id(wire: Wire) -> None:
    wire.send("GET / HTTP/1.1\nHost: x\n\n")
    status, headers, body = wire.answer()
    assert status == 403
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", headers["x-amz-request-id"])
    assert headers["x-clv-request-id"] == headers["x-amz-request-id"]
    assert f"<RequestId>{headers['x-amz-request-id']}</RequestId>".encode() in body


def test_a_key_that_is_no_utf8_is_refused(wire: Wire, token: str) -> None:
    wire.send(f"GET /exports/%ff HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\n\n")
    assert wire.answer()[0] == 400


def test_closing_the_server_ends_open_connections(server: StoreServer, token: str) -> None:
    wire = Wire(server)
    wire.send(f"HEAD /exports HTTP/1.1\nHost: x\nAuthorization: Bearer {token}\n\n")
    assert wire.head()[0] == 200
    server.close()
    assert wire.closed()
    wire.stream.close()
    wire.socket.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)
