"""What servers can be chosen by: the data centers, tags and slots that there are."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from pydantic import Field

from sealift.exports.status.coverage import ReadModel
from sealift.exports.status.rows import State, count_states
from sealift.exports.status.snapshot import Snapshot


class Choice(ReadModel):
    """A value that servers have."""

    value: str = Field(description="The value")
    servers: int = Field(description="Servers that have it")


class SlotChoice(ReadModel):
    """A slot."""

    period: str = Field(description="The slot's name")
    at: datetime = Field(description="The slot's time; of a manual run, when its plan was made")
    scheduled: bool = Field(description="Whether it is a slot of a schedule, and no manual run")


class Filters(ReadModel):
    """What servers and slots can be chosen by."""

    servers: int = Field(description="Servers that the bucket knows of")
    newest: dict[State, int] = Field(description="Of the newest slot, the servers that it speaks of, by state")
    datacenters: list[Choice] = Field(description="Data centers")
    tags: list[Choice] = Field(description="Tags")
    slots: list[SlotChoice] = Field(description="Slots, newest first")
    unread: int = Field(description="Exports whose manifests were not read yet")
    problems: list[str] = Field(description="What could not be read, in words")


def filters(snapshot: Snapshot) -> Filters:
    """Say what there is to choose by.

    :param snapshot: what is known.
    :returns: the choices.
    """
    datacenters = Counter(one.datacenter for one in snapshot.servers.values() if one.datacenter)
    tags = Counter(tag for one in snapshot.servers.values() for tag in one.tags)
    newest = snapshot.rows[snapshot.slots[0].period].values() if snapshot.slots else ()
    return Filters(
        servers=len(snapshot.servers),
        newest=count_states(newest),
        datacenters=[Choice(value=value, servers=count) for value, count in sorted(datacenters.items())],
        tags=[Choice(value=value, servers=count) for value, count in sorted(tags.items())],
        slots=[SlotChoice(period=one.period, at=one.at, scheduled=one.scheduled) for one in snapshot.slots],
        unread=sum(snapshot.grid.unread(place) for place in range(len(snapshot.slots))),
        problems=snapshot.problems,
    )
