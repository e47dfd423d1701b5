"""Memory stays bounded: 256 MiB through the store in both directions, over HTTP and TLS, in a process of its own."""

from __future__ import annotations

import hashlib
import http.client
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

SIZE = 256 * 2**20
BLOCK = bytes(range(256)) * 4096
# KiB that serving may add to the interpreter: buffers and threads, not objects.
BOUND = 16 * 1024


def blocks() -> Iterator[bytes]:
    for _ in range(SIZE // len(BLOCK)):
        yield BLOCK


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_an_object_never_lies_in_memory(child_store: Callable[..., Any], token: str, tls: bool) -> None:
    child = child_store(tls=tls)
    netloc = urlsplit(child.url).netloc
    if tls:
        trust = ssl.create_default_context(cafile=child.ca)
        connection = http.client.HTTPSConnection(netloc, timeout=60, context=trust)
    else:
        connection = http.client.HTTPConnection(netloc, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "ibm-service-instance-id": "i"}
    connection.request("PUT", "/exports", headers=headers)
    assert connection.getresponse().read() == b""
    connection.request("PUT", "/exports/big", body=blocks(), headers={**headers, "Content-Length": str(SIZE)})
    reply = connection.getresponse()
    reply.read()
    assert reply.status == 200
    connection.request("GET", "/exports/big", headers=headers)
    reply, digest, received = connection.getresponse(), hashlib.md5(), 0
    while data := reply.read(2**20):
        digest.update(data)
        received += len(data)
    assert received == SIZE
    assert reply.headers["ETag"] == f'"{digest.hexdigest()}"'
    connection.close()
    memory = child.memory()
    assert memory["peak"] - memory["before"] < BOUND, memory
