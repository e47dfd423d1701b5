"""How fast bytes may come: one limit that all streams of a transfer share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Lets bytes pass at a rate, evenly. May be used by many threads.

    :param bytes_per_second: the rate; None for no limit.
    :param clock: seconds that never go back.
    :param sleep: waits for seconds.
    :raises ValueError: the rate is not above 0.
    """

    def __init__(
        self,
        *,
        bytes_per_second: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if bytes_per_second is not None and bytes_per_second <= 0:
            raise ValueError(f"a rate is above 0 bytes a second: {bytes_per_second}")
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def bytes_per_second(self) -> float | None:
        """The rate; None for no limit."""
        return self._rate

    def passed(self, count: int) -> None:
        """Say that bytes have come, and wait until the rate allows more.

        :param count: how many.
        """
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            # What was not used is lost: a pause of the network is not made up for by a burst.
            self._free_at = max(self._free_at, now) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            self._sleep(wait)
