"""Faults that the sandbox injects on request: seeded, named and counted."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class FaultSource(Protocol):
    """Decides whether a named fault happens now."""

    def hit(self, name: str) -> bool:
        """Tell whether the fault ``name`` happens at this call, and count it if so."""
        ...


CLASSIC_FAULTS: Mapping[str, str] = {
    "rate_limit": "The call is refused as one too many (HTTP 500, RateLimitExceeded); nothing is done.",
    "transient_500": "HTTP 500 with a SOAP parsing error, before anything is done.",
    "error_in_200": "HTTP 200 whose body is an error; nothing is done. Over XML-RPC: a fault, Internal Error.",
    "empty_200": "HTTP 200 with an empty body, after the call was carried out.",
    "lost_reply": "The connection closes without a reply, after the call was carried out.",
    "lost_request": "The connection closes without a reply, before anything is done.",
    "refused_after": "A call that changes something is carried out, and answered by an error in the API's own words.",
    "guest_404": "A call on a guest answers 404; a list of guests filtered by id lacks its first one.",
    "expired_iam_token": "A bearer token is refused as expired (HTTP 500, AccessTokenValidation).",
    "unwrapped_single": "A list of one element arrives as that element.",
    "missing_total": "A list arrives without the header SoftLayer-Total-Items.",
    "stuck_transaction": "A capture or export starts and then never ends by itself.",
    "empty_template": "A capture's transactions end, but the template has no sizes and no disks.",
    "template_gone": "A capture ends and its template is not there any more.",
    "template_late": "A capture's template is in no list and cannot be read for a while (switch late_seconds).",
    "transaction_late": "A capture's transaction does not show on its guest for a while (switch late_seconds).",
    "second_transaction": "A while after a capture's end another transaction of it begins (switch afterwork_seconds).",
    "moved_page": "A list's order changes between two pages: one element comes twice, another not at all.",
    "twice": "A call that changes something is carried out twice, the second time against what the first one left.",
    "gone_without_objects": "An export's transaction ends and no object ever appears.",
    "missing_last_object": "An export ends without the object of its last disk.",
    "truncated_object": "An export's objects lack their last 512 bytes (the VHD footer).",
    "damaged_object": "An export's objects have a wrong byte in the VHD's dynamic disk header.",
}
"""Every fault of the Classic API by name, with what happens. The store and IAM add their own."""


@dataclass
class _Fault:
    rate: float
    random: random.Random
    times: int | None = None
    methods: frozenset[str] = field(default_factory=frozenset)
    asked: int = 0
    hits: int = 0


def _nobody(_name: str) -> None:
    """Nobody asked to hear of faults."""


class Faults:
    """Faults with a rate each, drawn from one seeded stream per name, so that a run can be repeated.

    :param rates: a probability from 0 to 1 by name. ``name@method`` limits a fault to one method of the Classic API.
    :param seed: the seed of all streams.
    """

    def __init__(self, *, rates: Mapping[str, float] | None = None, seed: int = 0) -> None:
        self._seed = seed
        self.hear: Callable[[str], None] = _nobody
        """Told the name of each fault that happens, in the thread that it happens to."""
        self._lock = threading.Lock()
        self._faults: dict[str, _Fault] = {}
        for name, rate in (rates or {}).items():
            plain, _, method = name.partition("@")
            self.set(plain, rate=rate, methods=[method] if method else ())

    def set(self, name: str, *, rate: float = 0.0, times: int | None = None, methods: Collection[str] = ()) -> None:
        """Set how often a fault happens from now on; its counters stay.

        :param name: the fault's name.
        :param rate: the probability, 0 to 1, at each occasion.
        :param times: where given, the fault happens at the next ``times`` occasions and then no more.
        :param methods: where given, only calls of these methods are occasions.
        :raises ValueError: on a rate outside 0 to 1 or a negative ``times``.
        """
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"the rate of fault {name!r} must be between 0 and 1, not {rate}")
        if times is not None and times < 0:
            raise ValueError(f"fault {name!r} cannot happen {times} times")
        with self._lock:
            old = self._faults.get(name)
            stream = old.random if old else random.Random(f"{self._seed}:{name}")  # noqa: S311 - repeatable, no secret
            self._faults[name] = _Fault(
                rate=rate,
                random=stream,
                times=times,
                methods=frozenset(methods),
                asked=old.asked if old else 0,
                hits=old.hits if old else 0,
            )

    def clear(self) -> None:
        """Stop all faults; the counters stay."""
        with self._lock:
            for fault in self._faults.values():
                fault.rate, fault.times, fault.methods = 0.0, None, frozenset()

    def hit(self, name: str, *, method: str | None = None) -> bool:
        """Tell whether the fault ``name`` happens at this occasion, and count it.

        :param name: the fault's name; one that nobody set never happens.
        :param method: the method being called, where there is one.
        """
        with self._lock:
            fault = self._faults.get(name)
            if fault is None or (fault.methods and method not in fault.methods):
                return False
            fault.asked += 1
            if fault.times is not None:
                happens = fault.times > 0
                fault.times -= int(happens)
            else:
                happens = fault.rate > 0 and fault.random.random() < fault.rate
            fault.hits += int(happens)
        if happens:
            self.hear(name)
        return happens

    def draw(self, name: str) -> float:
        """:returns: a number from 0 to 1 out of a fault's own stream, for a choice that the fault brings with it."""
        with self._lock:
            return self._faults[name].random.random()

    def counters(self) -> dict[str, dict[str, Any]]:
        """:returns: by name: ``rate``, ``times`` (left, or None), ``methods``, ``asked`` and ``hits``."""
        with self._lock:
            return {
                name: {
                    "rate": fault.rate,
                    "times": fault.times,
                    "methods": sorted(fault.methods),
                    "asked": fault.asked,
                    "hits": fault.hits,
                }
                for name, fault in sorted(self._faults.items())
            }
