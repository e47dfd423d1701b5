"""Questions of a poll: a call that hangs holds up nobody else, and an item that cannot be read blinds no other."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.classic.errors import (
    ClassicAuthError,
    ClassicBadReplyError,
    ClassicError,
    ClassicNotFoundError,
    ClassicRateLimitedError,
    ClassicTransientError,
    ClassicUnreachableError,
)
from sealift.provider.asking import (
    APART_AT_MOST,
    PAGE,
    SPARE_CALLS,
    Asker,
    CallHangs,
    may_be_one_item,
    read_pages,
    words_of,
)
from sealift.provider.errors import ConnectionProblem

pytestmark = pytest.mark.airflow


@pytest.fixture
async def hanging() -> AsyncIterator[Callable[[], str]]:
    """A call that does not come back before the test is over."""
    over = threading.Event()

    def hang() -> str:
        over.wait(60)
        return "late"

    yield hang
    over.set()


async def test_a_call_that_hangs_is_left_to_itself_and_the_next_one_is_made(hanging: Callable[[], str]) -> None:
    ask = Asker(name="one")
    for _ in range(3):
        with pytest.raises(CallHangs, match=r"0 s, and the call still hangs"):
            await ask(hanging, limit=0.01)
    assert await ask(lambda: "answer") == "answer"
    ask.close()


async def test_many_hanging_calls_leave_the_loop_s_own_threads_free(hanging: Callable[[], str]) -> None:
    """Airflow's triggerer writes its log lines through them; there are six on a machine with two cores."""
    askers = [Asker(name=str(number)) for number in range(40)]
    hung = [asyncio.ensure_future(ask(hanging)) for ask in askers]
    async with asyncio.timeout(20):
        assert await asyncio.to_thread(lambda: "free") == "free"
    for one in hung:
        one.cancel()
    await asyncio.gather(*hung, return_exceptions=True)


async def test_what_a_call_raises_is_raised_and_a_timeout_of_its_own_is_no_hanging() -> None:
    ask = Asker(name="one")

    def refuse() -> None:
        raise TimeoutError("the socket's own")

    with pytest.raises(TimeoutError, match="the socket's own"):
        await ask(refuse)
    ask.close()


async def test_a_call_sees_the_context_that_it_was_made_in() -> None:
    """The log lines of a call belong to the task whose context it was made in."""
    told: contextvars.ContextVar[str] = contextvars.ContextVar("told", default="nobody")
    told.set("me")
    ask = Asker(name="one")
    assert await ask(told.get) == "me"
    ask.close()


class Api:
    """Answers for the ids that it knows; spoils every page that holds a bad one."""

    def __init__(self, *, bad: Any = (), error: Exception | None = None) -> None:
        self.bad = set(bad)
        self.error = error or ClassicBadReplyError("the reply lacks the field id")
        self.pages: list[list[int]] = []

    async def ask(self, ids: list[int]) -> dict[int, str]:
        self.pages.append(ids)
        if self.bad & set(ids):
            raise self.error
        return {one: str(one) for one in ids if one % 10}


async def test_many_ids_are_asked_for_in_pages() -> None:
    api = Api()
    pages = await read_pages(api.ask, range(1, 251), apart=set())
    assert [len(page) for page in api.pages] == [PAGE, PAGE, 50]
    assert set(pages.found) == {one for one in range(1, 251) if one % 10}
    assert (pages.unread, pages.problem) == ({}, None)
    assert await read_pages(api.ask, [], apart=set()) == type(pages)()


async def test_one_item_that_cannot_be_read_is_found_once_and_asked_for_alone_from_then_on() -> None:
    api, apart = Api(bad={37}), set[int]()
    pages = await read_pages(api.ask, range(1, 251), apart=apart)

    assert pages.unread == {37: "the reply lacks the field id"}
    assert set(pages.found) == {one for one in range(1, 251) if one % 10 and one != 37}
    assert pages.problem is None, "the account answers"
    assert apart == {37}
    assert len(api.pages) <= 3 + 2 * 7

    api.pages.clear()
    again = await read_pages(api.ask, range(1, 251), apart=apart)
    assert again.unread.keys() == {37}
    assert [len(page) for page in api.pages] == [100, 100, 49, 1]

    api.bad.clear()
    healed = await read_pages(api.ask, range(1, 251), apart=apart)
    assert 37 in healed.found
    assert apart == set()


async def test_an_account_that_answers_nothing_useful_is_not_asked_for_every_item() -> None:
    api, apart = Api(bad=range(1000)), set[int]()
    pages = await read_pages(api.ask, range(1, 501), apart=apart)

    assert pages.unread.keys() == set(range(1, 501))
    assert isinstance(pages.problem, ClassicBadReplyError)
    assert len(api.pages) <= 5 + SPARE_CALLS
    assert apart == set(), "it is no matter of single items"


async def test_few_items_are_kept_apart() -> None:
    api, apart = Api(bad=range(1, 80)), set[int]()
    for _ in range(20):
        await read_pages(api.ask, range(1, 501), apart=apart)
    assert 0 < len(apart) <= APART_AT_MOST
    await read_pages(api.ask, range(90, 100), apart=apart)
    assert apart == set(), "what nobody wants any more is forgotten"


@pytest.mark.parametrize(
    "error",
    [
        ClassicAuthError("Invalid API token."),
        ClassicRateLimitedError("Rate limit exceeded."),
        ClassicUnreachableError("no such host"),
        ClassicTransientError("bad gateway"),
        CallHangs("no answer"),
        ConnectionProblem("There is no connection."),
        RuntimeError("boom"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_every_question_would_meet_ends_the_reading_and_keeps_what_was_read(error: Exception) -> None:
    assert not may_be_one_item(error)
    api = Api(bad={150}, error=error)
    pages = await read_pages(api.ask, range(1, 251), apart=set())

    assert pages.problem is error
    assert len(api.pages) == 2
    assert set(pages.found) == {one for one in range(1, 101) if one % 10}
    assert pages.unread.keys() == set(range(101, 251))


@pytest.mark.parametrize(
    "error",
    [
        ClassicBadReplyError("a field is missing"),
        ClassicNotFoundError("Unable to find object with id of '7'."),
        ClassicTransientError("Internal Error"),
        ValueError("a model that does not fit"),
        KeyError("error"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_come_from_one_item(error: Exception) -> None:
    assert may_be_one_item(error)


def test_words_of_strangers_stay_in_the_log() -> None:
    assert words_of(ClassicError("no such host", call="a::b")) == "a::b: no such host"
    assert "hidden" not in words_of(RuntimeError("https://user:hidden@example.org"))
    assert words_of(RuntimeError("x")).startswith("RuntimeError")


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sets(st.integers(1, 600), max_size=400), st.sets(st.integers(1, 600), max_size=60), st.integers(1, 4))
async def test_every_id_is_found_unknown_or_unread_whatever_is_bad(ids: set[int], bad: set[int], looks: int) -> None:
    api, apart = Api(bad=bad), set[int]()
    for _ in range(looks):
        api.pages.clear()
        pages = await read_pages(api.ask, ids, apart=apart)
        assert pages.found.keys().isdisjoint(pages.unread)
        assert {one for one in ids if one % 10} <= pages.found.keys() | pages.unread.keys() <= ids
        assert not bad & pages.found.keys()
        assert len(api.pages) <= -(-len(ids) // PAGE) + SPARE_CALLS + APART_AT_MOST
