"""A plan that asks for level L4, and a drill: real Airflow processes prove the sandbox's servers, and start them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sealift.exports import names


@pytest.fixture(scope="module")
def proven(house: Any) -> Any:
    """Three servers, proven as deep as can be."""
    return house.plan(hostnames=["web-*", "db-*", "win-*"], proof_level="L4")


def test_servers_are_read_and_started_before_their_exports_are_done(house: Any, proven: Any) -> None:
    ran = proven
    assert ran.state == "success", ran.outcomes()
    manifests = ran.manifests()
    levels = {hostname: one["proof_level"] for hostname, one in manifests.items()}
    # Windows shows no prompt that a program can see: that it was not started is said, not passed over.
    assert levels == {"web-01": "L4", "db-01": "L4", "win-01": "L3"}
    assert {name: one["proof_level"] for name, one in ran.outcomes().items() if name in levels} == levels
    for hostname, manifest in manifests.items():
        guest_id = manifest["guest"]["id"]
        key = names.proof_key(prefix=ran.prefix, guest_id=guest_id, period=manifest["period"], number=1)
        proof = house.read_json(ran.bucket, key)
        assert proof["export_id"] == manifest["export_id"]
        assert [one["sha256"] for one in proof["disks"]] == [one["sha256"] for one in manifest["disks"]]
        assert all(one["sha256"] for one in proof["disks"])
        if hostname == "win-01":
            assert proof["boot"]["tries"] == []
            assert proof["boot"]["checks"][0]["detail"].startswith("not started")
            continue
        assert proof["content"]["system"]["hostname"] == hostname
        assert [one["login"] for one in proof["boot"]["tries"]][-1:] == [True]
        picture = house.sandbox.store.path_of(ran.bucket, proof["boot"]["screenshot"])
        assert picture is not None
        assert picture.read_bytes().startswith(b"\x89PNG")


def rot(house: Any, ran: Any, key: str) -> None:
    """Flip a bit of an object, as a disk of the store that rots; what the store says of it stays."""
    path = house.sandbox.store.path_of(ran.bucket, key)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.unlink()  # its bytes may be shared with other objects
    path.write_bytes(body)


def test_a_drill_brings_servers_back_and_names_the_one_that_does_not_come(house: Any, proven: Any) -> None:
    manifests = proven.manifests()
    rot(house, proven, manifests["db-01"]["disks"][0]["key"])
    place = {"bucket": proven.bucket, "region": "us-south", "prefix": proven.prefix}
    run_id = house.api.trigger("drill_restores", {**place, "within": 1, "level": "L3"})
    assert house.api.wait("drill_restores", run_id, seconds=300) == "failed"
    tasks = house.api.task_instances("drill_restores", run_id)
    states = {one.get("rendered_map_index") or one["task_id"]: one["state"] for one in tasks}
    assert states == {
        "choose_exports": "success",
        "web-01": "success",
        "win-01": "success",
        "db-01": "failed",
        "report": "failed",
    }
    log = house.api.log("drill_restores", run_id, "report")
    assert f"db-01 (export {manifests['db-01']['export_id']}) did not come back" in log
    assert "2 of 3 servers (67 %) came back within the last 90 days: 2 at L3; 1 did not" in log
    path = f"dags/drill_restores/dagRuns/{run_id}/taskInstances/report/xcomEntries/report"
    told = house.api.request("GET", path)["value"]
    told = json.loads(told) if isinstance(told, str) else told
    assert (told["servers"], told["proven"], told["failing"], told["time_to_recover"]["count"]) == (3, 2, 1, 2)
    for hostname in ("web-01", "win-01"):
        where = {"guest_id": manifests[hostname]["guest"]["id"], "period": manifests[hostname]["period"]}
        proof = house.read_json(proven.bucket, names.proof_key(prefix=proven.prefix, **where, number=2))
        assert proof["recovery"]["seconds"] > 0
        assert proof["made_by"] == f"drill_restores {run_id}"
