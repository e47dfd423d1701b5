"""The checker is worth something only if it catches what it is there for: bugs put into the product on purpose."""

from __future__ import annotations

import itertools

import pytest

from tests.chaos.sim.bugs import BUGS
from tests.chaos.sim.runner import run_scenarios
from tests.chaos.sim.scenarios import scenario
from tests.chaos.tally import Tally

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

A_FEW = 24


def seeds_of(profile: str) -> list[int]:
    """The first scenarios of a kind."""
    found = (seed for seed in itertools.count() if scenario(seed).profile == profile)
    return list(itertools.islice(found, A_FEW))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_planted_bug_is_caught_within_a_few_scenarios(bug: str) -> None:
    kind, profile = BUGS[bug]

    def caught(tally: Tally) -> bool:
        return bool(getattr(tally.findings, kind))

    tally = run_scenarios(seeds_of(profile), processes=1, plant=bug, until=caught)

    assert caught(tally), f"{tally.scenarios} scenarios, and only this was found: {tally.findings}"
