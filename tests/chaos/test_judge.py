"""The judge of what was played with real processes, on what a scenario leaves that did not end: without any process."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from sealift.exports import names
from sealift.sandbox import Sandbox
from tests.chaos.evidence import open_store, read_history
from tests.chaos.faults import FaultPlan
from tests.chaos.real.runner import Played, judge, play_all
from tests.chaos.real.scenario import Play, Scenario
from tests.chaos.real.stage import Run, Stage
from tests.chaos.real.world import BUCKET, World


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path / "sandbox", scenario="demo", speed=1.0) as started:
        yield started


@pytest.fixture
def world(box: Sandbox) -> World:
    """A world of which only the sandbox is there."""
    return cast(
        "World",
        SimpleNamespace(
            engine="postgresql",
            history=lambda: read_history(box.root),
            store=open_store(box.root),
            caps=5,
            secrets={},
            texts=dict,
            sandbox=SimpleNamespace(root=box.root),
            plan=FaultPlan(seed=0),
            kills=Counter(worker=1),
            watch=SimpleNamespace(lift=lambda trap: None),
            go_on=lambda *names: None,
            bring_back=lambda *names: None,
        ),
    )


def played_with(world: World, *guests: int, **changes: Any) -> Played:
    """A scenario with one run of some servers."""
    played = Played(Scenario(name="something goes wrong", play=lambda stage: None), Stage(world, "it"), **changes)
    played.stage.runs.append(Run(world, "chaos-001-0", list(guests), "chaos-001"))
    return played


def put_report(box: Sandbox, played: Played, body: bytes) -> None:
    (run,) = played.stage.runs
    key = names.report_key(prefix=run.prefix, plan_id=run.plan_id)
    with requests.Session() as session:
        session.trust_env = False
        token = box.identity.token_for_api_key(box.cos_api_key)
        reply = session.put(f"{box.cos_url}/{BUCKET}/{key}", data=body, headers={"Authorization": f"Bearer {token}"})
    assert reply.status_code == 200, reply.text


def test_the_servers_of_a_run_that_has_not_ended_are_lost(world: World) -> None:
    played = played_with(world, 101, 102, trouble="TimeoutError: it did not come")
    tally = judge(world, [played])
    first, second, third = tally.findings.lost
    assert "(server 101) was selected and ended in no outcome" in first
    assert "(server 102) was selected and ended in no outcome" in second
    assert third == "the scenario 'something goes wrong' did not end well: TimeoutError: it did not come"
    assert (tally.scenarios, tally.kills) == (1, 1)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            {"outcomes": [{"server": "virtual", "id": 101, "kind": "failed"}]},
            "(server 102) was selected and ended in no",
        ),
        ({"outcomes": [{"server": "virtual", "id": n} for n in (101, 102)]}, "(server 102) ended in 'no-outcome'"),
        ({}, "(server 102) was selected and ended in no outcome"),
        ({"outcomes": [{"server": "virtual"}]}, "the report of chaos-001-0 cannot be read (KeyError: 'id')"),
        ([], "the report of chaos-001-0 cannot be read (AttributeError"),
    ],
    ids=["one server is missing", "outcomes without a kind", "no outcomes", "no id", "no report at all"],
)
def test_a_server_that_a_report_says_nothing_of_is_lost(box: Sandbox, world: World, report: Any, said: str) -> None:
    played = played_with(world, 101, 102)
    put_report(box, played, json.dumps(report).encode())
    lost = judge(world, [played]).findings.lost
    assert any(said in one for one in lost), lost
    assert any("(server 102)" in one for one in lost)


def test_a_report_that_is_cut_short_is_lost_and_said_so(box: Sandbox, world: World) -> None:
    played = played_with(world, 101)
    put_report(box, played, b'{"outcomes": [')
    without, unread = judge(world, [played]).findings.lost
    assert "(server 101) was selected and ended in no outcome" in without
    assert unread.startswith("the report of chaos-001-0 cannot be read (JSONDecodeError: ")


def test_a_scenario_that_cannot_be_put_away_leaves_the_others_their_turn(world: World) -> None:
    def fail(*names: str) -> None:
        raise TimeoutError("triggerer-0 did not come up")

    def plays(stage: Stage) -> None:
        stage.points.append("here")

    cast("Any", world).bring_back = fail
    said: list[str] = []
    scenarios = [Scenario(name=name, play=cast("Play", plays), alone=True) for name in ("one", "other")]
    began = time.monotonic()
    played = play_all(world, scenarios, said.append)
    assert [one.trouble.strip() for one in played] == [
        "TimeoutError while it was put away: triggerer-0 did not come up"
    ] * 2
    assert all(one.stage.points == ["here"] and one.seconds <= time.monotonic() - began for one in played)
    assert len(said) == 2
