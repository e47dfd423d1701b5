"""The shared poll, run by Airflow's own shared-stream manager: one loop for many waits, and no error that fails one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.triggers.base import BaseEventTrigger, TaskSuccessEvent, TriggerEvent
from airflow.triggers.shared_stream import SharedStreamManager

from sealift.classic.errors import ClassicAuthError, ClassicBadReplyError, ClassicRateLimitedError
from sealift.cos.errors import CosAuthError, CosTransientError
from sealift.cos.models import ObjectInfo
from sealift.exports.caps import Caps
from sealift.provider.hooks.cos import CosHook
from sealift.provider.triggers import account
from sealift.provider.triggers.slots import OfflineSlotTrigger
from sealift.provider.triggers.waits import AccountWaitTrigger, ExportWaitTrigger, TemplateWaitTrigger

from .conftest import FakeClassic, busy_template, idle_guest, terms, whole_template

pytestmark = pytest.mark.airflow

SLOTS = {
    "cos_conn_id": "ibm_cos_default",
    "region": "us-south",
    "bucket": "images",
    "root": "offline-slots/1",
    "settle_seconds": 900.0,
}
INTERVAL = 0.02


class Runner:
    """Runs triggers as the triggerer does: subscribe, filter, unsubscribe."""

    def __init__(self) -> None:
        self.manager = SharedStreamManager(
            log=structlog.get_logger(), max_subscriber_queue=1024, ack_timeout=300.0, cohort_grace_period=0.0
        )
        self._ids = iter(range(1, 10_000))

    def start(self, trigger: BaseEventTrigger) -> asyncio.Task[list[TriggerEvent]]:
        return asyncio.create_task(self._run(next(self._ids), trigger))

    async def _run(self, trigger_id: int, trigger: BaseEventTrigger) -> list[TriggerEvent]:
        key = trigger.shared_stream_key()
        assert key is not None
        stream: AsyncIterator[Any] = self.manager.subscribe(trigger_id=trigger_id, trigger=trigger, key=key)
        try:
            return [event async for event in trigger.filter_shared_stream(stream)]
        finally:
            await self.manager.unsubscribe(trigger_id, key)

    async def stop(self) -> None:
        await self.manager.stop_all()


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    one = Runner()
    yield one
    await one.stop()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a named state, with a deadline."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the state has no event to wait for
            await asyncio.sleep(0.005)


def template_wait(guest_id: int, template_id: int, **changes: Any) -> TemplateWaitTrigger:
    return TemplateWaitTrigger(
        classic_conn_id="ibm_classic_default",
        terms=terms(guest_id, template_id, **changes).model_dump_json(),
        poll_interval=INTERVAL,
    )


async def finished(*tasks: Awaitable[list[TriggerEvent]]) -> list[list[TriggerEvent]]:
    async with asyncio.timeout(20):
        return list(await asyncio.gather(*tasks))


async def test_many_waits_share_one_poll_whose_connection_lives_in_the_database(
    runner: Runner, hooked: FakeClassic
) -> None:
    count = 40
    tasks = []
    for guest_id in range(1, count + 1):
        hooked.templates[guest_id * 100] = busy_template(guest_id * 100)
        hooked.guests[guest_id] = idle_guest(guest_id)
        tasks.append(runner.start(template_wait(guest_id, guest_id * 100)))
    await until(lambda: any(len(call) == count for call in hooked.template_calls))
    before = len(hooked.template_calls)
    await until(lambda: len(hooked.template_calls) >= before + 3)
    assert all(call == sorted(g * 100 for g in range(1, count + 1)) for call in hooked.template_calls[before:])
    assert len(hooked.template_calls) - len(hooked.guest_calls) in {0, 1}
    for guest_id in range(1, count + 1):
        hooked.templates[guest_id * 100] = whole_template(guest_id * 100)
    events = await finished(*tasks)
    assert all(len(one) == 1 and isinstance(one[0], TaskSuccessEvent) for one in events)
    assert account.interests(("sealift-account", "ibm_classic_default", INTERVAL)) == ()
    await until(lambda: hooked.closed == 1)


async def test_late_subscriber_is_not_judged_by_a_snapshot_that_did_not_ask_for_it(
    runner: Runner, hooked: FakeClassic
) -> None:
    hooked.templates = {100: busy_template(100), 200: whole_template(200)}
    hooked.guests = {1: idle_guest(1), 2: idle_guest(2)}
    early = runner.start(template_wait(1, 100))
    await until(lambda: len(hooked.template_calls) >= 2)
    # Without grace, a snapshot without template 200 would at once count as "vanished".
    late = runner.start(template_wait(2, 200, grace_seconds=0.0))
    (events,) = await finished(late)
    assert isinstance(events[0], TaskSuccessEvent)
    assert not early.done()
    hooked.templates[100] = whole_template(100)
    await finished(early)


async def test_poll_errors_are_survived_by_every_wait(runner: Runner, hooked: FakeClassic) -> None:
    hooked.templates = {100: whole_template(100)}
    hooked.guests = {1: idle_guest(1)}
    hooked.errors = [
        ClassicRateLimitedError("Rate limit exceeded."),
        ClassicBadReplyError("ids that nobody asked for"),
        ClassicAuthError("Invalid API token."),
    ]
    task = runner.start(template_wait(1, 100))
    (events,) = await finished(task)
    assert isinstance(events[0], TaskSuccessEvent)
    assert len(hooked.template_calls) >= 5, "three failures, then two polls in a row that saw it idle"
    assert hooked.closed >= 1, "after a refused key, the connection is read again"


async def test_a_wait_that_nobody_answers_ends_at_its_deadline_and_says_why(
    runner: Runner, hooked: FakeClassic
) -> None:
    hooked.errors = [ClassicAuthError("Invalid API token.") for _ in range(1000)]
    task = runner.start(template_wait(1, 100, deadline_seconds=0.2))
    (events,) = await finished(task)
    payload = events[0].payload
    assert (payload["status"], payload["reason"]) == ("failed", "no-answer")
    assert "Invalid API token." in payload["sentence"]
    assert "host1" in payload["sentence"]
    assert "clear this task" in payload["sentence"]


async def test_a_wait_that_fails_resumes_its_task_with_a_reason_and_a_sentence(
    runner: Runner, hooked: FakeClassic
) -> None:
    hooked.guests = {1: idle_guest(1)}
    task = runner.start(template_wait(1, 100, grace_seconds=0.0))
    (events,) = await finished(task)
    payload = events[0].payload
    assert payload["status"] == "failed"
    assert payload["reason"] == "template-vanished"
    assert "host1" in payload["sentence"]
    assert "100" in payload["sentence"]
    assert json.loads(json.dumps(payload)) == payload


async def test_cancelling_a_wait_leaves_no_interest_behind(runner: Runner, hooked: FakeClassic) -> None:
    hooked.templates = {100: busy_template(100)}
    hooked.guests = {1: idle_guest(1)}
    task = runner.start(template_wait(1, 100))
    await until(lambda: len(hooked.template_calls) >= 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert account.interests(("sealift-account", "ibm_classic_default", INTERVAL)) == ()


async def test_run_without_a_shared_stream_gives_the_same_verdict(hooked: FakeClassic) -> None:
    hooked.templates = {100: whole_template(100)}
    hooked.guests = {1: idle_guest(1)}
    async with asyncio.timeout(20):
        events = [event async for event in template_wait(1, 100).run()]
    assert [event.payload["status"] for event in events] == ["done"]


@pytest.mark.parametrize("cls", [TemplateWaitTrigger, ExportWaitTrigger])
def test_all_waits_of_an_account_share_a_key(cls: type[AccountWaitTrigger]) -> None:
    trigger = cls(classic_conn_id="c", terms=terms().model_dump_json(), poll_interval=15.0)
    assert trigger.shared_stream_key() == ("sealift-account", "c", 15.0)


class FakeStore:
    """Lists what it was given, after raising its errors."""

    def __init__(self) -> None:
        self.objects: list[ObjectInfo] = []
        self.errors: list[Exception] = []
        self.listed: list[tuple[str, str]] = []
        self.closed = 0

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        self.listed.append((bucket, prefix))
        if self.errors:
            raise self.errors.pop(0)
        return iter([one for one in self.objects if one.key.startswith(prefix)])

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    one = FakeStore()

    async def client(hook: CosHook) -> FakeStore:
        assert (hook.cos_conn_id, hook._region) == ("ibm_cos_default", "eu-de")
        return one

    monkeypatch.setattr(CosHook, "aclient", client)
    return one


async def test_objects_are_listed_only_once_the_transactions_are_gone_and_errors_are_survived(
    runner: Runner, hooked: FakeClassic, store: FakeStore
) -> None:
    wanted = terms(1, 100)
    (key,) = wanted.expected_keys
    hooked.templates = {100: busy_template(100)}
    hooked.guests = {1: idle_guest(1)}
    store.errors = [CosTransientError("SlowDown"), CosAuthError("The key was refused.")]
    task = runner.start(
        ExportWaitTrigger(
            classic_conn_id="ibm_classic_default",
            cos_conn_id="ibm_cos_default",
            region="eu-de",
            terms=wanted.model_dump_json(),
            poll_interval=INTERVAL,
        )
    )
    await until(lambda: len(hooked.template_calls) >= 5)
    assert store.listed == [], "nothing can be complete while a transaction is left"
    hooked.templates[100] = whole_template(100)
    await until(lambda: len(store.listed) >= 4)
    assert not task.done(), "no object, no end"
    assert store.closed == 2, "after an error the connection is read again"
    assert set(store.listed) == {("images", key.removesuffix("0.vhd"))}
    store.objects = [ObjectInfo(key=key, size=9, etag="e", last_modified=datetime.now(UTC))]
    (events,) = await finished(task)
    assert isinstance(events[0], TaskSuccessEvent)


async def test_an_export_whose_bucket_cannot_be_listed_ends_at_its_deadline_and_says_why(
    runner: Runner, hooked: FakeClassic, store: FakeStore
) -> None:
    hooked.templates = {100: whole_template(100)}
    hooked.guests = {1: idle_guest(1)}
    store.errors = [CosAuthError("The key was refused.") for _ in range(1000)]
    task = runner.start(
        ExportWaitTrigger(
            classic_conn_id="ibm_classic_default",
            cos_conn_id="ibm_cos_default",
            region="eu-de",
            terms=terms(1, 100, deadline_seconds=0.2, grace_seconds=0.0).model_dump_json(),
            poll_interval=INTERVAL,
        )
    )
    (events,) = await finished(task)
    payload = events[0].payload
    assert payload["reason"] == "no-answer", "not: objects missing, which nobody has seen"
    assert "The key was refused." in payload["sentence"]


async def test_offline_slots_go_to_those_who_waited_longest_and_no_more_than_there_are(
    runner: Runner, hooked: FakeClassic, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [3, 3, 3, 2]  # one slot falls free, and is taken at once
    afterwards = {"captures": 3}
    counted: list[int] = []

    def surveyed(_classic: Any, _store: Any, at: account.SlotsAt, now: datetime, *_: Any) -> Any:
        assert now.tzinfo is not None
        assert at.root == "offline-slots/1"
        counted.append(answers.pop(0) if answers else afterwards["captures"])
        guests = range(900, 900 + counted[-1])
        return SimpleNamespace(caps=Caps(), guests=lambda **_: set(guests), brief=lambda: f"{len(guests)} offline")

    async def settled(_began: datetime) -> None:
        return None

    async def store(_hook: Any) -> Any:
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(account, "_surveyed", surveyed)
    monkeypatch.setattr("sealift.provider.hooks.cos.CosHook.aclient", store)
    monkeypatch.setattr("sealift.provider.triggers.slots.settle", settled)
    waits = [
        runner.start(
            OfflineSlotTrigger(
                classic_conn_id="ibm_classic_default",
                poll_interval=INTERVAL,
                gate=json.dumps({"slots": SLOTS, "max_offline": 3}),
                server=json.dumps({"guest_id": guest_id}),
                deferred_by_worker=True,
            )
        )
        for guest_id in (1, 2, 3)
    ]
    await until(lambda: len(counted) >= 8)
    assert [task.done() for task in waits] == [True, False, False], "one slot, for the first"
    assert hooked.guest_calls == [], "who waits for a slot is not polled"
    afterwards["captures"] = 0
    events = await finished(*waits)
    payloads = [event.payload for one in events for event in one]
    assert payloads == [
        {"status": "look-again", "root": SLOTS["root"], "seen": f"{count} offline"} for count in (2, 0, 0)
    ]
    assert account.interests(("sealift-account", "ibm_classic_default", INTERVAL)) == ()


# What a capture that starts in the triggerer waits for


def slot_wait(**changes: Any) -> OfflineSlotTrigger:
    """A capture that waits in the triggerer from its beginning, its arguments as the templates leave them."""
    gate = {"slots": SLOTS, "max_offline": 3, "window": changes.pop("window", None)}
    wanted: dict[str, Any] = {
        "classic_conn_id": "ibm_classic_default",
        "poll_interval": INTERVAL,
        "gate": json.dumps(gate),
        "server": json.dumps({"guest_id": 1, "hostname": "web-01", "export_id": "1-x"}),
        "attempt": "1",
    }
    return OfflineSlotTrigger(**(wanted | changes))


async def no_snapshots() -> AsyncIterator[Any]:
    raise AssertionError("nobody needs a poll")
    yield


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": "2"},
        {"attempt": 3},
        {"server": json.dumps({"guest_id": 1, "adopts": True})},
        *({"gate": strange} for strange in ("null", "", "{{ no template }}", "[]")),
        *({"server": strange} for strange in ("null", "", "7")),
    ],
    ids=str,
)
async def test_what_needs_no_slot_starts_its_worker_at_once(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """A later try looks for what an earlier one did; what is strange is the worker's to say."""

    async def settled(_began: datetime) -> None:
        raise AssertionError("no worker deferred it")

    monkeypatch.setattr("sealift.provider.triggers.slots.settle", settled)
    trigger = slot_wait(**changes)
    (event,) = [one async for one in trigger.filter_shared_stream(no_snapshots())]
    assert event.payload == {"status": "look-again"}
    assert account.interests(trigger.shared_stream_key()) == ()


@pytest.mark.parametrize("by_worker", [False, True])
async def test_only_what_a_worker_deferred_waits_until_airflow_forgot_the_worker(
    monkeypatch: pytest.MonkeyPatch, by_worker: bool
) -> None:
    settled: list[datetime] = []

    async def settle(began: datetime) -> None:
        settled.append(began)

    monkeypatch.setattr("sealift.provider.triggers.slots.settle", settle)
    trigger = slot_wait(deferred_by_worker=by_worker, attempt=2 if by_worker else 1)
    key = trigger.shared_stream_key()

    async def snapshots() -> AsyncIterator[account.Snapshot]:
        (interest,) = account.interests(key)
        assert (interest.guest_id, interest.max_offline, interest.slots) == (1, 3, account.SlotsAt(**SLOTS))
        full = {account.SlotsAt(**SLOTS): frozenset({7, 8, 9})}
        yield account.Snapshot(taken_at=datetime.now(UTC), asked=frozenset({interest}), in_flight=full)
        yield account.Snapshot(taken_at=datetime.now(UTC), asked=frozenset({interest}), admitted=frozenset({interest}))
        raise AssertionError("a slot was free")

    (event,) = [one async for one in trigger.filter_shared_stream(snapshots())]
    assert event.payload == {"status": "look-again", "root": SLOTS["root"]}
    assert len(settled) == int(by_worker)
    assert account.interests(key) == ()


async def test_a_closed_window_is_waited_for_before_the_line_and_without_leaving_snapshots_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow fails a trigger that leaves a thousand snapshots unread."""
    trigger = slot_wait(window="Mon 02:00-03:00 UTC")
    key = trigger.shared_stream_key()
    opens = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    clock = [opens - timedelta(minutes=3)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return clock[0]

    monkeypatch.setattr("sealift.provider.triggers.slots.datetime", Clock)
    asked: list[bool] = []

    async def snapshots() -> AsyncIterator[account.Snapshot]:
        while True:
            clock[0] += timedelta(minutes=1)
            (interest,) = account.interests(key)
            asked.append(interest.slots is not None)
            yield account.Snapshot(
                taken_at=clock[0], asked=frozenset({interest}), admitted=frozenset({interest} if asked[-1] else ())
            )

    (event,) = [one async for one in trigger.filter_shared_stream(snapshots())]
    assert event.payload == {"status": "look-again", "root": SLOTS["root"]}
    assert asked == [False, False, False, True], "in the line from when the window opened"
    assert account.interests(key) == ()


async def test_an_open_window_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = slot_wait(window="Mon-Sun 00:00-24:00 UTC")

    async def snapshots() -> AsyncIterator[account.Snapshot]:
        (interest,) = account.interests(trigger.shared_stream_key())
        yield account.Snapshot(taken_at=datetime.now(UTC), asked=frozenset({interest}), admitted=frozenset({interest}))

    (event,) = [one async for one in trigger.filter_shared_stream(snapshots())]
    assert event.payload == {"status": "look-again", "root": SLOTS["root"]}


async def test_who_waits_for_a_window_costs_the_account_nothing(runner: Runner, hooked: FakeClassic) -> None:
    soon = datetime.now(UTC) + timedelta(days=2)
    trigger = slot_wait(window=f"{soon:%a} 00:00-01:00 UTC")
    task = runner.start(trigger)
    await until(lambda: account.interests(trigger.shared_stream_key()) != ())
    hooked.templates, hooked.guests = {100: whole_template(100)}, {1: idle_guest(1)}
    await finished(runner.start(template_wait(1, 100)))
    assert not task.done()
    assert all(call == [100] for call in hooked.template_calls)
    assert all(call == [1] for call in hooked.guest_calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert account.interests(trigger.shared_stream_key()) == ()
