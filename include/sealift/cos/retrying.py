"""Retries of the object store's calls: exponential backoff with full jitter.

The SDK's own retries are off: they would resend a conditional put whose reply was lost (and then report our own object
as somebody else's), and they do not cover the body of a reply, which is read after the call has returned.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sealift.cos.errors import CosError

T = TypeVar("T")


@dataclass(kw_only=True)
class Retries:
    """How calls are tried again.

    :param max_attempts: how often to try in all.
    :param max_wait: the longest wait between two tries, in seconds.
    :param first_wait: the longest wait before the second try, in seconds; it doubles from there.
    :param sleep: waits for seconds.
    :param rng: where the jitter comes from.
    :param on_retry: told of each failure after which something is tried again.
    """

    max_attempts: int = 5
    max_wait: float = 20.0
    first_wait: float = 0.5
    sleep: Callable[[float], None] = time.sleep
    rng: random.Random = field(default_factory=random.Random)
    on_retry: Callable[[CosError], None] | None = None

    def wait_before(self, attempt: int) -> float:
        """The seconds to wait before attempt 2, 3, …

        :param attempt: the number of the attempt, from 2.
        :returns: a random number of seconds, at most ``max_wait``.
        """
        return self.rng.uniform(0, min(self.max_wait, self.first_wait * 2 ** (attempt - 2)))

    def again(self, error: CosError) -> None:
        """Tell that something is tried again.

        :param error: the failure.
        """
        if self.on_retry is not None:
            self.on_retry(error)

    def run(self, action: Callable[[], T]) -> T:
        """Run an action that may be repeated until it succeeds, fails for good, or has used up its attempts.

        :param action: an error with ``retryable`` set is tried again.
        :returns: what the action returns.
        :raises CosError: the last failure.
        """
        attempt = 1
        while True:
            try:
                return action()
            except CosError as error:
                if not error.retryable or attempt >= self.max_attempts:
                    raise
                self.again(error)
            attempt += 1
            self.sleep(self.wait_before(attempt))
