"""Makes thousands of deferred task instances out of one: a program for Airflow's own environment.

Thousands of servers would take an hour to get there by themselves. So one server is brought to its wait for a template
by real programs. Its rows in the metadata database (the run, the task that has ended before the wait with its XComs,
the deferred task instance and its trigger) are then written again for each of the other servers, in runs of a hundred
as waves are, through the tables of Airflow's own models. What is told of the one server is told of the other in its
place.

``python -m benchmarks.deferred_rows`` reads JSON on standard input: ``dag_id``, ``run_id``, ``captured`` and
``waiting`` (task ids), ``sample`` and ``others`` (each ``{"guest", "template", "hostname"}``), ``wave_size``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


def replaced(value: Any, words: Mapping[str, str]) -> Any:
    """Put other words in the place of some, wherever they stand in plain data."""
    text = json.dumps(value)
    for old, new in words.items():
        text = text.replace(old, new)
    return json.loads(text)


def words_for(sample: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str]:
    """Say what stands for what."""
    return {str(sample[name]): str(other[name]) for name in ("guest", "template", "hostname")}


def main() -> int:
    """Write the rows."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import insert, select
    from uuid6 import uuid7

    asked = json.load(sys.stdin)
    runs, instances, triggers, xcoms = (model.__table__ for model in (DagRun, TaskInstance, Trigger, XComModel))
    with create_session() as session:

        def the(table: Any, *conditions: Any) -> dict[str, Any]:
            return dict(session.execute(select(table).where(*conditions)).mappings().one())

        run = the(runs, runs.c.dag_id == asked["dag_id"], runs.c.run_id == asked["run_id"])
        its = (instances.c.dag_id == asked["dag_id"], instances.c.run_id == asked["run_id"], instances.c.map_index == 0)
        captured = the(instances, *its, instances.c.task_id == asked["captured"])
        waiting = the(instances, *its, instances.c.task_id == asked["waiting"])
        trigger = the(triggers, triggers.c.id == waiting["trigger_id"])
        told = [
            dict(row)
            for row in session.execute(
                select(xcoms).where(
                    xcoms.c.dag_id == asked["dag_id"],
                    xcoms.c.run_id == asked["run_id"],
                    xcoms.c.task_id == asked["captured"],
                    xcoms.c.map_index == 0,
                )
            ).mappings()
        ]
        del run["id"], trigger["id"]
        trigger["triggerer_id"] = None
        size = asked["wave_size"]
        for begin in range(0, len(asked["others"]), size):
            run_id = f"{asked['run_id']}-copy-{begin // size:04d}"
            (number,) = session.execute(insert(runs).values({**run, "run_id": run_id}).returning(runs.c.id)).one()
            for index, other in enumerate(asked["others"][begin : begin + size]):
                where = {"run_id": run_id, "map_index": index}
                (trigger_id,) = session.execute(insert(triggers).values(trigger).returning(triggers.c.id)).one()
                session.execute(insert(instances).values({**captured, **where, "id": uuid7()}))
                session.execute(insert(instances).values({**waiting, **where, "id": uuid7(), "trigger_id": trigger_id}))
                words = words_for(asked["sample"], other)
                for row in told:
                    session.execute(
                        insert(xcoms).values(
                            {**row, **where, "dag_run_id": number, "value": replaced(row["value"], words)}
                        )
                    )
    print(json.dumps({"written": len(asked["others"])}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
