"""The demo's figures and tables: counted from what is there, and wrong when something is missing."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sealift.exports.manifest import Manifest
from sealift.exports.report import OutcomeKind, ServerOutcome
from tools.demo_figures import Figures, counted, due, read_manifests
from tools.demo_stack import _holds_data
from tools.demo_view import STEPS, Row, live_table, progress, result_table

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def manifest(guest_id: int, *levels: str) -> Manifest:
    """A manifest with one disk for each proof level."""
    disk = {
        "device": "0", "key": "k", "size": 10, "virtual_size": 10, "capacity": 1, "units": "GB",
        "format": "vhd-dynamic", "etag": "e", "uploaded_at": NOW, "footer_uuid": "u", "creator": "c",
        "partition_table": "mbr", "checks": [],
        "proof_bytes_read": 1, "proof_requests": 1,
    }  # fmt: skip
    return Manifest.model_validate(
        {
            "export_id": f"{guest_id}-p", "period": "p", "guest": {"id": guest_id, "hostname": f"host-{guest_id}"},
            "template": {"id": 1, "name": "t"}, "captured_at": NOW, "exported_at": NOW, "proven_at": NOW, "bucket": "b",
            "region": "us-south", "format": "vhd", "proof_level": min(levels),
            "disks": [{**disk, "index": index, "proof_level": level} for index, level in enumerate(levels)],
            "record": {"key": "r", "size": 1, "digest": "sha256:" + "0" * 64},
            "run": {"dag_id": "d", "run_id": "r", "try_number": 1, "sealift_version": "0"},
        }
    )  # fmt: skip


def outcome(guest_id: int, kind: OutcomeKind, server: str = "virtual") -> ServerOutcome:
    return ServerOutcome.model_validate({"kind": kind, "server": server, "id": guest_id, "hostname": "h"})


def test_what_is_due_follows_from_the_account() -> None:
    guests = [
        {"exportable": True, "disks": ["0"]},
        {"exportable": True, "disks": ["0", "2", "4", "5"]},
        {"exportable": False, "disks": ["0", "2"]},
    ]
    assert due(guests) == Figures(exported=2, disks=5, not_exportable=1, failed=0)


def test_what_came_out_is_counted_from_the_manifests() -> None:
    outcomes = [
        outcome(1, OutcomeKind.EXPORTED),
        outcome(2, OutcomeKind.EXPORTED),
        outcome(3, OutcomeKind.NOT_EXPORTABLE),
        outcome(4, OutcomeKind.FAILED),
    ]
    figures = counted([manifest(1, "L1"), manifest(2, "L1", "L0")], outcomes)
    assert figures == Figures(exported=2, disks=2, not_exportable=1, failed=1)
    assert figures.sentence() == "demo: 2 exported, 2 disks proven, 1 not exportable, 1 failed"


def test_a_report_without_the_manifest_is_no_export() -> None:
    assert counted([], [outcome(1, OutcomeKind.EXPORTED)]) == Figures(failed=1)


def test_a_bare_metal_server_with_a_guests_id_is_not_that_guest() -> None:
    both = [outcome(1, OutcomeKind.EXPORTED), outcome(1, OutcomeKind.NOT_EXPORTABLE, "bare metal")]
    assert counted([manifest(1, "L1")], both) == Figures(exported=1, disks=1, not_exportable=1)


class Bucket:
    """Objects in memory, as far as the ledger is read."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects

    def list(self, bucket: str, prefix: str) -> Any:
        return [type("Info", (), {"key": key}) for key in self.objects if key.startswith(prefix)]

    def read(self, bucket: str, key: str) -> bytes:
        return self.objects[key]


def test_only_the_runs_own_manifests_are_read() -> None:
    mine, other = manifest(1, "L1"), manifest(2, "L1")
    bucket = Bucket(
        **{
            "demo/manifests/1/p.json": mine.model_dump_json().encode(),
            "demo/manifests/2/earlier.json": other.model_dump_json().encode(),
            "demo/manifests/readme.txt": b"no manifest",
        }
    )
    assert read_manifests(bucket, bucket="b", prefix="demo", period="p") == {1: ("demo/manifests/1/p.json", mine)}


@pytest.mark.parametrize(
    ("device", "holds"),
    [
        ({"mountType": "Disk", "diskImage": {"name": "web.example.com", "type": {"keyName": "SYSTEM"}}}, True),
        ({"mountType": "Disk", "diskImage": {"name": "1-SWAP", "type": {"keyName": "SWAP"}}}, False),
        ({"mountType": "Disk", "diskImage": {"name": "web - Metadata", "type": {"keyName": "SYSTEM"}}}, False),
        ({"mountType": "CD"}, False),
    ],
)
def test_which_devices_hold_data(device: dict[str, Any], holds: bool) -> None:
    assert _holds_data(device) is holds


def instances(index: int, *states: str | None) -> list[dict[str, Any]]:
    """Task instances of one server, a step a minute."""
    made = []
    for number, (step, state) in enumerate(zip(STEPS, states, strict=False)):
        start = NOW + timedelta(minutes=number)
        ended = state in ("success", "failed")
        made.append(
            {
                "task_id": f"export.{step}", "map_index": index, "state": state,
                "start_date": start.isoformat() if state not in (None, "scheduled") else None,
                "end_date": (start + timedelta(minutes=1)).isoformat() if ended else None,
            }
        )  # fmt: skip
    return made


def test_progress_names_the_step_and_the_state() -> None:
    tasks = [
        *instances(0, *["success"] * 3),
        *instances(1, "success", "deferred"),
        *instances(2, "scheduled"),
        *instances(3, "success", "failed", "upstream_failed"),
        *instances(4, "up_for_retry"),
        {"task_id": "summarise", "map_index": -1, "state": None},
    ]
    now = NOW + timedelta(minutes=10)
    found = progress(tasks, ["a", "b", "c", "d", "e"], now=now)
    assert [(one.name, one.step, one.state) for one in found] == [
        ("a", 3, "done"),
        ("b", 1, "running"),
        ("c", 0, "waiting"),
        ("d", 1, "failed"),
        ("e", 0, "running"),
    ]
    assert [one.doing for one in found] == [
        "exported",
        "being captured (offline)",
        "waiting its turn",
        "failed: being captured (offline)",
        "waiting for an offline slot, to be tried again",
    ]
    assert [one.seconds for one in found] == [180, 600, 0, 120, 600]


def drawn(table: Any) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_tables_hold_everything_in_full() -> None:
    key = "demo/manifests/120000000/manual-20261123T131621Z-c42476ec.json"
    rows = [
        Row("web-01", "12700003", "1", "6,346,240", "L1", "48", key),
        Row("old-01", result="not exportable", ok=False),
    ]
    text = drawn(result_table(rows))
    assert key in text
    for word in ("server", "template", "disks", "bytes", "proof", "seconds", "6,346,240", "L1", "not exportable"):
        assert word in text
    live = drawn(live_table(progress(instances(0, "deferred"), ["web-01"], now=NOW), {"old-01": "refused"}, elapsed=12))
    assert "web-01" in live
    assert "waiting for an offline slot" in live
    assert "refused" in live


def test_the_makefile_says_what_there_is(project_root: Path) -> None:
    text = (project_root / "Makefile").read_text()
    described = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    assert described >= {"help", "demo", "up", "down", "test", "lint", "format", "lock", "clean"}
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split())
    assert described <= phony
    readme = (project_root / "README.md").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", readme, re.MULTILINE):
        assert target in phony, f"README names make {target}"
