"""What the captures of one process know together of an account's offline slots.

Each capture has to look at the account after it took its slot (:mod:`sealift.exports.slots`). Captures that begin
together need no look each: one that begins after all of them have taken theirs tells every one of them the same. And
what was seen last is good enough to choose a slot by, since that look follows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from sealift.exports.looking import real_sleep
from sealift.exports.ports import Sleep
from sealift.exports.registers import Holding
from sealift.exports.surveying import Survey

PATIENCE: Final = 30.0
"""Seconds after which somebody else's look counts as hanging: whoever waits for it looks himself."""

_PAUSE: Final = 0.02


class Board:
    """The last look at one account's slots, with what this process has written since. Many threads may use it.

    :param sleep: waits for seconds.
    :param monotonic: seconds that never go back.
    """

    def __init__(self, *, sleep: Sleep = real_sleep, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._sleep = sleep
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._latest: Survey | None = None
        self._written: dict[int, Holding] = {}
        self._looking = 0
        self._begun = 0
        self._ended = 0
        self._found: Survey | None = None

    @property
    def latest(self) -> Survey | None:
        """What was seen last, by anybody; None where nobody has looked yet."""
        with self._lock:
            return self._with_written(self._latest)

    def put(self, seen: Survey) -> None:
        """Note somebody's look, if it is later than the last one.

        :param seen: what was found.
        """
        with self._lock:
            if self._latest is None or seen.account.taken_at > self._latest.account.taken_at:
                self._keep(seen)

    def wrote(self, number: int, holding: Holding) -> None:
        """Note that this process has changed a slot.

        :param number: the slot's.
        :param holding: what it says now.
        """
        with self._lock:
            self._written[number] = holding

    def look(self, look: Callable[[Survey | None], Survey]) -> Survey:
        """Look, or wait for the look of somebody else that begins after this call.

        :param look: looks; it is given the last look, to build on. Where it fails, only its own caller fails.
        :returns: what was found by a look that began after the call.
        """
        with self._lock:
            wanted = self._begun + 1
        until = self._monotonic() + PATIENCE
        while True:
            with self._lock:
                if self._ended >= wanted:
                    seen = self._with_written(self._found)
                    assert seen is not None
                    return seen
                if not self._looking or self._monotonic() > until:
                    self._looking += 1
                    self._begun += 1
                    mine, latest = self._begun, self._with_written(self._latest)
                    break
            self._sleep(_PAUSE)
        try:
            seen = look(latest)
            with self._lock:
                if mine > self._ended:
                    self._ended, self._found = mine, seen
                    self._keep(seen)
        finally:
            with self._lock:
                self._looking -= 1
        return seen

    def _keep(self, seen: Survey) -> None:
        """Keep a look; what was written and shows in it needs no note any more."""
        self._latest = seen
        self._written = self._newer(seen)

    def _newer(self, seen: Survey) -> dict[int, Holding]:
        """Find what this process has written that a look does not show: a slot's entries count upwards."""
        return {
            number: one
            for number, one in self._written.items()
            if number not in seen.slots or seen.slots[number].number < one.number
        }

    def _with_written(self, seen: Survey | None) -> Survey | None:
        """Add what this process has written since. A slot that it took is about to be used."""
        if seen is None:
            return None
        newer = self._newer(seen)
        if not newer:
            return seen
        live = (seen.live | {number for number, one in newer.items() if one.held}) - {
            number for number, one in newer.items() if not one.held
        }
        return seen.model_copy(update={"slots": {**seen.slots, **newer}, "live": live})
