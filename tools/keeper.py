"""Holds one background program and all that descends from it, and ends them together.

Airflow's parts leave their parent's session and overwrite their environment, so neither tells whose they are. What does
is descent: the keeper adopts every orphan among its descendants (Linux calls that a subreaper), so none can get away.

``python keeper.py LOG COMMAND…`` tells the program's process id in one line, and runs until the program ends, until it
gets SIGTERM, or until its standard input ends, which it does when whoever started the keeper ends, however that comes
about. A word on standard input takes the last reason away. With ``--stay`` in front, the first reason is none: what a
program leaves behind when it is killed lives on, as it would without a keeper. Reads /proc, so it needs Linux.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

# In a keeper's environment, and in no other: how its keepers are found for a purpose.
MARK = "SEALIFT_KEEPER"
LET_GO = "let go"
STAY = "--stay"
PATIENCE = 2.0
_PR_SET_CHILD_SUBREAPER = 36


def descendants(ancestor: int) -> list[int]:
    """Find what descends from a process, without what has ended and only waits to be collected.

    :param ancestor: a process id.
    :returns: process ids.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # gone in the meantime
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state not in "ZX":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    queue = [ancestor]
    while queue:
        offspring = children.get(queue.pop(), [])
        found += offspring
        queue += offspring
    return found


def ancestors(pid: int) -> list[int]:
    """Find what a process descends from, itself first, as far as it can be seen.

    :param pid: a process id.
    :returns: process ids.
    """
    found: list[int] = []
    with suppress(OSError):  # gone in the meantime
        while pid > 0:
            found.append(pid)
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return found


def signal_all(pids: Sequence[int], what: signal.Signals) -> None:
    """Send a signal to processes, some of which may have ended by now."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)


def end(program: subprocess.Popen[bytes]) -> None:
    """End a program and everything that descends from this process: ask the program, then all, then use force.

    Airflow's standalone ends its parts in good order when it is interrupted; asked by SIGTERM it dies and leaves them.
    """
    if not _has_ended(program.pid):
        os.kill(program.pid, signal.SIGINT)
    _wait(PATIENCE, lambda: _has_ended(program.pid))
    signal_all(descendants(os.getpid()), signal.SIGTERM)
    _wait(2.0, lambda: not descendants(os.getpid()))
    while left := descendants(os.getpid()):  # what is killed may have started others just before
        signal_all(left, signal.SIGKILL)
        _wait(1.0, lambda: not descendants(os.getpid()))
    _collect()


def _wait(seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        _collect()
        time.sleep(0.05)


def _has_ended(pid: int) -> bool:
    """Look without collecting, since collecting orphans may have taken the program's own end already."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _collect() -> None:
    """Collect adopted processes that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def keep(log: Path, command: Sequence[str], *, stay: bool = False) -> int:
    """Run a program and hold it; see the module's first lines.

    :param log: gets its output, after what is there already.
    :param command: program and arguments.
    :param stay: whether to stay when the program has ended.
    :returns: 0 if the program was ended from here, 1 if it ended by itself.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this system does not let a process adopt orphans")
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler of ours, even one that was to be ignored, is the default again in the program.
        signal.signal(number, lambda number, _: asked.append(number))
    env = {name: value for name, value in os.environ.items() if name != MARK}
    with log.open("ab") as output:
        program = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    print(program.pid, flush=True)
    held = True
    while not asked:
        if held and select.select([sys.stdin], [], [], 0.1)[0]:
            if sys.stdin.readline().strip() != LET_GO:
                break
            held = False
        elif not held:
            time.sleep(0.1)
        if not stay and _has_ended(program.pid):
            end(program)
            return 1
        _collect()
    end(program)
    return 0


if __name__ == "__main__":
    _staying = sys.argv[1] == STAY
    _log, *_command = sys.argv[2 if _staying else 1 :]
    sys.exit(keep(Path(_log), _command, stay=_staying))
