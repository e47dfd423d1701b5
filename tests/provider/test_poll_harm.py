"""The shared poll does no harm: no error of any kind ends it, and what one wait meets is not what the others meet."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.triggers.base import TaskSuccessEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from sealift.classic.errors import (
    ClassicAuthError,
    ClassicBadReplyError,
    ClassicError,
    ClassicRateLimitedError,
    ClassicTransientError,
    ClassicUnreachableError,
)
from sealift.classic.models import GuestState, Template
from sealift.cos.errors import CosAuthError, CosError, CosNotFoundError, CosTransientError
from sealift.cos.models import ObjectInfo
from sealift.provider import asking
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.triggers import account
from sealift.provider.triggers.account import AccountPoll, Interest, Place, SlotsAt, Snapshot
from sealift.provider.triggers.waits import ExportWaitTrigger, TemplateWaitTrigger

from .conftest import FakeClassic, idle_guest, terms, whole_template
from .test_account_poll import INTERVAL, Runner, finished, template_wait, until

pytestmark = pytest.mark.airflow


def unparsable() -> Exception:
    """What pydantic raises for a reply that is not what it should be."""

    class Shape(BaseModel):
        id: int

    try:
        Shape.model_validate({})
    except ValueError as error:
        return error
    raise AssertionError


ERRORS: list[Exception] = [
    ClassicTransientError("bad gateway"),
    ClassicRateLimitedError("Rate limit exceeded."),
    ClassicAuthError("Invalid API token."),
    ClassicUnreachableError("no such host"),
    ClassicBadReplyError("ids that nobody asked for"),
    unparsable(),
    KeyError("error"),
    OSError("no more files"),
    RuntimeError("a mistake of our own"),
]


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    one = Runner()
    yield one
    await one.stop()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that fails looks again at once."""
    monkeypatch.setattr(account, "BACKOFF_LIMIT", 1)


# Errors of every kind


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_no_error_of_the_account_ends_the_stream(runner: Runner, hooked: FakeClassic, error: Exception) -> None:
    hooked.templates = {100: whole_template(100), 200: whole_template(200)}
    hooked.guests = {1: idle_guest(1), 2: idle_guest(2)}
    hooked.errors = [error] * 5

    events = await finished(runner.start(template_wait(1, 100)), runner.start(template_wait(2, 200)))

    assert all(isinstance(one[0], TaskSuccessEvent) for one in events)
    assert hooked.errors == []


def not_reached() -> Exception:
    """What Airflow raises where its API server does not answer."""
    return AirflowRuntimeError(ErrorResponse(error=ErrorType.GENERIC_ERROR, detail={"message": "API server is down"}))


@pytest.mark.parametrize(
    "error",
    [AirflowNotFoundException("The conn_id `ibm_classic_default` isn't defined"), not_reached(), RuntimeError("boom")],
    ids=lambda error: type(error).__name__,
)
async def test_a_connection_that_cannot_be_read_when_the_loop_begins_is_read_again_later(
    runner: Runner, hooked: FakeClassic, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A secrets backend is down while a triggerer starts again."""
    hooked.templates, hooked.guests = {100: whole_template(100)}, {1: idle_guest(1)}
    there = BaseHook.aget_connection
    asked = 0

    async def down(conn_id: str) -> Connection:
        nonlocal asked
        asked += 1
        if asked <= 3:
            raise error
        return await there(conn_id)

    monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(down))
    (events,) = await finished(runner.start(template_wait(1, 100)))

    assert isinstance(events[0], TaskSuccessEvent)
    assert asked == 4, "and then it is kept"


async def test_a_connection_that_never_comes_ends_each_wait_at_its_deadline_in_words(
    runner: Runner, hooked: FakeClassic, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(conn_id: str) -> Connection:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(missing))
    (events,) = await finished(runner.start(template_wait(1, 100, deadline_seconds=0.2, grace_seconds=0.0)))

    payload = events[0].payload
    assert payload["reason"] == "no-answer"
    assert "There is no connection 'ibm_classic_default'" in payload["sentence"]


async def test_a_connection_whose_look_up_hangs_holds_nothing_up_for_good(
    runner: Runner, hooked: FakeClassic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "CALL_LIMIT", 0.05)
    hooked.templates, hooked.guests = {100: whole_template(100)}, {1: idle_guest(1)}
    there = BaseHook.aget_connection
    asked = 0

    async def hanging(conn_id: str) -> Connection:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        return await there(conn_id)

    monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(hanging))
    (events,) = await finished(runner.start(template_wait(1, 100)))

    assert isinstance(events[0], TaskSuccessEvent)


async def test_a_failure_is_logged_with_its_cause_once_and_its_end_is_told(
    runner: Runner, hooked: FakeClassic, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hooked.templates, hooked.guests = {100: whole_template(100)}, {1: idle_guest(1)}
    hooked.errors = [RuntimeError("secret-in-here")] * 4 + [ClassicTransientError("bad gateway")]

    await finished(runner.start(template_wait(1, 100)))

    failures = [one for one in caplog.records if "failed (" in one.message]
    assert [bool(one.exc_info) for one in failures] == [True, False, False, False, True]
    assert all("secret-in-here" not in one.message for one in failures), "the words of strangers stay in the traceback"
    assert any("has answers again, after 5 failures" in one.message for one in caplog.records)


def test_a_poll_that_fails_looks_less_often_but_never_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "BACKOFF_LIMIT", 8)
    poll = AccountPoll(key="k", classic_conn_id="c", poll_interval=15.0)
    waits = [poll._pause()]
    for _ in range(5):
        poll._note(ClassicTransientError("bad gateway"))
        waits.append(poll._pause())
    assert waits == [15, 30, 60, 120, 120, 120]
    limited = ClassicRateLimitedError("Rate limit exceeded.")
    limited.retry_after = 200.0
    poll._note(limited)
    assert poll._pause() == 200
    limited.retry_after = 10_000.0
    poll._note(limited)
    assert poll._pause() == 300
    poll._note(None)
    assert poll._pause() == 15
    seldom = AccountPoll(key="k", classic_conn_id="c", poll_interval=900.0)
    seldom._note(ClassicTransientError("bad gateway"))
    assert seldom._pause() == 900


# What one meets and the others do not


class Spoiled(FakeClassic):
    """Cannot answer for some templates, nor for a page that holds one."""

    def __init__(self, *bad: int) -> None:
        super().__init__()
        self.bad = set(bad)

    def template_states(self, ids: Collection[int]) -> dict[int, Template]:
        found = super().template_states(ids)
        if self.bad & set(ids):
            raise ClassicBadReplyError("the reply lacks the field id")
        return found


async def test_a_template_that_cannot_be_read_blinds_no_other_and_does_not_count_as_gone(
    runner: Runner, hooked: FakeClassic, monkeypatch: pytest.MonkeyPatch
) -> None:
    classic = Spoiled(500)
    monkeypatch.setattr(ClassicHook, "_client_from", lambda _self, _connection, **_told: classic)
    classic.templates = {100 * one: whole_template(100 * one) for one in range(1, 10)}
    classic.guests = {one: idle_guest(one) for one in range(1, 10)}
    bad = runner.start(template_wait(5, 500, grace_seconds=0.0, deadline_seconds=1.0))
    others = [runner.start(template_wait(one, 100 * one)) for one in range(1, 10) if one != 5]

    events = await finished(*others)
    assert all(isinstance(one[0], TaskSuccessEvent) for one in events)

    (spoiled,) = await finished(bad)
    assert spoiled[0].payload["reason"] == "no-answer", "not: vanished, which nobody has seen"
    assert "lacks the field id" in spoiled[0].payload["sentence"]


async def test_an_id_that_is_missing_in_some_polls_is_not_gone(runner: Runner, hooked: FakeClassic) -> None:
    """A page that moves under the poll."""
    hooked.templates, hooked.guests = {100: whole_template(100)}, {1: idle_guest(1)}
    answers = hooked.template_states
    looks = 0

    def blinking(ids: Collection[int]) -> dict[int, Template]:
        nonlocal looks
        looks += 1
        return answers(ids) if looks % 2 == 0 or looks > 9 else {}

    hooked.template_states = blinking  # type: ignore[method-assign]
    (events,) = await finished(runner.start(template_wait(1, 100)))

    assert isinstance(events[0], TaskSuccessEvent)
    assert looks >= 11, "two polls in a row must show it"


@pytest.mark.parametrize("gone", ["template", "guest"])
async def test_an_id_that_the_account_no_longer_knows_ends_its_own_wait_only(
    runner: Runner, hooked: FakeClassic, gone: str
) -> None:
    from sealift.provider.triggers.waits import TemplateWaitTrigger

    hooked.templates, hooked.guests = {100: whole_template(100), 200: whole_template(200)}, {1: idle_guest(1)}
    if gone == "template":
        hooked.guests[2] = idle_guest(2)
        del hooked.templates[200]
    else:
        hooked.templates[200] = Template.model_validate({"id": 200})
    wait = TemplateWaitTrigger(
        classic_conn_id="ibm_classic_default",
        terms=terms(2, 200, grace_seconds=0.1).model_dump_json(),
        poll_interval=INTERVAL,
    )
    lost, other = await finished(runner.start(wait), runner.start(template_wait(1, 100)))

    assert isinstance(other[0], TaskSuccessEvent)
    assert lost[0].payload["reason"] == f"{gone}-vanished"


async def test_a_call_that_hangs_holds_up_no_other_account_nor_its_own_for_longer_than_its_limit(
    runner: Runner, hooked: FakeClassic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "CALL_LIMIT", 0.05)
    over = threading.Event()
    hung: Counter[str] = Counter()
    accounts = {f"account-{number}": FakeClassic() for number in range(12)}

    def client(hook: ClassicHook, _connection: Connection, **_told: Any) -> Any:
        classic = accounts[hook.classic_conn_id]
        classic.timeout = 0.02
        classic.templates, classic.guests = {100: whole_template(100)}, {1: idle_guest(1)}
        answers = classic.template_states

        def states(ids: Collection[int]) -> dict[int, Template]:
            if hook.classic_conn_id != "account-0" and hung[hook.classic_conn_id] < 2:
                hung[hook.classic_conn_id] += 1
                over.wait(60)
            return answers(ids)

        return SimpleNamespace(
            template_states=states, guest_states=classic.guest_states, close=classic.close, timeout=0.02
        )

    monkeypatch.setattr(ClassicHook, "_client_from", client)
    try:
        waits = {
            name: runner.start(
                TemplateWaitTrigger(classic_conn_id=name, terms=terms(1, 100).model_dump_json(), poll_interval=INTERVAL)
            )
            for name in accounts
        }
        await until(lambda: len(hung) == 11)
        (events,) = await finished(waits["account-0"])
        assert isinstance(events[0], TaskSuccessEvent), "while all others hang"
        others = await finished(*waits.values())
        assert all(isinstance(one[0], TaskSuccessEvent) for one in others)
        assert set(hung.values()) == {2}, "each was left hanging, and asked again"
    finally:
        over.set()


# Stores


class Stores:
    """Stores by their connection; each raises what it is told to, and counts."""

    def __init__(self) -> None:
        self.errors: dict[str, Callable[[str, str], Exception | None]] = {}
        self.listed: Counter[str] = Counter()

    async def client(self, hook: CosHook) -> Any:
        name = hook.cos_conn_id

        def listing(bucket: str, prefix: str) -> Iterator[ObjectInfo]:
            self.listed[name] += 1
            error = self.errors.get(name, lambda _bucket, _prefix: None)(bucket, prefix)
            if error is not None:
                raise error
            return iter([ObjectInfo(key=f"{prefix}0.vhd", size=9, etag="e", last_modified="2026-01-01T00:00:00Z")])

        return SimpleNamespace(list=listing, close=lambda: None)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Stores:
    one = Stores()

    async def client(hook: CosHook) -> Any:
        return await one.client(hook)

    monkeypatch.setattr(CosHook, "aclient", client)
    return one


def interests(count: int, *, conn: str = "one", bucket: str = "b") -> list[Interest]:
    return [
        Interest(
            template_id=100 * n,
            place=Place(cos_conn_id=conn, region="r", bucket=bucket, prefix=f"{conn}/{bucket}/{n}/disk-"),
        )
        for n in range(1, count + 1)
    ]


async def look(poll: AccountPoll, wanted: list[Interest]) -> Snapshot:
    return await poll._snapshot(tuple(wanted))


@pytest.fixture
async def poll(hooked: FakeClassic, stores: Stores) -> AsyncIterator[AccountPoll]:
    hooked.templates = {100 * n: whole_template(100 * n) for n in range(1, 51)}
    one = AccountPoll(key="k", classic_conn_id="ibm_classic_default", poll_interval=15.0)
    yield one
    one._disconnect()
    one._ask.close()


@pytest.mark.parametrize(
    "error", [CosTransientError("SlowDown"), CosAuthError("The key was refused."), RuntimeError("boom")]
)
async def test_a_store_that_fails_is_asked_once_a_look_and_fails_no_other(
    poll: AccountPoll, stores: Stores, error: Exception
) -> None:
    stores.errors["one"] = lambda _bucket, _prefix: error

    snapshot = await look(poll, [*interests(50), *interests(5, conn="two")])

    assert stores.listed == {"one": 1, "two": 5}
    assert len(snapshot.unlisted) == 50
    assert {place.cos_conn_id for place in snapshot.objects} == {"two"}


async def test_a_bucket_that_is_gone_fails_no_other_bucket(poll: AccountPoll, stores: Stores) -> None:
    stores.errors["one"] = lambda bucket, _prefix: CosNotFoundError("no such bucket") if bucket == "gone" else None

    snapshot = await look(poll, [*interests(20, bucket="gone"), *interests(3)])

    assert stores.listed == {"one": 1 + 3}
    assert {place.bucket for place in snapshot.unlisted} == {"gone"}
    assert len(snapshot.objects) == 3


async def test_a_place_that_fails_alone_does_not_keep_the_others_from_being_listed(
    poll: AccountPoll, stores: Stores
) -> None:
    wanted = interests(4)
    assert wanted[0].place is not None
    bad = wanted[0].place.prefix
    stores.errors["one"] = lambda _bucket, prefix: CosTransientError("too long") if prefix == bad else None

    listed: set[str] = set()
    for _ in range(4):
        snapshot = await look(poll, wanted)
        listed |= {place.prefix for place in snapshot.objects}
    assert len(listed) == 3

    stores.errors["one"] = lambda _bucket, prefix: CosError("does not go on") if prefix == bad else None
    assert len((await look(poll, wanted)).objects) == 3, "an error that can only be this place's is nobody else's"


async def test_slots_that_cannot_be_counted_give_nobody_one_and_fail_no_wait(
    poll: AccountPoll, hooked: FakeClassic, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(*_: Any) -> int:
        raise ClassicError("the list could not be read whole")

    monkeypatch.setattr(account, "_surveyed", counted)
    at = SlotsAt(cos_conn_id="one", region="r", bucket="b", root="offline-slots/1", settle_seconds=900.0)
    slot = Interest(guest_id=9, max_offline=5, slots=at)

    snapshot = await look(poll, [*interests(2), slot])

    assert (snapshot.in_flight, snapshot.admitted, snapshot.trouble) == ({}, frozenset(), "")
    assert len(snapshot.objects) == 2
    assert poll._failures == 1, "and the next look comes later"


async def test_of_a_template_that_was_not_read_nothing_is_listed_and_nothing_concluded(
    runner: Runner, hooked: FakeClassic, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    classic = Spoiled(500)
    classic.templates = {100: whole_template(100)}
    monkeypatch.setattr(ClassicHook, "_client_from", lambda _self, _connection, **_told: classic)

    def export(guest_id: int, **changes: Any) -> ExportWaitTrigger:
        return ExportWaitTrigger(
            classic_conn_id="ibm_classic_default",
            cos_conn_id="one",
            region="r",
            terms=terms(guest_id, guest_id * 100, **changes).model_dump_json(),
            poll_interval=INTERVAL,
        )

    bad = runner.start(export(5, grace_seconds=0.0, deadline_seconds=0.5))
    good, spoiled = await finished(runner.start(export(1)), bad)

    assert isinstance(good[0], TaskSuccessEvent)
    assert spoiled[0].payload["reason"] == "no-answer"
    assert classic.guest_calls == [], "an export asks for no server"


# For all faults


class Chaotic(FakeClassic):
    """Answers or fails as it is told, call by call; when nothing is told any more, it answers."""

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.script = list(script)
        self.templates = {100: whole_template(100), 200: whole_template(200)}
        self.guests = {1: idle_guest(1)}

    def _next(self) -> None:
        number = self.script.pop(0) if self.script else len(ERRORS)
        if number < len(ERRORS):
            raise ERRORS[number]

    def template_states(self, ids: Collection[int]) -> dict[int, Template]:
        self._next()
        return super().template_states(ids)

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]:
        self._next()
        return super().guest_states(ids)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(0, len(ERRORS) + 5), max_size=40), st.lists(st.booleans(), max_size=12))
async def test_whatever_fails_the_stream_goes_on_and_each_snapshot_says_what_is_not_known(
    script: list[int], connects: list[bool]
) -> None:
    classic, connects = Chaotic(script), list(connects)

    async def client(_hook: ClassicHook, *, caller: str) -> Any:
        assert caller == "poll"
        if connects and not connects.pop(0):
            raise RuntimeError("the secrets backend is down")
        return classic

    async def at_once(_seconds: float) -> None:
        return None

    wanted = [Interest(guest_id=1, template_id=100), Interest(guest_id=2, template_id=200)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassicHook, "aclient", client)
        patch.setattr(account, "interests", lambda _key: tuple(wanted))
        patch.setattr(
            account, "asyncio", SimpleNamespace(sleep=at_once, to_thread=asyncio.to_thread, timeout=asyncio.timeout)
        )
        patch.setattr(asking.log, "disabled", True)
        patch.setattr(account.log, "disabled", True)
        stream = AccountPoll(key="k", classic_conn_id="c", poll_interval=15.0).snapshots()
        async with asyncio.timeout(60):
            for _ in range(len(script) + 12 + 2):
                snapshot = await anext(stream)
                for one in wanted:
                    assert one.template_id is not None
                    assert one.guest_id is not None
                    known = one.template_id in snapshot.templates
                    assert known or snapshot.trouble or snapshot.unread_templates.get(one.template_id)
                    missing = one.guest_id == 2
                    told = snapshot.trouble or snapshot.unread_guests.get(one.guest_id)
                    assert one.guest_id in snapshot.guests or told or missing
            assert not snapshot.trouble, "when nothing fails any more, everything is known again"
            assert snapshot.templates.keys() == {100, 200}
        await stream.aclose()
