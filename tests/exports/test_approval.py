"""Which plans wait for a person, and what that person is shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sealift.exports.approval import (
    RULE,
    SHOWN,
    Approval,
    Refusal,
    asks_for_approval,
    body_of,
    going_offline,
    subject_of,
)
from sealift.exports.plan import Plan
from sealift.exports.report import OutcomeKind, make_run_report, make_wave_report

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
REFUSAL = Refusal(by="ann", at=NOW, waited_hours=24)


@pytest.fixture
def make(make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan]) -> Callable[..., Plan]:
    """Plan as many servers as lists of tags are given."""

    def run(*tags: list[str], settings: dict[str, Any] | None = None, **changes: Any) -> Plan:
        plan = plan_of(
            make_classic(guests=[make_guest(101 + number) for number in range(len(tags))]), **(settings or {})
        )
        items = [item.model_copy(update={"tags": own, **changes}) for item, own in zip(plan.items, tags, strict=True)]
        return plan.model_copy(update={"items": items})

    return run


@pytest.mark.parametrize(
    ("approval", "tags", "asked"),
    [
        ("tagged", ["web"], False),
        ("tagged", ["web", "Production"], True),
        ("always", [], True),
        ("never", ["production"], False),
    ],
)
def test_who_is_asked(make: Callable[..., Plan], approval: Approval, tags: list[str], asked: bool) -> None:
    plan = make([], tags)
    assert bool(asks_for_approval(plan, approval=approval, tags=["production"])) is asked


def test_nobody_is_asked_of_what_takes_no_server_offline(make: Callable[..., Plan]) -> None:
    assert not asks_for_approval(make(["production"], adopt_only=True), approval="always", tags=[])
    assert not asks_for_approval(make(["production"], settings={"dry_run": True}), approval="always", tags=[])


def test_the_reason_names_how_many_and_by_which_tags(make: Callable[..., Plan]) -> None:
    plan = make(["production"], ["web"], ["PRODUCTION", "vip"])
    why = asks_for_approval(plan, approval="tagged", tags=["production", "vip"])
    assert why == "2 of the servers carry tags that ask for an approval: PRODUCTION, production, vip."


def test_what_is_shown_names_every_server_and_holds_no_markup_of_others(make: Callable[..., Plan]) -> None:
    plan = make(["production"], ["<img src=x>|[a](http://x)"], settings={"max_offline": 1})
    body = body_of(plan, why="Because.", key="p/plans/x.json")
    for item in going_offline(plan):
        assert item.hostname in body
    assert "at most 1 at the same time" in body
    (row,) = [line for line in body.splitlines() if "img" in line]
    assert "\\<img" in row
    assert "\\[a\\]" in row
    assert row.replace("\\|", "").count("|") == 7, "a tag makes no cell of its own"
    assert subject_of(plan).startswith("Take 2 virtual servers offline")


def test_a_long_list_is_cut_and_says_so(make: Callable[..., Plan]) -> None:
    plan = make(*([["x"]] * (SHOWN + 3)))
    body = body_of(plan, why="Because.", key="k")
    assert body.count("\n| ") == SHOWN + 1
    assert "and 3 more." in body


def test_servers_that_nobody_approved_are_reported_with_who_refused(make: Callable[..., Plan], cos: Any) -> None:
    plan = make(["production"], ["production"])
    report = make_run_report(cos=cos, plan=plan, waves={}, now=NOW, refusal=REFUSAL)
    assert [(one.kind, one.rule) for one in report.outcomes] == [(OutcomeKind.NOT_EXPORTABLE, RULE)] * 2
    assert "ann refused the captures of this plan at 2026-11-23 03:00 UTC" in (report.outcomes[0].words or "")
    assert not report.failed


def test_a_wave_that_ran_before_is_reported_as_it_ended(make: Callable[..., Plan], cos: Any) -> None:
    """Somebody cleared the question of a plan that had been carried out, and refused."""
    plan = make(["production"])
    wave = make_wave_report(cos=cos, wave=plan.slice(0), failures={}, run_id="w", now=NOW)
    report = make_run_report(cos=cos, plan=plan, waves={0: wave}, now=NOW, refusal=REFUSAL)
    assert [one.rule for one in report.outcomes] == [None]


def test_no_answer_says_how_long_was_waited() -> None:
    assert "Nobody approved the captures of this plan within 24 hours" in Refusal(at=NOW, waited_hours=24).words
