"""Plays one scenario: storm, calm, judgement.

In the storm everything goes wrong that the scenario names. In the calm nothing new does, and a patient person clears
what failed, as the words of the failures say. Then every server that the account itself did not spoil must be exported,
and the checker reads the sandbox's history.
"""

from __future__ import annotations

import functools
import json
import logging
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.execution_time import task_runner

from sealift.classic import limiter
from sealift.classic.client import ClassicClient
from sealift.cos.client import CosClient
from sealift.exports.errors import ExportsError
from sealift.exports.manifest import read_manifest
from sealift.exports.names import manifest_key
from sealift.exports.plan import Plan, make_plan, write_plan
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from tests.chaos.faults import FaultPlan
from tests.chaos.sim import sockets, timewarp
from tests.chaos.sim.airflow import LittleAirflow
from tests.chaos.sim.engine import START, Sim
from tests.chaos.sim.judgement import Result, judge, told
from tests.chaos.sim.network import Deed, Misfortune, Network
from tests.chaos.sim.records import ENDED, GROUP, STEPS, Run, Task
from tests.chaos.sim.scenarios import HOUR, PlanSpec, Scenario, clean
from tests.chaos.sim.triggerers import Comms, Triggerer
from tests.chaos.sim.world import World

DAY: Final = 24 * HOUR
LONGEST: Final = 10 * DAY
"""A scenario that has not ended in so much simulated time never ends."""
WALL_SECONDS: Final = 120.0
ROUNDS: Final = 8
"""So often a person clears what failed before giving up."""
PREFIX: Final = "nightly"


@dataclass
class Running:
    """A plan that is being carried out."""

    spec: PlanSpec
    plan: Plan
    keys: list[str]
    runs: list[Run] = field(default_factory=list)
    waves: dict[str, int] = field(default_factory=dict)


playing: Play | None = None
"""The scenario that is being played: bugs that are planted may want to look at it."""


class Play:
    """One scenario from its beginning to its judgement.

    :param scenario: what goes wrong.
    :param dag: the DAG of ``dags/export_servers.py``.
    :param folder: for the sandbox; emptied by :meth:`close`.
    :param cache: where built disks are kept.
    :param trace: called with each event, in words.
    """

    def __init__(
        self,
        *,
        scenario: Scenario,
        dag: Any,
        folder: Path,
        cache: Path,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        global playing  # noqa: PLW0603 - one scenario at a time has this process
        playing = self
        self.scenario = scenario
        self._dag = dag
        self.folder = folder
        seed = scenario.seed
        self.sim = Sim(seed=seed)
        if trace is not None:
            self.sim.on_event = lambda event: trace(told(event))
        timewarp.begin(self.sim, seed=seed)
        limiter._shared.clear()
        self.world = World(
            sim=self.sim,
            root=folder,
            cache=cache,
            seed=seed + 1,
            servers=scenario.servers,
            switches={**scenario.switches, "requests_per_second": 0},
        )
        self._draw = random.Random(f"{seed}:storm")
        self.settle = scenario.settle
        self.network = Network(
            sim=self.sim,
            world=self.world,
            plan=FaultPlan(seed=seed, rates=scenario.rates, times=scenario.times),
            misfortune=Misfortune(
                kill=scenario.kill,
                freeze=scenario.freeze,
                orphan=scenario.orphan,
                longest=scenario.longest_freeze,
            ),
            seed=seed,
            on_the_way=self._on_the_way(),
            latency=scenario.latency,
        )
        sockets.lead_to(self.network)
        self.airflow = LittleAirflow(
            sim=self.sim, dag=dag, crossing=self.network.crossing, seed=seed, rough=scenario.rough
        )
        self.network.airflow = self.airflow
        self.airflow.in_workers = scenario.in_workers
        self.airflow.skew = lambda: self._draw.uniform(-scenario.skew, scenario.skew)
        self.airflow.new_triggerer = self._new_triggerer
        self._triggerers = 0
        self.plans: list[Running] = []
        self._began, self.cpu_began = time.perf_counter(), time.process_time()
        self._logs = _Logs(self.airflow.texts)
        self.problems: list[str] = []
        self._is_calm = False

    def _on_the_way(self) -> float:
        """How long a submission may take to arrive: half of what the design allows from decision to effect.

        The rest of that half is for what shows late, for clocks that disagree, and for the slowest ordinary reply.
        """
        late = self.scenario.switches.get("late_seconds", 60.0) if self.scenario.shows_late else 0.0
        return max(0.0, self.settle / 2 - float(late) - 2 * self.scenario.skew - 20.0)

    def _new_triggerer(self, skew: float) -> None:
        self._triggerers += 1
        Triggerer(self.airflow, name=f"triggerer-{self._triggerers}", skew=skew)

    # The way of a scenario

    @property
    def days(self) -> float:
        """Simulated time so far, in days."""
        return (self.sim.now - START) / DAY

    def run(self) -> Result:
        """Play it.

        :returns: what became of it, judged.
        """
        scenario = self.scenario
        with self._logs:
            self._connect()
            for _ in range(scenario.triggerers):
                self._new_triggerer(self._draw.uniform(-scenario.skew, scenario.skew))
            for spec in scenario.plans:
                self._plan(spec)
            self._brew()
            self._go(until=self._all_ended, deadline=START + scenario.storm)
            self._calm()
        return judge(self)

    def _go(self, *, until: Callable[[], bool], deadline: float) -> bool:
        def over() -> bool:
            if time.perf_counter() - self._began > WALL_SECONDS:
                tail = "\n".join(told(one) for one in self.sim.events[-20:])
                raise TimeoutError(f"{self.scenario.line()} takes longer than {WALL_SECONDS:.0f} s:\n{tail}")
            return until()

        return self.sim.run(until=over, deadline=deadline)

    def _connect(self) -> None:
        kept = self.world.sandbox.connections()
        kept["ibm_classic_default"]["extra"] |= {
            "transport": self.scenario.transport,
            "timeout": self.scenario.timeout,
            "requests_per_second": 40,
        }
        kept["ibm_cos_default"]["extra"]["timeout"] = self.scenario.timeout
        made = {
            name: Connection(
                conn_id=name,
                conn_type=one["conn_type"],
                host=one["host"],
                login=one.get("login"),
                password=one["password"],
                extra=json.dumps(one["extra"]),
            )
            for name, one in kept.items()
        }

        def of_a_task(conn_id: str) -> Connection:
            actor = self.sim.current
            if actor is not None and actor.kind == "triggerer":
                raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
            return made[conn_id]

        async def of_a_trigger(conn_id: str) -> Connection:
            return made[conn_id]

        task_runner.SUPERVISOR_COMMS = Comms(self.airflow)  # type: ignore[assignment]
        BaseHook.get_connection = staticmethod(of_a_task)  # type: ignore[method-assign,assignment]
        BaseHook.aget_connection = staticmethod(of_a_trigger)  # type: ignore[method-assign,assignment]
        ClassicClient.__init__.__kwdefaults__["page_size"] = self.scenario.page_size
        for task in self._dag.task_dict.values():
            if hasattr(task, "poll_interval"):
                task.poll_interval = self.scenario.poll_interval
            if getattr(task, "start_from_trigger", False):
                task.start_trigger_args.trigger_kwargs["poll_interval"] = self.scenario.poll_interval

    @functools.cached_property
    def classic(self) -> ClassicClient:
        """A client of the person who watches: nothing happens to its calls."""
        sandbox = self.world.sandbox
        return ClassicClient(username=sandbox.username, api_key=sandbox.api_key, endpoint_url=sandbox.api_url)

    @functools.cached_property
    def cos(self) -> CosClient:
        """As :attr:`classic`."""
        sandbox = self.world.sandbox
        return CosClient(
            region=sandbox.region,
            endpoint_url=sandbox.cos_url,
            api_key=sandbox.cos_api_key,
            service_instance_id=sandbox.cos_service_instance_id,
            iam_endpoint=sandbox.iam_url,
        )

    def _plan(self, spec: PlanSpec) -> None:
        number = len(self.plans)
        guests = sorted(self.world.sandbox.world.guests)
        settings = PlanSettings(
            classic_conn_id="ibm_classic_default",
            cos_conn_id="ibm_cos_default",
            bucket=self.world.sandbox.bucket,
            region=self.world.sandbox.region,
            prefix=PREFIX,
            max_offline=spec.max_offline,
            wave_size=spec.wave_size,
            **spec.settings,
        )
        plan = make_plan(
            settings=settings,
            selection=Selection.from_params({"ids": [guests[one] for one in spec.servers]}),
            classic=self.classic,
            cos=self.cos,
            plan_id=f"plan-{number}",
            period=spec.period,
            now=datetime.now(UTC),
        )
        running = Running(spec=spec, plan=plan, keys=write_plan(self.cos, plan))
        self.plans.append(running)
        for wave, key in enumerate(running.keys):
            self.sim.later(spec.starts + spec.gap * wave, functools.partial(self._start, running, wave, key))

    def _start(self, running: Running, wave: int, key: str) -> None:
        settings = running.plan.settings
        run = self.airflow.start_run(
            f"{running.plan.plan_id}.wave-{wave:04d}",
            {
                "wave": {
                    "key": key,
                    "bucket": settings.bucket,
                    "region": settings.region,
                    "classic_conn_id": settings.classic_conn_id,
                    "cos_conn_id": settings.cos_conn_id,
                }
            },
        )
        running.runs.append(run)
        running.waves[run.run_id] = wave

    def _all_ended(self) -> bool:
        return all(len(one.runs) == len(one.keys) and all(run.ended for run in one.runs) for one in self.plans)

    # The storm

    def _brew(self) -> None:
        scenario = self.scenario
        for name, how in scenario.account_faults.items():
            self.world.sandbox.set_fault(name, **how)
        if scenario.edge is not None:
            points = points_of_a_clean_run(self._dag, self.folder.parent, self.world.cache)
            name, times, self.airflow.in_workers = points[scenario.edge % len(points)]
            again = scenario.edge // len(points)
            self.network.misfortune.at[name, 1 + (self._draw.randrange(times) if again else 0)] = Deed("kill")
            self.sim.say(f"the edge of this scenario: {name}")
        for name in scenario.deaths:
            self.network.misfortune.at[name, 1] = Deed("kill")
        hours = scenario.storm / HOUR
        for rate, act in (
            (scenario.users, self._person_acts),
            (scenario.outages, self._outage),
            (scenario.triggerer_deaths, self._triggerer_dies),
        ):
            for _ in range(int(rate * hours / 2)):
                self.sim.later(self._draw.uniform(10.0, scenario.storm / 2), act)

    def _storming(self) -> bool:
        return not self._is_calm

    def _person_acts(self) -> None:
        tasks = [one for one in self.airflow.tasks() if one.task_id.startswith(GROUP) and one.state is not None]
        if not tasks or not self._storming():
            return
        task = self._draw.choice(tasks)
        what = self._draw.choice(("clear", "clear", "clear", "alone", "success", "failed"))
        if what in ("clear", "alone"):
            self.airflow.clear(task, downstream=what == "clear")
        else:
            self.airflow.mark(task, what)

    def _outage(self) -> None:
        if not self._storming():
            return
        what = self._draw.choice(("scheduler", "api", "classic", "cos", "sandbox", "host"))
        until = self.sim.now + self._draw.choice((20.0, 120.0, 400.0, 1800.0))
        self.sim.say(f"outage of {what} for {until - self.sim.now:.0f} s")
        self.network.stops[f"outage of {what}"] += 1
        if what == "scheduler":
            self.airflow.scheduler_down_until = until
        elif what == "api":
            self.airflow.api_down_until = until
        elif what == "sandbox":
            self.world.restart()
        elif what == "host":
            for actor in [one for one in self.sim.actors if one.kind == "worker" and one.alive]:
                self.network.kill(actor, "host down")
        else:
            self.network.down_until[what] = until

    def _triggerer_dies(self) -> None:
        living = [one for one in self.sim.actors if one.kind == "triggerer" and one.process is one and one.alive]
        if living and self._storming():
            self.network.kill(self._draw.choice(living), "triggerer")

    # The calm

    def _calm(self) -> None:
        """Nothing new goes wrong; a person clears what failed until nothing is left to do."""
        self._is_calm = True
        self.sim.say("the storm is over")
        scenario = self.scenario
        self.network.misfortune.at.clear()
        self.network.misfortune.kill = self.network.misfortune.freeze = self.network.misfortune.orphan = 0.0
        self.network.plan.clear()
        self.world.sandbox.faults.clear()
        self.airflow.rough = 0.0
        self.network.down_until.clear()
        self.airflow.scheduler_down_until = self.airflow.api_down_until = self.sim.now
        if not any(one.kind == "triggerer" and one.process is one and one.alive for one in self.sim.actors):
            self._new_triggerer(scenario.skew)
        self.sim.later(2 * HOUR, self._support_ends_what_sticks)
        for round_ in range(ROUNDS):
            if not self._go(until=self._all_ended, deadline=START + LONGEST):
                stuck = [f"{one} {one.state}" for one in self.airflow.tasks() if one.state not in ENDED]
                self.problems.append(f"after {self.days:.1f} days these tasks have not ended: {', '.join(stuck[:8])}")
                return
            self._support_ends_what_sticks()
            if round_ == ROUNDS - 1 or not self._clear_what_failed(round_):
                return

    def _support_ends_what_sticks(self) -> None:
        with self.world.settled() as sandbox:
            stuck = [one["id"] for one in sandbox.world.running.values() if one["stuck"] and one["kind"] != "hold"]
            for number in stuck:
                self.sim.say(f"IBM ends the transaction {number}")
                sandbox.engine.end(number)

    def _clear_what_failed(self, round_: int) -> bool:
        """Do what the words say; the first time for the failed task, then from the capture on.

        :returns: whether anything was cleared.
        """
        cleared = False
        for running in self.plans:
            for run in running.runs:
                for index, server in enumerate(run.servers):
                    steps = [run.tasks[f"{GROUP}.{step}", index] for step in STEPS]
                    if self._manifest(running, server) is not None and all(one.state == "success" for one in steps):
                        continue
                    if self.spoiled(server["guest_id"]):
                        continue
                    failed = next((one for one in steps if one.state != "success"), steps[0])
                    self._repair(failed)
                    self.airflow.clear(failed if round_ == 0 else steps[0])
                    cleared = True
                if not run.servers and run.tasks["read_wave", -1].state == "failed":
                    self.airflow.clear(run.tasks["read_wave", -1])
                    cleared = True
                elif run.tasks["summarise", -1].state == "failed" and not self._failed_rightly(run):
                    self.airflow.clear(run.tasks["summarise", -1])
                    cleared = True
        return cleared

    def _failed_rightly(self, run: Run) -> bool:
        return any(
            run.tasks[f"{GROUP}.{step}", index].state != "success"
            for index in range(len(run.servers))
            for step in STEPS
        )

    def _repair(self, task: Task) -> None:
        """What the words of a failed proof ask for: delete the object that is no sound image."""
        if "Delete the object" in task.words:
            images = self._item(task.run, task.index).images
            for info in list(self.cos.list(self.world.sandbox.bucket, f"{images}/disk-")):
                self.sim.say(f"a person deletes {info.key}")
                self.cos.delete(self.world.sandbox.bucket, info.key)
            task.run.tasks[f"{GROUP}.wait_for_template", task.index].state = "failed"

    def _item(self, run: Run, index: int) -> Any:
        running = next(one for one in self.plans if run in one.runs)
        guest = run.servers[index]["guest_id"]
        return next(item for item in running.plan.items if item.guest_id == guest)

    def _manifest(self, running: Running, server: dict[str, Any]) -> Any:
        guest, period = server["guest_id"], running.plan.period
        key = manifest_key(prefix=PREFIX, guest_id=guest, period=period)
        try:
            return read_manifest(self.cos, bucket=running.plan.settings.bucket, key=key)
        except ExportsError:
            return None

    def spoiled(self, guest: int) -> bool:
        """Whether the account itself lost this server's capture: a new run is the only way on."""
        with self.world.settled() as sandbox:
            return any(
                one["kind"] == "capture"
                and one["guestId"] == guest
                and one["work"].get("damage") in {"empty_template", "template_gone"}
                for one in sandbox.world.transactions.values()
            )

    def close(self) -> None:
        """End everything of this scenario."""
        self.network.closed = True
        try:
            self.sim.close()
        finally:
            self.world.close()
            sockets.lead_to(None)
            timewarp.end()
            shutil.rmtree(self.folder, ignore_errors=True)


class _Logs(logging.Handler):
    """Keeps what is logged, for the search for secrets."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__(level=logging.INFO)
        self._texts = texts

    def __enter__(self) -> _Logs:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(record.getMessage())


_points: list[tuple[str, int, bool]] = []


def points_of_a_clean_run(dag: Any, folder: Path, cache: Path) -> list[tuple[str, int, bool]]:
    """Find every point at which a process can die, in a run in which nothing goes wrong.

    :returns: the points in the order of their names, each with how often it was passed, and whether that is where
        workers start captures and exports, rather than triggerers.
    """
    if not _points:
        raise RuntimeError("the points are found before scenarios are played: see find_points")
    return _points


def find_points(dag: Any, folder: Path, cache: Path) -> list[tuple[str, int, bool]]:
    """Play the clean scenario in both ways and keep its points for :func:`points_of_a_clean_run`."""
    found: dict[str, tuple[str, int, bool]] = {}
    for in_workers in (False, True):
        place = folder / ("workers" if in_workers else "triggerers")
        play = Play(scenario=clean(in_workers=in_workers), dag=dag, folder=place, cache=cache)
        try:
            result = play.run()
        finally:
            play.close()
        if not result.ok:
            raise RuntimeError(f"the clean run is not clean: {result.findings}")
        for name, times in result.points.items():
            found.setdefault(name, (name, times, in_workers))
    _points[:] = sorted(found.values())
    return _points
