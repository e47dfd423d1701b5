"""The store's index in SQLite: what exists. The bytes lie in files (blobs.py); a commit here is what makes them count.

WAL mode with ``synchronous=NORMAL``: every commit outlives a killed process; a power cut may lose the last commits but
never leaves a half one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Keys are BLOBs of UTF-8, because S3 lists in the order of the bytes.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
  name TEXT PRIMARY KEY, created REAL NOT NULL, location_constraint TEXT NOT NULL, service_instance TEXT NOT NULL,
  versioning TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bucket_documents (
  bucket TEXT NOT NULL, kind TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (bucket, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
  row INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, key BLOB NOT NULL, version_id TEXT NOT NULL,
  latest INTEGER NOT NULL, delete_marker INTEGER NOT NULL, blob TEXT, size INTEGER NOT NULL, etag TEXT NOT NULL,
  modified REAL NOT NULL, attributes TEXT NOT NULL, part_sizes TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS objects_version ON objects (bucket, key, version_id);
CREATE INDEX IF NOT EXISTS objects_order ON objects (bucket, key, row);
CREATE UNIQUE INDEX IF NOT EXISTS objects_latest ON objects (bucket, key) WHERE latest = 1;
CREATE TABLE IF NOT EXISTS uploads (
  upload_id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, initiated REAL NOT NULL,
  attributes TEXT NOT NULL, checksum_algorithm TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uploads_order ON uploads (bucket, key, upload_id);
CREATE TABLE IF NOT EXISTS parts (
  upload_id TEXT NOT NULL, number INTEGER NOT NULL, blob TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
  modified REAL NOT NULL, checksums TEXT NOT NULL, PRIMARY KEY (upload_id, number)) WITHOUT ROWID;
"""

Row = tuple[Any, ...]


class Database:
    """One SQLite connection behind a lock: requests hold it for microseconds, and SQLite has one writer anyway."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the connection; the files stay."""
        with self._lock:
            self._connection.close()

    def query(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Run a statement that reads.

        :returns: all rows; callers bound them with LIMIT.
        """
        with self._lock:
            return self._connection.execute(sql, tuple(parameters)).fetchall()

    def one(self, sql: str, parameters: Iterable[Any] = ()) -> Row | None:
        """Run a statement that reads and give its first row."""
        with self._lock:
            row: Row | None = self._connection.execute(sql, tuple(parameters)).fetchone()
            return row

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock, so that nobody sees what a transaction committed before something else is done."""
        with self._lock:
            yield

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and a write transaction: commits at the end, rolls back on any exception."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
