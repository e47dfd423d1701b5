"""``sealift download`` over the sandbox: everything of an export in one folder, that ``sha256sum`` accepts."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest
from sealift.exports.plan import PlanItem
from sealift.exports.proofs import LaterProof
from tests.cli.steps import LATER, PERIOD, Exported


@pytest.fixture
def download(connections: Path, tmp_path: Path) -> Callable[..., Result]:
    def call(*words: str) -> Result:
        given = ["download", "--connections", str(connections), "--to", str(tmp_path / "images"), *words]
        return CliRunner().invoke(main, given)

    return call


def folder(exported: Exported, tmp_path: Path, item: PlanItem, period: str) -> Path:
    return tmp_path / "images" / f"{item.hostname}-{item.guest_id}" / f"{item.guest_id}-{period}"


def test_the_latest_export_of_a_server_arrives_with_all_its_files(
    exported: Exported, download: Callable[..., Result], tmp_path: Path
) -> None:
    result = download(exported.several.hostname)
    assert result.exit_code == 0, result.output
    where = folder(exported, tmp_path, exported.several, LATER)
    manifest = exported.manifest(exported.several.guest_id, LATER)
    disks = [disk.key.rpartition("/")[2] for disk in manifest.disks]
    assert len(disks) >= 2
    assert sorted(one.name for one in where.iterdir()) == sorted([*disks, "server.json", "manifest.json", "SHA256SUMS"])
    for disk, name in zip(manifest.disks, disks, strict=True):
        stored = exported.cos.read(exported.bucket, disk.key)
        assert (where / name).read_bytes() == stored
    assert Manifest.model_validate_json((where / "manifest.json").read_bytes()) == manifest
    assert f"sha256:{hashlib.sha256((where / 'server.json').read_bytes()).hexdigest()}" == manifest.record.digest
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=where, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK") == len(disks) + 2
    assert f"{len(disks) + 2} files in {where}" in result.output


@pytest.mark.parametrize("how", ["export id", "server id", "host name and period"])
def test_an_export_is_named_in_three_ways(
    exported: Exported, download: Callable[..., Result], tmp_path: Path, how: str
) -> None:
    guest = exported.several.guest_id
    words = {
        "export id": [f"{guest}-{PERIOD}"],
        "server id": [str(guest), "--period", PERIOD],
        "host name and period": [exported.several.hostname, f"--period={PERIOD}"],
    }[how]
    result = download(*words, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["export_id"] == f"{guest}-{PERIOD}"
    assert told["place"] == str(folder(exported, tmp_path, exported.several, PERIOD))
    assert {one["name"]: one["sha256"] for one in told["files"]} == {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in Path(told["place"]).iterdir()
        if one.name != "SHA256SUMS"
    }
    assert result.stderr == ""


def test_what_is_there_is_checked_and_only_what_is_damaged_is_brought_again(
    exported: Exported, download: Callable[..., Result], tmp_path: Path
) -> None:
    name = f"{exported.several.guest_id}-{PERIOD}"
    assert download(name).exit_code == 0
    where = folder(exported, tmp_path, exported.several, PERIOD)
    sums = (where / "SHA256SUMS").read_text()
    again = json.loads(download(name, "--json").stdout)
    assert all(one["already"] for one in again["files"])

    with (where / "disk-1.vhd").open("r+b") as file:
        file.seek(700)
        byte = file.read(1)
        file.seek(700)
        file.write(bytes([byte[0] ^ 1]))
    (where / "server.json").unlink()
    third = json.loads(download(name, "--json").stdout)
    assert {one["name"] for one in third["files"] if not one["already"]} == {"disk-1.vhd", "server.json"}
    assert (where / "SHA256SUMS").read_text() == sums


def test_several_exports_are_found_before_the_first_one_is_brought(
    exported: Exported, download: Callable[..., Result], tmp_path: Path
) -> None:
    result = download(str(exported.other.guest_id), "99999999")
    assert result.exit_code == 1
    assert "no finished export of virtual server 99999999" in result.stderr
    assert not (tmp_path / "images").exists()
    both = download(str(exported.other.guest_id), f"{exported.several.guest_id}-{PERIOD}")
    assert both.exit_code == 0
    assert both.output.count("Check them at any time") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody"], "no images of a server named 'nobody'"),
        (["{other}", "--period", LATER], f"no finished export of virtual server {{other}} for {LATER}"),
        (["{other}", "--prefix", "elsewhere"], "under elsewhere"),
        (["{other}", "--bucket", "no-such-bucket"], "NoSuchBucket"),
        (["{other}", "--cos-conn-id", "c"], "There is no connection 'c'"),
    ],
    ids=["name", "period", "prefix", "bucket", "connection"],
)
def test_what_cannot_be_found_is_said_in_words(
    exported: Exported, download: Callable[..., Result], words: list[str], said: str
) -> None:
    other = exported.other.guest_id
    result = download(*(one.format(other=other) for one in words))
    assert result.exit_code == 1
    assert said.format(other=other) in result.stderr
    assert "Traceback" not in result.output


def test_a_record_that_was_changed_is_not_delivered_in_silence(
    exported: Exported, download: Callable[..., Result], tmp_path: Path
) -> None:
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    body = exported.cos.read(exported.bucket, manifest.record.key)
    assert body is not None
    exported.cos.put(exported.bucket, manifest.record.key, body + b" ")
    try:
        result = download(manifest.export_id)
        assert result.exit_code == 1
        assert "was changed since the manifest was written" in result.stderr
        assert not (folder(exported, tmp_path, exported.other, PERIOD) / "SHA256SUMS").exists()
    finally:
        exported.cos.put(exported.bucket, manifest.record.key, body)


def test_a_second_download_is_compared_with_what_the_first_one_read(
    exported: Exported, download: Callable[..., Result], tmp_path: Path
) -> None:
    """The digest that was noted is another: one of the two readings was wrong, and the second is not kept."""
    manifest = exported.manifest(exported.several.guest_id, LATER)
    download(manifest.export_id)
    root = f"sealift/proofs/{manifest.guest.id}/{LATER}/"
    (noted,) = exported.cos.list(exported.bucket, root)
    body = exported.cos.read(exported.bucket, noted.key)
    assert body is not None
    proof = LaterProof.model_validate_json(body)
    where = folder(exported, tmp_path, exported.several, LATER)
    assert {one.key.rpartition("/")[2]: one.sha256 for one in proof.disks} == {
        f"disk-{number}.vhd": hashlib.sha256((where / f"disk-{number}.vhd").read_bytes()).hexdigest()
        for number in range(len(manifest.disks))
    }
    again = download(manifest.export_id, "--to", str(tmp_path / "elsewhere"))
    assert again.exit_code == 0
    assert "noted in" not in again.output, "there is nothing new to note"
    assert len(list(exported.cos.list(exported.bucket, root))) == 1
    wrong = proof.model_copy(
        update={"disks": [proof.disks[0].model_copy(update={"sha256": "0" * 64}), *proof.disks[1:]]}
    )
    exported.cos.put(exported.bucket, noted.key, canonical_json(wrong))
    try:
        result = download(manifest.export_id, "--to", str(tmp_path / "third"))
        assert result.exit_code == 1
        assert f"was read with the SHA-256 {proof.disks[0].sha256}, but {'0' * 64} was read before" in result.stderr
    finally:
        exported.cos.put(exported.bucket, noted.key, body)


def test_an_object_that_was_replaced_since_its_proof_is_not_delivered(
    exported: Exported, download: Callable[..., Result], tmp_path: Path
) -> None:
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    (disk,) = manifest.disks[:1]
    body = exported.cos.read(exported.bucket, disk.key)
    assert body is not None
    exported.cos.put(exported.bucket, disk.key, body[:-1] + b"x")
    result = download(manifest.export_id)
    assert result.exit_code == 1
    assert "was replaced or deleted since it was proven" in result.stderr
    assert not (folder(exported, tmp_path, exported.other, PERIOD) / "disk-0.vhd").exists()


def program(connections: Path, tmp_path: Path, *words: str) -> list[str]:
    sealift = str(Path(sys.executable).with_name("sealift"))
    return [sealift, "download", "--connections", str(connections), "--to", str(tmp_path / "images"), *words]


def grown(part: Path, least: int) -> bool:
    """Say whether so many bytes of an unfinished file have been written."""
    if not part.exists():
        return False
    with part.open("rb") as file:
        return any(file.read(least)[least - 4096 :])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_an_interrupted_download_goes_on(
    exported: Exported, connections: Path, tmp_path: Path, how: signal.Signals
) -> None:
    """At a rate at which it takes a while; then at full speed to its end."""
    name = f"{exported.several.guest_id}-{LATER}"
    where = folder(exported, tmp_path, exported.several, LATER)
    size = exported.manifest(exported.several.guest_id, LATER).disks[0].size
    slow = program(connections, tmp_path, name, "--limit-rate", str(size // 30))
    running = subprocess.Popen(slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not grown(where / "disk-0.vhd.part", 8192):
        assert time.monotonic() < deadline, "nothing arrived"
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    running.send_signal(how)
    _, err = running.communicate(timeout=60)
    if how == signal.SIGINT:
        assert running.returncode == 130
        assert "the same command goes on" in err
        assert "Traceback" not in err
    else:
        assert running.returncode == -signal.SIGKILL
    assert not (where / "SHA256SUMS").exists()
    ended = subprocess.run(
        program(connections, tmp_path, name), capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=where, check=True)


def test_on_a_terminal_there_is_a_bar(exported: Exported, connections: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    words = program(connections, tmp_path, f"{exported.several.guest_id}-{LATER}")
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=follower, env=env, text=True)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    assert running.wait(60) == 0
    os.close(leader)
    text = shown.decode()
    assert "disk-0.vhd" in text
    assert "whole" in text
    assert "━" in text


def test_nothing_secret_is_said(exported: Exported, download: Callable[..., Any]) -> None:
    said = download("nobody").output + download(str(exported.several.guest_id)).output
    for one in exported.sandbox.connections().values():
        for secret in (one.get("password"), *(one.get("extra") or {}).values()):
            if isinstance(secret, str) and len(secret) > 20:
                assert secret not in said
