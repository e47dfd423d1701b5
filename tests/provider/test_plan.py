"""The planning task: what a run's kind means for its plan, and what it hands on. The plan itself is made in exports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType

from sealift.cos.models import PutOutcome
from sealift.exports import plan as plans
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.operators.plan import PLAN_KEY, PlanExportsOperator
from sealift.provider.params import plan_params

from .conftest import Pushed

pytestmark = pytest.mark.airflow

SLOT = datetime(2026, 11, 23, 2, tzinfo=UTC)


class Bucket:
    """Keeps what is written, in memory."""

    endpoint_url = "http://127.0.0.1:1"

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}

    def put_if_absent(self, _bucket: str, key: str, body: bytes) -> PutOutcome:
        if key in self.written:
            return PutOutcome.EXISTS_SAME if self.written[key] == body else PutOutcome.EXISTS_DIFFERENT
        self.written[key] = body
        return PutOutcome.CREATED

    def read(self, _bucket: str, key: str) -> bytes | None:
        return self.written.get(key)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    one = Bucket()
    monkeypatch.setattr(CosHook, "client", one)
    monkeypatch.setattr(CosHook, "default_bucket", "images")
    monkeypatch.setattr(CosHook, "region", "us-south")
    monkeypatch.setattr(CosHook, "service_instance_id", None)
    monkeypatch.setattr(CosHook, "export_api_key", "key-of-the-export")
    monkeypatch.setattr(CosHook, "check_export_key", lambda _self, **_where: None)
    monkeypatch.setattr(ClassicHook, "client", object())
    return one


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``make_plan`` was called with; it makes a plan of no server."""
    calls: list[dict[str, Any]] = []

    def make_plan(**given: Any) -> plans.Plan:
        calls.append(given)
        return plans.Plan(
            plan_id=given["plan_id"],
            created_at=given["now"],
            period=given["period"],
            settings=given["settings"],
            selection=given["selection"],
            items=[],
        )

    monkeypatch.setattr(plans, "make_plan", make_plan)
    return calls


Run = Callable[..., tuple[Any, Pushed]]


@pytest.fixture
def run() -> Run:
    """Run the task as a worker does: the run's kind is the SDK's own enumeration, not text."""

    def execute(kind: DagRunType = DagRunType.MANUAL, *, run_id: str = "r", **params: Any) -> tuple[Any, Pushed]:
        pushed = Pushed()
        pushed.dag_id, pushed.run_id = "plan_exports", run_id
        defaults = {name: param.value for name, param in plan_params({}).items()}
        run = SimpleNamespace(run_type=kind, logical_date=SLOT)
        context = {**pushed.context, "dag_run": run, "params": {**defaults, "tags": ["export"], **params}}
        return PlanExportsOperator(task_id="make_plan").execute(context), pushed

    return execute


@pytest.mark.parametrize(
    ("kind", "period", "past_slot"),
    [
        (DagRunType.SCHEDULED, "20261123T0200Z", False),
        (DagRunType.BACKFILL, "20261123T0200Z", True),
        (DagRunType.MANUAL, None, False),
        (DagRunType.ASSET_TRIGGERED, None, False),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_a_slot_names_the_exports_of_scheduled_runs_and_backfills_capture_nothing_by_themselves(
    made: list[dict[str, Any]], run: Run, kind: DagRunType, period: str | None, past_slot: bool
) -> None:
    run(kind, run_id="some-run")
    (given,) = made
    if period is None:
        assert given["period"].startswith("some-run-"), "a run without a slot is named by its own id"
    else:
        assert given["period"] == period
    assert given["past_slot"] is past_slot


@pytest.mark.usefixtures("made")
def test_the_plan_s_place_is_handed_on(bucket: Bucket, run: Run) -> None:
    waves, pushed = run(dry_run=True)
    assert waves == []
    where = pushed.values[PLAN_KEY]
    assert where["key"] in bucket.written
    assert (where["bucket"], where["region"], where["cos_conn_id"]) == ("images", "us-south", "ibm_cos_default")


def test_an_export_key_that_cannot_write_ends_the_run_before_anything_is_written_or_captured(
    bucket: Bucket, made: list[dict[str, Any]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def refuse(_self: CosHook, **where: str) -> None:
        seen.append(where)
        raise ConnectionProblem("export_api_key may not write")

    monkeypatch.setattr(CosHook, "check_export_key", refuse)
    with pytest.raises(ConnectionProblem, match="export_api_key"):
        run()
    assert seen == [{"bucket": "images", "prefix": "sealift"}]
    assert len(made) == 1, "the bucket itself was looked at first"
    assert bucket.written == {}
