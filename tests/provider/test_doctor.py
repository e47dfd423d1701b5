"""The doctor in Airflow: the examination's task, and what the report of a run says was left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from jsonschema import Draft202012Validator

from sealift.classic.errors import ClassicTransientError
from sealift.cli.connections import ReadConnection
from sealift.connections import classic_client, cos_client
from sealift.cos.client import CosClient
from sealift.exports import names
from sealift.exports.doctor_models import Examination
from sealift.exports.errors import SettingsError
from sealift.exports.plan import Outcome, Plan, make_plan, write_plan
from sealift.exports.schemas import schema_text
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.provider.errors import ServersFailed
from sealift.provider.links import ReportLink
from sealift.provider.operators.doctor import ExamineExportsOperator
from sealift.provider.operators.plan import PLAN_KEY, REFUSAL_KEY
from sealift.provider.operators.report import PlanReportOperator
from sealift.provider.params import examine_params
from sealift.sandbox import Sandbox

pytestmark = pytest.mark.airflow

RUN = "scheduled__2026-11-23T02:00:00+00:00"


class Task:
    """A task instance that knows where the plan is."""

    run_id = RUN

    def __init__(self, plan: dict[str, Any] | None = None) -> None:
        self.plan = plan

    def xcom_pull(self, *, task_ids: str, key: str) -> dict[str, Any] | None:
        if (task_ids, key) == ("approve", REFUSAL_KEY):
            return None
        assert (task_ids, key) == ("make_plan", PLAN_KEY)
        return self.plan


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=3000.0) as started:
        yield started


@pytest.fixture(autouse=True)
def connections(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, connection in sandbox.connections().items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


@pytest.fixture(scope="module")
def cos(sandbox: Sandbox) -> Iterator[CosClient]:
    client = cos_client(ReadConnection.of_fields(sandbox.connections()["ibm_cos_default"], where="it"), "o")
    yield client
    client.close()


@pytest.fixture(scope="module")
def plan(sandbox: Sandbox, cos: CosClient) -> Plan:
    """A plan of two servers, the first of which was captured before its run ended."""
    classic = classic_client(ReadConnection.of_fields(sandbox.connections()["ibm_classic_default"], where="it"), "c")
    made = make_plan(
        settings=PlanSettings(
            classic_conn_id="ibm_classic_default",
            cos_conn_id="ibm_cos_default",
            bucket=sandbox.bucket,
            region="us-south",
            prefix="sealift",
        ),
        selection=Selection.from_params({"hostnames": ["web-01", "db-01"]}),
        classic=classic,
        cos=cos,
        plan_id="plan-1",
        period="20261123T0200Z",
        now=datetime.now(UTC),
    )
    write_plan(cos, made)
    first = made.items_with(Outcome.EXPORT)[0]
    classic.capture(
        first.guest_id,
        name=first.template_name,
        block_device_ids=[disk.block_device_id for disk in first.disks],
        note=names.template_note(export=first.export_id, bucket=sandbox.bucket, key_prefix=first.images),
    )
    sandbox.wait_until(lambda: sandbox.templates()[0]["finished"], what="the capture")
    sandbox.wait_until(lambda: not sandbox.summary()["offline_for_capture"], what="an idle server")
    classic.close()
    return made


def examine(sandbox: Sandbox, **params: Any) -> tuple[ExamineExportsOperator, Any]:
    operator = ExamineExportsOperator(task_id="examine")
    given = {name: param.value for name, param in examine_params({}).items()} | params
    return operator, operator.execute({"ti": Task(), "params": given})  # type: ignore[typeddict-item]


def test_the_examination_is_written_where_the_link_leads_and_writes_nothing_else(
    sandbox: Sandbox, plan: Plan, cos: CosClient
) -> None:
    writes = sandbox.writes()
    before = {one.key: one.etag for one in cos.list(sandbox.bucket, "")}
    operator, done = examine(sandbox, over=["plan-1"])
    key = names.examination_key(prefix="sealift", run_id=RUN)
    assert done == {"key": key, "bucket": sandbox.bucket, "findings": {"orphan-template": 1}}
    assert sandbox.writes() == writes
    after = {one.key: one.etag for one in cos.list(sandbox.bucket, "")}
    assert after.keys() - before.keys() == {key}
    assert {name: after[name] for name in before} == before
    body = cos.read(sandbox.bucket, key)
    assert body is not None
    found = Examination.model_validate_json(body)
    assert found.findings[0].hostname == plan.items_with(Outcome.EXPORT)[0].hostname
    Draft202012Validator(json.loads(schema_text("examination"))).validate(json.loads(body))
    assert ReportLink().get_link(operator, ti_key=None).endswith(key)  # type: ignore[arg-type]
    assert sandbox.cos_api_key.encode() not in body


@pytest.mark.usefixtures("plan")
def test_what_is_young_or_at_work_is_left_alone(sandbox: Sandbox) -> None:
    assert examine(sandbox)[1]["findings"] == {}
    assert examine(sandbox, settled_minutes=0)[1]["findings"] == {}, "the plan is at work"
    assert examine(sandbox, settled_minutes=0, plan_days=0)[1]["findings"] == {"orphan-template": 1}


@pytest.mark.usefixtures("plan")
def test_findings_fail_the_task_only_where_that_is_asked_for(sandbox: Sandbox, cos: CosClient) -> None:
    with pytest.raises(AirflowFailException, match=r"1 finding: 1 orphan-template\. The whole report is at"):
        examine(sandbox, over=["plan-1"], fail_on_findings=True)
    assert cos.head(sandbox.bucket, names.examination_key(prefix="sealift", run_id=RUN)) is not None
    assert examine(sandbox, fail_on_findings=True)[1]["findings"] == {}


def test_where_to_look_may_come_from_the_connection_and_must_come_from_somewhere(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examine(sandbox)[1]["bucket"] == sandbox.bucket
    connection = sandbox.connections()["ibm_cos_default"]
    del connection["extra"]["bucket"]
    monkeypatch.setenv("AIRFLOW_CONN_IBM_COS_DEFAULT", json.dumps(connection))
    with pytest.raises(SettingsError, match="No bucket is named"):
        examine(sandbox)
    with pytest.raises(SettingsError, match="prefix"):
        examine(sandbox, bucket=sandbox.bucket, prefix="a b")


def report(sandbox: Sandbox, plan: Plan) -> None:
    where = {
        "key": names.plan_key(prefix="sealift", plan_id=plan.plan_id),
        "bucket": sandbox.bucket,
        "region": "us-south",
        "cos_conn_id": "ibm_cos_default",
    }
    PlanReportOperator(task_id="report").execute({"ti": Task(where)})  # type: ignore[typeddict-item]


def test_the_report_of_a_run_says_what_it_left_behind(
    sandbox: Sandbox, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    first = plan.items_with(Outcome.EXPORT)[0]
    with pytest.raises(ServersFailed, match=r"2 servers failed.*left 1 thing behind"):
        report(sandbox, plan)
    said = [line for line in capsys.readouterr().out.splitlines() if "Left behind: " in line]
    assert len(said) == 1
    assert f"Left behind: orphan-template: {first.hostname} (virtual server {first.guest_id})" in said[0]


def test_a_report_is_made_even_where_the_account_does_not_answer(
    sandbox: Sandbox, plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ClassicTransientError("away for now")

    monkeypatch.setattr("sealift.classic.client.ClassicClient.templates_with_prefix", fails)
    with pytest.raises(ServersFailed) as raised:
        report(sandbox, plan)
    assert "behind" not in str(raised.value)
    assert "could not be looked at: away for now" in capsys.readouterr().out
