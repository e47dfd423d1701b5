"""CPU seconds and memory of programs that a keeper holds, with all that they ever started, by component.

CPU is exact, not sampled. Linux adds a process's CPU time, with that of the children it has waited for, to its parent
when the parent waits for it. A keeper (tools/keeper.py) adopts every orphan among its descendants and waits for it, so
that what its tree has ever used is: the keeper's times of children, plus own times and times of children of each
descendant that is still there. The keeper's own time is nobody's. (A program that ignores SIGCHLD would lose its
children's times; none of Airflow's does, and the tests hold the sum against a known load.)

Memory is the proportional set size: pages that forked processes share count once. It is sampled, as reading it makes
the kernel walk the page tables.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.processes import keepers

_TICKS = os.sysconf("SC_CLK_TCK")
_NUMBERED = re.compile(r"-\d+$")
_LOOKS = 200

SCHEDULER, WORKERS, TRIGGERER, API_SERVER, DAG_PROCESSOR = (
    "scheduler",
    "workers",
    "triggerer",
    "api-server",
    "dag-processor",
)
AIRFLOW = (SCHEDULER, WORKERS, TRIGGERER, API_SERVER, DAG_PROCESSOR)
POSTGRESQL, REDIS, SANDBOX, PROCEDURE = "postgresql", "redis", "sandbox", "procedure"
# The log that a keeper writes tells what it keeps; this is what that is called here.
_NAMES = {"postgres": POSTGRESQL, "worker": WORKERS, "celery-worker": WORKERS}


@dataclass(frozen=True)
class Process:
    """One process as /proc tells of it: times in clock ticks.

    :param own: its own time, user and system.
    :param children: that of the children it has waited for, and of theirs.
    """

    pid: int
    parent: int
    began: int
    own: int
    children: int


def _read(pid: int) -> Process:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    user, system, of_children, system_of_children = map(int, fields[11:15])
    return Process(
        pid=pid,
        parent=int(fields[1]),
        began=int(fields[19]),
        own=user + system,
        children=of_children + system_of_children,
    )


def _everything() -> dict[int, Process]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):  # gone in the meantime
                found[int(name)] = _read(int(name))
    return found


def _tree(processes: Mapping[int, Process], root: int) -> list[Process]:
    """The root and all that descends from it, those included that have ended and were not waited for yet."""
    offspring = defaultdict(list)
    for one in processes.values():
        offspring[one.parent].append(one)
    found, queue = [processes[root]], [root]
    while queue:
        below = offspring[queue.pop()]
        found += below
        queue += [one.pid for one in below]
    return found


def trees(roots: Sequence[int]) -> dict[int, list[Process]]:
    """Read whole trees of processes, each at one moment as far as counting goes.

    A process that ends while they are read would count twice or not at all. So they are read until none has ended or
    begun from before the reading until after it.

    :param roots: process ids, as those of keepers.
    :returns: by root: the root and its descendants.
    """
    before: set[tuple[int, int]] | None = None
    found: dict[int, list[Process]] = {}
    steady = 0
    for _ in range(_LOOKS):
        everything = _everything()
        now = {root: _tree(everything, root) for root in roots if root in everything}
        there = {(one.pid, one.began) for tree in now.values() for one in tree}
        steady = steady + 1 if there == before else 0
        if steady == 2:
            return found  # read between two readings that saw the same processes
        before, found = there, now
    return found


def cpu_of(tree: Sequence[Process]) -> float:
    """Add up what a keeper's tree has used ever since.

    :param tree: the keeper first, as :func:`trees` gives it.
    :returns: CPU seconds.
    """
    keeper, *rest = tree
    return (keeper.children + sum(one.own + one.children for one in rest)) / _TICKS


def pss_of(pid: int) -> int:
    """Read a process's proportional set size.

    :returns: bytes; 0 for a process that is gone.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def rss_of(pid: int) -> int:
    """Read a process's resident set size, shared pages included.

    :returns: bytes; 0 for a process that is gone.
    """
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@dataclass(frozen=True)
class Kept:
    """A keeper and the component that it keeps."""

    component: str
    keeper: int


def kept(mark: str, *, component: str | None = None) -> list[Kept]:
    """Find the keepers with a mark.

    :param mark: as given to :class:`tools.processes.Program`.
    :param component: what they keep; if None, it is told by the name of the log that each keeper writes.
    :returns: keepers, those of the same component side by side.
    """
    found = []
    for pid in keepers(mark):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            # python keeper.py [--stay] LOG COMMAND…
            log = next((word for word in words[2:] if word.endswith(".log")), None)
            if log is not None:
                name = _NUMBERED.sub("", Path(log).stem)
                found.append(Kept(component=component or _NAMES.get(name, name), keeper=pid))
    return sorted(found, key=lambda one: (one.component, one.keeper))


def _program(tree: Sequence[Process]) -> Process | None:
    """The program that a keeper was told to run: the oldest of its children, of which orphans are others."""
    children = [one for one in tree[1:] if one.parent == tree[0].pid]
    return min(children, key=lambda one: (one.began, one.pid), default=None)


def _by_component(one: Kept, tree: Sequence[Process]) -> dict[str, float]:
    """Tell a LocalExecutor's workers, which descend from the scheduler, from the scheduler itself."""
    whole = cpu_of(tree)
    if one.component != SCHEDULER:
        return {one.component: whole}
    program = _program(tree)
    itself = program.own / _TICKS if program else 0.0
    return {SCHEDULER: itself, WORKERS: whole - itself}


def cpu(programs: Sequence[Kept]) -> dict[str, float]:
    """Read what programs have used since they were started.

    :param programs: the keepers.
    :returns: CPU seconds by component.
    """
    found = trees([one.keeper for one in programs])
    total: Counter[str] = Counter()
    for one in programs:
        if one.keeper in found:
            total.update(_by_component(one, found[one.keeper]))
    return dict(total)


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Subtract what was used before from what was used after, by component."""
    return {name: round(value - before.get(name, 0.0), 3) for name, value in sorted(after.items())}


def of_airflow(by_component: Mapping[str, float]) -> float:
    """Add up Airflow's own components: without PostgreSQL, Redis and the sandbox."""
    return sum(by_component.get(name, 0.0) for name in AIRFLOW)


@dataclass
class MemoryWatch:
    """Samples memory in a thread of its own until it is left; a context manager.

    :param programs: the keepers.
    :param interval: seconds between two samples.
    :param peaks: the highest sum of proportional set sizes, by component, and ``airflow`` for all of Airflow together.
    :param resident: the highest sum of resident set sizes, by component.
    """

    programs: Sequence[Kept]
    interval: float = 10.0
    peaks: dict[str, int] = field(default_factory=dict)
    resident: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def sample(self) -> None:
        """Take one sample."""
        everything = _everything()
        pss: Counter[str] = Counter()
        rss: Counter[str] = Counter()
        for one in self.programs:
            if one.keeper not in everything:
                continue
            tree = _tree(everything, one.keeper)
            program = _program(tree)
            for process in tree[1:]:
                local_worker = one.component == SCHEDULER and process != program
                component = WORKERS if local_worker else one.component
                pss[component] += pss_of(process.pid)
                rss[component] += rss_of(process.pid)
        pss["airflow"] = sum(pss[name] for name in AIRFLOW)
        for peaks, now in ((self.peaks, pss), (self.resident, rss)):
            for name, value in now.items():
                peaks[name] = max(peaks.get(name, 0), value)
        self.samples += 1

    def megabytes(self) -> dict[str, float]:
        """Give the peaks in MB (10^6)."""
        return {name: round(value / 1e6, 1) for name, value in sorted(self.peaks.items())}

    def _run(self) -> None:
        while not self._stop.wait(self.interval):
            self.sample()

    def __enter__(self) -> Self:
        """Take a first sample, and go on."""
        self.sample()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


@dataclass(frozen=True)
class Used:
    """What a piece of work used.

    :param wall: seconds.
    :param cpu: CPU seconds by component.
    :param memory: peak proportional set size in MB by component.
    """

    wall: float
    cpu: dict[str, float]
    memory: dict[str, float]

    @property
    def airflow(self) -> float:
        """CPU seconds of all of Airflow's own processes."""
        return of_airflow(self.cpu)


def measured(programs: Sequence[Kept], work: Callable[[], object], *, memory_interval: float = 10.0) -> Used:
    """Do some work and tell what programs used meanwhile.

    :param programs: the keepers.
    :param work: what to do.
    :param memory_interval: seconds between two samples of memory.
    """
    before, start = cpu(programs), time.monotonic()
    with MemoryWatch(programs, interval=memory_interval) as memory:
        work()
    return Used(
        wall=round(time.monotonic() - start, 3), cpu=difference(cpu(programs), before), memory=memory.megabytes()
    )
