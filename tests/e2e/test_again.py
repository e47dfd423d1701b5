"""Trying the failed servers of a run again is one action, and captures nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from sealift.exports import names

CAPTURE = "createArchiveTemplate"


@pytest.fixture(autouse=True)
def no_fault_stays(house) -> Iterator[None]:
    yield
    house.sandbox.faults.clear()


def test_the_failed_server_alone_is_tried_again_under_its_own_export_id(house) -> None:
    # The account says three times that it does not know the server: to the triggerer for each of the two, which leaves
    # it to a worker, and to one worker, which fails. Each is in a wave of its own.
    house.sandbox.set_fault("guest_404", times=3, methods=[CAPTURE])
    first = house.plan(hostnames=["web-*", "files-*"], wave_size=1)
    assert first.state == "failed"
    outcomes = first.outcomes()
    assert Counter(one["kind"] for one in outcomes.values()) == {"exported": 1, "failed": 1}
    (failed,) = [one for one in outcomes.values() if one["kind"] == "failed"]
    assert failed["task"] == "capture"
    states = {one["task_id"]: one["state"] for one in house.api.task_instances("plan_exports", first.run_id)}
    assert states["export_waves"] == states["wait_for_waves"] == "success", "a failed server holds up no wave"
    assert f"only=failed and plan={first.plan_id}" in first.log("report")

    again = house.plan(only="failed", plan=f"{first.prefix}/plans/{first.plan_id}.json", prefix="ignored")
    again.prefix = first.prefix
    assert again.state == "success", again.log("make_plan")
    plan = again.plan()
    assert (plan["retry_of"], plan["period"]) == (first.plan_id, first.period)
    assert [item["export_id"] for item in plan["items"]] == [failed["export_id"]]
    assert again.report()["retry_of"] == first.plan_id
    assert set(first.manifests()) == set(outcomes), "both under the period of the first run"
    of_the_period = [one["name"] for one in house.sandbox.templates() if one["name"].endswith(f"-{first.period}")]
    assert sorted(of_the_period) == sorted(names.template_name(one["export_id"]) for one in outcomes.values())


def test_what_cannot_be_tried_again_is_refused_before_anything_is_captured(house, exported) -> None:
    before = house.calls()
    runs = {
        "Nothing of the plan": house.start_plan(only="failed", plan=exported.plan_id, prefix=exported.prefix),
        "Did you mean": house.start_plan(only="failed", plan=f"{exported.plan_id}0", prefix=exported.prefix),
        "needs the plan": house.start_plan(only="failed"),
    }
    for says, ran in runs.items():
        assert house.api.wait("plan_exports", ran.run_id, seconds=120) == "failed"
        assert ran.task("make_plan")["try_number"] == 1, "it is not tried again"
        assert says in ran.log("make_plan")
    assert house.calls() == before
