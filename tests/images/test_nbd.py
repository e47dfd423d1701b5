"""A virtual disk over NBD: read by QEMU, which is not ours, and by a client that misbehaves."""

from __future__ import annotations

import random
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.images.nbd import LARGEST_READ, NbdServer
from sealift.images.source import BytesSource, FileSource, ShortReadError
from sealift.images.vhd import VhdReader

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed (qemu-utils)")
DATA = random.Random(5).randbytes(3 * 2**20 + 512)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    with NbdServer(disk=BytesSource(DATA), path=tmp_path / "disk") as server:
        yield server.path


def qemu_img(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False, timeout=60)


def test_qemu_reads_the_same_disk(served: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.raw"
    done = qemu_img("convert", "-O", "raw", f"nbd+unix:///?socket={served}", out)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == DATA


def test_qemu_finds_the_disk_of_a_vhd_equal_to_the_raw_one(images: Any, tmp_path: Path) -> None:
    with FileSource(images.dynamic) as source, NbdServer(disk=VhdReader(source), path=tmp_path / "disk") as server:
        done = qemu_img("compare", "-f", "raw", "-F", "raw", f"nbd+unix:///?socket={server.path}", images.raw)
    assert (done.returncode, done.stdout.strip()) == (0, "Images are identical.")


def test_nobody_can_write(served: Path) -> None:
    done = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 512", f"nbd+unix:///?socket={served}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "read-only" in (done.stdout + done.stderr).lower() or "permission" in (done.stdout + done.stderr).lower()


def test_only_the_owner_may_connect(served: Path) -> None:
    assert served.stat().st_mode & 0o777 == 0o600


class Client:
    """Speaks the protocol word for word."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        assert struct.unpack(">QQH", self.take(18))[:2] == (0x4E42444D41474943, 0x49484156454F5054)

    def take(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = self.socket.recv(count - len(found))
            if not piece:
                raise EOFError(f"{len(found)} of {count} bytes")
            found += piece
        return found

    def begin(self) -> None:
        """By the oldest way, with which a server answers nothing but the size and 124 zeros."""
        self.socket.sendall(struct.pack(">I", 0) + struct.pack(">QII", 0x49484156454F5054, 1, 0))
        size, flags = struct.unpack(">QH", self.take(10))
        assert size == len(DATA)
        assert flags & 2, "read-only"
        assert self.take(124) == bytes(124)

    def ask(self, kind: int, offset: int, length: int, data: bytes = b"") -> tuple[int, bytes]:
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, 77, offset, length) + data)
        magic, error, cookie = struct.unpack(">IIQ", self.take(16))
        assert (magic, cookie) == (0x67446698, 77)
        return error, self.take(length) if kind == 0 and not error else b""

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def client(served: Path) -> Iterator[Client]:
    made = Client(served)
    yield made
    made.close()


def test_a_reader_gets_what_it_asks_for_and_an_error_beyond(client: Client) -> None:
    client.begin()
    assert client.ask(0, 512, 1000) == (0, DATA[512:1512])
    assert client.ask(0, len(DATA) - 1, 2) == (22, b"")
    assert client.ask(0, 0, 0) == (22, b"")
    assert client.ask(0, 2**63, 512) == (22, b"")
    assert client.ask(0, 0, LARGEST_READ + 1) == (22, b"")
    assert client.ask(1, 0, 4, b"abcd") == (1, b""), "a write is refused, and its bytes are not taken for a request"
    assert client.ask(4, 0, 512) == (1, b"")
    assert client.ask(3, 0, 0) == (0, b"")
    assert client.ask(0, 0, 3) == (0, DATA[:3])


def test_what_is_no_request_ends_the_connection_and_no_other(client: Client, served: Path) -> None:
    client.begin()
    client.socket.sendall(bytes(28))
    with pytest.raises(EOFError):
        client.take(1)
    other = Client(served)
    other.begin()
    assert other.ask(0, 0, 3) == (0, DATA[:3])
    other.close()


@pytest.mark.parametrize(
    "said",
    [b"\0\0\0\1" + bytes(16), b"\0\0\0\1" + struct.pack(">QII", 0x49484156454F5054, 7, 2**31)],
    ids=["no option", "an option of 2 GiB"],
)
def test_nonsense_before_the_first_read_ends_the_connection(client: Client, said: bytes) -> None:
    client.socket.sendall(said)
    with pytest.raises(EOFError):
        client.take(1)


def test_a_disk_that_cannot_be_read_is_an_error_to_the_reader_and_told_of(tmp_path: Path) -> None:
    class Broken(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            raise ShortReadError("the bucket is gone")

    told: list[Exception] = []
    with NbdServer(disk=Broken(DATA), path=tmp_path / "disk", failed=told.append) as server:
        client = Client(server.path)
        client.begin()
        assert client.ask(0, 0, 512) == (5, b"")
        client.close()
    assert [str(one) for one in told] == ["the bucket is gone"]


def test_closing_ends_connections_and_removes_the_socket(tmp_path: Path) -> None:
    with NbdServer(disk=BytesSource(DATA), path=tmp_path / "disk") as server:
        client = Client(server.path)
        client.begin()
    with pytest.raises((EOFError, ConnectionError)):
        client.take(1)
    client.close()
    assert not server.path.exists()
