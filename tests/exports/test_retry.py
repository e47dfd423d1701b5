"""Trying the failed again: just those servers, under their own export ids, with a plan that says whose they were."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sealift.exports import names
from sealift.exports.errors import InputError, SelectionError
from sealift.exports.plan import Outcome, Plan, read_wave, write_plan
from sealift.exports.report import (
    TaskFailure,
    make_run_report,
    make_wave_report,
    write_run_report,
    write_wave_report,
)
from sealift.exports.retry import failed_items, find_first, make_retry, settings_like
from sealift.exports.selection import Selection

from .test_report import finish

__all__ = ["finish"]

FAILURE = TaskFailure(task="wait_for_export", words="objects-missing")


@pytest.fixture
def account(make_guest: Callable[..., Any], make_classic: Any) -> Any:
    return make_classic(guests=[make_guest(one) for one in (1, 2, 3, 4)])


@pytest.fixture
def first(account: Any, plan_of: Callable[..., Plan], cos: Any, finish: Callable[..., None], now: Any) -> Plan:
    """A plan in which 1 was exported, 2 was refused at its capture, 3 and 4 failed; 3 has a template by then."""
    plan = plan_of(account, wave_size=2)
    write_plan(cos, plan)
    finish(plan, 1)
    account.add_template(plan.items[2].template_name)
    refused = TaskFailure(task="capture", words="closed", rule="window-closed")
    reports = {}
    for number in (0, 1):
        failures = {2: refused, 3: FAILURE, 4: FAILURE}
        report = make_wave_report(cos=cos, wave=plan.slice(number), failures=failures, run_id="w", now=now)
        write_wave_report(cos, report, bucket="sealift-exports", prefix="nightly")
        reports[number] = report
    write_run_report(cos, make_run_report(cos=cos, plan=plan, waves=reports, now=now), prefix="nightly")
    return plan


Retry = Callable[..., Plan]


@pytest.fixture
def retry(account: Any, first: Plan, cos: Any, make_settings: Callable[..., Any], now: Any) -> Retry:
    def make(selection: dict[str, Any] | None = None, *, plan_id: str = "plan-2", **changes: Any) -> Plan:
        given = {name: changes.pop(name) for name in ("is_past", "first") if name in changes}
        of = given.get("first", first)
        return make_retry(
            **{
                "first": first,
                "failed": failed_items(cos, of),
                "settings": settings_like(of, make_settings(**changes)),
                "selection": Selection.from_params(selection, may_be_empty=True),
                "classic": account,
                "cos": cos,
                "plan_id": plan_id,
                "now": now,
                **given,
            }
        )

    return make


def test_just_the_failed_are_planned_under_their_own_export_ids_and_keys(
    retry: Retry, first: Plan, account: Any, cos: Any, make_guest: Callable[..., Any], period: str
) -> None:
    account.guests[4] = make_guest(4, hostname="renamed", data_disks=2)

    plan = retry()

    assert (plan.plan_id, plan.retry_of, plan.period) == ("plan-2", "plan-1", period)
    assert [(item.export_id, item.outcome) for item in plan.items] == [
        (f"3-{period}", Outcome.EXPORT),
        (f"4-{period}", Outcome.EXPORT),
    ]
    assert [item.images for item in plan.items] == [item.images for item in first.items[2:]]
    assert (plan.items[1].hostname, len(plan.items[1].disks)) == ("renamed", 3), "not captured yet: as it is now"
    (key,) = write_plan(cos, plan)
    assert read_wave(cos, bucket="sealift-exports", key=key).items == plan.items
    assert account.count("capture") == 0


def test_what_was_captured_keeps_the_disks_it_was_captured_with(
    retry: Retry, first: Plan, account: Any, make_guest: Callable[..., Any], make_transaction: Callable[..., Any]
) -> None:
    account.guests[3] = make_guest(3, data_disks=2, activeTransaction=make_transaction())

    item = retry().items[0]

    assert item.disks == first.items[2].disks
    assert item.outcome is Outcome.EXPORT, "the rules about capturing do not hold an adopted template up"


def test_what_is_exported_by_now_is_not_planned_again(
    retry: Retry, first: Plan, cos: Any, finish: Callable[..., None], account: Any, now: Any
) -> None:
    finish(first, 3)
    finish(first, 4)
    account.calls.clear()

    plan = retry()

    assert {item.outcome for item in plan.items} == {Outcome.ALREADY_EXPORTED}
    assert plan.waves == []
    assert account.calls == [("get_guests", [3, 4])], "no template was asked for"
    report = make_run_report(cos=cos, plan=plan, waves={}, now=now)
    assert (report.retry_of, report.failed) == ("plan-1", [])


def test_the_retry_of_a_retry_has_the_period_of_the_first(
    retry: Retry, cos: Any, period: str, now: Any, first: Plan
) -> None:
    second = retry(wave_size=1)
    write_plan(cos, second)
    report = make_run_report(cos=cos, plan=second, waves={}, now=now)
    write_run_report(cos, report, prefix="nightly")

    third = retry(plan_id="plan-3", first=second)

    assert [item.export_id for item in third.items] == [f"3-{period}", f"4-{period}"]
    assert third.retry_of == "plan-2"
    assert third.period == first.period


def test_a_selection_narrows_the_failed_and_says_whom_it_leaves_out(retry: Retry) -> None:
    plan = retry({"hostnames": ["web4"]})
    assert [item.guest_id for item in plan.items] == [4]
    (note,) = plan.notes
    assert "web3 (virtual server 3) failed in the plan plan-1 and is not tried again" in note
    assert [item.guest_id for item in retry({"ids": [3, 1]}).items] == [3], "what did not fail is not tried again"
    assert [item.guest_id for item in retry({"exclude": {"ids": [3]}}).items] == [4]
    assert [item.guest_id for item in retry({"all": True}).items] == [3, 4]
    with pytest.raises(SelectionError, match="None of the 2 failed servers"):
        retry({"hostnames": ["elsewhere"]})


def test_a_server_that_is_gone_is_named(retry: Retry, account: Any, cos: Any, now: Any) -> None:
    del account.guests[4]
    plan = retry()
    assert plan.unknown_ids == [4]
    report = make_run_report(cos=cos, plan=plan, waves={}, now=now)
    assert [one.rule for one in report.outcomes if one.server == "unknown"] == ["unknown-server"]


def test_a_slot_that_has_passed_is_not_captured_any_more(retry: Retry) -> None:
    plan = retry(is_past=lambda _: True)
    assert [(item.adopt_only, item.outcome) for item in plan.items] == [
        (True, Outcome.EXPORT),
        (True, Outcome.NOT_EXPORTABLE),
    ]
    assert [one.rule for one in plan.items[1].refusals] == ["past-slot"]
    assert {item.outcome for item in retry(is_past=lambda _: True, capture_now=True).items} == {Outcome.EXPORT}


def test_where_the_exports_lie_follows_the_first_plan(first: Plan, make_settings: Callable[..., Any]) -> None:
    settings = settings_like(first, make_settings(prefix="other", max_offline=2))
    assert (settings.prefix, settings.max_offline) == ("nightly", 2)


@pytest.mark.parametrize(
    "place",
    ["plan-1", " nightly/plans/plan-1.json", "nightly/plans/plan-1/report.json", "nightly/plans/plan-1/wave-0001.json"],
)
def test_a_plan_is_found_by_its_id_or_any_of_its_keys(
    first: Plan, cos: Any, make_settings: Callable[..., Any], place: str
) -> None:
    prefix = "nightly" if place == "plan-1" else "another"
    assert find_first(cos, place, make_settings(prefix=prefix)) == first


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("plan 1", "neither a plan's id nor the key of one"),
        ("sealift/manifests/1/a.json", "neither a plan's id nor the key of one"),
        ("plan-11", "there is no plan at sealift-exports/nightly/plans/plan-11.json. Did you mean plan-1?"),
        ("zzzzzzzzzz", "The newest are plan-1."),
        ("nowhere/plans/plan-1.json", "no plan at all below that prefix"),
    ],
)
@pytest.mark.usefixtures("first")
def test_a_wrong_place_is_refused_with_what_may_have_been_meant(
    cos: Any, make_settings: Callable[..., Any], place: str, says: str
) -> None:
    with pytest.raises(InputError) as error:
        find_first(cos, place, make_settings())
    assert says in error.value.message


def test_a_dry_run_s_plan_is_refused(
    account: Any, plan_of: Callable[..., Plan], cos: Any, make_settings: Callable[..., Any]
) -> None:
    write_plan(cos, plan_of(account, dry_run=True))
    with pytest.raises(InputError, match="was made by a dry run"):
        find_first(cos, "plan-1", make_settings())


def test_a_plan_of_another_bucket_is_refused(first: Plan, cos: Any, make_settings: Callable[..., Any]) -> None:
    copied = SimpleNamespace(head=cos.head, read=cos.read)
    with pytest.raises(InputError, match=r"lies in copies, and is for exports to sealift-exports"):
        find_first(copied, first.plan_id, make_settings(bucket="copies"))


def test_a_run_without_report_is_refused_unless_it_is_known_to_be_over(first: Plan, cos: Any) -> None:
    del cos.objects["nightly/plans/plan-1/report.json"]
    with pytest.raises(InputError, match=r"may still be at work.*plan_is_over"):
        failed_items(cos, first)
    assert [item.guest_id for item in failed_items(cos, first, over=True)] == [3, 4]
    del cos.objects["nightly/plans/plan-1/wave-0000.report.json"]
    without_report = [item.guest_id for item in failed_items(cos, first, over=True)]
    assert without_report == [1, 2, 3, 4], "no outcome: the ledger decides about each later"


def test_a_plan_without_failures_leaves_nothing_to_try(
    first: Plan, cos: Any, finish: Callable[..., None], now: Any
) -> None:
    finish(first, 3)
    finish(first, 4)
    finish(first, 2)
    write_run_report(cos, make_run_report(cos=cos, plan=first, waves={}, now=now), prefix="nightly")
    with pytest.raises(InputError, match="Nothing of the plan plan-1 failed"):
        failed_items(cos, first)


def test_names_of_places() -> None:
    assert names.parse_plan_place("p-1") == (None, "p-1")
    assert names.parse_plan_place("/plans/p-1.json") == ("", "p-1")
    assert names.parse_plan_place("a/b/plans/p-1/wave-0003.report.json") == ("a/b", "p-1")
    assert names.parse_plan_place("a/b/images/p-1.json") is None
    assert names.parse_plan_place("") is None
