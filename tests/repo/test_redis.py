"""A Redis of its own: reached with its password only, on loopback only, and nothing left of it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tools import redis
from tools.processes import running
from tools.redis import RedisMissingError, RedisServer


def raw(port: int, line: str, host: str = "127.0.0.1") -> str:
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(f"{line}\r\n".encode())
        return connection.makefile().readline().strip()


def test_it_serves_and_leaves_nothing(tmp_path: Path) -> None:
    with RedisServer(log=tmp_path / "redis.log") as server:
        folder = server.folder
        assert folder is not None
        assert server.ask("SET", "word", "here") == "OK"
        assert server.ask("STRLEN", "word") == "4"
        assert running(server.mark)
        server.stop()
        assert running(server.mark) == []
        assert not server.answers()
        server.start()
        assert server.ask("STRLEN", "word") == "0", "nothing is kept"
        assert sorted(path.name for path in folder.iterdir()) == ["redis.conf"]
    assert running(server.mark) == []
    assert not folder.exists()


def test_nobody_comes_in_without_the_password(tmp_path: Path) -> None:
    with RedisServer(log=tmp_path / "redis.log") as server:
        assert raw(server.port, "PING").startswith("-NOAUTH")
        assert raw(server.port, "AUTH guess").startswith("-WRONGPASS")
        assert server.folder is not None
        assert (server.folder / "redis.conf").stat().st_mode & 0o077 == 0
        words = Path(f"/proc/{server.pid}/cmdline").read_text()
        assert server.url().split(":")[2].split("@")[0] not in words


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    with RedisServer(log=tmp_path / "redis.log") as server:
        tables = [Path(name).read_text().splitlines()[1:] for name in ("/proc/net/tcp", "/proc/net/tcp6")]
        listening = [line.split()[1] for table in tables for line in table if line.split()[3] == "0A"]
        assert [one for one in listening if one.endswith(f":{server.port:04X}")] == [f"0100007F:{server.port:04X}"]


def test_it_forgets_no_message_for_want_of_memory_and_writes_none(tmp_path: Path) -> None:
    with RedisServer(log=tmp_path / "redis.log") as server:
        assert server.folder is not None
        said = (server.folder / "redis.conf").read_text().splitlines()
        assert {"maxmemory-policy noeviction", 'save ""', "appendonly no"} <= set(said)


def test_without_it_the_message_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(RedisMissingError, match="apt-get install"):
        redis.program(path=str(tmp_path))
