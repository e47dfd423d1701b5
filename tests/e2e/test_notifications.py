"""Mails and webhooks of a real Airflow: a run that finished, one that failed, one that is late, and a stuck server."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from sealift.exports.messages.message import Message


def end_what_is_stuck(house) -> None:
    for one in house.sandbox.transactions():
        if one["stuck"] and one["ended"] is None and one["kind"] in ("capture", "export"):
            house.sandbox.engine.end(one["id"])


@pytest.fixture
def no_fault_stays(house) -> Iterator[None]:
    yield
    house.sandbox.faults.clear()
    end_what_is_stuck(house)


def told(house, ran, kind: str, *, seconds: float = 30.0) -> tuple[Message, Any]:
    """Wait for what a run is told of by webhook, and for the mail that says the same."""

    def fits(post: Any) -> bool:
        about = post.body["run_id"] in (ran.run_id, ran.wave_run_id)
        return about and post.body["kind"] == kind

    message = Message.model_validate(house.posts.wait_for(fits, seconds=seconds).body)
    mail = house.mails.wait_for(
        lambda one: one.message["Subject"] == message.subject and message.run_id in one.html, seconds=seconds
    )
    return message, mail


def kinds(house, ran) -> list[str]:
    about = [post.body for post in house.posts.got if post.body["run_id"] in (ran.run_id, ran.wave_run_id)]
    return sorted(one["kind"] for one in about if one["kind"] != "late")


def late_callbacks(house, run_id: str) -> list[tuple[str, str]]:
    """What Airflow keeps of the callbacks of a run's deadline: state and output."""
    with closing(sqlite3.connect(f"file:{house.airflow.home}/airflow.db?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT callback.state, callback.output FROM deadline JOIN callback ON callback.id = deadline.callback_id "
            "JOIN dag_run ON dag_run.id = deadline.dagrun_id WHERE dag_run.run_id = ? AND deadline.missed",
            (run_id,),
        )
        return rows.fetchall()


@pytest.fixture(scope="module", autouse=True)
def refused(house) -> Any:
    """A run that fails at once. Its deadline passes while the other tests run."""
    return house.start_plan(tags=[], datacenters=["xyz99"])


def test_a_run_without_failures_is_told_by_mail_and_webhook(exported) -> None:
    house = exported.house
    message, mail = told(house, exported, "finished")
    assert (message.plan_id, message.bucket) == (exported.plan_id, exported.bucket)
    assert message.counts == {"exported": 5, "not exportable": 1}
    assert {one.hostname for one in message.servers} == set(exported.outcomes())
    links = {one.label: one.url for one in message.links}
    assert links["Plan"] == f"{house.airflow.url}/plugin/sealift?place=main&view=plan&plan={exported.plan_id}"
    assert links["Run"].startswith(f"{house.airflow.url}/dags/plan_exports/runs/")
    assert mail.recipients == ("one@example.com", "two@example.com")
    assert mail.login == house.mail_login
    assert all(name in mail.html for name in exported.outcomes())
    assert "told 'Sealift: 5 exported" in exported.log("report")
    assert kinds(house, exported) == ["finished"]


def test_a_run_that_runs_longer_than_allowed_is_told_while_it_runs(exported) -> None:
    """It is Airflow's own deadline alert: seen by the scheduler, sent by the triggerer, with connections of the
    metadata database."""
    message, mail = told(exported.house, exported, "late")
    assert message.plan_id == exported.plan_id
    assert message.dag_id == "plan_exports"
    assert "of 5 servers are exported so far" in message.summary
    assert {one.hostname for one in message.servers} <= set(exported.outcomes())
    assert message.at < told(exported.house, exported, "finished")[0].at
    assert "still runs" in mail.html
    assert late_callbacks(exported.house, exported.run_id) == [("success", "told")]


@pytest.mark.usefixtures("no_fault_stays")
def test_a_stuck_server_is_told_once_over_its_tries_and_then_as_failed(house) -> None:
    house.sandbox.set_fault("stuck_transaction", times=1)
    ran = house.plan(hostnames=["files-*"], stuck_minutes=0.1)
    assert ran.state == "failed"
    stuck, _ = told(house, ran, "stuck")
    assert stuck.run_id == ran.wave_run_id
    assert stuck.servers[0].hostname == "files-01"
    assert "Open a support case" in stuck.summary
    failed, mail = told(house, ran, "failed")
    assert failed.counts == {"failed": 1}
    assert "stands still" in failed.text() or "unchanged for" in failed.text()
    assert ran.plan_id in mail.html
    assert kinds(house, ran) == ["failed", "stuck"], "two tries, one message"

    end_what_is_stuck(house)
    again = house.plan(only="failed", plan=ran.plan_id, prefix=ran.prefix, tags=[])
    assert again.state == "success", again.outcomes()
    assert told(house, again, "finished")[0].counts == {"exported": 1}
    assert kinds(house, again) == ["finished"]


def test_a_run_that_failed_before_it_was_late_is_told_as_failed_alone(refused) -> None:
    """Airflow 3.3 does not forget the deadline of a run that failed: the callback is called, and says nothing."""
    ran, house = refused, refused.house
    assert house.api.wait("plan_exports", ran.run_id, seconds=300) == "failed"
    message, _ = told(house, ran, "failed")
    assert message.subject == "Sealift: no plan was made"
    assert "xyz99" in message.summary
    deadline = time.monotonic() + 60
    while not (ended := [one for one in late_callbacks(house, ran.run_id) if one[1]]):
        assert time.monotonic() < deadline, late_callbacks(house, ran.run_id)
        time.sleep(0.5)
    assert ended == [("success", "nobody was told: the run has ended, failed")]
    assert not [post for post in house.posts.got if post.body["run_id"] == ran.run_id and post.body["kind"] == "late"]


def test_the_event_of_an_export_carries_the_manifest_s_key_and_digest(exported) -> None:
    from sealift.exports.jsontext import digest

    events = exported.house.api.request("GET", "assets/events?limit=100")["asset_events"]
    store = exported.house.sandbox.store
    found = {one["extra"]["export_id"]: one["extra"] for one in events if "manifest_digest" in (one["extra"] or {})}
    for manifest in exported.manifests().values():
        extra = found[manifest["export_id"]]
        assert extra["bucket"] == exported.bucket
        assert json.loads(store.path_of(extra["bucket"], extra["manifest_key"]).read_text()) == manifest
        assert extra["manifest_digest"] == digest(store.path_of(extra["bucket"], extra["manifest_key"]).read_bytes())
