"""Templates that merely name a value are looked up; all others, and what is not found, are Airflow's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.sdk import BaseOperator

from sealift.provider.rendering import QuickTemplates

pytestmark = pytest.mark.airflow

CONTEXT: dict[str, Any] = {
    "params": {"wave": {"key": "k", "bucket": "b", "number": 3, "flag": True, "none": None}, "plain": "p"},
    "ti": SimpleNamespace(try_number=2, map_index=7),
}


class Task(QuickTemplates, BaseOperator):
    template_fields = ("text",)

    def __init__(self, *, text: Any = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text = text


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compiled."""
    found: list[str] = []
    compile_template = jinja2.Environment.from_string

    def from_string(self: Any, source: Any, *more: Any, **named: Any) -> Any:
        found.append(source)
        return compile_template(self, source, *more, **named)

    monkeypatch.setattr(jinja2.Environment, "from_string", from_string)
    return found


def rendered(text: Any) -> Any:
    task = Task(text=text, task_id="t")
    task.render_template_fields(CONTEXT, jinja2.Environment(undefined=jinja2.StrictUndefined))
    return task.text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("{{ params.plain }}", "p"),
        ("{{ params.wave.key }}", "k"),
        ("{{ params.wave.number }}", "3"),
        ("{{ ti.try_number }}", "2"),
        ({"a": "{{ params.wave.key }}", "b": ["{{ ti.map_index }}"]}, {"a": "k", "b": ["7"]}),
    ],
)
def test_what_merely_names_a_value_is_not_compiled(text: Any, value: Any, compiled: list[str]) -> None:
    assert rendered(text) == value
    assert compiled == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ params.wave.key }}/x", "k/x"),
        ("{{ params.wave['key'] }}", "k"),
        ("{{ params.wave | tojson }}", None),
        ("{{ params.wave.flag }}", "True"),
        ("{{ params.wave.none }}", "None"),
        ("words", "words"),
    ],
)
def test_everything_else_is_left_to_airflow(text: str, value: str | None, compiled: list[str]) -> None:
    plain = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render(CONTEXT)
    compiled.clear()
    assert rendered(text) == plain
    assert value is None or plain == value
    assert compiled == [text]


@pytest.mark.parametrize("text", ["{{ params.missing }}", "{{ params.wave.missing }}", "{{ ti.missing }}"])
def test_what_is_not_there_is_said_by_airflow(text: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        rendered(text)
