"""What a benchmark runs against: the sandbox in a process of its own, and an Airflow of many programs beside it."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from benchmarks.measuring.calls import Tail
from benchmarks.measuring.metadata import MetadataDatabase
from benchmarks.measuring.meter import CallMeter
from benchmarks.measuring.processes import SANDBOX, Kept, kept
from tools.cluster import Cluster, Pace
from tools.sandbox_program import SandboxProgram

PROJECT = Path(__file__).resolve().parents[1]
DAGS = PROJECT / "dags"
BUCKET, REGION = "sealift-exports", "us-south"
PLAN, WAVE = "plan_exports", "export_servers"
# The tasks of one server that are relied on here; how many there are beside them may change.
CAPTURE, WAIT_FOR_TEMPLATE, WAIT_FOR_EXPORT = "export.capture", "export.wait_for_template", "export.wait_for_export"
DEMO_SERVERS = 6
_CONNECTION = "AIRFLOW_CONN_IBM_CLASSIC_DEFAULT"

Engine = Literal["sqlite", "postgresql"]


def say(text: str) -> None:
    """Print a line of progress with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def interruptible() -> None:
    """Let SIGTERM and SIGHUP end a benchmark as Ctrl-C does: everything that was started is stopped."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


@dataclass(kw_only=True)
class World:
    """The running programs; a context manager.

    :param servers: how many servers are to be exported; the account has a few more, some of which cannot be.
    :param seconds: how long captures and exports take, give or take a tenth.
    :param settings: more settings of Airflow, as environment variables.
    :param dags_folder: the DAGs.
    :param airflow_too: whether an Airflow is started.
    :param celery_workers: how many workers run tasks; none of them means LocalExecutor.
    :param pace: which settings Airflow starts from: what Sealift ships, or what makes a small machine quick.
    :param switches: more switches of the sandbox.
    :param meter_triggerers: whether the triggerers' calls to the Classic API are counted apart, in ``meter``.
    :param keep: a folder that gets what the programs wrote, at the end.
    """

    servers: int
    seconds: float
    seed: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    dags_folder: Path = DAGS
    dags: tuple[str, ...] = (PLAN, WAVE)
    airflow_too: bool = True
    database: Engine = "postgresql"
    schedulers: int = 1
    triggerers: int = 1
    celery_workers: int = 0
    pace: Pace = "shipped"
    switches: Mapping[str, Any] = field(default_factory=dict)
    meter_triggerers: bool = False
    keep: Path | None = None

    def __enter__(self) -> Self:
        """Start everything."""
        self.root = Path(tempfile.mkdtemp(prefix="sealift-bench-"))
        self._airflow: Cluster | None = None
        self._stack = ExitStack()
        self.sandbox = SandboxProgram(
            root=self.root / "sandbox",
            servers=size_of_account(self.servers),
            seed=self.seed,
            speed=1.0,
            switches={
                "capture_seconds": self.seconds,
                "export_seconds": self.seconds,
                "children_seconds_min": min(5.0, self.seconds / 6),
                "children_seconds_max": min(30.0, self.seconds / 3),
                **self.switches,
            },
        )
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything and remove what it wrote, unless it is to be kept."""
        self._stop()

    def _start(self) -> None:
        self.sandbox.start(seconds=180)
        self.history = Tail(self.sandbox.root / "history.jsonl")
        self._told, self._happened = Tail(self.history.path), Counter[str]()
        self.guests, self._surplus = choose(self.sandbox.root / "world.sqlite", self.servers)
        if not self.airflow_too:
            return
        self._airflow = self._cluster()
        connections = self.sandbox.admin("GET", "connections")
        triggerers = self._airflow.named("triggerer")
        self._airflow.start(*(name for name in self._airflow.names if name not in triggerers))
        if self.meter_triggerers:
            self.meter = self._stack.enter_context(CallMeter(self.sandbox.api_url))
            # Airflow looks into the environment before it looks into the database.
            metered = {**connections["ibm_classic_default"], "host": self.meter.url}
            self._airflow.env[_CONNECTION] = json.dumps(metered)
        self._airflow.start(*triggerers)
        self._airflow.env.pop(_CONNECTION, None)
        self._airflow.wait_until_ready(dags=self.dags, seconds=600)
        for connection_id, fields in connections.items():
            self._airflow.add_connection(connection_id, **fields)
        self.metadata = MetadataDatabase(self._airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])

    def _cluster(self) -> Cluster:
        celery: dict[str, Any] = {}
        if self.celery_workers:
            celery = {"executor": "celery", "workers": self.celery_workers}
        return Cluster(
            **celery,
            pace=self.pace,
            home=self.root / "airflow",
            project_root=PROJECT,
            schedulers=self.schedulers,
            triggerers=self.triggerers,
            database=self.database,
            settings=self.settings,
            dags_folder=self.dags_folder,
        )

    def _stop(self) -> None:
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signal_number, signal.SIG_IGN)  # nothing may come between: all of it has to be stopped
        try:
            if hasattr(self, "metadata"):
                self.metadata.close()
            if self._airflow is not None:
                self._airflow.stop()
                self._airflow.api.close()
            self._stack.close()
            self.sandbox.stop()
            if self.keep is not None:
                left_out = shutil.ignore_patterns("images", "objects")
                shutil.copytree(self.root, self.keep, dirs_exist_ok=True, ignore=left_out)
            shutil.rmtree(self.root, ignore_errors=True)
        finally:
            interruptible()

    @property
    def airflow(self) -> Cluster:
        """The Airflow."""
        assert self._airflow is not None
        return self._airflow

    def programs(self) -> list[Kept]:
        """Find what is measured: Airflow's programs, its database, and the sandbox."""
        of_airflow = kept(self.airflow.mark) if self._airflow is not None else []
        return [*of_airflow, *kept(self.sandbox.mark, component=SANDBOX)]

    # The account

    def params(self, **more: Any) -> dict[str, Any]:
        """Make the parameters of plan_exports for all servers but the surplus."""
        return {"all": True, "exclude_ids": self._surplus, "bucket": BUCKET, "region": REGION, **more}

    def manifests(self) -> int:
        """Count the manifests in the bucket: servers that count as exported."""
        index = self.sandbox.root / "store" / "index.sqlite"
        with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as store:
            ((count,),) = store.execute(
                "SELECT count(*) FROM objects WHERE latest = 1 AND delete_marker = 0 AND CAST(key AS TEXT) GLOB ?",
                ("*/manifests/*",),
            )
        return int(count)

    def worker_processes(self) -> int:
        """Count the worker processes that have run a task so far, those included in which a deferred one went on.

        Each of them reports to the API server that it runs; nothing in the metadata counts those that went on.
        """
        with self.airflow.log("api-server").open(errors="replace") as log:
            return sum("method=PATCH" in line and "/run query=" in line and "status_code=200" in line for line in log)

    def effects(self) -> Iterator[dict[str, Any]]:
        """Read all that happened in the account and the bucket, from the beginning."""
        for event in Tail(self.history.path).events():
            if event["kind"] == "effect":
                yield event

    def wait_run(self, dag_id: str, run_id: str, *, seconds: float, every: float = 5.0) -> str:
        """Wait for the end of a run, with a line of progress each minute.

        :returns: the run's state.
        :raises TimeoutError: if it has not ended by then.
        """
        deadline, told = time.monotonic() + seconds, time.monotonic()
        while True:
            state = str(self.airflow.api.run(dag_id, run_id)["state"])
            if state in {"success", "failed"}:
                return state
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag_id} {run_id} is still {state} after {seconds:.0f} s")
            if time.monotonic() - told > 60:
                told = time.monotonic()
                say(f"  {self.progress()}")
            time.sleep(every)

    def wait_runs(self, dag_id: str, count: int, *, seconds: float, every: float = 1.0) -> None:
        """Wait until so many runs of a DAG have ended, with a line of progress each minute.

        :raises TimeoutError: if they have not ended by then.
        """
        deadline, told = time.monotonic() + seconds, time.monotonic()
        sql = "SELECT count(*) FROM dag_run WHERE dag_id = :dag AND state IN ('success', 'failed')"
        while (ended := int(self.metadata.rows(sql, dag=dag_id)[0][0])) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {ended} of {count} runs of {dag_id} have ended after {seconds:.0f} s")
            if time.monotonic() - told > 60:
                told = time.monotonic()
                say(f"  {self.progress()}")
            time.sleep(every)

    def progress(self) -> str:
        """Say how far the transactions are."""
        for event in self._told.events():
            if event["kind"] == "effect":
                self._happened[event["what"]] += 1
        done = self._happened
        return ", ".join(
            f"{done[f'{kind}-ended']} of {done[f'{kind}-started']} {kind}s that began have ended"
            for kind in ("capture", "export")
        )


def size_of_account(servers: int) -> int:
    """Say how many servers an account must have for so many to be exportable."""
    return servers + servers // 25 + DEMO_SERVERS + 10


def choose(world: Path, servers: int) -> tuple[list[int], list[int]]:
    """Choose the servers to export, and name those that have to be left out of "all" to have just these.

    Servers that a plan refuses stay in: a plan over all of an account meets them as well.

    :param world: the sandbox's account.
    :param servers: how many.
    :returns: ids of both.
    :raises ValueError: if the account has not so many.
    """
    with closing(sqlite3.connect(f"file:{world}?mode=ro", uri=True)) as account:
        guests = [json.loads(row[0]) for row in account.execute("SELECT doc FROM docs WHERE kind = 'guest'")]
    guests.sort(key=lambda one: int(one["_n"]))
    # What is not active is only warned of: its capture would be tried, and the sandbox refuses it.
    active = [guest for guest in guests if guest["_n"] >= DEMO_SERVERS and guest["_status"] == "ACTIVE"]
    good = [guest["id"] for guest in active if not guest["_software"]]
    if len(good) < servers:
        raise ValueError(f"The account has {len(good)} servers that can be exported, not {servers}.")
    kept_in = {*good[:servers], *(guest["id"] for guest in active if guest["_software"])}
    return good[:servers], [guest["id"] for guest in guests if guest["id"] not in kept_in]


# Options that several benchmarks have


def add_options(parser: argparse.ArgumentParser, *, result: Path) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument("--seed", type=int, default=1, help="decides the sandbox's world")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another setting of Airflow, as AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME=5",
    )
    parser.add_argument("--settings-file", type=Path, help="a file of such settings, one a line; # begins a comment")
    parser.add_argument("--out", type=Path, default=result, help=f"where the figures go (default: {result.name})")
    parser.add_argument("--keep", type=Path, help="a folder that gets logs, history and database at the end")


def settings_of(given: argparse.Namespace) -> dict[str, str]:
    """Read the settings that were given: those of the file, then those of the command line."""
    lines: Sequence[str] = []
    if given.settings_file is not None:
        lines = given.settings_file.read_text().splitlines()
    pairs = {}
    for line in [*lines, *given.settings]:
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise SystemExit(f"{line!r} has not the form NAME=VALUE")
        pairs[name.strip()] = value.strip().strip("'\"")
    return pairs


def run_program(main: Any) -> None:
    """Run a benchmark's main function as a program: Ctrl-C ends it with one line."""
    interruptible()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("stopped; nothing is left running", file=sys.stderr)
        sys.exit(130)
