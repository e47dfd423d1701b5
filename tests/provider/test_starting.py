"""A capture or an export is started in the triggerer where nothing is in the way; the rest is left to a worker."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from sealift.classic.errors import ClassicLoadError, ClassicRateLimitedError
from sealift.cos.errors import CosTransientError
from sealift.exports import plan
from sealift.exports.errors import OfflineCapReached, OutcomeOpen, StepError
from sealift.exports.offline import Account
from sealift.exports.settings import PlanSettings
from sealift.exports.surveying import Survey
from sealift.provider.asking import CallHangs
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import ObjectLink, TemplateLink
from sealift.provider.starting import Started
from sealift.provider.triggers import account, starting
from sealift.provider.triggers.account import SlotsAt, Snapshot
from sealift.provider.triggers.slots import OfflineSlotTrigger
from sealift.provider.triggers.starting import AT_ONCE, StartsAt, try_to_capture, try_to_export
from sealift.provider.triggers.waits import TemplateWaitTrigger

from .conftest import terms

pytestmark = pytest.mark.airflow

AT = StartsAt(classic_conn_id="c", cos_conn_id="s", region="r")
STARTED = Started(handed_on={"template_id": 70}, link="https://console", sentence="Started it.")


class Step:
    """Stands in for the step and for what it is given; notes what it was called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.connections: list[str] = []
        self.closed: list[str] = []
        self.waves: list[str] = []
        self.error: BaseException | None = None
        self.inside, self.most = 0, 0
        self.go = threading.Event()
        self.go.set()
        self.full, self.exporting = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    def __call__(self, **told: Any) -> Started:
        with self._lock:
            self.calls.append(told)
            self.inside += 1
            self.most = max(self.most, self.inside)
            if "template_id" in told:
                self.exporting.set()
            if self.inside == AT_ONCE:
                self.full.set()
        assert self.go.wait(30)
        with self._lock:
            self.inside -= 1
        if self.error is not None:
            raise self.error
        return STARTED


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    made = Step()

    async def classic(hook: ClassicHook, *, caller: str) -> Any:
        assert caller == "start"
        made.connections.append(hook.classic_conn_id)
        return SimpleNamespace(name="classic", timeout=60.0, close=lambda: made.closed.append("classic"))

    async def loaded(hook: CosHook) -> CosHook:
        made.connections.append(hook.cos_conn_id)
        hook.__dict__["_connection"] = SimpleNamespace(extra_dejson={})
        hook.__dict__["client"] = SimpleNamespace(name="store", close=lambda: made.closed.append("store"))
        return hook

    def read_wave(_: Any, *, bucket: str, key: str) -> Any:
        made.waves.append(f"{bucket}/{key}")
        return SimpleNamespace(key=key)

    monkeypatch.setattr(ClassicHook, "aclient", classic)
    monkeypatch.setattr(CosHook, "aloaded", loaded)
    monkeypatch.setattr(plan, "read_wave", read_wave)
    monkeypatch.setattr(starting, "start_export", made)
    monkeypatch.setattr(starting, "start_capture", made)
    yield made
    made.go.set()


@pytest.fixture
def log() -> Any:
    lines: list[str] = []
    return SimpleNamespace(info=lambda text, *values: lines.append(text % values), lines=lines)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    messages: list[Any] = []

    class Comms:
        async def asend(self, message: Any) -> None:
            messages.append(message)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
    return messages


async def start(log: Any, **more: Any) -> Started | None:
    told = {"bucket": "b", "wave_key": "w", "guest_id": 7, "template_id": 70} | more
    return await try_to_export(AT, log_to=log, **told)


def wait(**more: Any) -> TemplateWaitTrigger:
    made = TemplateWaitTrigger(
        classic_conn_id="c",
        cos_conn_id="s",
        region="r",
        poll_interval=15.0,
        terms=terms(7, 70, exported=True).model_dump_json(),
        resumes=True,
        **({"wave_key": "w", "bucket": "b"} | more),
    )
    path, kwargs = made.serialize()
    again: TemplateWaitTrigger = import_string(path)(**json.loads(json.dumps(kwargs)))
    return again


async def nothing() -> AsyncIterator[Any]:
    raise AssertionError("nobody needs a poll")
    yield


async def ended(trigger: TemplateWaitTrigger) -> TriggerEvent:
    (event,) = [one async for one in trigger.filter_shared_stream(nothing())]
    return event


async def test_a_good_wait_starts_the_export_and_ends_its_task(step: Step, sent: list[Any]) -> None:
    trigger = wait()
    trigger.task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3)
    event = await ended(trigger)

    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms == {"return_value": STARTED.handed_on}
    (message,) = [one for one in sent if one.key == ObjectLink().xcom_key]
    assert message.value == STARTED.link
    assert (message.dag_id, message.run_id, message.task_id, message.map_index) == ("d", "r", "t", 3)
    ((told),) = step.calls
    assert (told["guest_id"], told["template_id"], told["wave"].key) == (7, 70, "w")
    assert told["classic"].name == "classic"
    assert told["cos"].client.name == "store"


async def test_without_a_wave_a_worker_starts_it(step: Step) -> None:
    event = await ended(wait(wave_key=""))
    assert type(event) is TriggerEvent
    assert event.payload["status"] == "done"
    assert step.calls == []


@pytest.mark.parametrize(
    "error",
    [
        StepError("That is another template."),
        ClassicRateLimitedError("Rate limit exceeded."),
        CosTransientError("No answer.", bucket="b", key="k"),
        ConnectionProblem("There is no key."),
        CallHangs("No answer came."),
    ],
)
async def test_what_does_not_go_well_is_left_to_a_worker(step: Step, error: Exception, log: Any) -> None:
    step.error = error
    event = await ended(wait())
    assert type(event) is TriggerEvent
    assert event.payload["status"] == "done", "the worker looks again, and says what is wrong"
    assert await start(log) is None
    assert str(error) in log.lines[0]


async def test_who_is_refused_for_the_load_is_sent_to_wait_for_its_turn(step: Step, log: Any) -> None:
    step.error = ClassicLoadError("Only 2 image exports may run at once.")
    event = await ended(wait())
    assert type(event) is TriggerEvent
    assert event.payload["status"] == "done"
    assert event.payload["refused"] == "Only 2 image exports may run at once."
    with pytest.raises(ClassicLoadError):
        await start(log)


async def test_a_mistake_of_ours_is_not_hidden(step: Step, log: Any) -> None:
    step.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await start(log)


async def test_what_was_read_is_kept_until_something_goes_wrong(step: Step, log: Any) -> None:
    for key in ("w", "w", "x", "w"):
        assert await start(log, wave_key=key) is STARTED
    assert step.connections == ["c", "s"]
    assert step.waves == ["b/w", "b/x"]
    assert step.closed == []
    step.error = CosTransientError("No answer.", bucket="b", key="k")
    assert await start(log) is None
    assert step.closed == ["classic", "store"]
    step.error = None
    assert await start(log) is STARTED
    assert step.connections == ["c", "s"] * 2, "a key may have been changed"


async def test_only_so_many_are_started_at_once(step: Step, log: Any) -> None:
    step.go.clear()
    all_of_them = [asyncio.ensure_future(start(log, guest_id=number)) for number in range(3 * AT_ONCE)]
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(step.full.wait, 30)
        step.go.set()
        assert await asyncio.gather(*all_of_them) == [STARTED] * len(all_of_them)
    assert step.most == AT_ONCE
    assert sorted(told["guest_id"] for told in step.calls) == list(range(3 * AT_ONCE))
    assert len(step.connections) == 2 * AT_ONCE, "each has clients of its own"


async def test_who_is_ended_while_it_waits_for_its_turn_leaves_the_others_their_places(step: Step, log: Any) -> None:
    step.go.clear()
    first = [asyncio.ensure_future(start(log, guest_id=number)) for number in range(AT_ONCE)]
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(step.full.wait, 30)
        second = asyncio.ensure_future(start(log, guest_id=100))
        await asyncio.sleep(0)
        second.cancel()
        first[0].cancel()
        await asyncio.gather(second, first[0], return_exceptions=True)
        step.go.set()
        assert await asyncio.gather(*first[1:]) == [STARTED] * (AT_ONCE - 1)
        assert await start(log, guest_id=101) is STARTED
    assert 100 not in {told["guest_id"] for told in step.calls}


# Captures

SLOTS = SlotsAt(cos_conn_id="s", region="eu-de", bucket="b", root="offline-slots/1", settle_seconds=900.0)


def slot_wait(**more: Any) -> OfflineSlotTrigger:
    made = OfflineSlotTrigger(
        classic_conn_id="c",
        cos_conn_id="s",
        region="r",
        poll_interval=15.0,
        gate=json.dumps({"slots": asdict(SLOTS), "max_offline": 3}),
        server=json.dumps({"guest_id": 7}),
        **({"attempt": "1", "wave_key": "w", "bucket": "b"} | more),
    )
    path, kwargs = made.serialize()
    again: OfflineSlotTrigger = import_string(path)(**json.loads(json.dumps(kwargs)))
    again.task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3)
    return again


@pytest.fixture
def wave(monkeypatch: pytest.MonkeyPatch) -> PlanSettings:
    """The wave's settings, for which the gate is made."""
    settings = PlanSettings(classic_conn_id="c", cos_conn_id="s", bucket="images", region="eu-de")
    monkeypatch.setattr(plan, "read_wave", lambda *_, **__: SimpleNamespace(key="w", settings=settings))
    return settings


def free(trigger: OfflineSlotTrigger) -> Snapshot:
    """What the poll shows when there is a slot for everybody that waits."""
    waiting = frozenset(account.interests(trigger.shared_stream_key()))
    return Snapshot(taken_at=datetime.now(UTC), asked=waiting, admitted=waiting)


async def captured(trigger: OfflineSlotTrigger, *, looks: int = 1) -> TriggerEvent:
    async def snapshots() -> AsyncIterator[Snapshot]:
        for _ in range(looks):
            assert len(account.interests(trigger.shared_stream_key())) == 1, "it keeps its place in the line"
            yield free(trigger)
        raise AssertionError("it should have ended")

    (event,) = [one async for one in trigger.filter_shared_stream(snapshots())]
    assert account.interests(trigger.shared_stream_key()) == ()
    return event


async def test_a_free_slot_begins_the_capture_and_ends_its_task(
    step: Step, wave: PlanSettings, sent: list[Any]
) -> None:
    event = await captured(slot_wait())
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms == {"return_value": STARTED.handed_on}
    ((message),) = sent
    assert (message.key, message.value, message.map_index) == (TemplateLink().xcom_key, STARTED.link, 3)
    (told,) = step.calls
    assert (told["guest_id"], told["wave"].key, told["classic"].name) == (7, "w", "classic")
    assert step.connections == ["c", "s", "s"], "the slots are in another region"
    assert told["gate"]._place.root == SLOTS.root
    assert told["gate"]._cos is not told["cos"].client


async def test_captures_of_one_process_begin_from_what_the_poll_saw(
    step: Step, wave: PlanSettings, sent: list[Any]
) -> None:
    looks = [
        Survey(account=Account(taken_at=datetime(2026, 11, 23, 12, minute, tzinfo=UTC)), slots={}) for minute in (0, 1)
    ]
    for look in looks:
        trigger = slot_wait()

        async def snapshots(trigger: OfflineSlotTrigger = trigger, look: Survey = look) -> AsyncIterator[Snapshot]:
            yield dataclasses.replace(free(trigger), surveys={SLOTS: look})

        assert [type(one) async for one in trigger.filter_shared_stream(snapshots())] == [TaskSuccessEvent]
    boards = [told["gate"]._board for told in step.calls]
    assert boards[0] is boards[1], "they share what they know"
    assert boards[0].latest == looks[1]


@pytest.mark.parametrize("more", [{"wave_key": ""}, {"attempt": "2"}, {"deferred_by_worker": True}], ids=str)
async def test_elsewhere_a_worker_captures(
    step: Step, wave: PlanSettings, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    async def settled(_began: datetime) -> None:
        """No need to wait."""

    monkeypatch.setattr("sealift.provider.triggers.slots.settle", settled)
    more = {"wave_key": ""} | more if "deferred_by_worker" in more else more
    event = await captured(slot_wait(**more)) if "attempt" not in more else await ended(slot_wait(**more))
    assert type(event) is TriggerEvent
    assert event.payload["status"] == "look-again"
    assert step.calls == []


@pytest.mark.parametrize(
    "error",
    [
        OutcomeOpen("Another try may have submitted it.", until=datetime(2026, 1, 1, tzinfo=UTC)),
        ClassicRateLimitedError("Rate limit exceeded."),
        CosTransientError("No answer.", bucket="b", key="k"),
        ConnectionProblem("There is no key."),
        CallHangs("No answer came."),
    ],
)
async def test_a_capture_that_does_not_go_well_is_left_to_a_worker(
    step: Step, wave: PlanSettings, sent: list[Any], error: Exception
) -> None:
    step.error = error
    event = await captured(slot_wait())
    assert type(event) is TriggerEvent
    assert event.payload == {"status": "look-again", "root": SLOTS.root}, "the worker looks anew"
    assert sent == []


async def test_whose_slot_is_taken_by_somebody_else_stays_in_the_line(
    step: Step, wave: PlanSettings, sent: list[Any]
) -> None:
    full = OfflineCapReached("3 of at most 3 servers are offline.", in_flight=3, max_offline=3)
    trigger = slot_wait()

    async def snapshots() -> AsyncIterator[Snapshot]:
        step.error = full
        yield free(trigger)
        assert step.closed == [], "nothing is wrong with the clients"
        step.error = None
        yield free(trigger)

    (event,) = [one async for one in trigger.filter_shared_stream(snapshots())]
    assert isinstance(event, TaskSuccessEvent)
    assert len(step.calls) == 2
    assert step.connections == ["c", "s", "s"]


async def test_captures_that_begin_leave_exports_their_places(step: Step, wave: PlanSettings, log: Any) -> None:
    at = StartsAt(classic_conn_id="c", cos_conn_id="s", region="r", slots=SLOTS)
    told = {"log_to": log, "bucket": "b", "wave_key": "w", "seen": None}
    step.go.clear()
    captures = [asyncio.ensure_future(try_to_capture(at, guest_id=one, **told)) for one in range(2 * AT_ONCE)]
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(step.full.wait, 30)
        export = asyncio.ensure_future(start(log, guest_id=99))
        assert await asyncio.to_thread(step.exporting.wait, 30)
        step.go.set()
        assert await export is STARTED
        assert await asyncio.gather(*captures) == [STARTED] * len(captures)
