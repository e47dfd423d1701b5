"""A real API server of Airflow over a sandbox's bucket, with users of several rights, and planted secrets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.ledger import Year, fill
from sealift.exports import names
from sealift.sandbox import Sandbox
from tools.local_airflow import LocalAirflow
from tools.processes import Program, tail

USERS = {"ann": "admin", "uma": "user", "vic": "viewer", "nix": ""}
"""Names and roles; somebody without a role may see nothing."""

PLANTED = "PLANTED-key-that-no-answer-may-hold"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow for the start that the first test waits for."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.airflow)
            item.add_marker(pytest.mark.timeout(600))


@dataclass
class Server:
    """The running API server."""

    url: str
    sandbox: Sandbox
    passwords: dict[str, str]
    log: Path
    year: Year

    @property
    def periods(self) -> list[str]:
        """The slots, newest first; the run of the newest one is at work."""
        return [names.period_of_slot(one) for one in reversed(self.year.periods)]

    @property
    def plans(self) -> list[str]:
        """Their plans."""
        slots = reversed(self.year.periods)
        return [names.plan_id_for(dag_id="plan_exports", run_id=f"scheduled__{slot.isoformat()}") for slot in slots]

    def token(self, user: str) -> str:
        reply = httpx.post(
            f"{self.url}/auth/token",
            json={"username": user, "password": self.passwords[user]},
            timeout=60,
            trust_env=False,
        )
        assert reply.status_code == 201, reply.text
        return str(reply.json()["access_token"])

    @property
    def secrets(self) -> list[str]:
        return secrets_of(self.sandbox)

    def client(self, user: str | None) -> httpx.Client:
        """A client with the rights of one of the users; of nobody for None."""
        headers = {} if user is None else {"Authorization": f"Bearer {self.token(user)}"}
        return httpx.Client(base_url=f"{self.url}/sealift", headers=headers, timeout=60, trust_env=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Iterator[Server]:
    """Airflow's API server alone: no scheduler runs, so that runs that are started stay queued."""
    root = tmp_path_factory.mktemp("page")
    with Sandbox(root=root / "sandbox", scenario="demo", seed=7, speed=40, tls=True) as sandbox:
        year = Year(servers=60, slots=4, failed=0.2)
        fill(sandbox.store, bucket=sandbox.bucket, region="us-south", prefix="sealift", year=year)
        airflow = LocalAirflow(
            home=root / "airflow",
            project_root=project_root,
            settings={
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{one}:{role}" for one, role in USERS.items()),
                "AIRFLOW__SEALIFT__DEFAULT_PARAMS": json.dumps({"bucket": sandbox.bucket, "region": "us-south"}),
                "AIRFLOW__SEALIFT__UI_PLACES": json.dumps([{"name": "empty", "prefix": "nothing-here"}]),
                **connections(sandbox),
            },
        )
        home = airflow.home
        home.mkdir(parents=True, exist_ok=True)
        passwords = {one: f"{one}-password" for one in USERS}
        (home / "simple_auth_manager_passwords.json.generated").write_text(json.dumps(passwords))
        python = Path(sys.executable)
        for number, command in enumerate((["db", "migrate"], ["dags", "reserialize"])):
            run(python, command, airflow, home / f"prepare-{number}.log")
        program = Program(
            [python.with_name("airflow"), "api-server", "--host", "127.0.0.1", "--port", str(airflow.port)],
            env=airflow.env,
            mark=airflow.mark,
            log=home / "api-server.log",
            cwd=project_root,
        )
        try:
            wait_until_up(program, airflow.url, home / "api-server.log")
            yield Server(airflow.url, sandbox, passwords, home / "api-server.log", year)
        finally:
            program.stop()
            airflow.api.close()


def secrets_of(sandbox: Sandbox) -> list[str]:
    """Everything that no answer may hold."""
    return [PLANTED, *(str(fields["password"]) for fields in sandbox.connections().values())]


def connections(sandbox: Sandbox) -> dict[str, str]:
    """The sandbox's connections in the environment, with a secret where secrets belong."""
    found = {}
    for conn_id, fields in sandbox.connections().items():
        fields["extra"]["export_api_key"] = PLANTED
        found[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(fields)
    return found


def run(python: Path, command: list[str], airflow: LocalAirflow, log: Path) -> None:
    done = subprocess.run(
        [python.with_name("airflow"), *command],
        env=airflow.env,
        cwd=airflow.project_root,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    log.write_text(done.stdout + done.stderr)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def wait_until_up(program: Program, url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not program.ended():
        try:
            if httpx.get(f"{url}/api/v2/version", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"The API server did not come up:\n{tail(log)}")


@pytest.fixture(scope="session")
def ann(server: Server) -> Iterator[httpx.Client]:
    with server.client("ann") as client:
        yield client
