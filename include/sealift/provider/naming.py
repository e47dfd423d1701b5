"""Names the tasks of a wave after their servers, as soon as Airflow makes them.

Airflow shows a mapped task by its index until a worker process has rendered its name; a task that ends in the triggerer
never gets one. A cluster policy may change task instances while they are made, and a wave's run knows its servers.
``deploy/airflow/airflow_local_settings.py`` puts it in force; without it everything works, by numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

NAMES_KEY: Final = "names"
"""Of the parameter ``wave`` of a run: the names of its servers, in the order of the mapped group."""

_LONGEST: Final = 250
"""Characters that Airflow keeps of a name."""


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None) -> None:
    """Name a task instance of a wave's mapped group.

    :param task_instance: what Airflow makes or reads again.
    :param dag_run: its run, where Airflow has it at hand.
    """
    if dag_run is None or task_instance.map_index < 0:
        return
    conf = dag_run.conf
    wave = conf.get("wave") if isinstance(conf, dict) else None
    names = wave.get(NAMES_KEY) if isinstance(wave, dict) else None
    if isinstance(names, list) and task_instance.map_index < len(names):
        task_instance._rendered_map_index = str(names[task_instance.map_index])[:_LONGEST]
