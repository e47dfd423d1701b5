"""Retention in a real Airflow: nobody is asked for little, somebody for much, and a rejection deletes nothing."""

from __future__ import annotations

import re
from typing import Any

from sealift.exports import names
from sealift.exports.retention import keys

RULES = [{"name": "all", "servers": {"all": True}, "keep_last": 1}]


def objects_of(house: Any, ran: Any, export: str) -> list[str]:
    guest_id, period = names.parse_export_id(export)
    listed = [one.key for one in house.sandbox.store.list(ran.bucket, f"{ran.prefix}/")]
    return [one for one in listed if f"/{export}/" in one or one.endswith(f"manifests/{guest_id}/{period}.json")]


def start(house: Any, ran: Any, **conf: Any) -> str:
    given = {"rules": RULES, "bucket": ran.bucket, "region": "us-south", "prefix": ran.prefix, **conf}
    return str(house.api.trigger("apply_retention", given))


def answer(house: Any, run_id: str, option: str) -> dict[str, Any]:
    asked: dict[str, Any] = house.question("apply_retention", run_id)
    house.answer("apply_retention", run_id, option)
    return asked


def states_of(house: Any, run_id: str) -> dict[str, str]:
    return {one["task_id"]: one["state"] for one in house.api.task_instances("apply_retention", run_id)}


def test_what_is_rejected_stays_and_what_is_approved_goes(house: Any) -> None:
    first = house.plan(hostnames=["web-01"])
    assert first.state == "success"
    second = house.start_plan(hostnames=["web-01"], prefix=first.prefix)
    assert house.api.wait("plan_exports", second.run_id, seconds=300) == "success"
    old, new = first.manifests()["web-01"], second.manifests()["web-01"]
    before = objects_of(house, first, old["export_id"])
    assert len(before) >= 3

    rejected = start(house, first, approve_above=0)
    asked = answer(house, rejected, "Reject")
    # The account has the templates of other tests' exports of this server, too.
    assert re.fullmatch(r"1 of 2 exports and 1 of \d+ image templates of 1 servers go", asked["subject"])
    key = keys.dry_run_key(prefix=first.prefix, retention_id=keys.retention_id_for(rejected))
    assert key in asked["body"]
    assert house.api.wait("apply_retention", rejected, seconds=120) == "success"
    assert states_of(house, rejected) == {"dry_run": "success", "approve": "success", "apply": "skipped"}
    assert objects_of(house, first, old["export_id"]) == before
    assert [one["export_id"] for one in house.read_json(first.bucket, key)["exports"]] == [old["export_id"]]

    approved = start(house, first, approve_above=0)
    answer(house, approved, "Approve")
    assert house.api.wait("apply_retention", approved, seconds=120) == "success"
    assert states_of(house, approved)["apply"] == "success"
    assert objects_of(house, first, old["export_id"]) == []
    assert len(objects_of(house, first, new["export_id"])) == len(before)
    result = keys.result_key(prefix=first.prefix, retention_id=keys.retention_id_for(approved))
    assert [one["done"] for one in house.read_json(first.bucket, result)["outcomes"]] == ["removed"]
    assert f"removed: {old['export_id']}" in house.api.log("apply_retention", approved, "apply")

    quiet = start(house, first)
    assert house.api.wait("apply_retention", quiet, seconds=120) == "success"
    assert states_of(house, quiet) == {"dry_run": "success", "approve": "success", "apply": "success"}
