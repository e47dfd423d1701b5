"""A triggerer: an event loop on simulated time, with Airflow's own shared streams in it.

What is Airflow's: :class:`airflow.triggers.shared_stream.SharedStreamManager`, the base classes of triggers, the way in
which one is made again from its row and rendered. What stands in for the rest of the triggerer is small: it takes the
triggers that the metadata database gives it, runs them, and hands on their events.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import structlog
from airflow.sdk.execution_time.comms import SetXCom
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import BaseEventTrigger
from airflow.triggers.shared_stream import SharedStreamManager

from sealift.provider.triggers import account, starting
from tests.chaos.sim.airflow import LittleAirflow
from tests.chaos.sim.engine import Actor, Sim
from tests.chaos.sim.records import TriggerRow
from tests.chaos.sim.workers import TaskView

_ACTION: Final = "user-action"
_FOREVER: Final = 10.0 * 365 * 86_400


class SimLoop(asyncio.BaseEventLoop):
    """An event loop whose waiting is an actor's sleep.

    :param sim: the clock.
    :param process: whose loop it is.
    """

    def __init__(self, sim: Sim, process: Actor) -> None:
        super().__init__()
        self._sim = sim
        self._process = process
        self._selector = SimpleNamespace(select=self._select)

    def _select(self, timeout: float | None) -> list[Any]:
        if timeout is None or timeout > 0:
            # The wall clock's finest step is a quarter of a microsecond: a shorter sleep would never end.
            self._sim.sleep(_FOREVER if timeout is None else max(timeout, 1e-6))
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none: nothing reads from sockets here."""

    def _write_to_self(self) -> None:
        """Whoever calls in from outside wakes the actor."""

    def time(self) -> float:
        return self._sim.monotonic()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Call something in a thread of the process: another actor, which lives and dies with this one."""
        future: asyncio.Future[Any] = self.create_future()

        def deliver(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def call() -> None:
            result, error = None, None
            try:
                result = func(*args)
            except Exception as caught:  # noqa: BLE001 - whoever waits for the future gets it
                error = caught
            if not self._sim.closing:
                self.call_soon(deliver, result, error)
                self._sim.wake(self._process)

        self._sim.thread(self._process, call)
        return future


class Comms:
    """What a trigger sends to Airflow: the address of a button."""

    def __init__(self, airflow: LittleAirflow) -> None:
        self._airflow = airflow

    async def asend(self, message: SetXCom) -> None:
        """Set an XCom of a task."""
        map_index = -1 if message.map_index is None else message.map_index
        run = next(one for one in self._airflow.runs if one.run_id == message.run_id)
        task = run.tasks[message.task_id, map_index]
        self._airflow.texts.append(json.dumps(message.value))
        self._airflow.crossing("xcoms:set", lambda: task.xcoms.__setitem__(message.key, json.dumps(message.value)))


class Triggerer:
    """One triggerer process.

    :param airflow: gives triggers and takes events.
    :param name: its name in the database; unlike for every start of a process.
    :param skew: how far its machine's clock is ahead.
    """

    def __init__(self, airflow: LittleAirflow, *, name: str, skew: float = 0.0) -> None:
        self.airflow = airflow
        self.name = name
        self._sim = airflow.sim
        self._running: dict[int, asyncio.Task[None]] = {}
        self._over: set[int] = set()
        self._loop: SimLoop | None = None
        self._news: asyncio.Event | None = None
        self.actor: Actor = self._sim.spawn(name, "triggerer", self._main, skew=skew)
        self.actor.notes.update(triggerer=self, step="triggerer")
        self.actor.has_own(account, "_registers", {})
        self.actor.has_own(account, "_paces", defaultdict(lambda: deque(maxlen=account.PACES)))
        self.actor.has_own(starting, "_pools", {})
        airflow.triggerers[name] = self

    @property
    def healthy(self) -> bool:
        """Whether its heartbeats come."""
        return self.actor.alive and self.actor.frozen_until <= self._sim.now

    def _main(self) -> None:
        self._loop = SimLoop(self._sim, self.actor)
        asyncio.set_event_loop(None)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._news = asyncio.Event()
        self._streams = SharedStreamManager(log=structlog.get_logger("chaos"), _now=self._sim.monotonic)
        while True:
            self._news.clear()
            await self._sync()
            await self._news.wait()

    def changed(self) -> None:
        """The database has news for this triggerer, which it reads when it next looks."""
        self._sim.later(self.airflow.random.uniform(0.1, 1.0), self._poke)

    def _poke(self) -> None:
        if self.actor.alive and self._news is not None:
            self._news.set()
            self._sim.wake(self.actor)

    def killed_by_person(self, trigger: int) -> None:
        """A person ended the task of a trigger."""
        self.changed()

    async def _sync(self) -> None:
        mine = {row.id: row for row in self.airflow.triggers.values() if row.triggerer == self.name}
        for number, running in list(self._running.items()):
            if running.done():
                del self._running[number]
            elif number not in mine:
                running.cancel(_ACTION)
        for number, row in mine.items():
            if number not in self._running and number not in self._over:
                self._running[number] = asyncio.ensure_future(self._run(row))
                self._running[number].add_done_callback(lambda _: self._poke())

    async def _run(self, row: TriggerRow) -> None:
        """As ``TriggerRunner.run_trigger`` does it."""
        fired = False
        key: Any = None
        trigger: Any = None
        try:
            trigger = self._made(row)
            if isinstance(trigger, BaseEventTrigger):
                key = trigger.shared_stream_key()
            if key is not None:
                events = trigger.filter_shared_stream(
                    self._streams.subscribe(trigger_id=row.id, trigger=trigger, key=key)
                )
            else:
                events = trigger.run()
            async for event in events:
                fired = True
                self._over.add(row.id)
                self._send(lambda event=event: self.airflow.trigger_event(row.id, event))  # type: ignore[misc]
        except asyncio.CancelledError as cancelled:
            if cancelled.args and cancelled.args[0] == _ACTION and trigger is not None:
                await trigger.on_kill()
            raise
        except Exception as error:  # noqa: BLE001 - Airflow fails the task of such a trigger
            words = f"{type(error).__name__}: {error}"
            self.airflow.texts.append(words)
            self._over.add(row.id)
            self._send(lambda: self.airflow.trigger_failed(row.id, words))
        else:
            if not fired:
                self._over.add(row.id)
                self._send(lambda: self.airflow.trigger_failed(row.id, "ended without an event"))
        finally:
            if key is not None:
                await self._streams.unsubscribe(row.id, key)
            if trigger is not None:
                await trigger.cleanup()

    def _made(self, row: TriggerRow) -> Any:
        trigger = import_string(row.classpath)(**json.loads(row.kwargs))
        trigger.trigger_id = row.id
        operator = self.airflow.task_of(row.task)
        view = TaskView(self.airflow, row.task, operator)
        if row.from_worker:
            trigger.task_instance = SimpleNamespace(task_id=row.task.task_id)
        else:
            trigger.task_instance = view
            trigger.render_template_fields({"ti": view, "params": row.task.run.params, "task": operator})
            self.airflow.texts.append(str(trigger.serialize()))
        return trigger

    def _send(self, change: Callable[[], None]) -> None:
        """Hand something to the database, unless this process dies on the way."""

        def arrive() -> None:
            if not self.actor.alive:
                return
            if self.actor.frozen_until > self._sim.now:
                self._sim.later(self.actor.frozen_until - self._sim.now + 0.1, arrive)
                return
            change()

        self._sim.later(self.airflow.random.uniform(0.1, 2.0), arrive)
