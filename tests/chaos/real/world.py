"""One world of real processes: the sandbox, Airflow, and a proxy on every way between them."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

from tests.chaos.evidence import StoreView, open_store
from tests.chaos.faults import CallInfo, Fault, FaultPlan, Injected
from tests.chaos.proxy import FaultProxy
from tests.chaos.real.metadata import Metadata, TaskTry
from tests.chaos.real.points import Watch
from tests.chaos.real.programs import Standalone
from tools.airflow_rest import AirflowRest
from tools.cluster import Cluster
from tools.processes import free_ports, running
from tools.sandbox_program import SandboxProgram

Engine = Literal["postgresql", "workers", "sqlite"]

PROJECT = Path(__file__).resolve().parents[3]
DAGS = ("plan_exports", "export_servers")
UNCAPPED = 500
BUCKET = "sealift-exports"
DEMO_SERVERS = 6

# Minutes become seconds: what Airflow notices late in earnest, it notices soon here. Not too soon: a scheduler that is
# taken for dead while it only lacks the processor has all of its tasks reset again and again from then on.
HASTY = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    # A whole API server may be away for as long as it takes to start.
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "20",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "12",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MIN": "0.5",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    "AIRFLOW__SEALIFT__POLL_INTERVAL": "1",
    "AIRFLOW__SEALIFT__RETRIES": "8",
    "AIRFLOW__SEALIFT__RETRY_DELAY": "1",
    "AIRFLOW__SEALIFT__MAX_OFFLINE": str(UNCAPPED),
}
# From the moment that a scenario expects something until it gives up: a machine with other loads is slow.
PATIENCE = 300.0
# Seconds that a client waits for a reply; a quarter of the grace period at the most.
TIMEOUT = 5.0
GRACE_MINUTES = 4 * TIMEOUT / 60


class AimedPlan(FaultPlan):
    """A fault plan that also injects one fault into one request: that at whose point somebody asks for it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._aimed = threading.local()

    def aim(self, name: str) -> None:
        """Let the request meet a fault that stands at the point ``arrived`` in this thread.

        :param name: the fault.
        """
        self._aimed.name = name

    def decide(self, call: CallInfo) -> Fault | None:
        """Decide what a request meets: what was aimed at it, else what the plan says."""
        name = self._aimed.__dict__.pop("name", None)
        if name is None:
            return super().decide(call)
        self.injected.append(Injected(fault=name, call=call))
        return Fault(name=name)


class World:
    """The running programs; a context manager.

    :param root: the folder for everything that they write.
    :param seed: decides the sandbox's world and the faults.
    :param engine: what holds Airflow's metadata; SQLite goes with ``airflow standalone``. ``workers`` is PostgreSQL,
        where workers start captures and exports, as they do with SQLite here; otherwise triggerers do.
    :param servers: how many virtual servers there are for scenarios.
    :param speed: how many times faster than in earnest transactions go.
    """

    airflow: Cluster | Standalone
    metadata: Metadata

    def __init__(
        self, *, root: Path, seed: int, engine: Engine = "postgresql", servers: int = 200, speed: float = 60.0
    ) -> None:
        self.root = root
        self.engine = engine
        self.plan = AimedPlan(seed=seed)
        self.sandbox = SandboxProgram(
            root=root / "sandbox",
            servers=servers + DEMO_SERVERS,
            seed=seed,
            speed=speed,
            switches={"requests_per_second": 0},
        )
        self._away: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.kills: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._free = iter(())
        self._guests = threading.Lock()
        self.caps: list[tuple[float, int]] = [(0.0, UNCAPPED)]
        """From when on how many servers may be offline; scenarios that set a cap of their own play alone."""
        self._reading = threading.Lock()
        self._read = 0
        self._events: list[dict[str, Any]] = []
        self._stack = ExitStack()

    # Life

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.watch = Watch(among=self.processes, try_of=self._try_of)
        (port,) = free_ports(1)
        upstreams = {
            "classic": self.sandbox.api_url,
            "iam": self.sandbox.api_url,
            "cos": self.sandbox.cos_url,
            "airflow": f"http://127.0.0.1:{port}",
        }
        self.proxies = {
            service: self._stack.enter_context(
                FaultProxy(upstream=upstream, service=service, plan=self.plan, on_point=self.watch.on_point)
            )
            for service, upstream in upstreams.items()
        }
        settings = {**HASTY, "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.proxies['airflow'].url}/execution/"}
        settings["AIRFLOW__SEALIFT__START_IN_TRIGGERER"] = str(self.engine == "postgresql")
        arguments: dict[str, Any] = {
            "home": self.root / "airflow",
            "dags_folder": self._dags(),
            "project_root": PROJECT,
            "settings": settings,
            "port": port,
        }
        self.airflow = Standalone(**arguments) if self.engine == "sqlite" else Cluster(pace="quick", **arguments)
        self._stack.callback(self.airflow.stop)
        self._stack.callback(self.sandbox.stop)
        self.airflow.start()
        self.sandbox.start()
        self.airflow.wait_until_ready(dags=DAGS)
        self.metadata = Metadata(self.airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        self._stack.callback(self.metadata.close)
        self._add_connections()
        self._free = iter(self._exportable())

    def _dags(self) -> Path:
        """The DAGs as they are, but for how many runs of a plan may be active: so many scenarios can play at once."""
        folder = self.root / "dags"
        folder.mkdir(parents=True)
        for file in (PROJECT / "dags").glob("*.py"):
            text = file.read_text()
            if file.stem == "plan_exports":
                text = _changed(text, "max_active_runs=4,", "max_active_runs=16,")
            (folder / file.name).write_text(text)
        return folder

    def _try_of(self, ti_id: UUID) -> TaskTry | None:
        return self.metadata.try_of(ti_id)

    def _add_connections(self) -> None:
        """Write connections that lead through the proxies. What the export writes with is a key of its own."""
        found = self.sandbox.admin("GET", "connections")
        classic, cos = found["ibm_classic_default"], found["ibm_cos_default"]
        classic["host"] = self.proxies["classic"].url
        classic["extra"] |= {"timeout": TIMEOUT, "requests_per_second": 40}
        cos["host"] = self.proxies["cos"].url
        cos["extra"] |= {"timeout": TIMEOUT, "iam_endpoint": f"{self.proxies['iam'].url}/identity/token"}
        self.secrets = {"the Classic API's key": classic["password"], "the store's key": cos["password"]}
        for connection_id, fields in found.items():
            self.airflow.add_connection(connection_id, **fields)

    # The account

    def _exportable(self) -> list[int]:
        """Servers with one disk that nothing hinders; the demo's six are left alone."""
        with closing(sqlite3.connect(f"file:{self.sandbox.root / 'world.sqlite'}?mode=ro", uri=True)) as world:
            guests = [json.loads(row[0]) for row in world.execute("SELECT doc FROM docs WHERE kind = 'guest'")]
        return [
            guest["id"]
            for guest in sorted(guests, key=lambda one: int(one["_n"]))
            if guest["_n"] >= DEMO_SERVERS
            and guest["_status"] == "ACTIVE"
            and not guest["_software"]
            and len(guest["_disks"]) == 1
        ]

    def take_guests(self, count: int) -> list[int]:
        """Give servers that no other scenario gets."""
        with self._guests:
            return [next(self._free) for _ in range(count)]

    def new_prefix(self) -> str:
        """Give a prefix that no other scenario gets."""
        return f"chaos-{next(self._numbers):03d}"

    def history(self) -> list[dict[str, Any]]:
        """Give what the sandbox recorded so far, over all of its starts."""
        with self._reading:
            with (self.sandbox.root / "history.jsonl").open("rb") as log:
                log.seek(self._read)
                fresh = log.read()
            whole = fresh.rpartition(b"\n")[0]
            if whole:
                self._read += len(whole) + 1
                self._events += [json.loads(line) for line in whole.split(b"\n")]
            return list(self._events)

    @property
    def store(self) -> StoreView:
        """The buckets."""
        return open_store(self.sandbox.root)

    def texts(self) -> dict[str, str]:
        """Read all that people may see: logs, and what the tasks left in the metadata database."""
        logs = [*(self.root / "airflow" / "logs").rglob("*.log"), *(self.root / "airflow").rglob("cluster/*.log")]
        found = {str(log.relative_to(self.root)): log.read_text(errors="replace") for log in logs}
        return found | self.metadata.texts()

    # The programs

    @property
    def api(self) -> AirflowRest:
        """Airflow's REST API."""
        return self.airflow.api

    def processes(self) -> list[int]:
        """Find all processes of Airflow."""
        return [pid for name in self.airflow.names for pid in self.airflow.processes(name)]

    def running(self) -> list[int]:
        """Tell which processes of this world are running."""
        return [*self.airflow.running(), *running(self.sandbox.mark)]

    def take_away(self, *names: str, descendants_too: bool = True, unless: Callable[[], bool] = lambda: False) -> bool:
        """Kill programs that all scenarios share. Who did brings them back; until then nobody else kills them.

        :param names: names of Airflow's programs, or ``sandbox``.
        :param descendants_too: whether their workers are killed with them.
        :param unless: asked when the programs are there to be killed; says that it is too late now.
        :returns: whether it was done.
        """
        if not self._claim(names, unless):
            return False
        for name in names:
            self.kills[name.rstrip("-0123456789")] += 1
            if name == "sandbox":
                self.sandbox.kill()
            else:
                self.airflow.kill(name, descendants_too=descendants_too)
        return True

    def hold(self, name: str, *, unless: Callable[[], bool] = lambda: False) -> bool:
        """Hold a program that all scenarios share, by SIGSTOP, until :meth:`go_on`; as :meth:`take_away` otherwise."""
        if not self._claim((name,), unless):
            return False
        assert isinstance(self.airflow, Cluster)
        self.airflow.hold(name)
        return True

    def go_on(self, *names: str) -> None:
        """Let programs go on that are held."""
        for name in names:
            assert isinstance(self.airflow, Cluster)
            self.airflow.go_on(name)
            self._away[name].release()

    def _claim(self, names: Sequence[str], unless: Callable[[], bool]) -> bool:
        """Have programs for oneself, in one order for all."""
        for name in sorted(names):
            if not self._away[name].acquire(timeout=PATIENCE):
                raise TimeoutError(f"{name} has been away for {PATIENCE:.0f} s")
        if unless():
            for name in names:
                self._away[name].release()
            return False
        return True

    def bring_back(self, *names: str) -> None:
        """Start programs again that were killed, and wait until they do their work."""
        for name in names:
            if name == "sandbox":
                self.sandbox.start()
            else:
                self.airflow.start(name)
        for name in names:
            if name != "sandbox":
                self.airflow.wait_until_lives(name, seconds=PATIENCE)
            self._away[name].release()

    def has_job(self, name: str, job: int | None) -> bool:
        """Tell whether one of Airflow's programs has a job."""
        return job is not None and isinstance(self.airflow, Cluster) and self.airflow.job(name) == job

    def name_of_job(self, job: int | None) -> str:
        """Say which of Airflow's programs has a job."""
        assert isinstance(self.airflow, Cluster)
        jobs = {self.airflow.job(name): name for name in self.airflow.names}
        assert job in jobs, f"job {job} is none of {jobs}"
        return jobs[job]


def _changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times there"
    return text.replace(old, new)
