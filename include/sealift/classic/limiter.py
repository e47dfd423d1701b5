"""Keeps all clients of one account on this machine below the API's request rate.

The API allows 50 requests in any second and refuses the rest with an HTTP 500 (softlayer-go #75). The limiter lets
requests through at an even rate with a small burst, so that no window of one second ever holds more than rate + burst.
Every task of Airflow is a process of its own, so the processes of one user on one machine share the limiter through a
small file.

Machines do not share it, and other people's programs use the account too. So the limiter learns: when the API refuses a
request for its rate, the rate goes down by a factor, and comes back slowly while nothing is refused. Machines that
exceed the limit together settle below it without knowing of each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

API_LIMIT_PER_SECOND = 50
_LARGEST_BURST = 8
_SANE_SECONDS = 600.0
"""No waiting line is longer; a file that says so is from another boot or damaged, and counts as empty."""

SLOWER: Final = 0.7
"""What a refusal makes of the rate, …"""

ONE_REFUSAL: Final = 1.0
"""… once in so many seconds: all that is refused within them was sent at the rate that the first one was sent at, …"""

SLOWEST: Final = 0.5
"""… and never to less than so many requests per second."""

RECOVERY: Final = 300.0
"""Seconds without a refusal until the rate is again the one that was configured."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Bucket(NamedTuple):
    """What a limiter keeps; all times on the machine's monotonic clock.

    :param full_at: when the bucket is full again.
    :param learned: the rate that the last refusal left, in requests per second; 0 where nothing was learned.
    :param refused_at: when that was.
    """

    full_at: float = 0.0
    learned: float = 0.0
    refused_at: float = 0.0


class Shared(Protocol):
    """Keeps the state of a limiter."""

    def update(self, change: Callable[[Bucket], Bucket]) -> Bucket:
        """Replace the state by what ``change`` makes of it, with nobody in between, and return it."""
        ...


class InMemory:
    """Shares the state between threads.

    :param start: when the bucket is full at the beginning.
    """

    def __init__(self, *, start: float) -> None:
        self._value = Bucket(full_at=start)
        self._lock = threading.Lock()

    def update(self, change: Callable[[Bucket], Bucket]) -> Bucket:
        """Replace the state; see :class:`Shared`.

        :param change: makes the new state of the old one.
        :returns: the new state.
        """
        with self._lock:
            self._value = change(self._value)
            return self._value


class InFile:
    """Shares the state between processes, by a file and its lock.

    :param path: the file; made at the first use, readable by its owner only.
    """

    _RECORD: Final = struct.Struct("<3d")

    def __init__(self, *, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def update(self, change: Callable[[Bucket], Bucket]) -> Bucket:
        """Replace the state; see :class:`Shared`.

        :param change: makes the new state of the old one.
        :returns: the new state.
        :raises OSError: where the file cannot be used.
        """
        with self._lock:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                kept = os.pread(handle, self._RECORD.size, 0)
                value = change(self._read(kept))
                os.pwrite(handle, self._RECORD.pack(*value), 0)
                return value
            finally:
                os.close(handle)

    @classmethod
    def _read(cls, kept: bytes) -> Bucket:
        if len(kept) == cls._RECORD.size:
            value = Bucket(*cls._RECORD.unpack(kept))
        else:
            # A file of a Sealift that learned nothing holds the first number only.
            value = Bucket(full_at=struct.unpack("<d", kept[:8])[0]) if len(kept) >= 8 else Bucket()
        return value if all(map(math.isfinite, value)) else Bucket()


class Limiter:
    """An even rate with a small burst (a token bucket kept as the time at which it will be full again).

    :param rate: requests per second, above 0 and below 50; above 48, 48 are meant. What is learned from refusals can
        only be lower.
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
        waited = 0.0
        while True:
            now = self._clock()
            taken = self._state.update(lambda kept, now=now: self._with_one_more(kept, now))  # type: ignore[misc]
            rate, burst = self._in_force(taken, now)
            wait = taken.full_at - now - burst / rate
            if wait <= 0:
                return waited
            self._sleep(wait)
            waited += wait
            if self._state.update(lambda kept: kept).refused_at == taken.refused_at:
                return waited
            # Refused to somebody else meanwhile: the place in the line was one at the old rate.

    def pause(self, seconds: float) -> None:
        """Let no request through for some seconds, and fewer from then on: the API has just refused one for its rate.

        :param seconds: how long.
        """
        now = self._clock()
        self._state.update(lambda kept: self._after_refusal(kept, now, seconds))

    def in_force(self) -> float:
        """Tell the rate that holds now.

        :returns: requests per second: what was configured, or less.
        """
        return self._in_force(self._state.update(lambda kept: kept), self._clock())[0]

    def _in_force(self, kept: Bucket, now: float) -> tuple[float, int]:
        """Work out the rate and the burst that hold at a moment."""
        with self._lock:
            rate, burst = self.rate, self.burst
        learned = _learned(kept, now)
        if learned is None or learned >= rate:
            return rate, burst
        slower = learned + (rate - learned) * ((now - kept.refused_at) / RECOVERY)
        return slower, max(1, int(burst * slower / rate))

    def _with_one_more(self, kept: Bucket, now: float) -> Bucket:
        rate, _ = self._in_force(kept, now)
        return kept._replace(full_at=max(_sane(kept.full_at, now), now) + 1 / rate)

    def _after_refusal(self, kept: Bucket, now: float, seconds: float) -> Bucket:
        if _learned(kept, now) is not None and now - kept.refused_at < ONE_REFUSAL:
            rate, burst = self._in_force(kept, now)
            return kept._replace(full_at=max(_sane(kept.full_at, now), now + seconds + (burst - 1) / rate))
        rate, _ = self._in_force(kept, now)
        slower = kept._replace(learned=max(min(SLOWEST, rate), rate * SLOWER), refused_at=now)
        rate, burst = self._in_force(slower, now)
        # Who waits in the line at the old rate takes a new place, so that the line is empty but for the pause.
        return slower._replace(full_at=now + seconds + (burst - 1) / rate)


def _learned(kept: Bucket, now: float) -> float | None:
    """Read what the last refusal left; what is long ago, from another boot or damaged counts for nothing."""
    if 0 < kept.learned < API_LIMIT_PER_SECOND and 0 <= now - kept.refused_at < RECOVERY:
        return kept.learned
    return None


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
