"""What a plan of thousands of servers costs: calls, and bytes in the bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sealift.exports import names
from sealift.exports.plan import Limits, Outcome, Plan, keep_plan, kept_plan, plan_body, read_plan, write_plan
from sealift.exports.report import make_run_report

SERVERS = 2500


@pytest.fixture(scope="module")
def account(make_classic: Any, make_guest: Callable[..., Any], make_template: Callable[..., Any]) -> Any:
    """Many servers, and the templates of two earlier slots of each."""
    classic = make_classic(guests=[make_guest(one, data_disks=1) for one in range(10_001, 10_001 + SERVERS)])
    plain = make_template()
    for slot, period in enumerate(("20261109T0200Z", "20261116T0200Z")):
        for number, guest in enumerate(classic.guests):
            id_ = 10**6 * (slot + 1) + number
            name = names.template_name(names.export_id(guest_id=guest, period=period))
            classic.templates[id_] = plain.model_copy(update={"id": id_, "name": name})
    return classic


@pytest.fixture
def plan(account: Any, plan_of: Callable[..., Plan]) -> Plan:
    account.calls.clear()
    return plan_of(account)


def test_only_the_templates_of_the_period_are_asked_for(plan: Plan, account: Any, period: str) -> None:
    assert len(plan.items_with(Outcome.EXPORT)) == SERVERS
    assert account.calls == [("templates_ending", f"-{period}")]


def test_an_item_costs_less_than_a_kilobyte_and_comes_back_as_it_was(plan: Plan, cos: Any) -> None:
    write_plan(cos, plan)
    body = cos.objects["nightly/plans/plan-1.json"][0]

    assert len(body) / SERVERS < 1000
    assert b"null" not in body.split(b'"items":', 1)[1]
    assert read_plan(cos, bucket="sealift-exports", key="nightly/plans/plan-1.json") == plan
    assert plan_body(plan) == body, "what is read back is written as it was"


def test_the_slices_are_written_once_and_found_by_one_listing(plan: Plan, cos: Any) -> None:
    keep_plan(cos, plan)
    assert len(cos.writes) == 1 + len(plan.waves) == 1 + SERVERS // 20
    assert sorted(set(cos.writes)) == sorted(cos.writes)
    missing = names.wave_key(prefix="nightly", plan_id="plan-1", number=77)
    kept = cos.objects.pop(missing)
    cos.writes.clear()
    cos.pages.clear()

    found = kept_plan(cos, bucket="sealift-exports", prefix="nightly", plan_id="plan-1")

    assert found == plan
    assert cos.writes == [missing]
    assert cos.objects[missing][0] == kept[0]
    assert cos.pages == ["nightly/plans/plan-1/wave-"]
    assert kept_plan(cos, bucket="sealift-exports", prefix="nightly", plan_id="other") is None


def test_a_finished_slot_costs_one_listing_and_no_capture(
    account: Any, plan_of: Callable[..., Plan], cos: Any, period: str, now: Any
) -> None:
    for guest in account.guests:
        cos.store(names.manifest_key(prefix="nightly", guest_id=guest, period=period), b"{}")
    account.calls.clear()

    plan = plan_of(account)

    assert plan.waves == []
    assert {item.outcome for item in plan.items} == {Outcome.ALREADY_EXPORTED}
    assert account.calls == [], "no template was asked for"
    assert cos.pages == ["nightly/manifests/"] * 3 + ["nightly/retention/removing/"]
    assert (cos.heads, cos.reads) == (0, [])
    assert len(plan_body(plan)) / SERVERS < 400

    cos.pages.clear()
    report = make_run_report(cos=cos, plan=plan, waves={}, now=now)

    assert report.summary == f"0 exported, 0 disks proven, {SERVERS} already exported, 0 not exportable, 0 failed"
    assert cos.pages == ["nightly/manifests/"] * 3 + ["nightly/retention/removing/"]
    assert (cos.heads, cos.reads) == (0, [])


def test_the_deployment_s_cap_bounds_the_waves_as_well(
    account: Any, plan_of: Callable[..., Plan], make_settings: Callable[..., Any]
) -> None:
    assert len(plan_of(account, max_offline=40).waves) == -(-SERVERS // 80)
    assert len(plan_of(account, max_offline=40, limits=Limits(max_offline=15)).waves) == -(-SERVERS // 30)
    assert len(plan_of(account, limits=Limits(waves_at_most=50)).waves) == 50
    assert len(plan_of(account, wave_size=100).waves) == 25


def test_settings_stand_in_a_slice_once(plan: Plan) -> None:
    slice_ = json.loads(plan_body(plan.slice(0)))
    assert slice_["settings"]["max_offline"] == 5
    assert set(slice_["items"][0]) == {
        "guest_id",
        "hostname",
        "domain",
        "datacenter",
        "power_state",
        "export_id",
        "images",
        "outcome",
        "disks",
        "left_out",
        "capacity_bytes",
        "capture_deadline_seconds",
        "export_deadline_seconds",
    }
