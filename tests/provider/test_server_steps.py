"""The operators of one server's steps: what they keep, hand on and wait for. What is right is decided in exports."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from sealift.classic.errors import ClassicAuthError
from sealift.exports import steps
from sealift.exports.disks import PlannedDisk
from sealift.exports.errors import (
    DuplicateTemplatesError,
    InputError,
    OfflineCapReached,
    OutcomeOpen,
    OutsideWindow,
    WindowClosedError,
)
from sealift.exports.plan import Outcome, PlanItem, WaveSlice
from sealift.exports.settings import PlanSettings
from sealift.provider.errors import WaitFailedForGood
from sealift.provider.hooks.cos import CosHook
from sealift.provider.operators.base import ServerStepOperator
from sealift.provider.operators.capture import CaptureImageOperator
from sealift.provider.operators.export import ExportImageOperator
from sealift.provider.operators.prove import ProveExportOperator
from sealift.provider.operators.wave_servers import ReadWaveOperator
from sealift.provider.slots import slots_kept
from sealift.provider.triggers.slots import OfflineSlotTrigger
from sealift.provider.triggers.waits import CaptureWaitTrigger

from .conftest import Pushed, terms

pytestmark = pytest.mark.airflow

SERVER = {"guest_id": 7, "hostname": "web-01", "export_id": "7-20260101T0000Z"}
CAPTURED = terms(7, 70).model_dump_json()


def wave(**settings: Any) -> WaveSlice:
    disk = PlannedDisk.model_construct(index=0, device="0", capacity_bytes=25 * 10**9, block_device_id=1, name="d")
    item = PlanItem.model_construct(
        guest_id=7,
        hostname="web-01",
        export_id="7-20260101T0000Z",
        images="p/images/web-01-7/7-20260101T0000Z",
        outcome=Outcome.EXPORT,
        disks=[disk],
        capacity_bytes=25 * 10**9,
        power_state="RUNNING",
    )
    plan_settings = PlanSettings(classic_conn_id="c", cos_conn_id="s", bucket="images", region="us-south", **settings)
    return WaveSlice.model_construct(
        plan_id="p", period="20260101T0000Z", number=0, settings=plan_settings, items=[item]
    )


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is read: the steps below are stood in for."""
    store = SimpleNamespace(
        client=SimpleNamespace(endpoint_url="http://127.0.0.1:1"),
        export_api_key="key-of-the-export",
        region="us-south",
        service_instance_id=None,
    )
    store.url_of = lambda bucket, key: CosHook.url_of(store, bucket, key)
    monkeypatch.setattr(
        ServerStepOperator, "classic", SimpleNamespace(client=SimpleNamespace(account_id=lambda: 307608, timeout=60.0))
    )
    monkeypatch.setattr(ServerStepOperator, "cos", store)
    monkeypatch.setattr(CosHook, "client", store.client)
    monkeypatch.setattr(ServerStepOperator, "wave", wave())


def capture() -> CaptureImageOperator:
    return CaptureImageOperator(
        task_id="capture", server=SERVER, classic_conn_id="c", cos_conn_id="s", wave_key="w", bucket="images"
    )


def captured(*, adopted: bool = False) -> steps.Captured:
    return steps.Captured(template_id=70, guest_id=7, export_id=SERVER["export_id"], adopted=adopted, disk_count=1)


def test_a_capture_keeps_the_template_s_id_before_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "ensure_captured", lambda **_: captured())
    pushed = Pushed()
    with pytest.raises(TaskDeferred) as deferred:
        capture().execute(pushed.context)
    assert pushed.stored == {"template_id": 70}
    assert pushed.values["return_value"]["template_id"] == 70
    assert "failure" not in pushed.values
    trigger = deferred.value.trigger
    assert isinstance(trigger, CaptureWaitTrigger)
    assert trigger.deferred_by_worker is True
    assert json.loads(trigger.terms) == pushed.values["return_value"], "what waits next is told the same"


def test_a_later_try_hands_the_remembered_id_to_the_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def look(**kwargs: Any) -> steps.Captured:
        seen.update(kwargs)
        return captured(adopted=True)

    monkeypatch.setattr(steps, "ensure_captured", look)
    with pytest.raises(TaskDeferred):
        capture().execute(Pushed(try_number=2, stored={"template_id": 70}).context)
    assert seen["remembered_template_id"] == 70


def test_without_a_free_slot_it_waits_in_the_triggerer_and_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [OfflineCapReached("full", in_flight=5, max_offline=5), captured()]

    def look(**_: Any) -> steps.Captured:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(steps, "ensure_captured", look)
    pushed = Pushed()
    with pytest.raises(TaskDeferred) as deferred:
        capture().execute(pushed.context)
    trigger = deferred.value.trigger
    assert isinstance(trigger, OfflineSlotTrigger)
    assert (trigger.guest_id, trigger.max_offline) == (7, 5)
    assert trigger.slots == {
        "cos_conn_id": "s",
        "region": "us-south",
        "bucket": "images",
        "root": "offline-slots/307608",
        "settle_seconds": 900.0,
    }
    assert deferred.value.method_name == "look_again"
    assert "failure" not in pushed.values
    with pytest.raises(TaskDeferred) as again:
        capture().resume_execution("look_again", {"event": {"status": "look-again"}}, pushed.context)
    assert isinstance(again.value.trigger, CaptureWaitTrigger)


def test_outside_the_window_it_waits_until_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    opens = datetime.now(UTC) + timedelta(hours=3)

    def closed(**_: Any) -> steps.Captured:
        raise OutsideWindow("The window is closed.", opens_at=opens)

    monkeypatch.setattr(steps, "ensure_captured", closed)
    pushed = Pushed()
    with pytest.raises(TaskDeferred) as deferred:
        capture().execute(pushed.context)
    assert deferred.value.trigger.serialize()[1] == {"until": opens.isoformat()}
    assert "failure" not in pushed.values


def test_an_open_outcome_is_waited_for_without_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    until = datetime.now(UTC) + timedelta(minutes=15)

    def uncertain(**_: Any) -> steps.Captured:
        raise OutcomeOpen("The reply was lost.", until=until)

    for name, operator in {
        "ensure_captured": capture(),
        "ensure_export_started": ExportImageOperator(task_id="export", server=SERVER, captured=CAPTURED),
    }.items():
        monkeypatch.setattr(steps, name, uncertain)
        pushed = Pushed()
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(pushed.context)
        assert deferred.value.trigger.serialize()[1] == {"until": until.isoformat()}
        assert deferred.value.method_name == "look_again"
        assert "failure" not in pushed.values, "it uses up no try and is no failure"


def test_an_export_that_is_done_leaves_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = captured(adopted=True).model_copy(update={"exported": True})
    monkeypatch.setattr(steps, "ensure_captured", lambda **_: done)
    handed_on = capture().execute(Pushed().context)
    assert (handed_on["template_id"], handed_on["exported"]) == (70, True)


def test_a_wave_of_a_dry_run_is_never_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReadWaveOperator, "wave", wave(dry_run=True))
    with pytest.raises(InputError, match="dry run"):
        ReadWaveOperator(task_id="read_wave").execute(Pushed().context)


def test_the_slots_of_a_deployment_may_be_in_a_bucket_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__SLOTS_BUCKET", "account-wide")
    monkeypatch.setenv("AIRFLOW__SEALIFT__SLOTS_REGION", "eu-de")
    monkeypatch.setenv("AIRFLOW__SEALIFT__SLOTS_PREFIX", "ops/")
    classic: Any = SimpleNamespace(account_id=lambda: 307608, timeout=300.0)
    kept = slots_kept(classic, wave().settings)
    assert (kept.at.bucket, kept.at.region, kept.at.root) == ("account-wide", "eu-de", "ops/offline-slots/307608")
    assert kept.place.settle == timedelta(minutes=20), "a request may be on its way for as long as its client waits"


def test_outside_the_window_it_refuses_where_the_user_asked_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(**_: Any) -> steps.Captured:
        raise WindowClosedError("The window is closed.")

    monkeypatch.setattr(steps, "ensure_captured", closed)
    pushed = Pushed()
    with pytest.raises(WindowClosedError):
        capture().execute(pushed.context)
    assert pushed.values["failure"]["words"] == "The window is closed."
    assert pushed.values["failure"]["rule"] == "window-closed"


def test_a_refusal_leaves_its_words_and_its_rule_for_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> steps.Captured:
        raise DuplicateTemplatesError("Two templates: 70 and 71.", template_ids=[70, 71])

    monkeypatch.setattr(steps, "ensure_captured", refuse)
    pushed = Pushed()
    with pytest.raises(DuplicateTemplatesError):
        capture().execute(pushed.context)
    assert pushed.values["failure"] == {
        "error": "DuplicateTemplatesError",
        "words": "Two templates: 70 and 71.",
        "rule": None,
    }
    assert pushed.stored == {}


def test_words_of_others_stay_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> steps.Captured:
        raise RuntimeError("https://user:hidden@example.org")

    monkeypatch.setattr(steps, "ensure_captured", fail)
    pushed = Pushed()
    with pytest.raises(RuntimeError):
        capture().execute(pushed.context)
    assert "hidden" not in json.dumps(pushed.values)
    assert "RuntimeError" in pushed.values["failure"]["words"]


def test_an_export_hands_its_key_to_the_step_and_to_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def start(**kwargs: Any) -> steps.ExportStarted:
        seen.update(kwargs)
        return steps.ExportStarted(template_id=70, export_id=SERVER["export_id"], keys=["k"], adopted=False)

    monkeypatch.setattr(steps, "ensure_export_started", start)
    pushed = Pushed()
    operator = ExportImageOperator(task_id="export", server=SERVER, captured=CAPTURED)
    handed_on = operator.execute(pushed.context)
    assert seen["ibm_api_key"] == "key-of-the-export"
    assert seen["template_id"] == 70
    assert "key-of-the-export" not in json.dumps([handed_on, pushed.values, operator.found_links])
    assert handed_on["expected_keys"] == ["p/images/web-01-7/7-20260101T0000Z/disk-0.vhd"]


@pytest.mark.parametrize("nothing", ["null", "", "[]"])
def test_an_export_without_a_capture_says_what_to_clear(nothing: str) -> None:
    pushed = Pushed()
    with pytest.raises(WaitFailedForGood, match="capture"):
        ExportImageOperator(task_id="export", server=SERVER, captured=nothing).execute(pushed.context)
    assert "Clear" in pushed.values["failure"]["words"]


def test_a_proven_export_is_told_to_other_dags(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = steps.Recorded(
        manifest_key="p/manifests/7/x.json", export_id="7-x", proof_level="L1", disks=1, bytes=9, already=False
    )
    forgotten: list[str] = []
    monkeypatch.setattr(steps, "prove_and_record", lambda **_: recorded)
    monkeypatch.setattr(steps, "forget_claim", lambda *, item, **_: forgotten.append(item.export_id))
    pushed = Pushed()
    operator = ProveExportOperator(task_id="prove", server=SERVER, captured=CAPTURED, bucket="images")
    handed_on = operator.execute(pushed.context)
    assert handed_on["manifest_key"] == "p/manifests/7/x.json"
    assert forgotten == [SERVER["export_id"]]
    (event,) = pushed.outlet_events.values()
    assert event.extra == {"bucket": "images", "manifest_key": "p/manifests/7/x.json"}
    assert operator.found_links["ManifestLink"].endswith("/images/p/manifests/7/x.json")


def test_an_error_of_the_api_keeps_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> steps.Captured:
        raise ClassicAuthError("Invalid API token.", call="SoftLayer_Account::getObject", status=401)

    monkeypatch.setattr(steps, "ensure_captured", fail)
    pushed = Pushed()
    with pytest.raises(ClassicAuthError):
        capture().execute(pushed.context)
    assert "Invalid API token." in pushed.values["failure"]["words"]
