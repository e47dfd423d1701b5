"""The baton and the clock: simulated processes that take turns, so that a race is found by a seed and found again.

Every simulated process (a worker with one try of a task, or a triggerer with its threads) is an *actor*: a greenlet
that runs until it sleeps, and only one runs at a time. Whoever sleeps says for how long; the next one to run is the one
whose sleep ends first, and the clock jumps there. Every call over the network sleeps before the request and before the
reply, so that two actors meet in every order that seeded delays can make.

A SIGKILL is an actor that is never woken again: no ``finally`` of it runs. What is left parked is unwound at the end of
the scenario, when the network refuses everything. SIGSTOP and SIGCONT are an actor that is not woken for a while.

Greenlets rather than threads: a lock that a dead actor holds would stop a thread for ever (that of a
``functools.cached_property``, say, which is held while it calls), and a switch costs a microsecond.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import greenlet

from tests.chaos.sim import timewarp

START: Final = 1_763_949_600.0
"""When every scenario begins: 2025-11-24 02:00 UTC."""


class Unwound(BaseException):
    """Thrown into the actors that are left when a scenario has ended."""


@dataclass
class _Global:
    """A module's variable that each process has for itself."""

    module: Any
    name: str
    value: Any

    def swap(self) -> None:
        """Exchange the module's value and this one."""
        there = getattr(self.module, self.name)
        setattr(self.module, self.name, self.value)
        self.value = there


class Actor:
    """A simulated process.

    :param name: for the trace.
    :param kind: worker or triggerer.
    :param skew: how many seconds its machine's clock is ahead.
    :param process: the process that this is a thread of, if it is one; they live, stop and die together.
    """

    def __init__(
        self,
        sim: Sim,
        *,
        name: str,
        kind: str,
        function: Callable[[], Any],
        skew: float = 0.0,
        process: Actor | None = None,
    ) -> None:
        self.sim = sim
        self.name = name
        self.kind = kind
        self.skew = skew
        self.process = process or self
        self.dead = False
        self.done = False
        self.frozen_until = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self.on_end: Callable[[Actor], None] | None = None
        self.notes: dict[str, Any] = process.notes if process else {}
        self.globals: list[_Global] = process.globals if process else []
        self.turn = 0  # a wake-up that was overtaken by another has an old number
        self._function = function
        self.greenlet = greenlet.greenlet(self._run, sim.hub)

    def __repr__(self) -> str:
        return self.name

    def _run(self) -> None:
        try:
            self.result = self._function()
        except (Unwound, greenlet.GreenletExit):
            return
        except BaseException as error:  # noqa: BLE001 - kept for whoever waits for the actor's end
            self.error = error
        self.done = True
        if self.on_end is not None and not self.sim.closing and not self.process.dead:
            self.on_end(self)

    def has_own(self, module: Any, name: str, value: Any) -> None:
        """Give this process a module's variable for itself, as every real process has."""
        self.globals.append(_Global(module, name, value))

    @property
    def alive(self) -> bool:
        """Whether the process still runs, or is only stopped for a while."""
        process = self.process
        return not (self.done or process.dead or process.done)

    def park(self) -> None:
        """Give the baton back until somebody wakes this actor."""
        loop, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        asyncio._set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)
        try:
            self.sim.hub.switch()
        finally:
            asyncio._set_running_loop(loop)
            sys.set_asyncgen_hooks(*hooks)


class Sim:
    """One scenario's clock, order and chance.

    :param seed: decides everything that is left to chance.
    """

    def __init__(self, *, seed: int) -> None:
        self.random = random.Random(f"{seed}:order")
        self.now = START
        self.hub = greenlet.getcurrent()
        self.actors: list[Actor] = []
        self.current: Actor | None = None
        self.closing = False
        self.steps = 0
        self.events: list[tuple[float, str, str]] = []
        self.on_event: Callable[[tuple[float, str, str]], None] | None = None
        self._queue: list[tuple[float, float, int, Actor | None, int, Callable[[], None] | None]] = []
        self._count = itertools.count()

    # What happened, in words

    def say(self, text: str) -> None:
        """Note an event for the trace."""
        event = (self.now, self.current.name if self.current else "-", text)
        self.events.append(event)
        if self.on_event is not None:
            self.on_event(event)

    # Actors

    def spawn(
        self,
        name: str,
        kind: str,
        function: Callable[[], Any],
        *,
        delay: float = 0.0,
        skew: float = 0.0,
        on_end: Callable[[Actor], None] | None = None,
    ) -> Actor:
        """Start a simulated process ``delay`` seconds from now."""
        actor = Actor(self, name=name, kind=kind, function=function, skew=skew)
        actor.on_end = on_end
        self.actors.append(actor)
        self._wake_at(actor, self.now + delay)
        return actor

    def thread(self, process: Actor, function: Callable[[], Any]) -> None:
        """Start a thread of a process."""
        actor = Actor(self, name=process.name, kind=process.kind, function=function, skew=process.skew, process=process)
        self.actors.append(actor)
        self._wake_at(actor, self.now)

    def kill(self, actor: Actor) -> None:
        """SIGKILL: the process never runs again. One that kills itself comes back from here only to be unwound."""
        actor.process.dead = True
        current = self.current
        if current is not None and current.process is actor.process:
            current.park()
            raise Unwound

    def freeze(self, actor: Actor, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after some seconds."""
        process = actor.process
        process.frozen_until = max(process.frozen_until, self.now + seconds)

    def wake(self, actor: Actor) -> None:
        """End an actor's sleep now."""
        if actor.alive:
            self._wake_at(actor, self.now)

    def sleep(self, seconds: float) -> None:
        """Let time pass for the running actor; outside of any actor only the clock moves."""
        if self.closing:
            raise Unwound
        actor = self.current
        if actor is None:
            self._set_time(self.now + max(0.0, seconds))
            return
        self._wake_at(actor, self.now + max(0.0, seconds))
        actor.park()
        if self.closing:
            raise Unwound

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something after some seconds; it must not sleep."""
        heapq.heappush(
            self._queue, (self.now + max(0.0, seconds), self.random.random(), next(self._count), None, 0, call)
        )

    def _wake_at(self, actor: Actor, when: float) -> None:
        actor.turn += 1
        heapq.heappush(self._queue, (when, self.random.random(), next(self._count), actor, actor.turn, None))

    # Time

    def monotonic(self) -> float:
        """Seconds that never go back, the same on all machines."""
        return self.now - START + 1000.0

    def _set_time(self, when: float, skew: float = 0.0) -> None:
        self.now = max(self.now, when)
        timewarp.move_to(self.now + skew)

    @contextmanager
    def true_time(self) -> Iterator[None]:
        """Let the wall clock show the true time meanwhile, as on the machines of the service."""
        actor = self.current
        if actor is None or not actor.skew:
            yield
            return
        timewarp.move_to(self.now)
        try:
            yield
        finally:
            timewarp.move_to(self.now + actor.skew)

    # The loop

    def run(self, *, until: Callable[[], bool], deadline: float) -> bool:
        """Let the actors run.

        :param until: looked at before each turn; ends the loop.
        :param deadline: the simulated time at which the loop ends in any case.
        :returns: whether ``until`` came true.
        """
        while not until():
            if not self._queue or self._queue[0][0] > deadline:
                return False
            when, _, _, actor, turn, call = heapq.heappop(self._queue)
            if call is not None:
                self._set_time(when)
                call()
                continue
            if actor is None or not actor.alive or turn != actor.turn:
                continue
            if actor.process.frozen_until > when:
                self._wake_at(actor, actor.process.frozen_until)
                continue
            self._turn(actor, when)
        return True

    def _turn(self, actor: Actor, when: float) -> None:
        self.steps += 1
        self._set_time(when, actor.skew)
        self.current = actor
        for one in actor.globals:
            one.swap()
        try:
            actor.greenlet.switch()
        finally:
            self.current = None
            for one in actor.globals:
                one.swap()
            if actor.skew:
                timewarp.move_to(self.now)

    def close(self) -> None:
        """Unwind what is left. The network must refuse everything by now."""
        self.closing = True
        for actor in self.actors:
            for _ in range(1000):
                if actor.greenlet.dead or not actor.greenlet:  # ended, or never begun
                    break
                self.current = actor
                actor.greenlet.throw(Unwound)
            self.current = None
        self._queue.clear()
