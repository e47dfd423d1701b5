"""Offline slots: no capture is submitted but by who holds one, so that the cap holds on all machines at every instant.

There is a register (:mod:`sealift.exports.registers`) for each slot of the account. A capture takes one before it is
submitted, then looks at all of them and at the account once more, and gives its slot back where there are too many: of
two that take slots at the same moment, at least the later one sees the other. Nobody has to give a slot back for the
next one to go on: a slot is free when the *account* shows that the capture of its holder is over, so that a task that
failed, was killed, or was marked by hand neither frees a slot while its server is offline nor keeps one for ever.

Caps for each data center, and caps that the account taught by refusing a capture (:mod:`sealift.exports.caps`), are
held in the same way. A server whose data center nothing tells counts in all of them.

A slot is also the note that its holder may have submitted the capture. Two rules make that certain:

* A capture is sent within half of ``settle`` after its slot was taken, or not at all.
* Who finds a slot of its own export, taken by another try, and no template, sends nothing before a whole ``settle`` has
  passed since.

So two tries of one export can only both be accepted if a request lies on the way for longer than half of ``settle``
(seven minutes, by default) after it was sent and is carried out all the same. Even then the API refuses the second as
long as the first keeps the server busy.
"""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Final, Protocol

from sealift.classic.errors import ClassicError, ClassicLoadError
from sealift.cos.errors import CosError
from sealift.exports import caps
from sealift.exports.board import Board
from sealift.exports.errors import ExportsError, OfflineCapReached, OutcomeOpen, ServerBusyError
from sealift.exports.looking import real_clock
from sealift.exports.offline import Account
from sealift.exports.plan import PlanItem
from sealift.exports.ports import ClassicApi, Clock, CosApi
from sealift.exports.registers import Entry, Holding, Register, new_token
from sealift.exports.surveying import (
    SlotsPlace,
    Survey,
    counted,
    read_slots,
    slot_register,
    slots_and_caps,
    survey,
)

log = logging.getLogger(__name__)

_TRIES: Final = 5
"""How often a capture tries for a slot while others are faster, before it waits for its turn."""


class Admission(Protocol):
    """What a gate gives to a capture that may be submitted."""

    @property
    def certain_at(self) -> datetime:
        """When it is certain that a request of this admission was not carried out, if nothing of it shows by then."""
        ...

    @property
    def attempt(self) -> int:
        """How often this export has been submitted in a row without anybody knowing what came of it."""
        ...

    def submitting(self) -> None:
        """Note that the request goes out now; nothing may come between this and sending it.

        :raises OutcomeOpen: it is too late to send it.
        """
        ...

    def refused(self) -> None:
        """Note that the account has answered, and did nothing."""
        ...


class OfflineGate(Protocol):
    """Admits captures so that no more than the cap are offline."""

    def admit(self, classic: ClassicApi, item: PlanItem) -> AbstractContextManager[Admission]: ...


class OfflineSlots:
    """Admits captures by the slots of their account.

    :param cos: the object store.
    :param place: where the slots are.
    :param max_offline: most servers offline for capture at once, as this run has it.
    :param max_offline_per_datacenter: most of them in one data center; 0 for no cap beside the other.
    :param seen: what the account showed to somebody else a moment ago, to build on.
    :param board: what the captures of this process know together; None where there is just one.
    :param clock: tells the time, in UTC.
    :param monotonic: seconds that never go back.
    """

    def __init__(
        self,
        *,
        cos: CosApi,
        place: SlotsPlace,
        max_offline: int,
        max_offline_per_datacenter: int = 0,
        seen: Account | None = None,
        board: Board | None = None,
        clock: Clock = real_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cos = cos
        self._place = place
        self._max_offline = max_offline
        self._max_in_datacenter = max_offline_per_datacenter
        self._seen = seen
        self._board = board
        self._before: Survey | None = None
        self._clock = clock
        self._monotonic = monotonic

    @contextmanager
    def admit(self, classic: ClassicApi, item: PlanItem) -> Iterator[Admission]:
        """Take a slot, for as long as the account shows the capture to be running.

        :param classic: the account.
        :param item: the server to capture.
        :returns: a context in which to submit the capture. What leaves it without having sent one, or after it was
            refused, gives the slot back.
        :raises OfflineCapReached: no slot is free.
        :raises OutcomeOpen: another try of this export took a slot a short while ago, and may have submitted.
        :raises ServerBusyError: an earlier try may have submitted, and the server is busy; its slot stays.
        """
        taken = self._take(classic, item)
        refusal: ClassicLoadError | None = None
        try:
            yield taken
        except ClassicLoadError as error:
            refusal = error
            raise
        finally:
            if not taken.may_be_submitted:
                taken.give_back()
                if refusal is not None:
                    self._learn(classic, item, refusal)

    def _learn(self, classic: ClassicApi, item: PlanItem, refusal: ClassicLoadError) -> None:
        """Note how many captures were running when the account refused this one.

        Only captures that the account shows are counted: who else has taken a slot may be refused as well. Some that
        ran may have ended since, and some that run may not show yet: the higher of two counts is the nearer one.
        """
        before = self._before
        try:
            after = survey(classic, self._cos, self._place, now=self._clock(), earlier=before)
        except (ClassicError, CosError, ExportsError) as error:
            log.warning("How many captures run could not be counted, so that nothing is learned: %s", error)
            return
        for datacenter in dict.fromkeys(("", item.datacenter or "")):
            running = max(len(_running(one, item.guest_id, datacenter)) for one in (before, after) if one is not None)
            if datacenter and not running:
                continue  # then it was not for this data center's sake
            caps.learn(
                self._cos,
                bucket=self._place.bucket,
                root=self._place.root,
                kind="capture",
                datacenter=datacenter,
                running=running,
                words=refusal.message,
                now=self._clock(),
                known=after.caps,
            )

    def _room_for(self, seen: Survey, item: PlanItem) -> OfflineCapReached | None:
        """Look whether there is room for one more.

        :returns: why there is none, or None where there is.
        """
        now = self._clock()
        datacenter = item.datacenter or ""
        whole = seen.caps.in_force("capture", "", self._max_offline, now)
        others = len(seen.guests(but=item.guest_id))
        if others >= whole:
            return self._full(item, others, whole)
        part = seen.caps.in_force("capture", datacenter, self._max_in_datacenter, now) if datacenter else 0
        if part:
            others = len(seen.guests(but=item.guest_id, datacenter=datacenter))
            if others >= part:
                return self._full(item, others, part, datacenter)
        return None

    def _take(self, classic: ClassicApi, item: PlanItem) -> _Taken:
        # Where somebody else has just looked, the one look that must follow is that after the slot is taken.
        handed = self._handed()
        earlier: Survey | None = None
        for _ in range(_TRIES):
            seen = handed or self._look(classic, earlier)
            mine = self._earlier(seen, item)
            full = self._room_for(seen, item)
            if full is not None:
                if handed is None:
                    raise full
                earlier, handed = seen, None
                continue
            free = [number for number in range(self._max_offline) if number not in seen.live]
            # Who comes at the same moment sees the same slots free: each begins somewhere else.
            number = mine if mine is not None else free[item.guest_id % len(free)] if free else None
            if number is None:
                # One server holds two slots, for two periods: what is counted is servers, so there is room beyond.
                number = next(one for one in itertools.count(self._max_offline) if one not in seen.live)
            taken = self._write(item, number, seen.slots.get(number))
            if taken is not None:
                try:
                    # What was just written need not be read again.
                    known = seen.model_copy(update={"slots": {**seen.slots, number: taken.holding}})
                    full = self._room_for(self._recount(classic, known, number, item, looks=handed is not None), item)
                except BaseException:
                    taken.give_back()
                    raise
                if full is None:
                    self._before = seen
                    return taken
                taken.give_back()
                raise full
            if handed is not None:
                handed = self._reread(handed)
            else:
                earlier = seen
        raise self._full(item, self._max_offline, self._max_offline)

    def _handed(self) -> Survey | None:
        """Give what somebody else has seen a moment ago, if anybody has."""
        if self._board is not None:
            return self._board.latest
        return None if self._seen is None else self._with_slots(self._seen)

    def _look(self, classic: ClassicApi, earlier: Survey | None) -> Survey:
        """Look at the account and its slots, together with whoever else of this process wants to at this moment."""

        def look(latest: Survey | None) -> Survey:
            return survey(classic, self._cos, self._place, now=self._clock(), earlier=latest or earlier)

        return look(None) if self._board is None else self._board.look(look)

    def _earlier(self, seen: Survey, item: PlanItem) -> int | None:
        """Find the slot that an earlier or another try of this export took.

        :raises OutcomeOpen: it is young, and nobody can tell yet what came of it.
        """
        for number, holding in seen.slots.items():
            if holding.held and holding.entry.export_id == item.export_id:
                if self._clock() < holding.certain_at(self._place.settle):
                    raise self._open(item, holding)
                if item.guest_id in seen.account.busy:
                    # It may be busy with our own capture, whose template shows late: the slot stays as it is.
                    raise ServerBusyError(
                        f"{item.name} has an active transaction, which may be the capture that an earlier try "
                        "submitted; no template of it shows yet. Nothing was submitted. A retry looks again."
                    )
                return number
        return None

    def _open(self, item: PlanItem, holding: Holding) -> OutcomeOpen:
        certain_at = holding.certain_at(self._place.settle)
        return OutcomeOpen(
            f"Another try for {item.name} took an offline slot at {holding.since:%H:%M:%S} UTC and may have submitted "
            f"the capture; no template {item.template_name} shows yet. Nothing is submitted before "
            f"{certain_at:%H:%M:%S} UTC, when it is certain what came of it.",
            until=certain_at,
        )

    def _write(self, item: PlanItem, number: int, seen: Holding | None) -> _Taken | None:
        began, now = self._monotonic(), self._clock()
        again = seen is not None and seen.held and seen.entry.export_id == item.export_id
        entry = Entry(
            export_id=item.export_id,
            guest_id=item.guest_id,
            token=new_token(),
            taken_at=now,
            settle_seconds=self._place.settle.total_seconds(),
            attempt=seen.entry.attempt + 1 if again and seen is not None else 1,
            datacenter=item.datacenter or "",
        )
        register = slot_register(self._cos, self._place, number)
        holding = register.advance(seen, entry)
        if holding is None:
            return None
        noted: Callable[[Holding], None] | None = None
        if self._board is not None:
            noted = functools.partial(self._board.wrote, number)
            noted(holding)
        return _Taken(
            item=item,
            register=register,
            holding=holding,
            noted=noted,
            latest=(began + self._place.settle.total_seconds() / 2, now + self._place.settle / 2),
            settle=self._place.settle,
            clocks=(self._monotonic, self._clock),
        )

    def _recount(self, classic: ClassicApi, seen: Survey, mine: int, item: PlanItem, *, looks: bool) -> Survey:
        """Count the others again, now that all who come later can see this slot taken.

        :param looks: whether to ask the account as well; otherwise it was asked right before the slot was taken, and a
            slot that has changed since has a new holder, who is about to submit.
        :raises OutcomeOpen: one of them is another try of this same export.
        """
        now = self._look(classic, seen) if looks else self._reread(seen)
        changed = {n for n, one in now.slots.items() if one is not seen.slots.get(n) and one.held} - {mine}
        for number in changed:
            if now.slots[number].entry.export_id == item.export_id:
                raise self._open(item, now.slots[number])
        return now.model_copy(update={"live": now.live - {mine}})

    def _with_slots(self, account: Account) -> Survey:
        """Look at the slots, where somebody else has looked at the account."""
        slots, learned = slots_and_caps(self._cos, self._place)
        return counted(account, slots, learned, now=self._clock(), settle=self._place.settle)

    def _reread(self, seen: Survey) -> Survey:
        """Look at the slots alone: one that has changed since has a new holder, who is about to submit."""
        slots = read_slots(self._cos, self._place, known=seen.slots)
        changed = {number for number, one in slots.items() if one is not seen.slots.get(number)}
        live = {number for number in seen.live | changed if number in slots and slots[number].held}
        return seen.model_copy(update={"slots": slots, "live": frozenset(live)})

    def _full(self, item: PlanItem, in_flight: int, cap: int, datacenter: str = "") -> OfflineCapReached:
        where = f" in the data center {datacenter}" if datacenter else ""
        return OfflineCapReached(
            f"{item.name} waits for an offline slot: {in_flight} of at most {cap} servers are offline "
            f"for capture, or about to be{where}. Nothing was submitted.",
            in_flight=in_flight,
            max_offline=cap,
        )


class _Taken:
    """A slot that is held by this process."""

    def __init__(
        self,
        *,
        item: PlanItem,
        register: Register,
        holding: Holding,
        latest: tuple[float, datetime],
        settle: timedelta,
        clocks: tuple[Callable[[], float], Clock],
        noted: Callable[[Holding], None] | None = None,
    ) -> None:
        self._item = item
        self._noted = noted
        self._register = register
        self.holding = holding
        self._latest = latest
        self._monotonic, self._clock = clocks
        self.may_be_submitted = False
        self.certain_at = holding.certain_at(settle)
        self.attempt = holding.entry.attempt

    def submitting(self) -> None:
        # Two clocks: one of them stands still while a machine is suspended, the other can be set back.
        now = self._clock()
        if self._monotonic() > self._latest[0] or now > self._latest[1]:
            raise OutcomeOpen(
                f"Too much time passed since {self._item.name} got its offline slot: another try may rely on nothing "
                "being submitted by now. Nothing was; it looks again.",
                until=now,
            )
        self.may_be_submitted = True

    def refused(self) -> None:
        self.may_be_submitted = False

    def give_back(self) -> None:
        """Give the slot back. If that fails, it is free all the same in a while: see the module's first lines."""
        entry = self.holding.entry.model_copy(update={"state": "free", "taken_at": self._clock()})
        try:
            holding = self._register.advance(self.holding, entry)
            if holding is not None and self._noted is not None:
                self._noted(holding)
        except (CosError, ExportsError) as error:
            log.warning("The offline slot of %s could not be given back, and frees itself: %s", self._item.name, error)


def _running(seen: Survey, guest_id: int, datacenter: str) -> set[int]:
    """The guests whose captures the account shows."""
    return seen.guests(but=guest_id, datacenter=datacenter) & seen.account.offline
