"""The last step: prove what the export left in the bucket, record the server's configuration, and write the manifest.

The order is the point: every disk is proven before the record is written, and the manifest is written last, by a
conditional put. Whatever ends this step early leaves no manifest, and without manifest nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from sealift import __version__
from sealift.classic.errors import ClassicNotFoundError
from sealift.classic.models import Template
from sealift.cos.errors import CosNotFoundError, CosPreconditionError
from sealift.cos.models import ObjectInfo, PutOutcome
from sealift.cos.source import ObjectSource
from sealift.exports import durations, names
from sealift.exports.errors import (
    BeingRemovedError,
    LedgerError,
    ManifestConflictError,
    OutcomeUnknownError,
    ProofError,
    ServerGoneError,
    StepError,
    TemplateMissingError,
    UnsettledProofError,
)
from sealift.exports.jsontext import canonical_json, digest
from sealift.exports.looking import real_clock, real_sleep
from sealift.exports.manifest import (
    Manifest,
    ManifestCheck,
    ManifestConversion,
    ManifestDisk,
    ManifestGuest,
    ManifestRecord,
    ManifestRun,
    ManifestTemplate,
    format_of,
    parse_manifest,
)
from sealift.exports.plan import PlanItem
from sealift.exports.ports import ClassicApi, Clock, CosApi, Sleep
from sealift.exports.record import ConfigurationRecord, build_record, parse_record
from sealift.exports.settings import PlanSettings
from sealift.exports.terms import SECOND_LOOK_SECONDS, Ended, Look
from sealift.images.proof import DiskProof, KnownDigests, ProofFailed, ProofLevel, prove_image
from sealift.images.source import RangeSource

if TYPE_CHECKING:
    from sealift.exports.proving_servers import ProvenServer

OpenSource = Callable[[str, ObjectInfo], RangeSource]
"""Opens an object (bucket, and what a HEAD showed) for range reads pinned to its ETag."""


Progress = Callable[[str, int, int], None]
"""Is told of an object that is read in full: its key, its size, and how many bytes more have been read."""


Convert = Callable[[list[ManifestDisk]], ManifestConversion]
"""Converts proven images, and says where the record of it is."""


class Recorded(BaseModel):
    """What the last step leaves.

    :param manifest_digest: of the manifest's bytes as they are in the bucket, ``sha256:…``.
    :param disks: how many disks were proven.
    :param bytes: size of all objects.
    :param already: the manifest existed already; nothing was written.
    :param manifest: the manifest itself.
    """

    model_config = ConfigDict(frozen=True)

    manifest_key: str
    manifest_digest: str
    export_id: str
    proof_level: str
    disks: int
    bytes: int
    already: bool
    manifest: Manifest | None = Field(default=None, repr=False)


def prove_and_record(
    *,
    classic: ClassicApi,
    cos: CosApi,
    item: PlanItem,
    settings: PlanSettings,
    template_id: int,
    dag_id: str,
    run_id: str,
    try_number: int,
    plan_id: str | None = None,
    captured_at: datetime | None = None,
    template_ended: Ended | None = None,
    submitted_at: datetime | None = None,
    first_look: Look | None = None,
    clock: Clock = real_clock,
    sleep: Sleep = real_sleep,
    second_look_seconds: float = SECOND_LOOK_SECONDS,
    open_source: OpenSource | None = None,
    progress: Progress | None = None,
    convert: Convert | None = None,
) -> Recorded:
    """Prove every disk at L0, L1 and the level that the plan asks for, write the configuration record, the manifest.

    :param classic: the account.
    :param cos: the object store.
    :param item: the server, as the plan has it.
    :param settings: the plan's settings: bucket, region, prefix.
    :param template_id: the parent template that was exported.
    :param dag_id: the DAG, for the manifest.
    :param run_id: the DAG run, for the manifest.
    :param try_number: which try of the task this is, for the manifest.
    :param plan_id: the plan, for the manifest.
    :param captured_at: when the capture began, if known better than from the template's creation date.
    :param template_ended: when the wait for the template saw it become whole, if it did; for the history of durations.
    :param submitted_at: when this run submitted the export, if it did; for the same.
    :param first_look: what the wait saw long enough before its end: the first of the two looks of L0.
    :param clock: tells the time, in UTC; the manifest's times are true times.
    :param sleep: waits between the two looks.
    :param second_look_seconds: time between the two looks of L0, in seconds.
    :param open_source: opens an object for range reads; a :class:`sealift.cos.source.ObjectSource` if not given.
    :param progress: told how far the reading of every byte is.
    :param convert: converts the proven images into the format that the plan asks for; not called where that is VHD.
    :returns: the manifest's key and what it says. If the manifest exists already, that one.
    :raises ProofError: an object is missing, changes, or is not a sound image; no manifest is written.
    :raises ManifestConflictError: a manifest of this export exists and speaks of other images.
    :raises StepError: the plan asks for L4, and the server could not be started on this machine at all.
    :raises TemplateMissingError: the account does not show the template, and the time of the capture is not known
        otherwise; retryable.
    """
    bucket = settings.bucket
    key = names.manifest_key(prefix=settings.prefix, guest_id=item.guest_id, period=item.period)
    there = cos.read(bucket, key)
    existing = None if there is None else parse_manifest(there, bucket=bucket, key=key)
    if there is not None and existing is not None and existing.removal is None:
        return _recorded(_checked(existing, item, bucket, key), key, there, already=True)

    template = classic.template_states([template_id]).get(template_id)
    began = captured_at or (template.create_date if template else None)
    if began is None:
        raise TemplateMissingError(
            f"The account does not show template {template_id} of {item.name}, so that the time of the capture is not "
            "known. A retry looks again."
        )
    objects = _prove_presence(cos, item, bucket, first_look, sleep=sleep, seconds=second_look_seconds)
    opener = open_source or (lambda where, info: ObjectSource(client=cos, bucket=where, key=info.key, info=info))
    level = settings.proof_level_of(item.export_id)
    disks = [
        _prove_disk(
            item,
            index,
            info,
            bucket,
            opener=opener,
            presence=_presence_checks(info, second_look_seconds),
            level=level,
            progress=progress,
        )
        for index, info in enumerate(objects)
    ]
    server: ProvenServer | None = None
    if level >= ProofLevel.L3:
        server = _prove_server(cos, item, settings, objects, disks, opener=opener, level=level)
        disks = [disk.model_copy(update={"proof_level": str(server.level)}) for disk in disks]
    _prove_unchanged(cos, item, bucket, objects)
    conversion = convert(disks) if convert is not None and settings.format != "vhd" else None
    proven_at = clock()
    record, record_body = _write_record(classic, cos, item, bucket)
    ended = template_ended if template_ended is not None and template_ended.template_id == template_id else None
    manifest = Manifest(
        export_id=item.export_id,
        period=item.period,
        guest=ManifestGuest(
            id=item.guest_id,
            hostname=item.hostname,
            domain=item.domain,
            datacenter=item.datacenter,
            dedicated_host_id=item.dedicated_host_id,
            dedicated_host_name=item.dedicated_host_name,
        ),
        template=_template(template, template_id, item),
        captured_at=began,
        exported_at=max(info.last_modified for info in objects),
        proven_at=proven_at,
        bucket=bucket,
        region=settings.region,
        format=format_of(disks),
        proof_level=min(disk.proof_level for disk in disks),
        disks=disks,
        left_out=[{"device": one.device, "reason": one.reason} for one in item.left_out],
        storage_not_in_image=record.storage_not_in_image(),
        record=ManifestRecord(key=names.record_key(item.images), size=len(record_body), digest=digest(record_body)),
        conversion=conversion,
        run=ManifestRun(
            dag_id=dag_id, run_id=run_id, try_number=try_number, plan_id=plan_id, sealift_version=__version__
        ),
        timing=durations.timing_of(
            capacity_bytes=item.capacity_bytes,
            created_at=template.create_date if template else None,
            unfinished_at=ended.unfinished_at if ended else None,
            whole_at=ended.over_at if ended else None,
            submitted_at=submitted_at,
            objects=objects,
            now=proven_at,
        ),
    )
    if server is not None:
        _add_proof(cos, manifest, settings, server)
    return _write_manifest(cos, manifest, item, bucket, key)


def _prove_server(
    cos: CosApi,
    item: PlanItem,
    settings: PlanSettings,
    objects: list[ObjectInfo],
    disks: list[ManifestDisk],
    *,
    opener: OpenSource,
    level: ProofLevel,
) -> ProvenServer:
    """Prove what the disks hold together, and that the server starts from them."""
    from sealift.exports.proving_servers import ServerImages, prove_server

    images = ServerImages(
        hostname=item.hostname,
        guest_id=item.guest_id,
        period=item.period,
        bucket=settings.bucket,
        prefix=settings.prefix,
        disks=disks,
        sources=[opener(settings.bucket, info) for info in objects],
    )
    key = disks[images.boot_index].key
    try:
        return prove_server(cos, images, level=level)
    except ProofFailed as error:
        raise ProofError(
            f"The disks of {item.name} in {settings.bucket}/{item.images} do not hold a server that can start: "
            f"{error.detail}. No manifest was written. Compare with the server itself: if it is so there too, plan it "
            "with a lower level of proof; if not, delete its objects and clear the task wait_for_template, which "
            "exports the same template again.",
            check_id=error.check_id,
            key=key,
        ) from error
    except (CosPreconditionError, CosNotFoundError) as error:
        raise UnsettledProofError(
            f"An image of {item.name} in {settings.bucket}/{item.images} was replaced or deleted while the server was "
            f"being proven. No manifest was written. Wait until nothing writes it, then clear this task. ({error})",
            check_id="etag-stable",
            key=key,
        ) from error


def _add_proof(cos: CosApi, manifest: Manifest, settings: PlanSettings, server: ProvenServer) -> None:
    """Add what was found of the server beside the manifest, before that: who reads the manifest finds it there."""
    from sealift.exports.proofs import LaterProof, add_proof, proven_bytes

    proof = LaterProof(
        export_id=manifest.export_id,
        made_at=manifest.proven_at,
        made_by=f"{manifest.run.dag_id} {manifest.run.run_id}",
        proof_level=server.level,
        disks=[
            proven_bytes(disk, sha256=disk.sha256, crc64nvme=disk.crc64nvme)
            for disk in manifest.disks
            if disk.sha256 is not None
        ],
        content=server.content,
        boot=server.boot,
    )
    add_proof(cos, proof, bucket=settings.bucket, prefix=settings.prefix, manifest=manifest)


def known_of(info: ObjectInfo, *, sha256: str | None = None) -> KnownDigests:
    """Say what is known of an object's bytes before they are read.

    :param info: what a HEAD showed.
    :param sha256: its SHA-256, where it was read before.
    """
    return KnownDigests(sha256=sha256, crc64nvme=info.crc64nvme, etag=info.etag, part_size=info.part_size)


def _prove_presence(
    cos: CosApi, item: PlanItem, bucket: str, first_look: Look | None, *, sleep: Sleep, seconds: float
) -> list[ObjectInfo]:
    """L0: every expected object is there with a size, none that was not expected, and a second look sees the same."""
    if first_look is not None and first_look.objects.keys() == set(item.disk_keys):
        first = first_look.objects
    else:
        first = {one.key: (one.etag, one.size) for one in _look(cos, item, bucket)}
        sleep(seconds)
    second = _look(cos, item, bucket, with_part_size=True)
    for after in second:
        etag, size = first[after.key]
        if (etag, size) != (after.etag, after.size):
            raise UnsettledProofError(
                f"{bucket}/{after.key} of {item.name} changed between two looks ({size} bytes, ETag "
                f"{etag}; then {after.size} bytes, ETag {after.etag}): something still writes it. Wait until "
                "no export of the template runs, then clear this task.",
                check_id="etag-stable",
                key=after.key,
            )
    return second


def _prove_unchanged(cos: CosApi, item: PlanItem, bucket: str, proven: list[ObjectInfo]) -> None:
    """A disk that was proven may have been replaced while the next one was read: nothing may have changed by now."""
    for before in proven:
        after = cos.head(bucket, before.key)
        if after is None or (after.etag, after.size) != (before.etag, before.size):
            raise UnsettledProofError(
                f"{bucket}/{before.key} of {item.name} was replaced or deleted after it was proven. No manifest was "
                "written. A retry proves what is there now.",
                check_id="etag-stable",
                key=before.key,
            )


def _look(cos: CosApi, item: PlanItem, bucket: str, *, with_part_size: bool = False) -> list[ObjectInfo]:
    expected = item.disk_keys
    strange = sorted({one.key for one in cos.list(bucket, names.disks_prefix(item.images))} - set(expected))
    if strange:
        raise ProofError(
            f"{bucket} holds {', '.join(strange)}, which the export of {item.name} with {len(expected)} disks should "
            "not have left: which object holds which disk is then not certain. Compare the sizes with the server's "
            "disks, and report this case.",
            check_id="no-unexpected-object",
            key=strange[0],
        )
    found = []
    for key in expected:
        info = cos.head(bucket, key, with_part_size=with_part_size)
        if info is None or info.size <= 0:
            state = "is missing" if info is None else "is empty"
            raise ProofError(
                f"{bucket}/{key} of {item.name} {state}: the export is not whole. Clear the task "
                "wait_for_template, which submits the same template again, without a new capture.",
                check_id="object-present",
                key=key,
            )
        found.append(info)
    return found


def _presence_checks(info: ObjectInfo, seconds: float) -> list[ManifestCheck]:
    return [
        ManifestCheck(id="object-present", detail=f"{info.key} is there and has {info.size} bytes"),
        ManifestCheck(id="etag-stable", detail=f"ETag {info.etag} in two looks, {seconds:g} s apart or more"),
    ]


def _prove_disk(
    item: PlanItem,
    index: int,
    info: ObjectInfo,
    bucket: str,
    *,
    opener: OpenSource,
    presence: list[ManifestCheck],
    level: ProofLevel,
    progress: Progress | None,
) -> ManifestDisk:
    planned = item.disks[index]
    boot_disk = planned.device == "0"
    source = opener(bucket, info)
    try:
        proof: DiskProof = prove_image(
            source, expected_capacity_bytes=planned.capacity_bytes or None, boot_disk=boot_disk
        )
        if level >= ProofLevel.L2:
            from sealift.images.bytes_proof import prove_bytes

            proof = prove_bytes(
                source,
                proof,
                known=known_of(info),
                boot_disk=boot_disk,
                passed=None if progress is None else partial(progress, info.key, info.size),
            )
    except ProofFailed as error:
        raise ProofError(
            f"{bucket}/{info.key}, disk {planned.device} of {item.name}, is not a sound image: {error.detail}. No "
            "manifest was written. Delete the object and clear the task wait_for_template, which exports the same "
            "template again.",
            check_id=error.check_id,
            key=info.key,
        ) from error
    except (CosPreconditionError, CosNotFoundError) as error:
        raise UnsettledProofError(
            f"{bucket}/{info.key} of {item.name} was replaced or deleted while it was being proven. No manifest was "
            f"written. Wait until nothing writes it, then clear this task. ({error})",
            check_id="etag-stable",
            key=info.key,
        ) from error
    return ManifestDisk(
        index=index,
        device=planned.device,
        key=info.key,
        size=info.size,
        virtual_size=proof.virtual_size,
        capacity=planned.capacity,
        units=planned.units,
        format=proof.format,
        etag=info.etag,
        parts=info.parts,
        part_size=info.part_size,
        crc64nvme=info.crc64nvme or proof.crc64nvme,
        sha256=proof.sha256,
        uploaded_at=info.last_modified,
        footer_uuid=proof.footer_uuid,
        creator=proof.creator,
        partition_table=proof.partition_table,
        partitions=proof.partitions,
        proof_level=str(proof.level),
        checks=[*presence, *(ManifestCheck(id=one.id, detail=one.detail) for one in proof.checks)],
        proof_bytes_read=proof.bytes_read,
        proof_requests=proof.requests,
    )


def _write_record(classic: ClassicApi, cos: CosApi, item: PlanItem, bucket: str) -> tuple[ConfigurationRecord, bytes]:
    """Write the configuration record, or take the one that an earlier try of this export wrote.

    The first one stays: another worker may be about to write a manifest with its digest, and it is the one that is
    nearer to the capture.
    """
    key = names.record_key(item.images)
    try:
        record = build_record(classic, item.guest_id)
    except ClassicNotFoundError as error:
        written = cos.read(bucket, key)
        if written is not None:
            return _own(parse_record(written, bucket=bucket, key=key), item, bucket, key), written
        raise ServerGoneError(
            f"The account does not know {item.name} any more, so that its configuration cannot be recorded. Its disks "
            f"are in {bucket}/{item.images}/ and sound, but without record there is no manifest. ({error})"
        ) from error
    if cos.put_if_absent(bucket, key, record.body) is not PutOutcome.EXISTS_DIFFERENT:
        return record, record.body
    written = cos.read(bucket, key)
    if written is None:
        raise OutcomeUnknownError(f"{bucket}/{key} of {item.name} came and went. A retry writes it again.")
    return _own(parse_record(written, bucket=bucket, key=key), item, bucket, key), written


def _own(record: ConfigurationRecord, item: PlanItem, bucket: str, key: str) -> ConfigurationRecord:
    if record.guest_id != item.guest_id:
        raise LedgerError(
            f"{bucket}/{key} is the record of virtual server {record.guest_id}, not of {item.name}. Look at who wrote "
            "it, delete it, then clear the task."
        )
    return record


def _write_manifest(cos: CosApi, manifest: Manifest, item: PlanItem, bucket: str, key: str) -> Recorded:
    written = canonical_json(manifest)
    outcome = cos.put_if_absent(bucket, key, written)
    if outcome is not PutOutcome.EXISTS_DIFFERENT:
        return _recorded(manifest, key, written, already=outcome is PutOutcome.EXISTS_SAME)
    body = cos.read(bucket, key)
    if body is None:
        raise OutcomeUnknownError(f"The manifest {bucket}/{key} came and went. A retry proves the export again.")
    other = _checked(parse_manifest(body, bucket=bucket, key=key), item, bucket, key)
    if other.removal is not None:
        raise BeingRemovedError(
            f"The export {other.export_id} of {item.name} is being removed (retention {other.removal.retention_id})"
            ". Finish that (sealift retention), then clear the task."
        )
    if not manifest.same_export(other):
        raise ManifestConflictError(
            f"{bucket}/{key} was written by run {other.run.run_id} (try {other.run.try_number}) for template "
            f"{other.template.id}, and speaks of other images than those that this run proved for {item.name} "
            f"(template {manifest.template.id}). It was left as it is: compare the two, then delete what is wrong."
        )
    return _recorded(other, key, body, already=True)


def _checked(manifest: Manifest, item: PlanItem, bucket: str, key: str) -> Manifest:
    if manifest.export_id != item.export_id:
        raise LedgerError(
            f"{bucket}/{key} is the manifest of {manifest.export_id}, not of {item.export_id}. Look at who wrote it."
        )
    return manifest


def _template(template: Template | None, template_id: int, item: PlanItem) -> ManifestTemplate:
    if template is not None and template.name != item.template_name:
        raise StepError(
            f"Template {template_id} is named {template.name!r}, not {item.template_name!r}: it is not the template of "
            f"this export of {item.name}. No manifest was written."
        )
    return ManifestTemplate(
        id=template_id,
        name=item.template_name,
        global_identifier=template.global_identifier if template else None,
    )


def _recorded(manifest: Manifest, key: str, body: bytes, *, already: bool) -> Recorded:
    return Recorded(
        manifest_key=key,
        manifest_digest=digest(body),
        export_id=manifest.export_id,
        proof_level=manifest.proof_level,
        disks=len(manifest.disks),
        bytes=manifest.total_bytes,
        already=already,
        manifest=manifest,
    )
