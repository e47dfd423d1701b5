"""Airflow's metadata database: rows and bytes by table, and how many worker processes the tasks took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import OperationalError

_SIZES = """
SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname = 'public'
"""
# A table of SQLite with its indices; where SQLite was built without dbstat, only the file's size is known.
_SQLITE_SIZES = """
SELECT m.tbl_name, SUM(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY m.tbl_name
"""
_SQLITE_FILE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"


class MetadataDatabase:
    """Reads, and never writes.

    :param url: SQLAlchemy's address of the database.
    """

    def __init__(self, url: str) -> None:
        """Open nothing yet."""
        self._engine = create_engine(url, pool_pre_ping=True)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def rows(self, sql: str, **values: Any) -> Sequence[Any]:
        """Ask one question."""
        with self._engine.connect() as connection:
            return connection.execute(text(sql), values).fetchall()

    def tables(self) -> dict[str, dict[str, int]]:
        """Count the rows of each table and its bytes, with its indices and long values.

        :returns: by table ``{"rows", "bytes"}``; bytes are those of whole pages, 0 where the database cannot tell.
        """
        sizes = self._sizes()
        found = {}
        for name in inspect(self._engine).get_table_names():
            ((count,),) = self.rows(f'SELECT count(*) FROM "{name}"')  # noqa: S608 - the database's own names
            found[name] = {"rows": int(count), "bytes": sizes.get(name, 0)}
        return found

    def _sizes(self) -> dict[str, int]:
        if self._engine.dialect.name == "postgresql":
            return {name: int(size) for name, size in self.rows(_SIZES)}
        try:
            return {name: int(size) for name, size in self.rows(_SQLITE_SIZES)}
        except OperationalError:
            ((size,),) = self.rows(_SQLITE_FILE)
            return {"task_instance": int(size)}

    def states(self, dag_id: str, run_ids: Sequence[str] | None = None) -> dict[str, Counter[str]]:
        """Count the states of a DAG's task instances.

        :param dag_id: the DAG.
        :param run_ids: of these runs only.
        :returns: by task: how many are in which state.
        """
        found: dict[str, Counter[str]] = {}
        sql = "SELECT task_id, run_id, state, count(*) FROM task_instance WHERE dag_id = :dag GROUP BY 1, 2, 3"
        for task_id, run_id, state, count in self.rows(sql, dag=dag_id):
            if run_ids is None or run_id in run_ids:
                found.setdefault(task_id, Counter())[str(state)] += int(count)
        return found

    def worker_runs(self) -> Counter[str]:
        """Count the worker processes that ran tasks: Airflow notes each time that one reports itself as running.

        :returns: by task id.
        """
        sql = "SELECT task_id, count(*) FROM log WHERE event = 'running' GROUP BY task_id"
        return Counter({str(task): int(count) for task, count in self.rows(sql)})

    def tries(self) -> int:
        """Count tries beyond each task's first one: what was retried or cleared."""
        ((count,),) = self.rows("SELECT count(*) FROM task_instance_history")
        return int(count)


def grown(
    after: dict[str, dict[str, int]], before: dict[str, dict[str, int]], servers: int
) -> dict[str, dict[str, float]]:
    """Tell by how much tables have grown per server.

    :param after: as :meth:`MetadataDatabase.tables` gives it.
    :param before: the same, earlier.
    :param servers: among how many servers it is shared out.
    :returns: by table ``{"rows", "bytes"}`` per server, without tables that have not grown.
    """
    found = {}
    for name, now in after.items():
        was = before.get(name, {"rows": 0, "bytes": 0})
        more = {what: round((now[what] - was[what]) / servers, 2) for what in ("rows", "bytes")}
        if any(more.values()):
            found[name] = more
    return dict(sorted(found.items(), key=lambda item: -item[1]["bytes"]))
