"""The engine that carries transactions from their start to their end.

A transaction is a document with its true start and its length at speed 1, kept in SQLite: what is due at a restart
ends then. The slow part (building disks, writing objects) runs in threads; a transaction ends when its time is up
*and* its work is done, so a loaded machine makes transactions longer, never wrong.
"""

from __future__ import annotations

import logging
import random
import threading
from typing import Any

from sealift.sandbox.classic import events, guest_views
from sealift.sandbox.classic.values import api_time, stable_uuid
from sealift.sandbox.disks import DiskSpec
from sealift.sandbox.faults import Faults
from sealift.sandbox.history import OFF, History
from sealift.sandbox.imaging import Imaging, disk_spec
from sealift.sandbox.seeding import transaction as new_transaction
from sealift.sandbox.world import World

Doc = dict[str, Any]

_log = logging.getLogger(__name__)
_PAUSE = 0.05


class Engine:
    """Starts transactions and moves them on.

    :param world: the account; its lock is held by whoever calls a ``start_…``.
    :param imaging: does the slow work.
    :param faults: may make transactions stick, vanish or leave nothing behind.
    :param seed: decides how long each transaction takes.
    :param history: where effects are recorded, under the world's lock.
    """

    def __init__(self, *, world: World, imaging: Imaging, faults: Faults, seed: int, history: History = OFF) -> None:
        self._world = world
        self._imaging = imaging
        self._faults = faults
        self._seed = seed
        self._history = history
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.failures: dict[int, str] = {}

    def start(self) -> None:
        """Move transactions on from a thread of its own, besides each request's own look."""
        self._thread = threading.Thread(target=self._run, name="sandbox-transactions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def wake(self) -> None:
        """Have the thread look at once."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(_PAUSE if self._world.running else 0.5)
            self._wake.clear()
            if not self._stopping:
                self.tick()

    # Starting

    def start_capture(self, guest: Doc, devices: list[Doc], *, name: str, note: str | None, user: Doc) -> Doc:
        """Begin a capture.

        :param devices: the disks to capture, as the guest's document lists them.
        :returns: the new parent template; it has no children yet.
        """
        world, now = self._world, self._world.clock.now()
        number, group_id = world.new_id("transaction"), world.new_id("group")
        draw = random.Random(f"{self._seed}:capture:{number}")  # noqa: S311 - repeatable lengths, no secret
        switches = world.switches
        work = {
            "name": name,
            "childAfter": draw.uniform(switches.children_seconds_min, switches.children_seconds_max),
            "disks": devices,
            "power": guest["_power"],
            "damage": self._one_of("empty_template", "template_gone"),
            "afterwork": self._faults.hit("second_transaction"),
        }
        group = self._group(group_id, None, name=name, note=note, guest=guest, user=user, now=now)
        entry = self._new(number, "capture", switches.capture_seconds * draw.uniform(0.9, 1.1), guest=guest["id"])
        for fault, late in (("template_late", group), ("transaction_late", entry)):
            if self._faults.hit(fault):
                late["_shownAt"] = now + switches.late_seconds / world.speed
        entry.update(groupId=group_id, work=work)
        if switches.capture_halts_guest:
            guest["_power"] = "HALTED"
        world.save_all([("group", group), ("transaction", entry), ("guest", guest)])
        self._history.effects([events.capture_started(entry), events.guest_offline(entry)])
        self._begin_work(entry)
        return group

    def start_export(self, group: Doc, objects: list[Doc]) -> Doc:
        """Begin an export of a finished template.

        :param objects: ``{"bucket", "key", "disk"}`` for each disk, in their order.
        :returns: the transaction.
        """
        world = self._world
        number = world.new_id("transaction")
        draw = random.Random(f"{self._seed}:export:{number}")  # noqa: S311 - repeatable lengths, no secret
        entry = self._new(number, "export", world.switches.export_seconds * draw.uniform(0.9, 1.1))
        damage = self._one_of("gone_without_objects", "missing_last_object", "truncated_object", "damaged_object")
        child = world.children(group["id"])[0]
        entry.update(groupId=group["id"], childId=child["id"], work={"objects": objects, "damage": damage})
        changed = []
        if world.switches.export_transaction_on in {"parent", "both"}:
            group["transactionId"] = number
            changed.append(("group", group))
        if world.switches.export_transaction_on in {"child", "both"}:
            child["transactionId"] = number
            changed.append(("group", child))
        world.save_all([*changed, ("transaction", entry)])
        self._history.effects([events.export_started(entry)])
        return entry

    def start_delete(self, group: Doc) -> Doc:
        """Begin to remove a template, a parent with all its locations."""
        entry = self._new(self._world.new_id("transaction"), "delete", self._world.switches.delete_seconds)
        entry["groupId"] = group["id"]
        group["transactionId"] = entry["id"]
        self._world.save_all([("group", group), ("transaction", entry)])
        return entry

    def start_transfer(self, group: Doc, datacenter: str) -> Doc:
        """Begin to copy a template to another datacenter: a child appears at once, its sizes at the end."""
        world, now = self._world, self._world.clock.now()
        source = world.children(group["id"])[0]
        child = {
            **source,
            "id": world.new_id("group"),
            "createDate": api_time(now),
            "_dc": datacenter,
            "_disks": [],
            "_total": 0.0,
            "_finished": False,
        }
        child["globalIdentifier"] = stable_uuid("group", child["id"])
        entry = self._new(world.new_id("transaction"), "transfer", world.switches.transfer_seconds)
        entry.update(groupId=group["id"], childId=child["id"])
        child["transactionId"] = entry["id"]
        world.save_all([("group", child), ("transaction", entry)])
        return entry

    def start_hold(self, guest: Doc) -> Doc:
        """Begin a transaction on a guest that lasts until somebody ends it; for tests."""
        entry = self._new(self._world.new_id("transaction"), "hold", 0.0, guest=guest["id"], can_stick=False)
        entry["stuck"] = True
        self._world.save("transaction", entry)
        return entry

    def end(self, number: int) -> None:
        """End a transaction that sticks (or hurry one along): it ends as soon as its work is done.

        :raises KeyError: where no such transaction runs.
        """
        with self._world.lock:
            entry = self._world.running[number]
            entry["stuck"] = False
            entry["nominal"] = 0.0
            if "childAfter" in entry["work"]:
                entry["work"]["childAfter"] = 0.0
            self._world.save("transaction", entry)
        self.tick()
        self.wake()

    # Moving on

    def tick(self) -> None:
        """Look at all that runs; end what is due."""
        with self._world.lock:
            for entry in list(self._world.running.values()):
                try:
                    self._advance(entry)
                except Exception as error:  # noqa: BLE001 - one broken disk must not stop the account; it is shown
                    if entry["id"] not in self.failures:
                        self.failures[entry["id"]] = f"{type(error).__name__}: {error}"
                        _log.exception("transaction %s (%s) cannot go on", entry["id"], entry["kind"])

    def _advance(self, entry: Doc) -> None:
        if entry["id"] in self.failures:
            return
        elapsed = (self._world.clock.now() - entry["started"]) * self._world.speed
        if entry["kind"] == "capture":
            self._advance_capture(entry, elapsed)
        elif entry["kind"] == "export":
            self._advance_export(entry, elapsed)
        elif entry["kind"] == "afterwork" and entry["guestId"] is None:
            if elapsed >= 0:
                self._begin_afterwork(entry)
        elif not entry["stuck"] and elapsed >= entry["nominal"]:
            if entry["kind"] == "delete":
                self._remove(entry["groupId"])
            elif entry["kind"] == "transfer":
                self._finish_transfer(entry)
            self._finish(entry)

    def _advance_capture(self, entry: Doc, elapsed: float) -> None:
        world = self._world
        self._begin_work(entry)
        if entry["childId"] is None and elapsed >= entry["work"]["childAfter"]:
            if entry["groupId"] not in world.groups:  # deleted meanwhile: nothing is left to capture into
                self._finish(entry)
                return
            self._make_child(entry)
        halfway = elapsed >= entry["nominal"] / 2
        if halfway and not entry["guestFree"] and not world.switches.guest_transaction_spans_capture:
            self._free_guest(entry)
        due = not entry["stuck"] and entry["childId"] is not None and elapsed >= entry["nominal"]
        if due and self._imaging.finished(entry["id"], "images"):
            self._finish_capture(entry)

    def _advance_export(self, entry: Doc, elapsed: float) -> None:
        if entry["stuck"] or elapsed < entry["nominal"]:
            return
        damage = entry["work"]["damage"]
        targets = entry["work"]["objects"]
        if damage == "gone_without_objects":
            targets = []
        elif damage == "missing_last_object":
            targets = targets[:-1]
        if not self._imaging.begun(entry["id"], "objects"):
            specs = [self._spec(one["disk"]) for one in targets]
            bad = damage if damage in {"truncated_object", "damaged_object"} else None
            self._imaging.start_publishing(entry["id"], targets, specs, bad)
        if self._imaging.finished(entry["id"], "objects"):
            self._finish(entry)

    # Ending

    def _make_child(self, entry: Doc) -> None:
        world = self._world
        group, guest = world.groups[entry["groupId"]], world.guests[entry["guestId"]]
        child = self._group(
            world.new_id("group"),
            group["id"],
            name=group["name"],
            note=group["note"],
            guest=guest,
            user={"id": group["userRecordId"]},
            now=world.clock.now(),
        )
        child["transactionId"] = entry["id"]
        entry["childId"] = child["id"]
        world.save_all([("group", child), ("transaction", entry)])

    def _finish_capture(self, entry: Doc) -> None:
        world = self._world
        group, child = world.groups.get(entry["groupId"]), world.groups.get(entry["childId"])
        sizes: list[int] = self._imaging.result(entry["id"], "images")
        damage = entry["work"]["damage"]
        if damage == "template_gone":
            self._remove(entry["groupId"])
        elif group is not None and child is not None:  # else somebody deleted it meanwhile
            if damage is None:
                guest = world.guests[entry["guestId"]]
                child["_disks"] = _template_disks(guest, child["id"], entry["work"]["disks"], sizes)
                child["_total"] = float(sum(sizes))
                child["_source"] = group["_source"] = entry["work"]["disks"]
                child["_finished"] = group["_finished"] = True
            child["transactionId"] = None
            world.save("group", group, child)
        self._finish(entry)
        if damage is None and entry["work"].get("afterwork"):
            self._plan_afterwork(entry)

    def _plan_afterwork(self, capture: Doc) -> None:
        """See to it that after a while another transaction of a capture begins; nothing of it shows until then."""
        world, switches = self._world, self._world.switches
        entry = self._new(world.new_id("transaction"), "afterwork", switches.afterwork_seconds)
        entry["started"] += switches.afterwork_gap_seconds / world.speed
        entry.update(groupId=capture["groupId"], childId=capture["childId"], work={"guest": capture["guestId"]})
        world.save("transaction", entry)

    def _begin_afterwork(self, entry: Doc) -> None:
        """The server goes offline once more, and the template is busy, unless something else is done with it."""
        world = self._world
        guest, child = world.guests[entry["work"]["guest"]], world.groups.get(entry["childId"])
        entry["guestId"], entry["started"] = guest["id"], world.clock.now()
        entry["work"]["power"] = guest["_power"]
        if world.switches.capture_halts_guest:
            guest["_power"] = "HALTED"
        changed = [("guest", guest), ("transaction", entry)]
        if child is not None and child["transactionId"] is None:
            child["transactionId"] = entry["id"]
            changed.append(("group", child))
        world.save_all(changed)
        self._history.effects([events.guest_offline(entry)])

    def _finish_transfer(self, entry: Doc) -> None:
        world = self._world
        child = world.groups.get(entry["childId"])
        source = next((one for one in world.children(entry["groupId"]) if one["_finished"]), None)
        if child is not None and source is not None:
            child["_disks"] = [{**disk, "groupId": child["id"]} for disk in source["_disks"]]
            child.update(_total=source["_total"], _finished=True)
            world.save("group", child)

    def _free_guest(self, entry: Doc) -> None:
        guest = self._world.guests[entry["guestId"]]
        guest["_power"] = entry["work"]["power"]
        entry["guestFree"] = True
        self._world.save_all([("guest", guest), ("transaction", entry)])
        self._history.effects([events.guest_online(entry)])

    def _remove(self, number: int) -> None:
        group = self._world.groups.get(number)
        self._world.remove_group(number)
        if group is not None:
            self._history.effects([events.template_gone(group["id"], group["name"])])

    def _finish(self, entry: Doc) -> None:
        world = self._world
        changed: list[tuple[str, Doc]] = []
        for number in (entry["groupId"], entry["childId"]):
            group = world.groups.get(number) if number else None
            if group is not None and group["transactionId"] == entry["id"]:
                group["transactionId"] = None
                changed.append(("group", group))
        held = entry["kind"] in events.TAKES_OFFLINE and not entry["guestFree"]
        if held:
            guest = world.guests[entry["guestId"]]
            guest["_power"] = entry["work"]["power"]
            changed.append(("guest", guest))
        entry["ended"] = world.clock.now()
        world.save_all([*changed, ("transaction", entry)])
        self._history.effects(events.ended(entry, was_offline=held))
        self._imaging.forget(entry["id"])

    # Parts

    def _begin_work(self, entry: Doc) -> None:
        if not self._imaging.begun(entry["id"], "images"):
            self._imaging.start_images(entry["id"], [self._spec(disk) for disk in entry["work"]["disks"]])

    def _spec(self, disk: Doc) -> DiskSpec:
        return disk_spec(disk, self._world.switches.gigabyte)

    def _one_of(self, *names: str) -> str | None:
        hits = [name for name in names if self._faults.hit(name)]
        return hits[0] if hits else None

    def _new(self, number: int, kind: str, nominal: float, *, guest: int | None = None, can_stick: bool = True) -> Doc:
        stuck = can_stick and kind in {"capture", "export"} and self._faults.hit("stuck_transaction")
        return new_transaction(number, kind, started=self._world.clock.now(), nominal=nominal, guest=guest, stuck=stuck)

    def _group(
        self, number: int, parent: int | None, *, name: str, note: str | None, guest: Doc, user: Doc, now: float
    ) -> Doc:
        return {
            "id": number,
            "accountId": self._world.account["id"],
            "createDate": api_time(now),
            "globalIdentifier": stable_uuid("group", number),
            "name": name,
            "note": note,
            "parentId": parent,
            "publicFlag": 0,
            "statusId": 1,
            "summary": None,
            "transactionId": None,
            "userRecordId": user["id"],
            "_dc": guest["_dc"],
            "_disks": [],
            "_finished": False,
            "_guest": guest["id"],
            "_source": [],
            "_tags": [],
            "_total": 0.0,
        }


def _template_disks(guest: Doc, child: int, disks: list[Doc], sizes: list[int]) -> list[Doc]:
    """The disks of a finished child: those captured with their sizes, and the swap entry without any."""
    captured = {disk["device"]: size for disk, size in zip(disks, sizes, strict=True)}
    entries = []
    for device in guest_views.block_devices(guest):
        image = device.get("diskImage")
        if image is None or (device["device"] not in captured and image["typeId"] != 246):
            continue
        entry: Doc = {
            "id": child * 16 % 2_000_000_000 + int(device["device"]),
            "device": device["device"],
            "diskImageId": image["id"],
            "groupId": child,
            "diskImage": {**image, "blockDevices": []},
        }
        if device["device"] in captured:
            entry.update(diskSpace=float(captured[device["device"]]), units="B")
        entries.append(entry)
    return entries
