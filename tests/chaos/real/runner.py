"""Plays scenarios in a world of real processes, several at once where they bear company, and judges them."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tests.chaos.checker import check
from tests.chaos.evidence import true_images
from tests.chaos.real import people, services, workers
from tests.chaos.real.scenario import SCENARIOS, Scenario
from tests.chaos.real.stage import Stage
from tests.chaos.real.world import Engine, World
from tests.chaos.tally import Tally

Progress = Callable[[str], None]

# Most of a scenario is waiting: for a heartbeat that does not come, for a time to pass.
AT_ONCE = 8
PLAYS = (people, services, workers)
"""The modules that put scenarios on the list."""


@dataclass
class Played:
    """What became of one scenario.

    :param trouble: why it did not come about as it must; empty if it did.
    """

    scenario: Scenario
    stage: Stage
    seconds: float = 0.0
    trouble: str = ""

    def line(self) -> str:
        """One line for a person."""
        points = ", ".join(self.stage.points)
        return f"{'not ok' if self.trouble else 'ok'} {self.seconds:.0f} s: {self.scenario.name} [{points}]"


def chosen(count: int, seed: int) -> list[Scenario]:
    """Choose scenarios; all of them come before one comes twice.

    :param count: how many.
    :param seed: decides which, and their order.
    """
    order = random.Random(f"{seed}:real")
    found: list[Scenario] = []
    while len(found) < count:
        found += order.sample(SCENARIOS, min(len(SCENARIOS), count - len(found)))
    return found


def play_all(world: World, scenarios: Sequence[Scenario], progress: Progress) -> list[Played]:
    """Play scenarios: those that bear company first, several at once, then the others one by one.

    :param world: where.
    :param scenarios: which.
    :param progress: is told a line for each.
    """
    played = [Played(one, Stage(world, one.name)) for one in scenarios]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        list(pool.map(lambda one: _play(one, progress), [one for one in played if not one.scenario.alone]))
    for one in played:
        if one.scenario.alone:
            _play(one, progress)
    return played


def _play(played: Played, progress: Progress) -> None:
    began = time.monotonic()
    try:
        played.scenario.play(played.stage)
    except Exception as error:  # noqa: BLE001 - the other scenarios go on, and this one is reported
        where = traceback.extract_tb(error.__traceback__)[-1]
        played.trouble = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    try:
        played.stage.close()
    except Exception as error:  # noqa: BLE001 - as above: what does not come back is this scenario's trouble
        played.trouble += f" {type(error).__name__} while it was put away: {error}"
    played.seconds = time.monotonic() - began
    progress(played.line() + (f"\n    {played.trouble}" if played.trouble else ""))


def judge(world: World, played: Sequence[Played]) -> Tally:
    """Judge what was played, by the sandbox's history and what is in the buckets.

    A server without an outcome is lost, whether its run has not ended, left no report, or one that cannot be read.

    :param world: where.
    :param played: what was played there, all of it.
    """
    runs = [run for one in played for run in one.stage.runs]
    outcomes: dict[str, str] = {}
    unread: list[str] = []
    for run in runs:
        try:
            outcomes |= run.outcomes()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unread.append(f"the report of {run.run_id} cannot be read ({type(error).__name__}: {error})")
    findings = check(
        history=world.history(),
        store=world.store,
        caps=world.caps,
        servers=[export for run in runs for export in run.exports],
        outcomes=outcomes,
        secrets=world.secrets,
        texts=world.texts(),
        images=true_images(world.sandbox.root),
    )
    findings.lost += unread
    for one in played:
        if one.trouble:
            findings.lost.append(f"the scenario {one.scenario.name!r} did not end well: {one.trouble}")
    return Tally(
        scenarios=len(played),
        faults=len(world.plan.injected),
        kills=sum(world.kills.values()),
        findings=findings,
        by_fault=world.plan.counts(),
        by_point=Counter(point for one in played for point in one.stage.struck),
        by_profile=Counter({f"real processes, {world.engine}": len(played)}),
    )


def play_world(scenarios: Sequence[Scenario], *, root: Path, seed: int, progress: Progress) -> Tally:
    """Start the world that scenarios of one engine need, play them and judge them.

    :param scenarios: all of one engine.
    :param root: the folder for everything that is written.
    :param seed: decides the sandbox's world.
    :param progress: is told a line for each step.
    """
    (engine,) = {one.engine for one in scenarios}
    began = time.monotonic()
    with World(root=root, seed=seed, engine=engine) as world:
        progress(f"real processes, {engine}: up after {time.monotonic() - began:.0f} s")
        tally = judge(world, play_all(world, scenarios, progress))
    tally.figures["seconds with real processes"] = time.monotonic() - began
    if left := world.running():
        tally.findings.lost.append(f"processes were left behind: {left}")
    return tally


def run_scenarios(count: int, seed: int, progress: Progress = lambda line: None) -> Tally:
    """Play scenarios with real processes.

    :param count: how many.
    :param seed: decides which, and the sandbox's world.
    :param progress: is told a line for each step.
    :returns: what was played, done and found.
    """
    scenarios = chosen(count, seed)
    tally = Tally()
    for engine in get_args(Engine):
        wanted = [one for one in scenarios if one.engine == engine]
        if not wanted:
            continue
        root = Path(tempfile.mkdtemp(prefix="sealift-chaos-"))
        one = play_world(wanted, root=root, seed=seed, progress=progress)
        if one.findings.ok:
            shutil.rmtree(root)
        else:
            for sentence in one.findings.sentences():
                progress(sentence)
            progress(f"real processes, {engine}: evidence is kept in {root}")
        tally.merge(one)
    return tally
