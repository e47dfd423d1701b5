"""Proving a finished export again, deeper: its images in the bucket are read once more, and what was found is added.

The manifest stays as it is. A proof that fails adds nothing: it ends with an error that says what was found, since the
export that the manifest calls done is none any more.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sealift.cos.errors import CosNotFoundError, CosPreconditionError
from sealift.cos.models import ObjectInfo
from sealift.cos.source import ObjectSource
from sealift.exports.errors import ProofError, UnsettledProofError
from sealift.exports.looking import real_clock
from sealift.exports.manifest import Manifest, ManifestCheck, ManifestDisk
from sealift.exports.ports import Clock, CosApi
from sealift.exports.proofs import (
    LaterProof,
    ProvenBytes,
    add_proof,
    known_digests,
    proven_bytes,
    read_proofs,
)
from sealift.exports.proving import Progress, known_of
from sealift.exports.proving_servers import ProvenServer, ServerImages, prove_server
from sealift.images.bytes_proof import prove_bytes
from sealift.images.proof import ProofFailed, ProofLevel, prove_image


def prove_again(
    cos: CosApi,
    manifest: Manifest,
    *,
    prefix: str,
    level: ProofLevel = ProofLevel.L2,
    made_by: str,
    progress: Progress | None = None,
    clock: Clock = real_clock,
) -> tuple[LaterProof, str]:
    """Prove every disk of an export at level L2 in the bucket, the whole server deeper if wanted, and add the proof.

    :param cos: the object store.
    :param manifest: the export.
    :param prefix: what all keys in the bucket begin with; may be empty.
    :param level: L2, L3, or L4.
    :param made_by: what proves, for the proof.
    :param progress: told how far the reading is.
    :param clock: tells the time, in UTC.
    :returns: the proof, and the key under which it was added.
    :raises ProofError: an image is not what the manifest, an earlier proof or the object store says.
    :raises UnsettledProofError: an object was replaced or deleted.
    :raises StepError: the server could not be started on this machine at all.
    :raises sealift.exports.errors.DeliveryError: earlier readings contradict each other.
    :raises sealift.exports.errors.LedgerError: an earlier proof cannot be read.
    """
    earlier = known_digests(manifest, read_proofs(cos, bucket=manifest.bucket, prefix=prefix, manifest=manifest))
    disks = [_prove(cos, manifest, disk, sha256=earlier.get(disk.key), progress=progress) for disk in manifest.disks]
    server = _prove_server(cos, manifest, prefix=prefix, level=level) if level >= ProofLevel.L3 else None
    proof = LaterProof(
        export_id=manifest.export_id,
        made_at=clock(),
        made_by=made_by,
        proof_level=server.level if server else ProofLevel.L2,
        disks=disks,
        content=server.content if server else None,
        boot=server.boot if server else None,
    )
    return proof, add_proof(cos, proof, bucket=manifest.bucket, prefix=prefix, manifest=manifest)


def _prove(
    cos: CosApi, manifest: Manifest, disk: ManifestDisk, *, sha256: str | None, progress: Progress | None
) -> ProvenBytes:
    where = f"{manifest.bucket}/{disk.key}, disk {disk.device} of {manifest.guest.hostname}"
    info = as_proven(cos, manifest, disk, where)
    source = ObjectSource(client=cos, bucket=manifest.bucket, key=disk.key, info=info)
    boot_disk = disk.device == "0"
    try:
        structure = prove_image(source, expected_capacity_bytes=None, boot_disk=boot_disk)
        if (structure.virtual_size, structure.footer_uuid) != (disk.virtual_size, disk.footer_uuid):
            raise ProofError(
                f"{where}, is another disk than the manifest's: it has {structure.virtual_size} bytes and the id "
                f"{structure.footer_uuid}, where {disk.virtual_size} bytes and {disk.footer_uuid} were proven.",
                check_id="same-disk",
                key=disk.key,
            )
        proof = prove_bytes(
            source,
            structure,
            known=known_of(info, sha256=sha256),
            boot_disk=boot_disk,
            passed=None if progress is None else partial(progress, disk.key, info.size),
        )
    except ProofFailed as error:
        raise ProofError(
            f"{where}, is not sound any more: {error.detail}. It was proven at {disk.proof_level} on "
            f"{manifest.proven_at:%Y-%m-%d}. Prove it once more; if it comes out the same, export the server again.",
            check_id=error.check_id,
            key=disk.key,
        ) from error
    except (CosPreconditionError, CosNotFoundError) as error:
        raise _replaced(where, manifest, disk) from error
    assert proof.sha256 is not None
    return proven_bytes(
        disk,
        sha256=proof.sha256,
        crc64nvme=proof.crc64nvme,
        checks=[ManifestCheck(id=one.id, detail=one.detail) for one in proof.checks],
    )


def _prove_server(cos: CosApi, manifest: Manifest, *, prefix: str, level: ProofLevel) -> ProvenServer:
    """Read the file systems of all disks, and start the server, by range reads that demand the proven ETags."""
    where = f"{manifest.bucket}/{manifest.disks[0].key.rpartition('/')[0]}, the disks of {manifest.guest.hostname}"
    infos = [as_proven(cos, manifest, disk, f"{where} ({disk.device})") for disk in manifest.disks]
    images = ServerImages(
        hostname=manifest.guest.hostname,
        guest_id=manifest.guest.id,
        period=manifest.period,
        bucket=manifest.bucket,
        prefix=prefix,
        disks=manifest.disks,
        sources=[
            ObjectSource(client=cos, bucket=manifest.bucket, key=disk.key, info=info)
            for disk, info in zip(manifest.disks, infos, strict=True)
        ],
    )
    boot_disk = manifest.disks[images.boot_index]
    try:
        return prove_server(cos, images, level=level)
    except ProofFailed as error:
        raise ProofError(
            f"{where}, do not hold a server that can start: {error.detail}. Compare with the server itself; if it is "
            "whole there, export it again.",
            check_id=error.check_id,
            key=boot_disk.key,
        ) from error
    except (CosPreconditionError, CosNotFoundError) as error:
        raise _replaced(where, manifest, boot_disk) from error


def as_proven(cos: CosApi, manifest: Manifest, disk: ManifestDisk, where: str) -> ObjectInfo:
    """Look at an image in the bucket, and make sure that it is the one that was proven.

    :param cos: the object store.
    :param manifest: the export.
    :param disk: the image.
    :param where: what it is called in the message.
    :returns: what the store says of it, with what it said when the manifest was written.
    :raises UnsettledProofError: it was replaced or deleted since.
    """
    info = cos.head(manifest.bucket, disk.key, with_part_size=True)
    if info is None or (info.etag, info.size) != (disk.etag, disk.size):
        raise _replaced(where, manifest, disk)
    # What the store said when the manifest was written counts too, should it say nothing now.
    return replace(info, crc64nvme=info.crc64nvme or disk.crc64nvme)


def _replaced(where: str, manifest: Manifest, disk: ManifestDisk) -> UnsettledProofError:
    return UnsettledProofError(
        f"{where}, was replaced or deleted since it was proven on {manifest.proven_at:%Y-%m-%d} (its ETag was "
        f"{disk.etag}). Look at what wrote to the bucket, then export the server again.",
        check_id="etag-stable",
        key=disk.key,
    )
