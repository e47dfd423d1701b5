"""Retention's tasks over the sandbox: the dry run, when somebody is asked, and what is left of the bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import TaskAwaitingInput

from sealift.classic.client import ClassicClient
from sealift.classic.errors import ClassicTransientError
from sealift.exports import ledger
from sealift.exports.errors import SettingsError
from sealift.exports.retention.applying import read_result
from sealift.exports.retention.dry_run import read_dry_run
from sealift.exports.retention.models import Done
from sealift.provider.errors import RetentionUnfinished
from sealift.provider.links import ReportLink
from sealift.provider.operators.retention import (
    ApplyRetentionOperator,
    ApproveRetentionOperator,
    DryRunRetentionOperator,
)
from sealift.provider.params import retention_params
from sealift.sandbox import Sandbox
from tests.cli.steps import LATER, PERIOD, Exported

pytestmark = pytest.mark.airflow

RULES = [{"name": "all", "servers": {"all": True}, "keep_last": 1}]


class Task:
    """A task instance."""

    id = "0192"
    run_id = "scheduled__2026-11-23T02:00:00+00:00"


CONTEXT: dict[str, Any] = {"ti": Task(), "task_instance": Task()}


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exported]:
    with Sandbox(root=tmp_path / "sandbox", scenario="demo", speed=3000.0) as sandbox:
        for name, connection in sandbox.connections().items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        made = Exported(sandbox)
        yield made
        made.close()


def params(exported: Exported, **changes: Any) -> dict[str, Any]:
    shown = {name: one.value for name, one in retention_params({}).items()}
    return {**shown, "rules": RULES, "bucket": exported.bucket, "region": "us-south", "prefix": "sealift", **changes}


def dry_run(exported: Exported, **changes: Any) -> dict[str, Any]:
    task = DryRunRetentionOperator(task_id="dry_run")
    found: dict[str, Any] = task.execute({**CONTEXT, "params": params(exported, **changes)})  # type: ignore[typeddict-item]
    assert found["key"] in task.found_links[ReportLink.__name__] or found["key"] in str(task.found_links)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def ask(planned: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Say whether somebody is asked."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **what: asked.append(what))
    task = ApproveRetentionOperator(task_id="approve", planned=planned, subject="s")
    try:
        task.execute(CONTEXT)  # type: ignore[arg-type]
    except TaskAwaitingInput:
        assert [(one["options"], one["defaults"]) for one in asked] == [(["Approve", "Reject"], ["Reject"])]
        return True
    assert asked == []
    return False


def test_from_the_dry_run_to_the_empty_place(exported: Exported) -> None:
    guest = exported.several.guest_id
    planned = dry_run(exported)
    assert (planned["exports"], planned["templates"], planned["size"]) == (1, 1, 1)
    assert dry_run(exported) == planned, "a later try of the same run finds the first one's"
    assert (guest, PERIOD) in set(ledger.manifests(exported.cos, bucket=exported.bucket, prefix="sealift"))

    task = ApplyRetentionOperator(task_id="apply", planned=planned)
    assert task.execute(CONTEXT) == {"removed": 1}  # type: ignore[arg-type]
    assert task.execute(CONTEXT) == {"removed": 1}, "again, and the result stands"  # type: ignore[arg-type]

    left = set(ledger.manifests(exported.cos, bucket=exported.bucket, prefix="sealift"))
    assert left == {(guest, LATER), (exported.other.guest_id, PERIOD)}


def test_somebody_is_asked_only_where_more_goes_than_was_set(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = dry_run(exported)
    assert not ask(planned, monkeypatch), "one goes, and nobody is asked up to twenty"
    assert not ask({**planned, "approve_above": 1}, monkeypatch)
    assert ask({**planned, "approve_above": 0}, monkeypatch)
    assert not ask({**planned, "approve_above": None, "size": 9999}, monkeypatch)
    assert not ask({**planned, "approve_above": 0, "only": True}, monkeypatch)


def test_only_a_dry_run_deletes_nothing(exported: Exported) -> None:
    planned = dry_run(exported, dry_run=True)

    assert ApplyRetentionOperator(task_id="apply", planned=planned).execute(CONTEXT) == {}  # type: ignore[arg-type]
    assert len(list(ledger.manifests(exported.cos, bucket=exported.bucket, prefix="sealift"))) == 3


def test_without_rules_nothing_is_decided(exported: Exported) -> None:
    with pytest.raises(SettingsError, match="rules"):
        dry_run(exported, rules=None)


def test_what_is_not_finished_is_tried_again_by_airflow(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = dry_run(exported)
    task = ApplyRetentionOperator(task_id="apply", planned=planned)
    original = ClassicClient.delete_template

    def fails(self: ClassicClient, template_id: int) -> None:
        raise ClassicTransientError("Internal Error")

    monkeypatch.setattr(ClassicClient, "delete_template", fails)
    with pytest.raises(RetentionUnfinished, match="takes them up"):
        task.execute(CONTEXT)  # type: ignore[arg-type]
    monkeypatch.setattr(ClassicClient, "delete_template", original)
    assert task.execute(CONTEXT) == {"removed": 1}  # type: ignore[arg-type]
    result = read_result(exported.cos, bucket=exported.bucket, prefix="sealift", retention_id=planned["retention_id"])
    assert result is not None
    assert [one.done for one in result.outcomes] == [Done.REMOVED]


def test_a_deployment_s_prices_count_and_a_file_that_cannot_be_read_holds_nothing_up(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = {
        "dated": "2026-11-01",
        "currency": "EUR",
        "storage": [{"id": "ours", "title": "T", "per_gb_month": 1000, "confirmed": True, "source": "a contract"}],
        "egress": [],
        "templates": {"title": "T", "per_gb_month": 500, "confirmed": True, "source": "an invoice"},
    }
    (tmp_path / "prices.json").write_text(json.dumps(own))
    monkeypatch.setenv("AIRFLOW__SEALIFT__PRICES", str(tmp_path / "prices.json"))
    planned = dry_run(exported)
    where = {"bucket": exported.bucket, "prefix": "sealift", "retention_id": planned["retention_id"]}
    made = read_dry_run(exported.cos, **where)
    assert [(one.price, one.currency) for one in made.costs_freed] == [("ours", "EUR")]
    assert made.template_cost_freed is not None
    assert made.template_cost_freed.amount == round(made.template_bytes_freed / 1e9 * 500, 2) > 0

    monkeypatch.setenv("AIRFLOW__SEALIFT__PRICES", str(tmp_path / "not-there.json"))
    monkeypatch.setattr(Task, "run_id", "scheduled__2026-11-24T02:00:00+00:00")
    again = read_dry_run(exported.cos, **{**where, "retention_id": dry_run(exported)["retention_id"]})
    assert [one.currency for one in again.costs_freed] == ["USD", "USD"]
    assert again.template_cost_freed is None
