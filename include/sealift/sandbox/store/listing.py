"""Listings in the order of the keys' bytes, in pages, with prefix and delimiter: objects, versions and uploads.

One walk serves all three: entries come from the index in batches; a key that holds the delimiter behind the prefix
stands for its whole group, and the walk jumps behind the group instead of reading through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sealift.sandbox.store.models import StoredObject, Upload
from sealift.sandbox.store.records import OBJECT_COLUMNS, UPLOAD_COLUMNS, key_bytes, object_from_row, upload_from_row

if TYPE_CHECKING:
    from sealift.sandbox.store.objects import ObjectStore

# No UTF-8 text holds this byte: a prefix with it behind sorts after every key that starts so.
_AFTER_ALL = b"\xff"
_BATCH = 1000


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


Entry = TypeVar("Entry", bound=_Keyed)
# A place in a listing: behind this key, or within it behind this row number or upload id.
Position = tuple[bytes, int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Entry]):
    """A page of a listing.

    :param prefixes: the groups ("common prefixes") among the page.
    :param next_after: the last key or group of the page, behind which the next one starts.
    :param last: the last entry of the page, ``None`` if a group stands last.
    """

    entries: Sequence[Entry]
    prefixes: Sequence[str]
    truncated: bool
    next_after: str = ""
    last: Entry | None = None


def _walk(
    *,
    fetch: Callable[[Position, int], list[Entry]],
    place_of: Callable[[Entry], Position],
    start: Position,
    prefix: str,
    delimiter: str,
    given: str,
    limit: int,
) -> Page[Entry]:
    """Walk a listing up to the end of a page.

    :param fetch: gives up to so many entries behind a position, in order.
    :param given: a group that the page before gave already.
    """
    entries: list[Entry] = []
    groups: list[str] = []
    last, last_entry, position = "", None, start
    while limit:
        jumped = False
        for entry in fetch(position, min(limit - len(entries) - len(groups) + 1, _BATCH)):
            cut = entry.key.find(delimiter, len(prefix)) if delimiter else -1
            group = entry.key[: cut + len(delimiter)] if cut >= 0 else ""
            if not (group and group == given):
                if len(entries) + len(groups) == limit:
                    return Page(entries=entries, prefixes=groups, truncated=True, next_after=last, last=last_entry)
                if group:
                    groups.append(group)
                    last, last_entry, given = group, None, group
                else:
                    entries.append(entry)
                    last, last_entry, position = entry.key, entry, place_of(entry)
            jumped = True
            if group:
                position = (key_bytes(group) + _AFTER_ALL, None)
                break
        if not jumped:
            break
    return Page(entries=entries, prefixes=groups, truncated=False)


def list_objects(
    store: ObjectStore, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
) -> Page[StoredObject]:
    """List latest versions that are no delete markers.

    :param after: a key, or the ``next_after`` of the page before.
    """
    low, high = key_bytes(prefix), key_bytes(prefix) + _AFTER_ALL

    def fetch(position: Position, count: int) -> list[StoredObject]:
        rows = store.database.query(
            f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket = ? AND latest = 1 AND delete_marker = 0"  # noqa: S608 - own columns
            " AND key > ? AND key >= ? AND key < ? ORDER BY key LIMIT ?",
            (bucket, position[0], low, high, count),
        )
        return [object_from_row(store.root, row) for row in rows]

    return _walk(
        fetch=fetch,
        place_of=lambda entry: (key_bytes(entry.key), None),
        start=(key_bytes(after), None),
        prefix=prefix,
        delimiter=delimiter,
        given=after,
        limit=limit,
    )


def list_versions(
    store: ObjectStore, bucket: str, *, prefix: str = "", delimiter: str = "", after_key: str = "",
    after_version_id: str = "", after_row: int | None = None, limit: int = 1000,
) -> Page[StoredObject]:  # fmt: skip
    """List all versions and delete markers: keys ascending, newest version first.

    :param after_version_id: with ``after_key``: start within that key, behind this version.
    :param after_row: the same by row number, for callers that may have deleted the version meanwhile.
    """
    low, high = key_bytes(prefix), key_bytes(prefix) + _AFTER_ALL
    if after_version_id and (marker := store.head(bucket, after_key, after_version_id)):
        after_row = marker.row

    def fetch(position: Position, count: int) -> list[StoredObject]:
        rows = store.database.query(
            f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket = ? AND key >= ? AND key < ?"  # noqa: S608 - own columns
            " AND (key > ? OR (key = ? AND row < ?)) ORDER BY key, row DESC LIMIT ?",
            (bucket, low, high, position[0], position[0], position[1], count),
        )
        return [object_from_row(store.root, row) for row in rows]

    return _walk(
        fetch=fetch,
        place_of=lambda entry: (key_bytes(entry.key), entry.row),
        start=(key_bytes(after_key), after_row),
        prefix=prefix,
        delimiter=delimiter,
        given=after_key,
        limit=limit,
    )


def list_uploads(
    store: ObjectStore, bucket: str, *, prefix: str = "", delimiter: str = "", after_key: str = "",
    after_upload_id: str = "", limit: int = 1000,
) -> Page[Upload]:  # fmt: skip
    """List unfinished multipart uploads by key, then by upload id.

    :param after_upload_id: with ``after_key``: start within that key, behind this upload.
    """
    low, high = key_bytes(prefix), key_bytes(prefix) + _AFTER_ALL

    def fetch(position: Position, count: int) -> list[Upload]:
        rows = store.database.query(
            f"SELECT {UPLOAD_COLUMNS} FROM uploads WHERE bucket = ? AND key >= ? AND key < ?"  # noqa: S608 - own columns
            " AND (key > ? OR (key = ? AND upload_id > ?)) ORDER BY key, upload_id LIMIT ?",
            (bucket, low, high, position[0], position[0], position[1], count),
        )
        return [upload_from_row(row) for row in rows]

    return _walk(
        fetch=fetch,
        place_of=lambda upload: (key_bytes(upload.key), upload.upload_id),
        start=(key_bytes(after_key), after_upload_id or None),
        prefix=prefix,
        delimiter=delimiter,
        given=after_key,
        limit=limit,
    )
