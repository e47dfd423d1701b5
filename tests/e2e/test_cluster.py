"""The same DAGs on PostgreSQL, Redis and Celery, every program with folders of its own: nothing passes by a disk."""

from __future__ import annotations

import filecmp
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sealift.exports import names
from sealift.sandbox import Sandbox
from tools.cluster import Cluster

DAGS = ("plan_exports", "export_servers")
PREFIX = "on-a-cluster"


@dataclass
class Played:
    """A cluster on which the demo's servers have been exported."""

    cluster: Cluster
    sandbox: Sandbox
    run_id: str
    state: str
    strangers: list[str]

    def read(self, key: str) -> Any:
        path = self.sandbox.store.path_of(self.sandbox.bucket, key)
        assert path is not None, f"{key} does not exist"
        return json.loads(path.read_text())

    def instances(self) -> list[dict[str, Any]]:
        found = []
        for dag in DAGS:
            for run in self.cluster.api.request("GET", f"dags/{dag}/dagRuns")["dag_runs"]:
                found += self.cluster.api.task_instances(dag, run["dag_run_id"])
        return found

    def ends(self) -> str:
        """What the tasks that failed wrote last."""
        failed = [one for one in self.instances() if one["state"] == "failed"]
        logs = [self.cluster.task_logs(one["dag_id"], one["dag_run_id"], one["task_id"])[-3000:] for one in failed]
        return "\n\n".join(logs)


def written_elsewhere(cluster: Cluster) -> list[str]:
    """Find files that a program has open for writing and that another program could see."""
    found = []
    for name in cluster.names:
        own = [str(folder) for folder in cluster.folders(name)]
        allowed = (*own, str(cluster.logs / f"{name}."))
        for pid in cluster.processes(name):
            for entry in _open_files(pid):
                if not entry.startswith(allowed):
                    found.append(f"{name}: {entry}")
    return found


def _open_files(pid: int) -> Iterator[str]:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # gone in the meantime
        return
    for number in numbers:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{number}")
            flags = int(Path(f"/proc/{pid}/fdinfo/{number}").read_text().split("flags:")[1].split()[0], 8)
            regular = stat.S_ISREG(os.stat(f"/proc/{pid}/fd/{number}").st_mode)
        except OSError:
            continue
        # Memory that a program shares with its own processes has a name, but no place on a disk.
        if regular and flags & os.O_ACCMODE != os.O_RDONLY and not target.startswith(("/dev/shm", "/memfd:")):
            yield target


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Iterator[Played]:
    root = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(
        home=root / "airflow",
        project_root=project_root,
        executor="celery",
        worker_concurrency=2,
        serve_logs=True,
        settings={
            "AIRFLOW__SEALIFT__POLL_INTERVAL": "1",
            "AIRFLOW__SEALIFT__RETRIES": "1",
            "AIRFLOW__SEALIFT__RETRY_DELAY": "2",
        },
    )
    with cluster, Sandbox(root=root / "sandbox", scenario="demo", seed=7, speed=40) as sandbox:
        cluster.wait_until_ready(dags=DAGS, seconds=300)
        for connection_id, fields in sandbox.connections().items():
            cluster.add_connection(connection_id, **fields)
        conf = {"bucket": sandbox.bucket, "region": "us-south", "prefix": PREFIX, "tags": ["demo"]}
        run_id = cluster.api.trigger("plan_exports", conf)
        state = cluster.api.wait("plan_exports", run_id, seconds=300)
        yield Played(cluster, sandbox, run_id, state, written_elsewhere(cluster))
        temporary = cluster.temporary
    assert cluster.running() == [], "the cluster left processes behind"
    assert not any(folder.exists() for folder in temporary)


def test_every_server_is_exported_and_proven(played: Played) -> None:
    assert played.state == "success", played.ends()
    plan_id = names.plan_id_for(dag_id="plan_exports", run_id=played.run_id)
    report = played.read(names.report_key(prefix=PREFIX, plan_id=plan_id))
    kinds = {one["hostname"]: one["kind"] for one in report["outcomes"]}
    exported = {hostname for hostname, kind in kinds.items() if kind == "exported"}
    assert len(kinds) == 6
    assert sorted(kinds.values()) == ["exported"] * 5 + ["not exportable"]
    keys = [stored.key for stored in played.sandbox.store.list(played.sandbox.bucket, names.manifests_prefix(PREFIX))]
    manifests = {one["guest"]["hostname"]: one for one in map(played.read, keys)}
    assert manifests.keys() == exported
    assert {one["proof_level"] for one in manifests.values()} == {"L1"}


def test_the_tasks_ran_in_both_workers_and_nowhere_else(played: Played) -> None:
    hosts = {one["hostname"] for one in played.instances() if one["hostname"]}
    assert hosts == {played.cluster.host(name) for name in played.cluster.named("worker")}


def test_no_program_writes_where_another_one_could_read(played: Played) -> None:
    assert played.strangers == []
    folders = [folder for name in played.cluster.names for folder in played.cluster.folders(name)]
    assert len(set(folders)) == 2 * len(played.cluster.names)


def test_only_who_needs_them_has_the_dags_and_they_are_the_projects(played: Played, project_root: Path) -> None:
    wanted = {path.name for path in (project_root / "dags").glob("*.py")}
    for name in played.cluster.names:
        home, _ = played.cluster.folders(name)
        has = {path.name for path in (home / "dags").glob("*.py")}
        reads = name == "dag-processor" or name.startswith("worker-")
        assert has == (wanted if reads else set()), name
        assert all(filecmp.cmp(home / "dags" / one, project_root / "dags" / one, shallow=False) for one in has)


def test_the_settings_are_those_that_ship(played: Played) -> None:
    for name, value in {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "60",
    }.items():
        pids = played.cluster.processes("scheduler-0")
        environ = Path(f"/proc/{pids[0]}/environ").read_text(errors="replace")
        assert f"{name}={value}" in environ


def test_the_api_server_shows_the_log_of_a_worker(played: Played) -> None:
    shown = played.cluster.api.log("plan_exports", played.run_id, "make_plan", try_number=1)
    assert "Could not read served logs" not in shown
    assert PREFIX in shown or "plan" in shown
    assert "make_plan" in played.cluster.task_logs("plan_exports", played.run_id, "make_plan")


def test_only_loopback_is_listened_on(played: Played) -> None:
    inodes = {
        os.readlink(f"/proc/{pid}/fd/{number}").removeprefix("socket:[").removesuffix("]")
        for pid in played.cluster.running()
        for number in _numbers(pid)
    }
    open_to_all = []
    for table, loopback in (("tcp", "7F"), ("tcp6", "00000000000000000000000001000000")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address = fields[1].split(":")[0]
            local = address.endswith(loopback) if table == "tcp" else address == loopback
            if fields[3] == "0A" and fields[9] in inodes and not local:
                open_to_all.append(fields[1])
    assert open_to_all == []


def _numbers(pid: int) -> list[str]:
    try:
        return [number for number in os.listdir(f"/proc/{pid}/fd") if _is_socket(pid, number)]
    except OSError:
        return []


def _is_socket(pid: int, number: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:[")
    except OSError:
        return False
