"""Transactions as a client sees them.

All names of groups and states here are invented, and look it: no source names those of a capture or an export, so no
client may match on them. Only "Transfer Cloud Disk Template" and COMPLETE are recorded names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic.values import api_time

if TYPE_CHECKING:
    from sealift.sandbox.world import World

Doc = dict[str, Any]

_GROUPS = {
    "capture": "Sandbox Image Capture",
    "afterwork": "Sandbox Image Afterwork",
    "export": "Sandbox Image Export",
    "delete": "Sandbox Image Removal",
    "transfer": "Transfer Cloud Disk Template",
    "hold": "Sandbox Lasting Work",
}
_STEPS: dict[str, tuple[tuple[float, str], ...]] = {
    "capture": ((0.0, "PREPARE"), (0.05, "COPY_DISKS"), (0.35, "COPY_DISKS_MORE"), (0.65, "STORE"), (0.9, "FINISH")),
    "export": ((0.0, "PREPARE"), (0.05, "UPLOAD"), (0.35, "UPLOAD_MORE"), (0.65, "UPLOAD_REST"), (0.9, "FINISH")),
    "afterwork": ((0.0, "TIDY_UP"),),
    "delete": ((0.0, "PREPARE"), (0.5, "REMOVE")),
    "transfer": ((0.0, "PREPARE"), (0.2, "COPY_DISKS"), (0.8, "FINISH")),
    "hold": ((0.0, "WORK"),),
}


def transaction_view(transaction: Doc, world: World) -> Doc:
    """:returns: the transaction with its properties, local and relational, as of now."""
    now = world.clock.now()
    started, ended = transaction["started"], transaction["ended"]
    if ended is not None:
        changed, status = ended, ("COMPLETE", "Complete")
    else:
        offset, word = _step(transaction, (now - started) * world.speed)
        changed = started + offset / world.speed
        status = (f"SANDBOX_{word}", f"Sandbox {word.replace('_', ' ').capitalize()}")
    return {
        "id": transaction["id"],
        "createDate": api_time(started),
        "modifyDate": api_time(changed),
        "statusChangeDate": api_time(changed),
        "elapsedSeconds": max(0, int(now - changed)),  # it keeps growing after the end: recorded
        "guestId": transaction["guestId"],
        "hardwareId": None,
        "transactionGroup": {"averageTimeToComplete": "4.5", "name": _GROUPS[transaction["kind"]]},
        "transactionStatus": {"averageDuration": "1.35", "friendlyName": status[1], "name": status[0]},
        "pendingTransactions": [],
        "_guest": transaction["guestId"],
    }


def _step(transaction: Doc, elapsed: float) -> tuple[float, str]:
    """:returns: when the present step began, in seconds at speed 1 after the start, and its name."""
    steps = _STEPS[transaction["kind"]]
    if transaction["stuck"]:
        steps = steps[:2]
    nominal = float(transaction["nominal"])
    offset, word = 0.0, steps[0][1]
    for fraction, name in steps:
        if fraction * nominal <= elapsed:
            offset, word = fraction * nominal, name
    return offset, word
