"""The places that may be looked at: where plan_exports exports to by itself, and those that a deployment adds."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sealift.connections import COS_DEFAULT, COS_TYPE
from sealift.provider.errors import ConnectionProblem

if TYPE_CHECKING:
    from sealift.exports.status.books import Books
    from sealift.provider.hooks.cos import CosHook

DEFAULT: Final = "default"

CONNECTION_TRUSTED_FOR: Final = 120.0
"""Seconds until a connection is read again: somebody may have changed it."""

_FIELDS: Final = frozenset({"name", "cos_conn_id", "bucket", "region", "prefix"})


@dataclass(frozen=True, kw_only=True)
class Place:
    """A bucket and a prefix, and the connection that reaches it.

    :param name: what a request names it by.
    :param bucket: empty for the connection's.
    :param region: empty for the connection's.
    """

    name: str
    cos_conn_id: str = COS_DEFAULT
    bucket: str = ""
    region: str = ""
    prefix: str = "sealift"


def places_of(default_params: Mapping[str, Any], more: str) -> dict[str, Place]:
    """Say which places a deployment has.

    :param default_params: what plan_exports exports with by itself; from ``[sealift] default_params``.
    :param more: a JSON list of further places; from ``[sealift] ui_places``.
    :returns: by name; the first is the default.
    :raises ValueError: the list is none, or a place in it is not one.
    """
    from sealift.exports.names import normal_prefix

    def text(of: Mapping[str, Any], field: str, default: str = "") -> str:
        value = of.get(field)
        return default if value in (None, "") else str(value)

    first = Place(
        name=DEFAULT,
        cos_conn_id=text(default_params, "cos_conn_id", COS_DEFAULT),
        bucket=text(default_params, "bucket"),
        region=text(default_params, "region"),
        prefix=normal_prefix(str(default_params.get("prefix", "sealift") or "")),
    )
    found = {DEFAULT: first}
    try:
        listed = json.loads(more or "[]")
    except json.JSONDecodeError as error:
        raise ValueError(f"[sealift] ui_places is not JSON: {error}") from error
    if not isinstance(listed, list):
        raise ValueError("[sealift] ui_places must be a JSON list of places")  # noqa: TRY004 - one kind of error
    for one in listed:
        unknown = sorted(set(one) - _FIELDS) if isinstance(one, dict) else ["something that is no object"]
        if unknown or not one.get("name") or one["name"] in found:
            what = f"knows no {', '.join(unknown)}" if unknown else "must give each place a name of its own"
            raise ValueError(f"[sealift] ui_places {what}; a place has {', '.join(sorted(_FIELDS))}")
        found[str(one["name"])] = Place(
            name=str(one["name"]),
            cos_conn_id=text(one, "cos_conn_id", first.cos_conn_id),
            bucket=text(one, "bucket", first.bucket),
            region=text(one, "region", first.region),
            prefix=normal_prefix(str(one.get("prefix", first.prefix) or "")),
        )
    return found


@dataclass(kw_only=True)
class OpenPlace:
    """A place whose connection was read.

    :param bucket: the bucket, by name.
    :param region: its region.
    """

    place: Place
    bucket: str
    region: str
    books: Books
    hook: CosHook


class Places:
    """Opens places, and keeps their books as long as their connections stay the same.

    :param places: by name.
    :param problem: why there are none, where the deployment's settings cannot be read.
    :param monotonic: a clock for durations, in seconds.
    """

    def __init__(
        self, places: Mapping[str, Place], *, problem: str = "", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.places = dict(places)
        self.problem = problem
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._open: dict[str, tuple[float, str, OpenPlace]] = {}

    def open(self, name: str) -> OpenPlace:
        """Give a place.

        :param name: its name.
        :returns: the place with its books.
        :raises KeyError: there is no such place.
        :raises ConnectionProblem: its connection is missing or wrong, or names no bucket.
        """
        if self.problem:
            raise ConnectionProblem(self.problem)
        place = self.places[name]
        with self._lock:
            known = self._open.get(name)
            if known is not None and self._monotonic() - known[0] < CONNECTION_TRUSTED_FOR:
                return known[2]
            mark = _mark(place.cos_conn_id)
            opened = known[2] if known is not None and known[1] == mark else self._opened(place)
            self._open[name] = (self._monotonic(), mark, opened)
            return opened

    @staticmethod
    def _opened(place: Place) -> OpenPlace:
        from sealift.exports.status.books import Books
        from sealift.provider.hooks.cos import CosHook

        hook = CosHook(place.cos_conn_id, region=place.region or None)
        bucket = place.bucket or hook.default_bucket
        if not bucket:
            raise ConnectionProblem(
                f"No bucket is named: put one into the connection {place.cos_conn_id!r} (field bucket), or into "
                "[sealift] default_params."
            )
        books = Books(cos=hook.client, bucket=bucket, prefix=place.prefix)
        return OpenPlace(place=place, bucket=bucket, region=hook.region, books=books, hook=hook)


def _mark(conn_id: str) -> str:
    """A digest that changes with the connection, so that no secret is kept to compare with."""
    from sealift.provider.hooks.connections import read_connection

    connection = read_connection(conn_id, COS_TYPE)
    told = [connection.host, connection.port, connection.login, connection.password, connection.extra_dejson]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
