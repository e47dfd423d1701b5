"""The report: which share came back, at which level, within what time; and what a drill came to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.exports.drills.keys import Outcome
from sealift.exports.drills.models import Chosen, DrillReport, in_time
from sealift.exports.drills.reporting import close_drill, drill_report, line_of, spread, table_of
from sealift.exports.errors import RehearsalFailedError
from tests.exports.drills.world import BUCKET, PREFIX, World


def report(world: World, days: int = 90) -> DrillReport:
    return drill_report(world.cos, bucket=BUCKET, prefix=PREFIX, days=days, now=world.time.clock())


def close(world: World, chosen: list[Chosen], drill: str = "drill-1") -> list[tuple[str, Outcome]]:
    made = close_drill(
        world.cos,
        chosen,
        bucket=BUCKET,
        prefix=PREFIX,
        drill_id=drill,
        asked_level="L2",
        made_by="a test",
        clock=world.time.clock,
    )
    return [(one.export_id, one.outcome) for one in made]


def test_servers_are_counted_by_their_last_rehearsal_and_its_level(world: World) -> None:
    deep, flat, bad, old, never = [world.export(guest, kinds=("root", "data")) for guest in range(101, 106)]
    world.rehearse(old)
    world.time.sleep(20 * 86400)
    world.rehearse(deep, level="L3", drill="drill-2")
    world.rehearse(flat, drill="drill-2")
    world.rehearse(bad, drill="drill-2")
    world.damage(bad)
    with pytest.raises(RehearsalFailedError):
        world.rehearse(bad, drill="drill-3")
    found = report(world, days=10)
    assert (found.servers, found.proven, found.by_level) == (5, 2, {"L3": 1, "L2": 1})
    assert (found.never, found.failing, found.rehearsals) == (1, 1, 4)
    assert found.share == 0.4
    assert [one.guest_id for one in found.lines] == [
        bad.guest_id, never.guest_id, old.guest_id, deep.guest_id, flat.guest_id
    ]  # fmt: skip
    assert found.summary.startswith(
        "2 of 5 servers (40 %) came back within the last 10 days: 1 at L3, 1 at L2; 1 did not at their last "
        "rehearsal; 1 was never rehearsed. Time to recover: p50 "
    )
    assert found.time_to_recover is not None
    assert found.time_to_recover.count == 3
    assert found.boot is None
    assert report(world, days=30).proven == 3
    table = table_of(found, at_most=2)
    assert "failed" in table[1]
    assert bad.export_id in table[1]
    assert "never" in table[2]
    assert table[3:] == ["… and 3 more."]


def test_without_exports_there_is_nothing_to_say(world: World) -> None:
    found = report(world)
    assert found.summary == "There is no finished export, and so nothing to rehearse."
    assert found.share == 1.0
    assert table_of(found, at_most=9) == []


def test_exports_that_are_gone_count_as_no_rehearsal(world: World) -> None:
    first, second = world.export(101, day=0), world.export(101, day=7)
    del world.cos.objects[world.key_of(second)]
    world.rehearse(second)
    found = report(world)
    assert (found.servers, found.never, found.rehearsals) == (1, 1, 0)
    assert world.rehearse(first).outcome is Outcome.PASSED
    assert report(world).proven == 1


def test_a_rehearsal_counts_for_its_server_after_its_export_was_deleted(world: World) -> None:
    old = world.export(101, day=0)
    world.rehearse(old)
    world.export(101, day=7)
    for key in [one for one in world.cos.objects if old.period in one and "/reports/" not in one]:
        del world.cos.objects[key]
    assert (report(world).proven, report(world).never) == (1, 0)


def test_what_somebody_else_wrote_is_left_out(world: World) -> None:
    chosen = world.export()
    world.rehearse(chosen)
    (one,) = world.rehearsals()
    key = next(key for key in world.cos.objects if "/drills/" in key)
    world.cos.store(key, b"not ours")
    found = report(world)
    assert (found.by_level, found.time_to_recover) == ({"unknown": 1}, None)
    assert one.guest_id == chosen.guest_id


def test_a_drill_is_closed_with_a_word_on_each_of_its_exports(world: World) -> None:
    good, bad, lost = (world.export(guest) for guest in (101, 102, 103))
    world.damage(bad)
    world.rehearse(good)
    with pytest.raises(RehearsalFailedError):
        world.rehearse(bad)
    expected = [
        (good.export_id, Outcome.PASSED),
        (bad.export_id, Outcome.FAILED),
        (lost.export_id, Outcome.UNFINISHED),
    ]
    assert close(world, [good, bad, lost]) == expected
    written = len(world.rehearsals())
    assert close(world, [good, bad, lost]) == expected, "closing it again finds what was written"
    assert len(world.rehearsals()) == written == 3
    assert "ended without a word" in world.read(world.rehearsals()[-1]).words


def test_a_line_tells_what_the_time_is_made_of(world: World) -> None:
    made = world.rehearse(world.export(), level="L2")
    line = line_of(made)
    assert line.startswith("web101 ")
    assert " passed     L2  " in line
    assert "(download " in line
    assert ", proof " in line
    assert line.endswith(made.export_id)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_a_percentile_is_a_value_that_was_measured_and_as_many_lie_below_as_it_says(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    for percent, value in ((50, found.p50), (95, found.p95), (100, found.longest)):
        below = sorted(one for one in values if one <= value)
        assert value in values
        assert 100 * len(below) >= percent * len(values)
        smaller = [one for one in values if one < value]
        assert 100 * len(smaller) < percent * len(values), "and it is the smallest such"
    assert found.count == len(values)
    assert spread([]) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"), (7512, "2 h 5 min")],
)
def test_durations_are_written_for_people(seconds: float, words: str) -> None:
    assert in_time(seconds) == words
    assert timedelta(seconds=seconds) >= timedelta(0)
