"""What a task fails of stands in its log by itself, before Airflow's traceback."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from sealift.exports.errors import InputError
from sealift.provider import operators
from sealift.provider.failures import FAILURE_KEY, recording_failure, says_failures
from sealift.provider.operators.deliver import ChooseExportsOperator

pytestmark = pytest.mark.airflow


def operator_classes() -> list[type[BaseOperator]]:
    found: set[type[BaseOperator]] = set()
    for one in pkgutil.iter_modules(operators.__path__):
        module = importlib.import_module(f"{operators.__name__}.{one.name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, BaseOperator) and cls.__module__ == module.__name__ and "execute" in cls.__dict__:
                found.add(cls)
    return sorted(found, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", operator_classes(), ids=lambda cls: cls.__name__)
def test_every_operator_says_what_it_fails_of(cls: Any) -> None:
    source = inspect.getsource(inspect.unwrap(cls.__dict__["execute"]))
    assert getattr(cls.execute, "says_failures", False) or "recording_failure(context, step=" in source


def test_there_are_operators_to_look_at() -> None:
    assert len(operator_classes()) >= 15


def test_an_operator_s_failure_is_a_line_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    task = ChooseExportsOperator(task_id="choose")
    context: Any = {"params": {"exports": [], "servers": []}, "triggering_asset_events": {}, "ti": SimpleNamespace()}
    with pytest.raises(Exception) as failed:
        task.execute(context)
    ours = type(failed.value).__module__.startswith("sealift.")
    assert ours, failed.value
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == [str(failed.value)]


@says_failures
def raises(error: BaseException) -> None:
    raise error


def test_words_of_what_is_not_ours_are_left_to_airflow(caplog: pytest.LogCaptureFixture) -> None:
    for error in (ValueError("https://example.com/PLANTED"), AirflowSkipException("skipped")):
        with pytest.raises(type(error)):
            raises(error)
    with pytest.raises(TaskDeferred):
        raises(TaskDeferred(trigger=SimpleNamespace(), method_name="m", kwargs={}, timeout=None))  # type: ignore[arg-type]
    assert caplog.records == []


def test_what_is_recorded_for_the_report_is_said_as_well(caplog: pytest.LogCaptureFixture) -> None:
    pushed: dict[str, Any] = {}
    context: Any = {"ti": SimpleNamespace(xcom_push=lambda *, key, value: pushed.update({key: value}))}
    with pytest.raises(InputError), recording_failure(context, step="plan"):
        raise InputError("No bucket is named. Give one.")
    assert pushed[FAILURE_KEY]["words"] == "No bucket is named. Give one."
    assert [one.getMessage() for one in caplog.records] == ["No bucket is named. Give one."]
