"""Whole waits, trigger and judge, over made-up polls: restarts and a second triggerer change nothing but the time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.classic.models import GuestState, Template
from sealift.cos.models import ObjectInfo
from sealift.provider.triggers import account, waits
from sealift.provider.triggers.account import Interest, Snapshot
from sealift.provider.triggers.waits import (
    AccountWaitTrigger,
    ExportWaitTrigger,
    TemplateWaitTrigger,
)
from sealift.provider.waits import raise_unless_done

from .conftest import idle_guest, terms, whole_template

pytestmark = pytest.mark.airflow

START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
GRACE = 900.0
DEADLINE = 4 * 3600.0
KINDS: list[type[AccountWaitTrigger]] = [TemplateWaitTrigger, ExportWaitTrigger]
seeded = settings(derandomize=True, deadline=None, max_examples=150)


def trigger(kind: type[AccountWaitTrigger], **changes: Any) -> AccountWaitTrigger:
    wanted: dict[str, Any] = {
        "started_at": START,
        "deadline_seconds": DEADLINE,
        "stuck_seconds": DEADLINE / 2,
        "grace_seconds": GRACE,
    }
    more = {name: changes.pop(name) for name in ("deferred_by_worker", "attempt", "resumes") if name in changes}
    return kind(
        classic_conn_id="c",
        cos_conn_id="s",
        region="r",
        terms=terms(7, 70, **(wanted | changes)).model_dump_json(),
        poll_interval=15.0,
        **more,
    )


class Everything(frozenset[Any]):
    """What a poll asked for that asked for everything."""

    def __contains__(self, _: object) -> bool:
        return True


@dataclass
class Poll:
    """One look of one triggerer.

    :param at: seconds after the start.
    :param answer: ``yes``, or what went wrong.
    :param restart: whether the triggerer is started again before it.
    """

    at: float
    answer: str = "yes"
    restart: bool = False


@dataclass
class Span:
    """The account stays in a state for some seconds."""

    state: str
    seconds: float


def state_at(history: Sequence[Span], at: float) -> str:
    end = 0.0
    for span in history:
        end += span.seconds
        if at < end:
            return span.state
    return history[-1].state


def snapshot(kind: type[AccountWaitTrigger], poll: Poll, state: str, interest: Interest) -> Snapshot:
    """What a poll shows of the account's state, or of what went wrong instead."""
    now = START + timedelta(seconds=poll.at)
    transaction = {"id": 9, "statusChangeDate": now.isoformat(), "transactionStatus": {"name": "COPY"}}
    known: dict[str, Any] = {"taken_at": now, "asked": Everything()}
    match poll.answer:
        case "down":
            return Snapshot(**known, trouble="no such host")
        case "unread":
            return Snapshot(**known, unread_templates={70: "a field is missing"})
        case "unlisted" if interest.place is not None:
            return Snapshot(**known, templates={70: whole_template(70)}, unlisted={interest.place: "SlowDown"})
    busy = {"id": 70, "children": [{"id": 71, "transactionId": 9, "transaction": transaction}]}
    templates = {
        "busy": {70: Template.model_validate(busy)},
        "whole": {70: whole_template(70)},
        "empty": {70: Template.model_validate({"id": 70})},
        "gone": {},
        "lost": {},
    }[state]
    guests = {7: idle_guest(7)}
    if state == "busy":
        guests = {7: GuestState.model_validate({"id": 7, "activeTransaction": transaction})}
    elif state == "lost":
        templates, guests = {70: Template.model_validate({"id": 70})}, {}
    objects = {}
    if interest.place is not None and state != "busy":
        key = f"{interest.place.prefix}0.vhd"
        one = ObjectInfo(key=key, size=9, etag="e", last_modified=now)
        objects = {interest.place: (one,) if state == "whole" else ()}
    return Snapshot(**known, templates=templates, guests=guests, objects=objects)


async def play(
    kind: type[AccountWaitTrigger], history: Sequence[Span], polls: Sequence[Poll], **more: Any
) -> tuple[TriggerEvent | None, float]:
    """Run a wait over polls; return its event and when it came. Each restart makes the trigger anew from its row."""
    row = json.loads(json.dumps(trigger(kind, **more).serialize()))
    rest = list(polls)
    last = 0.0
    while rest:
        made: AccountWaitTrigger = import_string(row[0])(**row[1])

        async def stream(of: AccountWaitTrigger = made) -> AsyncIterator[Snapshot]:
            nonlocal last
            first = True
            while rest and (first or not rest[0].restart):
                poll, first = rest.pop(0), False
                last = poll.at
                (interest,) = account.interests(of.shared_stream_key())
                yield snapshot(kind, poll, state_at(history, poll.at), interest)

        events = [event async for event in made.filter_shared_stream(stream())]
        assert account.interests(made.shared_stream_key()) == ()
        if events:
            (event,) = events
            return event, last
    return None, last


def kind_of(event: TriggerEvent | None) -> str | None:
    if event is None:
        return None
    return "done" if isinstance(event, TaskSuccessEvent) else str(event.payload["reason"])


answers = st.sampled_from(["yes", "yes", "yes", "down", "unread", "unlisted"])


@st.composite
def triggerers(draw: st.DrawFn, *, until: float) -> list[Poll]:
    """The polls of one triggerer: irregular, some without answer, some after a restart; towards the end all is well."""
    polls, at = [], draw(st.floats(0, 60))
    while at < until:
        polls.append(Poll(at=at, answer=draw(answers), restart=draw(st.integers(0, 5)) == 0))
        at += draw(st.floats(10, 120))
    return [*polls, *(Poll(at=at + 60 * n) for n in range(20))]


@st.composite
def plays(draw: st.DrawFn) -> tuple[type[AccountWaitTrigger], list[Span], list[Poll], list[Poll]]:
    """A wait, what becomes of the account (for good in the end), and the polls of two triggerers."""
    kind = draw(st.sampled_from(KINDS))
    # Shorter than the grace period, so that only what stays can end a wait.
    between = st.builds(Span, st.sampled_from(["busy", "busy", "gone", "empty", "lost"]), st.floats(20, GRACE / 4))
    history: list[Span] = []
    for one in draw(st.lists(between, max_size=6)):
        # What is missing comes back for a while: two spans of it in a row would be one that lasts.
        history += [one, Span("busy", 300)] if one.state != "busy" else [one]
    history.append(Span(draw(st.sampled_from(["whole", "gone", "empty"])), float("inf")))
    settles = sum(span.seconds for span in history[:-1])
    until = settles + 600
    return kind, history, draw(triggerers(until=until)), draw(triggerers(until=until))


@seeded
@given(plays())
async def test_two_triggerers_with_restarts_and_failing_polls_come_to_the_same_end(
    drawn: tuple[type[AccountWaitTrigger], list[Span], list[Poll], list[Poll]],
) -> None:
    kind, history, one, other = drawn
    settles = sum(span.seconds for span in history[:-1])
    calm = [Poll(at=30.0 * n) for n in range(int((settles + 3600) / 30))]

    expected, _ = await play(kind, history, calm)
    assert expected is not None
    for polls in (one, other):
        event, at = await play(kind, history, polls)
        assert kind_of(event) == kind_of(expected)
        assert at >= settles, "nothing that passed ended it"
        assert at <= max(polls[-20].at, settles) + GRACE + 3 * 120, "a grace period after all is well, at the latest"


@seeded
@given(st.sampled_from(KINDS), st.lists(answers, max_size=60), st.lists(st.integers(0, 3), max_size=60))
async def test_no_poll_that_fails_ends_a_wait_before_its_deadline(
    kind: type[AccountWaitTrigger], what: list[str], restarts: list[int]
) -> None:
    """Only failing polls, and blinks: one poll in which the template is missing, then it is there again."""
    polls = [
        Poll(at=60.0 * n, answer=one, restart=n < len(restarts) and restarts[n] == 0) for n, one in enumerate(what)
    ]
    history = [Span("gone" if n % 4 == 3 else "busy", 60.0) for n in range(len(what) + 1)]

    event, _ = await play(kind, history, polls)

    assert event is None


@pytest.mark.parametrize(
    ("kind", "answer"),
    [*((kind, answer) for kind in KINDS for answer in ("down", "unread")), (ExportWaitTrigger, "unlisted")],
)
async def test_polls_that_never_answer_end_a_wait_at_its_deadline_and_not_before(
    kind: type[AccountWaitTrigger], answer: str
) -> None:
    polls = [Poll(at=300.0 * n, answer=answer, restart=n % 7 == 6) for n in range(100)]

    event, at = await play(kind, [Span("busy", float("inf"))], polls)

    assert kind_of(event) == "no-answer"
    assert at == DEADLINE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("restart_every", [0, 1, 3])
async def test_a_stuck_transaction_is_found_and_named_however_often_triggerers_die(
    kind: type[AccountWaitTrigger], restart_every: int
) -> None:
    """By the account's own dates. Until half of the deadline, and no longer, it may stand still."""
    row = trigger(kind).serialize()
    transaction = {"id": 4711, "statusChangeDate": START.isoformat(), "transactionStatus": {"friendlyName": "Copying"}}
    template = Template.model_validate({"id": 70, "children": [{"id": 71, "transaction": transaction}]})
    guest = GuestState.model_validate({"id": 7, "activeTransaction": transaction})
    polls = iter(range(1, 1000))
    minute, events = 0, []

    async def stream() -> AsyncIterator[Snapshot]:
        nonlocal minute
        for number in polls:
            minute = number
            now = START + timedelta(minutes=number)
            yield Snapshot(taken_at=now, asked=Everything(), templates={70: template}, guests={7: guest})
            if restart_every and number % restart_every == 0:
                return

    while not events:
        made: AccountWaitTrigger = import_string(row[0])(**json.loads(json.dumps(row[1])))
        events = [event async for event in made.filter_shared_stream(stream())]

    assert minute == 120
    payload = events[0].payload
    assert payload["reason"] == "stuck"
    assert "The last transaction seen is 4711, 'Copying', unchanged for 2 h 00 min." in payload["sentence"]
    assert "host7 (virtual server 7, template 70)" in payload["sentence"]


# What is over before it begins


async def nothing() -> AsyncIterator[Any]:
    raise AssertionError("nobody needs a poll")
    yield


@pytest.mark.parametrize("kind", KINDS)
async def test_an_export_that_is_done_ends_its_waits_at_once(kind: type[AccountWaitTrigger]) -> None:
    (event,) = [one async for one in trigger(kind, exported=True).filter_shared_stream(nothing())]
    assert isinstance(event, TaskSuccessEvent)


@pytest.mark.parametrize("kind", KINDS)
async def test_where_a_worker_deferred_even_that_waits_until_airflow_forgot_the_worker(
    kind: type[AccountWaitTrigger], monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[datetime] = []

    async def settle(began: datetime) -> None:
        settled.append(began)

    monkeypatch.setattr(waits, "settle", settle)
    made = trigger(kind, exported=True, deferred_by_worker=True)
    (event,) = [one async for one in made.filter_shared_stream(nothing())]

    assert isinstance(event, TaskSuccessEvent)
    assert len(settled) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wait_that_goes_on_resumes_its_task_also_after_a_good_end(kind: type[AccountWaitTrigger]) -> None:
    (event,) = [one async for one in trigger(kind, exported=True, resumes=True).filter_shared_stream(nothing())]

    assert type(event) is TriggerEvent
    assert (event.payload["status"], event.payload["reason"]) == ("done", "already-exported")
    raise_unless_done(event.payload)


@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize("by_worker", [False, True])
@pytest.mark.parametrize("state", ["whole", "gone"])
async def test_a_worker_is_resumed_only_after_airflow_forgot_the_one_that_deferred(
    monkeypatch: pytest.MonkeyPatch, resumes: bool, by_worker: bool, state: str
) -> None:
    settled: list[datetime] = []

    async def settle(began: datetime) -> None:
        settled.append(began)

    monkeypatch.setattr(waits, "settle", settle)
    polls = [Poll(at=60.0 * n) for n in range(30)]
    event, _ = await play(
        TemplateWaitTrigger,
        [Span(state, float("inf"))],
        polls,
        resumes=resumes,
        deferred_by_worker=by_worker,
    )

    assert event is not None
    starts_a_worker = resumes or state == "gone"
    assert isinstance(event, TaskSuccessEvent) is not starts_a_worker
    assert len(settled) == int(by_worker and starts_a_worker)


async def test_run_inline_an_export_that_is_done_says_so() -> None:
    (event,) = [one async for one in trigger(TemplateWaitTrigger, exported=True).run()]

    assert (event.payload["status"], event.payload["reason"]) == ("done", "already-exported")
    raise_unless_done(event.payload)


# What is handed on


ENDED = {"template_id": 70, "unfinished_at": "2026-11-23T02:04:00Z", "over_at": "2026-11-23T02:05:00Z"}


async def test_when_a_template_became_whole_is_handed_to_the_worker_that_goes_on() -> None:
    history = [Span("busy", 300), Span("whole", float("inf"))]
    polls = [Poll(at=60.0 * n) for n in range(10)]

    seen, _ = await play(TemplateWaitTrigger, history, polls, resumes=True)
    late, _ = await play(TemplateWaitTrigger, history, polls[6:], resumes=True)
    other, _ = await play(ExportWaitTrigger, history, polls, resumes=True)

    for event in (seen, late, other):
        assert type(event) is TriggerEvent
        assert event.payload["status"] == "done"
        assert len(json.dumps(event.payload)) < 500
    assert seen is not None
    assert seen.payload["ended"] == ENDED
    assert late is not None
    assert "ended" not in late.payload
    assert other is not None
    assert "ended" not in other.payload


async def test_when_a_template_became_whole_is_handed_on_where_it_was_seen() -> None:
    kind = TemplateWaitTrigger
    history = [Span("busy", 300), Span("whole", float("inf"))]
    polls = [Poll(at=60.0 * n) for n in range(10)]

    seen, _ = await play(kind, history, polls)
    late, _ = await play(kind, history, polls[6:])
    other, _ = await play(ExportWaitTrigger, history, polls)

    assert isinstance(seen, TaskSuccessEvent)
    assert seen.xcoms == {"ended": ENDED}
    assert isinstance(late, TaskSuccessEvent)
    assert not late.xcoms
    assert isinstance(other, TaskSuccessEvent)
    assert not other.xcoms


# A person's hand


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ([], "No poll has answered yet."),
        ([Poll(at=60.0)], "The last transaction seen is 9, 'COPY'"),
        ([Poll(at=60.0, answer="down")], "The last poll found nothing out: no such host"),
    ],
    ids=["nothing", "a transaction", "an outage"],
)
async def test_on_kill_says_what_was_seen_last(seen: list[Poll], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = trigger(TemplateWaitTrigger)

    async def stream() -> AsyncIterator[Snapshot]:
        for poll in seen:
            (interest,) = account.interests(made.shared_stream_key())
            yield snapshot(TemplateWaitTrigger, poll, "busy", interest)

    assert [one async for one in made.filter_shared_stream(stream())] == []
    await made.on_kill()

    said = capsys.readouterr().out
    assert says in said
    assert "sealift-7-20260101T0000Z" in said


@pytest.mark.parametrize(
    ("left", "says"),
    [("null", "left nothing to wait for"), (terms(7, 70, exported=True).model_dump_json(), "nothing runs")],
    ids=["no terms", "exported"],
)
async def test_on_kill_of_a_wait_for_nothing_says_so(left: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    await TemplateWaitTrigger(classic_conn_id="c", terms=left, poll_interval=1.0).on_kill()
    assert says in capsys.readouterr().out
