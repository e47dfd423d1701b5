"""Faults of the account on the way: one server's failure stays its own, and a lost reply captures nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_fault_stays(house) -> Iterator[None]:
    yield
    house.sandbox.faults.clear()


def test_a_damaged_image_fails_alone(house) -> None:
    house.sandbox.set_fault("damaged_object", times=1)
    ran = house.plan(hostnames=["web-*", "win-*", "batch-*"])
    assert ran.state == "failed"
    outcomes = ran.outcomes()
    assert Counter(one["kind"] for one in outcomes.values()) == {"exported": 2, "failed": 1}
    (failed,) = [one for one in outcomes.values() if one["kind"] == "failed"]
    assert failed["task"] == "wait_for_export"
    assert "header" in failed["words"]
    assert failed["hostname"] not in ran.manifests(), "nothing half recorded"
    assert len(ran.manifests()) == 2
    assert failed["hostname"] in ran.log("report")


def test_a_lost_reply_captures_nothing_twice(house) -> None:
    before = len(house.sandbox.templates())
    house.sandbox.set_fault("lost_reply", times=1, methods=["createArchiveTemplate"])
    ran = house.plan(hostnames=["web-*", "files-*"])
    assert ran.state == "success", [(one["task"], one["words"]) for one in ran.outcomes().values()]
    assert len(house.sandbox.templates()) == before + 2
    assert house.sandbox.faults.counters()["lost_reply"]["hits"] == 1
    assert set(ran.manifests()) == {"web-01", "files-01"}


def test_an_export_that_leaves_no_object_is_no_success(house) -> None:
    house.sandbox.set_fault("missing_last_object", rate=1.0)
    ran = house.plan(hostnames=["db-*"], grace_minutes=0.1)
    assert ran.state == "failed"
    (outcome,) = ran.outcomes().values()
    assert (outcome["kind"], outcome["task"]) == ("failed", "wait_for_export")
    assert "disk-3.vhd" in outcome["words"]
    assert ran.manifests() == {}
