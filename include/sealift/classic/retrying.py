"""Retries for reads: exponential backoff with full jitter, and a server's Retry-After where it gives one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import tenacity

from sealift.classic.errors import ClassicError

T = TypeVar("T")

FIRST_WAIT = 0.5


def retry_read(
    action: Callable[[], T],
    *,
    max_attempts: int,
    max_wait: float,
    sleep: Callable[[float], None],
    rng: random.Random,
    on_retry: Callable[[ClassicError], None] | None = None,
) -> T:
    """Run a read until it succeeds, fails for good, or has used up its attempts.

    :param action: the read; an error with ``retryable`` set is tried again.
    :param max_attempts: how often to try in all.
    :param max_wait: the longest wait between two tries, in seconds.
    :param sleep: waits for seconds.
    :param rng: where the jitter comes from.
    :param on_retry: told of each failure after which it is tried again.
    :returns: what the action returns.
    :raises ClassicError: the last failure.
    """

    def wait(state: tenacity.RetryCallState) -> float:
        ceiling = min(max_wait, FIRST_WAIT * 2 ** (state.attempt_number - 1))
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, ClassicError) else None
        return min(max_wait, asked or 0.0) + rng.uniform(0, ceiling)

    def tell(state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        if on_retry is not None and isinstance(failure, ClassicError):
            on_retry(failure)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(max_attempts),
        wait=wait,
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, ClassicError) and error.retryable),
        before_sleep=tell,
        sleep=sleep,
        reraise=True,
    )
    return retrying(action)
