"""One poll per account and triggerer, however many servers wait.

Every wait registers what it waits for. One loop per connection asks for all of it in pages of at most 100 ids, lists
the objects of exports whose transactions are gone, and hands the same full snapshot to all waits, each of which judges
for itself. Nothing in the loop can fail a wait: an error is logged and the next look comes later.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sealift.classic.errors import ClassicAuthError, ClassicError
from sealift.cos.errors import CosError
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.classic.models import GuestState, Template
    from sealift.cos.client import CosClient
    from sealift.cos.models import ObjectInfo

log = logging.getLogger(__name__)

FIRST_LOOK_AFTER: Final = 1.0
"""Seconds that the loop gives a wave's waits to register before it looks for the first time."""

BACKOFF_LIMIT: Final = 8
"""A poll that keeps failing waits at most so many intervals between two looks."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an export's objects appear.

    :param cos_conn_id: connection of the type ``ibm_cos``.
    :param region: the bucket's region; empty for the connection's.
    :param bucket: the bucket.
    :param prefix: what the keys of the export's disks begin with.
    """

    cos_conn_id: str
    region: str
    bucket: str
    prefix: str


@dataclass(frozen=True, kw_only=True)
class SlotsAt:
    """Where an account's offline slots are.

    :param cos_conn_id: connection of the type ``ibm_cos``.
    :param region: the bucket's region; empty for the connection's.
    :param bucket: the bucket.
    :param root: what the keys of the slots begin with.
    :param settle_seconds: see :class:`sealift.exports.slots.SlotsPlace`.
    """

    cos_conn_id: str
    region: str
    bucket: str
    root: str
    settle_seconds: float


@dataclass(frozen=True, kw_only=True)
class Interest:
    """What one wait wants to know.

    :param guest_id: the virtual server, or None.
    :param template_id: the parent template, or None.
    :param place: where objects are waited for, or None.
    :param max_offline: the cap of a capture that waits for an offline slot, or None.
    :param slots: where that slot is, or None.
    """

    guest_id: int | None = None
    template_id: int | None = None
    place: Place | None = None
    max_offline: int | None = None
    slots: SlotsAt | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one look found, for all that waited when it began.

    :param taken_at: when the look began (UTC).
    :param asked: what was asked for; a wait passes over a snapshot that did not ask for it.
    :param templates: the templates that the account knows, by id.
    :param guests: the virtual servers that the account knows, by id.
    :param objects: the objects found, by place; a place is absent where it was not listed this time.
    :param in_flight: captures that run or are about to, by where their slots are, where somebody waits for one.
    :param admitted: the waits for a slot that a slot is free for, the longest waiting first.
    :param unlisted: the places that could not be listed, and why.
    :param trouble: why the look failed as a whole; then nothing else is known, and nothing may be concluded.
    """

    taken_at: datetime
    asked: frozenset[Interest]
    templates: Mapping[int, Template] = field(default_factory=dict)
    guests: Mapping[int, GuestState] = field(default_factory=dict)
    objects: Mapping[Place, tuple[ObjectInfo, ...]] = field(default_factory=dict)
    unlisted: Mapping[Place, str] = field(default_factory=dict)
    in_flight: Mapping[SlotsAt, int] = field(default_factory=dict)
    admitted: frozenset[Interest] = frozenset()
    trouble: str = ""


@dataclass
class _Register:
    """Who waits for what, in this process, for one poll."""

    waits: dict[int, Interest] = field(default_factory=dict)

    def interests(self) -> tuple[Interest, ...]:
        return tuple(dict.fromkeys(self.waits.values()))


_registers: dict[Hashable, _Register] = {}
_tokens = itertools.count()


def register(key: Hashable, interest: Interest) -> int:
    """Note that a wait wants to know something.

    :param key: the poll's key.
    :param interest: what is wanted.
    :returns: a token for :func:`unregister`.
    """
    token = next(_tokens)
    _registers.setdefault(key, _Register()).waits[token] = interest
    return token


def unregister(key: Hashable, token: int) -> None:
    """Note that a wait has ended. Calling it twice does no harm.

    :param key: the poll's key.
    :param token: what :func:`register` gave.
    """
    waiting = _registers.get(key)
    if waiting is not None:
        waiting.waits.pop(token, None)
        if not waiting.waits:
            _registers.pop(key, None)


def interests(key: Hashable) -> tuple[Interest, ...]:
    """Tell what is waited for now.

    :param key: the poll's key.
    :returns: every interest, once, in the order in which they came.
    """
    waiting = _registers.get(key)
    return waiting.interests() if waiting else ()


class AccountPoll:
    """The loop that looks.

    :param key: the poll's key, shared by all of its waits.
    :param classic_conn_id: connection of the type ``ibm_classic``.
    :param poll_interval: seconds between two looks.
    """

    def __init__(self, *, key: Hashable, classic_conn_id: str, poll_interval: float) -> None:
        self.key = key
        self.classic_conn_id = classic_conn_id
        self.poll_interval = poll_interval
        self._classic: ClassicClient | None = None
        self._stores: dict[tuple[str, str], CosClient] = {}

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        """Look again and again.

        :returns: a snapshot for each look, of one that failed with its trouble only, so that waits can see their
            deadlines pass; ends only when it is cancelled.
        :raises ConnectionProblem: if there is no usable connection when the loop begins.
        """
        failures = 0
        self._classic = await ClassicHook(self.classic_conn_id).aclient()
        try:
            await asyncio.sleep(min(FIRST_LOOK_AFTER, self.poll_interval))
            while True:
                wanted = interests(self.key)
                if wanted:
                    try:
                        snapshot = await self._look(wanted)
                        failures = 0
                    except (ClassicError, ConnectionProblem) as error:
                        failures += 1
                        self._after_failure(error, failures)
                        snapshot = Snapshot(taken_at=datetime.now(UTC), asked=frozenset(wanted), trouble=str(error))
                    yield snapshot
                await asyncio.sleep(self.poll_interval * min(2**failures, BACKOFF_LIMIT))
        finally:
            self._close()

    async def _look(self, wanted: tuple[Interest, ...]) -> Snapshot:
        taken_at = datetime.now(UTC)
        classic = self._classic or await self._new_classic()
        template_ids = sorted({one.template_id for one in wanted if one.template_id is not None})
        guest_ids = sorted({one.guest_id for one in wanted if one.guest_id is not None and one.max_offline is None})
        templates = await asyncio.to_thread(classic.template_states, template_ids) if template_ids else {}
        guests = await asyncio.to_thread(classic.guest_states, guest_ids) if guest_ids else {}
        in_flight = await self._in_flight(classic, wanted, taken_at)
        objects: dict[Place, tuple[ObjectInfo, ...]] = {}
        unlisted: dict[Place, str] = {}
        for one in wanted:
            place = one.place
            if place is None or place in objects or place in unlisted or not _may_be_ready(one, templates):
                continue
            try:
                objects[place] = await self._list(place)
            except (CosError, ConnectionProblem) as error:
                log.warning("Could not list %s/%s, looking again later: %s", place.bucket, place.prefix, error)
                unlisted[place] = str(error)
        return Snapshot(
            taken_at=taken_at,
            asked=frozenset(wanted),
            templates=templates,
            guests=guests,
            objects=objects,
            unlisted=unlisted,
            in_flight=in_flight,
            admitted=_admitted(wanted, in_flight),
        )

    async def _in_flight(
        self, classic: ClassicClient, wanted: tuple[Interest, ...], now: datetime
    ) -> dict[SlotsAt, int]:
        """Count the captures that run or are about to, where somebody waits for a slot."""
        found: dict[SlotsAt, int] = {}
        for at in dict.fromkeys(one.slots for one in wanted if one.slots is not None):
            try:
                store = await self._store(at.cos_conn_id, at.region)
                found[at] = await asyncio.to_thread(_counted, classic, store, at, now)
            except (CosError, ConnectionProblem) as error:
                log.warning("Could not read the slots %s/%s, looking again later: %s", at.bucket, at.root, error)
        return found

    async def _store(self, cos_conn_id: str, region: str) -> CosClient:
        where = (cos_conn_id, region)
        if where not in self._stores:
            self._stores[where] = await CosHook(cos_conn_id, region=region).aclient()
        return self._stores[where]

    async def _list(self, place: Place) -> tuple[ObjectInfo, ...]:
        where = (place.cos_conn_id, place.region)
        try:
            store = self._stores.get(where)
            if store is None:
                store = self._stores[where] = await CosHook(place.cos_conn_id, region=place.region).aclient()
            return await asyncio.to_thread(_listed, store, place)
        except CosError:
            # A key may have been changed in the connection: the next look reads it again.
            stale = self._stores.pop(where, None)
            if stale is not None:
                stale.close()
            raise

    async def _new_classic(self) -> ClassicClient:
        self._classic = await ClassicHook(self.classic_conn_id).aclient()
        return self._classic

    def _after_failure(self, error: Exception, failures: int) -> None:
        log.warning("The poll of %s failed (%d in a row), looking again later: %s", self.key, failures, error)
        if isinstance(error, ClassicAuthError):
            # The key may have been changed in the connection since this loop began.
            self._close()

    def _close(self) -> None:
        if self._classic is not None:
            self._classic.close()
            self._classic = None
        while self._stores:
            self._stores.popitem()[1].close()


def _admitted(wanted: tuple[Interest, ...], in_flight: Mapping[SlotsAt, int]) -> frozenset[Interest]:
    """Give the free slots to those who have waited longest. The capture itself takes one, and looks once more."""
    admitted: set[Interest] = set()
    given: Counter[SlotsAt] = Counter()
    for one in wanted:
        if one.slots is None or one.max_offline is None or one.slots not in in_flight:
            continue
        if in_flight[one.slots] + given[one.slots] < one.max_offline:
            admitted.add(one)
            given[one.slots] += 1
    return frozenset(admitted)


def _counted(classic: ClassicClient, store: CosClient, at: SlotsAt, now: datetime) -> int:
    from sealift.exports.steps import SlotsPlace, survey

    place = SlotsPlace(bucket=at.bucket, root=at.root, settle=timedelta(seconds=at.settle_seconds))
    return len(survey(classic, store, place, now=now).guests())


def _listed(store: CosClient, place: Place) -> tuple[ObjectInfo, ...]:
    return tuple(store.list(place.bucket, place.prefix))


def _may_be_ready(interest: Interest, templates: Mapping[int, Template]) -> bool:
    """Objects are listed only where no transaction is left: until then they cannot be complete."""
    if interest.template_id is None:
        return True
    template = templates.get(interest.template_id)
    return template is None or not template.transactions_left
