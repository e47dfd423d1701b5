"""Filters have the shapes that the API documents, and an order that does not clash with the search."""

from __future__ import annotations

import pytest

from sealift.classic import filters


@pytest.mark.parametrize(
    ("pattern", "condition"),
    [
        ("web01", {"operation": "_= web01"}),
        ("web*", {"operation": "^= web"}),
        ("*web", {"operation": "$= web"}),
        ("*web*", {"operation": "*= web"}),
        ("*", None),
        ("w*b", None),
        ("we?", None),
        ("w[ab]", None),
    ],
)
def test_patterns(pattern: str, condition: dict[str, str] | None) -> None:
    assert filters.matches(pattern) == condition


def test_guests_joins_all_conditions() -> None:
    assert filters.guests(
        hostname="web*",
        domain="ex.org",
        tags=["nightly", "export"],
        datacenters=["dal13"],
        dedicated_host_id=12345,
        ids=[3, 1, 3],
    ) == {
        "virtualGuests": {
            "hostname": {"operation": "^= web"},
            "domain": {"operation": "_= ex.org"},
            "tagReferences": {
                "tag": {"name": {"operation": "in", "options": [{"name": "data", "value": ["export", "nightly"]}]}}
            },
            "datacenter": {"name": {"operation": "in", "options": [{"name": "data", "value": ["dal13"]}]}},
            "dedicatedHost": {"id": {"operation": 12345}},
            "id": {"operation": "in", "options": [{"name": "data", "value": [1, 3]}]},
        }
    }
    assert filters.guests() == {}
    assert filters.guests(hostname="w*b") == {}


def test_order_is_by_id_unless_ids_are_searched() -> None:
    order = {"operation": "orderBy", "options": [{"name": "sort", "value": ["ASC"]}]}
    assert filters.ordered(None, root="virtualGuests") == {"virtualGuests": {"id": order}}
    by_id = filters.guests(ids=[1])
    assert filters.ordered(by_id, root="virtualGuests")["virtualGuests"]["createDate"] == order
    assert "createDate" not in by_id["virtualGuests"], "the caller's filter must not change"
    own = {"virtualGuests": {"hostname": order}}
    assert filters.ordered(own, root="virtualGuests") == own
