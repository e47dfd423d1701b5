"""Filters ask the API for what is certain, and for nothing that could hide a selected server."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.exports import narrowing
from sealift.exports.selection import Selection


def any_of(*values: int | str) -> dict[str, Any]:
    return {"operation": "in", "options": [{"name": "data", "value": list(values)}]}


@pytest.mark.parametrize(
    ("params", "tree"),
    [
        ({"all": True}, None),
        ({"hostnames": ["web*"]}, {"hostname": {"operation": "^= web"}}),
        ({"hostnames": ["*-db"]}, {"hostname": {"operation": "$= -db"}}),
        ({"hostnames": ["*eb*"]}, {"hostname": {"operation": "*= eb"}}),
        ({"hostnames": ["w*1"]}, None),
        ({"hostnames": ["*"]}, None),
        ({"hostnames": ["web1.example.com"]}, None),
        ({"hostnames": ["web1", "web2"]}, None),
        ({"domains": ["example.com"]}, {"domain": {"operation": "_= example.com"}}),
        ({"domains": ["a.com", "b.com"]}, None),
        ({"tags": ["nightly"]}, {"tagReferences": {"tag": {"name": {"operation": "_= nightly"}}}}),
        ({"tags": ["a", "b"]}, None),
        ({"datacenters": ["DAL13", "fra02"]}, {"datacenter": {"name": any_of("dal13", "fra02")}}),
        ({"dedicated_hosts": ["77"]}, {"dedicatedHost": {"id": {"operation": 77}}}),
        ({"dedicated_hosts": ["77", "78"]}, None),
        ({"dedicated_hosts": ["rack"]}, None),
    ],
)
def test_what_the_api_is_asked_for(params: dict[str, Any], tree: dict[str, Any] | None) -> None:
    selection = Selection.from_params(params)

    assert narrowing.guest_filter(selection) == ({"virtualGuests": tree} if tree else None)
    metal = {key: value for key, value in (tree or {}).items() if key != "dedicatedHost"}
    assert narrowing.bare_metal_filter(selection) == ({"hardware": metal} if metal else None)


def test_bare_metal_servers_are_asked_for_by_id() -> None:
    assert narrowing.bare_metal_ids([5, 6]) == {"hardware": {"id": any_of(5, 6)}}
