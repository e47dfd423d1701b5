"""Keeps all clients of one account on this machine below the API's request rate.

The API allows 50 requests in any second and refuses the rest with an HTTP 500 (softlayer-go #75). The limiter lets
requests through at an even rate with a small burst, so that no window of one second ever holds more than rate + burst.
Every task of Airflow is a process of its own, so the processes of one user on one machine share the limiter through a
small file. Machines do not share it: what they cause together is retried, not prevented.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

API_LIMIT_PER_SECOND = 50
_LARGEST_BURST = 8
_SANE_SECONDS = 600.0
"""No waiting line is longer; a file that says so is from another boot or damaged, and counts as empty."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Shared(Protocol):
    """Keeps the one number of a limiter: the time at which its bucket is full again."""

    def update(self, change: Callable[[float], float]) -> float:
        """Replace the number by what ``change`` makes of it, with nobody in between, and return it."""
        ...


class InMemory:
    """Shares the number between threads.

    :param start: the number to begin with.
    """

    def __init__(self, *, start: float) -> None:
        self._value = start
        self._lock = threading.Lock()

    def update(self, change: Callable[[float], float]) -> float:
        """Replace the number; see :class:`Shared`.

        :param change: makes the new number of the old one.
        :returns: the new number.
        """
        with self._lock:
            self._value = change(self._value)
            return self._value


class InFile:
    """Shares the number between processes, by a file and its lock.

    :param path: the file; made at the first use, readable by its owner only.
    """

    def __init__(self, *, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def update(self, change: Callable[[float], float]) -> float:
        """Replace the number; see :class:`Shared`.

        :param change: makes the new number of the old one.
        :returns: the new number.
        :raises OSError: where the file cannot be used.
        """
        with self._lock:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                kept = os.pread(handle, 8, 0)
                value = change(struct.unpack("<d", kept)[0] if len(kept) == 8 else 0.0)
                os.pwrite(handle, struct.pack("<d", value), 0)
                return value
            finally:
                os.close(handle)


class Limiter:
    """An even rate with a small burst (a token bucket kept as the time at which it will be full again).

    :param rate: requests per second, above 0 and below 50; above 48, 48 are meant.
    :param clock: seconds, never going back; the same for all who share ``state``.
    :param sleep: waits for seconds.
    :param state: keeps the bucket's state; in memory if not given.
    :raises ValueError: where the rate is out of range.
    """

    def __init__(
        self,
        *,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        state: Shared | None = None,
    ) -> None:
        if not 0 < rate < API_LIMIT_PER_SECOND:
            raise ValueError(f"requests per second must be above 0 and below {API_LIMIT_PER_SECOND}, not {rate}")
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._state = state or InMemory(start=clock())
        self._set_rate(rate)

    def _set_rate(self, rate: float) -> None:
        # Rate and burst together stay one below the limit, so that rounding cannot add the fiftieth request.
        self.rate = min(rate, API_LIMIT_PER_SECOND - 2)
        self.burst = max(1, min(_LARGEST_BURST, int(API_LIMIT_PER_SECOND - 1 - self.rate)))

    def slow_to(self, rate: float) -> None:
        """Lower the rate, where another client of the account asks for less; never raise it.

        :param rate: requests per second.
        """
        with self._lock:
            if rate < self.rate:
                self._set_rate(rate)

    def acquire(self) -> float:
        """Wait until the next request may go.

        :returns: the seconds waited.
        """
        now = self._clock()
        with self._lock:
            rate, burst = self.rate, self.burst
        full_at = self._state.update(lambda kept: max(_sane(kept, now), now) + 1 / rate)
        wait = full_at - now - burst / rate
        if wait > 0:
            self._sleep(wait)
            return wait
        return 0.0

    def pause(self, seconds: float) -> None:
        """Let no request through for some seconds: the API has just refused one for its rate.

        :param seconds: how long.
        """
        now = self._clock()
        with self._lock:
            until = now + seconds + (self.burst - 1) / self.rate
        self._state.update(lambda kept: max(_sane(kept, now), until))


def _sane(kept: float, now: float) -> float:
    return kept if now - _SANE_SECONDS < kept < now + _SANE_SECONDS else now


def machine_folder() -> Path:
    """Find the folder in which this user's processes on this machine agree with each other; made where it is not.

    :returns: a folder that belongs to this user and that nobody else may use.
    :raises OSError: where there is none to be had.
    :raises PermissionError: where what is there belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"sealift-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or not folder.is_dir() or folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is not a folder of this user")
    return folder


def _state_of_machine(host: str, account: str) -> Shared:
    """Find the state that this user's processes on this machine share; in memory where no file can be used."""
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    name = hashlib.sha256(f"{boot}\n{host}\n{account}".encode()).hexdigest()[:32]
    try:
        state = InFile(path=machine_folder() / f"rate-{name}")
        state.update(lambda kept: kept)
    except OSError:
        # A read-only or foreign folder: each process then keeps to the rate by itself.
        return InMemory(start=time.monotonic())
    return state


_shared: dict[tuple[str, str], Limiter] = {}
_shared_lock = threading.Lock()


def shared_limiter(*, host: str, account: str, rate: float) -> Limiter:
    """The limiter that all clients of an account share, in this process and with others on this machine.

    :param host: the API's host and port: REST and XML-RPC count together.
    :param account: what tells accounts apart, as the user name.
    :param rate: requests per second; the lowest rate that any client asked for holds.
    :returns: the one limiter for this host and account.
    """
    with _shared_lock:
        limiter = _shared.get((host, account))
        if limiter is None:
            limiter = _shared[host, account] = Limiter(rate=rate, state=_state_of_machine(host, account))
        else:
            limiter.slow_to(rate)
        return limiter
