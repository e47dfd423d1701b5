"""Clocks that are wrong: the machine's, against the object store's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sealift.exports.errors import ClockError
from sealift.exports.retention.dry_run import read_dry_run
from tests.exports.retention.world import BUCKET, NOW, PREFIX, World


@pytest.fixture
def world() -> World:
    return World()


def test_a_dry_run_by_a_clock_that_is_ahead_deletes_nothing(world: World) -> None:
    """By a clock that is a year ahead everything would be older than the rules keep."""
    exports = [world.export(101, days) for days in (3, 2, 1)]
    before = set(world.cos.objects)
    right = world.cos.clock
    for ahead in (timedelta(hours=2), timedelta(days=365)):
        world.cos.clock, world.now = (lambda: NOW), NOW + ahead
        name = f"r-{ahead.days}"
        with pytest.raises(ClockError, match="set it right, and make a new dry run"):
            world.dry_run(keep_within_days=5, name=name)
        written = read_dry_run(world.cos, bucket=BUCKET, prefix=PREFIX, retention_id=name)
        with pytest.raises(ClockError):
            world.apply(written)
    assert {one for one in world.cos.objects if "/retention/" not in one} == before
    world.cos.clock, world.now = right, NOW
    assert world.dry_run(keep_within_days=5, name="right").exports == []
    assert all(world.keys_of(one) for one in exports)


@pytest.mark.parametrize("behind", [timedelta(minutes=50), timedelta(days=400)])
def test_a_clock_that_is_behind_or_a_little_ahead_only_keeps_more(world: World, behind: timedelta) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    world.cos.clock, world.now = (lambda: NOW), NOW - behind
    dry_run = world.dry_run(keep_within_days=5)
    assert [one.export_id for one in dry_run.exports] == ([old] if behind < timedelta(days=1) else [])
    world.now = NOW + timedelta(minutes=50)
    assert world.dry_run(keep_within_days=5, name="r-2").exports[0].export_id == old
