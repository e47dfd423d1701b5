"""A little Airflow: the task instances of ``export_servers``, as Airflow 3.3 carries them, on simulated time.

What is true to Airflow: XComs are wiped when a new try begins; a deferred task's trigger
is rebuilt from ``serialize()`` in a triggerer; sensors start there; ``TaskSuccessEvent`` ends a task without a worker;
a worker that is gone is noticed late; one that Airflow has given up lives on until its supervisor hears of it; a late
report of a deferring process fails the task that runs again (apache/airflow #67287). The tasks are those of the DAG
file, with its arguments, retries and retry policy.

What is simpler: the scheduler decides in an instant and knows of every change at once unless it is down, nothing limits
how many tasks run, and there is one DAG.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol

from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from tests.chaos.sim.engine import Actor, Sim
from tests.chaos.sim.records import ENDED, GROUP, STEPS, Run, Task, TriggerRow
from tests.chaos.sim.workers import ApiServerGone, Worker

HEARTBEAT_TIMEOUT: Final = 300.0
"""[scheduler] task_instance_heartbeat_timeout."""
TRIGGERER_TIMEOUT: Final = 30.0
"""[triggerer] triggerer_health_check_threshold."""


class Crossing(Protocol):
    """Where a process crosses to Airflow's API server: sleeps, and may die before or after ``effect``."""

    def __call__(self, method: str, effect: Callable[[], Any], /) -> Any: ...


class LittleAirflow:
    """The scheduler, the executor and the metadata database.

    :param sim: clock and order.
    :param dag: the DAG object of ``dags/export_servers.py``.
    :param crossing: how workers reach the API server.
    :param seed: decides delays.
    :param rough: how often what is rare happens: late reports, orphans, slow notices; 0 to 1.
    """

    def __init__(self, *, sim: Sim, dag: Any, crossing: Crossing, seed: int, rough: float = 0.0) -> None:
        self.sim = sim
        self.dag = dag
        self.crossing = crossing
        self.random = random.Random(f"{seed}:airflow")
        self.rough = rough
        self.runs: list[Run] = []
        self.triggers: dict[int, TriggerRow] = {}
        self.triggerers: dict[str, Any] = {}
        self.scheduler_down_until = 0.0
        self.api_down_until = 0.0
        self.in_workers = False
        self.skew: Callable[[], float] = lambda: 0.0
        self.texts: list[str] = []
        self.workers_started = 0
        self.new_triggerer: Callable[[float], None] = lambda skew: None
        self._numbers = 0
        self._tick_at: float | None = None
        self._inbox: list[Callable[[], None]] = []

    # Runs and tasks

    def start_run(self, run_id: str, params: Mapping[str, Any]) -> Run:
        """Start a wave's run."""
        run = Run(run_id=run_id, params=dict(params))
        run.tasks["read_wave", -1] = Task(run, "read_wave", -1)
        run.tasks["summarise", -1] = Task(run, "summarise", -1)
        for one in run.tasks.values():
            one.max_tries = self.task_of(one).retries
        self.runs.append(run)
        self.poke()
        return run

    def task_of(self, task: Task) -> Any:
        """:returns: the operator, as the DAG file has it."""
        return self.dag.task_dict[task.task_id]

    def tasks(self) -> Iterator[Task]:
        """:returns: all task instances of all runs."""
        for run in self.runs:
            yield from run.tasks.values()

    def _expand(self, run: Run, servers: list[dict[str, Any]]) -> None:
        if run.servers:
            return
        run.servers = servers
        for index in range(len(servers)):
            for step in STEPS:
                task = Task(run, f"{GROUP}.{step}", index)
                task.max_tries = self.task_of(task).retries
                run.tasks[task.task_id, index] = task

    def _upstream(self, task: Task) -> list[Task]:
        run = task.run
        if task.task_id == "read_wave":
            return []
        if task.task_id == "summarise":
            return [one for one in run.tasks.values() if one is not task]
        ids = self.task_of(task).upstream_task_ids
        return [run.tasks[one, task.index if one.startswith(GROUP) else -1] for one in ids]

    def downstream(self, task: Task) -> list[Task]:
        """:returns: what comes after a task, nearest first."""
        run = task.run
        if task.task_id == "summarise":
            return []
        if task.task_id == "read_wave":
            return [one for one in run.tasks.values() if one is not task]
        later = STEPS[STEPS.index(task.step) + 1 :]
        return [*(run.tasks[f"{GROUP}.{one}", task.index] for one in later), run.tasks["summarise", -1]]

    # The scheduler

    def poke(self, delay: float | None = None) -> None:
        """Have the scheduler look soon."""
        when = self.sim.now + (self.random.uniform(0.3, 3.0) if delay is None else delay)
        if self._tick_at is not None and self._tick_at <= when:
            return
        self._tick_at = when
        self.sim.later(when - self.sim.now, self._look)

    def _look(self) -> None:
        if self._tick_at is None or self.sim.now + 1e-6 < self._tick_at:
            return
        self._tick_at = None
        if self.sim.now < self.scheduler_down_until:
            self.poke(self.scheduler_down_until - self.sim.now + 0.1)
            return
        inbox, self._inbox = self._inbox, []
        for notice in inbox:
            notice()
        waits: list[float] = []
        for task in list(self.tasks()):
            if task.state == "up_for_retry":
                if self.sim.now >= task.ready_at:
                    self._schedule(task)
                else:
                    waits.append(task.ready_at - self.sim.now)
            elif task.state is None:
                self._consider(task)
            elif task.state == "scheduled":
                self._queue(task)
        if waits:
            self.poke(min(waits) + 0.01)

    def _consider(self, task: Task) -> None:
        states = [one.state for one in self._upstream(task)]
        if task.task_id == "summarise":
            group_is_there = task.run.servers or task.run.tasks["read_wave", -1].state in ENDED
            if group_is_there and all(one in ENDED for one in states):
                self._schedule(task)
        elif all(one == "success" for one in states):
            self._schedule(task)
        elif any(one in {"failed", "upstream_failed"} for one in states):
            self._set(task, "upstream_failed")
        elif any(one == "skipped" for one in states):
            self._set(task, "skipped")

    def _schedule(self, task: Task) -> None:
        """A new try begins: in a worker, or, for a sensor that says so, right in a triggerer."""
        operator = self.task_of(task)
        task.try_number += 1
        task.next_method = task.next_kwargs = None
        task.attempt += 1
        if getattr(operator, "start_from_trigger", False):
            args = operator.start_trigger_args
            task.xcoms.clear()
            task.next_method = args.next_method
            kwargs = dict(args.trigger_kwargs or {})
            if self.in_workers and "wave_key" in kwargs:
                kwargs["wave_key"] = ""  # as with [sealift] start_in_triggerer = False
            self._defer(task, args.trigger_cls, kwargs, from_worker=False)
            return
        self._set(task, "scheduled")
        self._queue(task)

    def _queue(self, task: Task) -> None:
        self._set(task, "queued")
        task.attempt += 1
        attempt, tried = task.attempt, task.try_number
        self.workers_started += 1
        task.worker = self.sim.spawn(
            f"{task.step}[{task.run.run_id[-6:]}:{task.index}]#{task.try_number}.{attempt}",
            "worker",
            lambda: Worker(self, task, attempt).work(),
            delay=self.random.uniform(0.2, 2.0),
            skew=self.skew(),
            on_end=lambda actor: self._ended(task, attempt, tried, actor),
        )
        task.worker.notes.update(task=task, attempt=attempt, step=task.step)

    def _set(self, task: Task, state: str | None) -> None:
        if task.state != state:
            self.sim.say(f"{task}: {task.state} -> {state}")
            task.state = state
            self.poke()

    def notice(self, delay: float, call: Callable[[], None]) -> None:
        """Have the scheduler do something when it next looks after some seconds."""

        def arrive() -> None:
            self._inbox.append(call)
            self.poke(0.0)

        self.sim.later(delay, arrive)

    # Ends of tries

    def _ended(self, task: Task, attempt: int, tried: int, actor: Actor) -> None:
        """A worker's process has ended by itself; the scheduler hears of it a little later, sometimes much later."""
        if actor.error is not None and not isinstance(actor.error, ApiServerGone):
            self.sim.say(f"{task}: the simulator itself failed: {actor.error!r}")
            raise actor.error
        late = self.random.random() < 0.1 * self.rough
        delay = self.random.uniform(5.0, 60.0) if late else self.random.uniform(0.2, 2.0)
        succeeded = actor.error is None
        self.notice(delay, lambda: self._process_ended(task, attempt, tried, succeeded))

    def _process_ended(self, task: Task, attempt: int, tried: int, succeeded: bool) -> None:
        if task.attempt == attempt:
            if task.state in {"queued", "running"}:
                # Its last words did not reach the API server; the executor saw it end.
                self._failed(task, "the process ended without a state")
            return
        resumed = task.try_number == tried and task.next_method is not None
        if succeeded and resumed and task.state in {"queued", "running"}:
            self.sim.say(f"{task}: a stale report of a deferring process")
            self._failed(task, "the executor reported an end while the task ran again")

    def worker_gone(self, actor: Actor) -> None:
        """A worker was killed: its executor may see that at once, or only its heartbeats stop."""
        task, attempt = actor.notes["task"], actor.notes["attempt"]
        seen = self.random.random() < 0.5
        delay = self.random.uniform(0.3, 5.0) if seen else HEARTBEAT_TIMEOUT + self.random.uniform(0, 30)
        self.notice(delay, lambda: self._lost(task, attempt, "its worker is gone"))

    def worker_silent(self, actor: Actor, seconds: float) -> None:
        """A worker was stopped: after the timeout Airflow gives it up, though it may live on."""
        task, attempt = actor.notes["task"], actor.notes["attempt"]
        if seconds > HEARTBEAT_TIMEOUT:
            delay = HEARTBEAT_TIMEOUT + self.random.uniform(0, 30)
            self.notice(delay, lambda: self._lost(task, attempt, "no heartbeat"))

    def _lost(self, task: Task, attempt: int, why: str) -> None:
        if task.attempt == attempt and task.state in {"queued", "running", "restarting"}:
            self._failed(task, why)

    def _failed(self, task: Task, why: str, *, delay: timedelta | None = None, for_good: bool = False) -> None:
        self._take_away(task)
        task.words = task.words or why
        retry = task.state == "restarting" or task.try_number <= task.max_tries
        if for_good or not retry:
            self.sim.say(f"{task}: failed: {why[:300]}")
            self._set(task, "failed")
            return
        wait = self.task_of(task).retry_delay if delay is None else delay
        task.ready_at = self.sim.now + wait.total_seconds()
        self.sim.say(f"{task}: try {task.try_number} failed: {why[:300]}")
        self._set(task, "up_for_retry")
        self.poke(wait.total_seconds() + 0.01)

    def _take_away(self, task: Task) -> None:
        """The task no longer belongs to its process or trigger; a live process hears of it by its next heartbeat."""
        task.attempt += 1
        if task.trigger is not None:
            self.triggers.pop(task.trigger, None)
            task.trigger = None
        worker, task.worker = task.worker, None
        if worker is not None and worker.alive:
            self._end_by_supervisor(worker, self.random.uniform(0.5, 30.0))

    def _end_by_supervisor(self, worker: Actor, delay: float) -> None:
        def end() -> None:
            if not worker.alive or worker.notes.get("orphan"):
                return
            if worker.frozen_until > self.sim.now:
                self._end_by_supervisor(worker, worker.frozen_until - self.sim.now + self.random.uniform(0.5, 30.0))
                return
            self.sim.say(f"{worker}: ended by its supervisor")
            self.sim.kill(worker)

        self.sim.later(delay, end)

    # Triggers

    def _defer(self, task: Task, classpath: str, kwargs: dict[str, Any], *, from_worker: bool) -> None:
        self._numbers += 1
        # Through JSON, as through the metadata database: an object that does not survive it is a defect.
        row = TriggerRow(
            id=self._numbers, task=task, classpath=classpath, kwargs=json.dumps(kwargs), from_worker=from_worker
        )
        self.texts.append(row.kwargs)
        self.triggers[row.id] = row
        task.trigger = row.id
        task.worker = None
        self._set(task, "deferred")
        self.assign(row)

    def assign(self, row: TriggerRow) -> None:
        """Give a trigger to a triggerer that lives, a little later."""

        def hand_over() -> None:
            if self.triggers.get(row.id) is not row or row.triggerer is not None:
                return
            living = sorted(name for name, one in self.triggerers.items() if one.healthy)
            if living:
                row.triggerer = self.random.choice(living)
                self.triggerers[row.triggerer].changed()
            else:
                self.assign(row)

        self.sim.later(self.random.uniform(0.5, 3.0), hand_over)

    def triggerer_gone(self, name: str, *, after: float = TRIGGERER_TIMEOUT) -> None:
        """A triggerer's heartbeats stopped: after a while its triggers go to others."""

        def give_away() -> None:
            triggerer = self.triggerers.get(name)
            if triggerer is not None and triggerer.healthy:
                return
            for row in list(self.triggers.values()):
                if row.triggerer == name:
                    row.triggerer = None
                    self.assign(row)

        self.notice(after + self.random.uniform(0, 5), give_away)

    def triggerer_died(self, triggerer: Any) -> None:
        """A triggerer was killed: its triggers go to others, and after a while another process starts in its place."""
        self.triggerer_gone(triggerer.name)
        self.sim.later(self.random.uniform(5.0, 120.0), lambda: self.new_triggerer(triggerer.actor.skew))

    def trigger_event(self, trigger: int, event: TriggerEvent) -> None:
        """A trigger has fired."""
        row = self.triggers.pop(trigger, None)
        if row is None or row.task.trigger != trigger:
            return
        task = row.task
        task.trigger = None
        if isinstance(event, TaskSuccessEvent):
            for key, value in (event.xcoms or {}).items():
                task.xcoms[key] = json.dumps(json.dumps(value))
            self._set(task, "success")
        elif isinstance(event, TaskFailedEvent):
            self._failed(task, "the trigger failed the task")
        elif isinstance(event, TaskSkippedEvent):
            self._set(task, "skipped")
        else:
            payload = json.loads(json.dumps(event.payload))
            self.texts.append(json.dumps(payload))
            task.next_kwargs = {**(task.next_kwargs or {}), "event": payload}
            self._set(task, "scheduled")

    def trigger_failed(self, trigger: int, error: str) -> None:
        """A trigger ended without an event."""
        row = self.triggers.pop(trigger, None)
        if row is None or row.task.trigger != trigger:
            return
        self.sim.say(f"{row.task}: the trigger failed: {error}")
        row.task.trigger = None
        row.task.next_method = "__fail__"
        row.task.next_kwargs = {"error": "Trigger failure", "traceback": [error]}
        self._set(row.task, "scheduled")

    def deferred(self, task: Task, deferral: TaskDeferred) -> None:
        """A worker has deferred its task."""
        classpath, kwargs = deferral.trigger.serialize()
        task.next_method = deferral.method_name
        task.next_kwargs = json.loads(json.dumps(deferral.kwargs or {}))
        self._defer(task, classpath, kwargs, from_worker=True)

    # What a person does

    def clear(self, task: Task, *, downstream: bool = True) -> None:
        """Clear a task, with everything after it."""
        self.sim.say(f"{task}: cleared by a person")
        for one in [task, *(self.downstream(task) if downstream else [])]:
            if one.state is None:
                continue
            one.max_tries = one.try_number + self.task_of(one).retries
            one.words = ""
            if one.state in {"running", "restarting"}:
                self._restart(one)
                continue
            self._end_for_person(one)
            one.next_method = one.next_kwargs = None
            self._set(one, None)
        self.poke()

    def _restart(self, task: Task) -> None:
        """A running task that is cleared: its process is ended by its supervisor, and another try begins."""
        self._set(task, "restarting")
        worker, attempt = task.worker, task.attempt
        if worker is not None:
            self._end_by_supervisor(worker, self.random.uniform(0.5, 30.0))
        late = self.random.random() < 0.3 * self.rough
        delay = HEARTBEAT_TIMEOUT if late else self.random.uniform(30.0, 40.0)
        self.notice(delay, lambda: self._lost(task, attempt, "restarted by a person"))

    def mark(self, task: Task, state: str) -> None:
        """Mark a task as success or failed."""
        if task.state in ENDED and task.state == state:
            return
        self.sim.say(f"{task}: marked {state} by a person")
        self._end_for_person(task)
        task.next_method = task.next_kwargs = None
        self._set(task, state)

    def _end_for_person(self, task: Task) -> None:
        row = self.triggers.get(task.trigger or 0)
        self._take_away(task)
        if row is not None and row.triggerer in self.triggerers:
            self.triggerers[row.triggerer].killed_by_person(row.id)
