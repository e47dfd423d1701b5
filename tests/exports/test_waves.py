"""Waves hold servers of one period, each once, and are as large as the caps need."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.exports import names, waves
from sealift.exports.errors import SettingsError


@pytest.mark.parametrize(
    ("asked", "max_offline", "servers", "size"),
    [
        (None, 1, 5000, 20),
        (None, 5, 5000, 20),
        (None, 20, 5000, 40),
        (None, 200, 5000, 100),
        (None, 5, 50_000, 49),
        (7, 200, 5000, 7),
    ],
)
def test_the_size_follows_from_the_caps_unless_it_is_asked_for(
    asked: int | None, max_offline: int, servers: int, size: int
) -> None:
    assert waves.wave_size_for(asked=asked, max_offline=max_offline, servers=servers, waves_at_most=1024) == size


@given(
    exports=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), unique=True, max_size=120),
    size=st.integers(1, 100),
)
def test_every_export_is_in_one_wave_and_every_server_once_in_each(exports: list[tuple[str, int]], size: int) -> None:
    cut = waves.cut(exports, size=size)

    assert Counter((period, guest) for period, guests in cut for guest in guests) == Counter(exports)
    assert all(len(set(guests)) == len(guests) <= size for _, guests in cut)
    assert list(dict.fromkeys(period for period, _ in cut)) == list(dict.fromkeys(period for period, _ in exports))


def test_more_waves_than_airflow_starts_are_refused() -> None:
    waves.check_count(1024, servers=1024, waves_at_most=1024)
    with pytest.raises(SettingsError, match=r"1025 waves, and Airflow takes 1024 .*wave_size to 2 or more"):
        waves.check_count(1025, servers=1025, waves_at_most=1024)


@pytest.mark.parametrize(
    ("run_id", "wave"),
    [
        ("nightly-7.wave-0000", ("nightly-7", 0)),
        ("a.wave-0003.wave-0012", ("a.wave-0003", 12)),
        ("p.wave-10000", ("p", 10_000)),
        ("p.wave-1", None),
        ("p.wave-00001", None),
        ("manual__2026-11-23T02:00:00+00:00", None),
        (".wave-0001", None),
    ],
)
def test_a_wave_is_known_by_its_run(run_id: str, wave: tuple[str, int] | None) -> None:
    assert waves.wave_of_run(run_id) == wave
    if wave is not None:
        assert names.wave_run_id(plan_id=wave[0], number=wave[1]) == run_id
