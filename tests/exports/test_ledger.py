"""The bucket's manifests are the ledger, and asking it costs what the cheaper way costs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.exports import ledger, names

from .conftest import FakeCos

LISTED = "p/manifests/"
NOTES = "p/retention/removing/"


@pytest.mark.parametrize("count", [3, 500])
def test_who_is_exported_for_a_period(cos: Any, count: int) -> None:
    for key in ("p/manifests/1/a.json", "p/manifests/2/b.json", "p/manifests/30/a.json", "p/manifests/x/a.json"):
        cos.store(key, b"{}")
    cos.store("manifests/3/a.json", b"{}")

    done = ledger.exported_guests(cos, bucket="b", prefix="p", period="a", guest_ids=range(1, count + 1))

    assert done == ({1} if count == 3 else {1, 30})


def test_nobody_is_asked_about_nobody(cos: Any) -> None:
    assert ledger.exported_guests(cos, bucket="b", prefix="p", period="a", guest_ids=[]) == set()
    assert (cos.pages, cos.heads) == ([], 0)


def test_thousands_of_servers_cost_the_pages_of_the_manifests(cos: Any) -> None:
    for guest in range(10_001, 12_501):
        cos.store(f"p/manifests/{guest}/a.json", b"{}")

    done = ledger.exported_guests(cos, bucket="b", prefix="p", period="a", guest_ids=range(10_001, 15_001))

    assert len(done) == 2500
    assert (cos.pages.count(LISTED), len(cos.pages), cos.heads) == (3, 4, 0), "and one for what is being removed"


def test_a_few_servers_in_a_large_ledger_cost_no_more_than_two_calls_each(cos: Any) -> None:
    for guest in range(10_000, 20_000):
        cos.store(f"p/manifests/{guest}/a.json", b"{}")
    del cos.objects["p/manifests/19999/a.json"]
    listed: list[Any] = []

    asked = [10_000, 19_998, 19_999]
    done = ledger.exported_guests(cos, bucket="b", prefix="p", period="a", guest_ids=asked, listed=listed)

    assert done == {10_000, 19_998}
    assert cos.pages == [LISTED] * 3 + [NOTES]
    assert cos.heads == 2, "the first was seen on a page"
    assert len(listed) == 3000


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stored=st.sets(st.tuples(st.integers(1, 30), st.sampled_from("ab"))),
    asked=st.sets(st.integers(1, 30)),
    page=st.integers(1, 4),
)
def test_both_ways_together_find_what_is_there(
    monkeypatch: pytest.MonkeyPatch, stored: set[tuple[int, str]], asked: set[int], page: int
) -> None:
    monkeypatch.setattr(ledger, "PAGE", page)
    cos = FakeCos()
    for guest, period in stored:
        cos.store(names.manifest_key(prefix="p", guest_id=guest, period=period), b"{}")

    done = ledger.exported_guests(cos, bucket="b", prefix="p", period="a", guest_ids=asked)

    assert done == {guest for guest in asked if (guest, "a") in stored}


def test_all_periods_of_some_guests(cos: Any, now: Any) -> None:
    for key in ("p/manifests/1/a.json", "p/manifests/1/b.json", "p/manifests/2/a.json", "p/manifests/9/a.json"):
        cos.store(key, b"{}")

    periods = ledger.exported_periods(cos, bucket="b", prefix="p", guest_ids=[1, 2, 3])

    assert periods == {1: {"a": now, "b": now}, 2: {"a": now}}
    assert cos.pages == [LISTED, NOTES]


def test_manifests_are_listed_by_guest_and_period(cos: Any) -> None:
    for key in ("manifests/1/a.json", "manifests/1/b.json", "manifests/11/a.json", "manifests/1/readme.txt"):
        cos.store(key, b"{}")

    assert list(ledger.manifests(cos, bucket="b", prefix="")) == [(1, "a"), (1, "b"), (11, "a")]
    assert list(ledger.manifests(cos, bucket="b", prefix="", guest_id=1)) == [(1, "a"), (1, "b")]


def test_what_is_being_removed_is_not_exported(cos: Any, now: Any) -> None:
    for period in "abc":
        cos.store(f"p/manifests/1/{period}.json", b'{"removal": {"retention_id": "r"}}' if period == "b" else b"{}")
    for period in "bc":
        cos.store(f"p/retention/removing/1/{period}.json", b"{}")

    assert ledger.being_removed(cos, bucket="b", prefix="p") == {(1, "b")}, "a note alone is no mark"
    assert ledger.exported_periods(cos, bucket="b", prefix="p", guest_ids=[1]) == {1: {"a": now, "c": now}}
    assert list(ledger.manifests(cos, bucket="b", prefix="p")) == [(1, "a"), (1, "c")]
    for period, done in (("a", True), ("b", False), ("c", True), ("d", False)):
        assert ledger.is_exported(cos, bucket="b", prefix="p", guest_id=1, period=period) is done
        found = ledger.exported_guests(cos, bucket="b", prefix="p", period=period, guest_ids=[1])
        assert found == ({1} if done else set())
