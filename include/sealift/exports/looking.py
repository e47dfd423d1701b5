"""Looking again: what a step does after a lost reply, until what happened is certain or patience ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from sealift.exports.ports import Clock, Sleep

T = TypeVar("T")

LOOK_AGAIN: Final[tuple[float, ...]] = (1, 2, 4, 8, 15)
"""Seconds between looks, half a minute in all: what shows later than that is waited for without a worker."""


def utc_now() -> datetime:
    """Tell the present time, in UTC.

    :returns: with the time zone UTC.
    """
    return datetime.now(UTC)


def look_again(look: Callable[[], T | None], *, sleep: Sleep, waits: Sequence[float] = LOOK_AGAIN) -> T | None:
    """Look at once and after each wait until something is found.

    :param look: returns what it found, or None. What it raises ends the looking.
    :param sleep: waits for seconds.
    :param waits: seconds before each further look.
    :returns: what was found, or None.
    """
    found = look()
    for wait in waits:
        if found is not None:
            break
        sleep(wait)
        found = look()
    return found


real_sleep: Sleep = time.sleep
real_clock: Clock = utc_now
