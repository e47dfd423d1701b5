"""Coverage: servers by slots, chosen, ordered and cut into pages."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from sealift.exports.status.grid import state_of
from sealift.exports.status.rows import SHOWN_FIRST, Row, State
from sealift.exports.status.snapshot import Identity, Snapshot

SLOTS_SHOWN: Final = 52
SLOTS_AT_MOST: Final = 400
LIMIT_AT_MOST: Final = 500

_WORDS_AT_MOST: Final = 300
_RANK: Final[dict[State | None, int]] = {state: rank for rank, state in enumerate(SHOWN_FIRST)}


class ReadModel(BaseModel):
    """Base of what is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Order(StrEnum):
    """What servers are ordered by."""

    NAME = "name"
    DATACENTER = "datacenter"
    STATE = "state"
    SIZE = "size"
    LAST_EXPORT = "last_export"


class SlotSummary(ReadModel):
    """A slot, and what became of the servers that were chosen."""

    period: str = Field(description="The slot's name, as 20261123T0200Z; of a manual run, its period")
    at: datetime = Field(description="The slot's time; of a manual run, when its plan was made")
    scheduled: bool = Field(description="Whether it is a slot of a schedule, and no manual run")
    counts: dict[State, int] = Field(description="Servers by state; a state without any is left out")
    bytes: int = Field(description="Bytes of the images of these servers, as far as their manifests were read")
    unread: int = Field(description="Exports whose manifests were not read yet, so that level and bytes are unknown")


class ServerLine(ReadModel):
    """A server and its slots."""

    id: int = Field(description="The server's id")
    kind: Annotated[str, Field(description="virtual or bare metal; the two are numbered apart")]
    hostname: str = Field(description="Its host name; empty where only its id is known yet")
    domain: str = Field(description="Its domain; may be empty")
    datacenter: str = Field(description="Its data center; may be empty")
    tags: list[str] = Field(description="Its tags, as of the newest plan that names them")
    cells: list[str] = Field(
        description="One for each slot, in their order: a proof level (L0 to L4) of an export, or exported (not read "
        "yet), running, failed, skipped, missing, not selected; empty where the server was not known yet"
    )
    reasons: dict[int, str] = Field(
        description="By place in cells: why a server failed, was skipped or is missing; at most 300 characters"
    )
    last_export: datetime | None = Field(description="When its newest export was done; none: there is no export")
    last_period: str | None = Field(description="The slot of that export")
    bytes: int = Field(description="Bytes of that export's images; 0 where its manifest was not read yet")


class Coverage(ReadModel):
    """A page of servers by slots."""

    total: int = Field(description="Servers that fit the filters")
    offset: int = Field(description="How many of them come before this page")
    limit: int = Field(description="Most servers of a page")
    slots: list[SlotSummary] = Field(description="The slots, newest first")
    slots_total: int = Field(description="How many slots there are in all")
    servers: list[ServerLine] = Field(description="The page's servers")
    changed_at: datetime = Field(description="When a change was found last")
    problems: list[str] = Field(description="What could not be read, in words")


class Query(ReadModel):
    """Which servers and slots are shown, and how.

    :raises ValueError: a figure is out of range.
    """

    name: str = Field(
        default="", max_length=255, description="Part of the name or the id, or a pattern as web*; empty: all"
    )
    datacenter: list[str] = Field(
        default_factory=list, max_length=100, description="Data centers, any of them; empty: all"
    )
    tag: list[str] = Field(default_factory=list, max_length=100, description="Tags, any of them; empty: all")
    state: list[State] = Field(
        default_factory=list, description="States, any of them, in the newest slot shown or in that of in_slot"
    )
    in_slot: str = Field(
        default="",
        max_length=60,
        description="The period that state speaks of; any: in any slot shown; empty: the newest slot shown",
    )
    scheduled: bool | None = Field(default=None, description="Only slots of a schedule, or only manual runs")
    slots: int = Field(default=SLOTS_SHOWN, ge=1, le=SLOTS_AT_MOST, description="Most slots, the newest ones")
    slots_offset: int = Field(default=0, ge=0, description="How many of the newest slots to pass over")
    order: Order = Field(default=Order.NAME, description="What servers are ordered by")
    descending: bool = Field(default=False, description="The other way round")
    offset: int = Field(default=0, ge=0, description="Servers to pass over")
    limit: int = Field(default=100, ge=1, le=LIMIT_AT_MOST, description="Most servers of the page")


def chosen_slots(snapshot: Snapshot, query: Query) -> tuple[list[int], int]:
    """Choose the slots that are shown.

    :param snapshot: what is known.
    :param query: what is asked for.
    :returns: their places in the snapshot, newest first, and how many fit.
    """
    fitting = [
        place
        for place, slot in enumerate(snapshot.slots)
        if query.scheduled is None or slot.scheduled is query.scheduled
    ]
    return fitting[query.slots_offset : query.slots_offset + query.slots], len(fitting)


def chosen_servers(snapshot: Snapshot, query: Query, places: Sequence[int]) -> list[int]:
    """Choose the servers and put them into their order.

    :param snapshot: what is known.
    :param query: what is asked for.
    :param places: the slots that are shown.
    :returns: the places in the snapshot's grid of all servers that fit, in order.
    """
    grid = snapshot.grid
    name, datacenters, tags = query.name.strip().lower(), set(query.datacenter), set(query.tag)
    found: Iterable[int] = range(len(grid.servers))
    if query.state:
        fits = grid.in_states(_state_places(snapshot, query, places), query.state)
        found = itertools.compress(found, fits)
    if name or datacenters or tags:
        found = [
            place
            for place in found
            if _fits_name(one := grid.servers[place], name)
            and (not datacenters or one.datacenter in datacenters)
            and (not tags or not tags.isdisjoint(one.tags))
        ]
    return _ordered(snapshot, list(found), query, places)


def page_of(snapshot: Snapshot, query: Query) -> list[tuple[int, str]]:
    """Name the rows of a page whose manifests may have to be read before it is made.

    :param snapshot: what is known.
    :param query: what is asked for.
    :returns: pairs of number and period, of slots in which something was not read yet.
    """
    places = [place for place in chosen_slots(snapshot, query)[0] if snapshot.grid.unread(place)]
    if not places:
        return []
    page = chosen_servers(snapshot, query, chosen_slots(snapshot, query)[0])[query.offset : query.offset + query.limit]
    servers = [snapshot.grid.servers[one] for one in page]
    return [(one.number, snapshot.slots[place].period) for place in places for one in servers]


def coverage(snapshot: Snapshot, query: Query) -> Coverage:
    """Make a page of servers by slots.

    :param snapshot: what is known.
    :param query: what is asked for.
    :returns: the page.
    """
    places, slots_total = chosen_slots(snapshot, query)
    servers = chosen_servers(snapshot, query, places)
    page = servers[query.offset : query.offset + query.limit]
    return Coverage(
        total=len(servers),
        offset=query.offset,
        limit=query.limit,
        slots=_summaries(snapshot, servers, places),
        slots_total=slots_total,
        servers=[_line(snapshot, one, places) for one in page],
        changed_at=snapshot.changed_at,
        problems=snapshot.problems,
    )


def _fits_name(one: Identity, asked: str) -> bool:
    if not asked:
        return True
    name = one.name.lower()
    if "*" in asked or "?" in asked:
        return fnmatch.fnmatchcase(name, asked) or fnmatch.fnmatchcase(one.hostname.lower(), asked)
    return asked in name or asked == str(abs(one.number))


def _state_places(snapshot: Snapshot, query: Query, places: Sequence[int]) -> Sequence[int]:
    if query.in_slot == "any":
        return places
    if query.in_slot:
        return [place for place, slot in enumerate(snapshot.slots) if slot.period == query.in_slot]
    return places[:1]


def _ordered(snapshot: Snapshot, found: list[int], query: Query, places: Sequence[int]) -> list[int]:
    # They are in the order of their names, which holds among equals.
    grid = snapshot.grid
    if query.order is Order.DATACENTER:
        found.sort(key=lambda one: grid.servers[one].datacenter)
    elif query.order is Order.STATE and places:
        found.sort(key=lambda one: _RANK.get(state_of(grid.code(places[0], one)), len(_RANK)))
    elif query.order in (Order.SIZE, Order.LAST_EXPORT):

        def by(one: int) -> float:
            row = _latest(snapshot, one)
            if row is None:
                return -1.0
            return row.done_at if query.order is Order.LAST_EXPORT else float(row.bytes)

        found.sort(key=by)
    if query.descending:
        found.reverse()
    return found


def _latest(snapshot: Snapshot, place: int) -> Row | None:
    at = snapshot.grid.latest(place)
    return None if at < 0 else snapshot.row(snapshot.grid.servers[place].number, snapshot.slots[at].period)


def _summaries(snapshot: Snapshot, servers: Sequence[int], places: Sequence[int]) -> list[SlotSummary]:
    summaries = []
    grid = snapshot.grid
    chosen = grid.chosen(servers)
    for place in places:
        slot = snapshot.slots[place]
        counts, size, unread = grid.counts(place, chosen)
        summaries.append(
            SlotSummary(
                period=slot.period, at=slot.at, scheduled=slot.scheduled, counts=counts, bytes=size, unread=unread
            )
        )
    return summaries


def _line(snapshot: Snapshot, at: int, places: Sequence[int]) -> ServerLine:
    one = snapshot.grid.servers[at]
    cells, reasons = [], {}
    for cell, place in enumerate(places):
        row = snapshot.row(one.number, snapshot.slots[place].period)
        if row is not None:
            cells.append(row.cell)
            if row.words:
                reasons[cell] = short(row.words)
        else:
            state = state_of(snapshot.grid.code(place, at))
            cells.append("" if state is None else state.value)
    last = _latest(snapshot, at)
    return ServerLine(
        id=abs(one.number),
        kind=kind_of(one.number),
        hostname=one.hostname,
        domain=one.domain,
        datacenter=one.datacenter,
        tags=list(one.tags),
        cells=cells,
        reasons=reasons,
        last_export=None if last is None else moment(last.done_at),
        last_period=None if last is None else snapshot.slots[snapshot.grid.latest(at)].period,
        bytes=0 if last is None else last.bytes,
    )


def kind_of(number: int) -> str:
    """Say what kind of server a number stands for.

    :param number: see :class:`sealift.exports.status.rows.Row`.
    :returns: ``virtual`` or ``bare metal``.
    """
    return "virtual" if number >= 0 else "bare metal"


def moment(seconds: float) -> datetime | None:
    """Give a time as people and JSON have it.

    :param seconds: since 1970; 0 for none.
    :returns: in UTC, or None.
    """
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def short(words: str) -> str:
    """Cut words that are long.

    :param words: any text.
    :returns: at most 300 characters.
    """
    return words if len(words) <= _WORDS_AT_MOST else words[: _WORDS_AT_MOST - 1] + "…"
