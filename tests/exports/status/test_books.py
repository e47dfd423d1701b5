"""The ledger decides what is exported; plans and reports say what became of the rest; little is read twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sealift.cos.errors import CosTransientError
from sealift.exports import names
from sealift.exports.status import books as books_module
from sealift.exports.status.books import STILL_OPENING, BooksNotOpen
from sealift.exports.status.index import index_key, parse_index
from sealift.exports.status.rows import State

FIRST, SECOND = "20261123T0200Z", "20261130T0200Z"


def states(books: Any, period: str = FIRST) -> dict[int, str]:
    return {number: row.state.value for number, row in books.refresh().rows[period].items()}


def rested(books: Any) -> None:
    """Wait until nobody looks any more."""
    with books._state:
        assert books._state.wait_for(lambda: not books._at_work, timeout=30)


def test_each_server_of_a_run_is_in_one_of_the_states(world: Any) -> None:
    plan = world.plan(FIRST)
    world.finish(plan, 101)
    books = world.books()
    assert states(books) == {
        101: "exported",
        102: "running",
        103: "running",
        104: "running",
        105: "skipped",
        -555: "skipped",
    }
    world.later(hours=1)
    world.finish(plan, 103)
    world.report(plan, {102: "SoftLayer_Exception: the template went away"})
    assert states(books) == {
        101: "exported",
        102: "failed",
        103: "exported",
        104: "failed",
        105: "skipped",
        -555: "skipped",
    }
    row = books.refresh().rows[FIRST][102]
    assert (row.task, row.words) == ("capture", "SoftLayer_Exception: the template went away")
    assert row.failed_at == world.now.timestamp()


def test_a_manifest_counts_whatever_a_report_says(world: Any) -> None:
    plan = world.plan(FIRST, ids=[101, 102])
    world.report(plan, {101: "no", 102: "no"})
    books = world.books()
    assert states(books)[101] == "failed"
    failed_at = books.refresh().rows[FIRST][101].failed_at
    world.later(hours=2)
    world.finish(plan, 101)
    row = books.refresh().rows[FIRST][101]
    assert (row.state, row.words, row.task) == (State.EXPORTED, "", "")
    assert row.failed_at == failed_at, "how long the failure lasted can still be told"
    world.cos.delete("b", names.manifest_key(prefix="nightly", guest_id=101, period=FIRST))
    assert states(books)[101] == "failed"


def test_a_run_that_is_silent_for_long_left_its_servers_missing(world: Any) -> None:
    world.plan(FIRST, ids=[101])
    books = world.books()
    assert states(books)[101] == "running"
    world.later(days=15)
    row = books.refresh().rows[FIRST][101]
    assert row.state is State.MISSING
    assert "ended without a word" in row.words


def test_a_wave_that_reported_is_over_though_its_run_is_not(world: Any, make_settings: Any) -> None:
    world.settings = lambda **more: make_settings(wave_size=1, max_offline=1, **more)
    plan = world.plan(FIRST, ids=[101, 102])
    assert len(plan.waves) == 2
    world.report_waves(plan, {101: "no space"}, only=[0])
    assert states(world.books()) == {101: "failed", 102: "running"}


def test_a_retry_s_word_counts_over_that_of_the_first_run(world: Any) -> None:
    first = world.plan(FIRST, ids=[101, 102])
    world.report(first, {101: "first", 102: "first"})
    world.later(hours=1)
    second = world.plan(FIRST, run_id="again", ids=[101])
    books = world.books()
    assert states(books) == {101: "running", 102: "failed"}
    world.report(second, {101: "second"})
    row = books.refresh().rows[FIRST][101]
    assert (row.words, row.plan_id) == ("second", second.plan_id)


def test_a_dry_run_changes_nothing(world: Any) -> None:
    world.plan(FIRST, dry_run=True)
    assert world.books().refresh().rows == {}


def test_a_dry_run_is_another_answer_though_no_server_is_in_another_state(world: Any) -> None:
    plan = world.plan(FIRST)
    world.finish(plan, 101)
    books = world.books()
    before = books.refresh().version
    assert books.refresh().version == before, "nothing is new"
    world.later(hours=1)
    world.plan(SECOND, run_id="dry", dry_run=True)
    snapshot = books.refresh()
    assert snapshot.version != before, "who asks with the ETag of before is to see the plan"
    assert [one.dry_run for one in snapshot.plans] == [True, False]


def test_manifests_are_read_once_and_only_where_they_changed(world: Any) -> None:
    plan = world.plan(FIRST)
    for guest_id in (101, 102, 103):
        world.finish(plan, guest_id)
    world.report(plan)
    books = world.books()
    books.refresh()
    assert books.fill_all([FIRST], at_most=2) == 2
    assert books.fill_all([FIRST], at_most=10) == 1
    rows = books.refresh().rows[FIRST]
    assert {rows[one].level for one in (101, 102, 103)} == {"L1"}
    assert rows[103].disks == 2
    assert rows[103].bytes == 8 * 10**8
    assert (rows[101].capture_seconds, rows[101].export_seconds) == (600, 900)
    world.cos.reads.clear()
    version = books.refresh().version
    assert books.fill_all([FIRST], at_most=10) == 0
    assert world.cos.reads == []
    assert books.refresh().version == version
    manifest = world.finish(plan, 102, proof_level="L1")
    world.prove(manifest, "L2")
    refreshed = books.refresh()
    assert books.fill_all([FIRST], at_most=10) == 1
    assert refreshed.rows[FIRST][102].level == "L2"
    assert refreshed.version != version


def test_what_a_later_proof_found_is_read_though_the_manifest_is_the_same(world: Any) -> None:
    plan = world.plan(FIRST, ids=[101])
    manifest = world.finish(plan, 101)
    books = world.books()
    books.refresh()
    books.fill_all([FIRST], at_most=9)
    world.prove(manifest)
    snapshot = books.refresh()
    assert books.fill_all([FIRST], at_most=9) == 1
    assert snapshot.rows[FIRST][101].level == "L2"


def test_an_index_spares_others_all_reading_of_manifests_and_plans(world: Any) -> None:
    for period in (FIRST, SECOND):
        plan = world.plan(period)
        world.finish(plan, 101)
        world.prove(world.finish(plan, 103), "L2")
        world.report(plan, {102: "broke"})
        world.later(days=7)
    written = world.books()
    assert sorted(written.write_index()) == [FIRST, SECOND]
    assert written.write_index() == [], "nothing new to say"
    world.cos.reads.clear()
    books = world.books()
    snapshot = books.refresh()
    assert sorted(world.cos.reads) == [index_key(prefix="nightly", period=one) for one in (FIRST, SECOND)]
    assert snapshot.rows == written.refresh().rows
    assert books.fill_all([FIRST, SECOND], at_most=99) == 0


def test_an_index_does_not_bring_back_what_is_gone_nor_hide_what_is_new(world: Any) -> None:
    plan = world.plan(FIRST, ids=[101, 102, 103])
    world.finish(plan, 101)
    world.finish(plan, 103)
    world.report(plan, {102: "broke"})
    world.books().write_index()
    world.cos.delete("b", names.manifest_key(prefix="nightly", guest_id=101, period=FIRST))
    world.later(hours=1)
    world.finish(plan, 102)
    snapshot = world.books().refresh()
    assert snapshot.rows[FIRST][101].state is State.MISSING
    assert "gone from the ledger" in snapshot.rows[FIRST][101].words
    assert snapshot.rows[FIRST][102].state is State.EXPORTED
    assert not snapshot.rows[FIRST][102].read
    assert snapshot.rows[FIRST][103].level == "L1"


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"schema_version": 1, "period": "x"}', b"\xff\xfe"])
def test_an_index_that_cannot_be_read_is_passed_over(world: Any, body: bytes) -> None:
    plan = world.plan(FIRST, ids=[101])
    world.finish(plan, 101)
    world.report(plan)
    world.cos.store(index_key(prefix="nightly", period=FIRST), body)
    books = world.books()
    assert states(books) == {101: "exported"}
    assert books.write_index() == [FIRST]


def test_a_plan_that_cannot_be_read_is_named_and_spoils_nothing(world: Any) -> None:
    plan = world.plan(FIRST, ids=[101])
    world.finish(plan, 101)
    world.cos.store("nightly/plans/strange.json", b'{"schema_version": 99}')
    snapshot = world.books().refresh()
    assert snapshot.rows[FIRST][101].state is State.EXPORTED
    (problem,) = snapshot.problems
    assert "sealift-exports/nightly/plans/strange.json" in problem


def test_who_asks_before_the_first_look_is_told_to_come_back(world: Any) -> None:
    world.plan(FIRST)
    books = world.books()
    held = world.cos.list

    def slow(*_: Any) -> Any:
        threading.Event().wait(0.3)
        return held(*_)

    world.cos.list = slow
    with pytest.raises(BooksNotOpen, match="for the first time"):
        books.snapshot(patience=0.01)
    assert books.snapshot(patience=30).rows[FIRST]


def test_a_bucket_that_stops_answering_leaves_what_was_known(world: Any) -> None:
    plan = world.plan(FIRST, ids=[101])
    world.finish(plan, 101)
    clock = [0.0]
    books = world.books()
    books._monotonic = lambda: clock[0]
    assert books.snapshot(patience=30).problems == []
    rested(books)

    def gone(*_: Any, **__: Any) -> Any:
        raise CosTransientError("503 from the store")

    world.cos.list = gone
    clock[0] = 1000.0
    books.snapshot()
    rested(books)
    snapshot = books.snapshot()
    assert snapshot.rows[FIRST][101].state is State.EXPORTED
    assert "503 from the store" in snapshot.problems[0]


def test_a_bucket_that_never_answered_says_why(world: Any) -> None:
    def gone(*_: Any, **__: Any) -> Any:
        raise CosTransientError("503 from the store")

    world.cos.list = gone
    with pytest.raises(CosTransientError, match="503 from the store"):
        world.books().snapshot(patience=30)


def test_what_the_indexes_say_is_shown_while_the_ledger_is_still_read(world: Any) -> None:
    plan = world.plan(FIRST, ids=[101, 102])
    world.finish(plan, 101)
    world.report(plan, {102: "broke"})
    world.books().write_index()
    world.later(hours=1)
    world.finish(plan, 102)
    held, may_go = world.cos.list, threading.Event()

    def slow(bucket: str, prefix: str) -> Any:
        if "manifests" in prefix:
            assert may_go.wait(30)
        return held(bucket, prefix)

    world.cos.list = slow
    books = world.books()
    opening = books.snapshot(patience=30)
    assert opening.problems == [STILL_OPENING]
    assert {one: row.cell for one, row in opening.rows[FIRST].items()} == {101: "L1", 102: "failed"}
    may_go.set()
    rested(books)
    opened = books.snapshot()
    assert opened.problems == []
    assert {one: row.cell for one, row in opened.rows[FIRST].items()} == {101: "L1", 102: "L1"}
    assert opened.version != opening.version


@pytest.mark.parametrize("few", [50, 0], ids=["server by server", "by the pages of the ledger"])
def test_a_run_writes_the_index_of_its_slots_and_leaves_the_rest_alone(
    world: Any, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(books_module, "FEW", few)
    first = world.plan(FIRST)
    world.finish(first, 101)
    world.finish(first, 103)
    world.report(first, {102: "broke"})
    assert world.books().write_index_of(first) == [FIRST]
    world.later(hours=2)
    again = world.plan(FIRST, run_id="again", ids=[102])
    world.finish(again, 102)
    world.plan(SECOND, ids=[104])
    world.report(again)
    world.cos.reads.clear()
    assert world.books().write_index_of(again) == [FIRST]
    others = [names.manifest_key(prefix="nightly", guest_id=one, period=FIRST) for one in (101, 103)]
    assert not set(others) & set(world.cos.reads), "what the index says of others stays"
    rows = parse_index(world.cos.read("b", index_key(prefix="nightly", period=FIRST))).rows()
    assert {one: row.cell for one, row in rows.items()} == {
        101: "L1",
        102: "L1",
        103: "L1",
        104: "failed",
        105: "skipped",
        -555: "skipped",
    }
    assert rows == world.books().refresh().rows[FIRST]
    assert index_key(prefix="nightly", period=SECOND) not in world.cos.objects
