"""Reports count from the bucket, and every selected server stands in exactly one outcome."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sealift.exports import names
from sealift.exports.errors import PlanError
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest
from sealift.exports.plan import Plan, write_plan
from sealift.exports.report import (
    OutcomeKind,
    RunReport,
    TaskFailure,
    WaveReport,
    make_run_report,
    make_wave_report,
    read_run_report,
    read_wave_reports,
    write_run_report,
    write_wave_report,
)


@pytest.fixture
def finish(cos: Any, now: Any) -> Callable[..., None]:
    """Put the manifest of one server of a plan into the bucket."""

    def write(plan: Plan, guest_id: int, disks: int = 1) -> None:
        item = next(one for one in plan.items if one.guest_id == guest_id)
        manifest = {
            "export_id": item.export_id,
            "period": plan.period,
            "guest": {"id": guest_id, "hostname": item.hostname},
            "template": {"id": guest_id + 900, "name": item.template_name},
            "captured_at": now,
            "exported_at": now + timedelta(minutes=3),
            "proven_at": now + timedelta(minutes=4),
            "bucket": "sealift-exports",
            "region": "us-south",
            "format": "vhd",
            "proof_level": "L1",
            "disks": [
                {
                    "index": n,
                    "device": str(n),
                    "key": f"k{n}",
                    "size": 10**6,
                    "virtual_size": 10**9,
                    "capacity": 1,
                    "units": "GB",
                    "format": "vhd-dynamic",
                    "etag": "e",
                    "uploaded_at": now,
                    "footer_uuid": "u",
                    "creator": "c",
                    "partition_table": "mbr",
                    "proof_level": "L1",
                    "checks": [],
                    "proof_bytes_read": 1,
                    "proof_requests": 1,
                }
                for n in range(disks)
            ],
            "record": {"key": "r", "size": 2, "digest": "sha256:" + "0" * 64},
            "run": {"dag_id": "d", "run_id": "r", "try_number": 1, "sealift_version": "0"},
        }
        key = names.manifest_key(prefix=plan.settings.prefix, guest_id=guest_id, period=plan.period)
        cos.store(key, canonical_json(Manifest.model_validate(manifest)))

    return write


@pytest.fixture
def plan(
    make_guest: Callable[..., Any],
    make_bare_metal: Callable[..., Any],
    make_transaction: Callable[..., Any],
    make_classic: Any,
    plan_of: Callable[..., Plan],
    cos: Any,
    period: str,
) -> Plan:
    cos.store(f"nightly/manifests/5/{period}.json", b"{}")
    classic = make_classic(
        guests=[
            make_guest(1),
            make_guest(2),
            make_guest(3),
            make_guest(4, activeTransaction=make_transaction()),
            make_guest(5),
        ],
        bare_metal=[make_bare_metal(1)],
    )
    return plan_of(classic, {"all": True, "ids": [8], "ignore_unknown_ids": True}, wave_size=2)


def test_every_selected_server_ends_in_one_of_four_outcomes(
    plan: Plan, finish: Callable[..., None], cos: Any, now: Any
) -> None:
    for guest_id, disks in ((1, 3), (3, 1), (5, 1)):
        finish(plan, guest_id, disks)
    failures = {2: TaskFailure(task="capture", words="There is currently an active transaction.")}
    waves = {
        number: make_wave_report(cos=cos, wave=plan.slice(number), failures=failures, run_id=f"w{number}", now=now)
        for number in (0, 1)
    }

    report = make_run_report(cos=cos, plan=plan, waves=waves, now=now)

    assert [(one.server, one.id, one.kind) for one in report.outcomes] == [
        ("virtual", 1, OutcomeKind.EXPORTED),
        ("virtual", 2, OutcomeKind.FAILED),
        ("virtual", 3, OutcomeKind.EXPORTED),
        ("virtual", 4, OutcomeKind.NOT_EXPORTABLE),
        ("virtual", 5, OutcomeKind.ALREADY_EXPORTED),
        ("bare metal", 1, OutcomeKind.NOT_EXPORTABLE),
        ("unknown", 8, OutcomeKind.NOT_EXPORTABLE),
    ]
    exported, failed, _, refused, _, metal, unknown = report.outcomes
    assert (exported.template_id, exported.disks, exported.bytes, exported.proof_level) == (901, 3, 3 * 10**6, "L1")
    assert exported.seconds == 240
    assert exported.manifest_key == f"nightly/manifests/1/{plan.period}.json"
    assert (failed.task, failed.words) == ("capture", "There is currently an active transaction.")
    assert (refused.rule, metal.rule, unknown.rule) == ("active-transaction", "bare-metal", "unknown-server")
    assert "transaction 7" in str(refused.words)
    assert report.summary == "2 exported, 4 disks proven, 1 already exported, 3 not exportable, 1 failed"
    assert [one.id for one in report.failed] == [2]


def test_a_summary_without_earlier_exports_does_not_speak_of_them(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan], cos: Any, now: Any, finish: Any
) -> None:
    plan = plan_of(make_classic(guests=[make_guest(1)]))
    finish(plan, 1)

    assert (
        make_run_report(cos=cos, plan=plan, waves={}, now=now).summary
        == "1 exported, 1 disks proven, 0 not exportable, 0 failed"
    )


def test_a_failed_task_of_a_server_with_manifest_does_not_count(
    plan: Plan, finish: Callable[..., None], cos: Any, now: Any
) -> None:
    finish(plan, 1)
    failures = {1: TaskFailure(task="capture", words="cleared"), 2: TaskFailure(task="capture", words="no", rule="x")}

    report = make_wave_report(cos=cos, wave=plan.slice(0), failures=failures, run_id="w", now=now)

    assert [(one.kind, one.rule) for one in report.outcomes] == [
        (OutcomeKind.EXPORTED, None),
        (OutcomeKind.NOT_EXPORTABLE, "x"),
    ]
    assert report.failed == []


def test_a_server_without_manifest_and_without_failure_has_failed(plan: Plan, cos: Any, now: Any) -> None:
    report = make_wave_report(cos=cos, wave=plan.slice(0), failures={}, run_id="w", now=now)

    assert [one.kind for one in report.outcomes] == [OutcomeKind.FAILED] * 2
    assert "there is no manifest" in str(report.outcomes[0].words)


def test_a_wave_without_report_is_looked_up_in_the_bucket(
    plan: Plan, finish: Callable[..., None], cos: Any, now: Any
) -> None:
    finish(plan, 2)
    finish(plan, 5)

    report = make_run_report(cos=cos, plan=plan, waves={}, now=now)

    kinds = {one.id: one.kind for one in report.outcomes if one.server == "virtual"}
    assert kinds[1] is OutcomeKind.FAILED
    assert kinds[2] is OutcomeKind.EXPORTED
    assert "plan-1.wave-0000" in str(next(one.words for one in report.outcomes if one.id == 1))


def test_a_server_that_was_exported_after_its_wave_s_report_counts_as_exported(
    plan: Plan, finish: Callable[..., None], cos: Any, now: Any
) -> None:
    failures = {guest_id: TaskFailure(task="wait_for_template", words="x") for guest_id in (1, 2)}
    wave = make_wave_report(cos=cos, wave=plan.slice(0), failures=failures, run_id="w", now=now)
    assert {one.kind for one in wave.outcomes} == {OutcomeKind.FAILED}
    finish(plan, 1)
    finish(plan, 5)

    report = make_run_report(cos=cos, plan=plan, waves={0: wave}, now=now)

    kinds = {one.id: one.kind for one in report.outcomes if one.server == "virtual"}
    assert (kinds[1], kinds[2]) == (OutcomeKind.EXPORTED, OutcomeKind.FAILED)


def test_a_manifest_that_is_gone_since_the_plan_is_a_failure(plan: Plan, cos: Any, now: Any) -> None:
    del cos.objects[f"nightly/manifests/5/{plan.period}.json"]

    report = make_run_report(cos=cos, plan=plan, waves={}, now=now)

    assert {one.id: one.kind for one in report.outcomes if one.server == "virtual"}[5] is OutcomeKind.FAILED


def test_reports_come_back_from_the_bucket_and_are_replaced_by_later_ones(
    plan: Plan, finish: Callable[..., None], cos: Any, now: Any
) -> None:
    write_plan(cos, plan)
    finish(plan, 5)
    first = make_wave_report(cos=cos, wave=plan.slice(0), failures={}, run_id="w", now=now)
    key = write_wave_report(cos, first, bucket="sealift-exports", prefix="nightly")
    finish(plan, 1)
    second = make_wave_report(cos=cos, wave=plan.slice(0), failures={}, run_id="w", now=now)
    write_wave_report(cos, second, bucket="sealift-exports", prefix="nightly")

    assert key == "nightly/plans/plan-1/wave-0000.report.json"
    assert read_wave_reports(cos, plan) == {0: second}
    report = make_run_report(cos=cos, plan=plan, waves=read_wave_reports(cos, plan), now=now)
    key = write_run_report(cos, report, prefix="nightly")
    assert key == "nightly/plans/plan-1/report.json"
    assert read_run_report(cos, bucket="sealift-exports", key=key) == report
    assert read_run_report(cos, bucket="sealift-exports", key="none") is None
    cos.store(key, b"{}")
    with pytest.raises(PlanError, match="is not a report"):
        read_run_report(cos, bucket="sealift-exports", key=key)


def test_a_report_that_would_lose_or_repeat_a_server_is_refused(
    plan: Plan, finish: Callable[..., None], cos: Any, now: Any
) -> None:
    finish(plan, 5)
    wave = make_wave_report(cos=cos, wave=plan.slice(0), failures={}, run_id="w", now=now)
    lossy = WaveReport.model_validate({**wave.model_dump(), "outcomes": wave.outcomes[:1]})
    with pytest.raises(PlanError, match="does not hold the servers"):
        make_run_report(cos=cos, plan=plan, waves={0: lossy}, now=now)

    report = make_run_report(cos=cos, plan=plan, waves={0: wave}, now=now)
    with pytest.raises(ValidationError, match="more than once: virtual 1"):
        RunReport.model_validate({**report.model_dump(), "outcomes": [*report.outcomes, report.outcomes[0]]})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fates=st.lists(st.sampled_from(["done", "failed", "ended", "refused"]), min_size=1, max_size=12),
    size=st.integers(1, 5),
)
def test_whatever_becomes_of_the_servers_each_is_counted_once(
    make_guest: Callable[..., Any],
    make_classic: Any,
    plan_of: Callable[..., Plan],
    finish: Callable[..., None],
    cos: Any,
    now: Any,
    fates: list[str],
    size: int,
) -> None:
    cos.objects.clear()
    plan = plan_of(make_classic(guests=[make_guest(n + 1) for n in range(len(fates))]), wave_size=size)
    failures = {}
    for number, fate in enumerate(fates, start=1):
        if fate == "done":
            finish(plan, number)
        elif fate != "ended":
            failures[number] = TaskFailure(task="t", words="w", rule="r" if fate == "refused" else None)
    waves = {
        wave.number: make_wave_report(cos=cos, wave=plan.slice(wave.number), failures=failures, run_id="w", now=now)
        for wave in plan.waves
        if wave.number % 2 == 0  # the others left no report
    }

    report = make_run_report(cos=cos, plan=plan, waves=waves, now=now)

    assert [one.id for one in report.outcomes] == list(range(1, len(fates) + 1))
    assert sum(report.count(kind) for kind in OutcomeKind) == len(fates)
    assert report.count(OutcomeKind.EXPORTED) == fates.count("done")
