"""A sample of the chaos with real processes; ``python -m tests.chaos --real N`` plays the rest.

PostgreSQL, two schedulers, two triggerers, and proxies between them and the account: what is killed or held at a point
of an export must come to one capture, one manifest, and an exported server all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.chaos.real.runner import Played, judge, play_all
from tests.chaos.real.scenario import SCENARIOS
from tests.chaos.real.stage import PLAN
from tests.chaos.real.world import World
from tests.chaos.tally import Tally

pytestmark = [pytest.mark.e2e, pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(600)]

LOST_WORKER = "worker killed at plan: its plan is in the bucket"
LOST_TRIGGERER = "triggerer killed while a server is captured, the other takes over"
LOST_REPLY = "triggerer killed at capture: createArchiveTemplate carried out, not answered, the other takes over"


@dataclass
class Sample:
    """What was played, and what it came to."""

    played: dict[str, Played]
    tally: Tally

    def assert_played(self, name: str) -> Played:
        one = self.played[name]
        assert not one.trouble, one.line() + "\n" + one.trouble
        assert one.stage.points, "the point was reached"
        return one


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """Three scenarios in one world, one after the other: a triggerer that is killed may be capturing for another's."""
    by_name = {one.name: one for one in SCENARIOS}
    with World(root=tmp_path_factory.mktemp("chaos"), seed=5, servers=12) as world:
        names = (LOST_WORKER, LOST_TRIGGERER, LOST_REPLY)
        played = [one for name in names for one in play_all(world, [by_name[name]], print)]
        yield Sample({one.scenario.name: one for one in played}, judge(world, played))
    assert world.running() == [], "the world left processes behind"


def test_a_worker_killed_after_it_wrote_the_plan_plans_once(sample: Sample) -> None:
    one = sample.assert_played(LOST_WORKER)
    (run,) = one.stage.runs
    assert run.tries(PLAN, -1) >= 2
    assert one.stage.captured(run) == run.guests


def test_a_triggerer_killed_while_a_server_is_offline_changes_only_the_time(sample: Sample) -> None:
    one = sample.assert_played(LOST_TRIGGERER)
    (run,) = one.stage.runs
    assert one.stage.captured(run) == run.guests


def test_a_triggerer_killed_before_the_reply_captures_once(sample: Sample) -> None:
    one = sample.assert_played(LOST_REPLY)
    (run,) = one.stage.runs
    assert one.stage.captured(run) == run.guests


def test_the_checker_finds_nothing(sample: Sample) -> None:
    assert sample.tally.findings.ok, str(sample.tally.findings)
    assert sample.tally.kills >= 2
    assert len(sample.tally.by_point) >= 2
