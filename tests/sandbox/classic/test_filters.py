"""Object filters: every operator, what is ignored, and the order."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.sandbox.classic.filters import apply_filter, compile_filter
from sealift.sandbox.classic.schema import Relation, Schema, TypeDef
from sealift.sandbox.world import World

NOW = 1_763_900_000.0  # 2025-11-23 12:13 UTC
THING = TypeDef(
    name="Thing",
    locals=("id", "name", "flag", "size", "createDate", "note"),
    relations={"place": Relation(), "tags": Relation(many=True), "tagCount": Relation()},
)
SCHEMA = Schema([THING])
THINGS: list[dict[str, Any]] = [
    {"id": 1, "name": "web-1", "flag": True, "size": 10, "createDate": "2024-01-10T10:00:00-06:00", "note": None,
     "place": {"name": "dal10"}, "tags": [{"tag": {"name": "prod"}}, {"tag": {"name": "web"}}]},
    {"id": 2, "name": "Web-2", "flag": False, "size": 20, "createDate": "2024-02-10T10:00:00-06:00", "note": "x",
     "place": {"name": "dal13"}, "tags": [{"tag": {"name": "dev"}}]},
    {"id": 3, "name": "db-1", "flag": True, "size": 5, "createDate": "2025-11-20T10:00:00-06:00", "note": "",
     "place": {"name": "fra02"}, "tags": []},
    {"id": 10, "name": "cache", "flag": False, "size": 20, "createDate": "2025-11-23T00:00:00-06:00", "note": None,
     "place": {"name": "fra02"}, "tags": [{"tag": {"name": "prod"}}]},
]  # fmt: skip
EVERYTHING = [1, 2, 3, 10]


def chosen(raw: object, *, scope: str = "clause") -> list[int]:
    compiled = compile_filter(raw, root="things", type_=THING, schema=SCHEMA, now=NOW, scope=scope)
    world = cast("World", None)  # no relation of THING asks it
    return [one["id"] for one in apply_filter(compiled, THINGS, type_=THING, schema=SCHEMA, world=world)]


def data(*values: object) -> list[dict[str, object]]:
    return [{"name": "data", "value": list(values)}]


def order(direction: str, rank: int | None = None) -> dict[str, Any]:
    options: list[dict[str, Any]] = [{"name": "sort", "value": [direction]}]
    if rank is not None:
        options.append({"name": "sortOrder", "value": [rank]})
    return {"operation": "orderBy", "options": options}


@pytest.mark.parametrize(
    ("leaf", "ids"),
    [
        ({"name": {"operation": "web-2"}}, [2]),
        ({"name": {"operation": "_= WEB-1"}}, [1]),
        ({"name": {"operation": "^= web"}}, [1, 2]),
        ({"name": {"operation": "$= -1"}}, [1, 3]),
        ({"name": {"operation": "*= EB"}}, [1, 2]),
        ({"name": {"operation": "~ Web"}}, [2]),
        ({"name": {"operation": "!~ Web"}}, [1, 3, 10]),
        ({"name": {"operation": "!= cache"}}, [1, 2, 3]),
        ({"name": {"operation": "!^= web"}}, [3, 10]),
        ({"name": {"operation": "!$= -1"}}, [2, 10]),
        ({"name": {"operation": "!*= e"}}, [3]),
        ({"name": {"operation": "!_= DB-1"}}, [1, 2, 10]),
        ({"size": {"operation": "> 10"}}, [2, 10]),
        ({"size": {"operation": ">= 10"}}, [1, 2, 10]),
        ({"size": {"operation": "< 10"}}, [3]),
        ({"size": {"operation": "<= 5"}}, [3]),
        ({"size": {"operation": 20}}, [2, 10]),
        ({"id": {"operation": "3"}}, [3]),
        ({"flag": {"operation": True}}, [1, 3]),
        ({"flag": {"operation": "0"}}, [2, 10]),
        ({"note": {"operation": "is null"}}, [1, 10]),
        ({"note": {"operation": "not null"}}, [2, 3]),
        ({"id": {"operation": "in", "options": data(3, "1", 99)}}, [1, 3]),
        ({"name": {"operation": "in", "options": data("DB-1", "cache")}}, [3, 10]),
        ({"name": {"operation": "not in", "options": data("db-1", "cache")}}, [1, 2]),
        ({"name": {"operation": "and", "options": data("^= web", "$= 2")}}, [2]),
        ({"name": {"operation": "or", "options": data("^= ca", "$= 2")}}, [2, 10]),
        ({"place": {"name": {"operation": "^= dal"}}}, [1, 2]),
        ({"tags": {"tag": {"name": {"operation": "in", "options": data("prod", "dev")}}}}, [1, 2, 10]),
        ({"tags": {"tag": {"name": {"operation": "!= prod"}}}}, [2, 3]),
        ({"name": {"operation": "^= web"}, "size": {"operation": 20}}, [2]),
    ],
)
def test_operators(leaf: dict[str, Any], ids: list[int]) -> None:
    assert chosen({"things": leaf}) == ids
    assert chosen(leaf) == ids, "a filter without its root is read too"


@pytest.mark.parametrize(
    ("operation", "options", "ids"),
    [
        ("isDate", {"date": "02/10/2024"}, [2]),
        ("lessThanDate", {"date": "02/01/2024 00:00:00"}, [1]),
        ("greaterThanDate", {"date": "2024-02-01T00:00:00.000000-06:00"}, [2, 3, 10]),
        ("betweenDate", {"startDate": "2/1/2024 0:0:0", "endDate": "11/21/2025 0:0:0"}, [2, 3]),
        ("> sysdate - 30", {}, [3, 10]),
        ("<= sysdate - 30", {}, [1, 2]),
        ("> 02/01/2024 00:00:00", {}, [2, 3, 10]),
    ],
)
def test_dates(operation: str, options: dict[str, str], ids: list[int]) -> None:
    given = [{"name": name, "value": [value]} for name, value in options.items()]
    assert chosen({"things": {"createDate": {"operation": operation, "options": given}}}) == ids


@pytest.mark.parametrize(
    ("leaf", "ids"),
    [
        ({"id": order("DESC")}, [10, 3, 2, 1]),
        ({"name": order("ASC")}, [10, 3, 1, 2]),
        ({"note": order("DESC")}, [2, 3, 1, 10]),
        ({"place": {"name": order("DESC")}}, [3, 10, 2, 1]),
        ({"size": order("DESC", 1), "id": order("DESC", 2)}, [10, 2, 1, 3]),
        ({"id": order("DESC", 2), "size": order("DESC", 1)}, [10, 2, 1, 3]),
    ],
)
def test_order(leaf: dict[str, Any], ids: list[int]) -> None:
    assert chosen({"things": leaf}) == ids


def test_order_at_the_top_applies_beside_the_root() -> None:
    """softlayer-python's iter_call adds its order there."""
    assert chosen({"things": {"name": {"operation": "^= web"}}, "id": order("DESC")}) == [2, 1]


@pytest.mark.parametrize(
    "raw",
    [
        "no structure",
        [1],
        {"things": "no structure"},
        {"others": {"name": {"operation": "web-1"}}},
        {"things": {"nosuch": {"operation": "web-1"}}},
        {"things": {"name": "web-1"}},
        {"things": {"name": {"value": "web-1"}}},
        {"things": {"name": {"operation": None}}},
        {"things": {"name": {"operation": "in"}}},
        {"things": {"id": {"operation": "in", "options": [{"name": "date", "value": [1]}]}}},
        {"things": {"createDate": {"operation": "isDate", "options": [{"name": "date", "value": ["soon"]}]}}},
        {"things": {"createDate": {"operation": "betweenDate"}}},
    ],
)
def test_what_is_malformed_or_unsupported_is_ignored_without_a_word(raw: object) -> None:
    assert chosen(raw) == EVERYTHING
    assert chosen(raw, scope="all") == EVERYTHING


def test_the_switch_decides_how_much_a_bad_clause_voids() -> None:
    mixed = {"things": {"name": {"operation": "^= web"}, "nosuch": {"operation": 1}}}
    assert chosen(mixed) == [1, 2]
    assert chosen(mixed, scope="all") == EVERYTHING


def test_an_empty_in_of_ids_that_do_not_exist_gives_nothing() -> None:
    assert chosen({"things": {"id": {"operation": "in", "options": data(77)}}}) == []


OPERATIONS = st.sampled_from(
    ["in", "not in", "and", "or", "orderBy", "isDate", "lessThanDate", "betweenDate", "> sysdate - 3", "sysdate",
     "> sysdate - 99999999999999", "^= x", "!~", "!= 1", ">", "> 7", "<= x", "is null", "", "²", "9" * 5000]
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), OPERATIONS)
JSON = st.recursive(
    SCALARS, lambda sub: st.one_of(st.lists(sub, max_size=3), st.dictionaries(st.text(max_size=3), sub, max_size=3))
)
OPTIONS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["data", "date", "startDate", "endDate", "sort", "sortOrder"])},
        optional={"value": st.one_of(st.lists(SCALARS, max_size=3), JSON)},
    ),
    max_size=3,
)
LEAVES = st.one_of(
    JSON, st.fixed_dictionaries({"operation": st.one_of(OPERATIONS, SCALARS)}, optional={"options": OPTIONS})
)
PROPERTIES = st.sampled_from(["id", "name", "flag", "size", "createDate", "note", "place", "tags", "tag", "nosuch"])
NODES = st.dictionaries(PROPERTIES, st.one_of(LEAVES, st.dictionaries(PROPERTIES, LEAVES, max_size=2)), max_size=3)


@given(st.one_of(JSON, NODES, st.fixed_dictionaries({"things": st.one_of(NODES, JSON)})))
@settings(derandomize=True, deadline=None, max_examples=1500)
def test_no_filter_whatsoever_is_an_error(raw: object) -> None:
    for scope in ("clause", "all"):
        assert set(chosen(raw, scope=scope)) <= set(EVERYTHING)
