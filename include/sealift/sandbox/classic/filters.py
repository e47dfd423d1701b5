"""Object filters: which objects of a list a reply holds, and in which order.

Operators: SLDN's article on object filters and what softlayer-python's ``utils.query_filter`` sends. The service
ignores a malformed or unsupported filter without a word and sends the whole list; so does the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic.schema import Doc, Schema, TypeDef
from sealift.sandbox.classic.values import CENTRAL, whole

if TYPE_CHECKING:
    from sealift.sandbox.world import World

Test = Callable[[list[Any]], bool]

_UNFILTERABLE = frozenset({"fullyQualifiedDomainName"})
_OPERATORS = ("!*=", "!^=", "!$=", "!_=", "!~", "!=", "*=", "^=", "$=", "_=", ">=", "<=", "~", ">", "<")
_SYSDATE = re.compile(r"^(>=|<=|>|<)?\s*sysdate\s*(?:([+-])\s*(\d+))?$", re.IGNORECASE)
_DATE_FORMATS = ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")


class _UnsupportedError(Exception):
    """A clause that the service would ignore."""


@dataclass
class _Order:
    path: tuple[str, ...]
    descending: bool
    rank: int


@dataclass
class CompiledFilter:
    """A filter ready to use.

    :param ignored: how many clauses were ignored, as malformed or unsupported.
    """

    tests: list[tuple[tuple[str, ...], Test]] = field(default_factory=list)
    orders: list[_Order] = field(default_factory=list)
    ids: frozenset[int] | None = None
    ignored: int = 0


def compile_filter(raw: object, *, root: str, type_: TypeDef, schema: Schema, now: float, scope: str) -> CompiledFilter:
    """Read an object filter.

    :param raw: what was sent: a mapping, or something malformed.
    :param root: the property that the listed method reads, as ``virtualGuests``; a filter without it is read too.
    :param type_: the type of the listed objects.
    :param now: the time that ``sysdate`` stands for, in seconds since the epoch.
    :param scope: "clause" ignores only what is bad, "all" ignores the whole filter then.
    """
    compiled = CompiledFilter()
    if raw is None or raw == "":
        return compiled
    if not isinstance(raw, Mapping):
        compiled.ignored = 1
        return compiled
    top: dict[str, Any] = {name: node for name, node in raw.items() if name != root}
    under = raw.get(root)
    if isinstance(under, Mapping):
        _walk(compiled, under, (), type_, schema, now)
    elif under is not None:
        compiled.ignored += 1
    _walk(compiled, top, (), type_, schema, now)
    if compiled.ignored and scope == "all":
        return CompiledFilter(ignored=compiled.ignored)
    compiled.orders.sort(key=lambda order: order.rank)
    return compiled


def apply_filter(
    compiled: CompiledFilter, docs: Sequence[Doc], *, type_: TypeDef, schema: Schema, world: World
) -> list[Doc]:
    """:returns: the objects that pass, in the filter's order, else in their own."""
    chosen = list(docs) if compiled.ids is None else [doc for doc in docs if doc.get("id") in compiled.ids]
    for path, test in compiled.tests:
        chosen = [doc for doc in chosen if test(_values(doc, path, type_, schema, world))]
    for order in reversed(compiled.orders):
        chosen.sort(key=lambda doc: _sort_key(_values(doc, order.path, type_, schema, world)), reverse=order.descending)
    return chosen


def _walk(
    compiled: CompiledFilter, node: Mapping[str, Any], path: tuple[str, ...], type_: TypeDef, schema: Schema, now: float
) -> None:
    for name, sub in node.items():
        here = (*path, str(name))
        known = type_.open or name in type_.locals or name in type_.relations
        if not known or name in _UNFILTERABLE or not isinstance(sub, Mapping) or not sub:
            compiled.ignored += 1
            continue
        if "operation" in sub:
            try:
                _leaf(compiled, here, sub, now)
            except _UnsupportedError:
                compiled.ignored += 1
            continue
        relation = type_.relation(str(name))
        _walk(compiled, sub, here, schema.type(relation.type if relation else ""), schema, now)


def _leaf(compiled: CompiledFilter, path: tuple[str, ...], node: Mapping[str, Any], now: float) -> None:
    operation = node["operation"]
    options = _options(node.get("options"))
    if operation == "orderBy":
        words = options.get("sort") or ["ASC"]
        ranks = options.get("sortOrder") or [None]
        rank = whole(ranks[0])
        descending = str(words[0]).upper() == "DESC"
        compiled.orders.append(
            _Order(path=path, descending=descending, rank=len(compiled.orders) if rank is None else rank)
        )
        return
    if operation == "in" and path == ("id",):
        numbers = {number for one in options.get("data", []) if (number := whole(one)) is not None}
        if not options.get("data"):
            raise _UnsupportedError
        compiled.ids = frozenset(numbers) if compiled.ids is None else compiled.ids & numbers
        return
    compiled.tests.append((path, _test(operation, options, now)))


def _options(raw: object) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    if isinstance(raw, list):
        for one in raw:
            if isinstance(one, Mapping) and "name" in one:
                value = one.get("value")
                out[str(one["name"])] = list(value) if isinstance(value, list) else [value]
    return out


def _test(operation: object, options: dict[str, list[Any]], now: float) -> Test:  # noqa: PLR0911 - one line per operator
    if isinstance(operation, bool | int | float):
        return lambda values: any(_equal(value, operation) for value in values)
    if not isinstance(operation, str):
        raise _UnsupportedError
    word = operation.strip()
    if word in {"in", "not in", "and", "or"}:
        data = options.get("data")
        if not data:
            raise _UnsupportedError
        return _combined(word, data, now)
    if word == "is null":
        return lambda values: all(value is None for value in values)
    if word == "not null":
        return lambda values: any(value is not None for value in values)
    if word in {"isDate", "lessThanDate", "greaterThanDate", "betweenDate"}:
        return _dates(word, options)
    if _SYSDATE.match(word):
        return _sysdate(word, now)
    for operator in _OPERATORS:
        if word.startswith(operator):
            return _compare(operator, word[len(operator) :].strip())
    return lambda values: any(_equal(value, word) for value in values)


def _combined(word: str, data: list[Any], now: float) -> Test:
    if word == "in":
        return lambda values: any(_equal(value, one) for value in values for one in data)
    if word == "not in":
        return lambda values: not any(_equal(value, one) for value in values for one in data)
    tests = [_test(one, {}, now) for one in data]
    if word == "and":
        return lambda values: all(test(values) for test in tests)
    return lambda values: any(test(values) for test in tests)


def _dates(word: str, options: dict[str, list[Any]]) -> Test:
    def option(name: str) -> datetime:
        found = options.get(name)
        when = _date(found[0]) if found else None
        if when is None:
            raise _UnsupportedError
        return when

    if word == "betweenDate":
        start, end = option("startDate"), option("endDate")
        return lambda values: any((when := _date(value)) is not None and start <= when <= end for value in values)
    date = option("date")
    if word == "isDate":
        return lambda values: any(
            (when := _date(value)) is not None and when.astimezone(CENTRAL).date() == date.astimezone(CENTRAL).date()
            for value in values
        )
    if word == "lessThanDate":
        return lambda values: any((when := _date(value)) is not None and when < date for value in values)
    return lambda values: any((when := _date(value)) is not None and when > date for value in values)


def _sysdate(word: str, now: float) -> Test:
    match = _SYSDATE.match(word)
    if match is None:
        raise _UnsupportedError
    operator = match.group(1) or "="
    days = whole(match.group(3) or 0)
    if days is None:
        raise _UnsupportedError
    limit = now + days * 86_400 * (-1 if match.group(2) == "-" else 1)

    def test(values: list[Any]) -> bool:
        whens = [when for value in values if (when := _date(value)) is not None]
        return any(_ordered(operator, when.timestamp(), limit) for when in whens)

    return test


def _compare(operator: str, wanted: str) -> Test:
    if operator.startswith("!"):
        positive = _compare({"!=": "_="}.get(operator, operator[1:]), wanted)
        return lambda values: not positive(values)
    low = wanted.lower()
    tests: dict[str, Callable[[Any], bool]] = {
        "_=": lambda value: _equal(value, wanted),
        "^=": lambda value: _text(value).startswith(low),
        "$=": lambda value: _text(value).endswith(low),
        "*=": lambda value: low in _text(value),
        "~": lambda value: wanted in str(value),
    }
    if operator in tests:
        test = tests[operator]
        return lambda values: any(value is not None and test(value) for value in values)
    return lambda values: any(_ordered_value(operator, value, wanted) for value in values)


def _ordered_value(operator: str, value: Any, wanted: str) -> bool:
    if value is None:
        return False
    try:
        return _ordered(operator, float(value), float(wanted))
    except (TypeError, ValueError):
        when, limit = _date(value), _date(wanted)
        if when is not None and limit is not None:
            return _ordered(operator, when.timestamp(), limit.timestamp())
        return _ordered(operator, _text(value), wanted.lower())


def _ordered(operator: str, left: Any, right: Any) -> bool:
    return bool(
        {">": left > right, "<": left < right, ">=": left >= right, "<=": left <= right, "=": left == right}[operator]
    )


def _equal(value: Any, wanted: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, bool):
        return str(wanted).lower() in ({"true", "1"} if value else {"false", "0"})
    if isinstance(value, int | float):
        try:
            return value == float(wanted)
        except (TypeError, ValueError):
            return False
    return _text(value) == str(wanted).lower()


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower()


def _date(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        for shape in _DATE_FORMATS:
            try:
                when = datetime.strptime(value.strip(), shape).replace(tzinfo=CENTRAL)
                break
            except ValueError:
                continue
        else:
            return None
    return when if when.tzinfo else when.replace(tzinfo=CENTRAL)


def _values(doc: Doc, path: tuple[str, ...], type_: TypeDef, schema: Schema, world: World) -> list[Any]:
    value = schema.value(type_, doc, path[0], world)
    if len(path) == 1:
        return value if isinstance(value, list) else [value]
    relation = type_.relation(path[0])
    target = schema.type(relation.type if relation else "")
    inner = value if isinstance(value, list) else [value]
    return [leaf for one in inner if isinstance(one, dict) for leaf in _values(one, path[1:], target, schema, world)]


def _sort_key(values: list[Any]) -> tuple[int, float, str]:
    value = values[0] if values else None
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, bool | int | float):
        return (1, float(value), "")
    return (2, 0.0, _text(value))
