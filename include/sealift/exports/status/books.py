"""The books of a place: its rows in memory, looked after in the background, and the index that others read.

Whoever asks gets what is known at once, with the time when the ledger was last looked at. A look lists the ledger (a
call for 1,000 manifests) and reads what has changed; the next one begins when somebody asks and the last is old enough:
a look at a large ledger takes a while, and must not keep the process busy all the time.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sealift.cos.errors import CosError
from sealift.exports import names
from sealift.exports.errors import LedgerError
from sealift.exports.looking import real_clock
from sealift.exports.manifest import read_manifest
from sealift.exports.ports import Clock, CosApi
from sealift.exports.proofs import proof_level, read_proofs
from sealift.exports.status.index import index_body, index_key
from sealift.exports.status.looking import Memory, list_place
from sealift.exports.status.rows import Row
from sealift.exports.status.snapshot import PlanFacts, Snapshot, slots_of

if TYPE_CHECKING:
    from sealift.exports.plan_models import Plan

log = logging.getLogger(__name__)

EVERY: Final = 15.0
"""Seconds between two looks, where a look is quick."""

REST: Final = 10.0
"""A look is followed by a rest of so many times its length."""

FILLED_AT_MOST: Final = 2000
"""So many manifests are read in the background after each look."""

FEW: Final = 50
"""Of so many servers, the manifests are asked for one server after the other."""

READERS: Final = 16
"""So many manifests are read at the same time."""


STILL_OPENING: Final = (
    "This is what the indexes say: the ledger itself is being read, and what was exported or deleted since shows then."
)


class BooksNotOpen(Exception):  # noqa: N818 - nothing went wrong
    """The ledger is being looked at for the first time, and there is nothing to show yet."""


class Books:
    """The books of one bucket and prefix. Any number of threads may ask.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param clock: tells the time, in UTC.
    :param monotonic: a clock for durations, in seconds.
    """

    def __init__(
        self,
        *,
        cos: CosApi,
        bucket: str,
        prefix: str,
        clock: Clock = real_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cos = cos
        self.bucket = bucket
        self.prefix = prefix
        self._clock = clock
        self._monotonic = monotonic
        self._memory = Memory(cos=cos, bucket=bucket, prefix=prefix)
        self._looking = threading.Lock()
        self._state = threading.Condition()
        self._name = secrets.token_hex(4)
        self._changes = 0
        self._snapshot: Snapshot | None = None
        self._error: CosError | None = None
        self._at_work = False
        self._due = 0.0
        self._counted = 0

    # Asking

    def snapshot(self, *, patience: float = 5.0) -> Snapshot:
        """Give what is known, and see that somebody looks again if that is a while ago.

        :param patience: how many seconds to wait for the first look.
        :returns: what is known.
        :raises BooksNotOpen: the first look is still on its way; the message says how far it is.
        :raises CosError: nothing is known, and the bucket cannot be read.
        """
        with self._state:
            if not self._at_work and self._monotonic() >= self._due:
                self._at_work = True
                self._error = None
                threading.Thread(target=self._work, name=f"sealift-books-{self._name}", daemon=True).start()
            if self._snapshot is None:
                self._state.wait_for(lambda: self._snapshot is not None or not self._at_work, timeout=patience)
            if self._snapshot is not None:
                return self._snapshot
            if self._error is not None:
                raise self._error
            raise BooksNotOpen(
                f"The ledger of {self._place} is being read for the first time since Airflow's API server started: "
                f"{self._counted:,} manifests so far. Ask again in a few seconds."
            )

    def refresh(self) -> Snapshot:
        """Look now, and give what is known then.

        :returns: what is known.
        :raises CosError: the bucket cannot be read.
        """
        with self._looking:
            listing = list_place(self.cos, bucket=self.bucket, prefix=self.prefix, told=self._count)
            now = self._clock()
            changed, problems = self._memory.look(listing, now=now)
            return self._shown(now, problems, changed=changed)

    def _open_by_index(self) -> None:
        """Show what the indexes say, before the ledger is listed: of a large one, that takes a minute."""
        with self._looking:
            listing = list_place(self.cos, bucket=self.bucket, prefix=self.prefix, guests=())
            if not listing.indexes:
                return
            now = self._clock()
            _, problems = self._memory.look(listing, now=now, guests=())
            self._shown(now, [*problems, STILL_OPENING], changed=True)

    def _shown(self, now: datetime, problems: list[str], *, changed: bool) -> Snapshot:
        with self._state:
            before = self._snapshot
            plans = self._plans(now)
            if before is not None and not changed and before.problems == problems:
                before.checked_at = now
                if before.plans != plans:  # a dry run is a plan more, and says nothing of any server
                    before.plans = plans
                    before.version = self._next_version()
                return before
        made = self._made()
        rows = {period: built.rows for period, built in self._memory.built.items()}
        parts = {} if before is None else before.parts
        same = [one for one in parts if before is not None and rows.get(one) is before.rows.get(one)]
        snapshot = Snapshot(
            version=self._next_version(),
            checked_at=now,
            changed_at=now,
            slots=slots_of(rows, made),
            rows=rows,
            plans=plans,
            problems=problems,
            parts={one: parts[one] for one in same},
        )
        with self._state:
            self._snapshot = snapshot
            self._state.notify_all()
        return snapshot

    def fill(self, wanted: Iterable[tuple[int, str]], *, at_most: int = 64) -> int:
        """Read the manifests of some rows that were not read yet.

        :param wanted: pairs of number and period; those that need not be read cost nothing.
        :param at_most: most manifests to read.
        :returns: how many were read.
        """
        due = list(itertools.islice((one for one in wanted if self._memory.is_unread(*one)), at_most))
        if not due:
            return 0
        with ThreadPoolExecutor(min(READERS, len(due))) as pool:
            read = [one for one in pool.map(self._read, due) if one is not None]
        with self._state:
            snapshot = self._snapshot
            for period, row in read:
                built = self._memory.built.get(period)
                known = None if built is None else built.rows.get(row.number)
                if built is not None and known is not None and known.etag == row.etag:
                    built.rows[row.number] = row
                    if snapshot is not None:
                        snapshot.learn(period, row)
            if snapshot is not None and read:
                snapshot.version = self._next_version()
                snapshot.changed_at = self._clock()
        return len(read)

    def export_mark(self, number: int, period: str, previous: str | None) -> tuple[Hashable, ...] | None:
        """Say by what an export's detail is known to be the same as before.

        :param number: the server.
        :param period: the slot of the export.
        :param previous: the slot of its export before, if there is one.
        :returns: what changes when the detail does; None where the ledger does not know the export.
        """
        found = [self._memory.exported(number, one) for one in (period, previous) if one is not None]
        return None if None in found else (period, previous, *found)

    def fill_all(self, periods: Iterable[str], *, at_most: int) -> int:
        """Read what was not read yet of some slots.

        :param periods: the slots.
        :param at_most: most manifests to read.
        :returns: how many were read.
        """
        return self.fill(
            ((number, period) for period in periods for number in self._memory.unread(period)), at_most=at_most
        )

    def write_index(self, periods: Iterable[str] | None = None) -> list[str]:
        """Read what is missing of some slots, and write their indexes, as far as they would say something new.

        :param periods: the slots; all that there are if None.
        :returns: the slots whose indexes were written.
        :raises CosError: the bucket cannot be read or written.
        """
        snapshot = self.refresh()
        return self._write(snapshot, list(snapshot.rows) if periods is None else periods)

    def write_index_of(self, plan: Plan) -> list[str]:
        """Write the indexes of a plan's slots, after its run has reported. Other slots and plans are left alone.

        Of few servers, the manifests are asked for one server after the other, and what the indexes say of all others
        stays; of many, the ledger is listed.

        :param plan: the plan.
        :returns: the slots whose indexes were written.
        :raises CosError: the bucket cannot be read or written.
        """
        guests = {item.guest_id for item in plan.items}
        only = guests if len(guests) <= FEW else None
        periods = {plan.period, *(item.period for item in plan.items), *(one.period for one in plan.missed)}
        with self._looking:
            listing = list_place(self.cos, bucket=self.bucket, prefix=self.prefix, guests=only)
            listing.narrow(plan_id=plan.plan_id, periods=periods)
            now = self._clock()
            _, problems = self._memory.look(listing, now=now, guests=only)
            snapshot = self._shown(now, problems, changed=True)
        return self._write(snapshot, sorted(periods))

    def _write(self, snapshot: Snapshot, periods: Iterable[str]) -> list[str]:
        written = []
        for period in periods:
            rows = snapshot.rows.get(period)
            if rows is None:
                continue
            while self.fill_all([period], at_most=FILLED_AT_MOST):
                pass
            plans = self._memory.indexed_plans(period)
            stored = self._memory.stored.get(period)
            if stored is not None and stored.rows == rows and stored.plans == plans:
                continue
            body = index_body(period=period, rows=rows, plans=plans, written_at=self._clock().isoformat())
            self.cos.put(self.bucket, index_key(prefix=self.prefix, period=period), body)
            written.append(period)
        return written

    # Looking

    def _work(self) -> None:
        began = self._monotonic()
        try:
            if self._snapshot is None:
                self._open_by_index()
            snapshot = self.refresh()
        except CosError as error:
            log.warning("The ledger of %s could not be read: %s", self._place, error)
            with self._state:
                self._error = error
                if self._snapshot is not None:
                    self._snapshot.problems = [f"The bucket could not be read again: {error}"]
                    self._snapshot.version = self._next_version()
        else:
            # Others may ask meanwhile: they get the states, and the levels as they come.
            try:
                self.fill_all([slot.period for slot in snapshot.slots], at_most=FILLED_AT_MOST)
            except CosError as error:
                log.warning("Manifests of %s could not be read: %s", self._place, error)
        finally:
            with self._state:
                ended = self._monotonic()
                self._due = ended + max(EVERY, REST * (ended - began))
                self._at_work = False
                self._state.notify_all()

    def _read(self, one: tuple[int, str]) -> tuple[str, Row] | None:
        number, period = one
        known = self._memory.built[period].rows[number]
        key = names.manifest_key(prefix=self.prefix, guest_id=number, period=period)
        proofs_listed = self._memory.proofs.get(period, {}).get(number, 0)
        try:
            manifest = read_manifest(self.cos, bucket=self.bucket, key=key)
            if manifest is None:  # deleted since it was listed
                return None
            proofs = (
                read_proofs(self.cos, bucket=self.bucket, prefix=self.prefix, manifest=manifest)
                if proofs_listed
                else []
            )
        except LedgerError as error:
            return period, known._replace(read=True, proofs=proofs_listed, words=error.message)
        guest, timing = manifest.guest, manifest.timing
        return period, known._replace(
            read=True,
            hostname=guest.hostname,
            domain=guest.domain or "",
            datacenter=guest.datacenter or "",
            level=proof_level(manifest, proofs),
            proofs=proofs_listed,
            bytes=manifest.total_bytes,
            disks=len(manifest.disks),
            capacity=known.capacity if timing is None else timing.capacity_bytes,
            capture_seconds=timing.capture.seconds if timing and timing.capture else 0.0,
            export_seconds=timing.export.seconds if timing and timing.export else 0.0,
            plan_id=known.plan_id or manifest.run.plan_id or "",
        )

    def _made(self) -> dict[str, datetime]:
        """When the first plan for each slot was made, of the plans that were read."""
        made: dict[str, datetime] = {}
        for _, plan, _ in self._memory.read.values():
            for period in plan.rows if plan is not None else ():
                assert plan is not None
                made[period] = min(plan.created_at, made.get(period, plan.created_at))
        for period, stored in self._memory.stored.items():
            for one in stored.plans:
                objects = self._memory.plans.get(one.plan_id)
                if objects is not None and objects.plan is not None:
                    at = objects.plan.last_modified
                    made[period] = min(at, made.get(period, at))
        return made

    def _plans(self, now: datetime) -> list[PlanFacts]:
        found = []
        for one in self._memory.plans.values():
            if one.plan is None:
                continue
            dry_run = self._memory.was_dry_run(one)
            found.append(
                PlanFacts(
                    plan_id=one.plan_id,
                    written_at=one.plan.last_modified,
                    last_sign=one.last or one.plan.last_modified,
                    waves_reported=len(one.wave_reports),
                    reported=one.report is not None,
                    at_work=one.at_work(now) and not dry_run,
                    dry_run=dry_run,
                )
            )
        return sorted(found, key=lambda one: (one.written_at, one.plan_id), reverse=True)

    def _count(self, count: int) -> None:
        self._counted = count

    def _next_version(self) -> str:
        self._changes += 1
        return f"{self._name}-{self._changes}"

    @property
    def _place(self) -> str:
        return "/".join(filter(None, (self.bucket, self.prefix)))
