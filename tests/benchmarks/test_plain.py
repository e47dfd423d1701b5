"""The plain DAGs that Sealift is compared with are what the page says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import fleet
from benchmarks.fleet import PLAIN_DAGS

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(PLAIN_DAGS))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_both_modes_are_there(dags: dict[str, Any]) -> None:
    assert set(dags) == {"plain_poke", "plain_reschedule", "plain_poke_capped", "plain_reschedule_capped"}


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_each_server_has_its_own_sensors_in_that_mode(dags: dict[str, Any], mode: str) -> None:
    tasks = {task.task_id: task for task in dags[f"plain_{mode}"].tasks}
    assert set(tasks) == {"servers", *(f"way.{name}" for name in ("capture", "wait_for_template", "export"))} | {
        "way.wait_for_objects"
    }
    for name in ("way.wait_for_template", "way.wait_for_objects"):
        assert (tasks[name].mode, tasks[name].poke_interval) == (mode, 15.0)
    assert tasks["way.wait_for_objects"].upstream_task_ids >= {"way.export"}


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_under_a_cap_each_server_has_a_run_of_its_own(dags: dict[str, Any], mode: str) -> None:
    one = dags[f"plain_{mode}_capped"]
    assert one.max_active_runs == 20, "as many as Sealift lets be offline by default"
    every = dags[f"plain_{mode}"]
    assert set(one.task_ids) == set(every.task_ids) - {"servers"}
    for task in one.tasks:
        assert task.python_callable is every.get_task(task.task_id).python_callable
        assert getattr(task, "mode", "") == getattr(every.get_task(task.task_id), "mode", "")


def test_a_plain_airflow_has_nothing_of_what_makes_sealifts_tasks_cheaper(project_root: Path) -> None:
    settings = fleet.plain_settings(fleet.parse([]), cap=20)
    assert not (Path(settings["PYTHONPATH"]) / "airflow_local_settings.py").exists()
    assert (project_root / "deploy/airflow/airflow_local_settings.py").exists(), "it would lie beside"
    assert settings["AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"] == "1"
    assert settings["AIRFLOW__CORE__PARALLELISM"] == "8"
