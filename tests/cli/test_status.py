"""``sealift status`` over a made-up year: the same figures as the page's API, and an index where one is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.ledger import Year, fill
from sealift.cli import main
from sealift.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", seed=7) as made:
        year = Year(servers=30, slots=3, failed=0.2, indexed=False)
        fill(made.store, bucket=made.bucket, region="us-south", prefix="sealift", year=year)
        yield made


@pytest.fixture
def run(sandbox: Sandbox, tmp_path: Path) -> Any:
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(sandbox.connections()))

    def asked(*options: str, prefix: str = "sealift") -> Result:
        words = ["status", "--connections", str(path), "--bucket", sandbox.bucket, "--prefix", prefix, *options]
        return CliRunner().invoke(main, words)

    return asked


def keys(sandbox: Sandbox, prefix: str) -> list[str]:
    found = (bytes(row[0]).decode() for row in sandbox.store.database.query("SELECT key FROM objects"))
    return sorted(one for one in found if one.startswith(prefix))


def test_it_counts_states_by_slot_and_changes_nothing(run: Any, sandbox: Sandbox) -> None:
    done = run("--servers")
    assert done.exit_code == 0, done.output
    assert "Slot" in done.output
    assert "host00000" in done.output
    assert "unconfirmed" in done.output
    assert keys(sandbox, "sealift/index/") == []


def test_json_is_what_the_api_says(run: Any) -> None:
    found = json.loads(run("--json", "--slots", "2").output)
    assert found["total"] == 30
    assert len(found["slots"]) == 2
    assert len(found["servers"]) == 30
    assert found["slots"][1]["unread"] == 0
    assert {cell for one in found["servers"] for cell in one["cells"]} == {"L1", "running", "failed"}


def test_a_failed_server_is_named_with_its_reason_and_makes_the_exit_status_1(run: Any, sandbox: Sandbox) -> None:
    slots = {row["period"]: row for row in json.loads(run("--json").output)["slots"]}
    newest = max(slots)
    key = next(one for one in keys(sandbox, "sealift/plans/") if newest[:13] in one)
    body = sandbox.store.path_of(sandbox.bucket, key)
    assert body is not None
    failed = json.loads(body.read_text())["items"][1]
    outcome = {"kind": "failed", "export_id": failed["export_id"], "task": "export", "words": "<b>no</b> space left"}
    report = {"schema_version": 1, "reported_at": "2026-11-27T12:00:00Z", "outcomes": [outcome]}
    report_key = key.removesuffix(".json") + "/wave-0000.report.json"
    sandbox.store.put_bytes(bucket=sandbox.bucket, key=report_key, data=json.dumps(report).encode())
    done = run()
    assert done.exit_code == 1, done.output
    assert f"{failed['hostname']} ({failed['guest_id']}) failed: <b>no</b> space left" in done.output
    sandbox.store.delete(sandbox.bucket, report_key)


def test_write_index_writes_each_slot_once(run: Any, sandbox: Sandbox) -> None:
    assert "3 indexes were written" in run("--write-index").output
    assert len(keys(sandbox, "sealift/index/")) == 3
    assert "0 indexes were written" in run("--write-index").output


def test_an_empty_prefix_says_so(run: Any) -> None:
    done = run(prefix="nothing-here")
    assert done.exit_code == 0
    assert "no export, and no plan" in done.output


def test_what_cannot_be_looked_at_ends_with_2(run: Any, tmp_path: Path) -> None:
    done = run("--bucket", "no-such-bucket")
    assert done.exit_code == 2
    assert "Could not look" in done.output
    prices = tmp_path / "prices.json"
    prices.write_text("{}")
    done = run("--prices", str(prices))
    assert done.exit_code == 2
    assert "no file of prices" in done.output
