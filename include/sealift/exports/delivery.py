"""Bringing an export out of the bucket: disks, configuration record and manifest, at one place, proven.

The place is whole when it holds ``SHA256SUMS``, which is written last and which ``sha256sum --check`` reads. Until then
``SHA256SUMS.part`` says which files are whole. A second delivery to the same place checks what is there, and brings
only what is missing or damaged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Protocol

from sealift.cos.errors import CosPermissionError
from sealift.exports import ledger, names
from sealift.exports.converting import FORMATS
from sealift.exports.delivery_images import (
    Arrived,
    DeliveredConversion,
    DeliveredDisk,
    DeliversFrom,
    ExportedImage,
    Image,
    images_in,
    read_delivered,
)
from sealift.exports.delivery_places import NOTES, How, Place
from sealift.exports.errors import DeliveryError, InputError, LedgerError, NoSuchExportError, SettingsError
from sealift.exports.jsontext import canonical_json, digest
from sealift.exports.looking import real_clock
from sealift.exports.manifest import Manifest, ManifestDisk, parse_manifest
from sealift.exports.ports import Clock, CosApi
from sealift.exports.proofs import LaterProof, add_proof, known_digests, proven_bytes, read_proofs
from sealift.exports.record import read_record
from sealift.images.convert.formats import TargetFormat

SUMS: Final = "SHA256SUMS"
SUMS_SO_FAR: Final = f"{SUMS}.part"
MANIFEST: Final = "manifest.json"
CONVERSION: Final = "conversion.json"

AS_EXPORTED: Final = "exported"
"""What the format is called that images have already."""


class Watcher(Protocol):
    """Is told how a delivery goes on; from any thread."""

    def begins(self, name: str, size: int) -> None:
        """A file begins: its name in the folder, and its size in bytes."""
        ...

    def arrived(self, name: str, count: int) -> None:
        """So many more bytes of it are there."""
        ...

    def checked(self, name: str, count: int) -> None:
        """So many more bytes of a file that was there already have been read."""
        ...

    def done(self, name: str, sha256: str, *, already: bool) -> None:
        """It is whole: its SHA-256, and whether it was there already."""
        ...


@dataclass(frozen=True, kw_only=True)
class DeliveredFile:
    """One file of a delivery.

    :param name: its name in the folder.
    :param size: its size in bytes.
    :param sha256: its SHA-256 in hexadecimal digits.
    :param already: it was there already, and whole.
    :param resumed: bytes that an earlier try had brought.
    :param crc64nvme: the CRC-64/NVME of a disk that was brought, as S3's headers carry it.
    :param read: bytes that came out of the bucket for it, where those are not all but the resumed ones.
    """

    name: str
    size: int
    sha256: str
    already: bool
    resumed: int = 0
    crc64nvme: str | None = None
    read: int | None = None


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """An export at its place.

    :param export_id: the export.
    :param place: where it is.
    :param files: all files but ``SHA256SUMS``.
    :param seconds: how long it took.
    :param remarks: what is good to know of it, in sentences.
    """

    export_id: str
    place: str
    files: tuple[DeliveredFile, ...]
    seconds: float
    remarks: tuple[str, ...] = ()

    @property
    def brought(self) -> int:
        """Bytes that came out of the bucket in this delivery."""
        return sum(one.size - one.resumed if one.read is None else one.read for one in self.files if not one.already)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What of an export is delivered, besides its record and its manifest.

    :param format: the format of the images; None for the images as they were exported.
    :param kits: whether target kits are put below them, in ``kits/``.
    """

    format: TargetFormat | None = None
    kits: bool = False

    @classmethod
    def of(cls, *, format_: str | None, kits: bool) -> Wanted:
        """Read what somebody asks for.

        :param format_: the name of a format; None, nothing or ``exported`` for the images as they were exported.
        :param kits: whether kits are wanted.
        :raises InputError: exports are not converted into such a format.
        """
        if format_ in (None, "", AS_EXPORTED):
            return cls(kits=kits)
        if format_ not in FORMATS:
            raise InputError(
                f"Exports are not delivered as {format_!r}: name one of {', '.join((AS_EXPORTED, *FORMATS))}."
            )
        return cls(format=TargetFormat(format_), kits=kits)


def find_manifest(
    cos: CosApi, *, bucket: str, prefix: str, wanted: str, period: str | None = None
) -> tuple[Manifest, bytes]:
    """Find an export by what a person calls it.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param wanted: an export id, a virtual server's id, or its host name.
    :param period: the slot or manual run, where a server is named; None for the export that was captured last.
    :returns: its manifest, read and as it stands in the bucket.
    :raises NoSuchExportError: there is none, or the host name is that of several servers.
    :raises sealift.exports.errors.LedgerError: a manifest cannot be read.
    """
    guest_id, named = _guest_of(cos, bucket, prefix, wanted)
    period = named or period
    periods = [one for _, one in ledger.manifests(cos, bucket=bucket, prefix=prefix, guest_id=guest_id)]
    if period is not None and period not in periods:
        there = f"It has: {', '.join(sorted(periods)[-10:])}." if periods else "It has none at all."
        raise NoSuchExportError(
            f"There is no finished export of virtual server {guest_id} for {period} in {bucket}. {there}"
        )
    if not periods:
        raise NoSuchExportError(
            f"There is no finished export of virtual server {guest_id} in {bucket} under {prefix or 'no prefix'}. "
            "An export is finished once its manifest is there: look at the run, or name another bucket or prefix."
        )
    found = [_read(cos, bucket, prefix, guest_id, one) for one in ([period] if period else periods)]
    return max(found, key=lambda one: one[0].captured_at)


def _guest_of(cos: CosApi, bucket: str, prefix: str, wanted: str) -> tuple[int, str | None]:
    """Read whom somebody means: a guest, and a period where it was an export id."""
    if wanted.isdigit():
        return int(wanted), None
    try:
        guest_id, period = names.parse_export_id(wanted)
    except SettingsError:
        pass
    else:
        return guest_id, period
    beginning = names.image_prefix(prefix=prefix, hostname=wanted, guest_id=0, export="").removesuffix("0/")
    guests = {
        int(rest)
        for info in cos.list(bucket, beginning)
        if (rest := info.key.removeprefix(beginning).partition("/")[0]).isdigit()
    }
    if len(guests) == 1:
        return guests.pop(), None
    if not guests:
        raise NoSuchExportError(
            f"{bucket} holds no images of a server named {wanted!r}. Name its host name without the domain, its id, or "
            "an export id as 12345678-20261123T0200Z."
        )
    several = ", ".join(str(one) for one in sorted(guests))
    raise NoSuchExportError(f"Several virtual servers are named {wanted!r}: {several}. Name one of these ids.")


def _read(cos: CosApi, bucket: str, prefix: str, guest_id: int, period: str) -> tuple[Manifest, bytes]:
    key = names.manifest_key(prefix=prefix, guest_id=guest_id, period=period)
    body = cos.read(bucket, key)
    if body is None:
        raise NoSuchExportError(f"The manifest {bucket}/{key} was deleted while it was looked at.")
    manifest = parse_manifest(body, bucket=bucket, key=key)
    if manifest.removal is not None:
        raise NoSuchExportError(f"The export {manifest.export_id} in {bucket} is being removed. Name another one.")
    return manifest, body


def folder_of(manifest: Manifest) -> PurePosixPath:
    """Say which folder an export has, below the folder or prefix of all exports.

    :param manifest: the export.
    :returns: as ``<host name>-<id>/<export id>``.
    :raises SettingsError: the manifest's export id is none, and could lead anywhere.
    """
    names.parse_export_id(manifest.export_id)
    return PurePosixPath(f"{names.key_safe(manifest.guest.hostname)}-{manifest.guest.id}") / manifest.export_id


class Delivery:
    """Brings one export to one place.

    :param cos: the object store.
    :param manifest: the export.
    :param body: the manifest as it stands in the bucket.
    :param place: where to; see :func:`folder_of`.
    :param watcher: is told how it goes on.
    :param how: how bytes are brought.
    :param digests: the SHA-256 that disks must have, by key; see :func:`sealift.exports.proofs.known_digests`.
    :param wanted: what of the export.
    :param prefix: what all keys in the bucket begin with; may be empty.
    :param made_by: what delivers, for the record of converted images.
    :param clock: tells the time, in UTC.
    """

    def __init__(
        self,
        *,
        cos: DeliversFrom,
        manifest: Manifest,
        body: bytes,
        place: Place,
        watcher: Watcher,
        how: How | None = None,
        digests: Mapping[str, str] | None = None,
        wanted: Wanted | None = None,
        prefix: str = "",
        made_by: str = "",
        clock: Clock = real_clock,
    ) -> None:
        self.manifest = manifest
        self.place = place
        self._cos = cos
        self._body = body
        self._watcher = watcher
        self._how = how or How()
        self._due = dict(digests or {})
        self._wanted = wanted or Wanted()
        self._prefix = prefix
        self._made_by = made_by
        self._clock = clock
        self._sums: dict[str, str] = {}
        self._remarks: list[str] = []

    def run(self) -> Delivered:
        """Bring everything, and check it.

        :returns: the files, each whole.
        :raises DeliveryError: a file is not what the manifest says.
        :raises ConversionFailedError: an image cannot be converted into the format that is wanted.
        :raises UnsettledProofError: an image was replaced or deleted while it was converted.
        :raises sealift.transfer.errors.TransferError: it could not be brought to this place.
        :raises sealift.cos.errors.CosError: the object store refused, or failed for too long.
        """
        began = time.monotonic()
        images = self._images()
        known = self._known_sums()
        there = {image.name: self._there(image, known.get(image.name)) for image in images}
        self._sums = {name: one.sha256 for name, one in there.items() if one is not None}
        # Of an image that is converted on its way, the size is known at its end; about as much is stored as before.
        self.place.check_room({one.name: one.disk.size for one in images if there[one.name] is None})
        # What is known to be whole stays known, whatever ends this delivery.
        self._write_sums(SUMS_SO_FAR)
        self.place.remove(SUMS)
        arrived = [self._image(image, there[image.name]) for image in images]
        files = [file for file, _ in arrived]
        converted = [one.converted for _, one in arrived if one.converted is not None]
        if converted:
            files.append(self._conversion(converted))
        files.append(self._record())
        files.append(self._small(MANIFEST, self._body))
        if self._wanted.kits:
            files += self._kits(images, converted)
        self._write_sums(SUMS)
        self.place.remove(SUMS_SO_FAR)
        return Delivered(
            export_id=self.manifest.export_id,
            place=self.place.label,
            files=tuple(files),
            seconds=time.monotonic() - began,
            remarks=tuple(self._remarks),
        )

    def _images(self) -> list[Image]:
        """Say which images come, and how."""
        manifest, format_ = self.manifest, self._wanted.format
        if format_ is None:
            return [
                ExportedImage(bucket=manifest.bucket, disk=disk, name=file_name(disk), sha256=self._due.get(disk.key))
                for disk in manifest.disks
            ]
        return images_in(
            self._cos,
            bucket=manifest.bucket,
            disks=manifest.disks,
            format_=format_,
            earlier=read_delivered(self.place.read(CONVERSION), export_id=manifest.export_id, format_=format_),
            digests=self._due,
            name_of=_file_name,
        )

    def _known_sums(self) -> dict[str, str]:
        """What an earlier delivery of the same images wrote down."""
        there = self.place.read(MANIFEST)
        try:
            # Without a manifest the names, which hold the export id, are all there is.
            same = there is None or Manifest.model_validate_json(there).same_export(self.manifest)
        except ValueError:
            same = False
        found: dict[str, str] = {}
        for name in (SUMS, SUMS_SO_FAR):
            if same:
                found |= parse_sums(self.place.read(name) or b"")
        return found

    def _there(self, image: Image, known: str | None) -> Arrived | None:
        """Say whether an image's file is there and whole."""
        if known is None:
            return None
        self._watcher.begins(image.name, image.size)
        return image.is_there(self.place, known, lambda count: self._watcher.checked(image.name, count))

    def _image(self, image: Image, there: Arrived | None) -> tuple[DeliveredFile, Arrived]:
        arrived = there
        if arrived is None:
            self._watcher.begins(image.name, image.size)
            arrived = image.bring(
                self.place,
                cos=self._cos,
                how=self._how,
                arrived=lambda count: self._watcher.arrived(image.name, count),
            )
            self._sums[image.name] = arrived.sha256
            # An image that is made on its way is found again by the record of what was made of what.
            if arrived.converted is not None:
                self._note(arrived.converted)
            self._write_sums(SUMS_SO_FAR)
        self._watcher.done(image.name, arrived.sha256, already=there is not None)
        file = DeliveredFile(
            name=image.name,
            size=arrived.size,
            sha256=arrived.sha256,
            already=there is not None,
            resumed=arrived.resumed,
            crc64nvme=arrived.crc64nvme,
            read=arrived.read,
        )
        return file, arrived

    def _note(self, one: DeliveredDisk) -> None:
        """Note an image in another format as soon as it is there, beside those that an earlier delivery noted."""
        assert self._wanted.format is not None
        body = self.place.read(CONVERSION)
        noted = read_delivered(body, export_id=self.manifest.export_id, format_=self._wanted.format)
        self.place.write(CONVERSION, self._told(list((noted | {one.device: one}).values())))

    def _conversion(self, converted: list[DeliveredDisk]) -> DeliveredFile:
        """Write what the images in another format were made of; where all were there already, it says so already."""
        assert self._wanted.format is not None
        there = self.place.read(CONVERSION)
        noted = read_delivered(there, export_id=self.manifest.export_id, format_=self._wanted.format)
        same = there is not None and list(noted.values()) == converted
        return self._small(CONVERSION, there if same and there is not None else self._told(converted))

    def _told(self, disks: list[DeliveredDisk]) -> bytes:
        assert self._wanted.format is not None
        return canonical_json(
            DeliveredConversion(
                export_id=self.manifest.export_id,
                format=self._wanted.format,
                made_at=self._clock(),
                made_by=self._made_by,
                disks=disks,
            )
        )

    def _record(self) -> DeliveredFile:
        record = self.manifest.record
        try:
            body = read_record(self._cos, bucket=self.manifest.bucket, record=record)
        except LedgerError as error:
            raise DeliveryError(f"{error} The images are in {self.place.label}.") from error
        return self._small(_file_name(record.key), body)

    def _kits(self, images: list[Image], converted: list[DeliveredDisk]) -> list[DeliveredFile]:
        """Write target kits below the images. What somebody changed in one stays as it is."""
        from sealift.exports.delivery_kits import kits_below

        kits = kits_below(
            self._cos,
            prefix=self._prefix,
            manifest=self.manifest,
            sums=self._sums,
            converted=converted,
            delivered={image.name for image in images},
        )
        self._remarks += kits.remarks
        files, kept = [], []
        for name, body in kits.files.items():
            there = self.place.read(name)
            if there is not None and there != body:
                kept.append(name)
            files.append(self._small(name, body if there is None else there, told=False))
        if kept:
            self._remarks.append(
                f"{len(kept)} files of the kits are there with other contents and were left as they are, the first is "
                f"{kept[0]}: they are of an earlier state of knowledge, or somebody changed them. Delete the kit's "
                "folder to have it made anew."
            )
        return files

    def _small(self, name: str, body: bytes, *, told: bool = True) -> DeliveredFile:
        """Write a small file whole; those who watch need not be told of each of many."""
        already = self.place.read(name) == body
        if not already:
            self.place.write(name, body)
        self._sums[name] = digest(body).removeprefix("sha256:")
        if told:
            self._watcher.begins(name, len(body))
            self._watcher.arrived(name, len(body))
            self._watcher.done(name, self._sums[name], already=already)
        return DeliveredFile(name=name, size=len(body), sha256=self._sums[name], already=already)

    def _write_sums(self, name: str) -> None:
        text = "".join(f"{sha256}  {file}\n" for file, sha256 in sorted(self._sums.items()))
        self.place.write(name, text.encode())


def deliver(
    *,
    cos: DeliversFrom,
    manifest: Manifest,
    body: bytes,
    prefix: str,
    place: Place,
    watcher: Watcher,
    how: How | None = None,
    made_by: str,
    wanted: Wanted | None = None,
    clock: Clock = real_clock,
) -> tuple[Delivered, str]:
    """Bring one export to one place, compare it with what was read before, and note what was read for those who come.

    The other parameters are those of :class:`Delivery`.

    :param prefix: what all keys in the bucket begin with; may be empty.
    :param made_by: what delivers, for the proof.
    :param wanted: what of the export; its images as they were exported if not given.
    :param clock: tells the time, in UTC.
    :returns: what is there, and what came of the note, in words; empty where there was nothing to note.
    :raises DeliveryError: as :meth:`Delivery.run`, or earlier readings contradict each other.
    """
    bucket = manifest.bucket
    earlier = known_digests(manifest, read_proofs(cos, bucket=bucket, prefix=prefix, manifest=manifest))
    delivered = Delivery(
        cos=cos,
        manifest=manifest,
        body=body,
        place=place,
        watcher=watcher,
        how=how,
        digests=earlier,
        wanted=wanted,
        prefix=prefix,
        made_by=made_by,
        clock=clock,
    ).run()
    read = {one.name: one for one in delivered.files}
    new = [
        proven_bytes(disk, sha256=one.sha256, crc64nvme=one.crc64nvme)
        for disk in manifest.disks
        if disk.key not in earlier and (one := read.get(file_name(disk))) and one.size == disk.size
    ]
    if not new:
        return delivered, ""
    proof = LaterProof(export_id=manifest.export_id, made_at=clock(), made_by=made_by, disks=new)
    try:
        key = add_proof(cos, proof, bucket=bucket, prefix=prefix, manifest=manifest)
    except CosPermissionError:
        return delivered, (
            "The digests were not noted in the bucket, as the key may only read: the next delivery has nothing to "
            "compare with."
        )
    return (
        delivered,
        f"The digests of {len(new)} disks are noted in {bucket}/{key}: later deliveries compare with them.",
    )


def file_name(disk: ManifestDisk) -> str:
    """Say what a disk's file is called.

    :param disk: the disk.
    :returns: the last part of its key, as ``disk-0.vhd``.
    :raises DeliveryError: that is no name of a file.
    """
    return _file_name(disk.key)


def _file_name(key: str) -> str:
    name = key.rpartition("/")[2]
    if names.key_safe(name) != name or name in (MANIFEST, CONVERSION, SUMS, SUMS_SO_FAR, NOTES):
        raise DeliveryError(
            f"The manifest names an object {key!r}, which Sealift does not write. Look at who wrote it."
        )
    return name


def parse_sums(body: bytes) -> dict[str, str]:
    """Read digests as ``sha256sum`` writes them; what is not such a line is left out.

    :param body: the file's bytes.
    :returns: digests by file name.
    """
    found = {}
    for line in body.decode("utf-8", "replace").splitlines():
        sha256, _, name = line.partition("  ")
        if len(sha256) == 64 and name:
            found[name] = sha256
    return found


def delivered_as_json(delivered: Delivered) -> str:
    """Say what was delivered, for programs.

    :param delivered: the delivery.
    :returns: JSON on one line.
    """
    return json.dumps(
        {
            "export_id": delivered.export_id,
            "place": delivered.place,
            "seconds": round(delivered.seconds, 3),
            "files": [
                {"name": one.name, "size": one.size, "sha256": one.sha256, "already": one.already}
                for one in delivered.files
            ],
        }
    )
