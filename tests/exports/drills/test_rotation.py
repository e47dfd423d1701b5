"""Whose turn it is: every server within as many drills as it takes, whatever fails, comes and goes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.exports.drills.keys import Outcome, Rehearsed
from sealift.exports.drills.rotation import (
    Candidate,
    Turn,
    Why,
    choose,
    export_for,
    of_drills,
    places_for,
    rounds_for,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BAD = (Outcome.FAILED, Outcome.UNFINISHED)


def rehearsed(guest_id: int, day: int, outcome: Outcome = Outcome.PASSED, **changes: object) -> Rehearsed:
    given_: dict[str, object] = {
        "guest_id": guest_id,
        "period": "p1",
        "ended_at": NOW + timedelta(days=day),
        "outcome": outcome,
        "drill_id": f"drill-{day}",
    }
    return Rehearsed(**(given_ | changes))  # type: ignore[arg-type]


def candidate(guest_id: int, *past: Rehearsed, since: int = 0) -> Candidate:
    return Candidate(guest_id=guest_id, exports={"p1": NOW - timedelta(days=100 - since)}, past=past)


def ids(turns: Sequence[Turn]) -> list[int]:
    return [one.guest_id for one in turns]


class Books:
    """Servers that come and go, and what was rehearsed of them."""

    def __init__(self) -> None:
        self.since: dict[int, int] = {}
        self.past: dict[int, list[Rehearsed]] = {}
        self.drills = 0

    def drill(
        self, present: set[int], *, places: int, outcomes: Sequence[Outcome], at_most: int | None = None
    ) -> list[Turn]:
        """Make a drill over these servers; ``outcomes`` are used in turn."""
        self.drills += 1
        for one in sorted(present):
            self.since.setdefault(one, self.drills)
        turns = choose(
            [candidate(one, *self.past.get(one, []), since=self.since[one]) for one in sorted(present)],
            places=places,
            at_most=at_most,
            seed="bucket",
        )
        for place, turn in enumerate(turns):
            made = rehearsed(turn.guest_id, self.drills, outcomes[place % len(outcomes)])
            self.past.setdefault(turn.guest_id, []).append(made)
        return turns


servers = st.integers(1, 14)
few = st.integers(1, 5)
outcomes = st.lists(st.sampled_from([Outcome.PASSED, Outcome.PASSED, *BAD]), min_size=1, max_size=6)


@given(
    count=servers,
    places=few,
    before=st.lists(st.tuples(st.sets(st.integers(1, 14)), few, outcomes), max_size=8),
    after=st.lists(outcomes, min_size=1, max_size=4),
)
def test_each_server_has_its_turn_within_ceil_s_by_k_drills_whatever_fails(
    count: int, places: int, before: list[tuple[set[int], int, list[Outcome]]], after: list[list[Outcome]]
) -> None:
    """However the books came to be; and in every stretch of so many drills, not only in the first."""
    books = Books()
    for present, k, came in before:
        books.drill(present, places=k, outcomes=came)
    everyone = set(range(1, count + 1))
    rounds = rounds_for(count, places=places)
    assert rounds == -(-count // places)
    made = [
        set(ids(books.drill(everyone, places=places, outcomes=after[number % len(after)])))
        for number in range(3 * rounds + 1)
    ]
    for start in range(len(made) - rounds + 1):
        assert set().union(*made[start : start + rounds]) == everyone


@given(st.lists(st.tuples(st.sets(st.integers(1, 10), min_size=1), few, outcomes), min_size=2, max_size=25))
def test_while_servers_come_and_go_only_those_that_come_delay_the_others(
    drills: list[tuple[set[int], int, list[Outcome]]],
) -> None:
    """A server waits for no more turns than there were others when it began to wait, and came since."""
    books = Books()
    ahead: dict[int, int] = {}
    before: set[int] = set()
    for present, places, came in drills:
        turns = books.drill(present, places=places, outcomes=came)
        taken, regular = set(ids(turns)), {one.guest_id for one in turns if one.why is not Why.AGAIN}
        ahead = {one: left for one, left in ahead.items() if one in present}
        for one in ahead:
            ahead[one] += len(present - before)
        for one in present - ahead.keys():
            ahead[one] = len(present) - 1
        for one in sorted(present - taken):
            ahead[one] -= len(regular)
            assert ahead[one] >= 0, f"server {one} was passed over for longer than the others can explain"
        for one in taken:
            ahead[one] = len(present) - 1
        before = present


@given(count=servers, within=st.integers(1, 12), came=outcomes)
def test_so_many_places_are_taken_that_each_comes_within_what_was_asked_for(
    count: int, within: int, came: list[Outcome]
) -> None:
    books, everyone = Books(), set(range(1, count + 1))
    places = places_for(count, within=within)
    seen: set[int] = set()
    for _ in range(within):
        turns = books.drill(everyone, places=places, outcomes=came)
        assert len(turns) <= 2 * places
        seen |= set(ids(turns))
    assert seen == everyone


@given(count=servers, places=few, data=st.data(), came=st.lists(outcomes, min_size=1, max_size=4))
def test_under_a_bound_it_takes_twice_as_long_at_most(
    count: int, places: int, data: st.DataObject, came: list[list[Outcome]]
) -> None:
    """Those that did not pass come first, also before the bound cuts; but each only once more."""
    at_most = data.draw(st.integers(1, places))
    books, everyone = Books(), set(range(1, count + 1))
    rounds = 2 * (count - 1) // at_most + 1
    made = [
        set(ids(books.drill(everyone, places=places, at_most=at_most, outcomes=came[number % len(came)])))
        for number in range(3 * rounds)
    ]
    for start in range(len(made) - rounds + 1):
        assert set().union(*made[start : start + rounds]) == everyone


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.tuples(st.integers(-9, 0), st.sampled_from(Outcome)), max_size=4)),
        min_size=1,
        max_size=12,
    ),
    few,
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_the_same_books_give_the_same_answer_in_whatever_order_they_are_read(
    told: list[tuple[int, list[tuple[int, Outcome]]]], places: int, at_most: int, chance: random.Random
) -> None:
    made = [
        candidate(number, *(rehearsed(number, day, outcome) for day, outcome in past), since=since)
        for number, (since, past) in enumerate(told, start=1)
    ]
    turns = choose(made, places=places, at_most=at_most, seed="s")
    shuffled = [
        Candidate(guest_id=one.guest_id, exports=one.exports, past=chance.sample(list(one.past), len(one.past)))
        for one in chance.sample(made, len(made))
    ]
    assert choose(shuffled, places=places, at_most=at_most, seed="s") == turns
    assert len(set(ids(turns))) == len(turns) <= at_most


def test_who_did_not_pass_comes_first_then_who_never_was_then_who_waits_longest() -> None:
    made = [
        candidate(1, rehearsed(1, -5)),
        candidate(2, rehearsed(2, -9)),
        candidate(3, since=7),
        candidate(4, since=2),
        candidate(5, rehearsed(5, -20), rehearsed(5, -1, Outcome.FAILED)),
        candidate(6, rehearsed(6, -2, Outcome.UNFINISHED)),
    ]
    turns = choose(made, places=4)
    assert [(one.guest_id, one.why) for one in turns] == [
        (6, Why.AGAIN),
        (5, Why.AGAIN),
        (4, Why.NEVER),
        (3, Why.NEVER),
        (2, Why.LONGEST),
        (1, Why.LONGEST),
    ]
    assert ids(choose(made, places=4, at_most=1)) == [6]


def test_what_fails_for_good_does_not_take_the_places_of_the_others() -> None:
    broken = [candidate(one, rehearsed(one, -2, Outcome.FAILED), rehearsed(one, -1, Outcome.FAILED)) for one in (1, 2)]
    sound = [candidate(one, rehearsed(one, -3)) for one in (3, 4)]
    assert ids(choose([*broken, *sound], places=2)) in ([3, 4], [4, 3])


def test_more_that_did_not_pass_than_there_are_places_wait_as_the_others_do() -> None:
    failed = [candidate(one, rehearsed(one, one - 20, Outcome.FAILED)) for one in (1, 3, 5)]
    sound = [candidate(one, rehearsed(one, one - 20)) for one in (2, 4)]
    assert ids(choose([*failed, *sound], places=1)) == [1, 2]
    assert ids(choose([*failed, sound[1]], places=1)) == [1, 3]


def test_of_several_tries_of_a_drill_the_last_counts_and_what_was_gone_does_not() -> None:
    past = [
        rehearsed(1, -3),
        rehearsed(1, -2, Outcome.UNFINISHED, drill_id="d"),
        rehearsed(1, -1, Outcome.PASSED, drill_id="d"),
        rehearsed(1, 0, Outcome.GONE),
    ]
    assert [one.outcome for one in of_drills(past)] == [Outcome.PASSED, Outcome.PASSED]
    assert choose([candidate(1, rehearsed(1, 0, Outcome.GONE))], places=1)[0].why is Why.NEVER


def test_equal_servers_go_in_an_order_of_their_own_that_follows_from_the_seed() -> None:
    made = [candidate(one) for one in range(1, 40)]
    orders = [ids(choose(made, places=40, seed=seed)) for seed in ("a", "a", "b")]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([], "new"),
        ([("old", -1, Outcome.PASSED)], "new"),
        ([("new", -1, Outcome.FAILED)], "new"),
        ([("new", -1, Outcome.UNFINISHED)], "new"),
        ([("new", -1, Outcome.GONE)], "new"),
        ([("new", -1, Outcome.PASSED)], "mid"),
        ([("new", -9, Outcome.FAILED), ("new", -1, Outcome.PASSED)], "mid"),
        ([("new", -1, Outcome.PASSED), ("mid", -2, Outcome.FAILED)], "old"),
        ([("new", -3, Outcome.PASSED), ("mid", -2, Outcome.PASSED), ("old", -1, Outcome.PASSED)], "new"),
        ([("new", -1, Outcome.PASSED), ("mid", -2, Outcome.PASSED), ("old", -3, Outcome.PASSED)], "old"),
        ([("deleted", -1, Outcome.PASSED)], "new"),
    ],
)
def test_of_a_server_the_newest_export_comes_until_it_has_passed(
    past: list[tuple[str, int, Outcome]], expected: str
) -> None:
    exports = {"old": NOW - timedelta(days=60), "new": NOW - timedelta(days=20), "mid": NOW - timedelta(days=40)}
    made = [rehearsed(1, day, outcome, period=period) for period, day, outcome in past]
    assert export_for(Candidate(guest_id=1, exports=exports, past=made)) == expected
