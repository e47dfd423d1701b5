"""Runs that stand for a slot: a real scheduled run, and a backfill, which cannot capture the past."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.classic.client import ClassicClient
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


def period_of(run: dict[str, Any]) -> str:
    return run["logical_date"].replace("-", "").replace(":", "")[:13] + "Z"


def test_a_scheduled_run_exports_under_its_slot(house, scheduled: LocalAirflow) -> None:
    (run,) = runs_of(scheduled, "scheduled", 1)
    if run["state"] == "failed":
        # It may have begun before its connections were there: then it is cleared, as a person would.
        scheduled.api.clear("plan_exports", run["dag_run_id"], ["make_plan"])
        assert scheduled.api.wait("plan_exports", run["dag_run_id"], seconds=240) == "success"
    period = period_of(run)
    assert period.endswith("01T0000Z")
    keys = [one.key for one in house.sandbox.store.list(house.sandbox.bucket, names.manifests_prefix(PREFIX))]
    assert len(keys) == 1
    assert names.parse_manifest_key(keys[0]) is not None
    assert keys[0].endswith(f"/{period}.json"), "the manifest is named by the slot"
    templates = [one["name"] for one in house.sandbox.templates()]
    assert sum(name.endswith(period) for name in templates) == 1


def periods_of(house) -> dict[str, str]:
    """The manifests' periods, with when each was written."""
    stored = house.sandbox.store.list(house.sandbox.bucket, names.manifests_prefix(PREFIX))
    return {one.key.split("/")[-1].removesuffix(".json"): one.etag for one in stored}


def report_of(house, run_id: str) -> dict[str, Any]:
    plan_id = names.plan_id_for(dag_id="plan_exports", run_id=run_id)
    return house.read_json(house.sandbox.bucket, names.report_key(prefix=PREFIX, plan_id=plan_id))


def test_a_finished_slot_that_is_run_again_captures_nothing(house, scheduled: LocalAirflow) -> None:
    (run,) = runs_of(scheduled, "scheduled", 1)
    before, manifests = house.calls(), periods_of(house)
    scheduled.api.clear("plan_exports", run["dag_run_id"], ["make_plan"])
    assert scheduled.api.wait("plan_exports", run["dag_run_id"], seconds=240) == "success"
    again = scheduled.api.trigger("plan_exports", {"only": "missing"})
    assert scheduled.api.wait("plan_exports", again, seconds=240) == "success"
    assert house.calls() == before, "neither the slot's own run nor one that looks for what is missing did anything"
    assert periods_of(house) == manifests
    (outcome,) = report_of(house, again)["outcomes"]
    assert outcome["kind"] == "already exported"
    assert outcome["export_id"].endswith(next(iter(manifests)))


def test_a_backfill_adopts_what_was_captured_in_its_slot_and_captures_nothing(house, scheduled: LocalAirflow) -> None:
    (guest,) = [one for one in house.sandbox.world.guests.values() if one["hostname"] == "win-01"]
    slots = ("20260901T0000Z", "20261001T0000Z")
    captured = names.export_id(guest_id=guest["id"], period=slots[1])
    client = ClassicClient(
        username=house.sandbox.username,
        api_key=house.sandbox.api_key,
        endpoint_url=house.sandbox.api_url,
        verify=house.sandbox.connections()["ibm_classic_default"]["extra"]["verify"],
    )
    disks = [one.id for one in client.get_guests([guest["id"]])[guest["id"]].block_devices if not one.left_out_because]
    client.capture(guest["id"], name=names.template_name(captured), block_device_ids=disks, note="of that time")
    before = house.calls()
    scheduled.api.backfill("plan_exports", start="2026-08-15T00:00:00Z", end="2026-10-15T00:00:00Z")
    runs = {period_of(run): run for run in runs_of(scheduled, "backfill", 2)}
    assert {slot: run["state"] for slot, run in runs.items()} == dict.fromkeys(slots, "success")
    assert house.calls() - before == {"copyToIcos": 1}, "one export, and no capture"
    (refused,) = report_of(house, runs[slots[0]]["dag_run_id"])["outcomes"]
    assert (refused["kind"], refused["rule"]) == ("not exportable", "past-slot")
    (adopted,) = report_of(house, runs[slots[1]]["dag_run_id"])["outcomes"]
    assert (adopted["kind"], adopted["export_id"]) == ("exported", captured)
    manifest = house.read_json(house.sandbox.bucket, adopted["manifest_key"])
    assert manifest["captured_at"] > "2026-10-02", "the manifest says when the capture really was"


def test_retention_keeps_of_the_slots_what_its_rules_say_by_the_time_of_capture(house, scheduled: LocalAirflow) -> None:
    """A sample of ``make retention-year``: the slot that was captured last stays, though it is the older one."""
    before = periods_of(house)
    assert len(before) == 2
    (guest,) = [one for one in house.sandbox.world.guests.values() if one["hostname"] == "win-01"]
    rules = [{"name": "all", "servers": {"all": True}, "keep_monthly": 1, "keep_last": 1}]
    given = {"rules": rules, "bucket": house.sandbox.bucket, "region": "us-south", "prefix": PREFIX}
    run_id = scheduled.api.trigger("apply_retention", {**given, "approve_above": None})
    assert scheduled.api.wait("apply_retention", run_id, seconds=120) == "success"
    assert list(periods_of(house)) == ["20261001T0000Z"]
    stored = [one.key for one in house.sandbox.store.list(house.sandbox.bucket, f"{PREFIX}/images/")]
    assert stored
    assert {key.split("/")[3] for key in stored} == {f"{guest['id']}-20261001T0000Z"}
    gone = {names.template_name(f"{guest['id']}-{one}") for one in before if one != "20261001T0000Z"}
    deadline = time.monotonic() + 60
    while gone & {one["name"] for one in house.sandbox.templates()}:
        assert time.monotonic() < deadline, "the account deletes in transactions of its own"
        time.sleep(0.5)
    assert f"sealift-{guest['id']}-20261001T0000Z" in {one["name"] for one in house.sandbox.templates()}
