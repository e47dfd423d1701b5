"""The settings that ship: read strictly, known to Airflow, each with its reason, and what the cluster starts from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import settings_files
from tools.cluster import Cluster
from tools.cluster_parts import Apart
from tools.settings_files import SettingsFileError, read, settings, shipped

ENGINES = settings_files.ENGINES


@pytest.mark.airflow
@pytest.mark.parametrize("engine", ENGINES)
def test_airflow_knows_every_setting(engine: str, airflow_options: set[tuple[str, str]]) -> None:
    found = settings(engine=engine)
    assert len(found) >= 5
    assert [each.name for each in found if (each.section, each.key) not in airflow_options] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_every_setting_has_a_reason_in_words(engine: str) -> None:
    assert [each.name for each in settings(engine=engine) if len(each.reason.split()) < 8] == []


def test_there_is_one_file_for_each_engine_and_no_other() -> None:
    assert sorted(path.name for path in settings_files.FOLDER.iterdir()) == sorted(f"{one}.env" for one in ENGINES)


def test_no_executor_or_secret_is_in_them() -> None:
    for engine in ENGINES:
        keys = {each.key for each in settings(engine=engine)}
        assert not keys & {"executor", "sql_alchemy_conn", "broker_url", "result_backend", "fernet_key", "jwt_secret"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AIRFLOW__CORE__PARALLELISM=4", "no reason"),
        ("# why\nAIRFLOW__CORE__PARALLELISM", "not AIRFLOW__SECTION__KEY=value"),
        ("# why\nPARALLELISM=4", "not AIRFLOW__SECTION__KEY=value"),
        ("# why\nAIRFLOW__CORE__PARALLELISM='4'", "without quotes"),
        ("# why\nAIRFLOW__CORE__PARALLELISM=4 # more", "comment behind"),
        ("# why\nAIRFLOW__CORE__PARALLELISM=", "without quotes"),
        ("# why\nAIRFLOW__A__B=4\n# why\nAIRFLOW__A__B=5", "comes twice"),
        ("# why\n\nAIRFLOW__CORE__PARALLELISM=4", "no reason"),
    ],
)
def test_what_is_not_as_it_must_be_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(SettingsFileError, match=words) as told:
        read(text, where="some.env")
    assert "some.env, line " in str(told.value)


def test_a_setting_is_read_with_its_section_key_and_reason() -> None:
    (one,) = read("# Title\n\n# Because of\n# this.\nAIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT=6\n")
    assert (one.section, one.key, one.value) == ("celery_broker_transport_options", "visibility_timeout", "6")
    assert one.reason == "Because of this."


def test_the_cluster_starts_from_them_and_explicit_settings_win(tmp_path: Path, project_root: Path) -> None:
    name, other = "AIRFLOW__CORE__PARALLELISM", "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT"
    for engine in ("postgresql", "celery"):
        cluster = Cluster(
            home=tmp_path / engine,
            project_root=project_root,
            executor="celery" if engine == "celery" else "local",
            settings={name: "3"},
        )
        expected = {**shipped(engine=engine), name: "3"}
        assert {key: cluster.env.get(key) for key in expected} == expected
    quick = Cluster(home=tmp_path / "quick", project_root=project_root, pace="quick")
    assert "AIRFLOW__TRIGGERER__CAPACITY" not in quick.env
    assert quick.env[other] == "30"


def test_sqlite_bears_neither_two_schedulers_nor_celery(tmp_path: Path, project_root: Path) -> None:
    with pytest.raises(ValueError, match="two schedulers"):
        Cluster(home=tmp_path, project_root=project_root, database="sqlite", schedulers=2)
    with pytest.raises(ValueError, match="Celery"):
        Cluster(home=tmp_path, project_root=project_root, database="sqlite", schedulers=1, executor="celery")


def test_apart_every_program_has_folders_and_an_address_of_its_own(tmp_path: Path, project_root: Path) -> None:
    cluster = Cluster(home=tmp_path, project_root=project_root, executor="celery", workers=3)
    assert cluster.named("worker") == ("worker-0", "worker-1", "worker-2")
    hosts = [cluster.host(name) for name in cluster.names]
    folders = [folder for name in cluster.names for folder in cluster.folders(name)]
    assert len(set(hosts)) == len(cluster.names)
    assert len(set(folders)) == 2 * len(cluster.names)
    assert set(hosts) <= set(cluster.env["NO_PROXY"].split(","))
    together = Cluster(home=tmp_path, project_root=project_root)
    assert [together.folders(name) for name in together.names] == [()] * len(together.names)
    assert [together.host(name) for name in together.names] == list(together.names)


def test_apart_a_program_runs_its_own_copy_of_the_code_and_of_the_file_that_preloads(
    tmp_path: Path, project_root: Path
) -> None:
    places = Apart(home=tmp_path / "home", project_root=project_root, dags=project_root / "dags", with_dags={"worker"})
    places.prepare(tmp_path / "home")
    try:
        worker, scheduler = places.place("worker-0", "worker"), places.place("scheduler-0", "scheduler")
        for place in (worker, scheduler):
            place.make()
            assert place.folder is not None
            code = (
                "import importlib.util as util\n"
                "for name in ('sealift', 'airflow_local_settings'): print(util.find_spec(name).origin)"
            )
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, **place.env},
                cwd=place.folder,
                capture_output=True,
                text=True,
                check=True,
            )
            found = [Path(line) for line in done.stdout.splitlines()]
            assert [place.folder in path.parents for path in found] == [True, True]
        assert worker.folder is not None
        assert scheduler.folder is not None
        assert list((worker.folder / "dags").glob("*.py"))
        assert not list((scheduler.folder / "dags").glob("*.py"))
    finally:
        places.remove()
    assert places.temporary is None
