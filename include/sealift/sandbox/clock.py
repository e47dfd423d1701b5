"""Where the sandbox takes the time from, so that tests can hold it still or move it on."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """A source of wall-clock time."""

    def now(self) -> float:
        """:returns: seconds since the epoch, UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """:returns: seconds since the epoch, UTC."""
        return time.time()


class ManualClock:
    """A clock that moves only when told to.

    :param start: the first reading, in seconds since the epoch.
    """

    def __init__(self, *, start: float = 1_763_900_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        """:returns: seconds since the epoch, UTC."""
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock on.

        :param seconds: by how much; never negative, because time does not run back.
        """
        if seconds < 0:
            raise ValueError("a clock does not run backwards")
        with self._lock:
            self._now += seconds
