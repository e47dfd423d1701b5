"""What the doctor finds in the bucket: manifests held against listings, half exports, and objects that are not ours.

A listing shows key, size, ETag and time of every object, 1,000 to a page. An export that its run's report and the
listing agree on (so many disks, so many bytes, nothing written after the manifest) needs no more. A manifest is read
only where they do not, or where no report tells: then its sizes and ETags decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sealift.cos.models import ObjectInfo
from sealift.exports import beside, names
from sealift.exports.doctor_account import server_of
from sealift.exports.doctor_models import KEYS_SHOWN, SETTLED, Bucket, Finding, Kind, age_of, shown
from sealift.exports.doctor_work import LeanItem, LeanOutcome
from sealift.exports.errors import LedgerError
from sealift.exports.jsontext import digest
from sealift.exports.manifest import Manifest, ManifestRemoval, parse_manifest

GROUPS_SHOWN = 1000
"""So many folders with strange objects are named; what lies in others is only counted."""


@dataclass(slots=True)
class Known:
    """An export with a manifest: small, as there may be hundreds of thousands.

    :param written: when its manifest was written, by the store.
    :param disks: how many disks a report says that it has; None where none tells.
    :param size: how many bytes a report says that they have.
    :param home: the folder of the server that its objects were seen in.
    :param looked_at: its manifest was read, and held against these objects.
    """

    written: datetime
    disks: int | None = None
    size: int = 0
    home: str | None = None
    looked_at: bool = False


@dataclass(slots=True)
class Folder:
    """The objects of one export in one folder, as the listing shows them."""

    home: str
    export_id: str
    disks: dict[int, ObjectInfo] = field(default_factory=dict)
    record: ObjectInfo | None = None

    @property
    def objects(self) -> list[ObjectInfo]:
        """All of its objects: the disks in their order, then the record."""
        return [*(self.disks[one] for one in sorted(self.disks)), *([self.record] if self.record else [])]

    @property
    def last(self) -> datetime:
        """When the last of its objects was written."""
        return max(one.last_modified for one in self.objects)

    @property
    def hostname(self) -> str:
        """The server's host name, as it stands in keys."""
        return self.home.rpartition("-")[0]

    def fits(self, known: Known) -> bool:
        """Say whether the listing agrees with the report and the manifest's time.

        :param known: the export.
        :returns: False also where no report tells how many disks there are.
        """
        return (
            known.disks == len(self.disks)
            and sorted(self.disks) == list(range(len(self.disks)))
            and sum(one.size for one in self.disks.values()) == known.size
            and all(one.size > 0 for one in self.disks.values())
            and self.record is not None
            and self.last <= known.written
        )


CONVERTING_AT_MOST: Final = timedelta(days=1)
"""So long an intermediate object of a conversion may be one of a conversion that runs."""


class Strange:
    """Objects at keys that Sealift does not write, by the folder that they lie in."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[int, int, datetime, list[str]]] = {}
        self._more: tuple[int, int] = (0, 0)

    def add(self, info: ObjectInfo) -> None:
        """Take an object in.

        :param info: the object.
        """
        folder = info.key.rpartition("/")[0]
        if folder not in self._folders and len(self._folders) >= GROUPS_SHOWN:
            self._more = (self._more[0] + 1, self._more[1] + info.size)
            return
        count, size, last, keys = self._folders.get(folder, (0, 0, info.last_modified, []))
        if len(keys) < KEYS_SHOWN:
            keys.append(info.key)
        self._folders[folder] = (count + 1, size + info.size, max(last, info.last_modified), keys)

    def findings(self, now: datetime) -> Iterator[Finding]:
        """Report what was taken in.

        :param now: the present time.
        :returns: one finding for each folder.
        """
        stranger = "No manifest names them, and Sealift never reads them. Look at who wrote them; delete or move them."
        for _, (count, size, last, keys) in sorted(self._folders.items()):
            do = stranger
            if beside.is_piece_of_conversion(keys[0]):
                if now - last < CONVERTING_AT_MOST:
                    continue
                what = f"A conversion that broke off has left {shown(keys[0])}."
                do = "Nothing needs it. Convert again, which deletes it, or delete it."
            elif count == 1:
                what = f"Sealift does not write an object at the key {shown(keys[0])}."
            else:
                what = f"{count} objects lie at keys that Sealift does not write, as {shown(keys[0])}."
            yield Finding(
                kind=Kind.STRANGE_OBJECTS,
                what=what,
                do=do,
                keys=keys,
                objects=count,
                since=last,
                age_seconds=age_of(last, now),
                bytes=size,
            )
        if self._more[0]:
            yield Finding(
                kind=Kind.STRANGE_OBJECTS,
                what=f"{self._more[0]} more objects lie in other folders at keys that Sealift does not write.",
                do=stranger,
                objects=self._more[0],
                bytes=self._more[1],
            )


def folders(infos: Iterable[ObjectInfo], *, room: str, strange: Strange) -> Iterator[Folder]:
    """Put a listing's objects together by export: those of one folder stand together in a listing.

    :param infos: the objects below ``images/``, in the order of their keys.
    :param room: what their keys begin with.
    :param strange: takes in what is none of ours.
    :returns: the folders, one after another.
    """
    folder: Folder | None = None
    for info in infos:
        rest = info.key.removeprefix(room)
        file = names.parse_image_file(rest)
        if file is None:
            if not (beside.is_kit_file(rest) or beside.is_converted_file(rest)):
                strange.add(info)
            continue
        if folder is None or (folder.home, folder.export_id) != (file.home, file.export_id):
            if folder is not None:
                yield folder
            # One text for all exports of a server.
            home = folder.home if folder is not None and folder.home == file.home else file.home
            folder = Folder(home, file.export_id)
        if file.disk is None:
            folder.record = info
        else:
            folder.disks[file.disk] = info
    if folder is not None:
        yield folder


class ManifestCheck:
    """Reads manifests and holds them against the objects that are there.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param now: the present time.
    :param strange: takes in what a manifest does not name.
    """

    def __init__(self, *, cos: Bucket, bucket: str, prefix: str, now: datetime, strange: Strange) -> None:
        self._cos = cos
        self._bucket = bucket
        self._prefix = prefix
        self._now = now
        self._strange = strange

    def key(self, export: str) -> str:
        """Return the key of an export's manifest.

        :param export: the export id.
        :returns: the key.
        """
        guest_id, period = names.parse_export_id(export)
        return names.manifest_key(prefix=self._prefix, guest_id=guest_id, period=period)

    def manifest(self, export: str) -> Manifest | Finding | None:
        """Read the manifest of an export. May be called by many threads at once.

        :param export: the export id.
        :returns: the manifest, or a finding where it cannot be read, or None where it is gone.
        """
        key = self.key(export)
        body = self._cos.read(self._bucket, key)
        if body is None:
            return None
        try:
            manifest = parse_manifest(body, bucket=self._bucket, key=key)
        except LedgerError as error:
            return self._unreadable(export, key, error.message)
        if manifest.export_id != export:
            return self._unreadable(export, key, f"{self._bucket}/{key} is the manifest of {manifest.export_id}.")
        return manifest

    def _half_removed(self, manifest: Manifest, mark: ManifestRemoval) -> list[Finding]:
        if self._now - mark.marked_at < SETTLED:
            return []
        return [
            Finding(
                kind=Kind.BEING_REMOVED,
                what=f"Its removal by the retention {mark.retention_id} was begun and not finished.",
                do="Run retention again (sealift retention, or the DAG apply_retention): it takes the removal up.",
                export_id=manifest.export_id,
                guest_id=manifest.guest.id,
                hostname=manifest.guest.hostname,
                keys=[self.key(manifest.export_id)],
                objects=1,
                since=mark.marked_at,
                age_seconds=age_of(mark.marked_at, self._now),
            )
        ]

    def judge(self, manifest: Manifest, folder: Folder | None) -> list[Finding]:
        """Hold a manifest against what is there.

        :param manifest: the manifest.
        :param folder: its objects as they were listed; None where there were none.
        :returns: the findings. Of an export that is being removed, only that, once nobody is at it any more.
        """
        if manifest.removal is not None:
            return self._half_removed(manifest, manifest.removal)
        expected: dict[str, tuple[int, str | None]] = {disk.key: (disk.size, disk.etag) for disk in manifest.disks}
        expected[manifest.record.key] = (manifest.record.size, None)
        there = {info.key: info for info in folder.objects} if folder else {}
        if not there.keys() & expected.keys():
            # They are in another folder, or came after the listing had passed them.
            for root in sorted({key.rpartition("/")[0] for key in expected}):
                there |= {info.key: info for info in self._cos.list(self._bucket, f"{root}/")}
        for info in folder.objects if folder else ():
            if info.key not in expected:
                self._strange.add(info)
        missing = [key for key in expected if key not in there]
        changed = [
            key
            for key, (size, etag) in expected.items()
            if key in there and (there[key].size != size or etag not in {None, there[key].etag})
        ]
        record = there.get(manifest.record.key)
        if record is not None and record.key not in changed and record.last_modified > manifest.proven_at:
            body = self._cos.read(self._bucket, record.key)
            if body is not None and digest(body) != manifest.record.digest:
                changed.append(record.key)
        return [*self._missing(manifest, missing, expected), *self._changed(manifest, changed, there)]

    def _missing(
        self, manifest: Manifest, missing: list[str], expected: Mapping[str, tuple[int, str | None]]
    ) -> list[Finding]:
        if not missing:
            return []
        where = "" if manifest.bucket == self._bucket else f" The manifest speaks of the bucket {manifest.bucket}."
        template = manifest.template.id
        return [
            Finding(
                kind=Kind.MANIFEST_WITHOUT_OBJECTS,
                what=f"The manifest of {manifest.export_id} names {len(expected)} objects, of which {len(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not there.{where}",
                do="Bring them back from a copy, if there is one; else delete the manifest and clear the server's task "
                f"wait_for_template in export_servers: it exports template {template} again, if the account still has "
                "it.",
                template_ids=[template],
                keys=[self.key(manifest.export_id)],
                objects=1,
                missing=missing,
                since=manifest.proven_at,
                age_seconds=age_of(manifest.proven_at, self._now),
                bytes=sum(expected[key][0] for key in missing),
                **self._server(manifest),
            )
        ]

    def _changed(self, manifest: Manifest, changed: list[str], there: Mapping[str, ObjectInfo]) -> list[Finding]:
        if not changed:
            return []
        last = max(there[key].last_modified for key in changed)
        return [
            Finding(
                kind=Kind.OBJECTS_CHANGED,
                what=f"{'An object' if len(changed) == 1 else f'{len(changed)} objects'} of {manifest.export_id} "
                f"{'is' if len(changed) == 1 else 'are'} not what was proven: another size, ETag or digest than the "
                "manifest names.",
                do="Do not restore from it. Bring the old versions back, if the bucket keeps versions; else delete the "
                "manifest and clear the server's task wait_for_export in export_servers, which proves what is there.",
                template_ids=[manifest.template.id],
                keys=changed,
                objects=len(changed),
                since=last,
                age_seconds=age_of(last, self._now),
                bytes=sum(there[key].size for key in changed),
                **self._server(manifest),
            )
        ]

    def _unreadable(self, export: str, key: str, words: str) -> Finding:
        return Finding(
            kind=Kind.UNREADABLE,
            what=words.partition(" Look at who wrote it")[0],
            do="Look at who wrote it. A newer version of Sealift writes manifests of its own; if nothing else explains "
            "it, delete it, and clear the server's task wait_for_export in export_servers.",
            keys=[key],
            objects=1,
            **server_of(export),
        )

    @staticmethod
    def _server(manifest: Manifest) -> dict[str, object]:
        return server_of(manifest.export_id, manifest.guest.hostname)


def half_export(
    folder: Folder,
    *,
    item: LeanItem | None,
    outcome: tuple[str, LeanOutcome] | None,
    templates: list[int],
    words: str,
    now: datetime,
) -> Finding:
    """Report the objects of an export that is neither done nor at work.

    :param folder: its objects.
    :param item: the export in its plan, where one was found.
    :param outcome: the plan that the export was in, and what the run's report says of it.
    :param templates: ids of its templates.
    :param words: a sentence about the outcome.
    :param now: the present time.
    :returns: the finding.
    """
    objects = folder.objects
    keys = [one.key for one in objects]
    missing = [key for key in (item.disk_keys if item else ()) if key not in set(keys)]
    if item is not None:
        count = f"{len(item.disks) - len(missing)} of {len(item.disks)} disks"
    else:
        count = f"{len(folder.disks)} disk{'' if len(folder.disks) == 1 else 's'}"
    record = " and the configuration record" if folder.record else ""
    verb = "are" if record or len(folder.disks) != 1 else "is"
    rest = f"; {len(missing)} missing" if missing else ""
    gone = outcome is not None and outcome[1].disks > 0
    if templates or gone:
        do = (
            "Clear the server's task wait_for_template in export_servers, with what follows it: it goes on from here, "
            "without another capture. Where the run is gone or the export not wanted, delete the objects."
        )
    else:
        do = "Their template is gone, so that nothing can be added. Start a new run for the server; delete the objects."
    return Finding(
        kind=Kind.HALF_EXPORT,
        what=f"{count}{record} of {folder.export_id} {verb} in the bucket{rest}, and there is no manifest.{words}",
        do=do,
        template_ids=templates,
        keys=keys[:KEYS_SHOWN],
        objects=len(keys),
        missing=missing,
        since=folder.last,
        age_seconds=age_of(folder.last, now),
        bytes=sum(one.size for one in objects),
        **server_of(folder.export_id, folder.hostname),
    )
