"""Traps on the wire, and the choice of scenarios: without any process."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.chaos.faults import CallInfo
from tests.chaos.proxy import Point
from tests.chaos.real.points import Hit, NotReachedError, Phase, Trap, Watch
from tests.chaos.real.runner import chosen
from tests.chaos.real.scenario import SCENARIOS
from tests.chaos.real.world import AimedPlan


def point(method: str = "PutObject", phase: Phase = "arrived", target: str = "bucket/key", port: int = 1) -> Point:
    return Point(service="cos", method=method, target=target, phase=phase, peer_port=port)


def watch() -> Watch:
    def nobody(ti_id: UUID) -> None:
        return None

    return Watch(among=list, try_of=nobody)


def test_a_trap_springs_once_at_its_point() -> None:
    watched, hits = watch(), []
    trap = watched.set(Trap("here", "cos", "Put*", "forwarded", target=r"/key$", act=hits.append))
    for one in (
        point(phase="forwarded", target="bucket/other"),
        point("GetObject", phase="forwarded"),
        point(phase="arrived"),
        point(phase="answered"),
    ):
        watched.on_point(one)
    assert hits == []
    for _ in range(2):
        watched.on_point(point(phase="forwarded"))
    assert [hit.point for hit in hits] == [point(phase="forwarded")]
    assert trap.wait(0).point.phase == "forwarded"
    assert len(watched.seen) == 6


def test_a_trap_that_is_not_reached_or_fails_says_so() -> None:
    def fail(hit: Hit) -> None:
        raise RuntimeError("no process")

    watched = watch()
    never = watched.set(Trap("never", "cos", "GetObject", "arrived"))
    failing = watched.set(Trap("failing", "cos", "PutObject", "arrived", act=fail))
    with pytest.raises(RuntimeError):
        watched.on_point(point())
    with pytest.raises(NotReachedError, match="never"):
        never.wait(0)
    with pytest.raises(AssertionError, match=r"failing.*no process"):
        failing.wait(0)


def test_only_who_is_meant_springs_a_trap_and_a_lifted_one_is_gone() -> None:
    watched = watch()
    meant = watched.set(Trap("meant", "cos", "*", "arrived", by=lambda caller: caller.port == 7))
    watched.on_point(point(port=6))
    assert meant.hits == []
    watched.on_point(point(port=7))
    assert len(meant.hits) == 1
    lifted = watched.set(Trap("lifted", "cos", "*", "arrived"))
    watched.lift(lifted)
    watched.on_point(point())
    assert lifted.hits == []


def test_an_aimed_fault_meets_one_request_and_is_counted() -> None:
    plan = AimedPlan(seed=1)
    call = CallInfo(service="classic", method="copyToIcos", target="")
    plan.aim("lost_reply")
    met = [plan.decide(call) for _ in range(2)]
    assert met[0] is not None
    assert met[0].name == "lost_reply"
    assert met[1] is None
    assert plan.counts() == {"lost_reply": 1}


def test_all_scenarios_are_different_and_chosen_by_the_seed() -> None:
    names = [one.name for one in SCENARIOS]
    assert len(set(names)) == len(names) >= 50
    assert {one.engine for one in SCENARIOS} == {"postgresql", "workers", "sqlite"}
    assert chosen(30, 1) == chosen(30, 1) != chosen(30, 2)
    assert {one.name for one in chosen(len(names), 3)} == set(names)
    assert len(chosen(len(names) + 5, 3)) == len(names) + 5
