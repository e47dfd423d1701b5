"""A scenario's account and bucket: the sandbox as it is, on simulated time, without threads and ports of its own."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import RLock
from typing import Any, Final

from sealift.sandbox import Sandbox, app
from sealift.sandbox.classic.transactions import Engine
from sealift.sandbox.store import server as store_server
from sealift.sandbox.store.http import Connection
from sealift.sandbox.web import _Handler
from tests.chaos.sim.engine import Sim
from tests.chaos.sim.sockets import CLASSIC_PORT, COS_PORT, ServerSocket

Doc = dict[str, Any]

GIGABYTES: Final = 10
_KINDS: Final = 6
"""So many different disks of each kind there are: enough that none of a scenario's servers share one."""


class SimClock:
    """The sandbox's clock: the simulated time, as the service's machines have it."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim

    def now(self) -> float:
        return self._sim.now


class _Answers:
    """In the place of a server with a port: keeps what answers requests."""

    def __init__(self, *, port: int, **kept: Any) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.__dict__.update(kept)

    def close(self) -> None:
        """Nothing is open."""


def _web(*, host: str, port: int, answer: Any, tls: Any = None) -> _Answers:
    return _Answers(port=CLASSIC_PORT, answer=answer)


def _store(*, handler: Any, host: str = "", port: int = 0, tls: Any = None) -> _Answers:
    return _Answers(port=COS_PORT, handler=handler)


class _AtOnce:
    """In the place of the threads that build disks: the work is done when it is begun."""

    def submit(self, function: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - a future's way of keeping it
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None:
        """Nothing runs."""


def install() -> None:
    """Make sandboxes of this process ones without threads and ports, for good."""
    app.WebServer = _web  # type: ignore[assignment,misc]
    store_server.StoreServer = _store  # type: ignore[assignment,misc]
    Engine.start = lambda self: None  # type: ignore[method-assign,assignment]


class World:
    """The sandbox of one scenario.

    :param sim: the clock.
    :param root: the sandbox's folder; on a file system in memory, if possible.
    :param cache: where built disks are kept, for all scenarios.
    :param seed: decides the world and the lengths of transactions.
    :param servers: how many virtual servers there are.
    :param switches: behaviour of the service.
    """

    def __init__(
        self, *, sim: Sim, root: Path, cache: Path, seed: int, servers: int, switches: Mapping[str, Any]
    ) -> None:
        self._sim = sim
        self._root = root
        self.cache = cache
        root.mkdir(parents=True)
        (root / "images").symlink_to(cache, target_is_directory=True)
        self._arguments = {"seed": seed, "servers": servers, "switches": dict(switches)}
        self._random = random.Random(f"{seed}:disks")
        self.sandbox = self._new()
        self.sandbox.start()
        self._settle()
        self._give_disks()

    def _new(self) -> Sandbox:
        return Sandbox(root=self._root, clock=SimClock(self._sim), **self._arguments)  # type: ignore[arg-type]

    def _settle(self) -> None:
        imaging = self.sandbox.imaging
        imaging._pool.shutdown()
        imaging._pool = _AtOnce()  # type: ignore[assignment]
        imaging._lock = RLock()  # type: ignore[assignment]

    def _give_disks(self) -> None:
        """Give each server small disks of its own: a mix-up of two servers' disks must show."""
        for number, guest in enumerate(sorted(self.sandbox.world.guests.values(), key=lambda one: one["id"])):
            count = self._random.choice((1, 1, 2, 3)) if number < _KINDS else 1
            guest["_disks"] = [
                {
                    "device": device,
                    "gb": GIGABYTES,
                    "kind": "linux-root" if device == "0" else "linux-data",
                    "hostname": f"chaos-{number % _KINDS}",
                    "seed": number % _KINDS,
                    "payload": 4096,
                }
                for device in ("0", "2", "4")[:count]
            ]
            self.sandbox.world.save("guest", guest)

    def restart(self) -> None:
        """Kill the sandbox, and start it again over what it had written."""
        switches, faults = self.sandbox.switches, self.sandbox.faults
        self.sandbox.stop()
        self.sandbox = self._new()
        self.sandbox.switches, self.sandbox.faults = switches, faults
        self.sandbox.start()
        self._settle()

    def close(self) -> None:
        """Stop the sandbox; its folder stays."""
        self.sandbox.stop()

    def answer(self, port: int, request: bytes) -> bytes:
        """Carry a request out now.

        :returns: the reply; empty where the sandbox closes the connection in its place.
        """
        with self._sim.true_time():
            self.sandbox.tick()
            if port == CLASSIC_PORT:
                sock = ServerSocket(request)
                _Handler(sock, ("127.0.0.1", 40_000), self.sandbox._web)  # type: ignore[arg-type]
            else:
                sock = ServerSocket(request)
                Connection(sock, self.sandbox._store_server.handler).serve()  # type: ignore[arg-type,attr-defined]
            return bytes(sock.reply)

    @contextlib.contextmanager
    def settled(self) -> Iterator[Sandbox]:
        """The sandbox as it is now, with everything that is due done."""
        with self._sim.true_time():
            self.sandbox.tick()
            yield self.sandbox
