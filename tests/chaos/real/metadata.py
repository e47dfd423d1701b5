"""Looks into Airflow's metadata database: which task a worker runs, and which triggerer has a wait."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import create_engine, text

# In task_instance the present try has the id, in the history each former one.
_BY_ID = """
SELECT dag_id, run_id, task_id, map_index, try_number FROM task_instance
 WHERE replace(CAST(id AS text), '-', '') = :id
UNION ALL
SELECT dag_id, run_id, task_id, map_index, try_number FROM task_instance_history
 WHERE replace(CAST(task_instance_id AS text), '-', '') = :id
"""
_STATE = """
SELECT task_instance.state, task_instance.try_number, trigger.triggerer_id, trigger.classpath
  FROM task_instance LEFT JOIN trigger ON trigger.id = task_instance.trigger_id
 WHERE dag_id = :dag_id AND run_id = :run_id AND task_id = :task_id AND map_index = :map_index
"""
_WAITING = """
SELECT triggerer_id, map_index FROM task_instance JOIN trigger ON trigger.id = task_instance.trigger_id
 WHERE run_id = :run_id AND map_index >= 0 AND task_instance.state = 'deferred' AND triggerer_id IS NOT NULL
"""

_TEXTS = (
    ("xcom", "key, value"),
    ("rendered_task_instance_fields", "rendered_fields"),
    ("task_state_store", "*"),
    ("dag_run", "run_id, conf"),
    ("log", "event, extra"),
)


@dataclass(frozen=True)
class TaskTry:
    """One try of one task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int


@dataclass(frozen=True)
class TaskState:
    """How a task instance stands now.

    :param triggerer: the id of the triggerer's job that has its trigger, or None.
    :param trigger: the class of its trigger, by its path, or None.
    """

    state: str | None
    try_number: int
    triggerer: int | None
    trigger: str | None


class Metadata:
    """Reads, and never writes.

    :param url: SQLAlchemy's address of the database.
    """

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, pool_size=4, max_overflow=12, pool_pre_ping=True)
        self._known: dict[UUID, TaskTry] = {}

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def try_of(self, ti_id: UUID) -> TaskTry | None:
        """Tell which task a task instance's id stands for."""
        if ti_id not in self._known:
            rows = self._rows(_BY_ID, id=ti_id.hex)
            if not rows:
                return None
            self._known[ti_id] = TaskTry(*rows[0])
        return self._known[ti_id]

    def state(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskState | None:
        """Tell how a task instance stands; None where there is none yet."""
        rows = self._rows(_STATE, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
        return TaskState(*rows[0]) if rows else None

    def waiting(self, run_id: str) -> dict[int, set[int]]:
        """Tell which servers of a wave wait in a triggerer, in whichever of their tasks.

        :returns: their map indices, by the triggerer's job.
        """
        found: defaultdict[int, set[int]] = defaultdict(set)
        for triggerer, index in self._rows(_WAITING, run_id=run_id):
            found[triggerer].add(index)
        return dict(found)

    def texts(self) -> dict[str, str]:
        """Read what the tasks left: XComs, rendered fields, the state store and the conf of runs, by table."""
        return {
            table: "\n".join(str(row) for row in self._rows(f"SELECT {columns} FROM {table}"))
            for table, columns in _TEXTS
        }

    def _rows(self, sql: str, **values: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(text(sql), values).fetchall()


def wait_for(condition: Any, what: str, *, seconds: float, pause: float = 0.1) -> Any:
    """Wait until a condition gives something, and give that.

    :param condition: called again and again.
    :param what: names what is waited for.
    :param seconds: how long to wait.
    :param pause: seconds between two calls.
    :raises TimeoutError: naming what did not come.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(pause)
    return found
