"""The programs of a scenario besides Airflow's: the sandbox as a process of its own, and Airflow's standalone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.real.metadata import wait_for
from tools.keeper import descendants, signal_all
from tools.local_airflow import LocalAirflow
from tools.processes import Program, free_ports, new_mark, running, tail


class SandboxProgram:
    """The sandbox in a process of its own, which can be killed and started again with its state and its addresses.

    :param root: the folder of its state.
    :param servers: how many virtual servers its account has.
    :param seed: decides its world.
    :param speed: how many times faster than in earnest transactions go.
    :param switches: its switches.
    """

    def __init__(self, *, root: Path, servers: int, seed: int, speed: float, switches: Mapping[str, Any]) -> None:
        self.root = root
        self.mark = new_mark()
        self.log = root.with_suffix(".log")
        self._ports = free_ports(2)
        self.api_url, self.cos_url = (f"http://127.0.0.1:{port}" for port in self._ports)
        options = {
            "state": root,
            "servers": servers,
            "seed": seed,
            "speed": speed,
            "api-port": self._ports[0],
            "cos-port": self._ports[1],
        }
        self._command = [
            str(Path(sys.executable).with_name("sealift")),
            "sandbox",
            "up",
            *(f"--{name}={value}" for name, value in options.items()),
            *(f"--set={name}={value}" for name, value in switches.items()),
        ]
        self._program: Program | None = None

    def start(self, *, seconds: float = 60.0) -> None:
        """Start it, and wait until it serves."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("SEALIFT_", "PYTHON"))}
        program = Program(self._command, env=env, mark=self.mark, log=self.log, cwd=Path("/"))
        self._program = program

        def serves() -> bool:
            assert not program.ended(), f"the sandbox ended; its log ends with:\n{tail(self.log)}"
            try:
                return bool(self.admin("GET", "state"))
            except httpx.TransportError:
                return False

        wait_for(serves, "the sandbox", seconds=seconds)

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        assert self._program is not None
        signal_all([self._program.pid], signal.SIGKILL)
        self._program.stop()

    def stop(self) -> None:
        """Stop it."""
        if self._program is not None:
            self._program.stop()

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Ask its own endpoint, which no client of Classic or COS knows."""
        reply = httpx.request(method, f"{self.api_url}/sandbox/{path}", json=body, trust_env=False, timeout=30)
        return reply.raise_for_status().json()


class Standalone:
    """``airflow standalone``, with the few things of :class:`tools.cluster.Cluster` that scenarios use.

    It is one program: what can be killed by name is the whole of it.
    """

    def __init__(self, **arguments: Any) -> None:
        self._airflow = LocalAirflow(**arguments)
        self.home = self._airflow.home
        self.url = self._airflow.url
        self.api = self._airflow.api
        self.env = self._airflow.env
        self.names = ("standalone",)

    @property
    def metadata_url(self) -> str:
        """SQLAlchemy's address of the metadata database."""
        return self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]

    def start(self, *names: str) -> None:
        """Start it, again if it was killed."""
        assert set(names) <= set(self.names)
        self._airflow.start()

    def wait_until_ready(self, *, dags: tuple[str, ...] = (), seconds: float = 180.0) -> None:
        """Wait until every part is healthy."""
        self._airflow.wait_until_ready(dags=dags, seconds=seconds)

    def wait_until_lives(self, name: str, *, seconds: float = 120.0) -> None:
        """Wait until every part is healthy."""
        assert name in self.names
        self._airflow.wait_until_ready(seconds=seconds)

    def add_connection(self, *arguments: Any, **fields: Any) -> None:
        """Write a connection into the metadata database."""
        self._airflow.add_connection(*arguments, **fields)

    def processes(self, name: str) -> list[int]:
        """Find all of its processes, without the keeper."""
        assert name in self.names
        return [pid for keeper in running(self._airflow.mark)[:1] for pid in descendants(keeper)]

    def owner(self, pid: int) -> str | None:
        """Tell whether a process is one of its."""
        return "standalone" if pid in self.running() else None

    def kill(self, name: str, *, descendants_too: bool = True) -> None:
        """Kill all of it, and its keeper."""
        assert name in self.names
        assert descendants_too
        while left := self.running():
            signal_all(left, signal.SIGKILL)

    def running(self) -> list[int]:
        """Tell which of its processes are running."""
        return self._airflow.running()

    def stop(self) -> None:
        """Stop it."""
        self._airflow.stop()
        self.api.close()
