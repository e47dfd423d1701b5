"""Plans wait for a person in a real Airflow: approved, one goes on; refused or unanswered, nothing is captured."""

from __future__ import annotations

from typing import Any

DAG = "plan_exports"


def captures(house: Any) -> int:
    return int(house.calls()["createArchiveTemplate"])


def test_nothing_is_captured_that_nobody_approved(house: Any) -> None:
    before = captures(house)
    unanswered = house.start_plan(hostnames=["web-*"], approval="always", approval_hours=0.01)
    approved = house.start_plan(hostnames=["web-*"], approval="always")
    refused = house.start_plan(hostnames=["web-*", "db-*"], approval="always")
    question = house.question(DAG, approved.run_id)
    assert question["subject"] == "Take a virtual server offline to export it?"
    assert "web-01" in question["body"]
    about = (approved.run_id, "approval")
    asked = house.posts.wait_for(lambda one: (one.body["run_id"], one.body["kind"]) == about).body
    assert asked["servers"][0]["hostname"] == "web-01"
    assert "under Required Actions" in asked["next_steps"][0]
    house.question(DAG, refused.run_id)
    assert captures(house) == before, "both wait"
    house.answer(DAG, refused.run_id, "Reject")
    for ran in (refused, unanswered):
        assert house.api.wait(DAG, ran.run_id, seconds=300) == "success", "a person's answer is no failure"
        outcomes = ran.outcomes()
        assert {(one["kind"], one["rule"]) for one in outcomes.values()} == {("not exportable", "not-approved")}
        assert ran.manifests() == {}
    assert set(refused.outcomes()) == {"web-01", "db-01"}
    assert "refused the captures of this plan" in refused.outcomes()["web-01"]["words"]
    assert "Nobody approved the captures of this plan" in unanswered.outcomes()["web-01"]["words"]
    assert captures(house) == before
    house.answer(DAG, approved.run_id, "Approve")
    assert house.api.wait(DAG, approved.run_id, seconds=300) == "success"
    assert {name: one["kind"] for name, one in approved.outcomes().items()} == {"web-01": "exported"}
    assert captures(house) == before + 1
