"""Programs that run in the background: none outlives its stop, and none outlives who started it unless it is let go."""

from __future__ import annotations

import itertools
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tools.keeper import LET_GO, MARK, PATIENCE, STAY, descendants, signal_all

_KEEPER = Path(__file__).with_name("keeper.py")

_PORTS: Final = range(18000, 32768)
"""Linux takes ports for sockets that ask for any from 32768 on, unless it is told otherwise."""

_reserved: list[socket.socket] = []


class StillRunningError(Exception):
    """Processes that should have ended are still there."""


class StartFailedError(Exception):
    """A program did not come up; the message holds the end of its log."""


def new_mark() -> str:
    """Make a mark for the programs of one purpose, by which any process can find them."""
    return secrets.token_hex(16)


class Program:
    """A program in the background, in a session of its own, without a terminal.

    :param command: program and arguments. Secrets do not belong here: everybody on the machine can read them.
    :param env: the whole environment.
    :param mark: for :func:`running` and :func:`stop`.
    :param log: gets the program's output, after what is there already.
    :param cwd: the folder to run it in.
    :param stays: whether what the program started lives on when it ends by itself or is killed, until :meth:`stop`.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        mark: str,
        log: Path,
        cwd: Path,
        stays: bool = False,
    ) -> None:
        """Start it."""
        self._stays = stays
        self._pid = 0
        self._keeper = subprocess.Popen(
            [sys.executable, _KEEPER, *([STAY] if stays else []), log.resolve(), *command],
            env={**env, MARK: mark},
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The program's process id.

        :raises StartFailedError: if there is no such program.
        """
        if not self._pid:
            assert self._keeper.stdout is not None
            with self._keeper.stdout as told:
                line = told.readline()
            if not line:
                raise StartFailedError("The program did not start: its keeper could not run it.")
            self._pid = int(line)
        return self._pid

    @property
    def keeper(self) -> int:
        """The process id of its keeper, from which it and all that it starts descend."""
        return self._keeper.pid

    def ended(self) -> bool:
        """Tell whether the program is there no more."""
        if self._keeper.poll() is not None:
            return True
        # Nobody else's process has the number: the keeper holds those that descend from it, and only it collects them.
        return self._stays and self.pid not in descendants(self._keeper.pid)

    def left(self) -> list[int]:
        """Find what runs of the program and of what it started, orphans included, without its keeper."""
        return descendants(self._keeper.pid)

    def let_go(self) -> None:
        """Leave it running when this process ends."""
        assert self._keeper.stdin is not None
        with suppress(BrokenPipeError):
            self._keeper.stdin.write(f"{LET_GO}\n".encode())
            self._keeper.stdin.close()

    def stop(self) -> None:
        """End it with all that it started."""
        self._keeper.terminate()
        self._keeper.wait()
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def keepers(mark: str) -> list[int]:
    """Find the keepers of the programs with a mark.

    :param mark: as given to :class:`Program`.
    :returns: process ids.
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # gone in the meantime, or another user's
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return sorted(found)


def running(mark: str) -> list[int]:
    """Find the processes of the programs with a mark, with their keepers.

    :param mark: as given to :class:`Program`.
    :returns: process ids.
    """
    return [pid for keeper in keepers(mark) for pid in (keeper, *descendants(keeper))]


def stop(mark: str) -> None:
    """End the programs with a mark, whoever started them.

    :param mark: as given to :class:`Program`.
    :raises StillRunningError: if some are left all the same.
    """
    signal_all(keepers(mark), signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE + 20.0
    while left := running(mark):
        if time.monotonic() > deadline:
            raise StillRunningError(f"These processes do not end: {left}")
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Find ports on loopback that nothing listens on, for programs that are started later.

    Nobody else comes by them in between: they lie below those that the kernel hands out by itself, and no other process
    that asks here gets one while this process lives.

    :param count: how many.
    :returns: different port numbers.
    :raises StartFailedError: if there are not so many.
    """
    tries = random.SystemRandom().sample(_PORTS, len(_PORTS))
    found = list(itertools.islice(filter(_reserve, tries), count))
    if len(found) < count:
        raise StartFailedError(f"Of the ports {_PORTS.start} to {_PORTS.stop - 1} fewer than {count} are free.")
    return found


def _reserve(port: int) -> bool:
    """Reserve a free port, in the name of this process."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0sealift-port-{port}")  # a name without a file, which goes with the process
    except OSError:
        name.close()
        return False
    if not port_is_free(port):
        name.close()
        return False
    _reserved.append(name)
    return True


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
