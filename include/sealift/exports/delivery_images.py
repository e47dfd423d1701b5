"""The images of a delivery: as they were exported, as they were converted in the bucket, or converted on their way.

However an image comes, it is proven where it arrived: its structure (level L1), and that it is the disk that it should
be. An exported image is known by its digest and its footer; a converted one by its digest, or where nobody knows that
by all of its content; and one that is made on the way by all of its content, which is compared with what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sealift.cos.errors import CosNotFoundError, CosPreconditionError
from sealift.exports.converting import ConvertedDisk, read_conversion, source_of
from sealift.exports.delivery_places import How, Place
from sealift.exports.errors import ConversionFailedError, DeliveryError, UnsettledProofError
from sealift.exports.manifest import ManifestCheck, ManifestDisk
from sealift.exports.ports import CosApi
from sealift.exports.versions import reads_up_to
from sealift.images.compare import content_digest
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.formats import TargetFormat, identity_of, writer_for
from sealift.images.convert.pieces import PieceSink
from sealift.images.convert.run import Converted, convert, prove_result
from sealift.images.proof import ProofFailed, prove_image
from sealift.images.source import ImageFormatError, RangeSource
from sealift.images.verdict import DiskProof
from sealift.images.virtual_disk import RawDisk, open_disk
from sealift.transfer.pace import Pace
from sealift.transfer.reading import OpensRanges, Remote

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]


class DeliversFrom(CosApi, OpensRanges, Protocol):
    """What a delivery needs of the object store."""


THE_SAME: Final = {"vmdk-stream": TargetFormat.VMDK, "qcow2": TargetFormat.QCOW2}
"""Formats of exported images that are what somebody asks for by the name of a conversion."""


class DeliveredModel(BaseModel):
    """Base of the record's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DeliveredDisk(DeliveredModel):
    """A disk that was delivered in another format, and what it was made of."""

    device: str = Field(description="The API's device number of the disk: 0 is the boot disk")
    name: str = Field(description="The file's name")
    size: int = Field(gt=0, description="The file's size in bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file")
    virtual_size: int = Field(gt=0, description="Size of the disk that the image holds, in bytes")
    filled_up: int = Field(ge=0, description="Bytes of zeros at the disk's end that the exported disk does not have")
    format: str = Field(description="The image's format, as its proof found it")
    content: str = Field(
        description="Digest of the disk's content, sparse-sha256:…, as it was read of the exported image"
    )
    source_key: str = Field(description="The exported image's key")
    source_etag: str = Field(description="The exported image's ETag, which every read demanded")
    converted_key: str | None = Field(
        default=None, description="Key of the image, where it had been converted in the bucket before"
    )
    checks: list[ManifestCheck] = Field(default_factory=list, description="What was checked of the image, and found")


class DeliveredConversion(DeliveredModel):
    """What stands beside images that were delivered in another format."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    export_id: str = Field(description="<guest id>-<period>")
    format: str = Field(description="The format that was asked for")
    made_at: AwareDatetime = Field(description="When the last image had arrived")
    made_by: str = Field(description="What delivered: a DAG run, or a command")
    disks: list[DeliveredDisk] = Field(min_length=1, description="The images, in the order of the disks")


def read_delivered(body: bytes | None, *, export_id: str, format_: TargetFormat) -> dict[str, DeliveredDisk]:
    """Read what an earlier delivery to the same place has written of its images.

    :param body: the record; None where there is none.
    :param export_id: the export.
    :param format_: the format.
    :returns: by device; nothing where the record is of something else, or none.
    """
    try:
        found = DeliveredConversion.model_validate_json(body or b"")
    except ValidationError:
        return {}
    if (found.export_id, found.format) != (export_id, format_.value):
        return {}
    return {one.device: one for one in found.disks}


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """An image that is at its place.

    :param size: of the file, in bytes.
    :param sha256: of the file, in hexadecimal digits.
    :param read: bytes that came out of the bucket for it.
    :param resumed: bytes of the file that an earlier try had brought.
    :param crc64nvme: of the file, where it was computed.
    :param converted: what is told of an image in another format than the exported one.
    """

    size: int
    sha256: str
    read: int
    resumed: int = 0
    crc64nvme: str | None = None
    converted: DeliveredDisk | None = None


class Image(Protocol):
    """One image of a delivery."""

    disk: ManifestDisk
    name: str
    size: int
    """Bytes that come, for those who watch: of the file, or of the disk where it is converted on the way."""

    def is_there(self, place: Place, known: str | None, checked: Callable[[int], None]) -> Arrived | None:
        """Say whether the place has it already, whole, by the digest that an earlier delivery wrote down."""
        ...

    def bring(self, place: Place, *, cos: DeliversFrom, how: How, arrived: Callable[[int], None]) -> Arrived:
        """Bring it to its place, and prove it there."""
        ...


class ExportedImage:
    """An image as it was exported.

    :param bucket: the bucket.
    :param disk: the image.
    :param name: the file's name.
    :param sha256: its digest, where it was read before.
    """

    def __init__(self, *, bucket: str, disk: ManifestDisk, name: str, sha256: str | None) -> None:
        self.disk = disk
        self.name = name
        self.size = disk.size
        self._bucket = bucket
        self._sha256 = sha256

    def is_there(self, place: Place, known: str | None, checked: Callable[[int], None]) -> Arrived | None:
        """See :class:`Image`."""
        if known is None or known != (self._sha256 or known):
            return None
        if not place.is_whole(self.name, size=self.size, sha256=known, checked=checked):
            return None
        return Arrived(size=self.size, sha256=known, read=0)

    def bring(self, place: Place, *, cos: DeliversFrom, how: How, arrived: Callable[[int], None]) -> Arrived:
        """See :class:`Image`.

        :raises DeliveryError: it is no sound image, or another disk than the manifest's.
        """
        remote = Remote(
            bucket=self._bucket,
            key=self.disk.key,
            size=self.disk.size,
            etag=self.disk.etag,
            sha256=self._sha256,
            crc64nvme=self.disk.crc64nvme,
        )
        brought = place.bring(self.name, remote, client=cos, how=how, arrived=arrived)
        where = f"{place.label}/{self.name}"
        proof = _proven(place, self.name, self.size, boot_disk=self.disk.device == "0")
        if (proof.virtual_size, proof.footer_uuid) != (self.disk.virtual_size, self.disk.footer_uuid):
            raise DeliveryError(
                f"{where} is another disk than the manifest's: it has {proof.virtual_size} bytes and the id "
                f"{proof.footer_uuid}, where {self.disk.virtual_size} bytes and {self.disk.footer_uuid} were proven."
            )
        return Arrived(
            size=self.size,
            sha256=brought.sha256,
            read=self.size - brought.resumed,
            resumed=brought.resumed,
            crc64nvme=brought.crc64nvme,
        )


class ConvertedImage:
    """An image that was converted in the bucket before.

    :param bucket: the bucket.
    :param disk: the exported image.
    :param converted: the one that is brought.
    :param name: the file's name.
    """

    def __init__(self, *, bucket: str, disk: ManifestDisk, converted: ConvertedDisk, name: str) -> None:
        self.disk = disk
        self.name = name
        self.size = converted.size
        self._bucket = bucket
        self._converted = converted

    def is_there(self, place: Place, known: str | None, checked: Callable[[int], None]) -> Arrived | None:
        """See :class:`Image`."""
        if known is None or known != (self._converted.sha256 or known):
            return None
        if not place.is_whole(self.name, size=self.size, sha256=known, checked=checked):
            return None
        return Arrived(size=self.size, sha256=known, read=0, converted=self._told(known))

    def bring(self, place: Place, *, cos: DeliversFrom, how: How, arrived: Callable[[int], None]) -> Arrived:
        """See :class:`Image`.

        :raises DeliveryError: it is no sound image, or holds another disk.
        """
        one = self._converted
        remote = Remote(bucket=self._bucket, key=one.key, size=one.size, etag=one.etag, sha256=one.sha256)
        brought = place.bring(self.name, remote, client=cos, how=how, arrived=arrived)
        where = f"{place.label}/{self.name}"
        if one.format != TargetFormat.RAW:
            proof = _proven(place, self.name, self.size, boot_disk=self.disk.device == "0")
            if proof.virtual_size != one.virtual_size:
                raise DeliveryError(
                    f"{where} holds a disk of {proof.virtual_size} bytes where {one.virtual_size} were converted."
                )
        if one.sha256 is None:  # its first bytes were written last: all that is known of it is what it holds
            self._compare(place, where)
        return Arrived(
            size=self.size,
            sha256=brought.sha256,
            read=self.size - brought.resumed,
            resumed=brought.resumed,
            crc64nvme=brought.crc64nvme,
            converted=self._told(brought.sha256),
        )

    def _compare(self, place: Place, where: str) -> None:
        one = self._converted
        try:
            with place.open(self.name, size=self.size) as source:
                disk = RawDisk(source) if one.format == TargetFormat.RAW else open_disk(source)
                found = content_digest(disk)
        except ImageFormatError as error:
            raise DeliveryError(f"{where} arrived whole, but cannot be read: {error}") from error
        if found != one.content:
            raise DeliveryError(
                f"{where} does not hold the disk that was converted: its content is {found}, expected {one.content}. "
                "Delete the converted image in the bucket, and deliver again."
            )

    def _told(self, sha256: str) -> DeliveredDisk:
        one = self._converted
        return DeliveredDisk(
            device=one.device,
            name=self.name,
            size=one.size,
            sha256=sha256,
            virtual_size=one.virtual_size,
            filled_up=one.filled_up,
            format=one.format,
            content=one.content,
            source_key=one.source_key,
            source_etag=one.source_etag,
            converted_key=one.key,
            checks=one.checks,
        )


class MadeImage:
    """An image that is converted on its way out of the bucket.

    :param bucket: the bucket.
    :param disk: the exported image, which is read by ranges.
    :param format_: the format.
    :param name: the file's name.
    :param earlier: what an earlier delivery to the same place has made of it.
    """

    def __init__(
        self, *, bucket: str, disk: ManifestDisk, format_: TargetFormat, name: str, earlier: DeliveredDisk | None
    ) -> None:
        self.disk = disk
        self.name = name
        self.size = disk.virtual_size
        self._bucket = bucket
        self._format = format_
        self._earlier = earlier

    def is_there(self, place: Place, known: str | None, checked: Callable[[int], None]) -> Arrived | None:
        """See :class:`Image`."""
        one = self._earlier
        if one is None or known != one.sha256:
            return None
        if (one.name, one.source_key, one.source_etag) != (self.name, self.disk.key, self.disk.etag):
            return None
        if not place.is_whole(self.name, size=one.size, sha256=known, checked=checked):
            return None
        return Arrived(size=one.size, sha256=known, read=0, converted=one)

    def bring(self, place: Place, *, cos: DeliversFrom, how: How, arrived: Callable[[int], None]) -> Arrived:
        """See :class:`Image`.

        :raises ConversionFailedError: the format cannot hold the disk, or the image came out wrong; it is removed.
        :raises UnsettledProofError: the exported image was replaced or deleted.
        """
        disk = self.disk
        source = source_of(cos, bucket=self._bucket, disk=disk)
        made: list[Converted] = []

        def fill(sink: PieceSink) -> None:
            opened = open_disk(_Paced(source, how.pace))
            identity = identity_of(disk.key, disk.etag, self._format)
            writer = writer_for(self._format, size=opened.size, identity=identity)
            made.append(convert(opened, writer=writer, sink=sink, threads=how.streams, progress=_more(arrived)))

        try:
            sha256 = place.make(self.name, fill)
            converted = made[0]
            with place.open(self.name, size=converted.size) as result:
                proof = prove_result(result, converted, boot_disk=disk.device == "0")
        except (CosPreconditionError, CosNotFoundError) as error:
            raise UnsettledProofError(
                f"{self._bucket}/{disk.key} was replaced or deleted while it was converted. Look at what wrote to the "
                f"bucket, then export the server again. ({error})",
                check_id="etag-stable",
                key=disk.key,
            ) from error
        except (ConversionError, ImageFormatError, ProofFailed) as error:
            place.remove(self.name)
            raise ConversionFailedError(
                f"{self._bucket}/{disk.key} could not be delivered as {self._format}: {error}"
            ) from error
        checks = [] if proof is None else [ManifestCheck(id=one.id, detail=one.detail) for one in proof.checks]
        checks.append(ManifestCheck(id="content", detail=f"all of the disk read and compared, {converted.digest}"))
        told = DeliveredDisk(
            device=disk.device,
            name=self.name,
            size=converted.size,
            sha256=sha256,
            virtual_size=converted.virtual_size,
            filled_up=converted.filled_up,
            format=converted.format if proof is None else proof.format,
            content=converted.source_digest,
            source_key=disk.key,
            source_etag=disk.etag,
            checks=checks,
        )
        return Arrived(size=converted.size, sha256=sha256, read=source.bytes_read, converted=told)


def images_in(
    cos: DeliversFrom,
    *,
    bucket: str,
    disks: Sequence[ManifestDisk],
    format_: TargetFormat,
    earlier: dict[str, DeliveredDisk],
    digests: dict[str, str],
    name_of: Callable[[str], str],
) -> list[Image]:
    """Say how the images of an export come in a format.

    :param cos: the object store.
    :param bucket: the bucket.
    :param disks: the exported images.
    :param format_: the format.
    :param earlier: see :func:`read_delivered`.
    :param digests: SHA-256 of exported images by key, where they are known.
    :param name_of: gives the name of a file for a key, and refuses keys that are not Sealift's.
    :returns: the images, in the order of the disks: as they are where they have the format, as they were converted
        in the bucket where they were, and otherwise to be converted on their way.
    """
    root = disks[0].key.rpartition("/")[0]
    there = read_conversion(cos, bucket=bucket, images=root, format_=format_)
    known = {} if there is None or not there.is_of(disks) else {one.source_key: one for one in there.disks}
    found: list[Image] = []
    for disk in disks:
        name = name_of(disk.key)
        if THE_SAME.get(disk.format) is format_:
            found.append(ExportedImage(bucket=bucket, disk=disk, name=name, sha256=digests.get(disk.key)))
            continue
        one = known.get(disk.key)
        info = None if one is None else cos.head(bucket, one.key)
        if one is not None and info is not None and (info.etag, info.size) == (one.etag, one.size):
            found.append(ConvertedImage(bucket=bucket, disk=disk, converted=one, name=name_of(one.key)))
        else:
            made = f"{name.rpartition('.')[0] or name}.{format_.suffix}"
            found.append(
                MadeImage(bucket=bucket, disk=disk, format_=format_, name=made, earlier=earlier.get(disk.device))
            )
    return found


class _Paced:
    """A source of bytes that come no faster than they may."""

    def __init__(self, source: RangeSource, pace: Pace | None) -> None:
        self._source = source
        self._pace = pace
        self.size = source.size

    def read(self, offset: int, length: int) -> bytes:
        data = self._source.read(offset, length)
        if self._pace is not None:
            self._pace.passed(len(data))
        return data


def _more(arrived: Callable[[int], None]) -> Callable[[int], None]:
    """Turn "so far" into "so much more"."""
    before = 0

    def step(done: int) -> None:
        nonlocal before
        arrived(done - before)
        before = done

    return step


def _proven(place: Place, name: str, size: int, *, boot_disk: bool) -> DiskProof:
    """Prove the structure of what arrived, whatever its format."""
    try:
        with place.open(name, size=size) as source:
            return prove_image(source, expected_capacity_bytes=None, boot_disk=boot_disk)
    except ProofFailed as error:
        raise DeliveryError(
            f"{place.label}/{name} arrived whole, but is not a sound image: {error.detail}. It was proven in the "
            "bucket: try once more, and report this if it comes out the same."
        ) from error
