"""A store that is killed: what was answered for is there, what was not is not, and the next start cleans up."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest

from sealift.sandbox.store import ObjectStore


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)


def call(url: str, token: str, method: str, target: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    connection = connect(url)
    try:
        headers = {"Authorization": f"Bearer {token}", "ibm-service-instance-id": "i"}
        connection.request(method, target, body=body, headers=headers)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def stored_files(root: Path) -> list[Path]:
    return [path for path in (root / "store").rglob("*") if path.is_file() and path.parent != root / "store"]


def wait_for(what: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "what the test waited for did not come"
        time.sleep(0.01)


def cut_off(work: Callable[[], object]) -> None:
    """Do something that the store's end may interrupt."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        work()


def test_a_half_received_put_leaves_nothing(child_store: Callable[..., Any], token: str, tmp_path: Path) -> None:
    first = child_store()
    assert call(first.url, token, "PUT", "/exports")[0] == 200
    assert call(first.url, token, "PUT", "/exports/whole", b"whole")[0] == 200
    connection = connect(first.url)
    connection.putrequest("PUT", "/exports/half")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", str(2**30))
    connection.endheaders()
    connection.send(bytes(4 * 2**20))
    wait_for(lambda: any(path.stat().st_size for path in (tmp_path / "store" / "incoming").iterdir()))
    first.kill()
    connection.close()
    assert any((tmp_path / "store" / "incoming").iterdir())

    second = child_store()
    assert call(second.url, token, "GET", "/exports/whole")[2] == b"whole"
    assert call(second.url, token, "GET", "/exports/half")[0] == 404
    assert [path.read_bytes() for path in stored_files(tmp_path)] == [b"whole"]


def test_an_upload_goes_on_after_a_kill(child_store: Callable[..., Any], token: str, tmp_path: Path) -> None:
    choose = random.Random(5)
    parts = {number: choose.randbytes(5 * 2**20 + number) for number in (1, 2, 3)}
    first = child_store()
    call(first.url, token, "PUT", "/exports")
    reply = ET.fromstring(call(first.url, token, "POST", "/exports/disk.vhd?uploads")[2])
    upload_id = reply.find("{*}UploadId").text
    for number in (3, 1):
        call(first.url, token, "PUT", f"/exports/disk.vhd?partNumber={number}&uploadId={upload_id}", parts[number])
    target = f"/exports/disk.vhd?partNumber=2&uploadId={upload_id}"
    sending = threading.Thread(target=cut_off, args=(lambda: call(first.url, token, "PUT", target, parts[2]),))
    sending.start()
    first.kill()
    sending.join()

    second = child_store()
    listed = ET.fromstring(call(second.url, token, "GET", f"/exports/disk.vhd?uploadId={upload_id}")[2])
    there = {int(part.find("{*}PartNumber").text): part.find("{*}ETag").text for part in listed.findall("{*}Part")}
    assert {1, 3} <= set(there)
    assert call(second.url, token, "PUT", target, parts[2])[0] == 200
    names = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{hashlib.md5(data).hexdigest()}</ETag></Part>"
        for number, data in parts.items()
    )
    document = f"<CompleteMultipartUpload>{names}</CompleteMultipartUpload>".encode()
    assert call(second.url, token, "POST", f"/exports/disk.vhd?uploadId={upload_id}", document)[0] == 200
    assert call(second.url, token, "GET", "/exports/disk.vhd")[2] == b"".join(parts.values())


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_every_answered_put_is_there_and_whole(
    child_store: Callable[..., Any], token: str, tmp_path: Path, seed: int
) -> None:
    choose = random.Random(seed)
    first = child_store()
    call(first.url, token, "PUT", "/exports")
    answered: dict[str, bytes] = {}
    tried: dict[str, set[bytes]] = {}
    enough = threading.Event()

    def write(writer: int) -> None:
        mine = random.Random(seed * 100 + writer)
        with contextlib.suppress(OSError, http.client.HTTPException):
            for number in range(10_000):
                key, data = f"{writer}/{mine.randint(0, 20)}", mine.randbytes(mine.randint(0, 200_000))
                tried.setdefault(key, set()).add(data)
                if call(first.url, token, "PUT", f"/exports/{key}", data)[0] == 200:
                    answered[key] = data
                if number > 20:
                    enough.set()

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for writer in writers:
        writer.start()
    assert enough.wait(30)
    time.sleep(choose.random() / 10)  # not a wait for anything: the kill shall come at a random moment
    first.kill()
    for writer in writers:
        writer.join()

    second = ObjectStore(root=tmp_path / "store")
    try:
        listed = {found.key: found for found in second.list("exports")}
        assert set(answered) <= set(listed)
        for key, found in listed.items():
            data = found.file.read_bytes()
            assert len(data) == found.size
            assert hashlib.md5(data).hexdigest() == found.etag
            assert data in tried[key]
        assert len(stored_files(tmp_path)) == len(listed)
    finally:
        second.close()
