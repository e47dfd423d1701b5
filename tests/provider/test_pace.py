"""How often the account is asked: sooner when something is about to end, later when nothing can, within set bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from sealift.provider.triggers import account
from sealift.provider.triggers.account import AccountPoll, Interest, look_at, register, took, unregister, usual
from sealift.provider.triggers.waits import TemplateWaitTrigger

from .conftest import terms

pytestmark = pytest.mark.airflow

KEY = ("sealift-account", "c", 15.0)
NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    account._registers.clear()
    account._paces.clear()
    yield
    account._registers.clear()
    account._paces.clear()


def pause() -> float:
    poll = AccountPoll(key=KEY, classic_conn_id="c", poll_interval=15.0)
    return poll._pace(account._registers[KEY], asyncio.get_running_loop().time())


async def test_who_says_nothing_is_looked_at_as_usual() -> None:
    register(KEY, Interest(guest_id=1))
    assert pause() == pytest.approx(15.0)


async def test_the_most_urgent_decides_and_the_bounds_hold() -> None:
    one, other = register(KEY, Interest(guest_id=1)), register(KEY, Interest(guest_id=2))
    look_at(KEY, one, 4000.0)
    look_at(KEY, other, 30.0)
    assert pause() == pytest.approx(30.0, abs=0.1)
    look_at(KEY, other, 0.0)
    assert pause() == pytest.approx(2.0), "never more often than so many times what the interval says"
    look_at(KEY, other, 4000.0)
    assert pause() == pytest.approx(60.0), "never less than a quarter as often"
    unregister(KEY, one)
    unregister(KEY, other)
    look_at(KEY, other, 1.0)
    assert KEY not in account._registers, "who has left asks for nothing"


async def test_who_comes_while_nothing_is_near_shortens_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = AccountPoll(key=KEY, classic_conn_id="c", poll_interval=0.1)
    far = register(KEY, Interest(guest_id=1))
    monkeypatch.setattr(account, "SLOWER", 1e6)
    look_at(KEY, far, 5000.0)
    resting = asyncio.ensure_future(poll._rest())
    await asyncio.sleep(0)
    assert not resting.done()
    register(KEY, Interest(guest_id=2))
    async with asyncio.timeout(30):
        await resting


async def test_who_learns_while_the_poll_rests_that_the_end_is_near_shortens_the_pause() -> None:
    """The waits get what a look found when the poll rests already."""
    poll = AccountPoll(key=KEY, classic_conn_id="c", poll_interval=1000.0)
    tokens = [register(KEY, Interest(guest_id=number)) for number in range(3)]
    register_of = account._registers[KEY]
    resting = asyncio.ensure_future(poll._rest())
    await asyncio.sleep(0)
    look_at(KEY, tokens[0], 1000.0)
    assert not register_of.changed.is_set(), "nothing to look at earlier than was meant"
    look_at(KEY, tokens[1], 900.0)
    assert register_of.changed.is_set()
    await asyncio.sleep(0.01)
    look_at(KEY, tokens[2], 950.0)
    assert not register_of.changed.is_set(), "somebody else looks before that"
    look_at(KEY, tokens[2], 100.0)  # as often as it may look at most, or more often
    await asyncio.sleep(0.01)
    look_at(KEY, tokens[2], 50.0)
    assert not register_of.changed.is_set(), "it cannot look any sooner"
    assert not resting.done()
    resting.cancel()


async def test_a_look_that_ends_a_wait_comes_as_soon_as_the_bounds_let_it(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = AccountPoll(key=KEY, classic_conn_id="c", poll_interval=1000.0)
    monkeypatch.setattr(account, "QUICKER", 1e6)
    token = register(KEY, Interest(guest_id=1))
    resting = asyncio.ensure_future(poll._rest())
    await asyncio.sleep(0)
    look_at(KEY, token, 0.0)
    async with asyncio.timeout(30):
        await resting


@pytest.mark.parametrize(
    ("idle", "expected", "age", "seconds"),
    [
        (True, 600.0, 10.0, 5.0),
        (False, 600.0, 0.0, 540.0),
        (False, 600.0, 590.0, 15.0),
        (False, 30.0, 29.0, 1.5),
        (False, 600.0, 4000.0, 15.0),
        (False, None, 0.0, 15.0),
    ],
    ids=["nearly over", "far from its end", "near its end", "near a short end", "overdue", "nothing known"],
)
async def test_a_wait_says_when_the_next_look_can_tell_something(
    idle: bool, expected: float | None, age: float, seconds: float
) -> None:
    wait = TemplateWaitTrigger(classic_conn_id="c", terms="", poll_interval=15.0)
    judge = SimpleNamespace(
        nearly_over=idle,
        again_after=5.0,
        what="template",
        terms=terms(7, 70, expected_seconds=expected, started_at=NOW),
    )
    assert wait._next_look(judge, NOW + timedelta(seconds=age)) == pytest.approx(seconds)


async def test_without_a_history_a_wait_goes_by_what_others_took_in_this_process() -> None:
    for took_seconds in (100.0, 400.0, 120.0, 110.0):
        took(KEY, "template", took_seconds)
    took(KEY, "template", -1.0)
    assert usual(KEY, "template") == 110.0, "the quicker ones: a look too early costs a call, one too late a wait"
    assert usual(KEY, "export") is None
    wait = TemplateWaitTrigger(classic_conn_id="c", terms="", poll_interval=15.0)
    judge = SimpleNamespace(nearly_over=False, what="template", terms=terms(7, 70, started_at=NOW))
    assert wait._next_look(judge, NOW) == pytest.approx(99.0)
