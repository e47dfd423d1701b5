"""Keeps all clients of one account in this process below the API's request rate.

The API allows 50 requests in any second and refuses the rest with an HTTP 500 (softlayer-go #75). The limiter lets
requests through at an even rate with a small burst, so that no window of one second ever holds more than rate + burst.
Other processes of the same account have a limiter of their own: what they cause together is retried, not prevented.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

API_LIMIT_PER_SECOND = 50
_LARGEST_BURST = 8


class Limiter:
    """An even rate with a small burst (a token bucket kept as the time at which it will be full again).

    :param rate: requests per second, above 0 and below 50; above 48, 48 are meant.
    :param clock: seconds, never going back.
    :param sleep: waits for seconds.
    :raises ValueError: where the rate is out of range.
    """

    def __init__(
        self,
        *,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 0 < rate < API_LIMIT_PER_SECOND:
            raise ValueError(f"requests per second must be above 0 and below {API_LIMIT_PER_SECOND}, not {rate}")
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._full_at = clock()
        self._set_rate(rate)

    def _set_rate(self, rate: float) -> None:
        # Rate and burst together stay one below the limit, so that rounding cannot add the fiftieth request.
        self.rate = min(rate, API_LIMIT_PER_SECOND - 2)
        self.burst = max(1, min(_LARGEST_BURST, int(API_LIMIT_PER_SECOND - 1 - self.rate)))

    def slow_to(self, rate: float) -> None:
        """Lower the rate, where another client of the account asks for less; never raise it."""
        with self._lock:
            if rate < self.rate:
                self._set_rate(rate)

    def acquire(self) -> float:
        """Wait until the next request may go.

        :returns: the seconds waited.
        """
        with self._lock:
            now = self._clock()
            self._full_at = max(self._full_at, now) + 1 / self.rate
            wait = self._full_at - now - self.burst / self.rate
        if wait > 0:
            self._sleep(wait)
            return wait
        return 0.0

    def pause(self, seconds: float) -> None:
        """Let no request through for some seconds: the API has just refused one for its rate."""
        with self._lock:
            self._full_at = max(self._full_at, self._clock() + seconds + (self.burst - 1) / self.rate)


_shared: dict[tuple[str, str], Limiter] = {}
_shared_lock = threading.Lock()


def shared_limiter(*, host: str, account: str, rate: float) -> Limiter:
    """The limiter that all clients of an account in this process share.

    :param host: the API's host and port: REST and XML-RPC count together.
    :param account: what tells accounts apart, as the user name.
    :param rate: requests per second; the lowest rate that any client asked for holds.
    :returns: the one limiter for this host and account.
    """
    with _shared_lock:
        limiter = _shared.get((host, account))
        if limiter is None:
            limiter = _shared[host, account] = Limiter(rate=rate)
        else:
            limiter.slow_to(rate)
        return limiter
