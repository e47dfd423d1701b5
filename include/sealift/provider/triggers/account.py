"""One poll per account and triggerer, however many servers wait.

Every wait registers what it waits for. One loop per connection asks for all of it in pages of at most 100 ids, lists
the objects of exports whose transactions are gone, and hands the same full snapshot to all waits, each of which judges
for itself.

Nothing in the loop can fail a wait. Were the loop to end, Airflow would fail every task that listens to it; so whatever
is raised, by an API, by a connection that cannot be read, or by a mistake in Sealift itself, is logged with its cause,
the snapshot says what is not known this time, and the next look comes later. One item that cannot be read leaves the
others readable (:mod:`sealift.provider.asking`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from sealift.cos.errors import CosError, CosNotFoundError, CosPermissionError
from sealift.exports.errors import ExportsError
from sealift.provider.asking import CALL_LIMIT, Asker, CallHangs, Pages, may_be_one_item, read_pages, words_of
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.metrics import count_poll
from sealift.provider.triggers.admitting import ClaimsAt, admitted_captures, next_exports

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.classic.models import GuestState, Template
    from sealift.cos.client import CosClient
    from sealift.cos.models import ObjectInfo
    from sealift.exports.surveying import Survey
    from sealift.exports.turns import Claims, Turn

log = logging.getLogger(__name__)

POLL: Final = "poll"
"""How its calls are told apart in the logs of proxies and of the account: see ``User-Agent``."""

FIRST_LOOK_AFTER: Final = 1.0
"""Seconds that the loop gives a wave's waits to register before it looks for the first time."""

BACKOFF_LIMIT: Final = 8
"""A poll that keeps failing waits at most so many intervals between two looks, …"""

PAUSE_LIMIT: Final = 300.0
"""… and at most so many seconds, where its interval is not longer."""

QUICKER: Final = 7.5
"""A poll is at most so many times as frequent as its interval says, when something is about to end, …"""

SLOWER: Final = 4.0
"""… and at most so many times less, when nothing can end yet."""

PACES: Final = 32
"""How many durations of each kind of work are remembered."""


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
    :param datacenter: the data center of a capture that waits; empty where it is not known.
    :param max_in_datacenter: the cap of its data center; 0 for none.
    :param turn: the export that waits for its turn, or None.
    :param claims: where exports in flight are counted for that, or None.
    """

    guest_id: int | None = None
    template_id: int | None = None
    place: Place | None = None
    max_offline: int | None = None
    slots: SlotsAt | None = None
    datacenter: str = ""
    max_in_datacenter: int = 0
    turn: Turn | None = None
    claims: ClaimsAt | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one look found, for all that waited when it began.

    :param taken_at: when the look began (UTC).
    :param asked: what was asked for; a wait passes over a snapshot that did not ask for it.
    :param templates: the templates that the account knows, by id.
    :param guests: the virtual servers that the account knows, by id.
    :param objects: the objects found, by place; a place is absent where it was not listed this time.
    :param in_flight: the guests that are offline for capture or about to be, by where their slots are, where somebody
        waits for one.
    :param surveys: the looks at the slots that these come from, for workers to build theirs on.
    :param admitted: the waits for a slot that a slot is free for, the longest waiting first.
    :param turns: the waits for an export's turn whose turn it is.
    :param unlisted: the places that could not be listed, and why.
    :param unread_templates: the templates that could not be asked for, and why: nothing may be concluded of them.
    :param unread_guests: the same of virtual servers.
    :param trouble: why the look failed as a whole; then nothing else is known, and nothing may be concluded.
    """

    taken_at: datetime
    asked: frozenset[Interest]
    templates: Mapping[int, Template] = field(default_factory=dict)
    guests: Mapping[int, GuestState] = field(default_factory=dict)
    objects: Mapping[Place, tuple[ObjectInfo, ...]] = field(default_factory=dict)
    unlisted: Mapping[Place, str] = field(default_factory=dict)
    in_flight: Mapping[SlotsAt, frozenset[int]] = field(default_factory=dict)
    surveys: Mapping[SlotsAt, Survey] = field(default_factory=dict)
    admitted: frozenset[Interest] = frozenset()
    turns: frozenset[Interest] = frozenset()
    unread_templates: Mapping[int, str] = field(default_factory=dict)
    unread_guests: Mapping[int, str] = field(default_factory=dict)
    trouble: str = ""


@dataclass
class _Register:
    """Who waits for what, in this process, for one poll.

    :param waits: what is waited for, by token.
    :param looks: when a look is worth its calls for a wait, by token, on the event loop's clock.
    :param due: when the poll means to look, if somebody can still bring that forward.
    :param changed: set when somebody came, or wants an earlier look than that.
    """

    waits: dict[int, Interest] = field(default_factory=dict)
    looks: dict[int, float] = field(default_factory=dict)
    due: float = -math.inf
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def interests(self) -> tuple[Interest, ...]:
        return tuple(dict.fromkeys(self.waits.values()))


_registers: dict[Hashable, _Register] = {}
_paces: defaultdict[tuple[Hashable, str], deque[float]] = defaultdict(lambda: deque(maxlen=PACES))
_tokens = itertools.count()


def register(key: Hashable, interest: Interest) -> int:
    """Note that a wait wants to know something.

    :param key: the poll's key.
    :param interest: what is wanted.
    :returns: a token for :func:`unregister`.
    """
    token = next(_tokens)
    waiting = _registers.setdefault(key, _Register())
    waiting.waits[token] = interest
    waiting.changed.set()
    return token


def unregister(key: Hashable, token: int) -> None:
    """Note that a wait has ended. Calling it twice does no harm.

    :param key: the poll's key.
    :param token: what :func:`register` gave.
    """
    waiting = _registers.get(key)
    if waiting is not None:
        waiting.waits.pop(token, None)
        waiting.looks.pop(token, None)
        if not waiting.waits:
            _registers.pop(key, None)


def interests(key: Hashable) -> tuple[Interest, ...]:
    """Tell what is waited for now.

    :param key: the poll's key.
    :returns: every interest, once, in the order in which they came.
    """
    waiting = _registers.get(key)
    return waiting.interests() if waiting else ()


def look_at(key: Hashable, token: int, seconds: float) -> None:
    """Say when the next look is worth its calls for a wait. The poll keeps within its bounds.

    :param key: the poll's key.
    :param token: what :func:`register` gave.
    :param seconds: from now.
    """
    waiting = _registers.get(key)
    if waiting is not None and token in waiting.waits:
        at = waiting.looks[token] = asyncio.get_running_loop().time() + seconds
        # The poll rests already when the waits get what it found, each in its own turn.
        if at < waiting.due:
            waiting.changed.set()


def took(key: Hashable, kind: str, seconds: float) -> None:
    """Remember how long a piece of work took, for :func:`usual`.

    :param key: the poll's key.
    :param kind: of work.
    :param seconds: how long.
    """
    if seconds > 0:
        _paces[key, kind].append(seconds)


def usual(key: Hashable, kind: str) -> float | None:
    """Tell how long the quicker ones of a kind of work took lately, where this process saw any.

    :param key: the poll's key.
    :param kind: of work.
    :returns: seconds, or None.
    """
    seen = sorted(_paces[key, kind])
    return seen[len(seen) // 4] if seen else None


_Known = tuple[Mapping[int, "Template"], Mapping[int, "GuestState"]]
"""The templates and the virtual servers that a look has read so far."""


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
        self._ask = Asker(name=f"sealift-poll-{classic_conn_id}")
        self._failures = 0
        self._told: type[BaseException] | None = None
        self._told_of_stores: dict[tuple[str, str], type[BaseException]] = {}
        self._asked_to_wait = 0.0
        self._first_place = 0
        self._surveys: dict[SlotsAt, Survey] = {}
        self._claims: dict[ClaimsAt, Claims] = {}
        self._templates_apart: set[int] = set()
        self._guests_apart: set[int] = set()

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        """Look again and again.

        :returns: a snapshot for each look, of one that failed with its trouble only, so that waits can see their
            deadlines pass; ends only when it is cancelled.
        """
        try:
            await asyncio.sleep(min(FIRST_LOOK_AFTER, self.poll_interval))
            while True:
                wanted = interests(self.key)
                if wanted:
                    snapshot = await self._snapshot(wanted)
                    if self.key in _registers:
                        # Each wait says anew what the snapshot lets it expect.
                        _registers[self.key].looks.clear()
                    yield snapshot
                await self._rest()
        finally:
            self._disconnect()
            self._ask.close()

    async def _snapshot(self, wanted: tuple[Interest, ...]) -> Snapshot:
        """Look once, whatever happens."""
        began = time.monotonic()
        try:
            snapshot, problem = await self._look(wanted)
        except Exception as error:  # noqa: BLE001 - an error of any kind would fail the task of every wait; it is logged
            snapshot = Snapshot(taken_at=datetime.now(UTC), asked=frozenset(wanted), trouble=words_of(error))
            problem = error
        await self._count(time.monotonic() - began, failed=problem is not None)
        self._note(problem)
        return snapshot

    async def _count(self, seconds: float, *, failed: bool) -> None:
        """Count the look, in the thread: what Airflow reads before its first metric would hold up every trigger."""
        try:
            await self._ask(partial(count_poll, seconds, failed=failed))
        except CallHangs as error:
            log.warning("A look could not be counted: %s", error)

    async def _look(self, wanted: tuple[Interest, ...]) -> tuple[Snapshot, Exception | None]:
        """Ask for everything.

        :returns: what was found, and what went wrong on the way.
        :raises Exception: nothing was found out.
        """
        taken_at = datetime.now(UTC)
        classic = self._classic or await self._new_classic()
        limit = max(CALL_LIMIT, 2 * classic.timeout)
        template_ids = {one.template_id for one in wanted if one.template_id is not None}
        guest_ids = {one.guest_id for one in wanted if one.guest_id is not None and one.max_offline is None}
        templates: Pages[Template] = await read_pages(
            lambda ids: self._ask(classic.template_states, ids, limit=limit), template_ids, apart=self._templates_apart
        )
        down = templates.problem if templates.problem and not may_be_one_item(templates.problem) else None
        if down is not None and not templates.found:
            raise down
        guests: Pages[GuestState]
        if down is not None:
            guests = Pages(unread=dict.fromkeys(guest_ids, words_of(down)))
        else:
            guests = await read_pages(
                lambda ids: self._ask(classic.guest_states, ids, limit=limit), guest_ids, apart=self._guests_apart
            )
        objects, unlisted = await self._list_all(wanted, templates)
        known = (templates.found, guests.found)
        in_flight, problem = await self._slots(classic, wanted, taken_at, known) if down is None else ({}, down)
        surveys = {at: self._surveys[at] for at in in_flight}
        turns = await self._turns(wanted, taken_at)
        snapshot = Snapshot(
            taken_at=taken_at,
            asked=frozenset(wanted),
            templates=templates.found,
            guests=guests.found,
            objects=objects,
            unlisted=unlisted,
            in_flight=in_flight,
            surveys=surveys,
            admitted=admitted_captures(wanted, surveys, taken_at),
            turns=turns,
            unread_templates=templates.unread,
            unread_guests=guests.unread,
        )
        return snapshot, templates.problem or guests.problem or problem

    async def _slots(
        self, classic: ClassicClient, wanted: tuple[Interest, ...], now: datetime, known: _Known
    ) -> tuple[dict[SlotsAt, frozenset[int]], Exception | None]:
        """Count what keeps slots taken; where that fails, nobody gets one now, and the other waits go on."""
        places = {one.slots for one in wanted if one.slots is not None}
        problem: Exception | None = None
        found: dict[SlotsAt, frozenset[int]] = {}
        try:
            found = await self._in_flight(classic, wanted, now, known)
        except Exception as error:  # noqa: BLE001 - as in _snapshot; it is logged by _note
            problem = error
        for at in places - found.keys():
            self._drop_store((at.cos_conn_id, at.region))
        return found, problem

    async def _list_all(
        self, wanted: tuple[Interest, ...], templates: Pages[Template]
    ) -> tuple[dict[Place, tuple[ObjectInfo, ...]], dict[Place, str]]:
        """List the places of exports that may be over. What fails for a whole store or bucket is tried there once."""
        ready = dict.fromkeys(
            one.place
            for one in wanted
            if one.place is not None and one.template_id not in templates.unread and _may_be_ready(one, templates.found)
        )
        # Not always the same place first: one that fails alone must not keep the others from being listed for ever.
        first = self._first_place % len(ready) if ready else 0
        places = [*ready][first:] + [*ready][:first]
        objects: dict[Place, tuple[ObjectInfo, ...]] = {}
        unlisted: dict[Place, str] = {}
        for place in places:
            if place in unlisted:
                continue
            where = (place.cos_conn_id, place.region)
            try:
                objects[place] = await self._list(place)
                self._told_of_stores.pop(where, None)
            except Exception as error:
                self._first_place += 1
                log.warning(
                    "Could not list %s/%s, looking again later: %s",
                    place.bucket,
                    place.prefix,
                    words_of(error),
                    exc_info=error if self._told_of_stores.get(where) is not type(error) else None,
                )
                self._told_of_stores[where] = type(error)
                shared = [one for one in places if one not in objects and _fail_alike(place, one, error)]
                unlisted.update(dict.fromkeys([place, *shared], words_of(error)))
        return objects, unlisted

    async def _in_flight(
        self, classic: ClassicClient, wanted: tuple[Interest, ...], now: datetime, known: _Known
    ) -> dict[SlotsAt, frozenset[int]]:
        """Count the captures that run or are about to, where somebody waits for a slot."""
        found: dict[SlotsAt, frozenset[int]] = {}
        for at in dict.fromkeys(one.slots for one in wanted if one.slots is not None):
            try:
                store = await self._store(at.cos_conn_id, at.region)
                seen = await self._ask(_surveyed, classic, store, at, now, self._surveys.get(at), known)
                self._surveys[at] = seen
                found[at] = frozenset(seen.guests())
            except (CosError, ConnectionProblem, ExportsError) as error:
                log.warning("Could not read the slots %s/%s, looking again later: %s", at.bucket, at.root, error)
        return found

    async def _turns(self, wanted: tuple[Interest, ...], now: datetime) -> frozenset[Interest]:
        """Let exports go on for which there is room; where that cannot be told, nobody does this time."""
        waiting: dict[ClaimsAt, dict[Turn, Interest]] = {}
        for one in wanted:
            if one.claims is not None and one.turn is not None:
                waiting.setdefault(one.claims, {})[one.turn] = one
        going: set[Interest] = set()
        for at, turns in waiting.items():
            try:
                store = await self._store(at.cos_conn_id, at.region)
                found, self._claims[at] = await self._ask(next_exports, store, at, [*turns], now, self._claims.get(at))
                going.update(turns[one] for one in found)
            except Exception as error:  # noqa: BLE001 - as in _snapshot: the other waits go on
                log.warning("Could not list %s/%s, looking again later: %s", at.bucket, at.root, words_of(error))
                self._drop_store((at.cos_conn_id, at.region))
        return frozenset(going)

    async def _store(self, cos_conn_id: str, region: str) -> CosClient:
        where = (cos_conn_id, region)
        if where not in self._stores:
            async with asyncio.timeout(CALL_LIMIT):
                self._stores[where] = await CosHook(cos_conn_id, region=region).aclient()
        return self._stores[where]

    async def _list(self, place: Place) -> tuple[ObjectInfo, ...]:
        try:
            store = await self._store(place.cos_conn_id, place.region)
            return await self._ask(_listed, store, place)
        except Exception:
            # A key may have been changed in the connection: the next look reads it again.
            self._drop_store((place.cos_conn_id, place.region))
            raise

    async def _new_classic(self) -> ClassicClient:
        async with asyncio.timeout(CALL_LIMIT):
            self._classic = await ClassicHook(self.classic_conn_id).aclient(caller=POLL)
        return self._classic

    def _note(self, problem: Exception | None) -> None:
        """Log how a look went: the first failure of a kind with its cause, those that follow in a line."""
        self._asked_to_wait = 0.0
        if problem is None:
            if self._failures:
                log.info("The poll of %s has answers again, after %d failures.", self.classic_conn_id, self._failures)
            self._failures, self._told = 0, None
            return
        self._failures += 1
        self._asked_to_wait = float(getattr(problem, "retry_after", None) or 0.0)
        log.warning(
            "The poll of %s failed (%d in a row), looking again in %.0f s: %s",
            self.classic_conn_id,
            self._failures,
            self._pause(),
            words_of(problem),
            exc_info=problem if type(problem) is not self._told else None,
        )
        self._told = type(problem)
        # The connection may have been changed since it was read: the next look reads it again.
        self._disconnect()

    def _pause(self) -> float:
        """How long to pause where nobody says more: the interval, longer after failures."""
        longest = max(self.poll_interval, PAUSE_LIMIT)
        backoff = self.poll_interval * min(2**self._failures, BACKOFF_LIMIT)
        return float(min(longest, max(backoff, self._asked_to_wait)))

    def _pace(self, waiting: _Register, began: float) -> float:
        """Work out the pause until somebody can learn something; who says nothing about it is looked at as usual."""
        wanted = [waiting.looks.setdefault(token, began + self.poll_interval) - began for token in waiting.waits]
        return min(self.poll_interval * SLOWER, max(self._least, min(wanted, default=self.poll_interval)))

    @property
    def _least(self) -> float:
        """The shortest pause between two looks."""
        return self.poll_interval / QUICKER

    async def _rest(self) -> None:
        """Pause; who comes meanwhile can shorten it, but not to less than the bound between two looks."""
        if self._failures or self.key not in _registers:
            await asyncio.sleep(self._pause())
            return
        clock = asyncio.get_running_loop().time
        began = clock()
        while (waiting := _registers.get(self.key)) is not None:
            waiting.changed.clear()
            pace = self._pace(waiting, began)
            left = began + pace - clock()
            if left <= 0:
                return
            waiting.due = began + pace if pace > self._least else -math.inf
            try:
                async with asyncio.timeout(left):
                    await waiting.changed.wait()
            except TimeoutError:
                return

    def _drop_store(self, where: tuple[str, str]) -> None:
        stale = self._stores.pop(where, None)
        if stale is not None:
            stale.close()

    def _disconnect(self) -> None:
        if self._classic is not None:
            self._classic.close()
            self._classic = None
        while self._stores:
            self._stores.popitem()[1].close()


def _surveyed(
    classic: ClassicClient, store: CosClient, at: SlotsAt, now: datetime, earlier: Survey | None, known: _Known
) -> Survey:
    from sealift.exports.steps import JustRead, SlotsPlace, survey

    place = SlotsPlace(bucket=at.bucket, root=at.root, settle=timedelta(seconds=at.settle_seconds))
    just_read = JustRead(templates=known[0], guests=known[1])
    return survey(classic, store, place, now=now, earlier=earlier, just_read=just_read)


def _listed(store: CosClient, place: Place) -> tuple[ObjectInfo, ...]:
    return tuple(store.list(place.bucket, place.prefix))


def _fail_alike(one: Place, other: Place, error: Exception) -> bool:
    """Say whether a place would fail as another did, so that trying it would only take time."""
    if (one.cos_conn_id, one.region) != (other.cos_conn_id, other.region):
        return False
    if isinstance(error, CosNotFoundError | CosPermissionError):
        return one.bucket == other.bucket
    return type(error) is not CosError


def _may_be_ready(interest: Interest, templates: Mapping[int, Template]) -> bool:
    """Objects are listed only where no transaction is left: until then they cannot be complete."""
    if interest.template_id is None:
        return True
    template = templates.get(interest.template_id)
    return template is None or not template.transactions_left
