"""Waves are started once however often they are tried; a wave's report finds the first step that failed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from sealift.exports import plan
from sealift.exports.plan import PlanItem, WaveSlice
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import WaveLink
from sealift.provider.operators.report import STEPS, WaveReportOperator
from sealift.provider.operators.wave import ExportWaveOperator, WaitForWavesOperator
from sealift.provider.triggers.wave import WaveRunTrigger

pytestmark = pytest.mark.airflow

TOLD = {"key": "p/plans/p/wave-0000.json", "bucket": "images", "region": "us-south", "cos_conn_id": "s"}
WAVE = {"run_id": "p.wave-0000", "label": "wave 1 of 1", "conf": {"wave": TOLD}}


class Runs:
    """A task instance that knows the DAG runs there are."""

    def __init__(self, state: str | None) -> None:
        self.state = state
        self.link = ""

    def get_dr_count(self, *, dag_id: str, run_ids: list[str]) -> int:
        assert (dag_id, run_ids) == ("export_servers", [WAVE["run_id"]])
        return int(self.state is not None)

    def get_dagrun_state(self, *, dag_id: str, run_id: str) -> str:
        assert (dag_id, run_id) == ("export_servers", WAVE["run_id"])
        assert self.state is not None
        return self.state


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of Airflow. The wave is in the bucket."""

    def read(_: Any, *, bucket: str, key: str) -> Any:
        assert (bucket, key) == (TOLD["bucket"], TOLD["key"])
        return SimpleNamespace(items=[SimpleNamespace(hostname="web-01"), SimpleNamespace(hostname="web-02")])

    monkeypatch.setattr(plan, "read_wave", read)
    monkeypatch.setattr(CosHook, "client", None)
    messages: list[Any] = []
    comms = SimpleNamespace(send=messages.append)
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", comms, raising=False)
    return messages


def execute(runs: Runs) -> None:
    operator = ExportWaveOperator(task_id="w", wave=WAVE)
    try:
        operator.execute({"ti": runs})  # type: ignore[typeddict-item]
    finally:
        # As Airflow asks for it, in every case.
        runs.link = WaveLink().get_link(operator, ti_key=None)  # type: ignore[arg-type]


def test_a_wave_without_a_run_is_started_and_waited_for(sent: list[Any]) -> None:
    runs = Runs(None)
    original = runs.get_dagrun_state
    runs.get_dagrun_state = lambda **kwargs: "queued" if sent else original(**kwargs)  # type: ignore[method-assign]
    with pytest.raises(TaskDeferred) as deferred:
        execute(runs)
    (message,) = sent
    assert (message.dag_id, message.run_id) == ("export_servers", WAVE["run_id"])
    assert message.conf == {"wave": {**TOLD, "names": ["web-01", "web-02"]}}
    assert isinstance(deferred.value.trigger, WaveRunTrigger)
    assert WAVE["run_id"] in runs.link


def test_a_wave_that_runs_is_taken_up_and_not_started_again(sent: list[Any]) -> None:
    with pytest.raises(TaskDeferred):
        execute(Runs("running"))
    assert sent == []


def test_a_wave_that_has_succeeded_is_done_at_once(sent: list[Any]) -> None:
    execute(Runs("success"))
    assert sent == []


def test_a_wave_that_has_failed_does_not_keep_the_next_one_from_starting(sent: list[Any]) -> None:
    execute(Runs("failed"))
    assert sent == []


def test_the_trigger_is_told_how_many_servers_may_wait(sent: list[Any]) -> None:
    operator = ExportWaveOperator(task_id="w", wave={**WAVE, "servers": 20, "waiting_at_most": 5})
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute({"ti": Runs("running")})  # type: ignore[typeddict-item]
    _, kwargs = deferred.value.trigger.serialize()
    assert (kwargs["servers"], kwargs["waiting_at_most"]) == (20, 5)
    assert sent == []


@pytest.mark.parametrize("where", [None, {"plan_id": "p", "waves": 0}])
def test_without_waves_there_is_nothing_to_wait_for(where: dict[str, Any] | None) -> None:
    ti = SimpleNamespace(xcom_pull=lambda **_: where)
    WaitForWavesOperator(task_id="wait").execute({"ti": ti})  # type: ignore[typeddict-item]


def test_all_waves_are_waited_for_in_the_triggerer() -> None:
    ti = SimpleNamespace(xcom_pull=lambda **_: {"plan_id": "p", "waves": 7})
    with pytest.raises(TaskDeferred) as deferred:
        WaitForWavesOperator(task_id="wait").execute({"ti": ti})  # type: ignore[typeddict-item]
    _, kwargs = deferred.value.trigger.serialize()
    assert (kwargs["plan_id"], kwargs["waves"]) == ("p", 7)


class Tasks:
    """A task instance that knows the states of a wave's steps."""

    dag_id, run_id = "export_servers", "p.wave-0000"

    def __init__(self, states: dict[str, str | None], words: dict[tuple[str, int], dict[str, Any]]) -> None:
        self.states = states
        self.words = words

    def get_task_states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        assert dag_id == self.dag_id
        assert task_ids == [f"export.{step}" for step in STEPS]
        return {run_ids[0]: self.states}

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert key == "failure"
        return self.words.get((task_ids, map_indexes))


def states(index: int, *ended: str) -> dict[str, str | None]:
    filled = [*ended, *["upstream_failed"] * (len(STEPS) - len(ended))]
    return {f"export.{step}_{index}": state for step, state in zip(STEPS, filled, strict=True)}


def failures_of(tasks: Tasks, count: int) -> dict[int, Any]:
    items = [PlanItem.model_construct(guest_id=100 + index, hostname=f"h{index}") for index in range(count)]
    operator = WaveReportOperator(task_id="summarise")
    return operator._failures(tasks, WaveSlice.model_construct(items=items))


def test_the_first_step_that_failed_is_named_with_its_words_and_its_rule() -> None:
    tasks = Tasks(
        states(0, *["success"] * 3)
        | states(1, "success", "success", "failed")
        | states(2, "failed")
        | states(3, "success", "failed"),
        {
            ("export.wait_for_export", 1): {"words": "Invalid API token.", "rule": None},
            ("export.capture", 2): {"words": "The server is busy.", "rule": "active-transaction"},
        },
    )
    failures = failures_of(tasks, 4)
    assert set(failures) == {101, 102, 103}
    assert (failures[101].task, failures[101].words, failures[101].rule) == (
        "wait_for_export",
        "Invalid API token.",
        None,
    )
    assert failures[102].rule == "active-transaction"
    assert failures[103].task == "wait_for_template"
    assert "without leaving words" in failures[103].words


@pytest.mark.parametrize(("state", "words"), [("skipped", "skipped by hand"), (None, "not started")])
def test_a_step_that_did_not_run_is_no_success(state: str | None, words: str) -> None:
    tasks = Tasks({f"export.{step}_0": state for step in STEPS}, {})
    assert words in failures_of(tasks, 1)[100].words
