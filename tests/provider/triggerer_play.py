"""A wait in Airflow's own scheduler and triggerer code, over a database of its own: run as a program, prints JSON.

What is Airflow's: the serialised DAG, ``DagRun.schedule_tis`` (which defers a task that starts in the triggerer),
``clear_task_instances``, ``TriggerRunnerSupervisor`` with its child process, the task's log files, and the rows that an
event leaves. What is not: the loop of the scheduler, and the Classic API, which answers as the play has it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DEADLINE = timedelta(hours=4)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Account(BaseHTTPRequestHandler):
    """Two lists of the Classic API, with one template that is busy until it is told to be whole."""

    whole = False

    def do_GET(self) -> None:
        transaction = {
            "id": 4711,
            "statusChangeDate": datetime.now(UTC).isoformat(timespec="seconds"),
            "transactionStatus": {"name": "COPY", "friendlyName": "Copying disks"},
        }
        child: dict[str, Any] = {"id": 71, "transactionId": None, "blockDevicesDiskSpaceTotal": 4096.0}
        if not Account.whole:
            child = {"id": 71, "transactionId": 4711, "transaction": transaction}
        template = {"id": 70, "name": "sealift-7-20260101T0000Z", "children": [child]}
        guest = {"id": 7, "status": {"keyName": "ACTIVE"}, "powerState": {"keyName": "RUNNING"}}
        body = json.dumps([guest if "getVirtualGuests" in self.path else template]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


DAG_FILE = """
from airflow.sdk import DAG
from sealift.provider.sensors.template import ImageTemplateSensor
wave = {{"classic_conn_id": "play", "cos_conn_id": "none", "region": "eu-de"}}
with DAG(dag_id="play", schedule=None, params={{"wave": wave}}):
    ImageTemplateSensor(task_id="wait", captured={terms!r}, poll_interval=0.2, retries=2)
"""


class Play:
    """One task instance, and the triggerers that come and go."""

    def __init__(self) -> None:
        from airflow import settings

        self.session = settings.Session()
        self.numbers = iter(range(1, 100))

    def ti(self) -> Any:
        from airflow.models.taskinstance import TaskInstance

        self.session.expire_all()
        return self.session.query(TaskInstance).filter_by(dag_id="play").one()

    def schedule(self) -> Any:
        """Let the scheduler's code put the task where it belongs."""
        ti = self.ti()
        run = ti.dag_run
        ti.task = self.dag.get_task("wait")
        run.schedule_tis([ti], session=self.session)
        self.session.commit()
        return self.ti()

    def begin(self, folder: Path, terms: str) -> None:
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.utils.db import initdb
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        initdb()
        (folder / "dags").mkdir()
        (folder / "dags" / "play.py").write_text(DAG_FILE.format(terms=terms))
        DagBundlesManager().sync_bundles_to_db()
        bag = DagBag(dag_folder=str(folder / "dags"), bundle_path=folder / "dags", bundle_name="dags-folder")
        assert not bag.import_errors, bag.import_errors
        sync_bag_to_db(bag, "dags-folder", None)
        self.session.commit()
        model = SerializedDagModel.get("play", session=self.session)
        assert model is not None
        self.dag = model.dag
        self.dag.create_dagrun(
            run_id="run-1",
            run_after=datetime.now(UTC),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=self.session,
        )
        self.session.commit()

    @contextmanager
    def triggerer(self) -> Iterator[Any]:
        """Run a triggerer; at the end it is killed, as by the kernel."""
        from airflow.jobs.job import Job
        from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

        job = Job(job_type="TriggererJob", state="running", latest_heartbeat=datetime.now(UTC), hostname="here")
        self.session.add(job)
        self.session.commit()
        supervisor = TriggerRunnerSupervisor.start(job=job, capacity=10)
        try:
            yield supervisor
        finally:
            os.kill(supervisor.pid, signal.SIGKILL)
            while supervisor.is_alive():
                supervisor._service_subprocess(1)
            job.latest_heartbeat = LONG_AGO
            self.session.add(job)
            self.session.commit()

    def run(self, supervisor: Any, until: Callable[[], bool]) -> None:
        """Let a triggerer work until something is so."""
        end = time.monotonic() + 60
        while not until():
            if time.monotonic() > end:
                raise TimeoutError("it did not come to that")
            supervisor.load_triggers()
            supervisor._service_subprocess(0.2)
            supervisor.handle_events()
            supervisor.handle_failed_triggers()
            supervisor.clean_unused()


def lines(folder: Path) -> list[dict[str, Any]]:
    """Everything in the task's own log files."""
    found = []
    for path in sorted((folder / "logs").rglob("*.log.trigger.*.log")):
        found += [json.loads(line) | {"file": path.name} for line in path.read_text().splitlines() if line.strip()]
    return found


def deadlines_told(folder: Path) -> list[str]:
    return [one["event"] for one in lines(folder) if "at the latest" in one["event"]]


def copies(folder: Path) -> int:
    """How often a triggerer has told of the transaction that it saw."""
    return sum("is being made" in one["event"] for one in lines(folder))


def main() -> None:
    from tests.provider.conftest import terms

    folder = Path(os.environ["AIRFLOW_HOME"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Account)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection = {
        "conn_type": "ibm_classic",
        "login": "someone",
        "password": "not-a-real-key",
        "host": f"http://127.0.0.1:{server.server_address[1]}/rest/v3.1",
        "extra": {"transport": "rest"},
    }
    os.environ["AIRFLOW_CONN_PLAY"] = json.dumps(connection)
    began = datetime.now(UTC) - timedelta(hours=1)
    play = Play()
    play.begin(
        folder,
        terms(
            7, 70, started_at=began, deadline_seconds=DEADLINE.total_seconds(), stuck_seconds=DEADLINE.total_seconds()
        ).model_dump_json(),
    )
    report: dict[str, Any] = {"submitted_at": began.isoformat()}

    # The first try, over the death of a triggerer.
    report["first_state"] = play.schedule().state
    for number in (1, 2):
        with play.triggerer() as one:
            play.run(one, lambda number=number: len(deadlines_told(folder)) >= number <= copies(folder))  # type: ignore[misc]
    report["first_try"] = deadlines_told(folder)

    # A person marks it failed: the triggerer that runs it hears of that.
    with play.triggerer() as one:
        play.run(one, lambda: len(deadlines_told(folder)) == 3 <= copies(folder))
        ti = play.ti()
        ti.set_state("failed", session=play.session)
        play.session.commit()
        play.run(one, lambda: any("ended by a user" in line["event"] for line in lines(folder)))
    report["killed"] = [one for one in lines(folder) if "ended by a user" in one["event"]]

    # Cleared: a second try, over the death of a triggerer, then to its end.
    from airflow.models.taskinstance import clear_task_instances

    clear_task_instances([play.ti()], play.session)
    play.session.commit()
    told = len(deadlines_told(folder))
    ti = play.schedule()
    report["second_state"], report["second_number"] = ti.state, ti.try_number
    report["second_began"] = ti.start_date.isoformat()
    report["second_made"] = datetime.fromtimestamp((ti.id.int >> 80) / 1000, UTC).isoformat()
    for number in (1, 2, 3):
        with play.triggerer() as one:
            before = copies(folder)
            play.run(one, lambda number=number: len(deadlines_told(folder)) >= told + number)  # type: ignore[misc]
            play.run(one, lambda before=before: copies(folder) > before)  # type: ignore[misc]
            if number == 3:
                Account.whole = True
                play.run(one, lambda: play.ti().state == "success")
    report["second_try"] = deadlines_told(folder)[told:]
    report["last_state"] = play.ti().state

    from airflow.models.xcom import XComModel

    play.session.expire_all()
    report["xcoms"] = {row.key: row.value for row in play.session.query(XComModel).filter_by(dag_id="play")}
    server.shutdown()
    sys.stdout.write("REPORT " + json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
