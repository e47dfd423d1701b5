"""Airflow's workers: from a process to the task that it runs, and what can be done to it."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tools.keeper import ancestors, descendants, signal_all

# As Airflow titles them: the supervisor talks to the execution API, its child runs the task and calls the services.
_SUPERVISOR = re.compile(r"airflow worker -- LocalExecutor[^:]*: (?P<ti>[0-9a-f-]{36})")
_TASK = re.compile(r"airflow worker -- (?P<ti>[0-9a-f-]{36})")


@dataclass(frozen=True)
class Worker:
    """A task's two processes; each may be gone already."""

    ti_id: UUID
    supervisor: int | None
    task: int | None

    @property
    def pids(self) -> list[int]:
        """Those that there are, the supervisor first: it must not report the other's end."""
        return [pid for pid in (self.supervisor, self.task) if pid is not None]

    def hold(self) -> None:
        """Hold both, by SIGSTOP."""
        signal_all(self.pids, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let both go on."""
        signal_all(self.pids, signal.SIGCONT)


def title(pid: int) -> str:
    """Read a process's title; that of one that is gone is empty."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def worker_of(pid: int) -> Worker | None:
    """Find the worker that a process belongs to, whichever of the two it is.

    :param pid: a task's process or its supervisor.
    """
    match = _SUPERVISOR.match(title(pid))
    if match:
        children = (one for one in descendants(pid) if _TASK.match(title(one)))
        return Worker(UUID(match["ti"]), pid, next(children, None))
    match = _TASK.match(title(pid))
    if match:
        parents = (one for one in ancestors(pid)[1:] if _SUPERVISOR.match(title(one)))
        return Worker(UUID(match["ti"]), next(parents, None), pid)
    return None
