"""The sandbox as a process of its own, which can be killed and started again with its state and its addresses."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tools.keeper import signal_all
from tools.processes import Program, StartFailedError, free_ports, new_mark, tail


class SandboxProgram:
    """The sandbox; :meth:`start` and :meth:`stop` it.

    :param root: the folder of its state.
    :param servers: how many virtual servers its account has.
    :param seed: decides its world.
    :param speed: how many times faster than in earnest transactions go.
    :param switches: its switches.
    """

    def __init__(self, *, root: Path, servers: int, seed: int, speed: float, switches: Mapping[str, Any]) -> None:
        """Choose its addresses; nothing is started yet."""
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
        """Start it, and wait until it serves.

        :param seconds: how long to wait.
        :raises StartFailedError: if it does not serve by then, with the end of its log.
        """
        env = {name: value for name, value in os.environ.items() if not name.startswith(("SEALIFT_", "PYTHON"))}
        program = Program(self._command, env=env, mark=self.mark, log=self.log, cwd=Path("/"))
        self._program = program
        deadline = time.monotonic() + seconds
        while not self._serves():
            if program.ended() or time.monotonic() > deadline:
                raise StartFailedError(f"The sandbox does not serve. {self.log} ends with:\n{tail(self.log)}")
            time.sleep(0.1)

    def _serves(self) -> bool:
        try:
            return bool(self.admin("GET", "state"))
        except httpx.TransportError:
            return False

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
        """Ask its own endpoint, which no client of Classic or COS knows.

        :param method: the HTTP method.
        :param path: below ``/sandbox/``.
        :param body: the JSON to send.
        :returns: the decoded reply.
        """
        reply = httpx.request(method, f"{self.api_url}/sandbox/{path}", json=body, trust_env=False, timeout=60)
        return reply.raise_for_status().json()
