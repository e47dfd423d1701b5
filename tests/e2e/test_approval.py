"""Plans wait for a person in a real Airflow: approved, one goes on; refused or unanswered, nothing is captured."""

from __future__ import annotations

import time
from typing import Any

DAG = "plan_exports"


def question_of(house: Any, ran: Any) -> dict[str, Any]:
    """Wait until a run asks, and return what it asks."""
    deadline = time.monotonic() + 120
    while True:
        told = house.api.request("GET", f"dags/{DAG}/dagRuns/{ran.run_id}/hitlDetails")["hitl_details"]
        if told and ran.task("approve")["state"] == "awaiting_input":
            return dict(told[0])
        assert time.monotonic() < deadline, ran.log("approve")
        time.sleep(0.5)


def answer(house: Any, ran: Any, option: str) -> None:
    path = f"dags/{DAG}/dagRuns/{ran.run_id}/taskInstances/approve/-1/hitlDetails"
    house.api.request("PATCH", path, json={"chosen_options": [option], "params_input": {}})


def captures(house: Any) -> int:
    return int(house.calls()["createArchiveTemplate"])


def test_nothing_is_captured_that_nobody_approved(house: Any) -> None:
    before = captures(house)
    approved = house.start_plan(hostnames=["web-*"], approval="always")
    refused = house.start_plan(hostnames=["web-*", "db-*"], approval="always")
    unanswered = house.start_plan(hostnames=["web-*"], approval="always", approval_hours=0.001)
    question = question_of(house, approved)
    assert question["subject"] == "Take a virtual server offline to export it?"
    assert "web-01" in question["body"]
    question_of(house, refused)
    assert captures(house) == before, "both wait"
    answer(house, refused, "Reject")
    for ran in (refused, unanswered):
        assert house.api.wait(DAG, ran.run_id, seconds=300) == "success", "a person's answer is no failure"
        outcomes = ran.outcomes()
        assert {(one["kind"], one["rule"]) for one in outcomes.values()} == {("not exportable", "not-approved")}
        assert ran.manifests() == {}
    assert set(refused.outcomes()) == {"web-01", "db-01"}
    assert "refused the captures of this plan" in refused.outcomes()["web-01"]["words"]
    assert "Nobody approved the captures of this plan" in unanswered.outcomes()["web-01"]["words"]
    assert captures(house) == before
    answer(house, approved, "Approve")
    assert house.api.wait(DAG, approved.run_id, seconds=300) == "success"
    assert {name: one["kind"] for name, one in approved.outcomes().items()} == {"web-01": "exported"}
    assert captures(house) == before + 1
