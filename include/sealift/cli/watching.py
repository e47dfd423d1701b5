"""How commands tell of bytes on their way: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sealift.exports.delivery import Watcher

_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


class Lines:
    """Tells of files in lines, for logs: each one's beginning and end, and every half a minute how far it is.

    :param quiet: say nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._there: dict[str, int] = {}
        self._told = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do."""

    def begins(self, name: str, size: int) -> None:
        with self._lock:
            self._sizes[name], self._there[name] = size, 0
        self._say(f"{name}: {size:,} bytes")

    def arrived(self, name: str, count: int) -> None:
        self._add(name, count, "arrived")

    def checked(self, name: str, count: int) -> None:
        self._add(name, count, "checked")

    def done(self, name: str, sha256: str, *, already: bool) -> None:
        self._say(f"{name}: {'there already' if already else 'whole'}, SHA-256 {sha256}")

    def _add(self, name: str, count: int, what: str) -> None:
        with self._lock:
            self._there[name] += count
            now = time.monotonic()
            if now - self._told < _EVERY:
                return
            self._told = now
            there, size = self._there[name], self._sizes[name]
        self._say(f"{name}: {there / size:.0%} {what} ({there:,} bytes)")

    def _say(self, line: str) -> None:
        if not self._quiet:
            click.echo(line, err=True)


class Bars:
    """Draws a bar for each file, with its rate and the time that is left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begins(self, name: str, size: int) -> None:
        if name in self._tasks:  # checked first, then brought after all
            self._bars.reset(self._tasks[name], total=size, note="")
        else:
            self._tasks[name] = self._bars.add_task(name, total=size, note="")

    def arrived(self, name: str, count: int) -> None:
        self._bars.update(self._tasks[name], advance=count)

    def checked(self, name: str, count: int) -> None:
        self._bars.update(self._tasks[name], advance=count, note="checking what is there")

    def done(self, name: str, sha256: str, *, already: bool) -> None:
        task = self._tasks[name]
        note = f"{'there already' if already else 'whole'} {sha256[:12]}…"
        self._bars.update(task, completed=self._bars.tasks[task].total, note=note)


def watching(*, quiet: bool) -> Any:
    """Make what tells of files on their way, for a ``with`` statement: bars on a terminal, lines elsewhere.

    :param quiet: say nothing.
    """
    return Bars() if sys.stderr.isatty() and not quiet else Lines(quiet=quiet)


if TYPE_CHECKING:

    def _fit(lines: Lines, bars: Bars) -> tuple[Watcher, Watcher]:
        """Have the type checker hold both against the protocol."""
        return lines, bars
