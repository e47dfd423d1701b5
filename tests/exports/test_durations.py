"""Durations are measured or left out; the pace made of them is bounded, grows with the size, and one figure spoils it
not."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.cos.errors import CosTransientError
from sealift.cos.models import ObjectInfo
from sealift.exports import deadlines
from sealift.exports.durations import (
    CLOCKS_APART,
    FIGURES_AT_LEAST,
    LISTED_AT_MOST,
    MANIFESTS_AT_MOST,
    Figure,
    History,
    Pace,
    pace_of,
    read_history,
    timing_of,
)
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest
from sealift.exports.plan import PlanItem
from sealift.exports.terms import capture_terms, export_terms

from .test_manifest import RAW

GB = 10**9
HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
seeded = settings(derandomize=True, deadline=None, max_examples=200)


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def made(*minutes: float) -> list[ObjectInfo]:
    return [ObjectInfo(key=f"k{one}", size=1, etag="e", last_modified=at(one)) for one in minutes]


def measured(**changes: Any) -> Any:
    """An export whose capture took 20 minutes and whose upload took 30, with what is changed."""
    given: dict[str, Any] = {
        "capacity_bytes": 25 * GB,
        "created_at": at(0),
        "unfinished_at": at(19.75),
        "whole_at": at(20),
        "submitted_at": at(21),
        "objects": made(40, 51),
        "now": at(55),
        **changes,
    }
    return timing_of(**given)


# Measuring


def test_what_an_export_saw_begin_and_end_is_measured() -> None:
    timing = measured()

    assert timing.capacity_bytes == 25 * GB
    assert (timing.capture.seconds, timing.capture.began_at, timing.capture.ended_at) == (1200, at(0), at(20))
    assert (timing.export.seconds, timing.export.began_at, timing.export.ended_at) == (1800, at(21), at(51))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"unfinished_at": None}, id="a wait that came later saw no end (cleared, adopted, restarted)"),
        pytest.param({"whole_at": None}, id="no wait at all"),
        pytest.param({"unfinished_at": at(10)}, id="nobody looked around the end"),
        pytest.param({"created_at": None}, id="the template is gone"),
        pytest.param({"created_at": at(0).replace(tzinfo=None)}, id="a date without time zone"),
        pytest.param({"created_at": at(19.8)}, id="the account's clock contradicts ours"),
        pytest.param({"whole_at": at(60), "unfinished_at": at(59)}, id="seen after now"),
    ],
)
def test_a_capture_whose_end_was_not_seen_is_not_measured(changes: dict[str, Any]) -> None:
    timing = measured(**changes)

    assert timing.capture is None
    assert timing.export is not None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"submitted_at": None}, id="found, not submitted"),
        pytest.param({"submitted_at": at(45)}, id="submitted again, with an object from before"),
        pytest.param({"objects": made(40, 57)}, id="the bucket's clock is ahead"),
        pytest.param({"objects": []}, id="no objects"),
    ],
)
def test_an_export_whose_beginning_is_not_known_is_not_measured(changes: dict[str, Any]) -> None:
    timing = measured(**changes)

    assert timing.export is None
    assert timing.capture is not None


def test_a_long_capture_may_be_polled_less_closely() -> None:
    assert measured(unfinished_at=at(18.5)).capture is not None, "within two minutes"
    day = 24 * 60
    timing = measured(unfinished_at=at(day - 120), whole_at=at(day), now=at(2 * day))
    assert timing.capture.seconds == day * 60, "within a tenth of it"


def test_what_is_not_measured_at_all_leaves_nothing() -> None:
    assert measured(submitted_at=None, whole_at=None) is None
    assert measured(capacity_bytes=0) is None
    assert measured(objects=made(40, 55 + CLOCKS_APART.total_seconds() / 60)).export is not None


# The rule


def alike(count: int, *, size: int = 25 * GB, seconds: float = 600) -> list[Figure]:
    return [Figure(size, seconds + n) for n in range(count)]


def test_few_figures_say_nothing() -> None:
    assert pace_of(alike(FIGURES_AT_LEAST - 1)) is None
    assert pace_of([*alike(FIGURES_AT_LEAST - 1), Figure(0, 5), Figure(5, 0), Figure(5, math.inf)]) is None
    assert pace_of(alike(FIGURES_AT_LEAST)) is not None


def test_a_pace_gives_back_what_was_measured() -> None:
    pace = pace_of(alike(21))
    assert pace is not None

    assert pace.figures == 21
    assert pace.usual(25 * GB).total_seconds() == pytest.approx(610, abs=1)
    assert pace.slow(25 * GB).total_seconds() == pytest.approx(618, abs=1)
    assert pace.fixed_seconds == pytest.approx(302.5, abs=0.5), "half of the first quartile"
    assert pace.usual(1000 * GB).total_seconds() == pytest.approx(40 * 308 + 302, rel=0.02), (
        "about half of in proportion"
    )


def test_a_pace_tells_small_disks_from_large_ones() -> None:
    """Ten minutes for each server, whatever its size, and 100 MB/s on top."""
    sizes = [25 * GB] * 20 + [100 * GB] * 10 + [1000 * GB] * 4
    pace = pace_of([Figure(size, 600 + size / (100 * 10**6)) for size in sizes])
    assert pace is not None

    for size, truth in ((25 * GB, 850), (100 * GB, 1600), (1000 * GB, 10_600)):
        assert truth / 2 <= pace.slow(size).total_seconds() <= 2 * truth


@pytest.mark.parametrize("seconds", [1e-6, 30 * 86_400.0, 1e12])
@pytest.mark.parametrize("size", [1, 25 * GB, 10**15])
@pytest.mark.parametrize("count", [10, 11, 23, 63])
def test_one_absurd_figure_changes_little(seconds: float, size: int, count: int) -> None:
    before, after = pace_of(alike(count)), pace_of([*alike(count), Figure(size, seconds)])
    assert before is not None
    assert after is not None

    for asked in (25 * GB, 1000 * GB):
        assert after.slow(asked).total_seconds() == pytest.approx(before.slow(asked).total_seconds(), rel=0.05)
        assert after.usual(asked).total_seconds() == pytest.approx(before.usual(asked).total_seconds(), rel=0.05)


figures = st.lists(
    st.builds(Figure, st.integers(1, 10**14), st.floats(0.1, 10**7)), min_size=FIGURES_AT_LEAST, max_size=70
)
sizes = st.integers(0, 10**15)


@seeded
@given(figures, sizes, sizes)
def test_a_pace_never_takes_less_for_more(found: list[Figure], one: int, other: int) -> None:
    pace = pace_of(found)
    assert pace is not None
    small, large = sorted((one, other))

    assert pace.usual(small) <= pace.usual(large)
    assert pace.slow(small) <= pace.slow(large)
    assert pace.usual(large) <= pace.slow(large)


@seeded
@given(figures, st.builds(Figure, st.integers(1, 10**18), st.floats(1e-9, 1e15)), sizes)
def test_whatever_one_figure_says_the_others_bound_the_pace(found: list[Figure], absurd: Figure, size: int) -> None:
    pace = pace_of([*found, absurd])
    assert pace is not None
    per_byte = [one.seconds / one.size for one in found]
    least = min(one.seconds for one in found) / 2 + size * min(per_byte) / 2
    most = max(one.seconds for one in found) / 2 + size * max(per_byte)
    year = timedelta(days=365).total_seconds()

    for time in (pace.usual(size), pace.slow(size)):
        assert min(year, least) * 0.999 - 1 <= time.total_seconds() <= most * 1.001 + 1


@seeded
@given(st.one_of(st.none(), figures), sizes, sizes, st.one_of(st.none(), st.floats(0.1, 10**5)))
def test_deadlines_grow_with_the_size_stay_within_bounds_and_obey_the_settings(
    found: list[Figure] | None, one: int, other: int, minutes: float | None
) -> None:
    pace = pace_of(found) if found is not None else None
    small, large = sorted((one, other))

    for ask, least, most in (
        (deadlines.capture_deadline, deadlines.CAPTURE_LEAST, deadlines.CAPTURE_MOST),
        (deadlines.export_deadline, deadlines.EXPORT_LEAST, deadlines.EXPORT_MOST),
    ):
        assert ask(small, minutes, pace=pace) <= ask(large, minutes, pace=pace)
        deadline = ask(large, minutes, pace=pace)
        if minutes is not None:
            assert deadline == timedelta(minutes=minutes)
        elif pace is None:
            assert least <= deadline <= most
        else:
            assert deadlines.FIXED <= deadline <= deadlines.MOST_EVER
            assert deadline >= min(deadlines.MOST_EVER, deadlines.FIXED + pace.slow(large)), (
                "never less than was needed"
            )
            assert deadline <= max(most, deadlines.FIXED + pace.slow(large))
        assert deadlines.stuck_after(deadline) == deadline / 2


def test_a_history_replaces_the_assumption_in_both_directions() -> None:
    quick = pace_of(alike(20, size=25 * GB, seconds=600))
    slow = pace_of(alike(20, size=1000 * GB, seconds=60 * 3600))

    assert deadlines.capture_deadline(25 * GB) == 4 * HOUR
    assert HOUR < deadlines.capture_deadline(25 * GB, pace=quick) < 1.5 * HOUR
    assert deadlines.capture_deadline(1000 * GB) < 30 * HOUR
    assert deadlines.capture_deadline(1000 * GB, pace=slow) == pytest.approx(61 * HOUR, abs=timedelta(minutes=1))


# The manifests


def manifest(guest_id: int, period: str, timing: Any = None) -> bytes:
    raw = copy.deepcopy(RAW) | {
        "export_id": f"{guest_id}-{period}",
        "period": period,
        "timing": timing.model_dump(mode="json") if timing is not None else None,
    }
    raw["guest"]["id"] = guest_id
    return canonical_json(Manifest.model_validate(raw))


class CountingCos:
    """A fake bucket that counts its reads and listings."""

    def __init__(self, cos: Any) -> None:
        self.cos = cos
        self.read_keys: list[str] = []
        self.listed = 0
        self.fails: dict[str, Exception] = {}

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        for info in self.cos.list(bucket, prefix):
            self.listed += 1
            yield info

    def read(self, bucket: str, key: str) -> bytes | None:
        self.read_keys.append(key)
        if key in self.fails:
            raise self.fails[key]
        found: bytes | None = self.cos.read(bucket, key)
        return found


@pytest.fixture
def counted(cos: Any) -> Any:
    return CountingCos(cos)


def fill(cos: Any, guests: int, periods: int, timing: Any = None) -> None:
    for guest_id in range(1, guests + 1):
        for slot in range(periods):
            period = f"202611{slot + 1:02d}T0200Z"
            cos.store(
                f"nightly/manifests/{guest_id}/{period}.json",
                manifest(guest_id, period, timing),
                at=NOW + timedelta(days=slot, seconds=guest_id),
            )


def test_the_newest_manifest_of_every_server_comes_first(cos: Any, counted: Any) -> None:
    fill(cos, guests=25, periods=5, timing=measured())

    history = read_history(counted, bucket="b", prefix="nightly")

    assert len(counted.read_keys) == MANIFESTS_AT_MOST
    assert {key.split("/")[3] for key in counted.read_keys[:25]} == {"20261105T0200Z.json"}
    assert {key.split("/")[3] for key in counted.read_keys[25:50]} == {"20261104T0200Z.json"}
    assert {key.split("/")[3] for key in counted.read_keys[50:]} == {"20261103T0200Z.json"}
    assert len({key.split("/")[2] for key in counted.read_keys[:25]}) == 25
    assert history.capture is not None
    assert history.capture.figures == MANIFESTS_AT_MOST
    assert history.says == (
        "64 manifests were read; captures: from 64 measured, usually 42 MB/s, slowest tenth 42 MB/s, on top of 10 min; "
        "exports: from 64 measured, usually 28 MB/s, slowest tenth 28 MB/s, on top of 15 min."
    )


def test_without_figures_the_plan_says_what_is_assumed(cos: Any, counted: Any) -> None:
    fill(cos, guests=3, periods=1)
    fill(cos, guests=1, periods=1, timing=measured())

    history = read_history(counted, bucket="b", prefix="nightly")

    assert (history.capture, history.export) == (None, None)
    assert "3 manifests were read; captures: 1 measured, 10 needed, so 10 MB/s are assumed" in history.says
    nothing = read_history(counted, bucket="b", prefix="elsewhere")
    assert nothing.says.startswith("0 manifests were read; captures: 0 measured")


def test_a_huge_ledger_costs_no_more_than_a_large_one(cos: Any, counted: Any) -> None:
    body = manifest(1, "p")
    for number in range(LISTED_AT_MOST + 500):
        cos.store(f"nightly/manifests/{number + 1}/p.json", body)

    read_history(counted, bucket="b", prefix="nightly")

    assert counted.listed == LISTED_AT_MOST
    assert len(counted.read_keys) == MANIFESTS_AT_MOST


def test_what_cannot_be_read_keeps_no_plan_from_being_made(
    cos: Any, counted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fill(cos, guests=12, periods=1, timing=measured())
    cos.store("nightly/manifests/3/20261101T0200Z.json", b"not JSON", at=NOW)
    counted.fails = {"nightly/manifests/5/20261101T0200Z.json": CosTransientError("SlowDown")}

    broken = read_history(counted, bucket="b", prefix="nightly")
    assert broken.capture is None, "seven of twelve were read before the bucket stopped answering"
    assert "SlowDown" in caplog.text

    counted.fails = {}
    history = read_history(counted, bucket="b", prefix="nightly")
    assert history.capture is not None
    assert history.capture.figures == 11
    assert "is not a manifest" in caplog.text


# The plan


def test_a_plan_keeps_its_deadlines_and_where_they_come_from(
    cos: Any, make_classic: Any, make_guest: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    fill(cos, guests=12, periods=1, timing=measured())

    plan = plan_of(make_classic(guests=[make_guest(101, capacity=25)]))
    item = plan.slice(0).item(101)

    assert plan.history.says.startswith("12 manifests were read; captures: from 12 measured")
    assert plan.history.capture is not None
    assert item.capture_expected_seconds == 1200
    assert item.export_expected_seconds == 1800
    assert item.capture_deadline(plan.settings) == HOUR + timedelta(minutes=40)
    assert item.export_deadline(plan.settings) == 2 * HOUR
    terms = capture_terms(item, plan.settings, template_id=900, started_at=NOW)
    assert (terms.deadline_seconds, terms.stuck_seconds, terms.expected_seconds) == (6000, 3000, 1200)
    assert export_terms(item, plan.settings, template_id=900, started_at=NOW).expected_seconds == 1800


def test_the_settings_win_over_any_history(
    cos: Any, make_classic: Any, make_guest: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    fill(cos, guests=12, periods=1, timing=measured())

    plan = plan_of(
        make_classic(guests=[make_guest(101)]), capture_deadline_minutes=7, export_deadline_minutes=8, stuck_minutes=3
    )
    item = plan.items[0]

    assert item.capture_deadline(plan.settings) == timedelta(minutes=7)
    assert item.export_deadline(plan.settings) == timedelta(minutes=8)
    assert capture_terms(item, plan.settings, template_id=900, started_at=NOW).stuck_seconds == 180


def test_a_plan_without_figures_has_the_deadlines_of_the_size(
    make_classic: Any, make_guest: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    plan = plan_of(make_classic(guests=[make_guest(101)]))
    item: PlanItem = plan.items[0]

    assert plan.history == History(says=plan.history.says)
    assert (item.capture_expected_seconds, item.export_expected_seconds) == (None, None)
    assert item.capture_deadline(plan.settings) == 4 * HOUR
    old = item.model_copy(update={"capture_deadline_seconds": None, "export_deadline_seconds": None})
    assert old.capture_deadline(plan.settings) == 4 * HOUR
    assert old.export_deadline(plan.settings) == 6 * HOUR


def test_a_pace_travels_as_json() -> None:
    pace = pace_of(alike(20))
    assert pace is not None
    assert Pace.model_validate_json(pace.model_dump_json()) == pace
