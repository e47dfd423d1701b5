"""The faults that a request can meet on its way, and the seeded plan that decides which of them it meets.

A plan is asked once for each request. Its selectors are ``name``, ``name@service`` or ``name@service:method``; each
has a stream of its own, so that what one of them decides does not depend on the others.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Service = Literal["classic", "cos", "iam", "airflow"]

WIRE_FAULTS: Mapping[str, str] = {
    "drop_before": "The connection closes without a reply, before anything is done.",
    "lost_reply": "The connection closes without a reply, after the request was carried out.",
    "twice": "The request is delivered twice; the first or the second reply comes back.",
    "slow": "The request is held up on its way, and then carried out.",
    "reset_before": "The connection is reset before anything is done.",
    "reset_after": "The connection is reset after the request was carried out.",
    "http_429": "HTTP 429, before anything is done.",
    "http_500": "HTTP 500, before anything is done.",
    "http_502": "HTTP 502 with a gateway's page, before anything is done.",
    "http_503": "HTTP 503 with a gateway's page, before anything is done.",
    "after_500": "HTTP 500, after the request was carried out.",
    "after_502": "HTTP 502 with a gateway's page, after the request was carried out.",
    "after_503": "HTTP 503 with a gateway's page, after the request was carried out.",
    "rate_limit": "The Classic API's own refusal for the rate of requests, before anything is done.",
    "error_in_200": "HTTP 200 whose body is an error of the Classic API, before anything is done.",
    "empty_200": "HTTP 200 with an empty body, after the request was carried out.",
    "truncated_body": "The reply's body ends half way, after the request was carried out.",
    "expired_token": "The service's own refusal of a token that has expired, before anything is done.",
    "hang": "The request is taken and never answered, and never carried out.",
    "hang_after": "The request is carried out and never answered.",
}
"""Every fault of the wire by name, with what happens."""

_ONLY: Mapping[str, frozenset[str]] = {
    "rate_limit": frozenset({"classic"}),
    "error_in_200": frozenset({"classic"}),
    "expired_token": frozenset({"classic", "cos"}),
}
"""Faults that only some services have."""


@dataclass(frozen=True, kw_only=True)
class CallInfo:
    """A request, as a fault plan and a point see it.

    :param service: where it goes.
    :param method: what it asks for, as ``createArchiveTemplate``, ``PutObject``, ``token``, ``state:deferred``.
    :param target: on what: the path, or bucket and key.
    """

    service: str
    method: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault that a request meets.

    :param name: one of :data:`WIRE_FAULTS`.
    :param draw: from 0 to 1, for what is left to chance within the fault.
    """

    name: str
    draw: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Injected:
    """A fault that was injected."""

    fault: str
    call: CallInfo


@dataclass
class _Selector:
    name: str
    service: str
    method: str
    random: random.Random
    rate: float = 0.0
    times: int = 0
    asked: int = 0
    hits: int = 0

    def fits(self, call: CallInfo) -> bool:
        short = call.method.rpartition("::")[2]
        return (
            self.service in ("", call.service)
            and self.method in ("", call.method, short)
            and call.service in _ONLY.get(self.name, {call.service})
        )

    def hit(self) -> bool:
        self.asked += 1
        if self.times > 0:
            self.times -= 1
            happens = True
        else:
            happens = self.random.random() < self.rate
        self.hits += int(happens)
        return happens


@dataclass
class FaultPlan:
    """Decides which fault a request meets. May be used by many threads.

    :param seed: of all decisions.
    :param rates: probability by selector.
    :param times: by selector, how many of the next requests that it fits meet it for certain.
    """

    seed: int
    rates: Mapping[str, float] = field(default_factory=dict)
    times: Mapping[str, int] = field(default_factory=dict)
    injected: list[Injected] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._selectors: dict[str, _Selector] = {}
        for text, rate in self.rates.items():
            self.set(text, rate=rate)
        for text, count in self.times.items():
            self.set(text, times=count)

    def set(self, text: str, *, rate: float | None = None, times: int | None = None) -> None:
        """Change a selector from now on; what is not given stays.

        :raises ValueError: on an unknown fault, a rate outside 0 to 1, or a negative count.
        """
        name, _, where = text.partition("@")
        service, _, method = where.partition(":")
        if name not in WIRE_FAULTS:
            raise ValueError(f"there is no fault {name!r}; there are {', '.join(WIRE_FAULTS)}")
        if not 0 <= (rate or 0.0) <= 1 or (times or 0) < 0:
            raise ValueError(f"the selector {text!r} takes a rate from 0 to 1 and a count that is not negative")
        with self._lock:
            stream = random.Random(f"{self.seed}:{text}")
            one = self._selectors.setdefault(text, _Selector(name, service, method, stream))
            one.rate = one.rate if rate is None else rate
            one.times = one.times if times is None else times

    def decide(self, call: CallInfo) -> Fault | None:
        """Decide what a request meets, and note it.

        :param call: the request.
        :returns: the fault, or None.
        """
        with self._lock:
            chosen: _Selector | None = None
            for one in self._selectors.values():
                if one.fits(call) and one.hit() and chosen is None:
                    chosen = one
            if chosen is None:
                return None
            self.injected.append(Injected(fault=chosen.name, call=call))
            return Fault(name=chosen.name, draw=chosen.random.random())

    def counts(self) -> Counter[str]:
        """How often each fault was injected."""
        with self._lock:
            return Counter(one.fault for one in self.injected)

    def clear(self) -> None:
        """Inject nothing more; what was injected stays noted."""
        with self._lock:
            self._selectors.clear()
