"""Choosing by the bucket's listings: what is being removed is not chosen, and a drill chooses the same twice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sealift.exports import names
from sealift.exports.drills.choosing import choose_exports, choose_named, list_candidates
from sealift.exports.drills.keys import Outcome, Rehearsed, is_rehearsal_file, parse_rehearsal_file, rehearsal_key
from sealift.exports.errors import InputError, NoSuchExportError
from tests.exports.drills.world import BUCKET, PREFIX, World


def choose(world: World, drill: str = "drill-1", **how: Any) -> list[tuple[str, str]]:
    found = choose_exports(world.cos, bucket=BUCKET, prefix=PREFIX, drill_id=drill, **{"within": 1, **how})
    return [(one.export_id, one.why) for one in found]


def test_each_server_comes_once_with_its_newest_export(world: World) -> None:
    world.export(101, day=0)
    newest, other = world.export(101, day=7), world.export(102, day=3)
    assert choose(world) == [(newest.export_id, "never"), (other.export_id, "never")]
    assert choose(world, within=2) == choose(world)[:1]
    assert choose(world, at_most=1) == choose(world)[:1]


def test_what_is_being_removed_or_gone_gives_way_to_another_export(world: World) -> None:
    old, new = world.export(101, day=0), world.export(101, day=7)
    world.mark(new)
    assert choose(world) == [(old.export_id, "never")]
    world.mark(old)
    assert choose(world) == []
    assert list_candidates(world.cos, bucket=BUCKET, prefix=PREFIX) == []


def test_a_mark_that_came_after_the_listing_is_seen_when_the_manifest_is_read(world: World) -> None:
    old, new = world.export(101, day=0), world.export(101, day=7)

    def retention(what: str) -> None:
        if what == f"read {world.key_of(new)}":
            world.act = lambda _what: None
            world.mark(new)

    world.act = retention
    assert choose(world) == [(old.export_id, "never")]


def test_a_drill_chooses_the_same_again_after_some_of_it_is_done(world: World) -> None:
    made = [world.export(guest) for guest in range(101, 106)]
    before = choose(world, within=2)
    first = next(one for one in made if one.export_id == before[0][0])
    world.rehearse(first)
    assert choose(world, within=2) == before
    after = choose(world, "drill-2", within=2)
    assert first.export_id not in [one for one, _ in after]


def test_an_empty_bucket_has_nothing_to_rehearse(world: World) -> None:
    assert choose(world) == []


def test_keys_that_are_not_ours_are_no_rehearsals_and_no_exports(world: World) -> None:
    chosen = world.export()
    for key in ("reports/drills/101/x/note.txt", "manifests/101/sub/x.json", "manifests/000/x.json"):
        world.cos.store(f"{PREFIX}/{key}", b"{}")
    assert [one.guest_id for one in list_candidates(world.cos, bucket=BUCKET, prefix=PREFIX)] == [101]
    assert choose(world) == [(chosen.export_id, "never")]


def test_exports_are_named_as_people_call_them_and_come_once(world: World) -> None:
    old, new = world.export(101, day=0), world.export(101, day=7)
    named = choose_named(
        world.cos, bucket=BUCKET, prefix=PREFIX, wanted=["101", "web101", old.export_id, new.export_id], period=None
    )
    assert [(one.hostname, one.why) for one in named] == [("web101", "named")] * 2
    assert {one.export_id for one in named} == {old.export_id, new.export_id}
    with pytest.raises(NoSuchExportError):
        choose_named(world.cos, bucket=BUCKET, prefix=PREFIX, wanted=["nobody"], period=None)


@pytest.mark.parametrize("numbers", [{"within": 0}, {"at_most": 0}])
def test_a_rotation_of_nothing_is_refused(world: World, numbers: dict[str, int]) -> None:
    with pytest.raises(InputError):
        choose(world, **numbers)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("drill", ["scheduled-20261123T020000Z-1b9f0c3d", "cli-2026.x_y", "a"])
def test_a_key_tells_all_that_the_rotation_needs(outcome: Outcome, drill: str) -> None:
    at = datetime(2026, 11, 28, 2, 15, 0, 12, tzinfo=UTC)
    one = Rehearsed(guest_id=12345678, period="manual-x.y-passed", ended_at=at, outcome=outcome, drill_id=drill)
    key = rehearsal_key(prefix="weekly", one=one)
    rest = key.removeprefix(names.room_prefix("weekly", "reports"))
    assert parse_rehearsal_file(rest) == one
    assert is_rehearsal_file(rest)


@pytest.mark.parametrize(
    "rest",
    [
        "drills/101/p/20261128T021500000000Z-passed-d.txt",
        "drills/0101/p/20261128T021500000000Z-passed-d.json",
        "drills/101/p/20261128T021500000000Z-well-d.json",
        "drills/101/p/20261328T021500000000Z-passed-d.json",
        "drills/101/p/20261128T0215Z-passed-d.json",
        "drills/101/20261128T021500000000Z-passed-d.json",
        "examinations/d.json",
    ],
)
def test_other_keys_are_not_ours(rest: str) -> None:
    assert not is_rehearsal_file(rest)
