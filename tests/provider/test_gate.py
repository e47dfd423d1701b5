"""The offline cap of one machine: captures that begin in the same moment cannot all see the same free slot."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sealift.exports.errors import OfflineCapReached
from sealift.exports.steps import AskTheAccount
from sealift.provider.gate import OneAtATime, gate_of_machine

pytestmark = pytest.mark.airflow

CAPTURE = """
import json, sys, time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from sealift.exports import capturing
from sealift.exports.errors import OfflineCapReached
from sealift.provider.gate import OneAtATime
from sealift.exports.steps import AskTheAccount

folder, kind, number = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def in_flight(classic, now):
    counted = len(list((folder / "running").iterdir()))
    (folder / "asked" / number).touch()
    return counted

def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)

capturing.captures_in_flight = in_flight
gate = OneAtATime(max_offline=2, lock=folder / "lock") if kind == "locked" else AskTheAccount(max_offline=2)
(folder / "ready" / number).touch()
until((folder / "go").exists, 60)
try:
    with gate.admit(None, SimpleNamespace(name="a server"), now=datetime.now(UTC)):
        # The request is on its way: long enough for all others to ask, if they may.
        until(lambda: len(list((folder / "asked").iterdir())) == 6, 0.2 if kind == "locked" else 30)
        (folder / "running" / number).touch()
    print(json.dumps("captured"))
except OfflineCapReached:
    print(json.dumps("full"))
"""


def race(folder: Path, kind: str) -> list[str]:
    """Let six processes capture at the same moment, with two slots."""
    for name in ("running", "ready", "asked"):
        (folder / name).mkdir()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CAPTURE, str(folder), kind, str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(6)
    ]
    deadline = time.monotonic() + 60
    while len(list((folder / "ready").iterdir())) < len(racers):
        assert time.monotonic() < deadline, "not all processes came up"
        time.sleep(0.005)
    (folder / "go").touch()
    answers = [json.loads(one.communicate(timeout=60)[0]) for one in racers]
    assert all(one.returncode == 0 for one in racers)
    return answers


def test_no_more_than_the_cap_are_admitted_at_the_same_moment(tmp_path: Path) -> None:
    assert sorted(race(tmp_path, "locked")) == ["captured"] * 2 + ["full"] * 4


def test_without_the_lock_the_race_is_real(tmp_path: Path) -> None:
    """The test above must be able to fail: asking alone admits more."""
    assert race(tmp_path, "unlocked").count("captured") == 6


def test_a_full_account_frees_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_flight = {"count": 5}
    monkeypatch.setattr("sealift.exports.capturing.captures_in_flight", lambda _classic, now: in_flight["count"])
    gate = OneAtATime(max_offline=5, lock=tmp_path / "lock")
    item: Any = SimpleNamespace(name="web-01 (virtual server 7)")
    for _ in range(2):
        with (
            pytest.raises(OfflineCapReached, match="web-01"),
            gate.admit(None, item, now=datetime.now(UTC)),  # type: ignore[arg-type]
        ):
            pytest.fail("nothing may be submitted")
    in_flight["count"] = 4
    with gate.admit(None, item, now=datetime.now(UTC)):  # type: ignore[arg-type]
        pass


def test_without_a_usable_folder_the_account_is_asked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    gate = gate_of_machine(account=1, max_offline=3)
    assert type(gate) is AskTheAccount
    assert gate.max_offline == 3
