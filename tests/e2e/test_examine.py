"""What a run left behind is said in its report, and found by the examination that runs as a DAG."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sealift.exports import names


@pytest.fixture(autouse=True)
def no_fault_stays(house) -> Iterator[None]:
    yield
    house.sandbox.faults.clear()


def test_what_a_run_leaves_behind_is_reported_and_found_and_kept(house) -> None:
    house.sandbox.set_fault("missing_last_object", rate=1.0)
    ran = house.plan(hostnames=["db-*"], grace_minutes=0.1)
    assert ran.state == "failed"
    log = ran.log("report")
    for kind in ("orphan-template", "half-export"):
        assert f"Left behind: {kind}: db-01" in log
    assert "The run left 2 things behind" in log

    before = (house.sandbox.writes(), {one.key: one.etag for one in house.sandbox.store.list(ran.bucket)})
    run_id = house.api.trigger("examine_exports", {"prefix": ran.prefix, "settled_minutes": 0})
    assert house.api.wait("examine_exports", run_id, seconds=180) == "success"
    key = names.examination_key(prefix=ran.prefix, run_id=run_id)
    found = house.read_json(ran.bucket, key)
    assert [one["kind"] for one in found["findings"]] == ["orphan-template", "half-export"]
    assert found["findings"][1]["missing"][0].endswith("disk-3.vhd")
    assert f"The run of the plan {ran.plan_id} reported it as failed at wait_for_export" in found["findings"][1]["what"]
    log = house.api.log("examine_exports", run_id, "examine")
    assert "half-export: db-01 (virtual server " in log
    assert "2 findings: 1 orphan-template, 1 half-export" in log
    writes, objects = house.sandbox.writes(), {one.key: one.etag for one in house.sandbox.store.list(ran.bucket)}
    assert writes == before[0]
    assert objects.pop(key)
    assert objects == before[1]
