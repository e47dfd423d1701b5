"""Transactions as the sandbox's history tells them, and the shortest time in which caps let them all happen."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Way:
    """The two transactions of one server, as seconds since the epoch; 0 for what has not happened.

    :param captures: how many captures were started for it.
    """

    guest: int
    template: int = 0
    capture_started: float = 0.0
    capture_ended: float = 0.0
    export_started: float = 0.0
    export_ended: float = 0.0
    captures: int = 0

    @property
    def capture(self) -> float:
        """How long its capture took."""
        return self.capture_ended - self.capture_started

    @property
    def export(self) -> float:
        """How long its export took."""
        return self.export_ended - self.export_started

    @property
    def whole(self) -> bool:
        """Whether both have ended."""
        return bool(self.capture_ended and self.export_ended)


def ways(effects: Iterable[dict[str, Any]]) -> dict[int, Way]:
    """Gather the transactions by server; of several captures of one, the latest counts.

    :param effects: events of the kind ``effect``, in their order.
    """
    found: dict[int, Way] = {}
    owner: dict[int, int] = {}
    for event in effects:
        what = event["what"]
        if what == "capture-started":
            way = found.setdefault(event["guest"], Way(event["guest"]))
            owner[event["template"]] = event["guest"]
            way.template, way.capture_started, way.captures = event["template"], event["at"], way.captures + 1
        elif what in {"capture-ended", "export-started", "export-ended"} and event["template"] in owner:
            setattr(found[owner[event["template"]]], what.replace("-", "_"), event["at"])
    return found


def longest_chain(done: Sequence[Way], *, max_offline: int) -> float:
    """Compute the shortest wall time of some servers under a cap on captures, if nothing but transactions took time.

    Each capture, in the order in which they were really started, takes the place that is free first among
    ``max_offline``; the server's export follows at once, as the cap on exports is set wider. With equal transactions of
    T seconds, this is ceil(n / max_offline) · T for the captures, and T for the last export.

    :param done: servers with both transactions ended; their lengths are those that they really had.
    :param max_offline: how many captures may run at once.
    :returns: seconds.
    """
    places = [0.0] * max_offline
    end = 0.0
    for way in sorted(done, key=lambda one: one.capture_started):
        free = heapq.heappop(places)
        heapq.heappush(places, free + way.capture)
        end = max(end, free + way.capture + way.export)
    return end


def offline_at_most(done: Sequence[Way]) -> int:
    """Count how many captures ran at one instant, at most.

    :param done: servers whose captures have ended.
    """
    edges = [(way.capture_started, 1) for way in done] + [(way.capture_ended, -1) for way in done]
    now = most = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return most


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of the values does not exceed.

    :param share: as 0.99.
    :raises ValueError: if there are no values.
    """
    if not values:
        raise ValueError("there is nothing to take a percentile of")
    ordered = sorted(values)
    index = max(0, -int(-share * len(ordered) // 1) - 1)
    return ordered[index]
