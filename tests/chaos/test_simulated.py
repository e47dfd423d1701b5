"""A sample of the simulated scenarios: every kind of them, and none may violate anything."""

from __future__ import annotations

import pytest

from tests.chaos.sim.runner import WorkerProcess, run_scenarios
from tests.chaos.sim.scenarios import PROFILES, scenario

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

SAMPLE = range(40)


@pytest.mark.timeout(600)
def test_nothing_is_violated_whatever_breaks() -> None:
    lines: list[str] = []

    tally = run_scenarios(SAMPLE, processes=1, progress=lines.append)

    assert tally.findings.ok, "\n".join(lines)
    assert tally.scenarios == len(SAMPLE)
    assert tally.faults > 100
    assert tally.kills > 50
    assert set(tally.by_profile) == set(PROFILES)
    assert tally.figures["servers_exported"] > 80


def test_the_same_seed_tells_the_same_story() -> None:
    chosen = next(seed for seed in range(100) if scenario(seed).profile == "everything")
    first, second = WorkerProcess(), WorkerProcess()
    try:
        other = second.play(3)
        stories = [first.play(chosen)["story"], second.play(chosen)["story"]]
    finally:
        first.close()
        second.close()

    assert stories[0] == stories[1]
    assert other["story"] != stories[0]


def test_the_systematic_scenarios_come_by_every_point_in_turn() -> None:
    edges = [one.edge for one in map(scenario, range(500)) if one.profile == "edge"]

    assert edges == list(range(250))
