"""One server in one slot, as small as it can be kept: a bucket may hold a quarter of a million of them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple


class State(StrEnum):
    """What became of a server in a slot."""

    EXPORTED = "exported"
    RUNNING = "running"
    FAILED = "failed"
    SKIPPED = "skipped"
    MISSING = "missing"
    NOT_SELECTED = "not selected"


SHOWN_FIRST: Final = (
    State.FAILED,
    State.MISSING,
    State.RUNNING,
    State.SKIPPED,
    State.NOT_SELECTED,
    State.EXPORTED,
)
"""The states in the order in which somebody wants to hear of them."""


class Row(NamedTuple):
    """One server in one slot. Times are seconds since 1970, durations seconds; 0 means that it is not known.

    :param number: the virtual server's id; a bare metal server's with a minus, since those are numbered apart.
    :param etag: the manifest's, where there is one.
    :param read: the manifest was read, so that what it says is here.
    :param proofs: so many later proofs are taken into account.
    :param done_at: when the manifest was written, by the store.
    :param failed_at: when a report first said that the server failed in this slot, whatever came after.
    :param wave: number of the wave that carries it; -1 where none does.
    """

    number: int
    hostname: str = ""
    domain: str = ""
    datacenter: str = ""
    tags: tuple[str, ...] = ()
    state: State = State.MISSING
    etag: str = ""
    read: bool = False
    level: str = ""
    proofs: int = 0
    done_at: float = 0.0
    bytes: int = 0
    disks: int = 0
    capacity: int = 0
    capture_seconds: float = 0.0
    export_seconds: float = 0.0
    plan_id: str = ""
    wave: int = -1
    rule: str = ""
    task: str = ""
    words: str = ""
    failed_at: float = 0.0

    @property
    def cell(self) -> str:
        """The row in one word: the proof's level of an export whose manifest was read, else the state."""
        return self.level if self.state is State.EXPORTED and self.level else self.state.value


Rows = dict[int, Row]
"""The rows of one slot, by the servers' numbers."""


def renewed(old: Row | None, new: Row) -> Row:
    """Put what a later plan says over what was known.

    :param old: what was known, if anything was.
    :param new: what the plan says.
    :returns: the new row, with what the manifest said and when the server first failed.
    """
    if old is None:
        return new
    first = min(filter(None, (old.failed_at, new.failed_at)), default=0.0)
    return new._replace(
        hostname=new.hostname or old.hostname,
        domain=new.domain or old.domain,
        datacenter=new.datacenter or old.datacenter,
        tags=new.tags or old.tags,
        etag=old.etag,
        read=old.read,
        level=old.level,
        proofs=old.proofs,
        done_at=old.done_at,
        bytes=old.bytes,
        disks=old.disks,
        capacity=old.capacity or new.capacity,
        capture_seconds=old.capture_seconds,
        export_seconds=old.export_seconds,
        failed_at=first,
    )


def reconciled(rows: Rows, listed: dict[int, tuple[str, float]]) -> Rows:
    """Let the ledger decide what is exported: a manifest that is listed, and nothing else.

    :param rows: what plans, reports or an index say of a slot.
    :param listed: by number, ETag and time of each manifest of the slot.
    :returns: the rows as they are.
    """
    found: Rows = {}
    for number, row in rows.items():
        if number in listed:
            continue
        if row.state is State.EXPORTED:
            row = row._replace(
                state=State.MISSING,
                words="Its manifest was there and is gone from the ledger. `sealift doctor` says what is left of it.",
            )
        found[number] = row
    for number, (etag, at) in listed.items():
        known = rows.get(number) or Row(number)
        if known.etag != etag:
            known = known._replace(etag=etag, read=False, level="", proofs=0, bytes=0, disks=0)
        found[number] = known._replace(state=State.EXPORTED, done_at=at, rule="", task="", words="")
    return found


def count_states(rows: Iterable[Row]) -> dict[State, int]:
    """Count rows by state.

    :param rows: the rows.
    :returns: by state; those that do not occur are left out.
    """
    counts: dict[State, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    return counts
