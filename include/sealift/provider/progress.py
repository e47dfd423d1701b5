"""Tells a task's log how far the reading of large objects is."""

from __future__ import annotations

import time
from typing import Any, Final

TELL_EVERY: Final = 30.0
"""Seconds between two lines of progress."""


class ReadingProgress:
    """Sums up what has been read of each object, and says so from time to time.

    :param log: the task's logger.
    :param what: what is done with the bytes, as ``read``.
    """

    def __init__(self, log: Any, *, what: str) -> None:
        self._log = log
        self._what = what
        self._done: dict[str, int] = {}
        self._told = time.monotonic()

    def __call__(self, key: str, size: int, count: int) -> None:
        """Take note of more bytes.

        :param key: the object.
        :param size: its size in bytes.
        :param count: how many bytes more.
        """
        done = self._done[key] = self._done.get(key, 0) + count
        now = time.monotonic()
        if now - self._told >= TELL_EVERY:
            self._told = now
            self._log.info("%s: %.0f %% of %d bytes are %s.", key, 100 * done / max(1, size), size, self._what)
