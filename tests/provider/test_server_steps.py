"""The operators of one server's steps: what they keep, hand on and wait for. What is right is decided in exports."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from jinja2 import Template

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
from sealift.exports.handing import stamped
from sealift.exports.plan import Outcome, PlanItem, WaveSlice
from sealift.exports.settings import PlanSettings
from sealift.exports.waiting import WaitTerms
from sealift.provider.errors import WaitFailedForGood
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.operators.capture import CaptureImageOperator
from sealift.provider.operators.wave_servers import ReadWaveOperator
from sealift.provider.sensors.export_when_ready import ExportWhenReadySensor
from sealift.provider.sensors.prove_when_exported import ProveWhenExportedSensor
from sealift.provider.slots import slots_kept
from sealift.provider.triggers.slots import OfflineSlotTrigger
from sealift.provider.wave_access import ServerAccess, WaveAccess

from .conftest import Objects, Pushed, terms

pytestmark = pytest.mark.airflow

SERVER = {"guest_id": 7, "hostname": "web-01", "export_id": "7-20260101T0000Z"}
CAPTURED = terms(7, 70).model_dump_json()
SLOTS = {
    "cos_conn_id": "s",
    "region": "us-south",
    "bucket": "images",
    "root": "offline-slots/307608",
    "settle_seconds": 900.0,
}
SMALL = 1000
"""So many characters of JSON an XCom of a server with one disk may have."""


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


REMEMBERED = f"images/captured/p/{SERVER['export_id']}.json"


@pytest.fixture(autouse=True)
def objects(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """No connection is read: the steps below are stood in for.

    :returns: what is in the bucket, by bucket and key.
    """
    store = SimpleNamespace(
        client=Objects(),
        export_api_key="key-of-the-export",
        cos_conn_id="s",
        region="us-south",
        service_instance_id=None,
    )
    store.url_of = lambda bucket, key: CosHook.url_of(store, bucket, key)
    classic = SimpleNamespace(account_id=lambda: 307608, timeout=60.0)
    monkeypatch.setattr(ServerAccess, "classic", SimpleNamespace(client=classic))
    monkeypatch.setattr(ClassicHook, "client", classic)
    monkeypatch.setattr(WaveAccess, "cos", store)
    monkeypatch.setattr(CosHook, "client", store.client)
    monkeypatch.setattr(WaveAccess, "wave", wave())
    kept: dict[str, bytes] = store.client.kept
    return kept


DONE = {"status": "done", "reason": "template-ready", "sentence": "."}
ENDED = {"template_id": 70, "unfinished_at": "2026-01-01T00:04:00Z", "over_at": "2026-01-01T00:05:00Z"}


def starts_export(**more: Any) -> ExportWhenReadySensor:
    return ExportWhenReadySensor(
        task_id="wait_for_template",
        **({"captured": CAPTURED, "bucket": "images", "wave_key": "w"} | more),
    )


def proves(**more: Any) -> ProveWhenExportedSensor:
    return ProveWhenExportedSensor(
        task_id="wait_for_export",
        **({"started": CAPTURED, "bucket": "images", "wave_key": "w"} | more),
    )


def after_wait(sensor: Any, pushed: Pushed, **event: Any) -> Any:
    """Resume a sensor in a worker, as Airflow does it after the trigger's event."""
    return sensor.resume_execution("execute_complete", {"event": DONE | event}, pushed.context)


def capture() -> CaptureImageOperator:
    return CaptureImageOperator(
        task_id="capture", server=SERVER, classic_conn_id="c", cos_conn_id="s", wave_key="w", bucket="images"
    )


def captured(*, adopted: bool = False) -> steps.Captured:
    return steps.Captured(template_id=70, guest_id=7, export_id=SERVER["export_id"], adopted=adopted, disk_count=1)


def recorded() -> steps.Recorded:
    return steps.Recorded(
        manifest_key="p/manifests/7/x.json",
        manifest_digest="sha256:1",
        export_id="7-x",
        proof_level="L1",
        disks=1,
        bytes=9,
        already=False,
    )


def test_a_capture_keeps_the_template_s_id_and_hands_on_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes]
) -> None:
    monkeypatch.setattr(steps, "ensure_captured", lambda **_: captured())
    pushed = Pushed()
    handed_on = capture().execute(pushed.context)
    noted = {"schema_version": 1, "template_id": 70}
    assert {key: json.loads(body) for key, body in objects.items()} == {REMEMBERED: noted}
    assert "failure" not in pushed.values
    assert handed_on["template_id"] == 70
    handed_terms = WaitTerms.model_validate_json(json.dumps(handed_on))
    assert (handed_terms.guest_id, handed_terms.export_id) == (7, SERVER["export_id"])
    assert handed_terms.was_running is True
    assert len(json.dumps(handed_on)) < SMALL


@pytest.mark.parametrize(("gate", "here"), [("", True), ("{{ gate }}", True), ("{{ gate }}", False)])
def test_only_with_a_gate_a_capture_starts_in_the_triggerer(gate: str, here: bool) -> None:
    operator = CaptureImageOperator(
        task_id="capture",
        server=SERVER,
        gate=gate,
        queued="{{ server }}",
        poll_interval=3.0,
        start_in_triggerer=here,
    )
    assert operator.start_from_trigger is bool(gate)
    if not gate:
        assert operator.start_trigger_args is None
        return
    args = operator.start_trigger_args
    assert args.trigger_cls == f"{OfflineSlotTrigger.__module__}.{OfflineSlotTrigger.__name__}"
    assert args.next_method == "look_again"
    assert args.trigger_kwargs == {
        "classic_conn_id": "{{ params.wave.classic_conn_id }}",
        "poll_interval": 3.0,
        "gate": gate,
        "server": "{{ server }}",
        "attempt": "{{ ti.try_number }}",
        "wave_key": "{{ params.wave.key }}" if here else "",
        "bucket": "{{ params.wave.bucket }}",
        "cos_conn_id": "{{ params.wave.cos_conn_id }}",
        "region": "{{ params.wave.region }}",
    }
    made = OfflineSlotTrigger(**args.trigger_kwargs)
    templated = {name for name, value in args.trigger_kwargs.items() if isinstance(value, str)}
    assert templated <= set(operator.template_fields), "Airflow renders no other"
    assert all(hasattr(made, name) and hasattr(operator, name) for name in templated)
    assert made.deferred_by_worker is False


def test_what_a_capture_kept_is_recalled_until_the_export_is_done(
    monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes]
) -> None:
    recalled: list[int | None] = []

    def look(**kwargs: Any) -> steps.Captured:
        recalled.append(kwargs["recall"]())
        return captured(adopted=bool(recalled[-1]))

    monkeypatch.setattr(steps, "ensure_captured", look)
    monkeypatch.setattr(steps, "forget_claim", lambda **_: None)
    monkeypatch.setattr(steps, "prove_and_record", lambda **_: recorded())
    capture().execute(Pushed().context)
    capture().execute(Pushed(try_number=2).context)
    assert recalled == [None, 70]
    objects[REMEMBERED] = b"somebody wrote something else"
    capture().execute(Pushed(try_number=3).context)
    assert recalled[-1] is None, "the template's name still holds"
    after_wait(proves(), Pushed())
    assert objects == {}


def test_an_export_that_is_done_leaves_nothing_to_remember(
    monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes]
) -> None:
    done = captured(adopted=True).model_copy(update={"exported": True})
    monkeypatch.setattr(steps, "ensure_captured", lambda **_: done)
    assert capture().execute(Pushed().context)["exported"] is True
    assert objects == {}


def test_a_capture_that_waited_for_its_slot_does_not_ask_for_the_account_s_id(monkeypatch: pytest.MonkeyPatch) -> None:
    gates: list[Any] = []

    def look(**kwargs: Any) -> steps.Captured:
        gates.append(kwargs["gate"])
        return captured()

    def never() -> int:
        raise AssertionError("it is known already")

    monkeypatch.setattr(steps, "ensure_captured", look)
    monkeypatch.setattr(ServerAccess.classic.client, "account_id", never)
    event = {"status": "look-again", "root": "kept/offline-slots/307608"}
    capture().resume_execution("look_again", {"event": event}, Pushed().context)
    assert gates[0]._place.root == "kept/offline-slots/307608"


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
    assert trigger.deferred_by_worker is True
    assert json.loads(trigger.server) == SERVER
    assert json.loads(trigger.gate) == {"max_offline": 5, "slots": SLOTS}
    assert deferred.value.method_name == "look_again"
    assert "failure" not in pushed.values
    handed_on = capture().resume_execution("look_again", {"event": {"status": "look-again"}}, pushed.context)
    assert handed_on["template_id"] == 70


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

    pushed = Pushed()
    for name, begin in {
        "ensure_captured": lambda: capture().execute(pushed.context),
        "ensure_export_started": lambda: after_wait(starts_export(), pushed),
    }.items():
        monkeypatch.setattr(steps, name, uncertain)
        with pytest.raises(TaskDeferred) as deferred:
            begin()
        assert deferred.value.trigger.serialize()[1] == {"until": until.isoformat()}
        assert deferred.value.method_name == "look_again"
        assert "failure" not in pushed.values, "it uses up no try and is no failure"


@pytest.mark.parametrize("seen", [{"ended": ENDED}, {}], ids=["seen", "not seen"])
def test_an_open_outcome_comes_back_with_what_the_wait_saw(
    monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any]
) -> None:
    answers: list[Any] = [OutcomeOpen("The reply was lost.", until=datetime.now(UTC)), started()]

    def start(**_: Any) -> steps.ExportStarted:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(steps, "ensure_export_started", start)
    pushed = Pushed()
    with pytest.raises(TaskDeferred) as deferred:
        after_wait(starts_export(), pushed, **seen)
    kept = json.loads(json.dumps(deferred.value.kwargs))
    resumed = kept | {"event": {"status": "look-again"}}
    handed_on = starts_export().resume_execution(deferred.value.method_name, resumed, pushed.context)
    assert handed_on.get("ended") == seen.get("ended")
    assert handed_on["template_id"] == 70


@pytest.mark.parametrize("made", [starts_export, proves])
def test_a_wait_that_ended_badly_does_no_step(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    def never(**_: Any) -> Any:
        raise AssertionError("the template is not whole")

    monkeypatch.setattr(steps, "ensure_export_started", never)
    monkeypatch.setattr(steps, "prove_and_record", never)
    pushed = Pushed()
    with pytest.raises(WaitFailedForGood, match="It is empty"):
        after_wait(made(), pushed, status="failed", reason="zero-size", sentence="It is empty.")
    assert "It is empty" in pushed.values["failure"]["words"]


@pytest.mark.parametrize("made", [starts_export, proves])
def test_a_step_after_a_wait_that_fails_leaves_its_words_once(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    def refuse(**_: Any) -> Any:
        raise InputError("That cannot be.")

    monkeypatch.setattr(steps, "ensure_export_started", refuse)
    monkeypatch.setattr(steps, "prove_and_record", refuse)
    pushed = Pushed()
    with pytest.raises(InputError):
        after_wait(made(), pushed)
    assert pushed.values["failure"]["words"] == "That cannot be."
    assert pushed.pushes == ["failure"]


NAMES = {starts_export: "captured", proves: "started"}
HOSTNAME = json.loads(CAPTURED)["hostname"]


@pytest.mark.parametrize("made", [starts_export, proves])
def test_both_waits_go_on_in_a_worker_and_name_their_server_then(made: Any) -> None:
    sensor = made()
    assert sensor.start_from_trigger is True
    assert sensor.start_trigger_args.trigger_kwargs["resumes"] is True
    assert Template(sensor.map_index_template).render(task=sensor) == HOSTNAME
    assert Template(sensor.map_index_template).render(task=made(**{NAMES[made]: "null"})) == "", "none was handed on"


def started() -> steps.ExportStarted:
    return steps.ExportStarted(template_id=70, export_id=SERVER["export_id"], keys=["k"], adopted=False)


def test_an_export_that_is_done_leaves_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = captured(adopted=True).model_copy(update={"exported": True})
    monkeypatch.setattr(steps, "ensure_captured", lambda **_: done)
    handed_on = capture().execute(Pushed().context)
    assert (handed_on["template_id"], handed_on["exported"]) == (70, True)


def test_a_wave_of_a_dry_run_is_never_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReadWaveOperator, "wave", wave(dry_run=True))
    with pytest.raises(InputError, match="dry run"):
        ReadWaveOperator(task_id="read_wave").execute(Pushed().context)


@pytest.mark.parametrize(
    ("more", "window"),
    [
        ({}, None),
        ({"window": "Sat 22:00-04:00 UTC"}, "Sat 22:00-04:00 UTC"),
        ({"window": "Sat 22:00-04:00 UTC", "outside_window": "refuse"}, None),
    ],
    ids=["none", "waited for", "not waited for"],
)
def test_a_wave_s_captures_are_told_what_they_wait_for(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], window: str | None
) -> None:
    monkeypatch.setattr(WaveAccess, "wave", wave(max_offline=3, **more))
    pushed = Pushed()
    (server,) = ReadWaveOperator(task_id="read_wave").execute(pushed.context)
    assert server == stamped(SERVER)
    assert pushed.values == {"gate": stamped({"slots": SLOTS, "max_offline": 3, "window": window})}
    assert len(json.dumps(pushed.values)) < SMALL


def test_a_server_whose_template_is_only_adopted_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    past = wave()
    past.items[0] = past.items[0].model_copy(update={"adopt_only": True})
    monkeypatch.setattr(WaveAccess, "wave", past)
    (server,) = ReadWaveOperator(task_id="read_wave").execute(Pushed().context)
    assert server == stamped(SERVER) | {"adopts": True}


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


def test_a_refusal_leaves_its_words_and_its_rule_for_the_report(
    monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes]
) -> None:
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
    assert objects == {}


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
        return started()

    monkeypatch.setattr(steps, "ensure_export_started", start)
    pushed = Pushed()
    operator = starts_export()
    handed_on = after_wait(operator, pushed, ended=ENDED)
    assert seen["ibm_api_key"] == "key-of-the-export"
    assert seen["template_id"] == 70
    assert "key-of-the-export" not in json.dumps([handed_on, pushed.values, operator.found_links])
    assert handed_on["expected_keys"] == ["p/images/web-01-7/7-20260101T0000Z/disk-0.vhd"]
    assert handed_on["ended"] == ENDED, "when the template became whole is for the manifest"
    assert WaitTerms.model_validate(handed_on).submitted is True
    assert len(json.dumps(handed_on)) < SMALL


@pytest.mark.parametrize("nothing", ["null", "", "[]"])
@pytest.mark.parametrize("field", ["captured", "started"])
def test_a_step_without_what_was_waited_for_says_what_to_clear(nothing: str, field: str) -> None:
    pushed = Pushed()
    sensor: Any = (starts_export if field == "captured" else proves)(**{field: nothing})
    with pytest.raises(WaitFailedForGood, match="capture"):
        after_wait(sensor, pushed)
    assert "Clear" in pushed.values["failure"]["words"]


def test_a_proven_export_is_told_to_other_dags(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(steps, "prove_and_record", lambda **_: recorded())
    monkeypatch.setattr(steps, "forget_claim", lambda *, item, **_: forgotten.append(item.export_id))
    pushed = Pushed()
    operator = proves()
    handed_on = after_wait(operator, pushed)
    assert len(json.dumps(handed_on)) < SMALL
    assert handed_on["manifest_key"] == "p/manifests/7/x.json"
    assert forgotten == [SERVER["export_id"]]
    (event,) = pushed.outlet_events.values()
    assert event.extra == {
        "bucket": "images",
        "manifest_key": "p/manifests/7/x.json",
        "manifest_digest": "sha256:1",
        "export_id": "7-x",
    }
    assert operator.found_links["ManifestLink"].endswith("/images/p/manifests/7/x.json")


@pytest.mark.parametrize(
    ("told", "submitted", "ended"),
    [
        ({"ended": ENDED, "submitted": True}, True, True),
        ({"submitted": True}, True, False),
        ({"ended": ENDED}, False, True),
        ({"ended": "strange"}, False, False),
    ],
    ids=["all seen", "not timed", "found", "strange"],
)
def test_what_the_waits_saw_goes_into_the_manifest(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], submitted: bool, ended: bool
) -> None:
    seen: dict[str, Any] = {}

    def prove(**kwargs: Any) -> steps.Recorded:
        seen.update(kwargs)
        return steps.Recorded(
            manifest_key="m",
            manifest_digest="sha256:1",
            export_id=SERVER["export_id"],
            proof_level="L1",
            disks=1,
            bytes=9,
            already=False,
        )

    monkeypatch.setattr(steps, "prove_and_record", prove)
    monkeypatch.setattr(steps, "forget_claim", lambda **_: None)
    after_wait(proves(started=json.dumps(json.loads(CAPTURED) | told)), Pushed())
    assert seen["template_id"] == 70
    assert seen.get("submitted_at") == (WaitTerms.model_validate_json(CAPTURED).started_at if submitted else None)
    assert ("template_ended" in seen) is ended
    if ended:
        assert seen["template_ended"].model_dump(mode="json") == ENDED


def test_an_error_of_the_api_keeps_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> steps.Captured:
        raise ClassicAuthError("Invalid API token.", call="SoftLayer_Account::getObject", status=401)

    monkeypatch.setattr(steps, "ensure_captured", fail)
    pushed = Pushed()
    with pytest.raises(ClassicAuthError):
        capture().execute(pushed.context)
    assert "Invalid API token." in pushed.values["failure"]["words"]
