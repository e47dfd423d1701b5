"""``sealift drill`` over the sandbox: exports come back in turn, and a kill leaves nothing that stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from sealift.exports.proofs import read_proofs
from tests.cli.steps import LATER, PERIOD, Exported


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def drill(connections: Path, scratch: Path) -> Callable[..., Result]:
    def call(*words: str) -> Result:
        places = ["--connections", str(connections), "--scratch", str(scratch)]
        return CliRunner().invoke(main, ["drill", *places, *words])

    return call


@contextmanager
def damaged(exported: Exported, guest_id: int, period: str) -> Iterator[None]:
    """Flip a bit of an export's disk in the bucket, as a disk of the store that rots; the store's word stays."""
    disk = exported.manifest(guest_id, period).disks[0]
    path = exported.sandbox.store.path_of(exported.bucket, disk.key)
    assert path is not None
    good = path.with_suffix(".good")
    path.rename(good)  # its bytes may be shared with other objects, which stay as they are
    bad = bytearray(good.read_bytes())
    bad[disk.size // 2] ^= 1
    path.write_bytes(bad)
    try:
        yield
    finally:
        good.replace(path)


def test_servers_come_back_in_turn_and_the_report_says_so(
    exported: Exported, drill: Callable[..., Result], scratch: Path
) -> None:
    """The tests of this module go on with each other's books, as drills do."""
    result = drill("--report")
    assert result.exit_code == 0, result.output
    assert "0 of 2 servers (0 %) came back within the last 90 days; 2 were never rehearsed." in result.stdout

    turns = [json.loads(line) for line in drill("--dry-run", "--within", "2", "--json").stdout.splitlines()]
    assert [one["why"] for one in turns] == ["never"], "half of two servers"
    assert not scratch.exists(), "a dry run brings nothing"

    first = json.loads(drill("--within", "2", "--level", "L3", "--json").stdout)
    assert (first["export_id"], first["outcome"], first["proof_level"]) == (turns[0]["export_id"], "passed", "L3")
    assert first["recovery"]["seconds"] >= first["recovery"]["download_seconds"] > 0
    second = json.loads(drill("--within", "2", "--level", "L2", "--json").stdout)
    assert {first["guest_id"], second["guest_id"]} == {exported.several.guest_id, exported.other.guest_id}
    periods = {one["guest_id"]: one["period"] for one in (first, second)}
    assert periods == {exported.several.guest_id: LATER, exported.other.guest_id: PERIOD}, "the newest of each"
    assert list((scratch / "sealift-drills").iterdir()) == []

    manifest = exported.manifest(first["guest_id"], first["period"])
    proof = read_proofs(exported.cos, bucket=exported.bucket, prefix="sealift", manifest=manifest)[-1]
    assert proof.recovery is not None
    assert (proof.made_by, proof.recovery.drill_id) == ("sealift drill", first["drill_id"])

    told = json.loads(drill("--report", "--json").stdout)
    assert (told["servers"], told["proven"], told["share"], told["by_level"]) == (2, 2, 1.0, {"L3": 1, "L2": 1})
    assert told["time_to_recover"]["count"] == 2
    table = drill("--report").stdout
    assert "Time to recover: p50 " in table
    assert exported.several.hostname in table


def test_a_server_that_does_not_come_back_fails_in_words_and_has_its_turn_first(
    exported: Exported, drill: Callable[..., Result], scratch: Path
) -> None:
    other = exported.other
    with damaged(exported, other.guest_id, PERIOD):
        result = drill("--within", "1", "--level", "L2")
        assert result.exit_code == 1
        assert f"{other.hostname} (export {other.export_id}) did not come back: " in result.stderr
        assert "The next drill takes this server first." in result.stderr
        assert f"{exported.several.hostname} " in result.stdout, "the others come back"
    assert list((scratch / "sealift-drills").iterdir()) == []
    result = drill("--report")
    assert result.exit_code == 1
    assert "1 did not at their last rehearsal" in result.stdout
    (turn, *_) = drill("--dry-run", "--within", "2").stdout.splitlines()
    assert turn == f"{other.hostname}: export {other.export_id} (again)"
    assert drill(other.export_id, "--level", "L2").exit_code == 0
    assert drill("--report").exit_code == 0


def test_what_a_kill_leaves_is_deleted_by_the_next_drill(
    exported: Exported, drill: Callable[..., Result], connections: Path, scratch: Path
) -> None:
    words = ["drill", "--connections", str(connections), "--scratch", str(scratch), "--level", "L2"]
    slow = subprocess.Popen(
        [sys.executable, "-m", "sealift.cli", *words, exported.other.export_id, "--limit-rate", "100k"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ),
    )
    deadline = time.monotonic() + 60
    try:
        while not list(scratch.glob("sealift-drills/*/*.part")):
            assert slow.poll() is None, slow.stdout.read() if slow.stdout else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        slow.send_signal(signal.SIGKILL)
        slow.communicate()
    (left,) = scratch.glob("sealift-drills/*.drill")
    assert list(left.glob("*.part"))
    result = drill(exported.several.export_id, "--level", "L2")
    assert result.exit_code == 0, result.output
    assert list((scratch / "sealift-drills").iterdir()) == []


def test_what_cannot_begin_says_so(drill: Callable[..., Result], scratch: Path) -> None:
    result = drill("nobody")
    assert result.exit_code == 2
    assert "Could not: " in result.stderr
    assert drill("--report", "--dry-run").exit_code == 2
    assert not scratch.exists()


def test_an_empty_prefix_has_nothing_to_rehearse(drill: Callable[..., Result]) -> None:
    result = drill("--prefix", "elsewhere")
    assert result.exit_code == 0
    assert "There is no finished export" in result.stderr
