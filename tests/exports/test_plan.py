"""Plans are data: every selected server stands in one, waves cut it, and the bucket gives it back as it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.cos.errors import CosRegionError
from sealift.exports import names
from sealift.exports.errors import PlanError, SelectionError, SettingsError
from sealift.exports.plan import Outcome, Plan, make_plan, plan_summary, read_plan, read_wave, write_plan
from sealift.exports.selection import Selection

PLAN_KEY = "nightly/plans/plan-1.json"


def test_a_plan_holds_every_selected_server_once(
    make_guest: Callable[..., Any],
    make_bare_metal: Callable[..., Any],
    make_transaction: Callable[..., Any],
    make_classic: Any,
    plan_of: Callable[..., Plan],
    cos: Any,
    period: str,
    now: Any,
) -> None:
    classic = make_classic(
        guests=[
            make_guest(3),
            make_guest(1),
            make_guest(2, activeTransaction=make_transaction()),
            make_guest(4),
        ],
        bare_metal=[make_bare_metal(9)],
    )
    cos.store(f"nightly/manifests/4/{period}.json", b"{}")

    plan = plan_of(classic, {"all": True, "ids": [8], "ignore_unknown_ids": True}, wave_size=1)

    assert [(item.guest_id, item.outcome) for item in plan.items] == [
        (1, Outcome.EXPORT),
        (2, Outcome.NOT_EXPORTABLE),
        (3, Outcome.EXPORT),
        (4, Outcome.ALREADY_EXPORTED),
    ]
    assert [(one.hardware_id, one.findings[0].rule, one.inventory) for one in plan.bare_metal] == [
        (9, "bare-metal", {"memoryCapacity": 64})
    ]
    assert "customer-managed" in plan.bare_metal[0].findings[0].sentence
    assert plan.unknown_ids == [8]
    assert [(wave.number, wave.guest_ids) for wave in plan.waves] == [(0, [1]), (1, [3])]
    assert plan.created_at == now
    assert plan_summary(plan) == {"export": 2, "already_exported": 1, "not_exportable": 3, "disks": 2, "waves": 2}
    item = plan.items[0]
    assert item.export_id == f"1-{period}"
    assert item.period == period
    assert item.template_name == f"sealift-1-{period}"
    assert item.disk_keys == [f"nightly/images/web1-1/1-{period}/disk-0.vhd"]
    assert classic.count("capture") == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 40), size=st.integers(1, 100))
def test_waves_hold_each_exported_server_once_and_are_no_larger_than_asked(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan], count: int, size: int
) -> None:
    classic = make_classic(guests=[make_guest(n) for n in range(1, count + 2)])

    plan = plan_of(classic, wave_size=size)

    assert [one for wave in plan.waves for one in wave.guest_ids] == list(range(1, count + 2))
    assert all(1 <= len(wave.guest_ids) <= size for wave in plan.waves)
    assert [wave.number for wave in plan.waves] == list(range(len(plan.waves)))


def test_a_plan_and_its_waves_come_back_from_the_bucket(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan], cos: Any
) -> None:
    plan = plan_of(
        make_classic(guests=[make_guest(1), make_guest(2), make_guest(3)]),
        wave_size=2,
        window="Mon-Fri 22:00-06:00 Europe/Berlin",
    )

    keys = write_plan(cos, plan)

    assert keys == ["nightly/plans/plan-1/wave-0000.json", "nightly/plans/plan-1/wave-0001.json"]
    assert read_plan(cos, bucket="sealift-exports", key=PLAN_KEY) == plan
    waves = [read_wave(cos, bucket="sealift-exports", key=key) for key in keys]
    assert waves == [plan.slice(0), plan.slice(1)]
    assert [item for wave in waves for item in wave.items] == plan.items
    assert waves[1].item(3) == plan.items[2]
    with pytest.raises(PlanError, match="holds no virtual server 1"):
        waves[1].item(1)


def test_the_first_plan_of_a_run_stays(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan], cos: Any
) -> None:
    first = plan_of(make_classic(guests=[make_guest(1)]))
    keys = write_plan(cos, first)
    written = list(cos.writes)

    assert write_plan(cos, first) == keys
    assert write_plan(cos, plan_of(make_classic(guests=[make_guest(1), make_guest(2)]), wave_size=1)) == keys
    assert cos.writes == written
    assert read_plan(cos, bucket="sealift-exports", key=PLAN_KEY) == first


def test_a_half_written_plan_is_finished_by_the_next_try(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan], cos: Any
) -> None:
    first = plan_of(make_classic(guests=[make_guest(1), make_guest(2)]), wave_size=1)
    keys = write_plan(cos, first)
    del cos.objects[keys[1]]

    later = first.model_copy(update={"created_at": first.created_at + timedelta(minutes=5)})

    assert write_plan(cos, later) == keys
    assert read_wave(cos, bucket="sealift-exports", key=keys[1]) == first.slice(1)


def test_foreign_files_at_a_plans_keys_are_refused(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan], cos: Any
) -> None:
    with pytest.raises(PlanError, match=f"no plan at sealift-exports/{PLAN_KEY}"):
        read_plan(cos, bucket="sealift-exports", key=PLAN_KEY)
    cos.store("nightly/plans/plan-1/wave-0000.json", b"{}")
    plan = plan_of(make_classic(guests=[make_guest(1)]))
    with pytest.raises(PlanError, match="does not belong to the plan"):
        write_plan(cos, plan)
    with pytest.raises(PlanError, match="is not a plan that this version"):
        read_wave(cos, bucket="sealift-exports", key="nightly/plans/plan-1/wave-0000.json")


def test_the_bucket_is_checked_before_anything_else(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan], cos: Any
) -> None:
    classic = make_classic(guests=[make_guest(1)])
    plan_of(classic, bucket_create=True)
    assert cos.preflights == [{"bucket": "sealift-exports", "region": "us-south", "prefix": "nightly", "create": True}]

    def elsewhere(**_: Any) -> None:
        raise CosRegionError("The bucket sealift-exports is in eu-de, not in us-south.", bucket="sealift-exports")

    cos.preflight = elsewhere
    classic.filters.clear()
    with pytest.raises(CosRegionError, match="eu-de"):
        plan_of(classic)
    assert classic.filters == []


def test_bad_input_ends_before_the_plan(
    make_guest: Callable[..., Any], make_classic: Any, make_settings: Callable[..., Any], cos: Any, now: Any
) -> None:
    def plan(**changes: Any) -> Plan:
        given = {"selection": Selection(all=True), "period": "20261123T0200Z", "plan_id": "p", **changes}
        return make_plan(
            settings=make_settings(), classic=make_classic(guests=[make_guest(1)]), cos=cos, now=now, **given
        )

    with pytest.raises(SelectionError, match="selection is empty"):
        plan(selection=Selection())
    with pytest.raises(SettingsError, match="period"):
        plan(period="a b")
    assert plan().plan_id == "p"


def test_the_inventory_of_a_bare_metal_server_loses_the_notes_that_speak_of_secrets(
    make_bare_metal: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan]
) -> None:
    metal = make_bare_metal(9, inventory={"memoryCapacity": 64, "notes": "rack 7\nroot password: PLANTED"})

    plan = plan_of(make_classic(bare_metal=[metal]))

    assert plan.items == []
    assert plan.bare_metal[0].inventory == {
        "memoryCapacity": 64,
        "notes": "rack 7\n[left out: looks like a secret]",
    }


def test_a_past_slot_adopts_what_was_captured_then_and_skips_the_rest_with_the_reason(
    make_guest: Callable[..., Any],
    make_classic: Any,
    make_transaction: Callable[..., Any],
    plan_of: Callable[..., Plan],
    period: str,
) -> None:
    classic = make_classic(guests=[make_guest(1), make_guest(2)])
    classic.add_template(f"sealift-1-{period}")

    plan = plan_of(classic, past_slot=True)

    assert [(item.outcome, item.adopt_only) for item in plan.items] == [
        (Outcome.EXPORT, True),
        (Outcome.NOT_EXPORTABLE, True),
    ]
    assert [one.rule for one in plan.items[1].refusals] == ["past-slot"]
    classic.guests[2] = make_guest(2, activeTransaction=make_transaction())
    busy = plan_of(classic, past_slot=True).items[1]
    assert [one.rule for one in busy.refusals] == ["past-slot"], "that it is busy now does not matter to that slot"
    classic.guests[2] = make_guest(2)
    told = plan_of(classic, past_slot=True, capture_now=True)
    assert [(item.outcome, item.adopt_only) for item in told.items] == [(Outcome.EXPORT, False)] * 2


def test_another_format_is_marked_for_conversion(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan]
) -> None:
    plan = plan_of(make_classic(guests=[make_guest(1)]), format="vmdk")

    assert plan.items[0].conversion == "vmdk"
    assert plan.items[0].outcome is Outcome.EXPORT
    assert [(one.rule, one.severity) for one in plan.items[0].findings if one.rule == "conversion"] == [
        ("conversion", "info")
    ]
    assert plan_of(make_classic(guests=[make_guest(1)])).items[0].conversion is None


def test_a_large_account_asks_the_ledger_once_not_server_by_server(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan], cos: Any, period: str
) -> None:
    cos.store(names.manifest_key(prefix="nightly", guest_id=250, period=period), b"{}")
    cos.store(names.manifest_key(prefix="nightly", guest_id=249, period="20250101T0000Z"), b"{}")

    plan = plan_of(make_classic(guests=[make_guest(n) for n in range(1, 301)]))

    assert [item.guest_id for item in plan.items if item.outcome is Outcome.ALREADY_EXPORTED] == [250]
    assert cos.heads == 0


def test_deadlines_grow_with_the_disks_unless_the_settings_say_otherwise(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan]
) -> None:
    small = plan_of(make_classic(guests=[make_guest(1)]))
    large = plan_of(make_classic(guests=[make_guest(1, capacity=1000)]))
    told = plan_of(make_classic(guests=[make_guest(1)]), capture_deadline_minutes=7, export_deadline_minutes=8)

    assert small.items[0].capture_deadline(small.settings) == timedelta(hours=4)
    assert small.items[0].export_deadline(small.settings) == timedelta(hours=6)
    assert large.items[0].capture_deadline(large.settings) == timedelta(hours=1, seconds=100_000)
    assert told.items[0].capture_deadline(told.settings) == timedelta(minutes=7)
    assert told.items[0].export_deadline(told.settings) == timedelta(minutes=8)
