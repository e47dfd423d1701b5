"""An export is started in the triggerer where nothing is in the way; everything else is left to a worker."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from sealift.classic.errors import ClassicRateLimitedError
from sealift.cos.errors import CosTransientError
from sealift.exports import plan
from sealift.exports.errors import StepError
from sealift.provider.asking import CallHangs
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import ObjectLink
from sealift.provider.starting import Started
from sealift.provider.triggers import starting
from sealift.provider.triggers.starting import AT_ONCE, StartsAt, try_to_start
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
        self.waves: list[str] = []
        self.error: BaseException | None = None
        self.inside, self.most = 0, 0
        self.go = threading.Event()
        self.go.set()
        self.full = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, **told: Any) -> Started:
        with self._lock:
            self.calls.append(told)
            self.inside += 1
            self.most = max(self.most, self.inside)
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

    async def classic(hook: ClassicHook) -> Any:
        made.connections.append(hook.classic_conn_id)
        return SimpleNamespace(name="classic")

    async def loaded(hook: CosHook) -> CosHook:
        made.connections.append(hook.cos_conn_id)
        hook.__dict__["client"] = SimpleNamespace(name="store")
        return hook

    def read_wave(_: Any, *, bucket: str, key: str) -> Any:
        made.waves.append(f"{bucket}/{key}")
        return SimpleNamespace(key=key)

    monkeypatch.setattr(ClassicHook, "aclient", classic)
    monkeypatch.setattr(CosHook, "aloaded", loaded)
    monkeypatch.setattr(plan, "read_wave", read_wave)
    monkeypatch.setattr(starting, "start_export", made)
    yield made
    made.go.set()


@pytest.fixture
def log() -> Any:
    lines: list[str] = []
    return SimpleNamespace(info=lambda text, *values: lines.append(text % values), lines=lines)


async def start(log: Any, **more: Any) -> Started | None:
    told = {"bucket": "b", "wave_key": "w", "guest_id": 7, "template_id": 70} | more
    return await try_to_start(AT, log_to=log, **told)


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


async def test_a_good_wait_starts_the_export_and_ends_its_task(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Comms:
        async def asend(self, message: Any) -> None:
            sent.append(message)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
    trigger = wait()
    trigger.task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3)
    event = await ended(trigger)

    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms == {"return_value": STARTED.handed_on}
    ((message),) = sent
    assert (message.key, message.value) == (ObjectLink().xcom_key, STARTED.link)
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


async def test_a_mistake_of_ours_is_not_hidden(step: Step, log: Any) -> None:
    step.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await start(log)


async def test_what_was_read_is_kept_until_something_goes_wrong(step: Step, log: Any) -> None:
    for key in ("w", "w", "x", "w"):
        assert await start(log, wave_key=key) is STARTED
    assert step.connections == ["c", "s"]
    assert step.waves == ["b/w", "b/x"]
    step.error = CosTransientError("No answer.", bucket="b", key="k")
    assert await start(log) is None
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
