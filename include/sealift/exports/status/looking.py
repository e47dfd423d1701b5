"""One look at a place: everything is listed, and nothing but what has changed is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from sealift.cos.models import ObjectInfo
from sealift.exports import names
from sealift.exports.ledger import being_removed
from sealift.exports.ports import CosApi
from sealift.exports.status.index import ROOM, IndexedPlan, parse_index, parse_index_file
from sealift.exports.status.plans import PlanObjects, ReadPlan, read_plan_rows
from sealift.exports.status.rows import Rows, State, reconciled

READERS: Final = 8
"""So many objects are read at the same time."""

PLANS_AT_MOST: Final = 400
"""So many plans that no index covers are read, the newest ones."""

_BITS: Final = (1 << 64) - 1


class StoredIndex(NamedTuple):
    """An index that was read; without rows where this version cannot read it."""

    etag: str
    rows: Rows
    plans: list[IndexedPlan]


class BuiltPeriod(NamedTuple):
    """The rows of a slot, and what they were made of."""

    mark: tuple[object, ...]
    rows: Rows


@dataclass
class Listing:
    """What lies in a place.

    :param manifests: by period and number, ETag and time.
    :param marks: by period, a sum over the manifests that changes when one of them does.
    :param indexes: by period, the index's ETag.
    :param proofs: by period and number, how many later proofs there are.
    """

    manifests: dict[str, dict[int, tuple[str, float]]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    plans: dict[str, PlanObjects] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    proofs: dict[str, dict[int, int]] = field(default_factory=dict)

    def add(self, period: str, number: int, etag: str, at: float) -> None:
        """Take a manifest in.

        :param period: its slot.
        :param number: its server.
        :param etag: its ETag.
        :param at: when it was written, in seconds since 1970.
        """
        self.manifests.setdefault(period, {})[number] = (etag, at)
        self.marks[period] = (self.marks.get(period, 0) + hash((number, etag))) & _BITS

    def narrow(self, *, plan_id: str, periods: Collection[str]) -> None:
        """Forget everything but some slots and one plan.

        :param plan_id: the plan.
        :param periods: the slots.
        """
        self.manifests = {one: its for one, its in self.manifests.items() if one in periods}
        self.marks = {one: mark for one, mark in self.marks.items() if one in periods}
        self.indexes = {one: etag for one, etag in self.indexes.items() if one in periods}
        self.plans = {one: its for one, its in self.plans.items() if one == plan_id}


def list_place(
    cos: CosApi,
    *,
    bucket: str,
    prefix: str,
    told: Callable[[int], None] = lambda _count: None,
    guests: Collection[int] | None = None,
) -> Listing:
    """List a place: a call for 1,000 objects. Exports that are being removed are left out.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param told: called now and then with the number of manifests that were listed so far.
    :param guests: list the manifests of these only, a call for each of them; all if None.
    :returns: what is there.
    """
    found = Listing()
    going = being_removed(cos, bucket=bucket, prefix=prefix)
    for guest_id in (None,) if guests is None else guests:
        _list_ledger(found, cos.list(bucket, names.manifests_prefix(prefix, guest_id)), told, going)
    room = names.room_prefix(prefix, "plans")
    for info in cos.list(bucket, room):
        file = names.parse_plan_file(info.key.removeprefix(room))
        if file is not None:
            found.plans.setdefault(file.plan_id, PlanObjects(file.plan_id)).note(info, file)
    room = names.room_prefix(prefix, ROOM)
    for info in cos.list(bucket, room):
        indexed = parse_index_file(info.key.removeprefix(room))
        if indexed is not None:
            found.indexes[indexed] = info.etag
    room = names.room_prefix(prefix, "proofs")
    for info in cos.list(bucket, room):
        rest = info.key.removeprefix(room)
        if names.proof_number(rest) is not None:
            guest, period, _ = rest.split("/")
            its_proofs = found.proofs.setdefault(period, {})
            its_proofs[int(guest)] = its_proofs.get(int(guest), 0) + 1
    return found


def _list_ledger(
    found: Listing, infos: Iterable[ObjectInfo], told: Callable[[int], None], going: Collection[tuple[int, str]]
) -> None:
    count = 0
    for info in infos:
        parsed = names.parse_manifest_key(info.key)
        if parsed is None or parsed in going:
            continue
        number, period = parsed
        found.add(period, number, info.etag, info.last_modified.timestamp())
        count += 1
        if count % 1000 == 0:
            told(count)


class Memory:
    """What was read of a place so far. One thread at a time looks.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    """

    def __init__(self, *, cos: CosApi, bucket: str, prefix: str) -> None:
        self.cos = cos
        self.bucket = bucket
        self.prefix = prefix
        self.stored: dict[str, StoredIndex] = {}
        self.read: dict[str, tuple[tuple[object, ...], ReadPlan | None, str]] = {}
        self.built: dict[str, BuiltPeriod] = {}
        self.proofs: dict[str, dict[int, int]] = {}
        self.plans: dict[str, PlanObjects] = {}

    def look(self, listing: Listing, *, now: datetime, guests: Collection[int] | None = None) -> tuple[bool, list[str]]:
        """Bring everything up to what was listed.

        :param listing: what lies there.
        :param now: the present time, with a time zone.
        :param guests: only their manifests were listed: for the others, what the indexes say is taken for the ledger.
        :returns: whether any row is another than before, and what could not be read, in words.
        """
        self.proofs, self.plans = listing.proofs, listing.plans
        self._read_indexes(listing)
        if guests is not None:
            for period, index in self.stored.items():
                for row in index.rows.values():
                    if row.state is State.EXPORTED and row.number not in guests:
                        listing.add(period, row.number, row.etag, row.done_at)
        problems = self._read_plans(listing, now)
        open_plans = sorted(
            (plan for _, plan, _ in self.read.values() if plan is not None and not plan.dry_run),
            key=lambda one: (one.created_at, one.plan_id),
        )
        periods = listing.manifests.keys() | self.stored.keys() | {one for plan in open_plans for one in plan.rows}
        changed = bool(self.built.keys() - periods)
        built: dict[str, BuiltPeriod] = {}
        for period in periods:
            its = [plan for plan in open_plans if period in plan.rows]
            stored = self.stored.get(period)
            mark = (
                listing.marks.get(period),
                len(listing.manifests.get(period, ())),
                stored.etag if stored else None,
                tuple((plan.plan_id, self.read[plan.plan_id][0]) for plan in its),
            )
            before = self.built.get(period)
            if before is not None and before.mark == mark:
                built[period] = before
                continue
            rows = stored.rows if stored else {}
            for plan in its:
                rows = plan.put_over(period, rows)
            rows = reconciled(rows, listing.manifests.get(period, {}))
            if before is not None:
                _remember(rows, before.rows)
            built[period] = BuiltPeriod(mark, rows)
            changed = True
        self.built = built
        return changed, problems

    def unread(self, period: str) -> list[int]:
        """Name the servers whose manifests, or later proofs, were not read yet.

        :param period: the slot.
        """
        numbers = list(self.built[period].rows) if period in self.built else []
        return [number for number in numbers if self.is_unread(number, period)]

    def is_unread(self, number: int, period: str) -> bool:
        """Say whether an export's manifest, or a later proof of it, was not read yet.

        :param number: the server.
        :param period: the slot.
        """
        built = self.built.get(period)
        row = None if built is None else built.rows.get(number)
        if row is None or row.state is not State.EXPORTED:
            return False
        return not row.read or row.proofs < self.proofs.get(period, {}).get(number, 0)

    def exported(self, number: int, period: str) -> tuple[str, int] | None:
        """Give the ETag of an export's manifest, and how many later proofs there are.

        :param number: the server.
        :param period: the slot.
        :returns: None where the ledger knows no such export.
        """
        built = self.built.get(period)
        row = None if built is None else built.rows.get(number)
        if row is None or row.state is not State.EXPORTED:
            return None
        return row.etag, self.proofs.get(period, {}).get(number, 0)

    def was_dry_run(self, objects: PlanObjects) -> bool | None:
        """Say whether a plan was made by a dry run, which no listing tells.

        :param objects: the plan's objects.
        :returns: None where the plan was not read: it is one of very many that stand in no index, or cannot be read.
        """
        if objects.report is not None or objects.wave_reports:
            return False  # a dry run reports nothing
        _, plan, _ = self.read.get(objects.plan_id, (None, None, None))
        return None if plan is None else plan.dry_run

    def indexed_plans(self, period: str) -> list[IndexedPlan]:
        """Name the plans whose outcomes are in a slot's rows for good: those whose runs have reported.

        :param period: the slot.
        """
        plans = {one.plan_id: one for one in (self.stored[period].plans if period in self.stored else [])}
        for plan_id, (_, plan, _) in self.read.items():
            objects = self.plans.get(plan_id)
            speaks = plan is not None and not plan.dry_run and period in plan.rows
            if speaks and objects is not None and objects.plan is not None and objects.report is not None:
                plans[plan_id] = IndexedPlan(plan_id=plan_id, etag=objects.plan.etag, report_etag=objects.report.etag)
        return [plans[one] for one in sorted(plans)]

    def _read_indexes(self, listing: Listing) -> None:
        for period in self.stored.keys() - listing.indexes.keys():
            del self.stored[period]
        due = [
            period
            for period, etag in listing.indexes.items()
            if period not in self.stored or self.stored[period].etag != etag
        ]

        def read(period: str) -> bytes | None:
            return self.cos.read(self.bucket, f"{names.room_prefix(self.prefix, ROOM)}{period}.json")

        with ThreadPoolExecutor(READERS) as pool:
            for period, body in zip(due, pool.map(read, due), strict=True):
                index = None if body is None else parse_index(body)
                rows, plans = ({}, []) if index is None else (index.rows(), index.plans)
                self.stored[period] = StoredIndex(listing.indexes[period], rows, plans)

    def _read_plans(self, listing: Listing, now: datetime) -> list[str]:
        covered = {(one.plan_id, one.etag, one.report_etag) for stored in self.stored.values() for one in stored.plans}
        open_plans = [
            one
            for one in listing.plans.values()
            if one.plan is None or one.report is None or (one.plan_id, one.plan.etag, one.report.etag) not in covered
        ]
        open_plans.sort(key=lambda one: one.last or now, reverse=True)
        problems = []
        if len(open_plans) > PLANS_AT_MOST:
            problems.append(
                f"{len(open_plans)} plans stand in no index, and the newest {PLANS_AT_MOST} were read. "
                "`sealift status --write-index` writes the index anew."
            )
        read = {}
        for objects in open_plans[:PLANS_AT_MOST]:
            mark = objects.mark(now)
            known = self.read.get(objects.plan_id)
            if known is None or known[0] != mark:
                plan, problem = read_plan_rows(self.cos, objects, bucket=self.bucket, prefix=self.prefix, now=now)
                known = (mark, plan, problem)
            read[objects.plan_id] = known
            if known[2]:
                problems.append(known[2])
        self.read = read
        return problems


def _remember(rows: Rows, before: Rows) -> None:
    """Keep what manifests said before, of those that are the same."""
    for number, row in rows.items():
        known = before.get(number)
        if known is not None and known.read and not row.read and row.etag == known.etag:
            rows[number] = row._replace(
                read=True,
                hostname=row.hostname or known.hostname,
                domain=row.domain or known.domain,
                datacenter=row.datacenter or known.datacenter,
                level=known.level,
                proofs=known.proofs,
                bytes=known.bytes,
                disks=known.disks,
                capacity=known.capacity,
                capture_seconds=known.capture_seconds,
                export_seconds=known.export_seconds,
            )
