"""The HTTP server beneath the API."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import requests

from sealift.sandbox.web import Request, Response, WebServer


def answer(request: Request) -> Response:
    if request.path == "/broken":
        raise RuntimeError("inside")
    if request.path == "/drop":
        return Response(drop=True)
    words = f"{request.method} {request.path} {request.first('q')} {request.local} {len(request.body)}"
    return Response(headers={"X-Seen": "yes"}, body=words.encode())


@pytest.fixture
def server() -> Iterator[WebServer]:
    server = WebServer(host="127.0.0.1", port=0, answer=answer)
    yield server
    server.close()


def test_requests_arrive_whole(server: WebServer) -> None:
    reply = requests.post(f"{server.url}/a%20b?q=1%262&q=3", data=b"x" * 100_000)
    assert (reply.text, reply.headers["X-Seen"]) == ("POST /a b 1&2 True 100000", "yes")
    for verb in ("GET", "PUT", "DELETE"):
        assert requests.request(verb, f"{server.url}/").text.startswith(f"{verb} / None True 0")
    assert requests.head(f"{server.url}/").headers["Content-Length"] == "18"
    assert requests.patch(f"{server.url}/").status_code == 501


def test_a_connection_serves_many_requests(server: WebServer) -> None:
    with requests.Session() as session:
        assert {session.get(f"{server.url}/{n}").status_code for n in range(20)} == {200}


def test_a_fault_inside_reaches_the_client(server: WebServer) -> None:
    reply = requests.get(f"{server.url}/broken")
    assert (reply.status_code, reply.json()) == (501, {"error": "the sandbox itself failed"})
    assert requests.get(f"{server.url}/").ok


def test_a_dropped_connection_is_no_reply(server: WebServer) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/drop")


@pytest.mark.parametrize(
    "head", ["Content-Length: x", "Content-Length: -1", "Content-Length: 99999999999", "Transfer-Encoding: chunked"]
)
def test_bodies_without_a_sensible_length_are_refused(server: WebServer, head: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 411")


def test_a_port_that_is_taken(server: WebServer) -> None:
    with pytest.raises(OSError, match="in use"):
        WebServer(host="127.0.0.1", port=server.port, answer=answer)
