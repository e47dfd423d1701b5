"""What of a selection the Classic API can filter itself, so that less is fetched.

A filter here may let too much through, never too little: the selection is checked again on every server. So only
what is certain is asked for: several patterns of one kind cannot be combined with certainty, and are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sealift.classic import filters

if TYPE_CHECKING:
    from sealift.exports.selection import Selection


def guest_filter(selection: Selection) -> dict[str, Any] | None:
    """Return an ``objectFilter`` for ``SoftLayer_Account::getVirtualGuests``, or None to fetch every guest.

    :param selection: what was selected, exclusions aside.
    :returns: the filter, with its root (SLDN "Object filters").
    """
    tree = _common(selection)
    if len(selection.dedicated_hosts) == 1 and selection.dedicated_hosts[0].isdigit():
        tree["dedicatedHost"] = {"id": filters.is_number(int(selection.dedicated_hosts[0]))}
    return {filters.GUESTS: tree} if tree else None


def bare_metal_filter(selection: Selection) -> dict[str, Any] | None:
    """Return an ``objectFilter`` for ``SoftLayer_Account::getHardware``, or None to fetch every server.

    :param selection: what was selected, exclusions aside.
    :returns: the filter, with its root (SLDN "Object filters").
    """
    tree = _common(selection)
    return {filters.HARDWARE: tree} if tree else None


def bare_metal_ids(ids: Sequence[int]) -> dict[str, Any]:
    """Return an ``objectFilter`` for the bare metal servers with some ids.

    :param ids: ids of bare metal servers.
    :returns: the filter, with its root (SLDN "Object filters").
    """
    return {filters.HARDWARE: {"id": filters.one_of(ids)}}


def _common(selection: Selection) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    if len(selection.hostnames) == 1 and "." not in selection.hostnames[0]:
        # A pattern with a dot may be meant for host name and domain together, which cannot be filtered.
        condition = filters.matches(selection.hostnames[0])
        if condition:
            tree["hostname"] = condition
    if len(selection.domains) == 1:
        tree["domain"] = filters.equals(selection.domains[0])
    if len(selection.tags) == 1:
        tree["tagReferences"] = {"tag": {"name": filters.equals(selection.tags[0])}}
    if selection.datacenters:
        tree["datacenter"] = {"name": filters.one_of([name.lower() for name in selection.datacenters])}
    return tree
