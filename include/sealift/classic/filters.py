"""Builders for the API's objectFilter, and the order that paging needs.

A filter is a tree of property names under a root, which is the method's name without ``get`` and with a small first
letter. The API ignores a filter that it does not understand and returns everything: whoever filters checks the reply.
Source: SLDN "Object filters".
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

Filter = dict[str, Any]

GUESTS = "virtualGuests"
HARDWARE = "hardware"
TEMPLATES = "privateBlockDeviceTemplateGroups"

# Sorting and searching on one property does not work, so an order is taken from the first property not searched for.
_ORDER_BY = ("id", "createDate", "globalIdentifier")


def equals(value: str) -> dict[str, Any]:
    """An exact match of a text; the API compares without regard to case.

    :param value: the text.
    :returns: the condition for one property (SLDN "Object filters").
    """
    return {"operation": f"_= {value}"}


def starts_with(value: str) -> dict[str, Any]:
    """A match of a text's beginning, without regard to case.

    :param value: the beginning.
    :returns: the condition for one property (SLDN "Object filters").
    """
    return {"operation": f"^= {value}"}


def ends_with(value: str) -> dict[str, Any]:
    """A match of a text's end, without regard to case.

    :param value: the end.
    :returns: the condition for one property (SLDN "Object filters").
    """
    return {"operation": f"$= {value}"}


def is_number(value: int) -> dict[str, Any]:
    """An exact match of a number.

    :param value: the number.
    :returns: the condition for one property (SLDN "Object filters").
    """
    return {"operation": value}


def one_of(values: Collection[int] | Collection[str]) -> dict[str, Any]:
    """A match of any of some exact values (``in`` knows no wildcards).

    :param values: the values; duplicates are the caller's to leave out.
    :returns: the condition for one property (SLDN "Object filters").
    """
    return {"operation": "in", "options": [{"name": "data", "value": sorted(values)}]}


def newest_first() -> dict[str, Any]:
    """An order by ids, the newest object first; for the property ``id``.

    :returns: the condition for one property (SLDN "Object filters").
    """
    return {"operation": "orderBy", "options": [{"name": "sort", "value": ["DESC"]}]}


def matches(pattern: str) -> dict[str, Any] | None:
    """The condition for a pattern with ``*`` at its ends, or None where the API has no operator for it.

    :param pattern: a name, with ``*`` for any run of characters.
    :returns: the condition; None for ``*`` alone and for a ``*`` (or ``?``, ``[``) in the middle, which only the caller
        can check.
    """
    core = pattern.strip("*")
    if not core or any(char in core for char in "*?["):
        return None
    begins, ends = pattern.startswith("*"), pattern.endswith("*")
    operator = {(False, False): "_=", (False, True): "^=", (True, False): "$=", (True, True): "*="}[begins, ends]
    return {"operation": f"{operator} {core}"}


def guests(
    *,
    hostname: str | None = None,
    domain: str | None = None,
    tags: Collection[str] = (),
    datacenters: Collection[str] = (),
    dedicated_host_id: int | None = None,
    ids: Collection[int] = (),
) -> Filter:
    """The filter for virtual servers that meet all the conditions given.

    :param hostname: a name or a pattern with ``*`` at its ends; a pattern that the API cannot match is left out.
    :param domain: as ``hostname``.
    :param tags: names of tags, any of which will do.
    :param datacenters: short names, as ``dal13``.
    :param dedicated_host_id: the id of the dedicated host.
    :param ids: ids of virtual servers, at most 100.
    :returns: the filter; empty where no condition is left.
    """
    tree: Filter = {}
    if hostname is not None and (condition := matches(hostname)):
        tree["hostname"] = condition
    if domain is not None and (condition := matches(domain)):
        tree["domain"] = condition
    if tags:
        tree["tagReferences"] = {"tag": {"name": one_of(set(tags))}}
    if datacenters:
        tree["datacenter"] = {"name": one_of(set(datacenters))}
    if dedicated_host_id is not None:
        tree["dedicatedHost"] = {"id": is_number(dedicated_host_id)}
    if ids:
        tree["id"] = one_of(set(ids))
    return {GUESTS: tree} if tree else {}


def ordered(object_filter: Mapping[str, Any] | None, *, root: str) -> Filter:
    """The filter with an order added, so that pages do not overlap.

    :param object_filter: what is searched for, with its root; None for everything.
    :param root: the root to which the order is added.
    :returns: a new filter. One that orders already is left as it is.
    """
    tree: Filter = copy.deepcopy(dict(object_filter)) if object_filter else {}
    conditions = tree.setdefault(root, {})
    if any(isinstance(one, Mapping) and one.get("operation") == "orderBy" for one in conditions.values()):
        return tree
    for name in _ORDER_BY:
        if name not in conditions:
            conditions[name] = {"operation": "orderBy", "options": [{"name": "sort", "value": ["ASC"]}]}
            break
    return tree
