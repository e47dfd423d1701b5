"""Converting an export's images in the bucket: read by ranges, converted as a stream, uploaded by parts, proven there.

Nothing is kept on a disk of this machine. The images of one format lie together, with a record that is written last and
names for each the exported image that it was made of, by key, ETag and content. A conversion whose record is there is
done; one that broke off leaves at most an upload that the next one aborts, and images that it makes anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sealift.cos.client import CosClient
from sealift.cos.errors import CosNotFoundError, CosPreconditionError
from sealift.cos.models import ObjectInfo, PutOutcome
from sealift.cos.source import ObjectSource
from sealift.exports import beside
from sealift.exports.errors import ConversionFailedError, LedgerError, OutcomeUnknownError, UnsettledProofError
from sealift.exports.jsontext import canonical_json, digest
from sealift.exports.looking import real_clock
from sealift.exports.manifest import ManifestCheck, ManifestConversion, ManifestDisk
from sealift.exports.ports import Clock, CosApi
from sealift.exports.versions import reads_up_to, unreadable
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.formats import TargetFormat, identity_of, writer_for
from sealift.images.convert.run import Converted, convert, prove_result
from sealift.images.source import ImageFormatError
from sealift.images.verdict import ProofFailed
from sealift.images.virtual_disk import open_disk
from sealift.transfer.errors import TransferError
from sealift.transfer.upload import Upload, Uploaded
from sealift.transfer.upload_targets import CosTarget

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

FORMATS: Final = (
    TargetFormat.VMDK,
    TargetFormat.QCOW2,
    TargetFormat.VHD_FIXED,
    TargetFormat.RAW,
)
"""What exports are converted into. An exported image is a VHD already."""

Progress = Callable[[str, int, int], None]
"""Is told of a disk that is converted, and then read again: its key, its size, and how many bytes more are done."""


class ConversionModel(BaseModel):
    """Base of the record's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConvertedDisk(ConversionModel):
    """A disk in its new format, and what it was made of."""

    device: str = Field(description="The API's device number of the disk: 0 is the boot disk")
    key: str = Field(description="The object's key")
    size: int = Field(gt=0, description="The object's size in bytes")
    etag: str = Field(description="The object's ETag, without quotes")
    part_size: int | None = Field(
        default=None,
        gt=0,
        description="Bytes of each part that it was uploaded in, but the last; null where they are of several sizes",
    )
    sha256: str | None = Field(default=None, description="SHA-256 of the object, where its bytes came in their order")
    virtual_size: int = Field(gt=0, description="Size of the disk that the image holds, in bytes")
    filled_up: int = Field(ge=0, description="Bytes of zeros at the disk's end that the exported disk does not have")
    format: str = Field(description="The image's format, as its proof found it")
    content: str = Field(
        description="Digest of the disk's content, sparse-sha256:…, that both images were found to have"
    )
    source_key: str = Field(description="The exported image's key")
    source_etag: str = Field(description="The exported image's ETag, which every read demanded")
    checks: list[ManifestCheck] = Field(
        default_factory=list, description="What was checked of the new image, and found"
    )


class Conversion(ConversionModel):
    """An export's images in another format."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    export_id: str = Field(description="<guest id>-<period>")
    format: str = Field(description="The format that was asked for")
    made_at: AwareDatetime = Field(description="When the last image was proven")
    made_by: str = Field(description="What made it: a DAG run, or a command")
    disks: list[ConvertedDisk] = Field(min_length=1, description="The images, in the order of the disks")

    def is_of(self, disks: Sequence[ManifestDisk]) -> bool:
        """Say whether the images were made of just these exported ones.

        :param disks: the exported images.
        """
        made_of = [(one.source_key, one.source_etag) for one in self.disks]
        return made_of == [(disk.key, disk.etag) for disk in disks]


def read_conversion(cos: CosApi, *, bucket: str, images: str, format_: TargetFormat) -> Conversion | None:
    """Read the record of a conversion.

    :param cos: the object store.
    :param bucket: the bucket.
    :param images: the export's :func:`sealift.exports.names.image_prefix`.
    :param format_: the format.
    :returns: the record, or None where there is none.
    :raises LedgerError: what is there is none.
    """
    key = beside.conversion_key(images=images, format_=format_)
    body = cos.read(bucket, key)
    if body is None:
        return None
    try:
        return Conversion.model_validate_json(body)
    except ValidationError as error:
        do = "Look at who wrote it, and delete it."
        what = "a record of a conversion"
        raise LedgerError(unreadable(error, where=f"{bucket}/{key}", what=what, do=do)) from error


def conversion_of(record: Conversion, *, images: str) -> ManifestConversion:
    """Say what a manifest says of a conversion.

    :param record: the conversion's record.
    :param images: the export's :func:`sealift.exports.names.image_prefix`.
    """
    return ManifestConversion(
        format=record.format,
        key=beside.conversion_key(images=images, format_=record.format),
        digest=digest(canonical_json(record)),
    )


def convert_images(
    cos: CosClient,
    *,
    bucket: str,
    images: str,
    export_id: str,
    disks: Sequence[ManifestDisk],
    format_: TargetFormat,
    made_by: str,
    progress: Progress | None = None,
    clock: Clock = real_clock,
) -> tuple[Conversion, bool]:
    """Convert an export's images, unless that has been done.

    :param cos: the object store.
    :param bucket: the bucket.
    :param images: the export's :func:`sealift.exports.names.image_prefix`.
    :param export_id: the export.
    :param disks: its images, proven.
    :param format_: the format; one of :data:`FORMATS`.
    :param made_by: what converts, for the record.
    :param progress: told how far it is.
    :param clock: tells the time, in UTC.
    :returns: the record, and whether it was there already.
    :raises ConversionFailedError: the format cannot hold a disk, or an image came out wrong.
    :raises UnsettledProofError: an exported image was replaced or deleted.
    :raises LedgerError: a record is there that is of other images.
    :raises sealift.transfer.errors.TransferError: the new image could not be uploaded.
    :raises sealift.cos.errors.CosError: the object store refused, or failed for too long.
    """
    there = read_conversion(cos, bucket=bucket, images=images, format_=format_)
    key = beside.conversion_key(images=images, format_=format_)
    if there is not None:
        if not there.is_of(disks):
            raise LedgerError(
                f"{bucket}/{key} is of other images than those that {export_id} has now. Look at what wrote to the "
                "bucket; delete the folder to have the images converted anew."
            )
        return there, True
    made = [
        _convert(cos, bucket=bucket, images=images, index=index, disk=disk, format_=format_, progress=progress)
        for index, disk in enumerate(disks)
    ]
    record = Conversion(export_id=export_id, format=format_, made_at=clock(), made_by=made_by, disks=made)
    if cos.put_if_absent(bucket, key, canonical_json(record)) is not PutOutcome.EXISTS_DIFFERENT:
        return record, False
    # Somebody else converted at the same time. Both images are of the same disk; theirs or ours lies there now.
    other = read_conversion(cos, bucket=bucket, images=images, format_=format_)
    if other is None or not other.is_of(disks):
        raise OutcomeUnknownError(f"The record {bucket}/{key} came and went. A retry looks again.")
    _compare_with_what_is_there(cos, bucket, other)
    return other, True


def _convert(
    cos: CosClient,
    *,
    bucket: str,
    images: str,
    index: int,
    disk: ManifestDisk,
    format_: TargetFormat,
    progress: Progress | None,
) -> ConvertedDisk:
    where = f"{bucket}/{disk.key}, disk {disk.device}"
    key = beside.converted_key(images=images, format_=format_, index=index, suffix=format_.suffix)
    try:
        source = source_of(cos, bucket=bucket, disk=disk)
        opened = open_disk(source)
        upload = Upload(
            target=CosTarget(client=cos, bucket=bucket, key=key, metadata={"sealift-source-etag": disk.etag})
        )
        converted = convert(
            opened,
            writer=writer_for(format_, size=opened.size, identity=identity_of(disk.key, disk.etag, format_)),
            sink=upload,
            progress=_steps(progress, key, opened.size),
        )
        assert upload.result is not None
        return _proven(cos, bucket=bucket, key=key, disk=disk, uploaded=upload.result, converted=converted)
    except (CosPreconditionError, CosNotFoundError) as error:
        raise UnsettledProofError(
            f"{where}, was replaced or deleted while it was converted. Look at what wrote to the bucket, then export "
            f"the server again. ({error})",
            check_id="etag-stable",
            key=disk.key,
        ) from error
    except (ConversionError, ImageFormatError, ProofFailed) as error:
        raise ConversionFailedError(f"{where}, could not be converted into {format_}: {error}") from error


def _proven(
    cos: CosClient, *, bucket: str, key: str, disk: ManifestDisk, uploaded: Uploaded, converted: Converted
) -> ConvertedDisk:
    """Read the new image where it is now: its structure, and all of its content against what was read of the old."""
    info = cos.head(bucket, key)
    if info is None or (info.etag, info.size) != (uploaded.etag, uploaded.size):
        raise TransferError(f"{bucket}/{key} is not what was uploaded there just now: something else writes to it.")
    proof = prove_result(
        ObjectSource(client=cos, bucket=bucket, key=key, info=info), converted, boot_disk=disk.device == "0"
    )
    checks = [] if proof is None else [ManifestCheck(id=one.id, detail=one.detail) for one in proof.checks]
    checks.append(ManifestCheck(id="content", detail=f"all of the disk read and compared, {converted.digest}"))
    return ConvertedDisk(
        device=disk.device,
        key=key,
        size=uploaded.size,
        etag=uploaded.etag,
        part_size=uploaded.part_size,
        sha256=uploaded.sha256,
        virtual_size=converted.virtual_size,
        filled_up=converted.filled_up,
        format=converted.format if proof is None else proof.format,
        content=converted.source_digest,
        source_key=disk.key,
        source_etag=disk.etag,
        checks=checks,
    )


def source_of(cos: CosApi, *, bucket: str, disk: ManifestDisk) -> ObjectSource:
    """Open an exported image, just as it was proven, for range reads.

    :param cos: the object store.
    :param bucket: the bucket.
    :param disk: the image.
    :raises UnsettledProofError: it was replaced or deleted.
    """
    info = cos.head(bucket, disk.key)
    if info is None or (info.etag, info.size) != (disk.etag, disk.size):
        raise UnsettledProofError(
            f"{bucket}/{disk.key}, disk {disk.device}, was replaced or deleted since it was proven (its ETag was "
            f"{disk.etag}). Look at what wrote to the bucket, then export the server again.",
            check_id="etag-stable",
            key=disk.key,
        )
    return ObjectSource(client=cos, bucket=bucket, key=disk.key, info=info)


def _compare_with_what_is_there(cos: CosClient, bucket: str, record: Conversion) -> None:
    found: Mapping[str, ObjectInfo | None] = {one.key: cos.head(bucket, one.key) for one in record.disks}
    for one in record.disks:
        info = found[one.key]
        if info is None or (info.etag, info.size) != (one.etag, one.size):
            raise LedgerError(
                f"{bucket}/{one.key} is not what its record says: two conversions ran at the same time. Delete the "
                "folder, and convert again."
            )


def _steps(progress: Progress | None, key: str, size: int) -> Callable[[int], None] | None:
    """Turn "so far" into "so much more"."""
    if progress is None:
        return None
    before = 0

    def step(done: int) -> None:
        nonlocal before
        progress(key, size, done - before)
        before = done

    return step
