"""Selections choose what they say, refuse what cannot be meant, and never pass over a server in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.exports.errors import SelectionError
from sealift.exports.selection import Criteria, Selection, resolve


@pytest.fixture(scope="module")
def account(
    make_guest: Callable[..., Any], make_bare_metal: Callable[..., Any], make_classic: Any
) -> Callable[[], Any]:
    def tagged(*names: str) -> list[dict[str, Any]]:
        return [{"id": n, "tag": {"id": n, "name": name}} for n, name in enumerate(names)]

    def make() -> Any:
        return make_classic(
            guests=[
                make_guest(1, hostname="web1", tagReferences=tagged("nightly", "web")),
                make_guest(2, hostname="web2", domain="example.org", datacenter={"name": "fra02"}),
                make_guest(3, hostname="orders-db", tagReferences=tagged("nightly")),
                make_guest(4, hostname="mail.eu", dedicatedHost={"id": 77, "name": "Host A"}),
            ],
            bare_metal=[make_bare_metal(3, hostname="metal3"), make_bare_metal(555, hostname="web-metal")],
        )

    return make


def select(account: Callable[[], Any], **params: Any) -> tuple[list[int], list[int]]:
    resolved = resolve(Selection.from_params(params), account())
    return [one.id for one in resolved.guests], [one.id for one in resolved.bare_metal]


@pytest.mark.parametrize(
    ("params", "guests", "bare_metal"),
    [
        ({"all": True}, [1, 2, 3, 4], [3, 555]),
        ({"ids": [2, 4]}, [2, 4], []),
        ({"ids": "2, 4\n1"}, [1, 2, 4], []),
        ({"ids": 555}, [], [555]),
        ({"ids": [3]}, [3], []),
        ({"hostnames": ["web*"]}, [1, 2], [555]),
        ({"hostnames": "WEB1"}, [1], []),
        ({"hostnames": ["*-db"]}, [3], []),
        ({"hostnames": ["*e*1"]}, [1], []),
        ({"hostnames": ["*"]}, [1, 2, 3, 4], [3, 555]),
        ({"hostnames": ["web1.example.com"]}, [1], []),
        ({"hostnames": ["mail.eu"]}, [4], []),
        ({"hostnames": ["web*", "*-db"]}, [1, 2, 3], [555]),
        ({"hostnames": ["web."]}, None, None),
        ({"domains": ["Example.ORG"]}, [2], []),
        ({"tags": ["nightly"]}, [1, 3], []),
        ({"tags": ["NIGHTLY", "nothing"]}, [1, 3], []),
        ({"datacenters": ["FRA02"]}, [2], []),
        ({"dedicated_hosts": [77]}, [4], []),
        ({"dedicated_hosts": ["host a"]}, [4], []),
        ({"hostnames": ["web*"], "datacenters": ["dal13"]}, [1], [555]),
        ({"hostnames": ["web*"], "datacenters": ["dal13"], "ids": [4]}, [1, 4], [555]),
        ({"hostnames": ["web*"], "tags": ["nightly"]}, [1], []),
        ({"all": True, "exclude": {"hostnames": ["web*"]}}, [3, 4], [3]),
        ({"all": True, "exclude": {"hostnames": ["web*"], "datacenters": ["fra02"]}}, [3, 4], [3]),
        ({"all": True, "exclude": {"hostnames": ["nobody*"], "datacenters": ["fra02"]}}, [1, 3, 4], [3, 555]),
        ({"all": True, "exclude": {"ids": [1], "tags": ["nightly"]}}, [2, 4], [3, 555]),
        ({"ids": [1, 2], "exclude": {"ids": [1]}}, [2], []),
    ],
)
def test_a_selection_chooses(
    account: Callable[[], Any], params: dict[str, Any], guests: list[int] | None, bare_metal: list[int] | None
) -> None:
    if guests is None:
        with pytest.raises(SelectionError, match="No server fits"):
            select(account, **params)
    else:
        assert select(account, **params) == (guests, bare_metal)


@pytest.mark.parametrize("params", [None, {}, {"ids": []}, {"hostnames": " , "}, {"exclude": {"ids": [1]}}])
def test_an_empty_selection_names_the_fields_to_fill(params: dict[str, Any] | None) -> None:
    with pytest.raises(SelectionError, match=r"selection is empty.*ids, hostnames, domains, tags.*all"):
        Selection.from_params(params)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"ids": ["x7"]}, "x7"),
        ({"ids": [0]}, "ids.0"),
        ({"host": "web1"}, "'host' is not a criterion"),
        ({"all": True, "tags": ["a"]}, "all servers and also tags"),
        ({"hostnames": [3.5]}, "hostnames.0"),
        ({"all": True, "exclude": {"all": True}}, "exclude.all"),
    ],
)
def test_a_malformed_selection_names_the_field(params: dict[str, Any], says: str) -> None:
    with pytest.raises(SelectionError) as caught:
        Selection.from_params(params)
    assert says in caught.value.message


def test_an_unknown_data_center_is_refused_with_a_near_one(account: Callable[[], Any]) -> None:
    with pytest.raises(SelectionError, match=r"no data center named 'dal31'.*dal13"):
        select(account, datacenters=["dal31"])
    with pytest.raises(SelectionError, match=r"no data center named 'zzz99'.*Known are: dal10, dal13, fra02"):
        select(account, all=True, exclude={"datacenters": ["zzz99"]})


def test_unknown_ids_refuse_the_plan_unless_told_to_report_them(account: Callable[[], Any]) -> None:
    with pytest.raises(SelectionError, match="ids 8, 9, or"):
        select(account, ids=[1, 9, 8].__reversed__())
    resolved = resolve(Selection.from_params({"ids": [1, 8], "ignore_unknown_ids": True}), account())
    assert ([one.id for one in resolved.guests], resolved.unknown_ids) == ([1], [8])


def test_nothing_selected_says_what_to_change(account: Callable[[], Any], make_classic: Any) -> None:
    with pytest.raises(SelectionError, match=r"hostnames = nosuch\*; tags = nightly"):
        select(account, hostnames=["nosuch*"], tags=["nightly"])
    with pytest.raises(SelectionError, match="Narrow exclude"):
        select(account, ids=[1], exclude={"hostnames": ["web*"]})
    with pytest.raises(SelectionError, match="shows no server"):
        select(make_classic, all=True)


@pytest.mark.parametrize(
    ("hostname", "hint"),
    [
        ("wbe1", " Did you mean web1? "),
        ("WEB3", " Did you mean web"),
        ("web1.exmaple.com", " Did you mean web1.example.com"),
        ("zzz", "(hostnames = zzz). Criteria"),
    ],
)
def test_a_host_name_that_nobody_has_is_refused_with_near_ones(
    account: Callable[[], Any], hostname: str, hint: str
) -> None:
    with pytest.raises(SelectionError) as caught:
        select(account, hostnames=[hostname])
    assert hint in caught.value.message


def test_a_value_that_chose_nothing_is_noted(account: Callable[[], Any]) -> None:
    resolved = resolve(Selection.from_params({"hostnames": ["web*", "wbe*"], "datacenters": ["dal13"]}), account())

    assert resolved.notes == ["hostnames: 'wbe*' fits no selected server."]


def test_guests_that_the_account_returns_beyond_the_filter_are_not_taken(account: Callable[[], Any]) -> None:
    classic = account()

    resolved = resolve(Selection.from_params({"hostnames": ["web1"]}), classic)

    assert classic.filters[0] == {"virtualGuests": {"hostname": {"operation": "_= web1"}}}
    assert [one.id for one in resolved.guests] == [1]  # though the account sent all four


names = st.text(alphabet="abw-12", min_size=1, max_size=6)


@given(st.lists(names, min_size=1, max_size=3), names, st.booleans())
def test_patterns_are_what_they_look_like(
    make_guest: Callable[..., Any], pieces: list[str], hostname: str, star_ends: bool
) -> None:
    pattern = "*".join(pieces) + ("*" if star_ends else "")
    server = make_guest(1, hostname=hostname)
    built = hostname.join(["", ""]) and "x".join(pieces)  # whatever stands for a star, the pattern fits

    assert Criteria(hostnames=[pattern]).describes(make_guest(1, hostname=built + ("y" if star_ends else "")))
    if Criteria(hostnames=[pattern]).describes(server):
        assert hostname.startswith(pieces[0])
        assert star_ends or hostname.endswith(pieces[-1])
