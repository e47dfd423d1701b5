"""Captures: what ``createArchiveTemplate`` accepts.

No source has the texts of its refusals (facts in docs/sandbox.md): all of them are invented, except that of an active
transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic import guest_views
from sealift.sandbox.classic.errors import ApiError, active_transaction, bad_request, invalid_value
from sealift.sandbox.classic.values import whole

if TYPE_CHECKING:
    from sealift.sandbox.classic.transactions import Engine
    from sealift.sandbox.world import World

Doc = dict[str, Any]


def capture(world: World, engine: Engine, guest: Doc, args: list[Any], user: Doc) -> Doc:
    """Check a capture and begin it.

    :param args: name, block devices (each with at least its ``id``) and note, which may be missing or null.
    :returns: the new parent template.
    :raises ApiError: where it is refused; nothing has begun then.
    """
    name, raw_devices, note = (list(args) + [None] * 3)[:3]
    if not isinstance(name, str) or not name.strip():
        raise bad_request("A name for the image template is needed.")
    note = note or None
    _check_length(name, world.switches.name_length, "name")
    _check_length(note or "", world.switches.note_length, "note")
    if world.running_on_guest(guest["id"]):
        raise active_transaction()
    _check_guest(world, guest)
    devices = _devices(guest, raw_devices)
    limit = world.switches.captures_at_once
    if limit and sum(one["kind"] == "capture" for one in world.running.values()) >= limit:
        raise ApiError(f"Only {limit} image captures may run at once.")
    return engine.start_capture(guest, devices, name=name, note=note, user=user)


def _check_length(text: str, limit: int, what: str) -> None:
    if limit and len(text) > limit:
        raise invalid_value(f"The {what} of an image template has at most {limit} characters.")


def _check_guest(world: World, guest: Doc) -> None:
    switches = world.switches
    if switches.capture_requires_active and guest["_status"] != "ACTIVE":
        raise ApiError("An image can be captured only of a virtual server whose status is ACTIVE.")
    if switches.capture_requires_power and guest["_power"] != "RUNNING":
        raise ApiError("An image can be captured only of a virtual server that is running.")
    if switches.capture_refuses_third_party and guest["_software"]:
        raise ApiError("An image cannot be captured while third-party software is installed on the virtual server.")
    if switches.capture_refuses_private_only and guest["privateNetworkOnlyFlag"]:
        raise ApiError("An image cannot be captured of a virtual server with a private network only.")


def _devices(guest: Doc, raw: Any) -> list[Doc]:
    """:returns: the disks of the guest that the request names, in the order of their numbers."""
    if not isinstance(raw, list) or not raw:
        raise bad_request("At least one block device is needed.")
    known = {device["id"]: device for device in guest_views.block_devices(guest)}
    disks = {disk["device"]: disk for disk in guest["_disks"]}
    chosen: dict[str, Doc] = {}
    for one in raw:
        number = one.get("id") if isinstance(one, dict) else None
        device = known.get(whole(number) or 0)
        if device is None:
            raise invalid_value(f"Block device '{number}' does not belong to this virtual server.")
        if device["device"] not in disks:
            raise invalid_value(f"Block device '{number}' is a swap, CD or metadata device and cannot be captured.")
        if device["device"] in chosen:
            raise invalid_value(f"Block device '{number}' is named twice.")
        chosen[device["device"]] = disks[device["device"]]
    return sorted(chosen.values(), key=lambda disk: int(disk["device"]))
