"""Captures that begin together share one look, which begins after each of them asked for it."""

from __future__ import annotations

import threading
import time as clocks
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sealift.exports.board import PATIENCE, Board
from sealift.exports.errors import OfflineCapReached, OutcomeOpen
from sealift.exports.offline import Account
from sealift.exports.plan import PlanItem
from sealift.exports.registers import Entry, Holding
from sealift.exports.slots import OfflineSlots
from sealift.exports.surveying import Survey, survey

from .conftest import PLACE

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def look_of(minute: int, **slots: Holding) -> Survey:
    held = {int(number[1:]): one for number, one in slots.items()}
    return Survey(
        account=Account(taken_at=NOON + timedelta(minutes=minute)),
        slots=held,
        live=frozenset(number for number, one in held.items() if one.held),
    )


def holding(number: int, *, guest: int = 101, free: bool = False) -> Holding:
    entry = Entry(
        export_id=f"{guest}-20261123T0200Z",
        guest_id=guest,
        token="t",
        taken_at=NOON,
        state="free" if free else "held",
    )
    return Holding(number=number, entry=entry, since=NOON)


class Looks:
    """Looks that take as long as they are told, and say when they began."""

    def __init__(self) -> None:
        self.begun: list[Survey | None] = []
        self.go = threading.Semaphore(0)
        self.error: Exception | None = None

    def __call__(self, latest: Survey | None) -> Survey:
        self.begun.append(latest)
        number = len(self.begun)
        assert self.go.acquire(timeout=30)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return look_of(number)


def until(condition: Callable[[], bool]) -> None:
    deadline = clocks.monotonic() + 30
    while not condition():
        assert clocks.monotonic() < deadline
        clocks.sleep(0.002)


def test_all_who_wait_while_somebody_looks_share_the_look_that_follows() -> None:
    board, looks = Board(), Looks()
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(board.look, looks)
        until(lambda: len(looks.begun) == 1)
        others = [threads.submit(board.look, looks) for _ in range(4)]
        clocks.sleep(0.1)
        assert len(looks.begun) == 1, "nobody is served by a look that began before he asked"
        looks.go.release()
        assert first.result(30) == look_of(1)
        until(lambda: len(looks.begun) == 2)
        looks.go.release()
        assert [one.result(30) for one in others] == [look_of(2)] * 4
    assert looks.begun == [None, look_of(1)], "each builds on the one before"
    assert board.latest == look_of(2)


def test_a_look_that_fails_fails_its_own_caller_only() -> None:
    board, looks = Board(), Looks()
    with ThreadPoolExecutor(2) as threads:
        looks.error = RuntimeError("no answer")
        first = threads.submit(board.look, looks)
        until(lambda: len(looks.begun) == 1)
        second = threads.submit(board.look, looks)
        looks.go.release(2)
        with pytest.raises(RuntimeError, match="no answer"):
            first.result(30)
        assert second.result(30) == look_of(2)
    assert board.latest == look_of(2)


def test_nobody_waits_for_ever_for_a_look_that_hangs() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += 1.0
        clocks.sleep(0.001)

    board, hangs, quick = Board(sleep=sleep, monotonic=lambda: now), Looks(), Looks()
    with ThreadPoolExecutor(1) as threads:
        hung = threads.submit(board.look, hangs)
        until(lambda: len(hangs.begun) == 1)
        quick.begun.append(None)  # its look is the second of all
        quick.go.release()
        assert board.look(quick) == look_of(2)
        assert now > PATIENCE
        hangs.go.release()
        assert hung.result(30) == look_of(1)
    assert board.latest == look_of(2), "what began earlier tells nothing new when it ends later"


def test_the_latest_look_counts_whoever_had_it() -> None:
    board = Board()
    assert board.latest is None
    board.put(look_of(2))
    board.put(look_of(1))
    assert board.latest == look_of(2)
    board.put(look_of(3))
    assert board.latest == look_of(3)


def test_what_was_written_shows_until_a_look_shows_it() -> None:
    board = Board()
    board.put(look_of(1, s0=holding(7)))
    board.wrote(0, holding(8, free=True))
    board.wrote(1, holding(1, guest=102))
    latest = board.latest
    assert latest is not None
    assert (latest.slots, latest.live) == ({0: holding(8, free=True), 1: holding(1, guest=102)}, {1})
    board.put(look_of(2, s0=holding(9)))  # somebody else has taken the one, and the other is not listed yet
    latest = board.latest
    assert latest is not None
    assert (latest.slots, latest.live) == ({0: holding(9), 1: holding(1, guest=102)}, {0, 1})
    board.put(look_of(3, s0=holding(9), s1=holding(2, guest=102, free=True)))
    assert board.latest == look_of(3, s0=holding(9), s1=holding(2, guest=102, free=True))


# Captures by a board


@pytest.fixture
def classic(make_guest: Callable[..., Any], make_classic: Any) -> Any:
    return make_classic(guests=[make_guest(number) for number in range(101, 111)])


@pytest.fixture
def item(make_guest: Callable[..., Any], item_of: Callable[..., PlanItem]) -> Callable[[int], PlanItem]:
    made = item_of(make_guest(101))

    def of(guest_id: int) -> PlanItem:
        update = {"guest_id": guest_id, "export_id": f"{guest_id}-20261123T0200Z", "hostname": f"web{guest_id}"}
        return made.model_copy(update=update)

    return of


@pytest.fixture
def capture(classic: Any, item: Callable[[int], PlanItem], gate_of: Callable[..., OfflineSlots]) -> Callable[..., None]:
    def run(guest_id: int, **how: Any) -> None:
        with gate_of(**how).admit(classic, item(guest_id)) as admission:
            admission.submitting()
            classic.add_template(item(guest_id).template_name, sizes=())

    return run


def test_a_capture_by_a_board_lists_the_slots_and_asks_the_account_once(
    capture: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    board = Board()
    board.put(survey(classic, cos, PLACE, now=time.now))
    for guest_id in (101, 103, 105, 107):  # two of them want the slot of another one
        classic.calls.clear()
        cos.reads.clear()
        time.now += timedelta(seconds=1)
        capture(guest_id, max_offline=4, board=board)
        assert classic.count("newest_templates") == 1
        assert [key for key in cos.reads if "offline-slots" in key] == []
    assert survey(classic, cos, PLACE, now=time.now).live == {0, 1, 2, 3}
    with pytest.raises(OfflineCapReached):
        capture(109, max_offline=4, board=board)
    assert survey(classic, cos, PLACE, now=time.now).guests() == {101, 103, 105, 107}


def test_a_board_is_never_believed_about_the_cap(
    capture: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    board = Board()
    board.put(survey(classic, cos, PLACE, now=time.now))
    capture(101, max_offline=1)  # by another process
    with pytest.raises(OfflineCapReached, match="1 of at most 1"):
        capture(102, max_offline=1, board=board)
    assert survey(classic, cos, PLACE, now=time.now).guests() == {101}, "the slot that it took was given back"
    latest = board.latest
    assert latest is not None
    assert latest.guests() == {101}, "which the board knows as well"


def test_a_full_board_may_be_old(capture: Callable[..., None], classic: Any, cos: Any, time: Any) -> None:
    capture(101, max_offline=1)
    board = Board()
    board.put(survey(classic, cos, PLACE, now=time.now))
    (old,) = classic.templates.values()
    del classic.templates[old.id]
    classic.add_template(old.name)
    capture(102, max_offline=1, board=board)
    assert survey(classic, cos, PLACE, now=time.now).guests() == {102}


def test_another_try_of_the_same_export_is_found_though_the_board_does_not_show_it(
    capture: Callable[..., None],
    item: Callable[[int], PlanItem],
    gate_of: Callable[..., OfflineSlots],
    classic: Any,
    cos: Any,
    time: Any,
) -> None:
    board = Board()
    capture(109, max_offline=5)
    board.put(survey(classic, cos, PLACE, now=time.now))
    with gate_of().admit(classic, item(101)) as elsewhere:
        elsewhere.submitting()
    with pytest.raises(OutcomeOpen, match="may have submitted"):
        capture(101, max_offline=5, board=board)
    assert survey(classic, cos, PLACE, now=time.now).guests() == {109, 101}
