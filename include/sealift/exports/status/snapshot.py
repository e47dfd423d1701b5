"""All rows of a place at one moment, with what every view needs to know of servers and slots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from sealift.exports import names
from sealift.exports.status.grid import Grid
from sealift.exports.status.rows import Row, Rows, State


class Identity(NamedTuple):
    """What is known of a server, by the newest slot that says something.

    :param number: see :class:`sealift.exports.status.rows.Row`.
    :param first: place of the oldest slot that knows the server, counted from the newest.
    """

    number: int
    hostname: str
    domain: str
    datacenter: str
    tags: tuple[str, ...]
    first: int

    @property
    def name(self) -> str:
        """What it is found by: its full name, or its id where nothing else is known."""
        if not self.hostname:
            return str(abs(self.number))
        return f"{self.hostname}.{self.domain}" if self.domain else self.hostname


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A scheduled slot, or a manual run.

    :param at: the slot's time; of a manual run, when its plan was made, or its first export was done.
    :param scheduled: it is a slot of a schedule.
    """

    period: str
    at: datetime
    scheduled: bool


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """A plan, as the listing shows it.

    :param written_at: when the plan was written, by the store.
    :param last_sign: when its run wrote last, as far as plans and reports show.
    :param waves_reported: how many of its waves have reported.
    :param dry_run: it was made by a dry run; None where nobody has read it yet.
    """

    plan_id: str
    written_at: datetime
    last_sign: datetime
    waves_reported: int
    reported: bool
    at_work: bool
    dry_run: bool | None = None


@dataclass(kw_only=True)
class Snapshot:
    """All that is known of a place. Rows are filled in while it is in use, and nothing else of it changes.

    :param version: another one whenever anything in it is another.
    :param checked_at: when the ledger was looked at last.
    :param changed_at: when something was found changed last.
    :param slots: newest first.
    :param rows: by period.
    :param plans: newest first.
    :param problems: what could not be read, in words.
    :param parts: by period, what somebody has worked out of a slot's rows and wants to keep as long as they stay.
    """

    version: str
    checked_at: datetime
    changed_at: datetime
    slots: list[Slot]
    rows: dict[str, Rows]
    plans: list[PlanFacts]
    problems: list[str] = field(default_factory=list)
    servers: dict[int, Identity] = field(default_factory=dict)
    parts: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find out who the servers are."""
        self.servers = identities(self.slots, self.rows)
        self._places = {slot.period: place for place, slot in enumerate(self.slots)}
        self._grid: Grid | None = Grid(self.servers, self.slots, self.rows)

    @property
    def grid(self) -> Grid:
        """The same, for counting."""
        grid = self._grid
        if grid is None:
            grid = self._grid = Grid(self.servers, self.slots, self.rows)
        return grid

    def learn(self, period: str, row: Row) -> None:
        """Take in what a manifest said, and who a server is where only that could tell.

        :param period: the slot.
        :param row: the server's row in it, which stands in :attr:`rows` already.
        """
        known = self.servers.get(row.number)
        if known is None or period not in self._places:
            return
        self.parts.pop(period, None)
        if not known.hostname and row.hostname:
            self.servers[row.number] = known._replace(
                hostname=row.hostname, domain=row.domain, datacenter=row.datacenter, tags=row.tags
            )
            self._grid = None  # another name, another order
        elif self._grid is not None:
            self._grid.learn(self._places[period], row)

    def row(self, number: int, period: str) -> Row | None:
        """Give one server's row in one slot, or None where the slot knows nothing of it.

        :param number: the server.
        :param period: the slot.
        """
        return self.rows[period].get(number) if period in self.rows else None

    def history(self, number: int) -> Iterator[tuple[Slot, Row]]:
        """Give the rows of one server, newest first.

        :param number: the server.
        """
        for slot in self.slots:
            row = self.rows[slot.period].get(number)
            if row is not None:
                yield slot, row

    def previous_export(self, number: int, period: str) -> str | None:
        """Name the slot of a server's export before a given one.

        :param number: the server.
        :param period: the slot of the export.
        :returns: the period, or None where there is no earlier export.
        """
        older = False
        for slot, row in self.history(number):
            if older and row.state is State.EXPORTED:
                return slot.period
            older = older or slot.period == period
        return None


def identities(slots: list[Slot], rows: Mapping[str, Rows]) -> dict[int, Identity]:
    """Find out who the servers are, by the newest slot that says something of each.

    :param slots: newest first.
    :param rows: by period.
    :returns: by number.
    """
    latest: dict[int, Row] = {}
    first: dict[int, int] = {}
    for place, slot in enumerate(slots):
        for number, row in rows[slot.period].items():
            known = latest.get(number)
            if known is None or (not known.hostname and row.hostname):
                latest[number] = row
            first[number] = place
    return {
        number: Identity(number, row.hostname, row.domain, row.datacenter, row.tags, first[number])
        for number, row in latest.items()
    }


def slots_of(rows: Mapping[str, Rows], made: Mapping[str, datetime]) -> list[Slot]:
    """Put slots into their order.

    :param rows: by period.
    :param made: by period, when the first plan for it was made, where that is known.
    :returns: newest first.
    """
    found = []
    for period, its in rows.items():
        slot = names.slot_of_period(period)
        at = slot or made.get(period)
        if at is None:
            done = min((row.done_at for row in its.values() if row.done_at), default=0.0)
            at = datetime.fromtimestamp(done, UTC)
        found.append(Slot(period=period, at=at, scheduled=slot is not None))
    return sorted(found, key=lambda one: (one.at, one.period), reverse=True)
