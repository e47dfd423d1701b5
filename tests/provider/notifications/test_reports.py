"""One message for each run and for each wave, from its report; and one where there is no report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sealift.cos.errors import CosTransientError
from sealift.exports import names
from sealift.exports.messages.message import Message
from sealift.provider.errors import ServersFailed
from sealift.provider.notifications.unreported import on_unreported, tell_unreported
from sealift.provider.operators.plan import PLAN_KEY
from sealift.provider.operators.report import PlanReportOperator, WaveReportOperator
from sealift.sandbox import Sandbox
from tests.cli.steps import PERIOD, Exported
from tools.receivers import Mail, Post, Receiver

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("told_everywhere")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=3000.0) as sandbox:
        made = Exported(sandbox)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def connected(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, connection in exported.sandbox.connections().items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/here/")
    monkeypatch.setenv("AIRFLOW__SEALIFT__UI_PLACES", '[{"name": "other", "prefix": "else"}]')


class Ti:
    """A task instance that hands on what it is told to."""

    dag_id, run_id, task_id = "plan_exports", "manual__2026-11-23T02:00:00+00:00", "report"

    def __init__(self, **xcoms: Any) -> None:
        self.xcoms = xcoms

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: Any = None) -> Any:
        return self.xcoms.get(key)

    def get_task_states(self, **_: Any) -> dict[str, Any]:
        return {}


def where(exported: Exported) -> dict[str, Any]:
    return {
        "plan_id": "plan-1",
        "key": "sealift/plans/plan-1.json",
        "bucket": exported.bucket,
        "region": "us-south",
        "cos_conn_id": "ibm_cos_default",
    }


def test_a_run_with_failures_is_told_once_with_its_servers_and_where_to_look(
    exported: Exported, mails: Receiver[Mail], posts: Receiver[Post]
) -> None:
    with pytest.raises(ServersFailed):
        PlanReportOperator(task_id="report").execute({"ti": Ti(**{PLAN_KEY: where(exported)})})  # type: ignore[typeddict-item]
    (post,) = posts.got
    (mail,) = mails.got
    told = Message.model_validate(post.body)
    assert (told.kind, told.plan_id, told.period) == ("failed", "plan-1", PERIOD)
    report = json.loads(exported.cos.read(exported.bucket, str(told.report)) or b"")
    kinds = [one["kind"] for one in report["outcomes"]]
    assert told.counts == {kind: kinds.count(kind) for kind in set(kinds)}
    assert {one.id for one in told.servers} == {one["id"] for one in report["outcomes"]}
    assert told.servers[0].state == "failed"
    # The plan names a connection that is not the page's: its page does not show it, so only the run's is linked.
    assert [(one.label, one.url) for one in told.links] == [
        (
            "Run",
            "https://airflow.example.com/here/dags/plan_exports/runs/manual__2026-11-23T02%3A00%3A00%2B00%3A00",
        )
    ]
    assert told.subject == mail.message["Subject"]
    assert "plan-1" in mail.html


def test_no_secret_is_in_what_is_told(exported: Exported, mails: Receiver[Mail], posts: Receiver[Post]) -> None:
    with pytest.raises(ServersFailed):
        PlanReportOperator(task_id="report").execute({"ti": Ti(**{PLAN_KEY: where(exported)})})  # type: ignore[typeddict-item]
    sandbox = exported.sandbox
    told = json.dumps(posts.got[0].body) + mails.got[0].html
    assert "web-01" in told
    for secret in (sandbox.api_key, sandbox.cos_api_key, sandbox.hmac_secret_access_key, "PLANTED"):
        assert secret not in told


def test_nobody_who_can_be_told_changes_nothing_of_the_report(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_SMTP_CONN_ID", "nowhere")
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_HTTP_CONN_ID", "nowhere")
    with pytest.raises(ServersFailed, match=r"servers? failed"):
        PlanReportOperator(task_id="report").execute({"ti": Ti(**{PLAN_KEY: where(exported)})})  # type: ignore[typeddict-item]
    said = capsys.readouterr().out
    assert "MailNotifier: The mail by the connection 'nowhere' was not sent" in said
    assert "WebhookNotifier: The message to the webhook of the connection 'nowhere' was not sent" in said


@pytest.mark.parametrize(
    ("xcoms", "why"),
    [
        ({}, "Its log says what to change."),
        ({"failure": {"words": "No bucket is named. Give one.", "rule": None}}, "No bucket is named. Give one."),
    ],
)
def test_a_run_without_a_plan_is_told_with_what_the_planning_said(
    posts: Receiver[Post], xcoms: dict[str, Any], why: str
) -> None:
    with pytest.raises(ServersFailed, match="nothing was captured"):
        PlanReportOperator(task_id="report").execute({"ti": Ti(**xcoms)})  # type: ignore[typeddict-item]
    told = Message.model_validate(posts.got[0].body)
    assert told.subject == "Sealift: no plan was made"
    assert told.summary.endswith(why)
    assert "clear the task make_plan" in told.next_steps[0]


@pytest.mark.parametrize("asked", [True, False])
def test_a_wave_with_failures_is_told_where_somebody_asks_for_waves(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, posts: Receiver[Post], *, asked: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_ON", "finished, failed, wave" if asked else "finished, failed")
    task = WaveReportOperator(
        task_id="summarise",
        wave_key=names.wave_key(prefix="sealift", plan_id="plan-1", number=0),
        bucket=exported.bucket,
        cos_conn_id="ibm_cos_default",
        region="us-south",
    )
    ti = Ti()
    ti.dag_id, ti.run_id = "export_servers", "plan-1.wave-0000"
    with pytest.raises(ServersFailed):
        task.execute({"ti": ti})  # type: ignore[typeddict-item]
    kinds = [one.body["kind"] for one in posts.got]
    assert kinds == (["wave"] if asked else [])
    if asked:
        assert posts.got[0].body["run_id"] == "plan-1.wave-0000"


def test_the_place_of_a_plan_on_the_page_is_found(exported: Exported) -> None:
    from sealift.provider.notifications.links import plan_links

    shown = exported.settings.model_copy(update={"cos_conn_id": "ibm_cos_default"})
    (link,) = plan_links("plan-1", shown)
    assert link.url == "https://airflow.example.com/here/plugin/sealift?view=plan&plan=plan-1"
    (link,) = plan_links("plan-1", shown.model_copy(update={"prefix": "else"}), wave=3)
    assert link.url == "https://airflow.example.com/here/plugin/sealift?place=other&view=wave&plan=plan-1&wave=3"
    assert plan_links("plan-1", shown.model_copy(update={"prefix": "nowhere"})) == []


@pytest.mark.parametrize("base", ["", "/", "javascript:alert(1)"])
def test_without_an_address_of_airflow_there_is_no_link(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    from sealift.provider.notifications.links import run_links

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    assert run_links("plan_exports", "r") == []


def test_a_report_that_could_not_be_made_is_told_of_by_its_task_s_callback(posts: Receiver[Post]) -> None:
    (callback,) = on_unreported()
    callback({"ti": Ti(), "exception": CosTransientError("The object store does not answer.")})  # type: ignore[typeddict-item]
    told = Message.model_validate(posts.got[0].body)
    assert told.subject == "Sealift: report of plan_exports failed"
    assert "The object store does not answer." in told.summary


def test_what_was_told_with_the_report_is_not_told_again(posts: Receiver[Post]) -> None:
    tell_unreported({"ti": Ti(), "exception": ServersFailed("1 server failed")})  # type: ignore[typeddict-item]
    assert posts.got == []


def test_a_report_whose_process_was_killed_is_told_of_by_what_little_is_known(posts: Receiver[Post]) -> None:
    tell_unreported({"task_instance": SimpleNamespace(dag_id="plan_exports", run_id="r", task_id="report")})  # type: ignore[typeddict-item]
    assert "may have been killed" in posts.got[0].body["summary"]


def test_nothing_is_attached_where_nobody_is_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_ON", "finished")
    assert on_unreported() == []
