"""The published JSON Schemas are current and accept what Sealift writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sealift.exports.jsontext import canonical_json
from sealift.exports.plan import Plan, plan_body
from sealift.exports.report import make_run_report, make_wave_report
from sealift.exports.schemas import MODELS, main, outdated, schema_text

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def test_the_published_schemas_are_current() -> None:
    assert outdated(PUBLISHED) == [], "run: python -m sealift.exports.schemas docs/schemas"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_schema_is_valid_and_describes_every_field(name: str) -> None:
    schema = json.loads(schema_text(name))

    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    parts = [schema, *schema.get("$defs", {}).values()]
    bare = [
        f"{part.get('title')}.{field}"
        for part in parts
        for field, about in part.get("properties", {}).items()
        if "description" not in about and "$ref" not in about
    ]
    assert bare == []


def test_what_is_written_fits_its_schema(
    make_guest: Callable[..., Any],
    make_bare_metal: Callable[..., Any],
    make_classic: Any,
    plan_of: Callable[..., Plan],
    cos: Any,
    now: Any,
) -> None:
    plan = plan_of(
        make_classic(guests=[make_guest(1)], bare_metal=[make_bare_metal(2)]), window="22:00-06:00 Europe/Berlin"
    )
    wave_report = make_wave_report(cos=cos, wave=plan.slice(0), failures={}, run_id="w", now=now)
    written = {
        "plan": plan,
        "wave": plan.slice(0),
        "wave-report": wave_report,
        "report": make_run_report(cos=cos, plan=plan, waves={0: wave_report}, now=now),
    }

    for name in ("plan", "wave"):
        Draft202012Validator(json.loads(schema_text(name))).validate(json.loads(plan_body(written[name])))
    for name, model in written.items():
        Draft202012Validator(json.loads(schema_text(name))).validate(json.loads(canonical_json(model)))


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "schemas"

    assert main(["--check", str(folder)]) == 1
    assert main([str(folder)]) == 0
    assert main(["--check", str(folder)]) == 0
    (folder / "plan.schema.json").write_text("{}")
    (folder / "stale.schema.json").write_text("{}")
    assert outdated(folder) == ["plan.schema.json", "stale.schema.json"]
    assert main(["--check", str(folder)]) == 1
    assert "plan.schema.json, stale.schema.json" in capsys.readouterr().err
    assert main([]) == 2
