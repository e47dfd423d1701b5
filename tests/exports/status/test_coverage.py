"""Servers by slots: chosen, ordered and paged on this side, and a word for each slot."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sealift.exports.status.coverage import Query, coverage, page_of
from sealift.exports.status.filters import filters
from sealift.exports.status.rows import State

FIRST, SECOND, HAND = "20261116T0200Z", "20261123T0200Z", "manual-1"


@pytest.fixture
def snapshot(world: Any) -> Any:
    """Two slots of a schedule and a manual run; db1 is new in the second, web2 is not selected in it."""
    first = world.plan(FIRST, ids=[101, 102, 104])
    world.prove(world.finish(first, 101))
    world.finish(first, 102)
    world.report(first, {104: "x" * 400})
    world.later(days=7)
    second = world.plan(SECOND, ids=[101, 103, 104, 105])
    world.finish(second, 103)
    world.report(second, {101: "the account said no"})
    world.later(hours=3)
    hand = world.plan(HAND, ids=[104])
    world.finish(hand, 104)
    books = world.books()
    snapshot = books.refresh()
    books.fill_all([FIRST, SECOND, HAND], at_most=99)
    return snapshot


def ids(snapshot: Any, **asked: Any) -> list[int]:
    return [one.id for one in coverage(snapshot, Query(**asked)).servers]


def test_each_slot_has_a_word_for_each_server(snapshot: Any) -> None:
    page = coverage(snapshot, Query())
    assert [one.period for one in page.slots] == [HAND, SECOND, FIRST]
    assert [one.scheduled for one in page.slots] == [False, True, True]
    cells = {one.hostname: one.cells for one in page.servers}
    assert cells == {
        "web1": ["", "failed", "L2"],
        "web2": ["", "not selected", "L1"],
        "db1": ["", "L1", ""],
        "mail<b>": ["L1", "failed", "failed"],
        "bare": ["", "skipped", ""],
    }
    assert page.slots[1].counts == {
        State.FAILED: 2,
        State.EXPORTED: 1,
        State.SKIPPED: 1,
        State.NOT_SELECTED: 1,
    }


def test_reasons_stand_beside_the_words_and_are_cut(snapshot: Any) -> None:
    by_name = {one.hostname: one for one in coverage(snapshot, Query()).servers}
    assert by_name["web1"].reasons == {1: "the account said no"}
    assert by_name["mail<b>"].reasons[2] == "x" * 299 + "…"
    assert "disk" in by_name["bare"].reasons[1]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"name": "WEB"}, [101, 102]),
        ({"name": "web*"}, [101, 102]),
        ({"name": "*1.example.com"}, [103, 101]),
        ({"name": "104"}, [104]),
        ({"name": "<b>"}, [104]),
        ({"datacenter": ["fra02"]}, [103]),
        ({"datacenter": ["fra02", "nowhere"], "tag": ["prod"]}, [103]),
        ({"tag": ["prod"]}, [103, 101]),
        ({"state": ["failed"], "in_slot": SECOND}, [104, 101]),
        ({"state": ["failed"], "in_slot": "any"}, [104, 101]),
        ({"state": ["exported"]}, [104]),
        ({"state": ["not selected"], "in_slot": "any"}, [102]),
        ({"state": ["skipped"], "scheduled": True}, [105]),
        ({"state": ["exported"], "in_slot": "no-such-slot"}, []),
        ({"order": "name", "descending": True}, [102, 101, 104, 103, 105]),
        ({"order": "state", "scheduled": True}, [104, 101, 105, 102, 103]),
        ({"order": "last_export", "descending": True, "limit": 2}, [104, 103]),
        ({"order": "size", "descending": True, "limit": 1}, [103]),
        ({"offset": 3, "limit": 1}, [101]),
    ],
)
def test_servers_are_chosen_and_ordered(snapshot: Any, asked: dict[str, Any], found: list[int]) -> None:
    assert ids(snapshot, **asked) == found


def test_counts_are_of_all_that_fit_and_not_of_the_page(snapshot: Any) -> None:
    page = coverage(snapshot, Query(name="web", limit=1))
    assert (page.total, len(page.servers)) == (2, 1)
    assert page.slots[2].counts == {State.EXPORTED: 2}
    assert page.slots[2].bytes == 8 * 10**8


def test_slots_are_paged_as_well(snapshot: Any) -> None:
    page = coverage(snapshot, Query(slots=1, slots_offset=1))
    assert ([one.period for one in page.slots], page.slots_total) == ([SECOND], 3)
    assert {len(one.cells) for one in page.servers} == {1}


def test_the_newest_export_is_told_with_its_size(snapshot: Any) -> None:
    by_id = {one.id: one for one in coverage(snapshot, Query()).servers}
    assert (by_id[101].last_period, by_id[101].bytes) == (FIRST, 4 * 10**8)
    assert by_id[105].last_export is None


@pytest.mark.parametrize(
    "wrong", [{"limit": 501}, {"limit": 0}, {"offset": -1}, {"slots": 401}, {"order": "x"}, {"a": 1}]
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Query(**wrong)


def test_filters_name_what_there_is(snapshot: Any) -> None:
    found = filters(snapshot)
    assert found.servers == 5
    assert {one.value: one.servers for one in found.datacenters} == {"dal13": 4, "fra02": 1}
    assert {one.value: one.servers for one in found.tags} == {"prod": 2}
    assert found.newest == {State.EXPORTED: 1}
    assert found.unread == 0


def test_a_bare_metal_server_is_told_apart_from_a_virtual_one(world: Any) -> None:
    plan = world.plan(FIRST)
    world.report(plan)
    page = coverage(world.books().refresh(), Query(name="metal"))
    (line,) = page.servers
    assert (line.id, line.kind, line.cells) == (555, "bare metal", ["skipped"])


def test_only_what_was_not_read_is_read_for_a_page(world: Any) -> None:
    for period in (FIRST, SECOND):
        plan = world.plan(period, ids=[101, 102])
        world.finish(plan, 101)
        world.finish(plan, 102)
    books = world.books()
    snapshot = books.refresh()
    assert page_of(snapshot, Query(limit=1)) == [(101, SECOND), (101, FIRST)]
    books.fill_all([FIRST], at_most=9)
    assert page_of(snapshot, Query(limit=1, offset=1)) == [(102, SECOND)]
    assert books.fill(page_of(snapshot, Query()), at_most=9) == 2
    assert page_of(snapshot, Query()) == []
    assert filters(snapshot).unread == 0
