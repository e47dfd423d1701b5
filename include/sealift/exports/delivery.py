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
from sealift.exports.delivery_places import NOTES, How, Place
from sealift.exports.errors import DeliveryError, LedgerError, NoSuchExportError, SettingsError
from sealift.exports.jsontext import digest
from sealift.exports.looking import real_clock
from sealift.exports.manifest import Manifest, ManifestDisk, parse_manifest
from sealift.exports.ports import Clock, CosApi
from sealift.exports.proofs import LaterProof, add_proof, known_digests, proven_bytes, read_proofs
from sealift.exports.record import read_record
from sealift.images.proof import ProofFailed, prove_vhd
from sealift.transfer.reading import OpensRanges, Remote

SUMS: Final = "SHA256SUMS"
SUMS_SO_FAR: Final = f"{SUMS}.part"
MANIFEST: Final = "manifest.json"


class DeliversFrom(CosApi, OpensRanges, Protocol):
    """What a delivery needs of the object store."""


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
    """

    name: str
    size: int
    sha256: str
    already: bool
    resumed: int = 0
    crc64nvme: str | None = None


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """An export at its place.

    :param export_id: the export.
    :param place: where it is.
    :param files: all files but ``SHA256SUMS``.
    :param seconds: how long it took.
    """

    export_id: str
    place: str
    files: tuple[DeliveredFile, ...]
    seconds: float

    @property
    def brought(self) -> int:
        """Bytes that came out of the bucket in this delivery."""
        return sum(one.size - one.resumed for one in self.files if not one.already)


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
    ) -> None:
        self.manifest = manifest
        self.place = place
        self._cos = cos
        self._body = body
        self._watcher = watcher
        self._how = how or How()
        self._due = dict(digests or {})
        self._sums: dict[str, str] = {}

    def run(self) -> Delivered:
        """Bring everything, and check it.

        :returns: the files, each whole.
        :raises DeliveryError: a file is not what the manifest says.
        :raises sealift.transfer.errors.TransferError: it could not be brought to this place.
        :raises sealift.cos.errors.CosError: the object store refused, or failed for too long.
        """
        began = time.monotonic()
        self._sums = self._known_sums()
        missing = [disk for disk in self.manifest.disks if not self._is_there(disk)]
        self.place.check_room({file_name(disk): disk.size for disk in missing})
        # What is known to be whole stays known, whatever ends this delivery.
        self._write_sums(SUMS_SO_FAR)
        self.place.remove(SUMS)
        files = [self._disk(disk, bring=disk in missing) for disk in self.manifest.disks]
        files.append(self._record())
        files.append(self._small(MANIFEST, self._body))
        self._write_sums(SUMS)
        self.place.remove(SUMS_SO_FAR)
        return Delivered(
            export_id=self.manifest.export_id,
            place=self.place.label,
            files=tuple(files),
            seconds=time.monotonic() - began,
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

    def _is_there(self, disk: ManifestDisk) -> bool:
        """Say whether a disk's file is there and whole."""
        name = file_name(disk)
        known = self._sums.pop(name, None)
        if known is None or known != self._due.get(disk.key, known):
            return False
        self._watcher.begins(name, disk.size)
        if not self.place.is_whole(
            name, size=disk.size, sha256=known, checked=lambda count: self._watcher.checked(name, count)
        ):
            return False
        self._sums[name] = known
        return True

    def _disk(self, disk: ManifestDisk, *, bring: bool) -> DeliveredFile:
        name = file_name(disk)
        resumed, crc64nvme = 0, None
        if bring:
            self._watcher.begins(name, disk.size)
            remote = Remote(
                bucket=self.manifest.bucket,
                key=disk.key,
                size=disk.size,
                etag=disk.etag,
                sha256=self._due.get(disk.key),
                crc64nvme=disk.crc64nvme,
            )
            brought = self.place.bring(
                name,
                remote,
                client=self._cos,
                how=self._how,
                arrived=lambda count: self._watcher.arrived(name, count),
            )
            resumed, crc64nvme = brought.resumed, brought.crc64nvme
            self._prove(disk, name)
            self._sums[name] = brought.sha256
            self._write_sums(SUMS_SO_FAR)
        self._watcher.done(name, self._sums[name], already=not bring)
        return DeliveredFile(
            name=name,
            size=disk.size,
            sha256=self._sums[name],
            already=not bring,
            resumed=resumed,
            crc64nvme=crc64nvme,
        )

    def _prove(self, disk: ManifestDisk, name: str) -> None:
        """Prove the structure of what arrived, and that it is the disk that the manifest speaks of."""
        try:
            with self.place.open(name, size=disk.size) as source:
                proof = prove_vhd(source, expected_capacity_bytes=None, boot_disk=disk.device == "0")
        except ProofFailed as error:
            raise DeliveryError(
                f"{self.place.label}/{name} arrived whole, but is not a sound image: {error.detail}. It was proven in "
                f"the bucket on {self.manifest.proven_at:%Y-%m-%d}: try once more, and report this if it comes out the "
                "same."
            ) from error
        if (proof.virtual_size, proof.footer_uuid) != (disk.virtual_size, disk.footer_uuid):
            raise DeliveryError(
                f"{self.place.label}/{name} is another disk than the manifest's: it has {proof.virtual_size} bytes and "
                f"the id {proof.footer_uuid}, where {disk.virtual_size} bytes and {disk.footer_uuid} were proven."
            )

    def _record(self) -> DeliveredFile:
        record = self.manifest.record
        try:
            body = read_record(self._cos, bucket=self.manifest.bucket, record=record)
        except LedgerError as error:
            raise DeliveryError(f"{error} The images are in {self.place.label}.") from error
        return self._small(_file_name(record.key), body)

    def _small(self, name: str, body: bytes) -> DeliveredFile:
        """Write a small file whole."""
        self._watcher.begins(name, len(body))
        already = self.place.read(name) == body
        if not already:
            self.place.write(name, body)
        self._sums[name] = digest(body).removeprefix("sha256:")
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
    clock: Clock = real_clock,
) -> tuple[Delivered, str]:
    """Bring one export to one place, compare it with what was read before, and note what was read for those who come.

    The other parameters are those of :class:`Delivery`.

    :param prefix: what all keys in the bucket begin with; may be empty.
    :param made_by: what delivers, for the proof.
    :param clock: tells the time, in UTC.
    :returns: what is there, and what came of the note, in words; empty where there was nothing to note.
    :raises DeliveryError: as :meth:`Delivery.run`, or earlier readings contradict each other.
    """
    bucket = manifest.bucket
    earlier = known_digests(manifest, read_proofs(cos, bucket=bucket, prefix=prefix, manifest=manifest))
    delivered = Delivery(
        cos=cos, manifest=manifest, body=body, place=place, watcher=watcher, how=how, digests=earlier
    ).run()
    read = {one.name: one for one in delivered.files}
    new = [
        proven_bytes(disk, sha256=one.sha256, crc64nvme=one.crc64nvme)
        for disk in manifest.disks
        if disk.key not in earlier and (one := read[file_name(disk)])
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
    if names.key_safe(name) != name or name in (MANIFEST, SUMS, SUMS_SO_FAR, NOTES):
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
