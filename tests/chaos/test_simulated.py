"""A sample of the simulated scenarios: every kind of them, and none may violate anything."""

from __future__ import annotations

import pytest

from tests.chaos.sim.runner import WorkerProcess, run_scenarios
from tests.chaos.sim.scenarios import CROWDED, PROFILES, scenario

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


def test_an_account_that_takes_less_at_once_than_the_caps_say_teaches_how_much() -> None:
    """Eight servers, six slots, and an account that runs two captures and two exports at once."""
    worker = WorkerProcess()
    try:
        played = worker.play(CROWDED)
    finally:
        worker.close()

    assert "broken" not in played, played.get("broken")
    assert not any(played["findings"].values()), played["findings"]
    assert played["outcomes"] == {"exported": 8, "not-exportable": 1}, "one is refused by a rule"
    assert played["tries"] == 1, "no refusal uses up a try"
    refused = {
        name.partition(": ")[0].rpartition("::")[2]: count
        for name, count in played["refused"].items()
        if name.endswith("may run at once.")
    }
    assert set(refused) == {"createArchiveTemplate", "copyToIcos"}
    assert all(count <= 6 for count in refused.values()), f"who was refused waits for its turn: {refused}"


def test_the_systematic_scenarios_come_by_every_point_in_turn() -> None:
    edges = [one.edge for one in map(scenario, range(500)) if one.profile == "edge"]

    assert edges == list(range(250))
