"""What the doctor finds of notes that steps leave for each other: claims of exports, offline slots, unfinished uploads.

Each of them is left behind by what was killed, and none of them harms: a claim or a slot frees itself. They tell where
something was killed, and the parts of an unfinished upload are billed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from sealift.cos.errors import CosNotFoundError, CosPermissionError
from sealift.cos.models import MultipartUpload, ObjectInfo
from sealift.exports import caps, names
from sealift.exports.caps import Caps
from sealift.exports.doctor_account import server_of
from sealift.exports.doctor_bucket import Strange
from sealift.exports.doctor_models import KEYS_SHOWN, Bucket, CapInForce, Finding, Kind, age_of, shown
from sealift.exports.registers import Entry, is_label
from sealift.exports.surveying import SlotsPlace
from sealift.exports.versions import newer_words

SIZED_AT_MOST = 1000
"""So many unfinished uploads are asked for their parts, one call for each 1,000 parts."""

_SLOT_FILE = re.compile(r"(\d+)/(\d{8})\.json")


@dataclass(frozen=True, slots=True)
class Slot:
    """What an offline slot says.

    :param keys: its entries, the one that counts last.
    """

    number: int
    entry: Entry
    since: datetime
    keys: list[str]


def read_slots(
    cos: Bucket, place: SlotsPlace, *, strange: Strange, now: datetime
) -> tuple[list[Slot], list[Finding], Caps]:
    """Read the slots of an account.

    :param cos: the object store.
    :param place: where they are.
    :param strange: takes in what is none of ours.
    :param now: the present time.
    :returns: those that somebody holds or held, a finding for each that cannot be read, and the learned caps.
    """
    listed: dict[int, list[ObjectInfo]] = {}
    notes: list[ObjectInfo] = []
    for info in cos.list(place.bucket, f"{place.root}/"):
        match = _SLOT_FILE.fullmatch(info.key.removeprefix(f"{place.root}/"))
        if caps.is_note(info.key, place.root):
            notes.append(info)
        elif is_label(info.key):
            continue
        elif match is None:
            strange.add(info)
        else:
            listed.setdefault(int(match[1]), []).append(info)
    slots, findings = [], []
    for number, infos in sorted(listed.items()):
        top = max(infos, key=lambda one: one.key)
        body = cos.read(place.bucket, top.key)
        if body is None:  # taken anew or given back since it was listed
            continue
        try:
            entry = Entry.model_validate_json(body)
        except ValidationError as error:
            newer = newer_words(error)
            findings.append(
                Finding(
                    kind=Kind.UNREADABLE,
                    what=f"{place.bucket}/{top.key} {newer or 'is not what Sealift writes into an offline slot.'} No "
                    "capture can start while it is there.",
                    do="Upgrade Sealift here." if newer else "Look at who wrote it, and delete it.",
                    keys=[top.key],
                    objects=1,
                    since=top.last_modified,
                    age_seconds=age_of(top.last_modified, now),
                    bytes=top.size,
                )
            )
            continue
        if entry.state == "held":
            since = max(entry.taken_at, top.last_modified)
            slots.append(Slot(number, entry, since, [one.key for one in sorted(infos, key=lambda one: one.key)]))
    return slots, findings, caps.read_caps(cos, bucket=place.bucket, root=place.root, listed=notes)


def caps_in_force(learned: Iterable[Caps], now: datetime) -> list[CapInForce]:
    """Say what the account has taught.

    :param learned: the learned caps of all places.
    :param now: the present time.
    :returns: those that have not been forgotten, as they stand where no setting is lower.
    """
    notes = [note.cap for one in learned for _, note in sorted(one.notes.items()) if note.cap is not None]
    return [
        CapInForce(
            kind=one.kind,
            datacenter=one.datacenter or None,
            cap=one.in_force(0, now),
            learned_at=one.learned_at,
            words=one.words,
        )
        for one in notes
        if one.in_force(0, now)
    ]


def stale_slot(slot: Slot, *, now: datetime) -> Finding:
    """Report a slot whose capture does not show.

    :param slot: the slot.
    :param now: the present time.
    :returns: the finding.
    """
    export = slot.entry.export_id
    return Finding(
        kind=Kind.STALE_SLOT,
        what=f"Offline slot {slot.number} was taken for {export}, and no image template of it shows: its task was "
        "killed before it submitted the capture, or the template was deleted.",
        do="Nothing: the next capture takes the slot. If the server should be exported, clear its capture task.",
        keys=slot.keys[-KEYS_SHOWN:],
        objects=len(slot.keys),
        since=slot.since,
        age_seconds=age_of(slot.since, now),
        **server_of(export),
    )


def stale_claim(export: str, infos: list[ObjectInfo], *, done: bool, hostname: str | None, now: datetime) -> Finding:
    """Report a claim that belongs to nothing else that was found.

    :param export: the export id.
    :param infos: its entries.
    :param done: the export has a manifest.
    :param hostname: the server's, where something tells it.
    :param now: the present time.
    :returns: the finding.
    """
    last = max(one.last_modified for one in infos)
    why = "is done" if done else "has no template, no objects and no manifest"
    return Finding(
        kind=Kind.STALE_CLAIM,
        what=f"The claim of {export} is left over: the export {why}.",
        do="Delete it; it does no harm where it stays.",
        keys=[one.key for one in infos[:KEYS_SHOWN]],
        objects=len(infos),
        since=last,
        age_seconds=age_of(last, now),
        bytes=sum(one.size for one in infos),
        **server_of(export, hostname),
    )


def ours(uploads: Iterable[MultipartUpload], *, prefix: str) -> list[MultipartUpload]:
    """Pick the uploads that are below our prefix; without one, those in one of our rooms.

    :param uploads: the uploads, of the prefix or of the whole bucket.
    :param prefix: what all keys begin with; may be empty.
    :returns: ours.
    """
    if prefix:
        return list(uploads)
    roots = tuple(f"{room}/" for room in names.ROOMS)
    return [one for one in uploads if one.key.startswith((*roots, ".sealift-"))]


def export_of_upload(upload: MultipartUpload, *, prefix: str) -> names.ImageFile | None:
    """Say which export's object an upload makes.

    :param upload: the upload.
    :param prefix: what all keys begin with; may be empty.
    :returns: what its key tells, or None where it is no export's.
    """
    room = names.room_prefix(prefix, "images")
    return names.parse_image_file(upload.key.removeprefix(room)) if upload.key.startswith(room) else None


def unfinished_upload(
    upload: MultipartUpload, file: names.ImageFile | None, *, size: tuple[int, int] | None, now: datetime
) -> Finding:
    """Report an upload that nobody goes on with.

    :param upload: the upload.
    :param file: what its key tells.
    :param size: parts and bytes, where the store tells.
    :param now: the present time.
    :returns: the finding.
    """
    thing = shown(upload.key) if file is None else f"{upload.key.rpartition('/')[2]} of {file.export_id}"
    if size is None:
        held = "The store does not tell its size to this key."
    elif size[0]:
        parts = "1 part, which is" if size[0] == 1 else f"{size[0]} parts, which are"
        held = f"It holds {parts} billed and in no listing."
    else:
        held = "It is empty."
    return Finding(
        kind=Kind.UNFINISHED_UPLOAD,
        what=f"An upload of {thing} was begun and neither completed nor aborted. {held}",
        do="Abort it, or have a lifecycle rule abort incomplete uploads after some days.",
        keys=[upload.key],
        upload_id=upload.upload_id,
        since=upload.initiated,
        age_seconds=age_of(upload.initiated, now),
        bytes=None if size is None else size[1],
        **(server_of(file.export_id, file.home.rpartition("-")[0]) if file else {}),
    )


def sized(cos: Bucket, bucket: str, uploads: Collection[MultipartUpload]) -> dict[str, tuple[int, int]]:
    """Ask for the parts of uploads; an upload that is gone by now is left out, one that may not be seen as well.

    :param cos: the object store.
    :param bucket: the bucket.
    :param uploads: the uploads; of many, only the first are asked about.
    :returns: parts and bytes by upload id; ``(-1, 0)`` for an upload that is gone.
    """
    found: dict[str, tuple[int, int]] = {}
    for upload in list(uploads)[:SIZED_AT_MOST]:
        try:
            found[upload.upload_id] = cos.upload_size(bucket, upload)
        except CosPermissionError:
            return found
        except CosNotFoundError:
            found[upload.upload_id] = GONE
    return found


GONE = (-1, 0)
