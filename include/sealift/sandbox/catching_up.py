"""What the history lacks at a start is added: a kill can come between a change and its line, never the other way.

The same serves a state whose history was switched off for a while: then order and times of what happened meanwhile are
lost, and captures that are over are told one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sealift.sandbox.classic import events
from sealift.sandbox.history import Event, History
from sealift.sandbox.store import ObjectStore
from sealift.sandbox.store.multipart import upload_ended
from sealift.sandbox.world import World

Doc = dict[str, Any]
_Object = tuple[str, str]


class _Told:
    """What the history tells already."""

    def __init__(self, effects: Iterable[Event]) -> None:
        self.transactions: dict[str, set[int]] = {}
        self.templates: dict[int, str] = {}
        self.objects: dict[_Object, str] = {}
        self.uploads: dict[str, _Object] = {}
        for event in effects:
            self._add(event)

    def _add(self, event: Event) -> None:
        what = event["what"]
        if "transaction" in event:
            self.transactions.setdefault(what, set()).add(event["transaction"])
        if what == "capture-started":
            self.templates[event["template"]] = event["name"]
        elif what == "template-gone":
            self.templates.pop(event["template"], None)
        elif what == "object-put":
            self.objects[event["bucket"], event["key"]] = event["etag"]
        elif what == "object-deleted":
            self.objects.pop((event["bucket"], event["key"]), None)
        elif what == "upload-started":
            self.uploads[event["upload"]] = (event["bucket"], event["key"])
        elif what == "upload-ended":
            self.uploads.pop(event["upload"], None)

    def tells(self, event: Event) -> bool:
        """Whether an event of a transaction is there."""
        return event["transaction"] in self.transactions.get(event["what"], ())


def catch_up(*, history: History, world: World, store: ObjectStore) -> None:
    """Add what is true and not in the history; nobody is served yet.

    :param history: the history that was taken up.
    :param world: the account, loaded.
    :param store: the buckets.
    """
    if history.on:
        told = _Told(history.told())
        history.effects([*_of_account(world, told), *_of_buckets(world, store, told)], recovered=True)


def _of_account(world: World, told: _Told) -> Iterator[Event]:
    known = [one for one in world.transactions.values() if one["kind"] in {"capture", "export", "afterwork"}]
    for entry in sorted(known, key=lambda one: (one["ended"] is None, one["ended"] or 0.0, one["id"])):
        for event in _should_be_told(entry):
            if not told.tells(event):
                yield event
                if event["what"] == "capture-started":
                    told.templates[event["template"]] = event["name"]
    for number, name in told.templates.items():
        if number not in world.groups:
            yield events.template_gone(number, name)


def _should_be_told(entry: Doc) -> Iterator[Event]:
    over = entry["ended"] is not None
    if entry["kind"] == "export":
        yield events.export_started(entry)
    elif entry["guestId"] is not None:
        if entry["kind"] == "capture":
            yield events.capture_started(entry)
        yield events.guest_offline(entry)
        if over or entry["guestFree"]:
            yield events.guest_online(entry)
    if over:
        yield from events.ended(entry, was_offline=False)


def _of_buckets(world: World, store: ObjectStore, told: _Told) -> Iterator[Event]:
    exported = {
        (target["bucket"], target["key"])
        for entry in world.transactions.values()
        if entry["kind"] == "export"
        for target in entry["work"]["objects"]
    }
    present: set[_Object] = set()
    caught: set[_Object] = set()
    for bucket, raw, size, etag in store.database.query(
        "SELECT bucket, key, size, etag FROM objects WHERE latest = 1 AND delete_marker = 0 ORDER BY row"
    ):
        key = bytes(raw).decode()
        present.add((bucket, key))
        if told.objects.get((bucket, key)) != etag:
            caught.add((bucket, key))
            by = "service" if (bucket, key) in exported else "client"
            yield {"what": "object-put", "bucket": bucket, "key": key, "size": size, "etag": etag, "by": by}
    for bucket, key in told.objects.keys() - present:
        yield {"what": "object-deleted", "bucket": bucket, "key": key, "by": "client"}
    open_now: set[str] = set()
    for number, bucket, raw in store.database.query("SELECT upload_id, bucket, key FROM uploads ORDER BY initiated"):
        open_now.add(number)
        if number not in told.uploads:
            yield {"what": "upload-started", "bucket": bucket, "key": bytes(raw).decode(), "upload": number}
    for number, (bucket, key) in told.uploads.items():
        if number not in open_now:
            yield upload_ended(bucket, key, number, "completed" if (bucket, key) in caught else "aborted")
