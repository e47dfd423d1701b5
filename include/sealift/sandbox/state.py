"""The sandbox's memory: plain documents in SQLite, kept over a restart."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Doc = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS docs (kind TEXT, id INTEGER, doc TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writes (seq INTEGER PRIMARY KEY AUTOINCREMENT, doc TEXT NOT NULL);
"""


class State:
    """Documents by kind and id, a few named values, and the list of write requests.

    :param path: the database file; made where it does not exist.
    """

    def __init__(self, *, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def meta(self, name: str) -> Any:
        """:returns: the named value, or None."""
        with self._lock:
            row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def set_meta(self, name: str, value: Any) -> None:
        """Set a named value."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def load(self, kind: str) -> dict[int, Doc]:
        """:returns: all documents of one kind by id, in the order of their ids."""
        with self._lock:
            rows = self._db.execute("SELECT id, doc FROM docs WHERE kind = ? ORDER BY id", (kind,)).fetchall()
        return {int(number): json.loads(doc) for number, doc in rows}

    def put(self, kind: str, *docs: Doc) -> None:
        """Save documents; each carries its ``id``."""
        self.put_all((kind, doc) for doc in docs)

    def put_all(self, docs: Iterable[tuple[str, Doc]]) -> None:
        """Save documents of several kinds in one transaction: all or none."""
        rows = [(kind, doc["id"], json.dumps(doc)) for kind, doc in docs]
        with self._lock:
            self._db.execute("BEGIN")
            try:
                self._db.executemany("INSERT OR REPLACE INTO docs VALUES (?, ?, ?)", rows)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def delete(self, kind: str, number: int) -> None:
        """Forget one document."""
        with self._lock:
            self._db.execute("DELETE FROM docs WHERE kind = ? AND id = ?", (kind, number))

    def add_write(self, doc: Doc) -> None:
        """Append to the list of write requests."""
        with self._lock:
            self._db.execute("INSERT INTO writes (doc) VALUES (?)", (json.dumps(doc),))

    def writes(self) -> list[Doc]:
        """:returns: the write requests in the order of their arrival."""
        with self._lock:
            rows = self._db.execute("SELECT doc FROM writes ORDER BY seq").fetchall()
        return [json.loads(row[0]) for row in rows]
