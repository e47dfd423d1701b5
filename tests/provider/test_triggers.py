"""Every trigger of the provider survives the way through the metadata database, and carries no secret."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import itertools
import json
import pkgutil
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent

import sealift.provider.triggers
from sealift.provider.errors import WaitFailedForGood
from sealift.provider.triggers import base, waits, wave
from sealift.provider.triggers.slots import MomentTrigger
from sealift.provider.triggers.wave import WaveRunTrigger, WavesEndTrigger
from sealift.provider.waits import FINAL_REASONS, raise_unless_done

from .conftest import terms

pytestmark = pytest.mark.airflow

BASES = {"AccountTrigger", "AccountWaitTrigger", "_LookingTrigger"}

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
}
EXAMPLES["TemplateWaitTrigger"] |= {"wave_key": "p/plans/plan/wave-0000.json", "bucket": "images"}
EXAMPLES |= {
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
        "wave_key": "p/plans/p/wave-0000.json",
        "bucket": "images",
        "cos_conn_id": "two",
        "region": "eu-de",
    },
    "MomentTrigger": {"until": "2026-01-01T00:00:00+00:00"},
    "WaveRunTrigger": {
        "dag_id": "export_servers",
        "run_id": "plan.wave-0000",
        "servers": 20,
        "waiting_at_most": 5,
        "poll_interval": 15.0,
    },
    "WavesEndTrigger": {"dag_id": "export_servers", "plan_id": "plan", "waves": 3, "poll_interval": 15.0},
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
    names = set(inspect.signature(cls.__init__).parameters) - {"self", "wave_key"}
    assert not [name for name in names if "key" in name or "password" in name or "secret" in name]


class Airflow:
    """Knows the runs of waves, and the states of the captures in each; what it is asked is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: dict[str, str] = {}
        self.captures: dict[str, list[str | None]] = {}
        self.asked: list[tuple[str, int]] = []
        self.turns: list[Callable[[], None]] = []
        for name in ("get_dagrun_state", "get_ti_count", "get_dr_count"):
            path = f"sealift.provider.triggers.wave.RuntimeTaskInstance.{name}"
            monkeypatch.setattr(path, staticmethod(getattr(self, name)))

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        assert dag_id == "export_servers"
        if self.turns:
            self.turns.pop(0)()
        self.asked.append(("state", 1))
        return self.runs[run_id]

    def get_ti_count(self, *, dag_id: str, task_ids: list[str], run_ids: list[str], states: list[str]) -> int:
        assert (dag_id, task_ids) == ("export_servers", ["export.capture"])
        self.asked.append(("captures", len(run_ids)))
        return sum((one or "null") in states for run in run_ids for one in self.captures.get(run, []))

    def get_dr_count(self, *, dag_id: str, run_ids: list[str], states: list[str] | None = None) -> int:
        assert dag_id == "export_servers"
        if states and self.turns:
            self.turns.pop(0)()
        self.asked.append(("ended" if states else "there", len(run_ids)))
        return sum(run in self.runs and (states is None or self.runs[run] in states) for run in run_ids)


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    return Airflow(monkeypatch)


async def events_of(trigger: BaseTrigger) -> list[type]:
    return [type(one) async for one in trigger.run()]


@pytest.mark.parametrize("state", ["success", "failed"])
async def test_a_run_that_has_ended_lets_the_next_wave_start_however_it_ended(airflow: Airflow, state: str) -> None:
    airflow.runs = {"r": "queued"}
    airflow.turns = [lambda: None, lambda: airflow.runs.update(r="running"), lambda: airflow.runs.update(r=state)]
    trigger = WaveRunTrigger(dag_id="export_servers", run_id="r", poll_interval=0.0)
    assert await events_of(trigger) == [TaskSuccessEvent]
    assert airflow.asked == [("state", 1)] * 3


async def test_the_next_wave_starts_when_few_servers_wait_for_a_capture_whatever_goes_on_after_it(
    airflow: Airflow,
) -> None:
    """Two of the last captures are stuck, one server failed, and the exports of all others still run."""
    run = "p.wave-0000"
    airflow.runs = {run: "running"}
    airflow.captures = {run: [None]}  # not expanded yet: one instance stands for all

    def begin() -> None:
        airflow.captures[run] = ["deferred"] * 3 + ["scheduled"] * 7

    def go_on() -> None:
        airflow.captures[run] = ["success"] * 4 + ["failed"] + ["deferred"] * 3 + ["up_for_retry", None]

    def nearly() -> None:
        airflow.captures[run] = ["success"] * 7 + ["failed"] + ["deferred"] * 2

    airflow.turns = [lambda: None, begin, go_on, nearly]
    trigger = WaveRunTrigger(dag_id="export_servers", run_id=run, servers=10, waiting_at_most=2, poll_interval=0.0)
    assert await events_of(trigger) == [TaskSuccessEvent]
    assert airflow.asked == [("state", 1), ("captures", 1)] * 4


async def test_servers_of_earlier_waves_that_wait_are_counted_and_those_of_ended_runs_are_not(
    airflow: Airflow,
) -> None:
    earlier, own = [f"p.wave-{number:04d}" for number in range(20)], "p.wave-0020"
    airflow.runs = dict.fromkeys((*earlier, own), "running")
    airflow.captures = {own: ["success"], earlier[19]: ["success", "deferred", "queued"], earlier[0]: ["deferred"] * 9}

    def freed() -> None:
        airflow.captures[earlier[19]] = ["success", "success", "queued"]

    airflow.turns = [lambda: None, freed]
    trigger = WaveRunTrigger(dag_id="export_servers", run_id=own, servers=1, waiting_at_most=1, poll_interval=0.0)
    assert await events_of(trigger) == [TaskSuccessEvent]
    assert airflow.asked == [("state", 1), ("captures", 1), ("captures", 12)] * 2, "the last dozen, in one call"


async def test_all_waves_are_waited_for_in_few_calls_and_deleted_runs_are_not(airflow: Airflow) -> None:
    airflow.runs = {f"p.wave-{number:04d}": "success" for number in range(120)}
    airflow.runs["p.wave-0003"] = "running"
    del airflow.runs["p.wave-0110"]
    airflow.turns = [lambda: None, lambda: airflow.runs.update({"p.wave-0003": "failed"})]
    trigger = WavesEndTrigger(dag_id="export_servers", plan_id="p", waves=120, poll_interval=0.0)
    assert await events_of(trigger) == [TaskSuccessEvent]
    assert airflow.asked == [("ended", 50), ("there", 50), ("ended", 50), ("ended", 50), ("ended", 20), ("there", 20)]


async def test_the_end_of_a_young_plan_is_seen_soon_and_that_of_an_old_one_costs_little(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, slept = 1000.0, list[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    monkeypatch.setattr(wave, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(wave, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread))
    airflow.runs = {"p.wave-0000": "running"}
    airflow.turns = [lambda: None] * 1000 + [lambda: airflow.runs.update({"p.wave-0000": "success"})]
    trigger = WavesEndTrigger(dag_id="export_servers", plan_id="p", waves=1, poll_interval=15.0)
    assert await events_of(trigger) == [TaskSuccessEvent]
    assert slept[:3] == [1.0, 1.0, 1.0]
    assert slept[-1] == 15.0
    began, waited = 0.0, []
    for seconds in slept:
        waited.append(seconds / max(began, 100.0))
        began += seconds
    assert max(waited) <= 0.0101, "a hundredth of the time that the plan has taken"


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


async def test_who_logs_at_the_same_moment_leaves_the_loop_time_to_read() -> None:
    """A hundred waits see one snapshot: whatever else the loop has to do comes in between their lines."""
    order: list[str] = []

    async def line(number: int) -> None:
        await base.in_turn()
        order.append(f"line {number}")

    async def reader() -> None:
        while (lines := sum(one != "read" for one in order)) < 100:
            order.append("read")
            if lines == 10:
                # A loop that is held up, for longer than all the lines need.
                time.sleep(0.3)  # noqa: ASYNC251
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(*(line(number) for number in range(100)), reader())
    lines = [index for index, one in enumerate(order) if one != "read"]
    assert [order[index] for index in lines] == [f"line {number}" for number in range(len(lines))]
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(lines))
