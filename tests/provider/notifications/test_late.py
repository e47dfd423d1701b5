"""A run that is late: the alert on the DAG, and what is told when its deadline has passed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sealift.exports.messages.message import Message
from sealift.provider.hooks.cos import CosHook
from sealift.provider.notifications.late import CALLBACK, late_alert, tell_late
from tools.receivers import Mail, Post, Receiver

pytestmark = pytest.mark.airflow

DUE = datetime(2026, 11, 23, 14, tzinfo=UTC)


def context(**changes: Any) -> dict[str, Any]:
    """What Airflow 3.3 hands to a deadline's callback: the run as its REST API shows it."""
    run = {
        "dag_id": "plan_exports",
        "dag_run_id": "manual__2026-11-23T02:00:00+00:00",
        "state": "running",
        "start_date": "2026-11-23T02:00:01Z",
        "conf": {"bucket": "images", "prefix": "weekly"},
    }
    return {"dag_run": run | changes, "deadline": {"id": "1", "deadline_time": DUE}}


class Bucket:
    """An object store without any object."""

    endpoint_url = "http://127.0.0.1:1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def head(self, bucket: str, key: str) -> None:
        self.asked.append(f"{bucket}/{key}")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setattr(CosHook, "client", made)
    monkeypatch.setattr(CosHook, "_connection", SimpleNamespace(extra_dejson={}, conn_type="ibm_cos", host=None))
    return made


def test_by_default_no_run_is_ever_late() -> None:
    assert late_alert() is None


@pytest.mark.usefixtures("told_everywhere")
def test_a_deployment_that_says_when_gets_an_alert_of_airflow_s_own(
    monkeypatch: pytest.MonkeyPatch, project_root: Path
) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    monkeypatch.setenv("AIRFLOW__SEALIFT__LATE_AFTER", "90")
    bag = DagBag(dag_folder=str(project_root / "dags"))
    assert bag.import_errors == {}
    dag = bag.dags["plan_exports"]
    (alert,) = dag.deadline
    assert alert.interval == timedelta(minutes=90)
    assert (alert.callback.path, alert.callback.kwargs) == (CALLBACK, {})
    assert "DagRunQueuedAtDeadline" in str(DagSerialization.serialize_dag(dag)["deadline"])
    assert [one.__name__ for one in dag.get_task("report").on_failure_callback] == ["tell_unreported"]


@pytest.mark.usefixtures("told_everywhere")
def test_a_run_that_still_runs_is_told_of(mails: Receiver[Mail], posts: Receiver[Post], bucket: Bucket) -> None:
    assert asyncio.run(tell_late(context())) == "told"
    (asked,) = bucket.asked
    assert asked.startswith("images/weekly/plans/manual-20261123T020000Z-")
    told = Message.model_validate(posts.got[0].body)
    assert told.subject == "Sealift: plan_exports is late (manual__2026-11-23T02:00:00+00:00)"
    assert "by 2026-11-23T14:00:00+00:00 and still runs. It began at 2026-11-23T02:00:01+00:00." in told.summary
    assert len(mails.got) == 1


@pytest.mark.usefixtures("told_everywhere")
@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_run_that_has_ended_is_not_late(posts: Receiver[Post], bucket: Bucket, state: str) -> None:
    """Airflow 3.3 forgets the deadline of a run that succeeds, and not that of one that fails."""
    assert asyncio.run(tell_late(context(state=state))) == f"nobody was told: the run has ended, {state}"
    assert posts.got == []
    assert bucket.asked == []


@pytest.mark.usefixtures("told_everywhere")
def test_a_bucket_that_cannot_be_looked_at_keeps_nobody_from_being_told(posts: Receiver[Post]) -> None:
    assert asyncio.run(tell_late(context(conf={}))) == "told"
    told = Message.model_validate(posts.got[0].body)
    assert "ibm_cos_default" in told.notes[0]
    assert "is not known" in told.summary


def test_where_nobody_can_be_told_the_callback_says_so() -> None:
    assert asyncio.run(tell_late(context())) == "nobody was told; the triggerer's log says why"
