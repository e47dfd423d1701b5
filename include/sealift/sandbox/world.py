"""What the sandbox's account holds: guests, hosts, storage, templates and transactions, in memory and in SQLite."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from sealift.sandbox.clock import Clock
from sealift.sandbox.state import State
from sealift.sandbox.switches import Switches

Doc = dict[str, Any]

KINDS = ("guest", "host", "hardware", "volume", "group", "transaction")
_FIRST_IDS = {"group": 12_700_001, "transaction": 238_000_001}


class World:
    """All objects by kind and id. Whoever reads or changes them holds :attr:`lock`.

    :param state: where everything is kept; read once, then written through.
    :param clock: the time.
    :param switches: behaviour that no source confirms.
    :param speed: how many times faster transactions go.
    """

    def __init__(self, *, state: State, clock: Clock, switches: Switches, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"the speed must be greater than 0, not {speed}")
        self.lock = threading.RLock()
        self.state = state
        self.clock = clock
        self.switches = switches
        self.speed = speed
        self.account: Doc = {}
        self.user: Doc = {}
        self.guests: dict[int, Doc] = {}
        self.dedicated_hosts: dict[int, Doc] = {}
        self.hardware: dict[int, Doc] = {}
        self.volumes: dict[int, Doc] = {}
        self.groups: dict[int, Doc] = {}
        self.transactions: dict[int, Doc] = {}
        self.running: dict[int, Doc] = {}
        self.last_of_guest: dict[int, int] = {}
        self._children: dict[int, list[int]] = {}
        self.by_uuid: dict[str, int] = {}

    def load(self) -> None:
        """Read everything from the state."""
        with self.lock:
            self.account = self.state.meta("account") or {}
            self.user = self.state.meta("user") or {}
            self.guests = self.state.load("guest")
            self.dedicated_hosts = self.state.load("host")
            self.hardware = self.state.load("hardware")
            self.volumes = self.state.load("volume")
            for group in self.state.load("group").values():
                self._index_group(group)
            for transaction in self.state.load("transaction").values():
                self._index_transaction(transaction)
            self.by_uuid = {doc["globalIdentifier"].lower(): number for number, doc in self.guests.items()}
            self.by_uuid.update({doc["globalIdentifier"].lower(): number for number, doc in self.groups.items()})

    def new_id(self, kind: str) -> int:
        """:returns: an id that no object of the kind ever had, not even one deleted since."""
        with self.lock:
            name = f"next_{kind}_id"
            number = int(self.state.meta(name) or _FIRST_IDS[kind])
            self.state.set_meta(name, number + 1)
            return number

    def save(self, kind: str, *docs: Doc) -> None:
        """Keep new or changed objects."""
        self.save_all((kind, doc) for doc in docs)

    def save_all(self, docs: Iterable[tuple[str, Doc]]) -> None:
        """Keep new or changed objects of several kinds: all or none, as a crash in between would see it."""
        pairs = list(docs)
        with self.lock:
            self.state.put_all(pairs)
            for kind, doc in pairs:
                if kind == "group":
                    self._index_group(doc)
                elif kind == "transaction":
                    self._index_transaction(doc)
                elif kind == "guest":
                    self.guests[doc["id"]] = doc

    def remove_group(self, number: int) -> None:
        """Forget a template, with its children where it is a parent."""
        with self.lock:
            for child in self.children(number):
                self.remove_group(child["id"])
            group = self.groups.pop(number, None)
            if group is None:
                return
            self._children.pop(number, None)
            self.by_uuid.pop(group["globalIdentifier"].lower(), None)
            siblings = self._children.get(group["parentId"] or 0, [])
            if number in siblings:
                siblings.remove(number)
            self.state.delete("group", number)

    def children(self, number: int) -> list[Doc]:
        """:returns: the children of a template, oldest first."""
        return [self.groups[one] for one in self._children.get(number, [])]

    def own_groups(self) -> list[Doc]:
        """:returns: the account's templates, parents and children."""
        return [one for one in self.groups.values() if one["accountId"] == self.account["id"]]

    def shown_groups(self) -> list[Doc]:
        """:returns: the account's templates as far as a client gets to see them."""
        return [one for one in self.own_groups() if self.shown(one)]

    def shown(self, doc: Doc) -> bool:
        """:returns: whether a template or a transaction is late no more; a child shows with its parent."""
        parent = self.groups.get(doc.get("parentId") or 0, doc)
        return float(parent.get("_shownAt", 0.0)) <= self.clock.now()

    def public_groups(self) -> list[Doc]:
        """:returns: the public parents."""
        return [one for one in self.groups.values() if one["publicFlag"] and one["parentId"] is None]

    def guests_on_host(self, number: int) -> list[Doc]:
        """:returns: the guests of a dedicated host."""
        return [one for one in self.guests.values() if one["_host"] == number]

    def volumes_of(self, nas_type: str) -> list[Doc]:
        """:returns: network storage of one kind, ``ISCSI`` or ``NAS``."""
        return [one for one in self.volumes.values() if one["nasType"] == nas_type]

    def portable_volumes(self) -> list[Doc]:
        """:returns: portable storage volumes: disk images that know their block devices."""
        from sealift.sandbox.classic import guest_views

        found = []
        for guest in self.guests.values():
            portable = {disk["device"] for disk in guest["_disks"] if disk.get("portable")}
            if portable:
                for device in guest_views.block_devices(guest):
                    if device["device"] in portable:
                        link = {"id": device["id"], "guestId": guest["id"], "guest": {"id": guest["id"]}}
                        found.append({**device["diskImage"], "blockDevices": [link]})
        return found

    def running_on_guest(self, number: int) -> list[Doc]:
        """:returns: the transactions that run on a guest, oldest first."""
        return [one for one in self.running.values() if one["guestId"] == number and not one["guestFree"]]

    def _index_group(self, group: Doc) -> None:
        if group["id"] not in self.groups and group["parentId"] is not None:
            self._children.setdefault(group["parentId"], []).append(group["id"])
        self.groups[group["id"]] = group
        self.by_uuid[group["globalIdentifier"].lower()] = group["id"]

    def _index_transaction(self, transaction: Doc) -> None:
        number = transaction["id"]
        self.transactions[number] = transaction
        if transaction["guestId"]:
            self.last_of_guest[transaction["guestId"]] = max(number, self.last_of_guest.get(transaction["guestId"], 0))
        if transaction["ended"] is None:
            self.running[number] = transaction
        else:
            self.running.pop(number, None)
