"""A PostgreSQL of its own: reached with its password only, away from root, and nothing left of it."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg2
import pytest

from tools import postgres
from tools.postgres import PostgresMissingError, PostgresServer
from tools.processes import running


def connect(url: str) -> psycopg2.extensions.connection:
    return psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=10)


def test_it_serves_and_leaves_nothing(tmp_path: Path) -> None:
    with PostgresServer(log=tmp_path / "postgres.log") as server:
        data = server.data
        connection = connect(server.url())
        with connection.cursor() as cursor:
            cursor.execute("create table kept (word text); insert into kept values ('here')")
            cursor.execute("show listen_addresses")
            assert cursor.fetchone() == ("127.0.0.1",)
        connection.commit()
        connection.close()
        if os.geteuid() == 0:
            assert data.stat().st_uid != 0
        server.stop()
        assert running(server.mark) == []
        server.start()
        connection = connect(server.url())
        with connection.cursor() as cursor:
            cursor.execute("select word from kept")
            assert cursor.fetchone() == ("here",)
        connection.close()
    assert running(server.mark) == []
    assert not data.parent.exists()


def test_nobody_comes_in_without_the_password(tmp_path: Path) -> None:
    with PostgresServer(log=tmp_path / "postgres.log") as server:
        address = server.url("asyncpg").partition("@")[2]
        with pytest.raises(psycopg2.OperationalError, match="password"):
            connect(f"postgresql://{postgres.USER}:guess@{address}")


def test_debians_newest_version_goes_before_the_path(tmp_path: Path) -> None:
    for version in ("9.6", "15", "17"):
        folder = tmp_path / "debian" / version / "bin"
        folder.mkdir(parents=True)
        for name in ("initdb", "postgres"):
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
    assert postgres.programs(debian=tmp_path / "debian", path="") == tmp_path / "debian" / "17" / "bin"
    alone = str(tmp_path / "debian" / "15" / "bin")
    assert postgres.programs(debian=tmp_path / "none", path=alone) == Path(alone)


def test_without_it_the_message_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PostgresMissingError, match="apt-get install"):
        postgres.programs(debian=tmp_path, path=str(tmp_path))
