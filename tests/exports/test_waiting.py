"""Judges end a wait only when it is over, say how it ended, and forget nothing that matters when they are made anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.classic.models import GuestState, Template
from sealift.cos.models import ObjectInfo
from sealift.exports.plan import PlanItem
from sealift.exports.terms import SECOND_LOOK_SECONDS
from sealift.exports.waiting import (
    ExportJudge,
    ReasonCode,
    TemplateJudge,
    Verdict,
    WaitTerms,
    capture_terms,
    export_terms,
)

START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
KEYS = ["i/disk-0.vhd", "i/disk-1.vhd"]
POLL = 60.0


def terms(**changes: Any) -> WaitTerms:
    return WaitTerms.model_validate(
        {
            "export_id": "101-20261123T0200Z",
            "guest_id": 101,
            "hostname": "web101",
            "template_id": 900,
            "started_at": START,
            "deadline_seconds": 4 * 3600,
            "stuck_seconds": 2 * 3600,
            "grace_seconds": 900,
            "bucket": "sealift-exports",
            "expected_keys": KEYS,
            **changes,
        }
    )


def guest(*, busy: bool = False, since: datetime | None = START, power: str | None = "RUNNING") -> GuestState:
    transaction = {
        "id": 7,
        "statusChangeDate": since.isoformat() if since else None,
        "transactionStatus": {"name": "COPY", "friendlyName": "Copying"},
    }
    return GuestState.model_validate(
        {"id": 101, "powerState": {"keyName": power}, "activeTransaction": transaction if busy else None}
    )


def objects(*sizes: int) -> list[ObjectInfo]:
    return [ObjectInfo(key=f"i/disk-{n}.vhd", size=size, etag="e", last_modified=START) for n, size in enumerate(sizes)]


def watch(
    judge: Any, polls: Sequence[dict[str, Any]], *, start: datetime = START, every: float = POLL
) -> Verdict | None:
    """Feed polls one interval apart and return the verdict that ends them, if any does."""
    for number, poll in enumerate(polls):
        verdict: Verdict | None = judge.observe(**poll, now=start + timedelta(seconds=every * number))
        if verdict is not None:
            return verdict
    return None


# The server that is captured


def test_a_capture_is_over_when_template_and_server_have_been_idle_twice(
    make_template: Callable[..., Template],
) -> None:
    judge = TemplateJudge(terms())
    busy = {"template": make_template(), "guest": guest(busy=True)}
    idle = {"template": make_template(), "guest": guest()}

    assert watch(judge, [busy, busy, idle, busy, idle]) is None
    verdict = judge.observe(**idle, now=START + timedelta(minutes=10))

    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("done", ReasonCode.TEMPLATE_READY)
    assert "web101 (virtual server 101, template 900)" in verdict.sentence


def test_an_idle_server_right_after_the_submission_proves_nothing(make_template: Callable[..., Template]) -> None:
    young = {"template": make_template(sizes=()), "guest": guest()}

    assert watch(TemplateJudge(terms()), [young] * 14) is None
    whole = {"template": make_template(), "guest": guest()}
    assert watch(TemplateJudge(terms()), [young, young, whole]) is None
    verdict = watch(TemplateJudge(terms()), [young, young, whole, whole])
    assert verdict is not None
    assert verdict.reason is ReasonCode.TEMPLATE_READY


def test_a_server_that_is_idle_for_long_ends_nothing_while_its_template_is_made(
    make_template: Callable[..., Template],
) -> None:
    made = {"template": make_template(busy=True), "guest": guest()}

    assert watch(TemplateJudge(terms()), [made] * 60) is None


def test_a_server_that_ran_before_must_run_again_or_is_reported(make_template: Callable[..., Template]) -> None:
    halted = {"template": make_template(), "guest": guest(power="HALTED")}

    waiting = TemplateJudge(terms())
    assert watch(waiting, [halted] * 10) is None
    assert waiting.progress == "The template is whole. The server is not running yet."
    assert watch(TemplateJudge(terms()), [halted] * 16) is None, "the grace period counts from the second look"
    verdict = watch(TemplateJudge(terms()), [halted] * 17)
    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("done", ReasonCode.TEMPLATE_READY_LEFT_STOPPED)
    assert "HALTED" in verdict.sentence
    assert "Start it if it should run" in verdict.sentence
    stopped_before = watch(TemplateJudge(terms(was_running=False)), [halted] * 3)
    assert stopped_before is not None
    assert stopped_before.reason is ReasonCode.TEMPLATE_READY


def test_a_server_that_comes_back_late_is_waited_for(make_template: Callable[..., Template]) -> None:
    halted = {"template": make_template(), "guest": guest(power="HALTED")}
    back = {"template": make_template(), "guest": guest()}

    verdict = watch(TemplateJudge(terms()), [*[halted] * 14, back])

    assert verdict is not None
    assert verdict.reason is ReasonCode.TEMPLATE_READY


@pytest.mark.parametrize(
    "between",
    [{"guest": "busy"}, {"template": None}, {"guest": None}, {"template": "empty"}],
    ids=["busy", "template not shown", "server not shown", "template not whole"],
)
def test_a_stopped_server_s_time_begins_anew_after_anything_else(
    make_template: Callable[..., Template], between: dict[str, Any]
) -> None:
    halted: dict[str, Any] = {"template": make_template(), "guest": guest(power="HALTED")}
    named = {"busy": guest(busy=True), "empty": make_template(sizes=()), None: None}
    other = halted | {name: named[what] for name, what in between.items()}

    assert watch(TemplateJudge(terms()), [*[halted] * 14, other, *[halted] * 14]) is None


# The template


def test_a_template_is_ready_when_it_is_whole_on_two_polls(make_template: Callable[..., Template]) -> None:
    judge = TemplateJudge(terms())
    steps: list[dict[str, Any]] = [
        {"template": make_template(sizes=()), "guest": guest()},
        {"template": make_template(busy=True), "guest": guest(busy=True)},
        {"template": make_template(), "guest": guest(busy=True)},
        {"template": make_template(), "guest": guest()},
        {"template": make_template(sizes=(5e9, None)), "guest": guest()},
        {"template": make_template(sizes=(5e9, 0)), "guest": guest()},
        {"template": make_template(sizes=(5e9, 5e9)), "guest": guest()},
    ]

    assert watch(judge, steps) is None
    verdict = judge.observe(**steps[-1], now=START + timedelta(minutes=30))

    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("done", ReasonCode.TEMPLATE_READY)


def test_a_template_stands_by_itself_once_its_server_is_gone_for_good(make_template: Callable[..., Template]) -> None:
    polls = [{"template": make_template(), "guest": None}] * 30

    assert watch(TemplateJudge(terms()), polls[:10]) is None
    verdict = watch(TemplateJudge(terms()), polls)
    assert verdict is not None
    assert verdict.reason is ReasonCode.TEMPLATE_READY


@pytest.mark.parametrize(
    ("poll", "reason", "says"),
    [
        ({"template": "none", "guest": guest()}, ReasonCode.TEMPLATE_VANISHED, "Devices > Manage > Images"),
        ({"template": "childless", "guest": guest()}, ReasonCode.NO_CHILDREN, "no copy in any data center"),
        ({"template": "sizeless", "guest": guest()}, ReasonCode.ZERO_SIZE, "dal0"),
    ],
)
def test_a_template_that_comes_to_nothing_fails_after_the_grace_period_not_before(
    make_template: Callable[..., Template], poll: dict[str, Any], reason: ReasonCode, says: str
) -> None:
    made = {"none": None, "childless": make_template(sizes=()), "sizeless": make_template(sizes=(None,))}
    polls = [{**poll, "template": made[poll["template"]]}] * 16

    assert watch(TemplateJudge(terms()), polls[:15]) is None
    verdict = watch(TemplateJudge(terms()), polls)
    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("failed", reason)
    assert says in verdict.sentence
    good = {"template": make_template(busy=True), "guest": guest(busy=True)}
    assert watch(TemplateJudge(terms()), [*polls[:15], good, *polls[:15]]) is None
    whole_once = {"template": make_template(), "guest": guest()}
    assert watch(TemplateJudge(terms()), [*polls[:15], whole_once, *polls[:15]]) is None


# The export


def test_an_export_is_over_when_all_objects_are_there_and_nothing_runs_twice(
    make_template: Callable[..., Template],
) -> None:
    judge = ExportJudge(terms())
    steps: list[dict[str, Any]] = [
        {"template": make_template(), "objects": []},
        {"template": make_template(busy=True), "objects": objects(5)},
        {"template": make_template(busy=True), "objects": objects(5, 6)},
        {"template": make_template(), "objects": objects(5, 0)},
        {"template": make_template(), "objects": objects(5, 6)},
    ]

    assert watch(judge, steps) is None
    verdict = judge.observe(**steps[-1], now=START + timedelta(minutes=30))

    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("done", ReasonCode.EXPORTED)


def test_an_export_whose_transaction_is_gone_without_objects_has_failed(make_template: Callable[..., Template]) -> None:
    lost = {
        "template": make_template(),
        "objects": [*objects(5), ObjectInfo(key="i/disk-7.vhd", size=1, etag="e", last_modified=START)],
    }

    assert watch(ExportJudge(terms()), [lost] * 15) is None
    verdict = watch(ExportJudge(terms()), [lost] * 17)
    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("failed", ReasonCode.OBJECTS_MISSING)
    assert "i/disk-1.vhd" in verdict.sentence
    assert "i/disk-0.vhd" not in verdict.sentence
    assert "i/disk-7.vhd" in verdict.sentence


def test_a_template_deleted_after_its_export_takes_nothing_from_it() -> None:
    polls = [{"template": None, "objects": objects(5, 6)}] * 20

    assert watch(ExportJudge(terms()), polls[:10]) is None
    verdict = watch(ExportJudge(terms()), polls)
    assert verdict is not None
    assert verdict.reason is ReasonCode.EXPORTED
    gone = watch(ExportJudge(terms()), [{"template": None, "objects": objects(5)}] * 20)
    assert gone is not None
    assert gone.reason is ReasonCode.TEMPLATE_VANISHED


# Slow, stuck, fruitless


def test_a_transaction_whose_status_stands_still_is_stuck_and_named(make_template: Callable[..., Template]) -> None:
    polls = [{"template": make_template(), "guest": guest(busy=True)}] * 200

    verdict = watch(TemplateJudge(terms()), polls)

    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("failed", ReasonCode.STUCK)
    assert "The last transaction seen is 7, 'Copying', unchanged for 2 h 00 min." in verdict.sentence
    assert "no cancel" in verdict.sentence


def test_a_restart_does_not_make_a_stuck_transaction_young(make_template: Callable[..., Template]) -> None:
    poll = {"template": make_template(), "guest": guest(busy=True)}

    verdict = TemplateJudge(terms()).observe(**poll, now=START + timedelta(hours=2))

    assert verdict is not None
    assert verdict.reason is ReasonCode.STUCK


def test_a_retry_gives_a_stuck_transaction_its_time_again(make_template: Callable[..., Template]) -> None:
    poll = {"template": make_template(), "guest": guest(busy=True, since=START - timedelta(days=1))}

    assert TemplateJudge(terms()).observe(**poll, now=START + timedelta(hours=1)) is None


def test_a_transaction_that_moves_is_slow_when_the_deadline_is_past(make_template: Callable[..., Template]) -> None:
    polls = [
        {"template": make_template(), "guest": guest(busy=True, since=START + timedelta(minutes=n))} for n in range(300)
    ]

    verdict = watch(TemplateJudge(terms()), polls)

    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("failed", ReasonCode.SLOW)
    assert "after 4 h 00 min" in verdict.sentence


def test_a_transaction_without_dates_is_timed_by_what_the_polls_saw(make_template: Callable[..., Template]) -> None:
    polls = [{"template": make_template(), "guest": guest(busy=True, since=None)}] * 200

    verdict = watch(TemplateJudge(terms()), polls)

    assert verdict is not None
    assert verdict.reason is ReasonCode.STUCK


def test_a_wait_without_transactions_ends_at_the_deadline(make_template: Callable[..., Template]) -> None:
    # Missing and present by turns: no grace period ever ends.
    polls: list[dict[str, Any]] = [
        {"template": make_template() if n % 2 else None, "guest": guest()} for n in range(300)
    ]

    verdict = watch(TemplateJudge(terms()), polls)

    assert verdict is not None
    assert verdict.reason is ReasonCode.NOTHING_HAPPENED
    assert "No transaction was seen." in verdict.sentence


@pytest.mark.parametrize("sizes", [(), (None,)], ids=["no copy", "no size"])
def test_a_server_that_vanished_during_its_capture_fails_the_wait(
    make_template: Callable[..., Template], sizes: tuple[None, ...]
) -> None:
    unfinished = {"template": make_template(sizes=sizes), "guest": None}

    assert watch(TemplateJudge(terms()), [unfinished] * 15) is None
    verdict = watch(TemplateJudge(terms()), [unfinished] * 20)

    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("failed", ReasonCode.GUEST_VANISHED)
    assert "its template is not whole" in verdict.sentence


def test_a_template_that_is_still_made_does_not_need_its_server(make_template: Callable[..., Template]) -> None:
    made = {"template": make_template(busy=True), "guest": None}
    whole = {"template": make_template(), "guest": None}

    assert watch(TemplateJudge(terms()), [made] * 60) is None
    verdict = watch(TemplateJudge(terms()), [*[made] * 60, whole, whole])

    assert verdict is not None
    assert verdict.reason is ReasonCode.TEMPLATE_READY


@pytest.mark.parametrize("blink", ["none", "sizeless"])
def test_one_look_at_a_template_without_its_server_fails_nothing(
    make_template: Callable[..., Template], blink: str
) -> None:
    """The server is gone for good; its template was whole, and is again."""
    made = {"template": make_template(), "guest": None}
    other = {"template": None if blink == "none" else make_template(sizes=(None,)), "guest": None}

    verdict = watch(TemplateJudge(terms()), [*[made] * 15, other, made, made])

    assert verdict is not None
    assert verdict.reason is ReasonCode.TEMPLATE_READY


# For all histories


class Poll:
    """One poll's worth of account and bucket, as hypothesis makes them up."""

    def __init__(self, *, guest_state: str, template_state: str, sizes: tuple[int, ...], repeat: bool) -> None:
        self.guest_state = guest_state
        self.template_state = template_state
        self.sizes = sizes
        self.repeat = repeat

    def __repr__(self) -> str:
        return f"Poll({self.guest_state}, {self.template_state}, {self.sizes}, repeat={self.repeat})"

    def guest(self) -> GuestState | None:
        return {"none": None, "busy": guest(busy=True, since=None), "idle": guest()}[self.guest_state]

    def template(self, make: Callable[..., Template]) -> Template | None:
        if self.template_state == "none":
            return None
        return make(
            busy=self.template_state == "busy",
            sizes={"childless": (), "sizeless": (None,)}.get(self.template_state, (5e9,)),
        )


polls_made_up = st.lists(
    st.builds(
        Poll,
        guest_state=st.sampled_from(["none", "busy", "idle"]),
        template_state=st.sampled_from(["none", "busy", "childless", "sizeless", "whole"]),
        sizes=st.sampled_from([(), (5,), (5, 0), (5, 6)]),
        repeat=st.booleans(),
    ),
    max_size=12,
)


def times(polls: Sequence[Poll], every: float) -> list[datetime]:
    moments: list[datetime] = []
    for number, poll in enumerate(polls):
        again = poll.repeat and moments
        moments.append(moments[-1] if again else START + timedelta(seconds=every * number))
    return moments


@given(polls_made_up)
def test_a_template_is_never_ready_without_two_whole_polls_in_a_row(
    make_template: Callable[..., Template], polls: list[Poll]
) -> None:
    judge = TemplateJudge(terms())
    seen: dict[datetime, Poll] = {}
    for poll, now in zip(polls, times(polls, 1), strict=True):
        verdict = judge.observe(template=poll.template(make_template), guest=poll.guest(), now=now)
        seen.setdefault(now, poll)
        if verdict is not None:
            assert verdict.kind == "done"
            last_two = list(seen.values())[-2:]
            assert len(last_two) == 2
            assert all((one.template_state, one.guest_state) == ("whole", "idle") for one in last_two)
            return


@given(polls_made_up)
def test_a_template_whose_server_is_stopped_is_never_ready_within_the_grace_period(
    make_template: Callable[..., Template], polls: list[Poll]
) -> None:
    judge = TemplateJudge(terms())
    for poll, now in zip(polls, times(polls, 60), strict=True):
        stopped = guest(power="HALTED") if poll.guest_state == "idle" else poll.guest()
        assert judge.observe(template=poll.template(make_template), guest=stopped, now=now) is None


@given(polls_made_up)
def test_an_export_is_never_over_without_two_polls_that_see_all_objects_and_no_transaction(
    make_template: Callable[..., Template], polls: list[Poll]
) -> None:
    judge = ExportJudge(terms())
    seen: dict[datetime, Poll] = {}
    for poll, now in zip(polls, times(polls, 6), strict=True):
        verdict = judge.observe(template=poll.template(make_template), objects=objects(*poll.sizes), now=now)
        seen.setdefault(now, poll)
        if verdict is not None:
            assert verdict.kind == "done"
            last_two = list(seen.values())[-2:]
            assert len(last_two) == 2
            assert all(one.sizes == (5, 6) and one.template_state not in {"none", "busy"} for one in last_two)
            return


@given(polls_made_up, st.integers(0, 12))
def test_a_judge_made_anew_comes_to_the_same_end(
    make_template: Callable[..., Template], polls: list[Poll], restart: int
) -> None:
    """However a history begins, when the account settles, judges end alike, restarted or not."""
    settled = Poll(guest_state="idle", template_state="whole", sizes=(5, 6), repeat=False)
    history = [*polls, *[settled] * 5]
    verdicts = []
    for restart_at in (None, restart):
        judges: list[Any] = [TemplateJudge(terms()), ExportJudge(terms())]
        ends: list[ReasonCode | None] = [None, None]
        for number, poll in enumerate(history):
            if number == restart_at:
                judges = [type(judge)(terms()) for judge in judges]
            now = START + timedelta(seconds=SECOND_LOOK_SECONDS * number)
            seen = poll.template(make_template)
            for index, judge in enumerate(judges):
                if ends[index] is None:
                    inside = {"objects": objects(*poll.sizes)} if index == 1 else {"guest": poll.guest()}
                    verdict = judge.observe(template=seen, **inside, now=now)
                    ends[index] = verdict.reason if verdict else None
        verdicts.append(ends)
    assert verdicts[0] == verdicts[1] == [ReasonCode.TEMPLATE_READY, ReasonCode.EXPORTED]


def test_an_export_is_over_when_its_objects_were_the_same_for_long_enough(
    make_template: Callable[..., Template],
) -> None:
    """The polls before a wait's end come quickly; who replaces an object meanwhile has not ended."""
    judge = ExportJudge(terms())

    def poll(seconds: float, *sizes: int) -> Any:
        now = START + timedelta(seconds=seconds)
        return judge.observe(template=make_template(), objects=objects(*sizes), now=now)

    assert poll(0, 5, 6) is None
    assert judge.nearly_over
    assert judge.again_after == SECOND_LOOK_SECONDS
    assert poll(3, 5, 6) is None, "too soon to tell"
    assert poll(4, 5, 7) is None, "replaced"
    assert not judge.nearly_over, "so that a deadline counts"
    assert poll(8.9, 5, 7) is None
    verdict = poll(9, 5, 7)

    assert verdict.kind == "done"
    assert verdict.look.at == START + timedelta(seconds=4)
    assert [size for _, size in verdict.look.objects.values()] == [5, 7]


# Terms


def test_terms_come_from_the_plan_and_travel_as_json(
    make_guest: Callable[..., Any], item_of: Callable[..., PlanItem], make_settings: Callable[..., Any]
) -> None:
    item = item_of(make_guest(101, data_disks=1, powerState={"keyName": "HALTED"}))
    settings = make_settings(stuck_minutes=10, grace_minutes=0.5)

    made = export_terms(item, settings, template_id=900, started_at=START)

    assert WaitTerms.model_validate_json(made.model_dump_json()) == made
    assert made.expected_keys == item.disk_keys
    assert not made.was_running
    assert (made.deadline_seconds, made.stuck_seconds, made.grace_seconds) == (6 * 3600, 600, 30)
    capture = capture_terms(item, make_settings(), template_id=900, started_at=START)
    assert (capture.deadline_seconds, capture.stuck_seconds, capture.grace_seconds) == (4 * 3600, 2 * 3600, 900)


def test_every_reason_is_explained_and_verdicts_travel_as_json() -> None:
    verdict = Verdict(kind="failed", reason=ReasonCode.STUCK, sentence="It is stuck.")

    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert len({one.value for one in ReasonCode}) == len(ReasonCode) == 14


@pytest.mark.parametrize("judge_of", [TemplateJudge, ExportJudge])
def test_polls_without_an_answer_conclude_nothing_before_the_deadline(judge_of: type[Any]) -> None:
    judge = judge_of(terms())
    assert judge.unanswered(why="no such host", now=START + timedelta(hours=3, minutes=59)) is None
    assert "no such host" in judge.progress
    verdict = judge.unanswered(why="no such host", now=START + timedelta(hours=4))
    assert (verdict.kind, verdict.reason) == ("failed", ReasonCode.NO_ANSWER)
    for words in ("web101", "900", "4 h 00 min", "no such host", "clear this task"):
        assert words in verdict.sentence
