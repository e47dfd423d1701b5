"""Runs that stand for a slot: a real scheduled run, and a backfill, which cannot capture the past."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.exports import names
from tools.local_airflow import LocalAirflow

PREFIX = "scheduled"


@pytest.fixture(scope="module")
def scheduled(house, tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Iterator[LocalAirflow]:
    """An Airflow of its own, whose settings make plan_exports run once a month for one server."""
    params = {"hostnames": ["win-01"], "bucket": house.sandbox.bucket, "prefix": PREFIX}
    airflow = LocalAirflow(
        home=tmp_path_factory.mktemp("scheduled") / "airflow",
        project_root=project_root,
        settings={
            "AIRFLOW__SEALIFT__POLL_INTERVAL": "1",
            "AIRFLOW__SEALIFT__RETRIES": "1",
            "AIRFLOW__SEALIFT__RETRY_DELAY": "1",
            "AIRFLOW__SEALIFT__SCHEDULE": "0 0 1 * *",
            "AIRFLOW__SEALIFT__DEFAULT_PARAMS": json.dumps(params),
        },
    )
    with airflow:
        airflow.wait_until_ready(dags=("plan_exports", "export_servers"))
        for connection_id, fields in house.sandbox.connections().items():
            airflow.add_connection(connection_id, **fields)
        yield airflow
    assert airflow.running() == []


def runs_of(airflow: LocalAirflow, kind: str, count: int) -> list[dict[str, Any]]:
    """Wait until there are so many ended runs of a kind."""
    deadline = time.monotonic() + 240
    while True:
        runs = [run for run in airflow.api.runs("plan_exports") if run["run_type"] == kind]
        if len(runs) >= count and all(run["state"] in {"success", "failed"} for run in runs):
            return runs
        assert time.monotonic() < deadline, (
            f"{kind} runs after 240 s: {[(run['dag_run_id'], run['state']) for run in runs]}"
        )
        time.sleep(0.5)


def test_a_scheduled_run_exports_under_its_slot(house, scheduled: LocalAirflow) -> None:
    (run,) = runs_of(scheduled, "scheduled", 1)
    if run["state"] == "failed":
        # It may have begun before its connections were there: then it is cleared, as a person would.
        scheduled.api.clear("plan_exports", run["dag_run_id"], ["make_plan"])
        assert scheduled.api.wait("plan_exports", run["dag_run_id"], seconds=240) == "success"
    period = run["logical_date"].replace("-", "").replace(":", "")[:13] + "Z"
    assert period.endswith("01T0000Z")
    keys = [one.key for one in house.sandbox.store.list(house.sandbox.bucket, names.manifests_prefix(PREFIX))]
    assert len(keys) == 1
    assert names.parse_manifest_key(keys[0]) is not None
    assert keys[0].endswith(f"/{period}.json"), "the manifest is named by the slot"
    templates = [one["name"] for one in house.sandbox.templates()]
    assert sum(name.endswith(period) for name in templates) == 1


def test_a_backfill_captures_nothing_for_a_past_slot(house, scheduled: LocalAirflow) -> None:
    before = house.calls()
    scheduled.api.request(
        "POST",
        "backfills",
        json={
            "dag_id": "plan_exports",
            "from_date": "2026-08-15T00:00:00Z",
            "to_date": "2026-10-15T00:00:00Z",
            "reprocess_behavior": "none",
        },
    )
    runs = runs_of(scheduled, "backfill", 2)
    assert [run["state"] for run in runs] == ["success"] * 2
    assert house.calls() == before, "nothing was captured or exported"
    for run in runs:
        plan_id = names.plan_id_for(dag_id="plan_exports", run_id=run["dag_run_id"])
        report = house.read_json(house.sandbox.bucket, names.report_key(prefix=PREFIX, plan_id=plan_id))
        (outcome,) = report["outcomes"]
        assert (outcome["kind"], outcome["rule"]) == ("not exportable", "past-slot")
