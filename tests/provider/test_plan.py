"""The planning task: what a run's kind means for its plan, and what it hands on. The plan itself is made in exports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRunType

from sealift.cos.errors import CosPermissionError
from sealift.cos.models import PutOutcome
from sealift.exports import plan as plans
from sealift.exports.errors import SettingsError
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

    def check_write(self, bucket: str, prefix: str) -> None:
        assert bucket in {"images", "own"}
        assert prefix == "offline-slots/307608"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    one = Bucket()
    monkeypatch.setattr(CosHook, "client", one)
    monkeypatch.setattr(CosHook, "default_bucket", "images")
    monkeypatch.setattr(CosHook, "region", "us-south")
    monkeypatch.setattr(CosHook, "service_instance_id", None)
    monkeypatch.setattr(CosHook, "export_api_key", "key-of-the-export")
    monkeypatch.setattr(CosHook, "check_export_key", lambda _self, **_where: None)
    monkeypatch.setattr(ClassicHook, "client", SimpleNamespace(timeout=60.0, account_id=lambda: 307608))
    return one


@pytest.fixture
def waves() -> list[int]:
    """How many waves of one server the plan has."""
    return [0]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, waves: list[int]) -> list[dict[str, Any]]:
    """What ``make_plan`` was called with; the plan that it makes holds no more than its waves."""
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
            waves=[plans.Wave(number=number, guest_ids=[number + 1]) for number in range(waves[0])],
        )

    monkeypatch.setattr(plans, "make_plan", make_plan)
    return calls


Run = Callable[..., tuple[Any, Pushed]]


@pytest.fixture
def run() -> Run:
    """Run the task as a worker does: the run's kind is the SDK's own enumeration, not text."""

    def execute(
        kind: DagRunType = DagRunType.MANUAL, *, run_id: str = "r", given: dict[str, Any] | None = None, **params: Any
    ) -> tuple[Any, Pushed]:
        pushed = Pushed()
        pushed.dag_id, pushed.run_id = "plan_exports", run_id
        defaults = {name: param.value for name, param in plan_params({}).items()}
        run = SimpleNamespace(run_type=kind, logical_date=SLOT, conf=params)
        context = {**pushed.context, "dag_run": run, "params": {**defaults, "tags": ["export"], **params}}
        with DAG("plan_exports", schedule=None, params=plan_params({})):
            task = PlanExportsOperator(task_id="make_plan", **(given or {}))
        return task.execute(context), pushed

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


def test_slots_that_cannot_be_written_end_the_run_before_anything_is_written_or_captured(
    bucket: Bucket, made: list[dict[str, Any]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(where: str, prefix: str = "") -> None:
        raise CosPermissionError(f"the key may not write to {where}/{prefix}", bucket=where)

    monkeypatch.setenv("AIRFLOW__SEALIFT__SLOTS_BUCKET", "account-wide")
    monkeypatch.setattr(bucket, "check_write", refuse)
    with pytest.raises(CosPermissionError, match="account-wide/offline-slots/307608"):
        run()
    assert len(made) == 1
    assert bucket.written == {}


@pytest.mark.usefixtures("bucket")
def test_every_field_of_the_form_reaches_the_selection_and_the_settings(made: list[dict[str, Any]], run: Run) -> None:
    run(
        tags=[],
        all=True,
        exclude_ids=[7],
        exclude_hostnames=["a*"],
        exclude_domains=["example.com"],
        exclude_tags=["t"],
        exclude_datacenters=["dal13"],
        exclude_dedicated_hosts=["d"],
        capture_deadline_minutes=300,
        export_deadline_minutes=400.5,
        stuck_minutes=50,
        grace_minutes=5,
    )
    (given,) = made
    excluded = given["selection"].exclude.model_dump()
    assert excluded == {
        "ids": [7],
        "hostnames": ["a*"],
        "domains": ["example.com"],
        "tags": ["t"],
        "datacenters": ["dal13"],
        "dedicated_hosts": ["d"],
    }
    settings = given["settings"]
    assert (settings.capture_deadline_minutes, settings.export_deadline_minutes) == (300, 400.5)
    assert (settings.stuck_minutes, settings.grace_minutes) == (50, 5)


@pytest.mark.usefixtures("bucket")
def test_a_name_in_the_conf_that_no_field_has_is_refused_with_the_one_that_was_meant(
    made: list[dict[str, Any]], run: Run
) -> None:
    with pytest.raises(
        SettingsError, match=r"max_offlin, and the DAG has no such parameter\. Did you mean max_offline"
    ):
        run(max_offlin=1)
    assert made == []


@pytest.mark.usefixtures("bucket")
def test_settings_of_the_operator_s_own_need_not_name_the_connections(made: list[dict[str, Any]], run: Run) -> None:
    run(given={"plan_settings": {"bucket": "own", "region": "us-south"}, "selection": {"ids": [1]}})
    (given,) = made
    assert (given["settings"].bucket, given["settings"].cos_conn_id) == ("own", "ibm_cos_default")
    assert given["settings"].classic_conn_id == "ibm_classic_default"
    assert given["selection"].ids == [1]


@pytest.mark.usefixtures("made")
def test_more_waves_than_airflow_maps_over_are_refused_before_anything_is_written(
    bucket: Bucket, waves: list[int], run: Run
) -> None:
    waves[0] = 1025
    with pytest.raises(SettingsError, match=r"1025 waves, and Airflow takes 1024 .*wave_size to 2 or more"):
        run()
    assert bucket.written == {}
