"""Gathering what a decision rests on, from the bucket and the account: listings, and each manifest once.

Manifests, holds, proofs and images are listed, 1,000 objects to a page; manifests are read several at a time, and only
those of the servers that are asked about. What is kept of an export is small.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from sealift.classic.models import Guest, Template
from sealift.cos.models import ObjectInfo
from sealift.exports import names
from sealift.exports.doctor_models import SETTLED
from sealift.exports.drills.keys import Outcome, Rehearsed, drills_prefix, parse_rehearsal_file
from sealift.exports.errors import LedgerError, SettingsError
from sealift.exports.manifest import Manifest, parse_manifest
from sealift.exports.proofs import LaterProof, proof_level
from sealift.exports.record import ConfigurationRecord
from sealift.exports.retention import keys
from sealift.exports.retention.facts import ExportFacts, ServerFacts, TemplateFacts
from sealift.exports.retention.ports import Account, Store
from sealift.exports.retention.rules import RetentionRules
from sealift.exports.versions import newer_words

_READERS: Final = 16
_BATCH: Final = 2000

ExportKey = tuple[int, str]


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What was gathered.

    :param servers: servers with a manifest, in the order of their ids.
    :param unreadable: manifests that cannot be read, each with the reason; what belongs to them is left alone. And
        later proofs that a newer Sealift wrote: they prove nothing here.
    :param manifests: how many manifests were read.
    """

    servers: list[ServerFacts]
    unreadable: list[str] = field(default_factory=list)
    manifests: int = 0


def gather(
    *,
    cos: Store,
    classic: Account,
    bucket: str,
    prefix: str,
    rules: RetentionRules,
    now: datetime,
    guest_ids: Collection[int] | None = None,
) -> Gathered:
    """Gather what a decision rests on. Changes nothing.

    :param cos: the object store.
    :param classic: the account.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param rules: what is not asked for by them is not looked up.
    :param now: the present time, with a time zone.
    :param guest_ids: the servers to look at; None for all.
    :returns: the facts.
    :raises sealift.cos.errors.CosError: the bucket cannot be looked at.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    only = None if guest_ids is None else set(guest_ids)
    looking = _Looking(cos, bucket, prefix, only)
    listed = looking.manifests()
    holds = looking.holds()
    failed = looking.failed_drills()
    proofs = looking.proofs() if rules.asks_for_proofs else {}
    templates = _templates(classic.templates_with_prefix(names.TEMPLATE_PREFIX), only)
    folders = looking.folders()
    tags = {one.id: one for one in classic.list_guests()} if rules.asks_for_tags else {}
    servers: list[ServerFacts] = []
    unreadable: list[str] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for guest_id in sorted(listed):
            exports: list[ExportFacts] = []
            newest: Manifest | None = None
            for info, manifest in looking.read(pool, listed[guest_id]):
                if isinstance(manifest, str):
                    unreadable.append(manifest)
                    continue
                place = (guest_id, manifest.period)
                later, folder = proofs.get(place, ()), folders.get(_images(manifest))
                facts = _facts(manifest, info, later, folder, held=place in holds, now=now)
                exports.append(replace(facts, failed_drill=True) if place in failed else facts)
                if newest is None or manifest.captured_at > newest.captured_at:
                    newest = manifest
            if newest is None:
                continue
            server, its_tags = tags.get(guest_id), None
            if rules.asks_for_tags:
                its_tags = server.tags if server is not None else looking.tags_of(newest)
            servers.append(
                ServerFacts(
                    server=_server(newest, its_tags or ()),
                    tags_known=its_tags is not None or not rules.asks_for_tags,
                    exports=tuple(exports),
                    templates=tuple(templates.get(guest_id, ())),
                )
            )
    return Gathered(
        servers=servers, unreadable=looking.newer + unreadable, manifests=sum(len(one) for one in listed.values())
    )


@dataclass(slots=True)
class _Folder:
    """The objects of one export: how many, how large, and which disks, as a digest."""

    size: int = 0
    objects: int = 0
    disks: list[tuple[str, int, str]] = field(default_factory=list)
    record: int | None = None
    seal: bytes = b""

    def close(self) -> None:
        self.seal = _seal(self.disks)
        self.disks = []


def _seal(disks: Iterable[tuple[str, int, str]]) -> bytes:
    return hashlib.sha256(repr(sorted(disks)).encode()).digest()[:16]


class _Looking:
    def __init__(self, cos: Store, bucket: str, prefix: str, only: set[int] | None) -> None:
        self._cos = cos
        self._bucket = bucket
        self._prefix = prefix
        self._only = only
        self.newer: list[str] = []

    def _wanted(self, guest_id: int) -> bool:
        return self._only is None or guest_id in self._only

    def manifests(self) -> dict[int, list[ObjectInfo]]:
        found: dict[int, list[ObjectInfo]] = defaultdict(list)
        for info in self._cos.list(self._bucket, names.manifests_prefix(self._prefix)):
            parsed = names.parse_manifest_key(info.key)
            if parsed is None or not self._wanted(parsed[0]):
                continue
            if info.key == names.manifest_key(prefix=self._prefix, guest_id=parsed[0], period=parsed[1]):
                found[parsed[0]].append(info)
        return found

    def holds(self) -> set[ExportKey]:
        root = keys.holds_prefix(self._prefix)
        listed = self._cos.list(self._bucket, root)
        return {parsed for info in listed if (parsed := keys.parse_export_key(info.key, root)) is not None}

    def failed_drills(self) -> set[ExportKey]:
        """Find the exports that did not come back when they were rehearsed last, by keys alone."""
        room = names.room_prefix(self._prefix, "reports")
        last: dict[ExportKey, Rehearsed] = {}
        for info in self._cos.list(self._bucket, drills_prefix(self._prefix)):
            one = parse_rehearsal_file(info.key.removeprefix(room))
            # Below an export, keys are in the order of time.
            if one is not None and one.outcome in (Outcome.PASSED, Outcome.FAILED) and self._wanted(one.guest_id):
                last[one.guest_id, one.period] = one
        return {place for place, one in last.items() if one.outcome is Outcome.FAILED}

    def proofs(self) -> dict[ExportKey, list[LaterProof]]:
        room = names.room_prefix(self._prefix, "proofs")
        wanted: list[tuple[ExportKey, str]] = []
        for info in self._cos.list(self._bucket, room):
            rest = info.key.removeprefix(room)
            if names.proof_number(rest) is not None:
                guest_id, period, _ = rest.split("/")
                if self._wanted(int(guest_id)):
                    wanted.append(((int(guest_id), period), info.key))
        found: dict[ExportKey, list[LaterProof]] = defaultdict(list)
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(wanted), _BATCH):
                batch = wanted[start : start + _BATCH]
                bodies = pool.map(lambda one: self._cos.read(self._bucket, one[1]), batch)
                for (place, key), body in zip(batch, bodies, strict=True):
                    try:
                        found[place].append(LaterProof.model_validate_json(body or b""))
                    except ValidationError as error:  # it proves nothing; somebody's own is nobody's business
                        if (newer := newer_words(error)) is not None:
                            self.newer.append(f"{self._bucket}/{key} {newer}")
        return found

    def folders(self) -> dict[str, _Folder]:
        room = names.room_prefix(self._prefix, "images")
        found: dict[str, _Folder] = {}
        last: str | None = None
        for info in self._cos.list(self._bucket, room):
            rest = info.key.removeprefix(room)
            home, _, below = rest.partition("/")
            guest = home.rpartition("-")[2]
            if not guest.isdecimal() or not self._wanted(int(guest)):
                continue
            root = f"{room}{home}/{below.partition('/')[0]}"
            if root != last and last is not None:
                found[last].close()
            last = root
            folder = found.setdefault(root, _Folder())
            folder.size += info.size
            folder.objects += 1
            file = names.parse_image_file(rest)
            if file is not None and file.disk is not None:
                folder.disks.append((info.key, info.size, info.etag))
            elif file is not None:
                folder.record = info.size
        if last is not None:
            found[last].close()
        return found

    def read(self, pool: ThreadPoolExecutor, infos: list[ObjectInfo]) -> list[tuple[ObjectInfo, Manifest | str]]:
        return list(zip(infos, pool.map(self._manifest, infos), strict=True))

    def _manifest(self, info: ObjectInfo) -> Manifest | str:
        body = self._cos.read(self._bucket, info.key)
        if body is None:
            return f"{self._bucket}/{info.key} was deleted while it was looked at."
        try:
            manifest = parse_manifest(body, bucket=self._bucket, key=info.key)
            names.parse_export_id(manifest.export_id)
        except (LedgerError, SettingsError) as error:
            return error.message
        due = names.manifest_key(prefix=self._prefix, guest_id=manifest.guest.id, period=manifest.period)
        if due != info.key or manifest.export_id != f"{manifest.guest.id}-{manifest.period}":
            return f"{self._bucket}/{info.key} is the manifest of {manifest.export_id}. Look at who wrote it."
        return manifest

    def tags_of(self, manifest: Manifest) -> list[str] | None:
        """Read a server's tags from its configuration record; None where it does not tell."""
        body = self._cos.read(self._bucket, manifest.record.key)
        if body is None:
            return None
        try:
            record = ConfigurationRecord.model_validate_json(body)
            return Guest.model_validate({**record.detail, "id": record.guest_id, "hostname": "any"}).tags
        except (ValidationError, AttributeError, KeyError, TypeError):
            return None


def _images(manifest: Manifest) -> str:
    return manifest.disks[0].key.rpartition("/")[0]


def _facts(
    manifest: Manifest,
    info: ObjectInfo,
    later: Collection[LaterProof],
    folder: _Folder | None,
    *,
    held: bool,
    now: datetime,
) -> ExportFacts:
    etags = {disk.key: disk.etag for disk in manifest.disks}
    counting = [one for one in later if all(etags.get(disk.key) == disk.etag for disk in one.disks)]
    sound = (
        folder is not None
        and folder.seal == _seal((disk.key, disk.size, disk.etag) for disk in manifest.disks)
        and folder.record == manifest.record.size
    )
    removal = manifest.removal
    # Whoever marked it a moment ago goes on with it.
    marked = removal is not None and sound and now - removal.marked_at >= SETTLED
    return ExportFacts(
        export_id=manifest.export_id,
        captured_at=manifest.captured_at,
        proven_at=max([manifest.proven_at, *(one.made_at for one in counting)]),
        proof_level=proof_level(manifest, counting),
        template_id=manifest.template.id,
        bytes=folder.size if folder else 0,
        objects=folder.objects if folder else 0,
        etag=info.etag,
        images=_images(manifest),
        sound=sound,
        held=held,
        removing=removal is not None and not marked,
        removing_template=removal is not None and not marked and removal.template,
        marked=marked,
    )


def _server(manifest: Manifest, tags: Iterable[str]) -> Guest:
    guest = manifest.guest
    return Guest.model_construct(
        id=guest.id,
        hostname=guest.hostname,
        domain=guest.domain,
        fully_qualified_domain_name=f"{guest.hostname}.{guest.domain}" if guest.domain else None,
        datacenter=guest.datacenter,
        dedicated_host_id=guest.dedicated_host_id,
        dedicated_host_name=guest.dedicated_host_name,
        tag_references=[{"tag": {"name": one}} for one in tags],
        software_components=[],
        block_devices=[],
    )


def _templates(found: Iterable[Template], only: set[int] | None) -> dict[int, list[TemplateFacts]]:
    by_guest: dict[int, list[TemplateFacts]] = defaultdict(list)
    for one in found:
        export = names.parse_template_name(one.name)
        if export is None:
            continue
        guest_id, _ = names.parse_export_id(export)
        if only is not None and guest_id not in only:
            continue
        by_guest[guest_id].append(
            TemplateFacts(
                id=one.id,
                export_id=export,
                created_at=_aware(one.create_date),
                bytes=template_size(one),
                busy=bool(one.transactions_left) or one.transaction is not None,
            )
        )
    return by_guest


def template_size(template: Template) -> int:
    """Say how large an image template is, in all of its data centers together.

    :param template: the image template.
    :returns: bytes, by the account.
    """
    return int(sum(child.block_devices_disk_space_total or 0 for child in template.children))


def _aware(moment: datetime | None) -> datetime | None:
    return moment if moment is not None and moment.tzinfo is not None else None
