"""Faults: seeded, counted, limited."""

from __future__ import annotations

import pytest

from sealift.sandbox.faults import Faults


def draws(faults: Faults, name: str = "x", count: int = 200) -> list[bool]:
    return [faults.hit(name) for _ in range(count)]


def test_a_fault_that_nobody_set_never_happens() -> None:
    faults = Faults(seed=1)
    assert not any(draws(faults))
    assert faults.counters() == {}


def test_the_rate_holds_and_the_seed_repeats_it() -> None:
    first = draws(Faults(rates={"x": 0.25}, seed=7))
    assert first == draws(Faults(rates={"x": 0.25}, seed=7))
    assert first != draws(Faults(rates={"x": 0.25}, seed=8))
    assert 30 <= sum(first) <= 70


def test_one_faults_draws_do_not_disturb_anothers() -> None:
    alone = Faults(rates={"x": 0.5}, seed=1)
    beside = Faults(rates={"x": 0.5, "y": 0.5}, seed=1)
    mixed = []
    for _ in range(50):
        beside.hit("y")
        mixed.append(beside.hit("x"))
    assert mixed == draws(alone, count=50)


def test_extremes() -> None:
    assert all(draws(Faults(rates={"x": 1.0})))
    assert not any(draws(Faults(rates={"x": 0.0})))


def test_the_next_few_times() -> None:
    faults = Faults()
    faults.set("x", times=2)
    assert draws(faults, count=4) == [True, True, False, False]
    assert faults.counters()["x"] == {"rate": 0.0, "times": 0, "methods": [], "asked": 4, "hits": 2}


def test_only_some_methods() -> None:
    faults = Faults(rates={"x@copyToIcos": 1.0})
    assert not faults.hit("x", method="getObject")
    assert not faults.hit("x")
    assert faults.hit("x", method="copyToIcos")
    assert faults.counters()["x"]["asked"] == 1


def test_counters_outlive_a_change() -> None:
    faults = Faults(rates={"x": 1.0})
    draws(faults, count=3)
    faults.set("x", rate=0.0)
    faults.clear()
    assert not faults.hit("x")
    assert (faults.counters()["x"]["asked"], faults.counters()["x"]["hits"]) == (4, 3)


@pytest.mark.parametrize("settings", [{"rate": 1.1}, {"rate": -0.1}, {"times": -1}])
def test_nonsense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="'x'"):
        Faults().set("x", **settings)  # type: ignore[arg-type]
