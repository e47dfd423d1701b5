"""Servers that are stuck or slow are told of once, and the wait ends as it would without."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sealift.cos.errors import CosTransientError
from sealift.cos.models import PutOutcome
from sealift.exports.messages.message import Message
from sealift.exports.plan import Outcome, PlanItem, WaveSlice
from sealift.exports.settings import PlanSettings
from sealift.provider.errors import WaitFailed
from sealift.provider.sensors.export_when_ready import ExportWhenReadySensor
from sealift.provider.sensors.prove_when_exported import ProveWhenExportedSensor
from sealift.provider.wave_access import WaveAccess
from tools.receivers import Post, Receiver

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("told_everywhere", "bucket")]

TERMS = '{"guest_id": 7, "hostname": "web-01", "template_id": 70}'
SENTENCE = "The export of web-01 is stuck. Transaction 9 stands still. Open a support case with IBM that names it."


class Bucket:
    """A bucket in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.down = False

    def list(self, _bucket: str, prefix: str) -> Any:
        if self.down:
            raise CosTransientError("The object store does not answer.")
        found = sorted(key for key in self.kept if key.startswith(prefix))
        return (SimpleNamespace(key=key) for key in found)

    def put_if_absent(self, _bucket: str, key: str, body: bytes) -> PutOutcome:
        if key in self.kept:
            return PutOutcome.EXISTS_DIFFERENT
        self.kept[key] = body
        return PutOutcome.CREATED

    def delete(self, _bucket: str, key: str) -> None:
        del self.kept[key]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    item = PlanItem(
        guest_id=7,
        hostname="web-01",
        export_id="7-20260101T0000Z",
        images="p/images/web-01-7/7-20260101T0000Z",
        outcome=Outcome.EXPORT,
    )
    settings = PlanSettings(classic_conn_id="c", cos_conn_id="s", bucket="images", region="us-south")
    wave = WaveSlice.model_construct(plan_id="p", period="20260101T0000Z", number=0, settings=settings, items=[item])
    monkeypatch.setattr(WaveAccess, "cos", SimpleNamespace(client=made))
    monkeypatch.setattr(WaveAccess, "wave", wave)
    return made


class Ti:
    """A task instance of a wave."""

    def __init__(self, task_id: str) -> None:
        self.task_id = f"export.{task_id}"
        self.dag_id, self.run_id = "export_servers", "p.wave-0000"
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


def ended(reason: str, *, step: str = "wait_for_export") -> Ti:
    """Have a wait end badly, as its trigger says it."""
    make, name = (
        (ProveWhenExportedSensor, "started") if step == "wait_for_export" else (ExportWhenReadySensor, "captured")
    )
    sensor = make(task_id=step, bucket="images", wave_key="w", **{name: TERMS})
    ti = Ti(step)
    event = {"status": "failed", "reason": reason, "sentence": SENTENCE}
    with pytest.raises(WaitFailed, match="stands still"):
        sensor.resume_execution("execute_complete", {"event": event}, {"ti": ti})  # type: ignore[typeddict-item]
    return ti


def test_a_stuck_server_is_told_of_once_however_often_its_wait_is_tried(posts: Receiver[Post]) -> None:
    for _ in range(3):
        assert ended("stuck").pushed["failure"]["words"].startswith(SENTENCE)
    (post,) = posts.got
    told = Message.model_validate(post.body)
    assert told.subject == "Sealift: the export of web-01 is stuck (20260101T0000Z)"
    assert told.summary == SENTENCE
    assert (told.run_id, told.plan_id) == ("p.wave-0000", "p")


def test_a_capture_and_an_export_are_two_things(posts: Receiver[Post]) -> None:
    ended("stuck", step="wait_for_template")
    ended("stuck")
    assert [one.body["subject"].split()[2] for one in posts.got] == ["capture", "export"]


@pytest.mark.parametrize("reason", ["slow", "nothing-happened", "no-answer"])
def test_what_nobody_asked_for_is_not_told(posts: Receiver[Post], bucket: Bucket, reason: str) -> None:
    ended(reason)
    assert posts.got == []
    assert bucket.kept == {}


def test_slow_servers_are_told_of_where_somebody_asks(monkeypatch: pytest.MonkeyPatch, posts: Receiver[Post]) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_ON", "slow")
    ended("stuck")
    ended("slow")
    assert [one.body["kind"] for one in posts.got] == ["slow"]


def test_without_a_bucket_the_wait_ends_as_it_would(posts: Receiver[Post], bucket: Bucket) -> None:
    bucket.down = True
    ended("stuck")
    assert posts.got == []
    bucket.down = False
    ended("stuck")
    assert len(posts.got) == 1


def test_what_could_not_be_sent_is_sent_by_the_next_try(
    monkeypatch: pytest.MonkeyPatch, posts: Receiver[Post], bucket: Bucket
) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("AIRFLOW__SEALIFT__NOTIFY_SMTP_CONN_ID", "nowhere")
        changed.setenv("AIRFLOW__SEALIFT__NOTIFY_HTTP_CONN_ID", "nowhere")
        ended("stuck")
    assert bucket.kept == {}
    ended("stuck")
    assert len(posts.got) == 1
