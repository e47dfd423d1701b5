"""Every trigger of the provider survives the way through the metadata database, and carries no secret."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent

import sealift.provider.triggers
from sealift.provider.errors import WaitFailedForGood
from sealift.provider.triggers import base, waits
from sealift.provider.triggers.slots import MomentTrigger
from sealift.provider.triggers.wave import WaveRunTrigger
from sealift.provider.waits import FINAL_REASONS, raise_unless_done

from .conftest import terms

pytestmark = pytest.mark.airflow

BASES = {"AccountTrigger", "AccountWaitTrigger"}

EXAMPLES: dict[str, dict[str, Any]] = {
    name: {
        "classic_conn_id": "one",
        "cos_conn_id": "two",
        "region": "eu-de",
        "terms": terms().model_dump_json(),
        "poll_interval": 15.0,
        "attempt": 2,
        "deferred_by_worker": True,
        "resumes": True,
    }
    for name in ("TemplateWaitTrigger", "ExportWaitTrigger")
} | {
    "OfflineSlotTrigger": {
        "classic_conn_id": "one",
        "poll_interval": 15.0,
        "gate": json.dumps(
            {
                "slots": {
                    "cos_conn_id": "two",
                    "region": "eu-de",
                    "bucket": "images",
                    "root": "offline-slots/307608",
                    "settle_seconds": 900.0,
                },
                "max_offline": 5,
                "window": None,
            }
        ),
        "server": '{"guest_id": 7}',
        "attempt": 1,
        "deferred_by_worker": True,
    },
    "MomentTrigger": {"until": "2026-01-01T00:00:00+00:00"},
    "WaveRunTrigger": {"dag_id": "export_servers", "run_id": "plan.wave-0000", "poll_interval": 15.0},
}


def concrete_triggers() -> list[type[BaseTrigger]]:
    found = []
    for module in pkgutil.iter_modules(sealift.provider.triggers.__path__):
        loaded = importlib.import_module(f"sealift.provider.triggers.{module.name}")
        for _, cls in inspect.getmembers(loaded, inspect.isclass):
            if issubclass(cls, BaseTrigger) and cls.__module__ == loaded.__name__ and cls.__name__ not in BASES:
                found.append(cls)
    return found


def test_the_examples_are_all_triggers_there_are() -> None:
    assert {cls.__name__ for cls in concrete_triggers()} == set(EXAMPLES)


@pytest.mark.parametrize("cls", concrete_triggers(), ids=lambda cls: cls.__name__)
def test_round_trip(cls: type[BaseTrigger]) -> None:
    first = cls(**EXAMPLES[cls.__name__])
    path, kwargs = first.serialize()
    again = import_string(path)(**json.loads(json.dumps(kwargs)))
    assert type(again) is cls
    assert again.serialize() == (path, kwargs)
    assert kwargs == EXAMPLES[cls.__name__]


@pytest.mark.parametrize("cls", concrete_triggers(), ids=lambda cls: cls.__name__)
def test_kwargs_name_no_secret(cls: type[BaseTrigger]) -> None:
    names = set(inspect.signature(cls.__init__).parameters) - {"self"}
    assert not [name for name in names if "key" in name or "password" in name or "secret" in name]


@pytest.mark.parametrize(
    ("state", "event"), [("success", TaskSuccessEvent), ("failed", TaskFailedEvent)], ids=["success", "failed"]
)
async def test_a_wave_ends_its_task_in_the_run_s_own_state(
    state: str, event: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(["queued", "running", state])
    monkeypatch.setattr(
        "sealift.provider.triggers.wave.RuntimeTaskInstance.get_dagrun_state",
        staticmethod(lambda _dag_id, _run_id: next(states)),
    )
    trigger = WaveRunTrigger(dag_id="export_servers", run_id="r", poll_interval=0.0)
    events = [one async for one in trigger.run()]
    assert [type(one) for one in events] == [event]


async def test_a_wave_s_wait_survives_an_api_server_that_is_down_for_a_while_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sealift.provider.triggers.wave import FAILURES_AT_MOST

    def look(answers: list[Any]) -> Any:
        def state(_dag_id: str, _run_id: str) -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        return staticmethod(state)

    down: list[Any] = [RuntimeError("the API server is down")] * (FAILURES_AT_MOST - 1)
    path = "sealift.provider.triggers.wave.RuntimeTaskInstance.get_dagrun_state"
    trigger = WaveRunTrigger(dag_id="export_servers", run_id="r", poll_interval=0.0)

    monkeypatch.setattr(path, look([*down, "running", *down, "success"]))
    assert [type(one) async for one in trigger.run()] == [TaskSuccessEvent]
    assert capsys.readouterr().out.count("RuntimeError: the API server is down") == 2, "with its cause, once each time"

    monkeypatch.setattr(path, look([*down, RuntimeError("there is no such run")]))
    with pytest.raises(RuntimeError, match="no such run"):
        _ = [one async for one in trigger.run()]


async def test_a_task_is_not_resumed_before_airflow_forgot_the_deferring_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(base.asyncio, "sleep", sleep)
    events = [one async for one in MomentTrigger(until="2020-01-01T00:00:00+00:00").run()]
    assert sum(slept) == pytest.approx(base.SETTLE_SECONDS, abs=1.0)
    assert events[0].payload == {"status": "look-again"}


async def test_marking_a_wait_failed_says_what_goes_on_remotely(capsys: pytest.CaptureFixture[str]) -> None:
    trigger = waits.TemplateWaitTrigger(classic_conn_id="one", terms=terms(7, 70).model_dump_json(), poll_interval=1.0)
    await trigger.on_kill()
    said = capsys.readouterr().out
    assert "Nothing was cancelled" in said
    assert "70" in said
    assert "host7" in said


@pytest.mark.parametrize("left", ["null", "", "None", '{"template_id": 7}'])
async def test_terms_that_nobody_left_fail_the_task_for_good_in_words(left: str) -> None:
    trigger = waits.TemplateWaitTrigger(classic_conn_id="one", terms=left, poll_interval=1.0)

    async def nothing() -> AsyncIterator[Any]:
        return
        yield

    (event,) = [one async for one in trigger.filter_shared_stream(nothing())]
    assert event.payload["reason"] == "no-terms"
    with pytest.raises(WaitFailedForGood, match="clear that task"):
        raise_unless_done(event.payload)


def test_reasons_that_are_final_are_reasons_that_exist() -> None:
    from sealift.exports.waiting import ReasonCode

    assert {reason.value for reason in ReasonCode} >= FINAL_REASONS


def test_an_event_that_is_done_raises_nothing() -> None:
    raise_unless_done({"status": "done", "reason": "template-ready", "sentence": "."})


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"status": "failed", "reason": "slow", "sentence": "It is slow."}, "WaitFailed"),
        ({"status": "failed", "reason": "zero-size", "sentence": "It is empty."}, "WaitFailedForGood"),
        (None, "WaitFailed"),
    ],
)
def test_an_event_that_failed_raises_what_it_says(event: dict[str, Any] | None, error: str) -> None:
    with pytest.raises(Exception, match=r"\[") as raised:
        raise_unless_done(event)
    assert type(raised.value).__name__ == error
