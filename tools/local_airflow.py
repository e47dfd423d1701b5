"""A real Airflow on this machine: ``airflow standalone`` over SQLite, in a home of its own, for the demo and the tests.

Nothing of the person's own Airflow is read or changed: settings with the prefix AIRFLOW are taken out of the
environment, and everything that it writes is under its home.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.airflow_rest import AirflowRest
from tools.processes import Program, StartFailedError, free_ports, new_mark, running, tail

COMPONENTS = ("scheduler", "triggerer", "dag_processor")
# What a laptop with two cores needs to be quick; none of it changes what is right.
QUICK = {
    "AIRFLOW__CORE__PARALLELISM": "4",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
}


class LocalAirflow:
    """One Airflow; a context manager that starts and stops it.

    :param home: its AIRFLOW_HOME; made if it is not there. What is there from a former start is used again.
    :param project_root: the folder with ``dags/``, ``plugins/`` and ``include/``.
    :param settings: more settings, as environment variables (``AIRFLOW__SECTION__KEY``); they win over the defaults.
    :param pace: the settings to start from, in the place of those for a small machine.
    :param port: the API server's port, or 0 for a free one.
    :param dags_folder: another folder of DAGs than the project's.
    :param mark: the mark of its processes, where others are to share it.
    """

    def __init__(
        self,
        *,
        home: Path,
        project_root: Path,
        settings: Mapping[str, str] | None = None,
        pace: Mapping[str, str] | None = None,
        port: int = 0,
        dags_folder: Path | None = None,
        mark: str = "",
    ) -> None:
        """Choose ports and secrets; nothing is started yet."""
        self.home = home.resolve()
        self.project_root = project_root.resolve()
        self.log = self.home / "standalone.log"
        api, worker_logs, trigger_logs = free_ports(3)
        self.port = port or api
        self.url = f"http://127.0.0.1:{self.port}"
        self.mark = mark or new_mark()
        self._program: Program | None = None
        self.api = AirflowRest(base_url=self.url)
        self.env = self._environment(
            QUICK if pace is None else pace, dags_folder or self.project_root / "dags", worker_logs, trigger_logs
        )
        self.env.update(settings or {})

    def _environment(
        self, pace: Mapping[str, str], dags_folder: Path, worker_logs: int, trigger_logs: int
    ) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "_AIRFLOW", "SEALIFT_", "PYTHON"))
        }
        return {
            **kept,
            **pace,
            # standalone starts its parts by the name "airflow"
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), kept.get("PATH", os.defpath))),
            # The second folder holds the settings file that Airflow imports as it starts.
            "PYTHONPATH": os.pathsep.join(str(self.project_root / one) for one in ("include", "deploy/airflow")),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.project_root / "plugins"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            **self._secrets(),
        }

    def _secrets(self) -> dict[str, str]:
        """Make this Airflow's own keys, and keep them beside its database, which needs the same ones again."""
        path = self.home / "keys.json"
        if not path.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            keys = {
                "AIRFLOW__CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
                "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
            }
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
                json.dump(keys, handle)
        loaded: dict[str, str] = json.loads(path.read_text())
        return loaded

    def start(self) -> None:
        """Start it, without waiting until it is ready. It ends with this process, unless :meth:`let_go` is called."""
        self.home.mkdir(parents=True, exist_ok=True)
        airflow = Path(sys.executable).with_name("airflow")
        self._program = Program(
            [airflow, "standalone"], env=self.env, mark=self.mark, log=self.log, cwd=self.project_root
        )

    def wait_until_ready(self, *, dags: Collection[str] = (), seconds: float = 120.0) -> None:
        """Wait until every component is healthy and these DAGs can be triggered.

        :param dags: ids of DAGs.
        :param seconds: how long to wait.
        :raises StartFailedError: if it ends or is not ready by then, with the end of its log or the import errors.
        """
        deadline = time.monotonic() + seconds
        self._until(lambda: self.api.healthy(*COMPONENTS), deadline, "its components are not healthy")
        if dags:
            self._until(lambda: self.parsed(dags), deadline, f"not all of its DAGs are there: {', '.join(dags)}")

    def parsed(self, dags: Collection[str]) -> bool:
        """Tell whether these DAGs can be triggered.

        :param dags: ids of DAGs.
        :raises StartFailedError: if DAG files cannot be imported, with the errors.
        """
        if set(dags) <= self.api.dags().keys():
            return True
        errors = [f"{each['filename']}:\n{each['stack_trace']}" for each in self.api.import_errors()]
        if errors:
            raise StartFailedError("Airflow cannot import DAG files.\n" + "\n".join(errors))
        return False

    def _until(self, condition: Callable[[], bool], deadline: float, trouble: str) -> None:
        while not condition():
            if self._program is not None and self._program.ended():
                trouble = "it ended by itself"
            elif time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            raise StartFailedError(f"Airflow did not come up: {trouble}. {self.log} ends with:\n{tail(self.log)}")

    def add_connection(self, connection_id: str, conn_type: str, *, extra: Mapping[str, Any], **fields: Any) -> None:
        """Write a connection into the metadata database, through the API: secrets touch neither argv nor a file.

        :param connection_id: its id.
        :param conn_type: its type.
        :param extra: its extra fields.
        :param fields: ``host``, ``login``, ``password``.
        """
        self.api.add_connection(_connection(connection_id, conn_type, extra, fields))

    def test_connection(
        self, connection_id: str, conn_type: str, *, extra: Mapping[str, Any], **fields: Any
    ) -> dict[str, Any]:
        """Do what the Test button of a connection's form does.

        :returns: ``status`` and ``message``.
        """
        body = _connection(connection_id, conn_type, extra, fields)
        reply: dict[str, Any] = self.api.request("POST", "connections/test", json=body)
        return reply

    def running(self) -> list[int]:
        """Tell which of its processes are running."""
        return running(self.mark)

    def stop(self) -> None:
        """End all of its processes and make sure that none is left."""
        if self._program is not None:
            self._program.stop()

    def let_go(self) -> None:
        """Leave it running when this process ends."""
        if self._program is not None:
            self._program.let_go()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, whatever happened."""
        self.stop()
        self.api.close()


def _connection(
    connection_id: str, conn_type: str, extra: Mapping[str, Any], fields: Mapping[str, Any]
) -> dict[str, Any]:
    return {"connection_id": connection_id, "conn_type": conn_type, "extra": json.dumps(extra), **fields}
