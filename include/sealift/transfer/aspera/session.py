"""One run of ascp: started, listened to, ended when it stands still or when somebody asks for it, and judged.

Whatever happens, no ascp is left behind by a process that lives on. Where this process is killed, ascp holds the lock
on the folder that it writes to until it ends, so that no second one begins beside it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from sealift.cos.redact import Redactor
from sealift.transfer.aspera.command import Command
from sealift.transfer.aspera.errors import AsperaError, one_line, reported
from sealift.transfer.aspera.management import Frame, ManagementPort
from sealift.transfer.errors import EngineUnavailableError, Stopped

_LOOK_EVERY: Final = 0.2
_TAIL: Final = 4096
_LAST: Final = frozenset({"DONE", "ERROR"})


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long things may take, in seconds.

    :param connect: from its start until ascp connects to us.
    :param progress: without a new byte.
    :param leave: from its last word until it has ended.
    :param terminate: from being asked to end until it is made to.
    """

    connect: float = 60.0
    progress: float = 300.0
    leave: float = 60.0
    terminate: float = 10.0


class Session:
    """Runs ascp once. For one thread; ``stop`` may be set by any.

    :param command: the command line.
    :param port: where ascp tells how it goes on; the caller closes it.
    :param folder: where ascp runs.
    :param kept_open: files that ascp inherits: a lock on one of them lasts as long as ascp.
    :param progress: told how many bytes were there when the session began, and how many are there now.
    :param redact: takes the secrets out of what ascp says.
    :param stop: ends the session when it is set.
    :param patience: how long things may take.
    """

    def __init__(
        self,
        *,
        command: Command,
        port: ManagementPort,
        folder: Path,
        kept_open: Sequence[int],
        progress: Callable[[int, int], None],
        redact: Redactor,
        stop: threading.Event,
        patience: Patience,
    ) -> None:
        self._command = command
        self._port = port
        self._folder = folder
        self._kept_open = tuple(kept_open)
        self._progress = progress
        self._redact = redact
        self._stop = stop
        self._patience = patience
        self._error: Frame | None = None
        self._file_error: Frame | None = None
        self._plain = False
        self._over = False
        self._done = False
        self._made_to_end = False
        self._there = 0
        self._tail = b""

    def run(self) -> None:
        """Run ascp until it ends.

        :raises Stopped: somebody asked for it.
        :raises EngineUnavailableError: it cannot be started.
        :raises AsperaError: it failed, stood still, or would send bytes in plain.
        """
        program = self._command.argv[0]
        try:
            process = subprocess.Popen(
                self._command.argv,
                env=dict(self._command.environment),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self._kept_open,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        except OSError as error:
            words = error.strerror or type(error).__name__
            raise EngineUnavailableError(
                f"{program} cannot be started: {words}. Name another ascp, or take HTTPS."
            ) from None
        output = threading.Thread(target=self._read_output, args=(process.stdout,), name="sealift-ascp", daemon=True)
        output.start()
        try:
            self._watch(process)
        finally:
            self._end(process)
            # What ascp may have started itself can hold the pipe open.
            output.join(self._patience.terminate)
        for frame in self._port.rest():
            self._take(frame)
        self._judge(process.returncode)

    # -- while it runs -----------------------------------------------------------------------------------------------

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        began = moved = time.monotonic()
        over_since: float | None = None
        while process.poll() is None:
            if self._stop.is_set():
                raise Stopped
            before = self._there
            for frame in self._port.read(_LOOK_EVERY):
                self._take(frame)
            now = time.monotonic()
            moved = now if self._there > before else moved
            if self._plain:
                raise AsperaError(
                    "The transfer server sends the image without encryption, though encryption was demanded: ascp was "
                    "ended. Bring the bytes over HTTPS."
                )
            if not self._port.connected and now - began > self._patience.connect:
                raise AsperaError(
                    f"{self._command.argv[0]} did not report within {self._patience.connect:.0f} s and was ended.",
                    retryable=True,
                )
            over_since = over_since or (now if self._over else None)
            if over_since is not None:
                if now - over_since > self._patience.leave:
                    return  # it has said how it ended
            elif now - moved > self._patience.progress:
                raise AsperaError(
                    f"No new byte came for {self._patience.progress:.0f} s: ascp was ended.", retryable=True
                )

    def _take(self, frame: Frame) -> None:
        if frame.text("Encryption") == "No":
            self._plain = True
        failed = frame.type == "ERROR" or (frame.type == "DONE" and frame.number("Code"))
        if failed:
            self._error = self._error or frame
        elif frame.type == "FILEERROR":
            self._file_error = self._file_error or frame
        self._done = self._done or frame.type == "DONE"
        self._over = self._over or frame.type in _LAST
        moved = frame.number("TransferBytes")
        if moved is not None:
            start = frame.number("StartByte") or 0
            if start + moved > self._there:
                self._there = start + moved
                self._progress(start, self._there)

    def _read_output(self, pipe: IO[bytes] | None) -> None:
        """Keep the end of what ascp prints; a pipe that nobody reads would stop it."""
        if pipe is None:
            return
        with pipe, contextlib.suppress(OSError, ValueError):
            while data := os.read(pipe.fileno(), _TAIL):
                self._tail = (self._tail + data)[-_TAIL:]

    # -- how it ends -------------------------------------------------------------------------------------------------

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Have the program end, and whatever it started; it may write down first what it has."""
        if process.poll() is not None:
            return
        self._made_to_end = True
        _signal(process, signal.SIGTERM)
        try:
            process.wait(self._patience.terminate)
        except subprocess.TimeoutExpired:
            pass
        finally:  # an impatient second Ctrl-C too leaves none behind
            if process.poll() is None:
                _signal(process, signal.SIGKILL)
                process.wait()

    def _judge(self, status: int) -> None:
        if self._error is not None or self._file_error is not None:
            frame = self._error or self._file_error
            assert frame is not None
            raise reported(frame.number("Code"), self._redact(frame.text("Description")))
        if self._plain:
            raise AsperaError("The transfer server sent the image without encryption. Bring the bytes over HTTPS.")
        if status == 0 or (self._done and self._made_to_end):
            return
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        printed = one_line(self._redact(self._tail.decode("utf-8", "replace")))
        words = f' and the words "{printed}"' if printed else " and without a word"
        # One that never reported is one that does not work here; one that did may have been killed.
        raise AsperaError(f"{self._command.argv[0]} {how}{words}.", retryable=status < 0 or self._port.connected)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)  # its own session: the group has its number
