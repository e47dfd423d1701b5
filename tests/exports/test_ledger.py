"""The bucket's manifests are the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.exports import ledger


@pytest.mark.parametrize("count", [3, 500])
def test_who_is_exported_for_a_period(cos: Any, count: int) -> None:
    for key in ("p/manifests/1/a.json", "p/manifests/2/b.json", "p/manifests/30/a.json", "p/manifests/x/a.json"):
        cos.store(key, b"{}")
    cos.store("manifests/3/a.json", b"{}")

    done = ledger.exported_guests(cos, bucket="b", prefix="p", period="a", guest_ids=range(1, count + 1))

    assert done == ({1} if count == 3 else {1, 30})


def test_manifests_are_listed_by_guest_and_period(cos: Any) -> None:
    for key in ("manifests/1/a.json", "manifests/1/b.json", "manifests/11/a.json", "manifests/1/readme.txt"):
        cos.store(key, b"{}")

    assert list(ledger.manifests(cos, bucket="b", prefix="")) == [(1, "a"), (1, "b"), (11, "a")]
    assert list(ledger.manifests(cos, bucket="b", prefix="", guest_id=1)) == [(1, "a"), (1, "b")]
