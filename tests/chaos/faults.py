"""The faults that a request can meet on its way, and the seeded plan that decides which of them it meets.

A plan is asked once for each request. It goes by *selectors*:

- ``lost_reply``: this fault, wherever it can happen;
- ``lost_reply@cos``: at this service only;
- ``lost_reply@classic:createArchiveTemplate``: at this method only, with or without the service's name before it
  (``SoftLayer_Virtual_Guest::createArchiveTemplate``); ``*`` stands for anything, as in ``hang@airflow:state:*``.

Each selector has a stream of its own, so that the n-th request that it fits meets the same fate whatever the other
selectors do and however threads take turns::

    plan = FaultPlan(seed=7, rates={"lost_reply": 0.02}, times={"hang@classic:copyToIcos": 1})
    plan.set("slow@iam", rate=1.0)      # from now on
    plan.counts()                       # what was injected, by fault
    plan.tallies()                      # asked and hits, by selector
"""

from __future__ import annotations

import fnmatch
import logging
import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Service = Literal["classic", "cos", "iam", "airflow"]

log = logging.getLogger(__name__)

WIRE_FAULTS: Mapping[str, str] = {
    "drop_before": "The connection closes without a reply, before anything is done.",
    "lost_reply": "The connection closes without a reply, after the request was carried out.",
    "twice": "The request is delivered twice; the first or the second reply comes back.",
    "slow": "The request is held up on its way, and then carried out.",
    "reset_before": "The connection is reset before anything is done.",
    "reset_after": "The connection is reset after the request was carried out.",
    "http_429": "HTTP 429 with a gateway's page, before anything is done.",
    "http_500": "HTTP 500 with a gateway's page, before anything is done.",
    "http_502": "HTTP 502 with a gateway's page, before anything is done.",
    "http_503": "HTTP 503 with a gateway's page, before anything is done.",
    "after_500": "HTTP 500 with a gateway's page, after the request was carried out.",
    "after_502": "HTTP 502 with a gateway's page, after the request was carried out.",
    "after_503": "HTTP 503 with a gateway's page, after the request was carried out.",
    "rate_limit": "The Classic API's own refusal for the rate of requests, before anything is done.",
    "error_in_200": "HTTP 200 whose body is an error of the Classic API, before anything is done.",
    "after_error_in_200": "HTTP 200 whose body is an error of the Classic API, after the request was carried out.",
    "empty_200": "HTTP 200 with an empty body, after the request was carried out.",
    "truncated_body": "The reply ends half way through its body, after the request was carried out.",
    "expired_token": "The service's own refusal of a token that has expired, before anything is done.",
    "hang": "The request is taken and never answered, and never carried out.",
    "hang_after": "The request is carried out and never answered.",
}
"""Every fault of the wire by name, with what happens."""

NEVER_CARRIED_OUT = frozenset(
    {
        "drop_before", "reset_before", "http_429", "http_500", "http_502", "http_503", "rate_limit", "error_in_200",
        "expired_token", "hang",
    }
)  # fmt: skip
"""The faults that keep a request from being carried out; with ``twice`` it is twice, with all others once."""

_ONLY: Mapping[str, frozenset[str]] = {
    "rate_limit": frozenset({"classic"}),
    "error_in_200": frozenset({"classic"}),
    "after_error_in_200": frozenset({"classic"}),
    "expired_token": frozenset({"classic", "cos", "iam"}),
}
"""Faults that only some services have."""

_ASKED_FOR: Mapping[str, frozenset[str]] = {"expired_token": frozenset({"iam"})}
"""Where a fault happens only if a selector names the service: IAM's says that the key is no good, which is no passing
trouble."""


@dataclass(frozen=True, kw_only=True)
class CallInfo:
    """A request, as a fault plan and a point see it.

    :param service: where it goes.
    :param method: what it asks for, as ``SoftLayer_Virtual_Guest::createArchiveTemplate``, ``PutObject``, ``token``,
        ``state:deferred``; :mod:`tests.chaos.calls` has the rules.
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


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How often a selector fitted a request, and how often the request met its fault."""

    asked: int
    hits: int


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
        if self.service != call.service and (self.service or call.service in _ASKED_FOR.get(self.name, ())):
            return False
        if call.service not in _ONLY.get(self.name, {call.service}):
            return False
        short = call.method.rpartition("::")[2]
        return not self.method or any(fnmatch.fnmatchcase(one, self.method) for one in (call.method, short))

    def ask(self) -> tuple[bool, float]:
        """Whether chance has it, and what else is left to chance: two draws each time, so that streams go on evenly."""
        self.asked += 1
        return self.random.random() < self.rate, self.random.random()


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

        :param text: the selector.
        :param rate: the probability, 0 to 1.
        :param times: how many of the next requests meet it for certain; the rate holds after them.
        :raises ValueError: on an unknown fault or service, a service without this fault, a rate outside 0 to 1, or a
            negative count.
        """
        made = self._parse(text)
        if not 0 <= (rate or 0.0) <= 1 or (times or 0) < 0:
            raise ValueError(f"the selector {text!r} takes a rate from 0 to 1 and a count that is not negative")
        with self._lock:
            one = self._selectors.setdefault(text, made)
            one.rate = one.rate if rate is None else rate
            one.times = one.times if times is None else times

    def _parse(self, text: str) -> _Selector:
        name, _, where = text.partition("@")
        service, _, method = where.partition(":")
        if name not in WIRE_FAULTS:
            raise ValueError(f"there is no fault {name!r}; there are {', '.join(WIRE_FAULTS)}")
        services = _ONLY.get(name, get_args(Service))
        if service and service not in services:
            raise ValueError(f"the selector {text!r} must name one of {', '.join(sorted(services))}")
        return _Selector(name, service, method, random.Random(f"{self.seed}:{text}"))

    def decide(self, call: CallInfo) -> Fault | None:
        """Decide what a request meets, and note it. It meets one fault at most; one that must happen comes first.

        :param call: the request.
        :returns: the fault, or None.
        """
        with self._lock:
            asked = [(one, *one.ask()) for one in self._selectors.values() if one.fits(call)]
            chosen = next(((one, draw) for one, _, draw in asked if one.times > 0), None)
            if chosen is not None:
                chosen[0].times -= 1
            else:
                chosen = next(((one, draw) for one, happens, draw in asked if happens), None)
            if chosen is None:
                return None
            selector, draw = chosen
            selector.hits += 1
            self.injected.append(Injected(fault=selector.name, call=call))
        log.info("%s meets %s %s %s", selector.name, call.service, call.method, call.target)
        return Fault(name=selector.name, draw=draw)

    def counts(self) -> Counter[str]:
        """How often each fault was injected."""
        with self._lock:
            return Counter(one.fault for one in self.injected)

    def tallies(self) -> dict[str, Tally]:
        """How often each selector was asked, and how often it hit."""
        with self._lock:
            return {text: Tally(asked=one.asked, hits=one.hits) for text, one in self._selectors.items()}

    def clear(self) -> None:
        """Inject nothing more; what was counted stays, and the streams go on where they are."""
        with self._lock:
            for one in self._selectors.values():
                one.rate, one.times = 0.0, 0
