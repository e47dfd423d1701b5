"""What a scenario works with: servers and plan runs of its own, traps on their way, and what became of them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from sealift.exports import names
from tests.chaos.real.metadata import TaskState, wait_for
from tests.chaos.real.points import Caller, Hit, Phase, Trap
from tests.chaos.real.worker import Worker, title
from tests.chaos.real.world import BUCKET, GRACE_MINUTES, PATIENCE, UNCAPPED, Engine, World
from tools.keeper import signal_all

CAPTURE, WAIT_TEMPLATE, WAIT_EXPORT = "export.capture", "export.wait_for_template", "export.wait_for_export"
PROVE = WAIT_EXPORT
"""What a worker does: it starts only once the wait is over."""
PLAN, WAVES, READ = "make_plan", "export_waves", "read_wave"


@dataclass(frozen=True)
class Edge:
    """A named point on one task's way over the wire.

    :param name: in words, with the task.
    :param service: as the proxy names it.
    :param method: as the proxy names it.
    :param phase: when.
    :param task: the task that sends the request; empty where no worker does.
    :param target: a regular expression for the request's target.
    """

    name: str
    service: str
    method: str
    phase: Phase
    task: str = ""
    target: str = ""

    @property
    def engine(self) -> Engine:
        """The configuration in which a worker comes there."""
        return "workers" if self.task == CAPTURE else "postgresql"


@dataclass
class Run:
    """One run of plan_exports and the wave that it started."""

    world: World
    run_id: str
    guests: list[int]
    prefix: str
    cleared: bool = False

    @property
    def plan_id(self) -> str:
        return names.plan_id_for(dag_id="plan_exports", run_id=self.run_id)

    @property
    def wave(self) -> str:
        """The wave's DAG run."""
        return names.wave_run_id(plan_id=self.plan_id, number=0)

    @property
    def period(self) -> str:
        return names.period_of_run(self.run_id)

    def export_id(self, guest: int) -> str:
        return names.export_id(guest_id=guest, period=self.period)

    @property
    def exports(self) -> list[str]:
        return [self.export_id(guest) for guest in self.guests]

    def dag_of(self, task: str) -> tuple[str, str]:
        """Say which DAG run a task belongs to."""
        return ("plan_exports", self.run_id) if task in {PLAN, WAVES, "report"} else ("export_servers", self.wave)

    def index_of(self, guest: int) -> int:
        """Say which mapped instance is a server's: the wave's order is the plan's."""
        wave = self.read(names.wave_key(prefix=self.prefix, plan_id=self.plan_id, number=0))
        return [item["guest_id"] for item in wave["items"]].index(guest)

    def read(self, key: str) -> Any:
        """Read a JSON object out of the bucket."""
        path = self.world.store.path_of(BUCKET, key)
        assert path is not None, f"{key} is not in the bucket"
        return json.loads(path.read_bytes())

    def state(self, task: str, index: int = -1) -> TaskState | None:
        """Tell how a task stands."""
        return self.world.metadata.state(*self.dag_of(task), task, index)

    def wait_state(
        self, task: str, *states: str, index: int = -1, beyond: int = 0, seconds: float = PATIENCE
    ) -> TaskState:
        """Wait until a task is in one of some states.

        :param beyond: and has a later try than this.
        """

        what, last = f"{task}[{index}] of {self.wave} as {' or '.join(states)}", None

        def there() -> TaskState | None:
            nonlocal last
            last = self.state(task, index)
            return last if last is not None and last.state in states and last.try_number > beyond else None

        try:
            found: TaskState = wait_for(there, what, seconds=seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: it is {last}") from None
        return found

    def wait_waiting(self, task: str, index: int = 0, seconds: float = PATIENCE) -> TaskState:
        """Wait until a triggerer has a task's wait."""

        def there() -> TaskState | None:
            found = self.state(task, index)
            return found if found is not None and found.state == "deferred" and found.triggerer is not None else None

        found: TaskState = wait_for(there, f"{task}[{index}] of {self.wave} in a triggerer", seconds=seconds)
        return found

    def wait_uncertain(self, task: str, *, index: int = 0, beyond: int) -> None:
        """Wait until a later try waits to be certain of what an earlier one did, or needed not to."""

        def there() -> bool:
            found = self.state(task, index)
            if found is None or found.try_number <= beyond:
                return False
            return found.state == "success" or (
                found.state == "deferred" and (found.trigger or "").endswith(".MomentTrigger")
            )

        wait_for(there, f"a later try of {task}[{index}] of {self.wave} that waits to be certain", seconds=PATIENCE)

    def wait_other_try(self, task: str, ti_id: UUID, index: int = 0) -> None:
        """Wait until Airflow has given up a try and another one runs."""
        former = self.world.metadata.try_of(ti_id)
        assert former is not None
        self.wait_state(task, "running", "deferred", "success", index=index, beyond=former.try_number)

    def wait_moved(self, task: str, triggerer: int | None, index: int = 0) -> None:
        """Wait until a wait is over, or another triggerer has it."""

        def moved() -> bool:
            found = self.state(task, index)
            return found is not None and (found.state != "deferred" or found.triggerer not in {None, triggerer})

        wait_for(moved, f"{task}[{index}] of {self.wave} in another triggerer", seconds=PATIENCE)

    def end(self, *, seconds: float = PATIENCE) -> str:
        """Wait until the run has ended.

        :returns: ``success`` or ``failed``.
        """

        def ended() -> str | None:
            try:
                state = str(self.world.api.run("plan_exports", self.run_id)["state"])
            except Exception:  # noqa: BLE001 - the API server may be what another scenario has just killed
                return None
            return state if state in {"success", "failed"} else None

        state: str = wait_for(ended, f"the end of {self.run_id}", seconds=seconds, pause=0.5)
        return state

    def outcomes(self) -> dict[str, str]:
        """Read what the run's report says of each server, in the checker's words; after clearing, the wave's.

        :returns: by export id; nothing of a server without an outcome, and nothing at all where there is no report.
        """
        key = names.report_key(prefix=self.prefix, plan_id=self.plan_id)
        if self.cleared:
            key = names.wave_report_key(prefix=self.prefix, plan_id=self.plan_id, number=0)
        if self.world.store.path_of(BUCKET, key) is None:
            return {}
        return {
            self.export_id(int(one["id"])): str(one.get("kind", "no outcome")).replace(" ", "-")
            for one in self.read(key).get("outcomes", [])
            if one.get("server") == "virtual"
        }

    def tries(self, task: str, index: int = 0) -> int:
        """Tell how often a task was tried."""
        found = self.state(task, index)
        assert found is not None
        return found.try_number

    def manifest_key(self, guest: int) -> str:
        return names.manifest_key(prefix=self.prefix, guest_id=guest, period=self.period)

    def log(self, task: str, index: int, try_number: int) -> str:
        """Read the log of a try."""
        dag_id, run_id = self.dag_of(task)
        return self.world.api.log(dag_id, run_id, task, try_number=try_number, map_index=index)


@dataclass
class Stage:
    """Where one scenario plays.

    :param points: the points that were reached, in order.
    :param struck: those of them at which something was killed.
    """

    world: World
    name: str
    runs: list[Run] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    traps: list[Trap] = field(default_factory=list)
    away: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    closed: bool = False
    patience: ClassVar[float] = PATIENCE

    def start(self, servers: int = 1, *, before: Callable[[Run], None] | None = None, **conf: Any) -> Run:
        """Trigger a plan run with servers and a prefix of its own.

        :param servers: how many servers.
        :param before: is given the run before it exists, to set traps on its way.
        :param conf: more of the run's parameters.
        """
        number = len(self.runs)
        guests, prefix = self.world.take_guests(servers), self.world.new_prefix()
        run = Run(self.world, f"{prefix}-{number}", guests, prefix)
        self.runs.append(run)
        if before is not None:
            before(run)
        params = {
            "ids": guests,
            "bucket": BUCKET,
            "region": "us-south",
            "prefix": prefix,
            "max_offline": UNCAPPED,
            "grace_minutes": GRACE_MINUTES,
            **conf,
        }
        self.world.api.trigger("plan_exports", params, run_id=run.run_id)
        return run

    def trap(self, edge: Edge, run: Run, act: Callable[[Hit], None], *, also: str = "") -> Trap:
        """Set a trap at an edge of a run's way.

        :param edge: where.
        :param run: whose.
        :param act: what happens there.
        :param also: a pattern that the target must hold besides.
        """

        def meant(caller: Caller) -> bool:
            task = caller.task
            return task is not None and (task.run_id, task.task_id) == (run.dag_of(edge.task)[1], edge.task)

        def noted(hit: Hit) -> None:
            self.points.append(edge.name)
            act(hit)

        return self.watch(
            Trap(
                name=edge.name,
                service=edge.service,
                method=edge.method,
                phase=edge.phase,
                target=edge.target or also,
                by=meant if edge.task else lambda caller: True,
                act=noted,
            )
        )

    def watch(self, trap: Trap) -> Trap:
        """Set a trap, to be lifted at the end."""
        self.traps.append(trap)
        return self.world.watch.set(trap)

    def kill_worker(self, hit: Hit) -> None:
        """Kill the worker that sent a request: the task's process and its supervisor."""
        self.strike(hit.worker.pids)

    def strike(self, pids: Sequence[int]) -> None:
        """Kill processes of a worker."""
        self.world.kills["worker"] += 1
        self.struck.append(self.points[-1])
        signal_all(pids, signal.SIGKILL)

    def scheduler_of(self, hit: Hit) -> str:
        """Tell which scheduler started the worker that sent a request."""
        name = self.world.airflow.owner(hit.caller.pid or 0)
        assert name is not None
        assert name.startswith("scheduler"), f"{hit.point} came from {name}"
        return name

    def lose_reply(self, hit: Hit) -> None:
        """Let the reply to a request that has arrived get lost."""
        self.world.plan.aim("lost_reply")

    @contextmanager
    def next_call(self, worker: Worker) -> Iterator[None]:
        """Wait, after what the context does, until a task's process has called the account or the bucket again."""

        def its_own(caller: Caller) -> bool:
            return caller.pid == worker.task

        traps = [
            self.watch(Trap(name=f"a call of {worker}", service=one, method="*", phase="answered", by=its_own))
            for one in ("classic", "cos")
        ]
        yield
        wait_for(lambda: any(trap.hits for trap in traps), f"a call of {worker}", seconds=self.patience)
        for trap in traps:
            self.traps.remove(trap)
            self.world.watch.lift(trap)

    def wait_gone(self, worker: Worker) -> None:
        """Wait until a worker's processes run something else or nothing."""

        def gone() -> bool:
            return not any(str(worker.ti_id) in title(pid) for pid in worker.pids)

        wait_for(gone, f"the end of {worker}", seconds=self.patience)

    def all_exported(self, run: Run, *, seconds: float = PATIENCE) -> None:
        """Wait for the end of a run, which must have exported all of its servers."""
        for trap in self.traps:
            trap.wait(seconds)
        state = run.end(seconds=seconds)
        outcomes = run.outcomes()
        without = sorted(set(run.exports) - outcomes.keys())
        assert not without, f"{run.run_id} ended as {state} and left these exports without an outcome: {without}"
        if not run.cleared:
            assert state == "success", f"{run.run_id} ended as {state}: {outcomes} {self.trouble(run)}"
        assert outcomes == dict.fromkeys(run.exports, "exported")

    def trouble(self, run: Run) -> str:
        """Give a report's words on what failed."""
        report = run.read(names.report_key(prefix=run.prefix, plan_id=run.plan_id))
        return "; ".join(f"{one['task']}: {one['words']}" for one in report["outcomes"] if one["kind"] == "failed")

    # The account

    def effects(self) -> list[dict[str, Any]]:
        """Read what happened in the account and the bucket so far."""
        return [event for event in self.world.history() if event["kind"] == "effect"]

    def effects_on(self, run: Run) -> list[dict[str, Any]]:
        """Read what happened to a run's servers, templates and objects, its reports and registers left out."""
        registers = ("offline-slots/", "/captured/", "/claims/", "/plans/")
        return [
            event
            for event in self.effects()
            if not any(one in event.get("key", "") for one in registers)
            and (event.get("guest") in run.guests or run.prefix in str(event))
        ]

    def captured(self, run: Run) -> list[int]:
        """Tell which servers of a run were captured, in order."""
        return [
            one["guest"] for one in self.effects() if one["what"] == "capture-started" and one["guest"] in run.guests
        ]

    def offline(self) -> dict[int, int]:
        """Tell which servers are offline now, each with the transaction of its capture."""
        found: dict[int, int] = {}
        for event in self.effects():
            if event["what"] == "guest-offline":
                found[event["guest"]] = event["transaction"]
            elif event["what"] == "guest-online":
                found.pop(event["guest"], None)
        return found

    def wait_offline(self, guests: list[int]) -> int:
        """Wait until one of some servers is offline.

        :returns: which one.
        """

        def there() -> int:
            return next((guest for guest in guests if guest in self.offline()), 0)

        found: int = wait_for(there, f"one of {guests} offline", seconds=self.patience)
        return found

    def wait_all_waiting(self, run: Run, *, but: int | None = None, seconds: float = PATIENCE) -> dict[int, set[int]]:
        """Wait until all servers of a run are offline for their captures, and each waits in a triggerer.

        :param but: a triggerer's job that none of them may be in.
        :returns: the servers' map indices, by the triggerer's job.
        """
        everybody, guests = set(range(len(run.guests))), set(run.guests)

        def there() -> dict[int, set[int]] | None:
            waits = self.world.metadata.waiting(run.wave)
            if but in waits or set().union(*waits.values()) != everybody:
                return None
            return waits if self.offline().keys() >= guests else None

        what = f"{len(guests)} servers of {run.wave} offline and waiting" + (
            "" if but is None else f", not in job {but}"
        )
        found: dict[int, set[int]] = wait_for(there, what, seconds=seconds, pause=0.5)
        return found

    def wait_transaction(self, guest: int, kind: str) -> None:
        """Wait until a server's capture or export runs."""

        def runs() -> bool:
            events = self.effects()
            templates = {
                one["template"] for one in events if one["what"] == "capture-started" and one["guest"] == guest
            }
            return any(one["what"] == f"{kind}-started" and one["template"] in templates for one in events)

        wait_for(runs, f"the {kind} of {guest}", seconds=self.patience, pause=0.05)

    @contextmanager
    def capped(self, number: int) -> Iterator[None]:
        """Tell the checker which cap holds."""
        self.world.caps.append((time.time(), number))
        yield
        self.world.caps.append((time.time(), UNCAPPED))

    @contextmanager
    def captures_last(self) -> Iterator[None]:
        """Let captures that begin now last until :meth:`end_capture`."""
        usual = self.world.sandbox.admin("GET", "switches")["capture_seconds"]
        self.world.sandbox.admin("POST", "switches", {"capture_seconds": 1e6})
        try:
            yield
        finally:
            self.world.sandbox.admin("POST", "switches", {"capture_seconds": usual})

    def end_capture(self, *guests: int) -> None:
        """Let captures end that would last; the servers must be offline."""
        offline = self.offline()
        assert offline.keys() >= set(guests), f"servers {sorted(set(guests) - offline.keys())} are not offline"
        for guest in guests:
            self.world.sandbox.admin("POST", f"transactions/{offline[guest]}/end", {})

    def wait_polls(self, count: int) -> None:
        """Wait until the account has been polled so many times more."""

        def polls() -> int:
            return sum(point.phase == "answered" and point.service == "classic" for _, point in self.world.watch.seen)

        goal = polls() + count
        wait_for(lambda: polls() >= goal, f"{count} polls of the account", seconds=self.patience)

    # What people do

    def mark(self, run: Run, task: str, index: int, state: str) -> None:
        """Mark a task as a user does in the UI."""
        path = f"dags/export_servers/dagRuns/{run.wave}/taskInstances/{task}/{index}"
        self.world.api.request("PATCH", path, json={"new_state": state})

    def wait_log(self, run: Run, task: str, index: int, *words: str) -> None:
        """Wait until a task's log holds all of some words."""
        state = run.state(task, index)
        assert state is not None

        def told() -> bool:
            text = run.log(task, index, state.try_number)
            return all(one in text for one in words)

        wait_for(told, f"{words} in the log of {task}", seconds=self.patience, pause=0.5)

    # Programs that all share

    def take_away(self, *names: str, descendants_too: bool = True) -> None:
        """Kill programs; see :meth:`World.take_away`."""
        if self.world.take_away(*names, descendants_too=descendants_too, unless=lambda: self.closed):
            self.away += names
            self.struck.append(self.points[-1])

    def hold(self, name: str) -> None:
        """Hold a program; see :meth:`World.hold`."""
        if self.world.hold(name, unless=lambda: self.closed):
            self.held.append(name)

    def bring_back(self) -> None:
        """Start again what was killed, let go on what was held, and wait until it does its work."""
        held, self.held = self.held, []
        self.world.go_on(*held)
        names, self.away = self.away, []
        self.world.bring_back(*names)

    def close(self) -> None:
        """Lift all traps, and leave nothing away."""
        self.closed = True
        for trap in self.traps:
            self.world.watch.lift(trap)
        self.bring_back()
