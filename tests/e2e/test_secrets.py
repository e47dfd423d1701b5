"""Nothing that is secret leaves the connections: searched in logs, metadata database, bucket, processes and answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def needles(house) -> list[bytes]:
    """Every key of both connections, and the mark of all secrets in the account's data."""
    keys = [house.sandbox.api_key, house.sandbox.cos_api_key, house.sandbox.hmac_secret_access_key]
    return [b"PLANTED-", *(key.encode() for key in keys)]


def hits(path: Path, needles: list[bytes]) -> list[str]:
    data = path.read_bytes()
    return [f"{path}: {needle.decode()[:12]}" for needle in needles if needle in data]


def test_the_search_finds_what_is_there(exported) -> None:
    """A search that could not find anything would prove nothing."""
    home = exported.house.airflow.home
    host = [b"web-01"]
    assert hits(home / "airflow.db", host) or hits(home / "airflow.db-wal", host)
    assert any(hits(path, [b"120000000"]) for path in (home / "logs").rglob("*.log"))
    guest = next(iter(exported.house.sandbox.world.guests.values()))
    assert "PLANTED-" in guest["_userdata"]


def test_no_secret_in_what_airflow_keeps(exported, needles: list[bytes]) -> None:
    home = exported.house.airflow.home
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".log"]) > 10
    assert any(path.name.startswith("airflow.db") for path in files)
    assert not [hit for path in files for hit in hits(path, needles)]


def test_no_secret_in_the_bucket(exported, needles: list[bytes]) -> None:
    store = exported.house.sandbox.store
    keys = [one.key for one in store.list(exported.bucket, f"{exported.prefix}/")]
    assert len(keys) > 15
    paths = [store.path_of(exported.bucket, key) for key in keys]
    assert not [hit for path in paths if path for hit in hits(path, needles)]


def test_no_secret_in_what_the_api_shows(exported, needles: list[bytes]) -> None:
    api = exported.house.api
    for dag_id, run_id in (("plan_exports", exported.run_id), ("export_servers", exported.wave_run_id)):
        shown = [api.run(dag_id, run_id), api.task_instances(dag_id, run_id), api.xcoms(dag_id, run_id)]
        text = json.dumps(shown).encode()
        assert b"rendered_fields" in text
        assert not [needle for needle in needles if needle in text]


def test_no_secret_on_a_command_line(exported, needles: list[bytes]) -> None:
    pids = exported.house.airflow.running()
    assert len(pids) > 4
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # ended since
            continue
        assert not [needle for needle in needles if needle in command]
