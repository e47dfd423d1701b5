"""What judges say, and what they conclude of polls that fail, come late, or come to a judge that was made anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.classic.models import GuestState, Template
from sealift.exports.waiting import ExportJudge, ReasonCode, TemplateJudge, Verdict, WaitTerms

from .test_waiting import START, guest, objects, terms

JUDGES: list[Callable[[WaitTerms], Any]] = [TemplateJudge, ExportJudge]
Make = Callable[..., Template]
seeded = settings(derandomize=True, deadline=None, max_examples=200)


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def transaction(id_: int = 70, **changes: Any) -> dict[str, Any]:
    status = {"name": "COPY", "friendlyName": "Copying"}
    return {"id": id_, "statusChangeDate": START.isoformat(), "transactionStatus": status, **changes}


def running(*transactions: dict[str, Any] | None, left: int | None = None) -> Template:
    """A template with one child for each transaction."""
    children = [
        {
            "id": 901 + n,
            "transactionId": one["id"] if one else left,
            "transaction": one,
            "datacenter": {"name": "dal13"},
        }
        for n, one in enumerate(transactions)
    ]
    return Template.model_validate({"id": 900, "name": "sealift-101-20261123T0200Z", "children": children})


def look(judge: Any, at: datetime, template: Template | None, **more: Any) -> Verdict | None:
    inside = (
        {"objects": more.get("found", [])} if isinstance(judge, ExportJudge) else {"guest": more.get("guest", guest())}
    )
    verdict: Verdict | None = judge.observe(template=template, now=at, **inside)
    return verdict


# What is said


@pytest.mark.parametrize("judge_of", JUDGES)
def test_an_export_that_is_done_is_waited_for_no_longer(judge_of: Any) -> None:
    assert judge_of(terms()).at_once() is None

    verdict = judge_of(terms(exported=True)).at_once()

    assert (verdict.kind, verdict.reason) == ("done", ReasonCode.ALREADY_EXPORTED)
    for words in ("web101", "template 900", "101-20261123T0200Z", "manifest"):
        assert words in verdict.sentence


FAILURES: dict[ReasonCode, Callable[[Make], Verdict | None]] = {}


def failing(reason: ReasonCode) -> Callable[[Callable[[Make], Verdict | None]], Callable[[Make], Verdict | None]]:
    def add(made: Callable[[Make], Verdict | None]) -> Callable[[Make], Verdict | None]:
        FAILURES[reason] = made
        return made

    return add


def _after(judge: Any, first: Callable[[datetime], Verdict | None], then: Callable[[datetime], Verdict | None]) -> Any:
    """Show a transaction for a while, then something else, until there is a verdict."""
    for number in range(600):
        verdict = first(minutes(number)) if number < 5 else then(minutes(number))
        if verdict is not None:
            return verdict
    return None


@failing(ReasonCode.TEMPLATE_VANISHED)
def _template_vanished(make: Make) -> Verdict | None:
    judge = TemplateJudge(terms())
    return _after(judge, lambda at: look(judge, at, running(transaction())), lambda at: look(judge, at, None))


@failing(ReasonCode.GUEST_VANISHED)
def _guest_vanished(make: Make) -> Verdict | None:
    judge = TemplateJudge(terms())
    busy = running(transaction())
    return _after(
        judge,
        lambda at: look(
            judge, at, busy, guest=GuestState.model_validate({"id": 101, "activeTransaction": transaction()})
        ),
        lambda at: look(judge, at, make(sizes=()), guest=None),
    )


@failing(ReasonCode.NO_CHILDREN)
def _no_children(make: Make) -> Verdict | None:
    judge = TemplateJudge(terms())
    return _after(judge, lambda at: look(judge, at, running(transaction())), lambda at: look(judge, at, make(sizes=())))


@failing(ReasonCode.ZERO_SIZE)
def _zero_size(make: Make) -> Verdict | None:
    judge = TemplateJudge(terms())
    return _after(
        judge, lambda at: look(judge, at, running(transaction())), lambda at: look(judge, at, make(sizes=(0,)))
    )


@failing(ReasonCode.OBJECTS_MISSING)
def _objects_missing(make: Make) -> Verdict | None:
    judge = ExportJudge(terms())
    return _after(
        judge, lambda at: look(judge, at, running(transaction())), lambda at: look(judge, at, make(), found=objects(0))
    )


@failing(ReasonCode.STUCK)
def _stuck(make: Make) -> Verdict | None:
    judge = ExportJudge(terms())
    return _after(judge, *[lambda at: look(judge, at, running(transaction()))] * 2)


@failing(ReasonCode.SLOW)
def _slow(make: Make) -> Verdict | None:
    judge = TemplateJudge(terms(expected_seconds=35 * 60))
    moving = [
        lambda at: look(judge, at, running(transaction(statusChangeDate=(at - timedelta(minutes=1)).isoformat())))
    ]
    return _after(judge, *moving * 2)


@failing(ReasonCode.NOTHING_HAPPENED)
def _nothing_happened(make: Make) -> Verdict | None:
    judge = TemplateJudge(terms())
    return _after(
        judge,
        lambda at: look(judge, at, running(transaction())),
        lambda at: look(judge, at, None if at.minute % 2 else make(sizes=())),
    )


@failing(ReasonCode.NO_ANSWER)
def _no_answer(make: Make) -> Verdict | None:
    judge = TemplateJudge(terms())
    busy = GuestState.model_validate({"id": 101, "activeTransaction": transaction()})
    return _after(
        judge,
        lambda at: look(judge, at, running(transaction()), guest=busy),
        lambda at: judge.unanswered(why="no such host", now=at),
    )


@pytest.mark.parametrize("reason", FAILURES)
def test_every_failure_names_server_template_and_transaction_and_what_to_do(
    make_template: Make, reason: ReasonCode
) -> None:
    verdict = FAILURES[reason](make_template)

    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("failed", reason)
    assert "web101 (virtual server 101, template 900)" in verdict.sentence
    assert "70, 'Copying'" in verdict.sentence, "the last transaction, by its id and last status"
    assert " ago." in verdict.sentence or "unchanged for" in verdict.sentence, "and its age"
    todo = ("clear", "Clear", "start a new run", "Open a support case")
    assert any(words in verdict.sentence for words in todo)


def test_there_is_a_sentence_for_every_reason() -> None:
    done = {
        ReasonCode.TEMPLATE_READY,
        ReasonCode.TEMPLATE_READY_LEFT_STOPPED,
        ReasonCode.EXPORTED,
        ReasonCode.ALREADY_EXPORTED,
    }
    assert {*FAILURES, *done, ReasonCode.NO_TERMS} == set(ReasonCode)


def test_what_is_usual_is_said_while_one_waits_and_where_it_is_slow(make_template: Make) -> None:
    judge = TemplateJudge(terms(expected_seconds=35 * 60))
    look(judge, minutes(1), running(transaction()))

    assert "about 35 min is usual for its size" in judge.progress
    slow = FAILURES[ReasonCode.SLOW](make_template)
    assert slow is not None
    assert "not done after 4 h 00 min, and about 35 min is usual for its size." in slow.sentence
    plain = TemplateJudge(terms())
    look(plain, minutes(1), running(transaction()))
    assert "usual" not in plain.progress


def test_an_object_without_contents_is_told_from_one_that_is_missing(make_template: Make) -> None:
    verdict = FAILURES[ReasonCode.OBJECTS_MISSING](make_template)

    assert verdict is not None
    assert "does not hold i/disk-0.vhd, i/disk-1.vhd" in verdict.sentence
    assert "Of these, i/disk-0.vhd is there without contents." in verdict.sentence


# Transactions


def test_of_several_transactions_the_one_that_stands_still_longest_is_judged_and_named() -> None:
    judge = TemplateJudge(terms())
    verdict = None
    for number in range(130):
        moving = transaction(71, statusChangeDate=minutes(number).isoformat())
        verdict = look(judge, minutes(number), running(moving, transaction(72)))
        if verdict is not None:
            break

    assert verdict is not None
    assert verdict.reason is ReasonCode.STUCK
    assert "72, 'Copying', unchanged for 2 h 00 min" in verdict.sentence


def test_without_dates_a_transaction_s_own_count_of_seconds_survives_a_restart() -> None:
    still = {"id": 70, "transactionStatus": {"name": "COPY"}, "elapsedSeconds": 2 * 3600}

    verdict = look(TemplateJudge(terms()), minutes(121), running(still))

    assert verdict is not None
    assert verdict.reason is ReasonCode.STUCK
    assert "70, 'COPY', unchanged for 2 h 00 min" in verdict.sentence


def test_a_transaction_that_the_account_does_not_tell_of_is_named_by_its_id() -> None:
    judge = ExportJudge(terms())
    verdict = None
    for number in range(300):
        verdict = look(judge, minutes(number), running(None, left=99))
        if verdict is not None:
            break

    assert verdict is not None
    assert verdict.reason is ReasonCode.SLOW, "nobody can say that it stands still"
    assert "Transaction 99 is left; the account does not tell its status." in verdict.sentence


def test_last_words_tell_what_was_seen_last() -> None:
    judge = TemplateJudge(terms())
    assert judge.last_words(minutes(0)) == "No poll has answered yet."
    judge.unanswered(why="no such host", now=minutes(1))
    assert judge.last_words(minutes(2)) == "No transaction was seen. The last poll found nothing out: no such host"
    look(judge, minutes(3), running(transaction()))
    assert judge.last_words(minutes(4)) == (
        "The last transaction seen is 70, 'Copying', unchanged for 4 min. The last poll with an answer was 1 min ago."
    )
    look(judge, minutes(5), running(None))
    assert "The last transaction seen was 70, 'Copying', 3 min ago." in judge.last_words(minutes(6))


# When it ended


def test_a_judge_that_saw_the_template_unfinished_tells_when_it_became_whole(make_template: Make) -> None:
    judge = TemplateJudge(terms())
    for number, template in enumerate([running(transaction())] * 3 + [make_template()]):
        assert look(judge, minutes(number), template) is None

    verdict = look(judge, minutes(4), make_template())

    assert verdict is not None
    assert verdict.ended is not None
    assert (verdict.ended.template_id, verdict.ended.unfinished_at, verdict.ended.over_at) == (
        900,
        minutes(2),
        minutes(3),
    )


def test_the_end_is_when_the_template_became_whole_however_long_its_server_takes_to_come_back(
    make_template: Make,
) -> None:
    judge = TemplateJudge(terms())
    look(judge, minutes(0), running(transaction()), guest=guest(busy=True))
    for number in range(1, 10):
        assert look(judge, minutes(number), make_template(), guest=guest(power="HALTED")) is None

    verdict = look(judge, minutes(10), make_template())

    assert verdict is not None
    assert verdict.ended is not None
    assert (verdict.ended.unfinished_at, verdict.ended.over_at) == (minutes(0), minutes(1))


def test_a_template_that_was_whole_once_only_has_not_ended(make_template: Make) -> None:
    judge = TemplateJudge(terms())
    look(judge, minutes(0), running(transaction()))
    look(judge, minutes(1), make_template())
    look(judge, minutes(2), running(transaction()))
    look(judge, minutes(3), make_template())

    verdict = look(judge, minutes(4), make_template())

    assert verdict is not None
    assert verdict.ended is not None
    assert (verdict.ended.unfinished_at, verdict.ended.over_at) == (minutes(2), minutes(3))


def test_a_judge_that_came_later_tells_of_no_end(make_template: Make) -> None:
    judge = TemplateJudge(terms())
    look(judge, minutes(0), None)
    look(judge, minutes(1), make_template())

    verdict = look(judge, minutes(2), make_template())

    assert verdict is not None
    assert verdict.ended is None


# Polls that fail, and polls that come late


@pytest.mark.parametrize("gone", ["template", "guest"])
def test_time_without_answers_proves_nothing_missing(make_template: Make, gone: str) -> None:
    """Missing in one poll, then an outage of an hour, then missing in one poll: two blinks, not an hour."""
    judge = TemplateJudge(terms())
    blink: dict[str, Any] = {"template": make_template(sizes=()), "guest": guest(busy=True), gone: None}
    assert judge.observe(**blink, now=minutes(0)) is None
    for number in range(1, 60):
        assert judge.unanswered(why="down", now=minutes(number)) is None

    assert judge.observe(**blink, now=minutes(60)) is None
    assert judge.observe(**blink, now=minutes(67)) is None
    assert judge.observe(**blink, now=minutes(74)) is None, "14 minutes with answers"
    verdict = judge.observe(**blink, now=minutes(75))
    assert verdict is not None
    assert verdict.reason in {ReasonCode.TEMPLATE_VANISHED, ReasonCode.GUEST_VANISHED}


def test_a_machine_that_slept_has_not_seen_anything_missing_meanwhile(make_template: Make) -> None:
    judge = TemplateJudge(terms())

    assert look(judge, minutes(0), None) is None
    assert look(judge, minutes(180), None) is None
    assert look(judge, minutes(181), make_template()) is None
    verdict = look(judge, minutes(182), make_template())
    assert verdict is not None
    assert verdict.reason is ReasonCode.TEMPLATE_READY


@pytest.mark.parametrize("judge_of", JUDGES)
def test_a_deadline_that_passed_while_nobody_looked_waits_for_the_second_look(
    make_template: Make, judge_of: Any
) -> None:
    judge = judge_of(terms())
    late = START + timedelta(days=3)

    assert look(judge, late, make_template(), found=objects(5, 6)) is None
    verdict = look(judge, late + timedelta(seconds=15), make_template(), found=objects(5, 6))

    assert verdict is not None
    assert verdict.kind == "done"


def test_a_deadline_that_passed_waits_for_no_third_look(make_template: Make) -> None:
    judge = TemplateJudge(terms())
    late = START + timedelta(days=3)

    assert look(judge, late, make_template()) is None
    verdict = look(judge, late + timedelta(seconds=15), running(None))

    assert verdict is not None
    assert verdict.kind == "failed"


# For all histories


class Seen:
    """One poll of a history: what it shows, whether it has an answer, and how long after the one before it comes."""

    def __init__(self, *, state: str, answered: bool, restart: bool, seconds: float) -> None:
        self.state, self.answered, self.restart, self.seconds = state, answered, restart, seconds

    def __repr__(self) -> str:
        return f"Seen({self.state}, answered={self.answered}, restart={self.restart}, after={self.seconds})"


seen = st.builds(
    Seen,
    state=st.sampled_from(["busy", "busy", "gone", "whole", "empty"]),
    answered=st.booleans(),
    restart=st.booleans(),
    seconds=st.floats(5, 120),
)
GRACE = 900.0


def play(judge_of: Any, history: Sequence[Seen], make: Make, *, restarts: bool) -> tuple[Verdict | None, float]:
    """Feed a history to a judge, made anew where the history says so; return the verdict and when it came."""
    judge, at = judge_of(terms()), 0.0
    for one in history:
        at += one.seconds
        if one.restart and restarts:
            judge = judge_of(terms())
        now = START + timedelta(seconds=at)
        if not one.answered:
            verdict = judge.unanswered(why="down", now=now)
        else:
            template = {
                "busy": running(transaction(statusChangeDate=now.isoformat())),
                "gone": None,
                "whole": make(),
                "empty": make(sizes=()),
            }[one.state]
            found = objects(5, 6) if one.state == "whole" else []
            verdict = look(judge, now, template, guest=guest(busy=one.state == "busy", since=now), found=found)
        if verdict is not None:
            return verdict, at
    return None, at


@seeded
@given(st.lists(seen, max_size=30), st.sampled_from(["gone", "whole"]), st.sampled_from(JUDGES))
def test_restarts_change_nothing_but_the_time(make_template: Make, before: list[Seen], end: str, judge_of: Any) -> None:
    """Once the account stays as it is, judges end alike, restarted or not, at most a grace period later."""
    settled = [Seen(state=end, answered=True, restart=False, seconds=60) for _ in range(40)]

    plain, at = play(judge_of, [*before, *settled], make_template, restarts=False)
    again, later = play(judge_of, [*before, *settled], make_template, restarts=True)

    assert plain is not None
    assert again is not None
    if at > sum(one.seconds for one in before):
        # It was the settled state that ended it, and so it was for the one that was restarted.
        assert (again.kind, again.reason) == (plain.kind, plain.reason)
    assert later <= sum(one.seconds for one in before) + GRACE + 2 * 60


@seeded
@given(st.lists(seen, max_size=60), st.sampled_from(JUDGES))
def test_polls_without_answers_never_fail_a_wait_before_its_deadline(
    make_template: Make, polls: list[Seen], judge_of: Any
) -> None:
    """What is shown is the good way of things, with blinks that are shorter than the grace period, and outages."""
    shown = [
        Seen(
            state="gone" if one.state == "gone" and number % 3 == 0 else "busy",
            answered=one.answered,
            restart=one.restart,
            seconds=one.seconds,
        )
        for number, one in enumerate(polls)
    ]
    verdict, at = play(judge_of, shown, make_template, restarts=True)

    assert verdict is None or at >= terms().deadline_seconds or verdict.kind == "done"
