"""The calls that the account, IAM and the buckets got, and what came of them, as the sandbox's history tells.

The file is read as it grows, a stretch at a time, and only counted: nothing of it is kept but what delays need.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVICES = ("classic", "cos", "iam")
# What the sandbox, as the API, answers a user who asks too often.
_RATE = "Rate limit of"
Event = dict[str, Any]


@dataclass
class Calls:
    """What was called in a stretch of the history.

    :param by_method: by service: how often each method was called.
    :param refused: how many calls were refused for their rate.
    :param effects: what happened, by kind.
    :param classic_at: when the Classic API was called.
    :param thinned: the history left reading calls out, since it had grown too long: what is counted is a lower bound.
    """

    by_method: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in SERVICES})
    refused: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    thinned: bool = False
    classic_at: list[float] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Count one event."""
        if event["kind"] == "request":
            self.by_method[event["service"]][event["method"]] += 1
            if event["service"] == "classic":
                self.classic_at.append(event["at"])
            self.refused += _RATE in (event.get("error") or "")
        elif event["kind"] == "effect":
            self.effects[event["what"]] += 1
        elif event.get("what") == "history-thinned":
            self.thinned = True

    def total(self, service: str) -> int:
        """Tell how often a service was called."""
        return sum(self.by_method[service].values())

    def most_within(self, seconds: float) -> int:
        """Tell the most calls to the Classic API in any stretch of so many seconds."""
        times = sorted(self.classic_at)
        return max((number - bisect_left(times, at - seconds) for number, at in enumerate(times, 1)), default=0)

    def as_dict(self) -> dict[str, Any]:
        """Give the counts as JSON takes them."""
        return {
            "calls": {name: self.total(name) for name in SERVICES},
            "by_method": {name: dict(counter.most_common()) for name, counter in self.by_method.items()},
            "rate_limit_errors": self.refused,
            "effects": dict(self.effects.most_common()),
            "history_thinned": self.thinned,
        }


@dataclass
class Tail:
    """Follows a history's file.

    :param path: the file.
    """

    path: Path
    offset: int = 0

    def events(self) -> Iterator[Event]:
        """Read what has been written since the last time, whole lines only."""
        if not self.path.exists():
            return
        with self.path.open("rb") as log:
            log.seek(self.offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                yield json.loads(line)

    def skip(self) -> None:
        """Pass over what is there."""
        for _ in self.events():
            pass

    def count(self) -> Calls:
        """Count what has come since the last time."""
        calls = Calls()
        for event in self.events():
            calls.add(event)
        return calls
