"""Airflow as separate programs on this machine, each of which can be killed, held and started again by its name.

PostgreSQL holds the metadata; an API server, a DAG processor, any number of schedulers and of triggerers run beside it,
over loopback, with a log for each. Tasks run in the schedulers (LocalExecutor), or in Celery's workers with a Redis in
between. Nothing outlives :meth:`Cluster.stop`, nor the process that made the cluster unless :meth:`Cluster.let_go` is
called.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from tools.airflow_rest import AirflowError, AirflowRest
from tools.cluster_parts import HOST, MODULE, Apart, Place, Together, log_server
from tools.keeper import ancestors, signal_all
from tools.local_airflow import QUICK, LocalAirflow
from tools.postgres import PostgresServer
from tools.processes import Program, StartFailedError, running, tail
from tools.redis import RedisServer
from tools.settings_files import shipped

Database = Literal["postgresql", "sqlite"]
Executor = Literal["local", "celery"]
Pace = Literal["shipped", "quick"]

API_SERVER = "api-server"
DAG_PROCESSOR = "dag-processor"
# What each kind of program calls its job in the metadata, by which it is seen to live.
JOBS = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob", DAG_PROCESSOR: "DagProcessorJob"}
_NUMBERED = re.compile(r"-\d+$")
# The clocks of Airflow's parts are this machine's, but a job's begin is stored a little before or after the program's.
_SLACK = timedelta(seconds=1)


@dataclass
class _Part:
    """One program of the cluster, and those of its name that were killed and left something behind."""

    command: list[str]
    log: Path
    place: Place
    program: Program | None = None
    started_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    former: list[Program] = field(default_factory=list)
    job: int | None = None
    log_server: Program | None = None

    def programs(self) -> list[Program]:
        return [*self.former, *(one for one in (self.program, self.log_server) if one)]

    def running(self) -> bool:
        return self.program is not None and not self.program.ended()


class Cluster:
    """One Airflow of many programs; a context manager that starts and stops it.

    Its programs are named ``api-server``, ``dag-processor``, ``scheduler-0`` …, ``triggerer-0`` …, ``worker-0`` ….

    :param home: its AIRFLOW_HOME; made if it is not there.
    :param project_root: the folder with ``dags/``, ``plugins/`` and ``include/``.
    :param schedulers: how many schedulers; SQLite bears one.
    :param triggerers: how many triggerers.
    :param database: what holds the metadata.
    :param executor: where tasks run: in the schedulers, or in Celery's workers.
    :param workers: how many Celery workers.
    :param worker_concurrency: how many tasks each of them runs at once; the settings' figure if not given.
    :param apart: whether each program has folders of its own, as on a machine of its own: AIRFLOW_HOME with DAGs (only
        where tasks run or DAGs are read), plugins, code and logs, and a temporary folder. With Celery unless said
        otherwise.
    :param serve_logs: whether the API server can show the logs of tasks where the programs are apart: a server on
        loopback beside each program that writes some.
    :param pace: which settings it starts from: what Sealift ships for the engine (``deploy/settings/``), or what makes
        a small machine quick.
    :param settings: more settings, as environment variables (``AIRFLOW__SECTION__KEY``); they win over all others.
    :param port: the API server's port, or 0 for a free one.
    :param dags_folder: another folder of DAGs than the project's.
    :raises ValueError: if SQLite is to serve several schedulers, or Celery's workers.
    """

    def __init__(
        self,
        *,
        home: Path,
        project_root: Path,
        schedulers: int = 2,
        triggerers: int = 2,
        database: Database = "postgresql",
        executor: Executor = "local",
        workers: int = 2,
        worker_concurrency: int | None = None,
        apart: bool | None = None,
        serve_logs: bool = False,
        pace: Pace = "shipped",
        settings: Mapping[str, str] | None = None,
        port: int = 0,
        dags_folder: Path | None = None,
    ) -> None:
        """Choose ports and secrets; nothing is started yet."""
        if database == "sqlite" and schedulers > 1:
            raise ValueError("SQLite orders nothing between two schedulers: give one, or PostgreSQL.")
        if database == "sqlite" and executor == "celery":
            raise ValueError("Celery's workers cannot share an SQLite file: give PostgreSQL.")
        self.executor = executor
        base = shipped(engine="celery" if executor == "celery" else database) if pace == "shipped" else QUICK
        if worker_concurrency is not None:
            base = {**base, "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(worker_concurrency)}
        self._airflow = LocalAirflow(
            home=home,
            project_root=project_root,
            pace=base,
            settings={"AIRFLOW__CORE__EXECUTOR": f"{executor.title()}Executor", **(settings or {})},
            port=port,
            dags_folder=dags_folder,
        )
        self.home = self._airflow.home
        self.mark = self._airflow.mark
        self.url = self._airflow.url
        self.api: AirflowRest = self._airflow.api
        self.env = self._airflow.env
        self.logs = self.home / "cluster"
        self.postgres: PostgresServer | None = None
        if database == "postgresql":
            self.postgres = PostgresServer(log=self.logs / "postgres.log", mark=self.mark)
        self.redis: RedisServer | None = None
        if executor == "celery":
            self.redis = RedisServer(log=self.logs / "redis.log", mark=self.mark)
        self.apart = executor == "celery" if apart is None else apart
        self._places: Apart | Together = Together()
        if self.apart:
            self._places = Apart(
                home=self.home,
                project_root=self._airflow.project_root,
                dags=Path(self.env["AIRFLOW__CORE__DAGS_FOLDER"]),
                with_dags={DAG_PROCESSOR, "worker" if executor == "celery" else "scheduler"},
            )
        self.serve_logs = serve_logs and self.apart
        self._migrated = False
        self._parts = {
            name: self._part(name)
            for name in (
                API_SERVER,
                DAG_PROCESSOR,
                *(f"scheduler-{n}" for n in range(schedulers)),
                *(f"triggerer-{n}" for n in range(triggerers)),
                *(f"worker-{n}" for n in range(workers if executor == "celery" else 0)),
            )
        }
        hosts = {part.place.host for part in self._parts.values() if self.apart}
        self.env["NO_PROXY"] = self.env["no_proxy"] = ",".join(("127.0.0.1", "localhost", *sorted(hosts)))

    def _part(self, name: str) -> _Part:
        kind = _NUMBERED.sub("", name)
        # Airflow's own servers of logs listen on every address of the machine, and cannot be told not to.
        options = ["--skip-serve-logs"] if kind in {"scheduler", "triggerer", "worker"} else []
        command = [kind, *options]
        if kind == "worker":
            command = ["celery", *command, "--celery-hostname", name, "--pid", str(self._pid_file(name))]
        return _Part(command=command, log=self.logs / f"{name}.log", place=self._places.place(name, kind))

    def _pid_file(self, name: str) -> Path:
        return self.logs / f"{name}.pid"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its programs, without PostgreSQL and Redis."""
        return tuple(self._parts)

    def named(self, kind: str) -> tuple[str, ...]:
        """Give the names of all programs of a kind.

        :param kind: as ``scheduler``.
        """
        return tuple(name for name in self._parts if _NUMBERED.sub("", name) == kind)

    # Starting

    def start(self, *names: str) -> None:
        """Start programs without waiting until they are ready; the first time with the database before them.

        :param names: which ones; all of them if none is named.
        :raises StartFailedError: if the database does not come up, or one of them runs already.
        """
        if not self._migrated:
            self._prepare_database()
        for name in names or self.names:
            part = self._parts[name]
            if part.running():
                raise StartFailedError(f"{name} runs already.")
            self._put_aside(part)
            part.started_at, part.job = datetime.now(UTC), None
            part.place.make()
            self._pid_file(name).unlink(missing_ok=True)
            env = {**self.env, HOST: part.place.host, **part.place.env}
            cwd = part.place.folder or self._airflow.project_root
            part.program = Program(
                [_airflow(), *part.command], env=env, mark=self.mark, log=part.log, cwd=cwd, stays=True
            )
            if self.serve_logs and _NUMBERED.sub("", name) in self._log_ports:
                port = self.env[self._log_ports[_NUMBERED.sub("", name)]]
                part.log_server = Program(
                    log_server(host=part.place.host, port=port),
                    env=env,
                    mark=self.mark,
                    log=self.logs / f"{name}.log-server.log",
                    cwd=cwd,
                    stays=True,
                )

    @property
    def _log_ports(self) -> dict[str, str]:
        """Which kinds of program write logs of tasks, and by which setting the API server knows the port."""
        tasks = "worker" if self.executor == "celery" else "scheduler"
        return {
            tasks: "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT",
            "triggerer": "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT",
        }

    def _prepare_database(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._places.prepare(self.home)
        self.env["AIRFLOW__CORE__HOSTNAME_CALLABLE"] = f"{MODULE}.name"
        if self.postgres is not None:
            self.postgres.start()
            self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self.postgres.url()
        if self.redis is not None and self.postgres is not None:
            self.redis.start()
            self.env["AIRFLOW__CELERY__BROKER_URL"] = self.redis.url()
            self.env["AIRFLOW__CELERY__RESULT_BACKEND"] = f"db+{self.postgres.url()}"
        log = self.logs / "migrate.log"
        with log.open("ab") as output:
            done = subprocess.run(
                [_airflow(), "db", "migrate"],
                env=self.env,
                cwd=self._airflow.project_root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise StartFailedError(f"The metadata database could not be made. {log} ends with:\n{tail(log)}")
        self._migrated = True

    def wait_until_ready(self, *, dags: Collection[str] = (), seconds: float = 180.0) -> None:
        """Wait until every program that was started lives and these DAGs can be triggered.

        :param dags: ids of DAGs.
        :param seconds: how long to wait.
        :raises StartFailedError: if one ends or is not ready by then, with the end of its log or the import errors.
        """
        deadline = time.monotonic() + seconds
        for name, part in self._parts.items():
            if part.program is not None:
                self.wait_until_lives(name, seconds=deadline - time.monotonic())
        if dags:
            self._until(lambda: self._airflow.parsed(dags), DAG_PROCESSOR, deadline, f"DAGs are missing: {dags}")

    def wait_until_lives(self, name: str, *, seconds: float = 60.0) -> None:
        """Wait until a program that was started does its work.

        The API server answers, a Celery worker answers a ping over Redis, another has begun its job.

        :param name: the program.
        :param seconds: how long to wait.
        :raises StartFailedError: if it ends or does not by then, with the end of its log.
        """
        deadline = time.monotonic() + seconds
        if name == API_SERVER:
            self._until(self._answers, name, deadline, "it does not answer")
        elif name.startswith("worker-"):
            self._until(lambda: self._answers_ping(name), name, deadline, "it answers no ping")
        else:
            self._until(lambda: self._has_job(name), name, deadline, "it has no job")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v2/version", trust_env=False, timeout=10).is_success
        except httpx.TransportError:
            return False

    def _answers_ping(self, name: str) -> bool:
        """Ask a Celery worker over Redis; a process of its pool that outlived it does not answer."""
        from celery import Celery

        assert self.redis is not None
        with Celery(broker=self.redis.url(), set_as_current=False) as app:
            return bool(app.control.inspect(destination=[f"celery@{name}"], timeout=2.0).ping())

    def _has_job(self, name: str) -> bool:
        """Find a job of this name that began since the program did."""
        part = self._parts[name]
        params = {
            "job_type": JOBS[_NUMBERED.sub("", name)],
            "job_state": "running",
            "hostname": part.place.host,
            "order_by": "-id",
            "limit": 1,
        }
        try:
            jobs = self.api.request("GET", "jobs", params=params)["jobs"]
        except (AirflowError, httpx.HTTPError):
            return False  # the API server may be away itself
        if not jobs or datetime.fromisoformat(jobs[0]["start_date"]) < part.started_at - _SLACK:
            return False
        part.job = jobs[0]["id"]
        return True

    def _until(self, condition: Callable[[], bool], name: str, deadline: float, trouble: str) -> None:
        part = self._parts[name]
        while not condition():
            if not part.running():
                trouble = "it ended by itself"
            elif time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            raise StartFailedError(f"{name} did not come up: {trouble}. {part.log} ends with:\n{tail(part.log)}")

    def add_connection(self, connection_id: str, conn_type: str, *, extra: Mapping[str, Any], **fields: Any) -> None:
        """Write a connection into the metadata database; see :meth:`tools.local_airflow.LocalAirflow.add_connection`.

        :param connection_id: its id.
        :param conn_type: its type.
        :param extra: its extra fields.
        :param fields: ``host``, ``login``, ``password``.
        """
        self._airflow.add_connection(connection_id, conn_type, extra=extra, **fields)

    # Harm

    def pid(self, name: str) -> int:
        """Give a program's process id.

        :param name: the program.
        :raises StartFailedError: if it was not started.
        """
        program = self._parts[name].program
        if program is None:
            raise StartFailedError(f"{name} was not started.")
        return program.pid

    def job(self, name: str) -> int | None:
        """Tell which job a program has in the metadata, if it was waited for since it was started.

        :param name: the program.
        :returns: the job's id, or None.
        """
        return self._parts[name].job

    def host(self, name: str) -> str:
        """Give the host name that a program goes by in Airflow."""
        return self._parts[name].place.host

    def folders(self, name: str) -> tuple[Path, ...]:
        """Give what a program writes to and shares with no other.

        :param name: the program.
        :returns: its AIRFLOW_HOME and its temporary folder; nothing if the programs share everything.
        """
        place = self._parts[name].place
        return (place.folder, Path(place.env["TMPDIR"])) if place.folder else ()

    def log(self, name: str) -> Path:
        """Give the file that a program writes its log to."""
        return self._parts[name].log

    def task_logs(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Read all logs of a task from the folders of all programs, whichever wrote them.

        :param dag_id: its DAG.
        :param run_id: the run.
        :param task_id: the task.
        :returns: the logs of all tries and map indices, one after the other.
        """
        folders = {Path(part.place.env.get("AIRFLOW_HOME", self.home)) / "logs" for part in self._parts.values()}
        inner = f"dag_id={dag_id}/run_id={run_id}/task_id={task_id}"
        files = sorted(file for folder in folders for file in (folder / inner).rglob("attempt=*") if file.is_file())
        return "\n".join(file.read_text(errors="replace") for file in files)

    def lives(self, name: str) -> bool:
        """Tell whether a program runs; one that is held counts."""
        return self._parts[name].running()

    def processes(self, name: str) -> list[int]:
        """Find what runs of a program and of all that it ever started, also of those of its name that were killed.

        :param name: the program.
        :returns: process ids, without the keepers'.
        """
        return [pid for program in self._parts[name].programs() for pid in program.left()]

    def owner(self, pid: int) -> str | None:
        """Tell which program a process belongs to.

        :param pid: the process.
        :returns: the program's name, or None.
        """
        keepers = {program.keeper: name for name, part in self._parts.items() for program in part.programs()}
        return next((keepers[one] for one in ancestors(pid) if one in keepers), None)

    def kill(self, name: str, *, descendants_too: bool = True) -> None:
        """Kill a program by SIGKILL.

        :param name: the program.
        :param descendants_too: whether all that it started is killed with it, as a machine that breaks down would.
            Otherwise that lives on, as when only the one process is killed, until :meth:`kill` or :meth:`stop`.
        """
        part = self._parts[name]
        if not descendants_too:
            signal_all([self.pid(name)], signal.SIGKILL)
            self._wait_gone(part)
            return
        while left := self.processes(name):  # what is killed may have started others just before
            signal_all(left, signal.SIGKILL)
            time.sleep(0.02)
        self._put_aside(part)

    def hold(self, name: str) -> None:
        """Hold a program and all that it started, by SIGSTOP."""
        signal_all(self.processes(name), signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """Let a program go on that is held."""
        signal_all(self.processes(name), signal.SIGCONT)

    def _wait_gone(self, part: _Part, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while part.running():
            if time.monotonic() > deadline:
                raise StartFailedError(f"{part.command[0]} was killed and does not end.")
            time.sleep(0.02)

    def _put_aside(self, part: _Part) -> None:
        """Keep hold of what a killed program left, and let go of those that left nothing."""
        part.former = part.programs()
        part.program = part.log_server = None
        for program in list(part.former):
            if not program.left():
                program.stop()
                part.former.remove(program)

    # Ending

    def running(self) -> list[int]:
        """Tell which of its processes are running, those of PostgreSQL and Redis included."""
        return running(self.mark)

    @property
    def temporary(self) -> list[Path]:
        """Folders outside of its home that go when it stops; whoever stops it in its place has to remove them."""
        folders = (
            self.postgres.data.parent if self.postgres else None,
            self.redis.folder if self.redis else None,
            self._places.temporary,
        )
        return [folder for folder in folders if folder]

    def let_go(self) -> None:
        """Leave it running when this process ends."""
        for server in (self.postgres, self.redis):
            if server is not None:
                server.let_go()
        for part in self._parts.values():
            for program in part.programs():
                program.let_go()

    def stop(self) -> None:
        """End all of its processes, remove PostgreSQL and Redis, and make sure that nothing is left."""
        programs = [program for part in self._parts.values() for program in part.programs()]
        for part in self._parts.values():
            signal_all([pid for program in part.programs() for pid in program.left()], signal.SIGCONT)
        if programs:
            with ThreadPoolExecutor(max_workers=len(programs)) as pool:
                list(pool.map(Program.stop, programs))
        for part in self._parts.values():
            part.program, part.log_server, part.former = None, None, []
        if self.redis is not None:
            self.redis.remove()
        if self.postgres is not None:
            self.postgres.remove()
            self._migrated = False
        self._places.remove()

    def __enter__(self) -> Self:
        """Start everything."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, whatever happened."""
        self.stop()
        self.api.close()


def _airflow() -> Path:
    return Path(sys.executable).with_name("airflow")
