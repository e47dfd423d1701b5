"""The wire between simulated processes and the sandbox: latency, faults, outages, and the points where somebody dies.

Each call meets two points: *before* it (nothing was sent) and *after* it (the service has carried it out, and nobody
has seen the reply). A process that dies at every one of them has died at every edge of an export: everything that
outlives a process is written by such a call.
"""

from __future__ import annotations

import random
import xmlrpc.client
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from tests.chaos.calls import call_of
from tests.chaos.faults import CallInfo, FaultPlan
from tests.chaos.sim.airflow import LittleAirflow
from tests.chaos.sim.engine import Actor, Sim
from tests.chaos.sim.sockets import CLASSIC_PORT
from tests.chaos.sim.workers import ApiServerGone
from tests.chaos.sim.world import World

SUBMISSIONS: Final = ("createArchiveTemplate", "copyToIcos")
_KINDS: Final = (
    ("offline-slots/", "slot"),
    ("/claims/", "claim"),
    ("manifests/", "manifest"),
    ("plans/", "plan"),
    ("/server.json", "record"),
    ("disk-", "disk"),
)
# Faults that the service words itself: the sandbox has them under these names, by service.
_WORDED: Final[Mapping[tuple[str, str], str]] = {
    ("rate_limit", "classic"): "rate_limit",
    ("error_in_200", "classic"): "error_in_200",
    ("empty_200", "classic"): "empty_200",
    ("http_503", "cos"): "cos_slow_down",
    ("http_500", "cos"): "cos_internal_error",
    ("http_500", "classic"): "transient_500",
    ("expired_token", "cos"): "expired_token",
    ("http_503", "iam"): "iam_unavailable",
}
_STATUS: Final = {
    "http_429": 429, "http_500": 500, "http_502": 502, "http_503": 503,
    "after_500": 500, "after_502": 502, "after_503": 503, "rate_limit": 429, "expired_token": 401,
}  # fmt: skip
_BEFORE: Final = frozenset({"http_429", "http_500", "http_502", "http_503", "rate_limit", "expired_token"})


@dataclass(frozen=True)
class Deed:
    """What happens to a process at a point.

    :param what: kill, freeze or orphan.
    :param seconds: for how long, where it is stopped.
    """

    what: str
    seconds: float = 0.0


@dataclass
class Misfortune:
    """Who dies where, in one scenario.

    :param at: what happens at the n-th passing of a point, by ``(point, n)``.
    :param kill: how likely a process dies at any point.
    :param freeze: how likely it is stopped there for a while.
    :param orphan: how likely its supervisor dies there and it does not.
    """

    at: dict[tuple[str, int], Deed] = field(default_factory=dict)
    kill: float = 0.0
    freeze: float = 0.0
    orphan: float = 0.0
    longest: float = 3600.0


class Network:
    """Carries the requests of all simulated processes.

    :param sim: clock and order.
    :param world: the sandbox.
    :param plan: the faults.
    :param misfortune: the deaths.
    :param seed: decides latency.
    :param latency: how much longer than in a data center ordinary replies take: long ones make races wide.
    :param on_the_way: how long a submission may be on its way, in seconds, from the product's decision to its arrival:
        what the design rests on. All other delays are as long as they like.
    """

    def __init__(
        self,
        *,
        sim: Sim,
        world: World,
        plan: FaultPlan,
        misfortune: Misfortune,
        seed: int,
        on_the_way: float,
        latency: float = 1.0,
    ) -> None:
        self._sim = sim
        self._world = world
        self.plan = plan
        self.misfortune = misfortune
        self._on_the_way = on_the_way
        self._latencies = latency
        self._random = random.Random(f"{seed}:latency")
        self._deaths = random.Random(f"{seed}:deaths")
        self.airflow: LittleAirflow | None = None
        self.down_until: dict[str, float] = {}
        self.passed: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        self.calls = 0
        self.closed = False
        self.texts: list[str] = []

    # Points

    def point(self, phase: str, service: str, what: str) -> None:
        """Pass a point: here a process may die, or be stopped."""
        actor = self._sim.current
        if actor is None or self.closed:
            return
        name = f"{actor.notes.get('step', actor.kind)} {phase} {service} {what}"
        self.passed[name] += 1
        deed = self.misfortune.at.pop((name, self.passed[name]), None) or self._chance(actor)
        if deed is not None:
            self._do(deed, actor, name, held_up=phase == "before" and what in SUBMISSIONS)

    def _chance(self, actor: Actor) -> Deed | None:
        ill = self.misfortune
        draw = self._deaths.random()
        for what, rate in (("kill", ill.kill), ("freeze", ill.freeze), ("orphan", ill.orphan)):
            if draw < rate:
                if what == "orphan" and actor.kind != "worker":
                    return None
                return Deed(what, self._deaths.choice((1.0, 20.0, 90.0, 400.0, ill.longest)))
            draw -= rate
        return None

    def _do(self, deed: Deed, actor: Actor, name: str, *, held_up: bool) -> None:
        assert self.airflow is not None
        if deed.what == "kill":
            self.kills[name] += 1
            self._sim.say(f"SIGKILL at {name!r}")
            self._kill(actor)
        elif deed.what == "orphan":
            self.stops["orphaned"] += 1
            self._sim.say(f"its supervisor dies at {name!r}; it lives on")
            actor.notes["orphan"] = True
            self.airflow.worker_gone(actor)
        else:
            seconds = min(deed.seconds, 0.6 * self._on_the_way) if held_up else deed.seconds
            self.stops[f"{actor.kind} stopped"] += 1
            self._sim.say(f"SIGSTOP for {seconds:.0f} s at {name!r}")
            self._sim.freeze(actor, seconds)
            if actor.kind == "worker":
                self.airflow.worker_silent(actor, seconds)
            elif actor.kind == "triggerer":
                self.airflow.triggerer_gone(actor.notes["triggerer"].name)
            self._sim.sleep(0.0)

    def _kill(self, actor: Actor) -> None:
        assert self.airflow is not None
        if actor.kind == "worker":
            self.airflow.worker_gone(actor)
        elif actor.kind == "triggerer":
            self.airflow.triggerer_died(actor.notes["triggerer"])
        self._sim.kill(actor)

    def kill(self, actor: Actor, why: str) -> None:
        """Kill a process from outside, wherever it is."""
        if actor.alive:
            self.kills[why] += 1
            self._sim.say(f"SIGKILL of {actor}: {why}")
            self._kill(actor)

    # Airflow's API server

    def crossing(self, method: str, effect: Callable[[], Any]) -> Any:
        """A worker's call of Airflow's API server; see :class:`tests.chaos.sim.airflow.Crossing`."""
        assert self.airflow is not None
        actor = self._sim.current
        if actor is not None and actor.notes.get("orphan"):
            raise ApiServerGone("the supervisor is gone")
        self.point("before", "airflow", method)
        for wait in (1, 2, 4, 8, 16, 30, None):
            if self._sim.now >= self.airflow.api_down_until:
                break
            if wait is None:
                raise ApiServerGone("Airflow's API server does not answer")
            self._sim.sleep(wait)
        self._sim.sleep(self._latency())
        result = effect()
        self.point("after", "airflow", method)
        self._sim.sleep(self._latency())
        return result

    # The services

    def _latency(self) -> float:
        draw = self._random.random()
        if draw < 0.9:
            return self._random.uniform(0.005, 0.1) * self._latencies
        return self._random.uniform(0.1, 2.0) if draw < 0.99 else self._random.uniform(2.0, 15.0)

    def connect(self, port: int) -> None:
        """A client opens a connection."""
        service = "classic" if port == CLASSIC_PORT else "cos"
        if self._sim.current is None and not self.closed:
            return
        if self.closed or self._sim.now < self.down_until.get(service, 0.0):
            raise ConnectionRefusedError(111, "Connection refused")

    def __call__(self, port: int, request: bytes, timeout: float | None) -> bytes:
        if self._sim.current is None or self.closed:
            if self.closed:
                raise ConnectionResetError(104, "Connection reset by peer")
            return self._world.answer(port, request)
        self.calls += 1
        call, what = named(port, request)
        self.point("before", call.service, what)
        if self._sim.now < self.down_until.get("classic" if port == CLASSIC_PORT else "cos", 0.0):
            raise ConnectionResetError(104, "Connection reset by peer")
        fault = self.plan.decide(call)
        name = fault.name if fault is not None else ""
        if name:
            self._sim.say(f"{call.service} {what}: fault {name}")
        else:
            self._sim.say(f"{call.service} {what} {call.target[-60:]}")
        return self._carried(port, request, timeout or 60.0, call, what, name)

    def _carried(self, port: int, request: bytes, timeout: float, call: CallInfo, what: str, fault: str) -> bytes:
        self._sim.sleep(self._latency())
        if fault == "drop_before":
            return b""
        if fault == "reset_before":
            raise ConnectionResetError(104, "Connection reset by peer")
        if fault == "hang":
            self._time_out(timeout)
        if fault == "slow":
            self._held_up(port, request, timeout, call)
        if fault == "expired_token" and call.service == "classic":
            return _refusal_of_token(request)
        worded = _WORDED.get((fault, call.service))
        if fault in _BEFORE and worded is None:
            return _reply(_STATUS[fault])
        if worded is not None:
            with self._world.settled() as sandbox:
                sandbox.set_fault(worded, times=1)
        reply = self._world.answer(port, request)
        if fault == "twice":
            second = self._world.answer(port, request)
            reply = self._random.choice((reply, second))
        self.point("after", call.service, what)
        self._sim.sleep(self._latency())
        return self._spoiled(reply, fault, timeout)

    def _spoiled(self, reply: bytes, fault: str, timeout: float) -> bytes:
        if fault == "lost_reply":
            return b""
        if fault == "reset_after":
            raise ConnectionResetError(104, "Connection reset by peer")
        if fault == "hang_after":
            self._time_out(timeout)
        if fault in ("after_500", "after_502", "after_503"):
            return _reply(_STATUS[fault])
        if fault == "empty_200" and reply.startswith(b"HTTP/1.1 200"):
            return _reply(200)
        if fault == "truncated_body":
            head, _, body = reply.partition(b"\r\n\r\n")
            return head + b"\r\n\r\n" + body[: len(body) // 2] if body else b""
        return reply

    def _held_up(self, port: int, request: bytes, timeout: float, call: CallInfo) -> None:
        """The request is long on its way, and carried out even where the client does not wait for so long."""
        most = 0.4 * self._on_the_way if short(call) in SUBMISSIONS else 4 * timeout
        delay = self._random.uniform(min(0.5, most), most)
        if delay < timeout:
            self._sim.sleep(delay)
            return

        def arrive() -> None:
            if not self.closed:
                self._sim.say(f"{call.service} {call.method} is carried out late")
                self._world.answer(port, request)

        self._sim.later(delay, arrive)
        self._time_out(timeout)

    def _time_out(self, timeout: float) -> None:
        self._sim.sleep(timeout)
        raise TimeoutError("timed out")


def _reply(status: int, body: bytes = b"", *, kind: str = "application/json") -> bytes:
    if not body and status != 200:
        kind, body = "text/html", f"<html><body><h1>{status} {HTTPStatus(status).phrase}</h1></body></html>".encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _refusal_of_token(request: bytes) -> bytes:
    """What the Classic API says of a token that has expired."""
    code = "SoftLayer_Exception_Account_Authentication_AccessTokenValidation"
    if b"<methodCall>" not in request:
        return _reply(500, f'{{"error": "The access token has expired.", "code": "{code}"}}'.encode())
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(code, "The access token has expired."))  # type: ignore[arg-type]
    return _reply(200, fault.encode(), kind="text/xml")


def named(port: int, request: bytes) -> tuple[CallInfo, str]:
    """Say what a request asks for, and in a few words for a point's name."""
    head, _, body = request.partition(b"\r\n\r\n")
    verb, target, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
    call = call_of("classic" if port == CLASSIC_PORT else "cos", verb, target, body)
    kind = next((kind for mark, kind in _KINDS if mark in f"/{call.target}"), "") if call.service == "cos" else ""
    return call, f"{short(call)} {kind}".strip()


def short(call: CallInfo) -> str:
    """The method without its service."""
    return call.method.rpartition("::")[2]
