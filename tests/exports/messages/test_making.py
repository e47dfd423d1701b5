"""What messages say: the worst first, all counted, and what to do next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sealift.exports.messages.making import (
    approval_message,
    late_message,
    run_message,
    server_message,
    trouble_message,
    wave_message,
)
from sealift.exports.messages.message import SERVERS_AT_MOST, MessageKind, MessageLink
from sealift.exports.plan import Plan
from sealift.exports.report import OutcomeKind, RunReport, ServerOutcome, WaveReport

RUN = {"dag_id": "plan_exports", "run_id": "manual__1"}


def outcome(id_: int, kind: OutcomeKind, **more: Any) -> ServerOutcome:
    return ServerOutcome(kind=kind, server="virtual", id=id_, hostname=f"web-{id_}", export_id=f"{id_}-p", **more)


def report_of(outcomes: list[ServerOutcome], now: Any, **more: Any) -> RunReport:
    return RunReport(
        plan_id="plan-1", period="20261123T0200Z", bucket="images", reported_at=now, outcomes=outcomes, **more
    )


FAILED = {"task": "capture", "words": "There is currently an active transaction."}


def test_a_run_with_a_failure_names_it_first_and_says_how_to_try_again(now: Any) -> None:
    report = report_of(
        [
            outcome(1, OutcomeKind.EXPORTED, disks=2, proof_level="L1"),
            outcome(2, OutcomeKind.NOT_EXPORTABLE, rule="bare-metal", words="It is bare metal."),
            outcome(3, OutcomeKind.FAILED, **FAILED),
        ],
        now,
        notes=["The tag old fits no server."],
    )
    made = run_message(report, report_key="p/report.json", left="The run left 1 thing behind.", **RUN)
    assert made.kind is MessageKind.FAILED
    assert made.subject == "Sealift: 1 of 3 servers failed (20261123T0200Z)"
    assert [one.id for one in made.servers] == [3, 2, 1]
    assert (made.servers[0].step, made.servers[0].words) == ("capture", FAILED["words"])
    assert made.servers[2].words == "2 disks, L1"
    assert made.counts == {"failed": 1, "not exportable": 1, "exported": 1}
    assert made.notes == ["The tag old fits no server.", "The run left 1 thing behind."]
    assert "Only set to failed and Plan set to plan-1" in made.next_steps[0]
    assert (made.bucket, made.report) == ("images", "p/report.json")


def test_a_run_without_failures_is_finished_and_asks_for_nothing(now: Any) -> None:
    report = report_of([outcome(1, OutcomeKind.EXPORTED, disks=2)], now)
    made = run_message(report, report_key="k", links=[MessageLink(label="Run", url="https://a.example/x")], **RUN)
    assert made.kind is MessageKind.FINISHED
    assert made.subject == "Sealift: 1 exported, 2 disks proven, 0 not exportable, 0 failed (20261123T0200Z)"
    assert made.next_steps == []
    assert "Run: https://a.example/x" in made.text()


def test_of_5_000_servers_all_are_counted_and_the_failed_ones_named(now: Any) -> None:
    outcomes = [outcome(one, OutcomeKind.EXPORTED) for one in range(1, 4991)]
    outcomes += [outcome(one, OutcomeKind.FAILED, words="w" * 2000) for one in range(4991, 5001)]
    made = run_message(report_of(outcomes, now, notes=[f"note {n}" for n in range(30)]), report_key="k", **RUN)
    assert made.counts == {"failed": 10, "exported": 4990}
    assert [one.id for one in made.servers[:10]] == list(range(4991, 5001))
    assert (len(made.servers), made.more) == (SERVERS_AT_MOST, 5000 - SERVERS_AT_MOST)
    assert made.notes[-1] == "And 21 more notes, in the report."


def test_a_wave_with_failures_says_that_the_others_go_on(now: Any) -> None:
    report = WaveReport(
        plan_id="plan-1",
        number=2,
        run_id="plan-1.wave-0002",
        reported_at=now,
        outcomes=[outcome(1, OutcomeKind.EXPORTED), outcome(2, OutcomeKind.FAILED, **FAILED)],
    )
    made = wave_message(report, period="20261123T0200Z", bucket="images", report_key="k", dag_id="export_servers")
    assert (made.kind, made.wave, made.run_id) == (MessageKind.WAVE, 2, "plan-1.wave-0002")
    assert made.subject == "Sealift: 1 of 2 servers of wave 3 failed (20261123T0200Z)"
    assert "other waves go on" in made.summary


def test_trouble_is_told_with_what_to_do(now: Any) -> None:
    made = trouble_message(subject="no plan was made", words="No bucket is named.", do="Name one.", now=now, **RUN)
    assert (made.kind, made.subject) == (MessageKind.FAILED, "Sealift: no plan was made")
    assert made.next_steps == ["Name one."]


@pytest.fixture
def plan(make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Plan]) -> Plan:
    classic = make_classic(guests=[make_guest(1), make_guest(2), make_guest(3)])
    return plan_of(classic, {"all": True}, wave_size=2)


def test_a_plan_that_waits_says_who_goes_offline_and_for_how_long(plan: Plan, now: Any) -> None:
    made = approval_message(plan=plan, why="The tag production asks for it.", hours=24, now=now, **RUN)
    assert made.kind is MessageKind.APPROVAL
    assert made.subject == f"Sealift: a plan that takes 3 servers offline waits ({plan.period})"
    assert made.summary == "Take 3 virtual servers offline to export them? The tag production asks for it."
    assert [one.id for one in made.servers] == [1, 2, 3]
    assert "within 24 hours" in made.next_steps[0]


@pytest.mark.parametrize(("step", "what"), [("wait_for_template", "capture"), ("wait_for_export", "export")])
def test_a_stuck_server_is_told_of_in_the_words_of_its_wait(plan: Plan, now: Any, step: str, what: str) -> None:
    item = plan.items[0]
    made = server_message(
        kind=MessageKind.STUCK,
        item=item,
        step=step,
        sentence="The last transaction seen is 9, 'Cloud Setup', unchanged for 4 h. Open a support case.",
        now=now,
        dag_id="export_servers",
        run_id="w",
        plan_id=plan.plan_id,
        bucket="images",
        last=True,
    )
    assert made.subject == f"Sealift: the {what} of {item.hostname} is stuck ({item.period})"
    assert "support case" in str(made.servers[0].words)
    assert "not be told of one by one" in made.notes[0]


def test_a_host_name_of_many_lines_makes_a_subject_of_one(plan: Plan, now: Any) -> None:
    item = plan.items[0].model_copy(update={"hostname": "web\r\nBcc: all@example.com\r\n\r\n" + "x" * 500})
    made = server_message(
        kind=MessageKind.SLOW, item=item, step="wait_for_export", sentence=".", now=now, plan_id="p", bucket="b", **RUN
    )
    assert len(made.subject.splitlines()) == 1
    assert made.subject.endswith(f"is slow ({item.period})")


def test_a_late_run_says_what_is_done_and_what_is_open(plan: Plan, now: Any) -> None:
    first, second, third = plan.items
    wave = WaveReport(
        plan_id=plan.plan_id,
        number=0,
        run_id="w",
        reported_at=now,
        outcomes=[
            ServerOutcome(
                kind=OutcomeKind.FAILED,
                server="virtual",
                id=second.guest_id,
                hostname=second.hostname,
                export_id=second.export_id,
                **FAILED,
            )
        ],
    )
    made = late_message(
        plan=plan,
        waves={0: wave},
        done={first.export_id},
        due=now,
        began=now - timedelta(hours=12),
        now=now + timedelta(minutes=1),
        **RUN,
    )
    assert made.kind is MessageKind.LATE
    assert made.subject == f"Sealift: plan_exports is late ({plan.period})"
    assert "1 of 3 servers are exported so far, and 1 of 2 waves have ended." in made.summary
    assert [(one.id, one.state) for one in made.servers] == [
        (second.guest_id, "failed"),
        (third.guest_id, "not exported yet"),
    ]
    assert made.counts == {"exported": 1, "failed": 1, "not exported yet": 1}


@pytest.mark.parametrize(
    ("unseen", "words"),
    [("", "No plan of it was found yet."), ("The bucket could not be looked at: no.", "is not known")],
)
def test_a_late_run_without_a_plan_is_told_of_all_the_same(now: Any, unseen: str, words: str) -> None:
    made = late_message(plan=None, waves={}, done=set(), due=now, began=None, now=now, unseen=unseen, **RUN)
    assert words in made.summary
    assert made.notes == ([unseen] if unseen else [])
    assert made.subject == "Sealift: plan_exports is late (manual__1)"
