"""The sensors: they start in the triggerer, and a wait that broke off is told apart from one that failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout, TaskDeferred

from sealift.provider.errors import WaitFailed, WaitFailedForGood
from sealift.provider.sensors.export import ImageExportSensor
from sealift.provider.sensors.template import ImageTemplateSensor
from sealift.provider.triggers.waits import ExportWaitTrigger, TemplateWaitTrigger

from .conftest import Pushed, terms

pytestmark = pytest.mark.airflow

TERMS = terms().model_dump_json()
MAKERS: dict[str, Callable[..., Any]] = {
    "template": lambda **more: ImageTemplateSensor(task_id="w", captured=TERMS, **more),
    "export": lambda **more: ImageExportSensor(task_id="w", started=TERMS, **more),
}


@pytest.mark.parametrize(
    ("kind", "trigger"), [("template", TemplateWaitTrigger), ("export", ExportWaitTrigger)], ids=["template", "export"]
)
def test_it_starts_in_the_triggerer_with_what_it_was_given(kind: str, trigger: type) -> None:
    sensor = MAKERS[kind](poll_interval=3.0)
    assert sensor.start_from_trigger is True
    args = sensor.start_trigger_args
    assert args.trigger_cls == f"{trigger.__module__}.{trigger.__name__}"
    assert args.next_method == "execute_complete"
    assert args.trigger_kwargs["poll_interval"] == 3.0
    assert args.trigger_kwargs["attempt"] == "{{ ti.try_number }}"
    assert args.trigger_kwargs["resumes"] is False, "after a good end there is nothing to do"
    rendered = {name for name, value in args.trigger_kwargs.items() if isinstance(value, str)}
    assert rendered <= set(sensor.template_fields)
    assert all(hasattr(trigger(**args.trigger_kwargs), name) for name in rendered)


@pytest.mark.parametrize("kind", MAKERS)
def test_told_not_to_it_defers_from_a_worker_and_holds_failures_back(kind: str) -> None:
    sensor = MAKERS[kind](start_from_trigger=False, classic_conn_id="c", cos_conn_id="s")
    assert sensor.start_from_trigger is False
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert deferred.value.method_name == "execute_complete"
    kwargs = deferred.value.trigger.serialize()[1]
    assert kwargs["deferred_by_worker"] is True
    assert kwargs["resumes"] is False
    assert kwargs["terms"] == TERMS


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"status": "failed", "reason": "slow", "sentence": "It is slow."}, WaitFailed),
        ({"status": "failed", "reason": "objects-missing", "sentence": "Nothing there."}, WaitFailedForGood),
    ],
    ids=["may pass", "stays"],
)
def test_a_failed_wait_raises_and_leaves_its_words_for_the_report(event: dict[str, str], error: type) -> None:
    pushed = Pushed()
    with pytest.raises(error, match=event["sentence"]):
        MAKERS["export"]().resume_execution("execute_complete", {"event": event}, pushed.context)
    assert event["sentence"] in pushed.values["failure"]["words"]
    assert pushed.values["failure"]["error"] == error.__name__


@pytest.mark.parametrize("broken", [TaskDeferralError, TaskDeferralTimeout])
def test_a_wait_that_broke_off_is_tried_again(broken: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def resume(*_args: Any, **_kwargs: Any) -> None:
        raise broken("Trigger failure")

    monkeypatch.setattr("airflow.sdk.bases.operator.BaseOperator.resume_execution", resume)
    pushed = Pushed()
    with pytest.raises(WaitFailed, match="broke off"):
        MAKERS["template"]().resume_execution("__fail__", {"error": "Trigger failure"}, pushed.context)
    assert "broke off" in pushed.values["failure"]["words"]


def test_a_good_event_ends_the_task() -> None:
    event = {"status": "done", "reason": "exported", "sentence": "."}
    pushed = Pushed()
    assert MAKERS["export"]().resume_execution("execute_complete", {"event": event}, pushed.context) is None
    assert pushed.values == {}


def test_run_inline_a_good_event_hands_on_what_was_seen() -> None:
    event = {"status": "done", "reason": "template-ready", "sentence": ".", "ended": {"template_id": 70}}
    pushed = Pushed()
    assert MAKERS["template"]().resume_execution("execute_complete", {"event": event}, pushed.context) is None
    assert pushed.values == {"ended": {"template_id": 70}}
