"""Airflow's standalone, for scenarios that play on SQLite."""

from __future__ import annotations

import signal
from typing import Any

from tools.keeper import descendants, signal_all
from tools.local_airflow import LocalAirflow
from tools.processes import running


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
