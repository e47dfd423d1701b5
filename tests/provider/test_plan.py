"""The planning task: what a run's kind means for its plan, and what it hands on. The plan itself is made in exports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRunType

from sealift.cos.errors import CosPermissionError
from sealift.cos.models import PutOutcome
from sealift.exports import plan as plans
from sealift.exports.errors import InputError, SettingsError
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.operators.plan import PLAN_KEY, PlanExportsOperator
from sealift.provider.params import plan_params

from .conftest import Pushed

pytestmark = pytest.mark.airflow

MINUTE = timedelta(minutes=1)
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

    def head(self, _bucket: str, key: str) -> bytes | None:
        return self.written.get(key)

    def list(self, _bucket: str, prefix: str) -> list[Any]:
        return [SimpleNamespace(key=key, last_modified=SLOT) for key in sorted(self.written) if key.startswith(prefix)]

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


def item(guest_id: int, period: str) -> plans.PlanItem:
    return plans.PlanItem(
        guest_id=guest_id,
        hostname=f"web{guest_id}",
        export_id=f"{guest_id}-{period}",
        images=f"sealift/images/web{guest_id}-{guest_id}/{guest_id}-{period}",
        outcome=plans.Outcome.EXPORT,
    )


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
            items=[item(number + 1, given["period"]) for number in range(waves[0])],
            waves=[plans.Wave(number=number, guest_ids=[number + 1]) for number in range(waves[0])],
        )

    monkeypatch.setattr(plans, "make_plan", make_plan)
    monkeypatch.setattr("sealift.exports.missing.make_missing", lambda **given: make_plan(**{"period": "-", **given}))
    monkeypatch.setattr(
        "sealift.exports.retry.make_retry", lambda **given: make_plan(**{"period": given["first"].period, **given})
    )
    return calls


Run = Callable[..., tuple[Any, Pushed]]


@pytest.fixture
def run() -> Run:
    """Run the task as a worker does: the run's kind is the SDK's own enumeration, not text."""

    def execute(
        kind: DagRunType = DagRunType.MANUAL,
        *,
        run_id: str = "r",
        given: dict[str, Any] | None = None,
        schedule: str | None = None,
        slot: datetime = SLOT,
        **params: Any,
    ) -> tuple[Any, Pushed]:
        pushed = Pushed()
        pushed.dag_id, pushed.run_id = "plan_exports", run_id
        defaults = {name: param.value for name, param in plan_params({}).items()}
        run = SimpleNamespace(run_type=kind, logical_date=slot, conf=params)
        context = {**pushed.context, "dag_run": run, "params": {**defaults, "tags": ["export"], **params}}
        with DAG("plan_exports", schedule=schedule, start_date=SLOT, params=plan_params({})):
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


@pytest.mark.usefixtures("bucket", "made")
def test_each_wave_says_how_many_servers_it_holds_and_how_many_may_wait(waves: list[int], run: Run) -> None:
    waves[0] = 2
    started, pushed = run(max_offline=3)
    assert [(one["label"], one["servers"], one["waiting_at_most"]) for one in started] == [
        ("wave 1 of 2", 1, 3),
        ("wave 2 of 2", 1, 3),
    ]
    assert pushed.values[PLAN_KEY]["waves"] == 2


@pytest.mark.usefixtures("bucket")
def test_the_limits_of_the_deployment_are_handed_on(
    made: list[dict[str, Any]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__MAX_OFFLINE", "7")
    run()
    assert made[0]["limits"] == plans.Limits(max_offline=7, waves_at_most=1024)


def test_a_second_try_takes_up_the_plan_of_the_first_without_asking_anybody(
    bucket: Bucket, made: list[dict[str, Any]], waves: list[int], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    waves[0] = 3
    first, _ = run()
    monkeypatch.setattr(ClassicHook, "client", None)
    monkeypatch.setattr(CosHook, "check_export_key", None)
    written = dict(bucket.written)
    assert run()[0] == first
    assert len(made) == 1
    assert bucket.written == written


EVERY_MINUTE, MONTHLY = "* * * * *", "0 0 1 * *"


@pytest.mark.usefixtures("bucket")
def test_a_scheduled_run_whose_slot_has_passed_may_not_capture_any_more(made: list[dict[str, Any]], run: Run) -> None:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    run(DagRunType.SCHEDULED, run_id="1", schedule=EVERY_MINUTE, slot=long_ago)
    run(DagRunType.SCHEDULED, run_id="2", schedule=EVERY_MINUTE, slot=datetime.now(UTC).replace(second=0) + MINUTE)
    run(DagRunType.MANUAL, run_id="3", schedule=EVERY_MINUTE, slot=long_ago)
    assert [given["past_slot"] for given in made] == [True, False, False]


@pytest.mark.usefixtures("bucket")
def test_missing_looks_at_the_slots_of_the_schedule_and_captures_the_newest(
    made: list[dict[str, Any]], run: Run
) -> None:
    run(run_id="m", schedule=MONTHLY, only="missing", since="2026-01-15")
    (given,) = made
    assert given["slots"][:3] == ["20260201T0000Z", "20260301T0000Z", "20260401T0000Z"]
    assert given["slots"][-1] == given["present"]
    assert given["run_period"].startswith("m-")
    run(run_id="n", only="missing", slots=["20260105T0200Z", "2026-01-12T02:00Z"])
    assert (made[1]["slots"], made[1]["present"]) == (["20260105T0200Z", "20260112T0200Z"], None)
    run(DagRunType.SCHEDULED, run_id="o", only="missing", schedule=MONTHLY, slot=datetime(2026, 11, 1, tzinfo=UTC))
    assert made[2]["slots"] == ["20261101T0000Z"], "the run's own slot, whether it is the newest or not"
    assert made[2]["present"] == given["present"]


@pytest.mark.usefixtures("bucket")
def test_failed_reads_the_earlier_plan_and_keeps_where_it_lies(
    made: list[dict[str, Any]], waves: list[int], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    waves[0] = 2
    _, pushed = run(run_id="first", prefix="weekly")
    first = pushed.values[PLAN_KEY]
    monkeypatch.setattr("sealift.exports.retry.failed_items", lambda _cos, plan, over: [plan.items[1], over])
    run(run_id="again", only="failed", plan=first["key"], tags=[], plan_is_over=True)
    given = made[1]
    assert given["first"].plan_id == first["plan_id"]
    assert [getattr(one, "guest_id", one) for one in given["failed"]] == [2, True]
    assert given["settings"].prefix == "weekly"
    assert given["plan_id"] != first["plan_id"]
    assert given["is_past"]("20260101T0000Z") is False, "without a schedule nobody can tell"


@pytest.mark.parametrize(
    ("kind", "params", "says"),
    [
        ("manual", {"plan": "p"}, "Set only to failed"),
        ("manual", {"plan_is_over": True}, "plan_is_over is given"),
        ("manual", {"only": "failed"}, "needs the plan"),
        ("manual", {"only": "missing", "plan": "p"}, "Set only to failed"),
        ("manual", {"since": "2026-01-01"}, "Set only to missing"),
        ("manual", {"only": "failed", "plan": "p", "slots": ["20260101T0000Z"]}, "Set only to missing"),
        ("manual", {"only": "all"}, "is not known"),
        ("manual", {"only": "missing", "since": "yesterday"}, "'yesterday' is no time"),
        ("manual", {"only": "missing", "slots": ["20269901T0000Z"]}, "is no time"),
        ("manual", {"only": "missing", "since": "2126-01-01"}, "has not come yet"),
        ("manual", {"only": "missing", "since": "2026-01-01"}, "plan_exports has none"),
        ("scheduled", {"only": "failed", "plan": "p"}, "for runs that somebody triggers"),
        ("backfill", {"only": "missing"}, "A backfill adopts"),
        ("manual", {"only": "failed", "plan": "no-such-plan"}, "there is no plan at images/sealift/plans/no-such-plan"),
    ],
)
def test_what_contradicts_itself_is_refused_before_the_account_is_read(
    bucket: Bucket, made: list[dict[str, Any]], run: Run, kind: str, params: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError) as error:
        run(DagRunType(kind), **params)
    assert says in error.value.message
    assert made == []
    assert bucket.written == {}


@pytest.mark.usefixtures("bucket", "made")
def test_since_is_bounded(run: Run) -> None:
    with pytest.raises(SettingsError, match="more than 400 slots since 2026-01-01"):
        run(only="missing", since="2026-01-01", schedule=EVERY_MINUTE)
