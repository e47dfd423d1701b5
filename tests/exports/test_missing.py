"""What is missing, slot by slot: what was captured is adopted, the present is captured, the rest is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sealift.exports import names
from sealift.exports.errors import SettingsError
from sealift.exports.missing import SLOTS_AT_MOST, make_missing
from sealift.exports.plan import Outcome, Plan, keep_plan, read_wave
from sealift.exports.report import OutcomeKind, make_run_report, make_wave_report
from sealift.exports.selection import Selection

OLD, OLDER, NEWEST = "20261116T0200Z", "20261109T0200Z", "20261123T0200Z"
RUN = "manual-run-00000000"

Missing = Callable[..., Plan]


@pytest.fixture
def account(make_guest: Callable[..., Any], make_classic: Any) -> Any:
    return make_classic(guests=[make_guest(one) for one in (1, 2, 3)])


@pytest.fixture
def missing(account: Any, cos: Any, make_settings: Callable[..., Any], now: Any) -> Missing:
    def make(*slots: str, present: str | None = NEWEST, **changes: Any) -> Plan:
        return make_missing(
            settings=make_settings(**changes),
            selection=Selection.from_params({"all": True}),
            classic=account,
            cos=cos,
            plan_id="plan-1",
            slots=slots,
            present=present,
            run_period=RUN,
            now=now,
        )

    return make


def exported(cos: Any, guest_id: int, period: str, at: datetime | None = None) -> None:
    cos.store(names.manifest_key(prefix="nightly", guest_id=guest_id, period=period), b"{}", at=at)


def told(plan: Plan) -> list[tuple[str, str, bool]]:
    return [(item.export_id, item.outcome.value, item.adopt_only) for item in plan.items]


def test_past_slots_are_adopted_or_named_and_the_newest_is_captured(missing: Missing, account: Any, cos: Any) -> None:
    exported(cos, 1, OLD)
    exported(cos, 1, NEWEST)
    exported(cos, 2, OLDER)
    account.add_template(f"sealift-2-{OLD}")
    account.add_template(f"sealift-3-{NEWEST}")

    plan = missing(OLDER, OLD, NEWEST)

    assert told(plan) == [
        (f"1-{NEWEST}", "already exported", False),
        (f"2-{OLD}", "export", True),
        (f"2-{NEWEST}", "export", False),
        (f"3-{NEWEST}", "export", False),
    ]
    assert [(one.period, one.guest_ids) for one in plan.missed] == [(OLDER, [1, 3]), (OLD, [3])]
    assert "Slot 20261109T0200Z: 2 servers were not captured in it, and cannot be any more" in plan.missed[0].sentence
    assert [(wave.number, wave.period, wave.guest_ids) for wave in plan.waves] == [(0, OLD, [2]), (1, None, [2, 3])]


def test_a_wave_holds_one_period_so_that_a_server_stands_in_it_once(
    missing: Missing, account: Any, cos: Any, now: Any
) -> None:
    account.add_template(f"sealift-2-{OLD}")
    plan = keep_plan(cos, missing(OLD))

    waves = [
        read_wave(cos, bucket="sealift-exports", key=f"nightly/plans/plan-1/wave-000{number}.json") for number in (0, 1)
    ]

    assert [wave.period for wave in waves] == [OLD, NEWEST]
    assert waves[0].item(2).export_id == f"2-{OLD}"
    assert waves[1].item(2).export_id == f"2-{NEWEST}"
    reports = {
        number: make_wave_report(cos=cos, wave=wave, failures={}, run_id="w", now=now)
        for number, wave in enumerate(waves)
    }
    report = make_run_report(cos=cos, plan=plan, waves=reports, now=now)
    assert [(one.export_id, one.kind) for one in report.outcomes] == [
        (f"1-{NEWEST}", OutcomeKind.FAILED),
        (f"2-{OLD}", OutcomeKind.FAILED),
        (f"2-{NEWEST}", OutcomeKind.FAILED),
        (f"3-{NEWEST}", OutcomeKind.FAILED),
    ]
    assert any("Slot 20261116T0200Z: 2 servers" in note for note in report.notes)


def test_without_a_schedule_only_what_was_never_exported_is_captured(missing: Missing, cos: Any, account: Any) -> None:
    exported(cos, 1, "manual-b", at=datetime(2026, 11, 1, tzinfo=UTC))
    exported(cos, 1, "manual-a", at=datetime(2026, 11, 2, tzinfo=UTC))
    account.add_template(f"sealift-2-{OLD}")

    plan = missing(OLD, present=None)

    assert told(plan) == [
        ("1-manual-a", "already exported", False),
        (f"2-{OLD}", "export", True),
        (f"2-{RUN}", "export", False),
        (f"3-{RUN}", "export", False),
    ]
    assert (plan.period, plan.missed[0].guest_ids) == (RUN, [1, 3])


def test_a_server_is_not_missing_from_slots_before_it_was_made(
    missing: Missing, account: Any, make_guest: Callable[..., Any]
) -> None:
    account.guests[3] = make_guest(3, createDate="2026-11-20T00:00:00+00:00")
    assert missing(OLD).missed[0].guest_ids == [1, 2]


def test_where_nothing_is_missing_the_ledger_is_listed_once_and_nothing_else_is_asked(
    missing: Missing, account: Any, cos: Any, now: Any
) -> None:
    for guest in (1, 2, 3):
        for period in (OLD, NEWEST):
            exported(cos, guest, period)

    plan = missing(OLD)

    assert plan.waves == []
    assert account.calls == []
    assert (cos.pages, cos.heads, cos.reads) == (["nightly/manifests/", "nightly/retention/removing/"], 0, [])
    assert make_run_report(cos=cos, plan=plan, waves={}, now=now).count(OutcomeKind.ALREADY_EXPORTED) == 3


def test_only_slots_in_which_something_is_missing_cost_a_call(missing: Missing, account: Any, cos: Any) -> None:
    for guest in (1, 2, 3):
        exported(cos, guest, OLD)
    missing(OLDER, OLD)
    assert account.calls == [("templates_ending", f"-{OLDER}"), ("templates_ending", f"-{NEWEST}")]


def test_capturing_now_and_too_many_slots_are_refused(missing: Missing) -> None:
    with pytest.raises(SettingsError, match="capture_now does not go with only=missing"):
        missing(OLD, capture_now=True)
    with pytest.raises(SettingsError, match=f"401 past slots are asked for, and one run takes {SLOTS_AT_MOST}"):
        missing(*(f"2026{day:03d}" for day in range(SLOTS_AT_MOST + 1)))


def test_a_rule_that_refuses_holds_for_an_adopted_slot_as_well(missing: Missing, account: Any) -> None:
    account.add_template(f"sealift-1-{OLD}")
    item = missing(OLD, prefix="/".join(["a" * 200] * 5)).items[0]
    assert (item.export_id, item.outcome) == (f"1-{OLD}", Outcome.NOT_EXPORTABLE)
