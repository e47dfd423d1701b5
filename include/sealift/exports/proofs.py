"""What was found out of an export after its manifest was written: objects beside it, added and never changed.

A manifest is written once. What is found out later, the digests of every byte for a start, is added as an object of its
own, each with the next number, by a put that creates and never overwrites. Each names the ETag that it is about: a
proof of an object that was replaced since says nothing of the one that is there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sealift.cos.models import PutOutcome
from sealift.exports import names
from sealift.exports.errors import DeliveryError, LedgerError
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest, ManifestCheck, ManifestDisk
from sealift.exports.ports import CosApi
from sealift.exports.versions import reads_up_to, unreadable
from sealift.images.content.facts import SystemFacts

SCHEMA_VERSION: Final = 2

SchemaVersion = Annotated[Literal[2], reads_up_to(SCHEMA_VERSION)]

_SCREEN_FILE: Final = re.compile(rf"[1-9]\d*/{names.PERIOD_PATTERN}/screen-[0-9a-f]{{16}}\.png")

NUMBERS_AT_MOST: Final = 50
"""So many numbers are tried for a new proof: others may be adding theirs at the same moment."""


class ProofModel(BaseModel):
    """Base of a proof's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ProvenBytes(ProofModel):
    """One disk image of which every byte was read."""

    key: str = Field(description="The object's key")
    etag: str = Field(description="The object's ETag, without quotes; every read demanded it")
    size: int = Field(gt=0, description="The object's size in bytes, all of which were read")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the whole object")
    crc64nvme: str | None = Field(
        default=None, description="CRC-64/NVME of the whole object, base64: what the object store computes itself"
    )
    checks: list[ManifestCheck] = Field(default_factory=list, description="What was checked, and found")


class ProvenContent(ProofModel):
    """What the file systems on a server's disks were found to hold."""

    checks: list[ManifestCheck] = Field(description="What was checked, and found")
    remarks: list[ManifestCheck] = Field(description="What is no damage, but good to know")
    system: SystemFacts = Field(description="What was found: names, versions and places; nothing secret is read")


class ProvenTry(ProofModel):
    """One start of the server in an emulated machine."""

    how: str = Field(description="'boot loader', or 'kernel' where that was handed over past the boot loader")
    bus: str = Field(description="How the disks were attached")
    login: bool = Field(description="A login prompt showed")
    kernel: bool = Field(description="A kernel was seen running")
    said: str = Field(description="Why it cannot start, where it said so")
    seconds: float = Field(ge=0, description="From switching on to the end of the try")


class ProvenBoot(ProofModel):
    """What starting the server in an emulated machine showed. What it wrote to its console is not kept."""

    proves: Literal["the server", "its kernel and root file system", "nothing"] = Field(
        description="What the login prompt proves: where the kernel was handed over, nothing of the boot loader"
    )
    checks: list[ManifestCheck] = Field(description="What was checked, and found")
    tries: list[ProvenTry] = Field(description="Every start, in order; none where the server cannot be judged so")
    screenshot: str | None = Field(default=None, description="Key of the picture of its screen at the end of the last")

    @model_validator(mode="before")
    @classmethod
    def _of_before_it_was_said(cls, value: Any) -> Any:
        """Earlier proofs tell their starts, and leave what these prove to the reader."""
        if not isinstance(value, dict) or "proves" in value or not isinstance(value.get("tries"), list):
            return value
        logins = {one.get("how") for one in value["tries"] if isinstance(one, dict) and one.get("login") is True}
        proves = "the server" if "boot loader" in logins else "its kernel and root file system" if logins else "nothing"
        return {**value, "proves": proves}


class ProvenRecovery(ProofModel):
    """How long it took to get an export back, where a drill rehearsed that: from its first byte to its proof."""

    drill_id: str = Field(description="The drill")
    began_at: AwareDatetime = Field(description="When the download began")
    seconds: float = Field(ge=0, description="Time to recover: from the start of the download to the end of the proof")
    download_seconds: float = Field(ge=0, description="Of these, until all files had arrived and were compared")
    proof_seconds: float = Field(ge=0, description="Of these, for reading what had arrived and the file systems in it")
    boot_seconds: float | None = Field(
        default=None, description="From switching on to the login prompt, in an emulated machine; null: not started"
    )
    bytes: int = Field(ge=0, description="Bytes that had arrived at the end, in all files")
    resumed_bytes: int = Field(
        default=0, ge=0, description="Of these, what an earlier try had brought: then the times tell less than all"
    )
    not_deeper: str = Field(default="", description="Why it was not proven deeper, where a deeper level was asked for")


class LaterProof(ProofModel):
    """A proof of an export that was made after its manifest was written."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    export_id: str = Field(description="<guest id>-<period>")
    made_at: AwareDatetime = Field(description="When the last byte had been read")
    made_by: str = Field(description="What made it: a DAG run, or a command")
    proof_level: str = Field(default="L2", description="How deep every one of the disks was checked")
    disks: list[ProvenBytes] = Field(min_length=1, description="The images that were read")
    content: ProvenContent | None = Field(
        default=None, description="From level L3 on, all disks of the server together"
    )
    boot: ProvenBoot | None = Field(default=None, description="At level L4, the server's start")
    recovery: ProvenRecovery | None = Field(
        default=None, description="The time to recover, where the export was brought out of the bucket for this proof"
    )


def read_proofs(cos: CosApi, *, bucket: str, prefix: str, manifest: Manifest) -> list[LaterProof]:
    """Read what was proven of an export later.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param manifest: the export.
    :returns: the proofs, in the order in which they were added.
    :raises LedgerError: one of them is not what Sealift writes there.
    """
    root = names.proofs_prefix(prefix=prefix, guest_id=manifest.guest.id, period=manifest.period)
    found = []
    room = names.room_prefix(prefix, "proofs")
    for info in sorted(cos.list(bucket, root), key=lambda one: one.key):
        body = None if names.proof_number(info.key.removeprefix(room)) is None else cos.read(bucket, info.key)
        if body is None:  # somebody's own, or deleted since it was listed
            continue
        try:
            found.append(LaterProof.model_validate_json(body))
        except ValidationError as error:
            do = "Look at who wrote it, and delete it."
            raise LedgerError(unreadable(error, where=f"{bucket}/{info.key}", what="a proof", do=do)) from error
    return found


def known_digests(manifest: Manifest, proofs: Iterable[LaterProof]) -> dict[str, str]:
    """Say which digests an export's disks must have.

    :param manifest: the export.
    :param proofs: what was proven later.
    :returns: SHA-256 by key, of the disks for which there is one with the manifest's ETag.
    :raises DeliveryError: two of them contradict each other.
    """
    found = {disk.key: disk.sha256 for disk in manifest.disks if disk.sha256 is not None}
    due = {disk.key: disk.etag for disk in manifest.disks}
    for proof in proofs:
        for one in proof.disks:
            if due.get(one.key) != one.etag:
                continue
            before = found.setdefault(one.key, one.sha256)
            if before != one.sha256:
                raise DeliveryError(
                    f"{manifest.bucket}/{one.key} has been read with two digests, {before} and, by {proof.made_by} at "
                    f"{proof.made_at:%Y-%m-%d %H:%M} UTC, {one.sha256}, though its ETag is the same: one reading "
                    "was wrong. Compare with the image in the account, and delete the proof that is wrong."
                )
    return found


def screen_key(*, prefix: str, guest_id: int, period: str, picture: bytes) -> str:
    """Return the key of a picture of what a server's screen showed when it was started.

    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the server.
    :param period: the export's period.
    :param picture: the picture's bytes, which name it.
    :returns: as ``proofs/12345678/20261123T0200Z/screen-1b9f0c3d5e6f7a80.png``.
    """
    digest = hashlib.sha256(picture).hexdigest()[:16]
    return f"{names.proofs_prefix(prefix=prefix, guest_id=guest_id, period=period)}screen-{digest}.png"


def is_proofs_file(rest: str) -> bool:
    """Say whether a key below ``proofs/`` is one that Sealift writes: a proof, or the picture of a screen.

    :param rest: the key behind :func:`sealift.exports.names.room_prefix`.
    """
    return names.proof_number(rest) is not None or _SCREEN_FILE.fullmatch(rest) is not None


def add_proof(cos: CosApi, proof: LaterProof, *, bucket: str, prefix: str, manifest: Manifest) -> str:
    """Add a proof.

    :param cos: the object store.
    :param proof: the proof.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param manifest: the export.
    :returns: its key.
    :raises LedgerError: no number is free for it.
    :raises sealift.cos.errors.CosPermissionError: the key may not write.
    """
    guest_id, period = manifest.guest.id, manifest.period
    listed = cos.list(bucket, names.proofs_prefix(prefix=prefix, guest_id=guest_id, period=period))
    room = names.room_prefix(prefix, "proofs")
    last = max((names.proof_number(info.key.removeprefix(room)) or 0 for info in listed), default=0)
    body = canonical_json(proof)
    for number in range(last + 1, last + 1 + NUMBERS_AT_MOST):
        key = names.proof_key(prefix=prefix, guest_id=guest_id, period=period, number=number)
        if cos.put_if_absent(bucket, key, body) is not PutOutcome.EXISTS_DIFFERENT:
            return key
    raise LedgerError(f"No number is free for a proof of {manifest.export_id} in {bucket}. A retry looks again.")


def proven_bytes(
    disk: ManifestDisk, *, sha256: str, crc64nvme: str | None, checks: Iterable[ManifestCheck] = ()
) -> ProvenBytes:
    """Say of a disk that every byte was read.

    :param disk: the disk.
    :param sha256: SHA-256 of the whole object, in hexadecimal digits.
    :param crc64nvme: its CRC-64/NVME, where it was computed.
    :param checks: what was checked.
    """
    return ProvenBytes(
        key=disk.key, etag=disk.etag, size=disk.size, sha256=sha256, crc64nvme=crc64nvme, checks=list(checks)
    )


def proof_level(manifest: Manifest, proofs: Iterable[LaterProof]) -> str:
    """Say how deep an export has been proven by now.

    :param manifest: the export.
    :param proofs: what was proven later.
    :returns: the highest level at which every disk, as the manifest knows it, has been checked.
    """
    due = {disk.key: disk.etag for disk in manifest.disks}
    reached = {disk.key: disk.proof_level for disk in manifest.disks}
    for proof in proofs:
        for one in proof.disks:
            if due.get(one.key) == one.etag:
                reached[one.key] = max(reached[one.key], proof.proof_level)
    return min(reached.values())
