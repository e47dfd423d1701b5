"""What a sandbox leaves behind, for the checker: read from its folder, whether it runs, was stopped or was killed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sealift.sandbox.history import events_of
from sealift.sandbox.imaging import disk_spec
from sealift.sandbox.store.models import StoredObject
from sealift.sandbox.store.records import OBJECT_COLUMNS, object_from_row

_Rows = list[Any]  # ``list`` is a method of the view, so its signatures cannot name the type


def read_history(root: Path) -> list[dict[str, Any]]:
    """Read the history out of a sandbox's folder; a last line that a kill cut short is left out.

    :param root: the sandbox's folder.
    """
    return list(events_of(Path(root) / "history.jsonl"))


class StoreView:
    """The buckets of a sandbox, read from its folder without opening the store: it may be served by another process."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root) / "store"

    def list(self, bucket: str, prefix: str = "") -> Iterator[StoredObject]:
        """List the objects under a prefix in the order of their keys."""
        for row in self._rows("bucket = ? ORDER BY key", bucket):
            found = object_from_row(self._root, row)
            if found.key.startswith(prefix):
                yield found

    def path_of(self, bucket: str, key: str) -> Path | None:
        """Give the file with an object's bytes; read it, never write it."""
        rows = self._rows("bucket = ? AND key = ?", bucket, key.encode())
        return object_from_row(self._root, rows[0]).path if rows else None

    def _rows(self, where: str, *parameters: Any) -> _Rows:
        with closing(sqlite3.connect(f"file:{self._root / 'index.sqlite'}?mode=ro", uri=True)) as index:
            sql = f"SELECT {OBJECT_COLUMNS} FROM objects WHERE latest = 1 AND delete_marker = 0 AND {where}"
            return index.execute(sql, parameters).fetchall()


def open_store(root: Path) -> StoreView:
    """Open the buckets of a sandbox's folder for reading.

    :param root: the sandbox's folder.
    """
    return StoreView(root)


def true_images(root: Path, *, gigabyte: str = "2^30") -> dict[int, dict[str, Path]]:
    """Say where the true image of every disk is, by server and device; those never captured do not exist yet.

    :param root: the sandbox's folder.
    :param gigabyte: the sandbox's switch of that name.
    """
    root = Path(root)
    with closing(sqlite3.connect(f"file:{root / 'world.sqlite'}?mode=ro", uri=True)) as world:
        guests = [json.loads(row[0]) for row in world.execute("SELECT doc FROM docs WHERE kind = 'guest'")]
    return {
        guest["id"]: {
            disk["device"]: root / "images" / f"{disk_spec(disk, gigabyte).key}.vhd" for disk in guest["_disks"]
        }
        for guest in guests
    }
