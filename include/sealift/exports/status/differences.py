"""What is different between two configuration records of a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from sealift.exports.record import ConfigurationRecord
from sealift.exports.status.coverage import ReadModel

CHANGES_AT_MOST: Final = 500

_NOISE: Final = frozenset({"detail.modifyDate"})
"""What changes without anything having changed."""

_IDENTITY: Final = ("id", "tag", "device")


class Change(ReadModel):
    """A value that is another than before."""

    path: str = Field(description="Where in the record, as detail.maxMemory or block_devices[42].mountMode")
    before: str | None = Field(description="The value before; none: it was not there")
    after: str | None = Field(description="The value now; none: it is gone")


def differences(before: ConfigurationRecord, after: ConfigurationRecord) -> list[Change]:
    """Compare two records.

    :param before: the earlier one.
    :param after: the later one.
    :returns: what is different, by path; at most 500. Elements of lists are told apart by their ids.
    """
    old, new = (dict(_flat("", _plain(one))) for one in (before, after))
    changed = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
    return [Change(path=path, before=old.get(path), after=new.get(path)) for path in changed if path not in _NOISE][
        :CHANGES_AT_MOST
    ]


def _plain(record: ConfigurationRecord) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude={"schema_version", "guest_id", "left_out"})


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _flat(f"{path}.{name}" if path else str(name), one)
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from _flat(f"{path}[{_name(one, place)}]", one)
    elif value is not None:
        yield path, str(value)


def _name(element: Any, place: int) -> str:
    if isinstance(element, dict):
        for name in _IDENTITY:
            found = element.get(name)
            if isinstance(found, dict):
                found = found.get("id") or found.get("name")
            if isinstance(found, str | int):
                return str(found)
        kind = element.get("type")
        if isinstance(kind, dict) and isinstance(kind.get("keyname"), str):
            return str(kind["keyname"])
    return str(place)
