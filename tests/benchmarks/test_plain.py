"""The plain DAGs that Sealift is compared with are what the page says of them."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.fleet import PLAIN_DAGS

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(PLAIN_DAGS))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_both_modes_are_there(dags: dict[str, Any]) -> None:
    assert set(dags) == {"plain_poke", "plain_reschedule"}


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_each_server_has_its_own_sensors_in_that_mode(dags: dict[str, Any], mode: str) -> None:
    tasks = {task.task_id: task for task in dags[f"plain_{mode}"].tasks}
    assert set(tasks) == {"servers", *(f"way.{name}" for name in ("capture", "wait_for_template", "export"))} | {
        "way.wait_for_objects"
    }
    for name in ("way.wait_for_template", "way.wait_for_objects"):
        assert (tasks[name].mode, tasks[name].poke_interval) == (mode, 15.0)
    assert tasks["way.wait_for_objects"].upstream_task_ids >= {"way.export"}
