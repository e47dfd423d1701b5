"""Programs that run in the background: started with a mark in their environment, found and ended by that mark.

Airflow's components start children of their own, in sessions of their own; a process group does not hold them all. The
mark does: every descendant inherits it, and no other process has it. Reads /proc, so it needs Linux.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "SEALIFT_STARTED_BY"
LET_GO = "let go"


class StillRunningError(Exception):
    """Processes that should have ended are still there."""


class StartFailedError(Exception):
    """A program did not come up; the message holds the end of its log."""


def new_mark() -> str:
    """Make a mark for the processes of one purpose."""
    return secrets.token_hex(16)


def start(
    command: Sequence[str | Path], *, env: Mapping[str, str], mark: str, log: Path, cwd: Path
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, without a terminal.

    :param command: program and arguments. Secrets do not belong here: everybody on the machine can read them.
    :param env: the whole environment.
    :param mark: goes into the environment, for :func:`marked` and :func:`stop`.
    :param log: gets the program's output, after what is there already.
    :param cwd: the folder to run it in.
    :returns: the process.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env={**env, MARK: mark},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def marked(mark: str) -> list[int]:
    """Find the processes that carry a mark.

    :param mark: as given to :func:`start`.
    :returns: process ids, without this process and without those that have ended and only wait to be collected.
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # Gone in the meantime, or another user's.
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return sorted(found)


def signal_all(pids: Sequence[int], what: signal.Signals) -> None:
    """Send a signal to processes, some of which may have ended by now."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)


def stop(mark: str, *, patience: float = 10.0) -> None:
    """End every process with a mark: first by asking, then by force, then by looking.

    :param mark: as given to :func:`start`.
    :param patience: seconds between asking and force.
    :raises StillRunningError: if some are left all the same.
    """
    for what, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        signal_all(marked(mark), what)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not marked(mark):
                return
            time.sleep(0.05)
    raise StillRunningError(f"These processes do not end: {marked(mark)}")


class Leash:
    """Ends the processes with a mark when this process ends, however that comes about: a small process watches a pipe.

    :param mark: as given to :func:`start`.
    """

    def __init__(self, mark: str) -> None:
        """Start to watch."""
        command = [sys.executable, str(Path(__file__).resolve()), mark]
        self._watcher = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def let_go(self) -> None:
        """Leave the processes running from now on, or forget them where they have ended."""
        self._watcher.communicate(LET_GO)


def watch(mark: str) -> None:
    """Do the watcher's part: wait for the word or for the end of the process that holds the pipe's other end."""
    if sys.stdin.read() != LET_GO:
        stop(mark)


def free_ports(count: int) -> list[int]:
    """Find ports on loopback that nothing listens on now.

    :param count: how many.
    :returns: different port numbers.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def port_is_free(port: int) -> bool:
    """Tell whether nothing listens on a port of loopback."""
    with socket.socket() as each:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            each.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def tail(log: Path, lines: int = 30) -> str:
    """Read the end of a log; a log that is not there yet is empty."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


if __name__ == "__main__":
    watch(sys.argv[1])
