"""One sandbox and one real Airflow for all end-to-end tests, started once and stopped whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sealift.exports import names
from sealift.sandbox import Sandbox
from tests.e2e.axe import install
from tools.airflow_rest import AirflowRest
from tools.local_airflow import LocalAirflow
from tools.system_packages import PLACES

DAGS = ("plan_exports", "export_servers", "deliver_images", "apply_retention")
# Recognisable, and good for writing: the secrets test searches for it.
EXPORT_KEY = "PLANTED-export-api-key-for-writing"
COPIES = "copies"
"""The bucket that stands for one of another cloud."""
MAIN = "main"
"""The prefix of the main run, and the name of its place on the page."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, and allow for the start that the first test waits for."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.airflow)
            item.add_marker(pytest.mark.timeout(600))


@dataclass
class Ran:
    """One ended run of plan_exports."""

    house: House
    run_id: str
    state: str
    bucket: str
    prefix: str

    @property
    def plan_id(self) -> str:
        return names.plan_id_for(dag_id="plan_exports", run_id=self.run_id)

    @property
    def wave_run_id(self) -> str:
        return names.wave_run_id(plan_id=self.plan_id, number=0)

    @property
    def period(self) -> str:
        return names.period_of_run(self.run_id)

    def plan(self) -> dict[str, Any]:
        return self.house.read_json(self.bucket, names.plan_key(prefix=self.prefix, plan_id=self.plan_id))

    def report(self) -> dict[str, Any]:
        return self.house.read_json(self.bucket, names.report_key(prefix=self.prefix, plan_id=self.plan_id))

    def outcomes(self) -> dict[str, dict[str, Any]]:
        return {one["hostname"]: one for one in self.report()["outcomes"]}

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Manifests of this run by host name."""
        found = {}
        for stored in self.house.sandbox.store.list(self.bucket, names.manifests_prefix(self.prefix)):
            if names.parse_manifest_key(stored.key) == (int(stored.key.split("/")[-2]), self.period):
                manifest = self.house.read_json(self.bucket, stored.key)
                found[manifest["guest"]["hostname"]] = manifest
        return found

    def task(self, task_id: str) -> dict[str, Any]:
        """One task instance of plan_exports."""
        (found,) = [
            one for one in self.house.api.task_instances("plan_exports", self.run_id) if one["task_id"] == task_id
        ]
        return found

    def log(self, task_id: str) -> str:
        """The log of a task's last try."""
        return self.house.api.log("plan_exports", self.run_id, task_id, try_number=self.task(task_id)["try_number"])


@dataclass
class House:
    """The running programs."""

    sandbox: Sandbox
    airflow: LocalAirflow
    counted: int = field(default=0)

    @property
    def api(self) -> AirflowRest:
        return self.airflow.api

    def start_plan(self, **conf: Any) -> Ran:
        """Trigger plan_exports with a prefix of its own."""
        self.counted += 1
        conf = {"bucket": self.sandbox.bucket, "region": "us-south", "prefix": f"e2e-{self.counted}", **conf}
        run_id = self.api.trigger("plan_exports", conf)
        return Ran(self, run_id, "running", conf["bucket"], conf["prefix"])

    def plan(self, **conf: Any) -> Ran:
        """Trigger plan_exports and wait for its end."""
        ran = self.start_plan(**conf)
        ran.state = self.api.wait("plan_exports", ran.run_id, seconds=300)
        return ran

    def read_json(self, bucket: str, key: str) -> Any:
        """Read an object as the store keeps it, without Sealift's own client in between."""
        path = self.sandbox.store.path_of(bucket, key)
        assert path is not None, f"{bucket}/{key} does not exist"
        return json.loads(path.read_text())

    def question(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Wait until a run's task ``approve`` asks and its worker is gone, and return what it asks.

        Nobody answers before the scheduler has seen the worker's end: an answer in between meets a task that is both
        over and to be resumed.
        """
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve"
        deadline = time.monotonic() + 120

        def until(ready: Callable[[], bool], what: str) -> None:
            while not ready():
                assert time.monotonic() < deadline, f"{dag_id} {run_id}: {what}"
                time.sleep(0.5)

        until(lambda: self.api.request("GET", path)["state"] in ("awaiting_input", "deferred"), "asks nothing")
        pid = self.api.request("GET", path)["pid"]
        until(lambda: not (pid and Path(f"/proc/{pid}").exists()), f"its process {pid} goes on")
        gone = datetime.now(UTC)

        def looked() -> bool:
            told = self.api.request("GET", "monitor/health")["scheduler"]["latest_scheduler_heartbeat"]
            return datetime.fromisoformat(told) > gone

        until(looked, "the scheduler does not look")
        asked: dict[str, Any] = self.api.request("GET", f"{path}/-1/hitlDetails")
        return asked

    def answer(self, dag_id: str, run_id: str, option: str) -> None:
        """Answer a run's question, as the page *Required Actions* does."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
        self.api.request("PATCH", path, json={"chosen_options": [option], "params_input": {}})

    def calls(self) -> Counter[str]:
        """How often each call that changes something was made."""
        return Counter(one["method"] for one in self.sandbox.writes())


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Iterator[House]:
    """A sandbox over TLS, and Airflow with connections to it in its metadata database."""
    root = tmp_path_factory.mktemp("house")
    airflow = LocalAirflow(
        home=root / "airflow",
        project_root=project_root,
        settings={
            "AIRFLOW__SEALIFT__POLL_INTERVAL": "1",
            "AIRFLOW__SEALIFT__RETRIES": "1",
            "AIRFLOW__SEALIFT__RETRY_DELAY": "2",
            "AIRFLOW__SEALIFT__DELIVER_TO": f"s3://{COPIES}/classic",
            "AIRFLOW__SEALIFT__DELIVER_AWS_CONN_ID": "elsewhere",
            "AIRFLOW__SEALIFT__UI_PLACES": json.dumps([{"name": MAIN, "prefix": MAIN}]),
        },
    )
    with airflow, Sandbox(root=root / "sandbox", scenario="demo", seed=7, speed=40, tls=True) as sandbox:
        sandbox.identity.add_api_key(key=EXPORT_KEY, name="exporter", roles={"*": "Writer"})
        sandbox.store.create_bucket(
            COPIES, location_constraint="us-south-standard", service_instance=sandbox.cos_service_instance_id
        )
        airflow.wait_until_ready(dags=DAGS)
        # Otherwise each test's exports would be delivered as well.
        airflow.api.pause("deliver_images")
        for connection_id, fields in sandbox.connections().items():
            if fields["conn_type"] == "ibm_cos":
                fields["extra"]["export_api_key"] = EXPORT_KEY
            airflow.add_connection(connection_id, **fields)
        airflow.add_connection(
            "elsewhere",
            conn_type="aws",
            login=sandbox.hmac_access_key_id,
            password=sandbox.hmac_secret_access_key,
            extra={
                "region_name": sandbox.region,
                "endpoint_url": sandbox.cos_url,
                "verify": sandbox.connections()["ibm_cos_default"]["extra"]["verify"],
                "config_kwargs": {"s3": {"addressing_style": "path"}},
            },
        )
        yield House(sandbox, airflow)
    assert airflow.running() == [], "Airflow left processes behind"


@pytest.fixture(scope="session")
def exported(house: House) -> Ran:
    """The main run: all six servers of the scenario, by their tag."""
    return house.plan(tags=["demo"], prefix=MAIN)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    chromium = shutil.which("chromium", path=os.pathsep.join(PLACES))
    assert chromium, "make test installs Debian's chromium, or names the apt line"
    with sync_playwright() as playwright:
        # The browser only visits pages of this machine; as root it has no sandbox to run in.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """axe-core's script; skips where npm is not installed."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: axe-core cannot be had")
    return install(tmp_path_factory.mktemp("axe"), project_root)


@pytest.fixture
def page(browser: Browser, house: House) -> Iterator[Page]:
    """A window that shows Airflow."""
    page = browser.new_page(viewport={"width": 1400, "height": 1400}, base_url=house.airflow.url)
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    yield page
    page.close()
