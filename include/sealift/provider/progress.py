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


class DownloadProgress:
    """Tells a task's log of files on their way; see :class:`sealift.exports.delivery.Watcher`.

    :param log: the task's logger.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._sizes: dict[str, int] = {}
        self._progress = ReadingProgress(log, what="there")

    def begins(self, name: str, size: int) -> None:
        """Take note that a file begins.

        :param name: its name in the folder.
        :param size: its size in bytes.
        """
        self._sizes[name] = size
        self._log.info("%s: %d bytes.", name, size)

    def arrived(self, name: str, count: int) -> None:
        """Take note of more bytes.

        :param name: the file.
        :param count: how many bytes more.
        """
        self._progress(name, self._sizes[name], count)

    checked = arrived

    def done(self, name: str, sha256: str, *, already: bool) -> None:
        """Take note that a file is whole.

        :param name: the file.
        :param sha256: its SHA-256.
        :param already: whether it was there already.
        """
        self._log.info("%s: %s, SHA-256 %s.", name, "there already" if already else "whole", sha256)
