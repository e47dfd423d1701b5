"""The relational properties of an image template group, parent or child."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic import catalog
from sealift.sandbox.classic.transaction_views import transaction_view

if TYPE_CHECKING:
    from sealift.sandbox.world import World

Doc = dict[str, Any]


def children(group: Doc, world: World) -> list[Doc]:
    """The template in each of its locations; a parent only, and none right after a capture began."""
    return world.children(group["id"]) if group["parentId"] is None else []


def first_child(group: Doc, world: World) -> Doc | None:
    """The first location's template."""
    found = children(group, world)
    return found[0] if found else None


def parent(group: Doc, world: World) -> Doc | None:
    """The parent of a child."""
    return world.groups.get(group["parentId"]) if group["parentId"] is not None else None


def datacenter(group: Doc, _world: World) -> Doc | None:
    """Where a child lies; a parent lies nowhere."""
    return catalog.datacenter(group["_dc"]) if group["parentId"] is not None else None


def datacenters(group: Doc, world: World) -> list[Doc]:
    """Where a parent's children lie."""
    return [catalog.datacenter(child["_dc"]) for child in children(group, world)]


def transaction(group: Doc, world: World) -> Doc | None:
    """What runs on the group."""
    found = world.transactions.get(group["transactionId"]) if group["transactionId"] else None
    return transaction_view(found, world) if found else None


def block_devices(group: Doc, _world: World) -> list[Doc]:
    """A child's disks; a swap entry has neither ``diskSpace`` nor ``units``: recorded."""
    return list(group["_disks"])


def disk_space(group: Doc, _world: World) -> float:
    """Bytes of all disks; 0 on a parent: recorded."""
    return float(group["_total"])


def image_type(_group: Doc, _world: World) -> Doc:
    """The kind of image: a standard one."""
    return catalog.IMAGE_TYPE


def status(_group: Doc, _world: World) -> Doc:
    """Always active: the status tells nothing of progress (recorded)."""
    return catalog.GROUP_STATUS


def account_references(_group: Doc, _world: World) -> list[Doc]:
    """Accounts that may use the image: nobody else."""
    return []
