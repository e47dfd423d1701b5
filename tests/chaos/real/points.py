"""Points on the wire: a trap waits at one by its name, and does something the moment a request comes there.

The proxies call :meth:`Watch.on_point` when a request has arrived (and is not passed on yet), when it has been answered
(and the answer is not passed back yet), and when the answer was passed back; the request stands still meanwhile.
"""

from __future__ import annotations

import fnmatch
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal
from uuid import UUID

from tests.chaos.peers import process_of
from tests.chaos.proxy import Point
from tests.chaos.real.metadata import TaskTry
from tests.chaos.real.worker import Worker, worker_of

TryOf = Callable[[UUID], TaskTry | None]
Phase = Literal["arrived", "forwarded", "answered"]


class NotReachedError(AssertionError):
    """A point was not reached in time."""


@dataclass
class Caller:
    """Who sent a request; looked up only if somebody asks."""

    port: int
    among: Callable[[], Iterable[int]]
    try_of: TryOf

    @cached_property
    def pid(self) -> int | None:
        """The process."""
        return process_of(self.port, self.among())

    @cached_property
    def worker(self) -> Worker | None:
        """The worker that it is, if it is one."""
        return None if self.pid is None else worker_of(self.pid)

    @cached_property
    def task(self) -> TaskTry | None:
        """The try that the worker runs."""
        return None if self.worker is None else self.try_of(self.worker.ti_id)


@dataclass(frozen=True)
class Hit:
    """A request that came to a trap."""

    point: Point
    caller: Caller

    @property
    def worker(self) -> Worker:
        """The worker that sent it."""
        assert self.caller.worker is not None, f"{self.point} was not sent by a worker"
        return self.caller.worker


@dataclass
class Trap:
    """Something that happens once at a point.

    :param name: the point in words.
    :param service: as the proxy names it.
    :param method: as the proxy names it; ``*`` stands for anything.
    :param phase: when.
    :param target: a regular expression that the request's target must hold.
    :param by: says whether the caller is the one that is meant.
    :param act: what happens.
    :param times: how often it happens.
    """

    name: str
    service: str
    method: str
    phase: Phase
    target: str = ""
    by: Callable[[Caller], bool] = lambda caller: True
    act: Callable[[Hit], None] = lambda hit: None
    times: int = 1
    hits: list[Hit] = field(default_factory=list)
    error: BaseException | None = None
    _sprung: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fits(self, point: Point) -> bool:
        """Tell whether a request fits in all but its phase, without asking who sent it."""
        return (
            point.service == self.service
            and fnmatch.fnmatchcase(point.method, self.method)
            and (not self.target or re.search(self.target, point.target) is not None)
        )

    def spring(self, hit: Hit) -> bool:
        """Do what is to be done, if this is still to happen and the caller is meant.

        :returns: whether it was.
        """
        if not self.by(hit.caller):
            return False
        with self._lock:
            if len(self.hits) >= self.times:
                return False
            self.hits.append(hit)
            last = len(self.hits) == self.times
        try:
            self.act(hit)
        except BaseException as error:
            self.error = error
            raise
        finally:
            if last:
                self._sprung.set()
        return True

    def wait(self, seconds: float) -> Hit:
        """Wait until all of it has happened.

        :param seconds: how long.
        :returns: the last request.
        :raises NotReachedError: if it did not.
        """
        if not self._sprung.wait(seconds):
            raise NotReachedError(f"the point {self.name!r} was not reached within {seconds:.0f} s")
        if self.error is not None:
            raise AssertionError(f"at the point {self.name!r}: {self.error}") from self.error
        return self.hits[-1]


class Watch:
    """Knows the traps that are set, and is told of every request.

    :param among: gives the processes that a caller can be.
    :param try_of: tells which task a task instance's id stands for.
    """

    def __init__(self, *, among: Callable[[], Iterable[int]], try_of: TryOf) -> None:
        self._among = among
        self._try_of = try_of
        self._traps: list[Trap] = []
        self._callers: dict[int, Caller] = {}
        self._lock = threading.Lock()
        self.seen: list[tuple[float, Point]] = []

    def set(self, trap: Trap) -> Trap:
        """Set a trap."""
        with self._lock:
            self._traps.append(trap)
        return trap

    def lift(self, trap: Trap) -> None:
        """Take a trap away."""
        with self._lock:
            if trap in self._traps:
                self._traps.remove(trap)

    def on_point(self, point: Point) -> None:
        """Take notice of a request; called in the proxy's thread, which waits."""
        self.seen.append((time.time(), point))
        with self._lock:
            fitting = [trap for trap in self._traps if trap.fits(point)]
        if not fitting:
            return
        hit = Hit(point, self._caller(point))
        for trap in fitting:
            if trap.phase == point.phase:
                trap.spring(hit)

    def _caller(self, point: Point) -> Caller:
        """Look up who sent a request as soon as it arrives: once it is answered, the connection may be gone."""
        caller = None if point.phase == "arrived" else self._callers.get(point.peer_port)
        if caller is None:
            caller = self._callers[point.peer_port] = Caller(point.peer_port, self._among, self._try_of)
            caller.task  # noqa: B018 - it keeps what it found
        return caller
