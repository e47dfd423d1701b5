"""The manifest: the record that makes an export done. It is written last, once, and never overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sealift.exports.errors import LedgerError
from sealift.exports.ports import CosApi
from sealift.exports.versions import reads_up_to, unreadable

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

ImagesFormat = Literal["vhd", "vmdk", "qcow2", "mixed"]
_FORMATS: Final[Mapping[str, ImagesFormat]] = {"vhd": "vhd", "vmdk": "vmdk", "qcow2": "qcow2"}


class ManifestModel(BaseModel):
    """Base of the manifest's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ManifestGuest(ManifestModel):
    """The virtual server that was exported, as it was when the plan was made."""

    id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name")
    domain: str | None = Field(default=None, description="Its domain")
    datacenter: str | None = Field(default=None, description="Its data center")
    dedicated_host_id: int | None = Field(default=None, description="Id of the dedicated host that it ran on")
    dedicated_host_name: str | None = Field(default=None, description="Name of the dedicated host that it ran on")


class ManifestTemplate(ManifestModel):
    """The image template that the export was made of."""

    id: int = Field(description="The template's id")
    name: str = Field(description="The template's name, sealift-<export id>")
    global_identifier: str | None = Field(default=None, description="The template's global identifier")


class ManifestCheck(ManifestModel):
    """One check of a proof. Only passed checks are in a manifest."""

    id: str = Field(description="Name of the check")
    detail: str = Field(description="What was found")


class ManifestDisk(ManifestModel):
    """One disk image in the bucket."""

    index: int = Field(ge=0, description="Number of the disk, in the order of the objects")
    device: str = Field(description="The API's device number: 0 is the boot disk")
    key: str = Field(description="The object's key")
    size: int = Field(gt=0, description="The object's size in bytes")
    virtual_size: int = Field(gt=0, description="Size of the disk that the image holds, in bytes")
    capacity: float = Field(description="The captured disk's capacity, as the API gives it")
    units: str = Field(description="Units of capacity")
    format: str = Field(
        description="The image's format, as its proof found it: vhd-dynamic, vhd-fixed, vmdk-stream, vmdk-sparse, qcow2"
    )
    etag: str = Field(description="The object's ETag, without quotes; the proof read exactly this object")
    parts: int | None = Field(default=None, description="How many parts the object was uploaded in, by its ETag")
    part_size: int | None = Field(default=None, description="Bytes per part, where the store tells")
    crc64nvme: str | None = Field(
        default=None,
        description="CRC-64/NVME of the whole object: the store's, or what was computed where every byte was read",
    )
    sha256: str | None = Field(default=None, description="SHA-256 of the whole object, where it was read in full")
    uploaded_at: AwareDatetime = Field(description="When the object was completed (its Last-Modified)")
    footer_uuid: str = Field(
        description="The VHD footer's unique id; of a VMDK its descriptor's, empty where the format has none"
    )
    creator: str = Field(description="The program that made the image, by its VHD footer or VMDK descriptor")
    partition_table: str = Field(description="mbr, gpt, or none with the reason")
    partitions: list[dict[str, Any]] = Field(default_factory=list, description="The partitions found")
    proof_level: str = Field(description="L0 to L4: how deep the image was checked")
    checks: list[ManifestCheck] = Field(description="What was checked, and found")
    proof_bytes_read: int = Field(ge=0, description="Bytes of the object that the proof read")
    proof_requests: int = Field(ge=0, description="Range reads that the proof made")


class ManifestStorage(ManifestModel):
    """A network storage volume of the server. Its contents are not in the images."""

    id: int = Field(description="The volume's id")
    type: str | None = Field(default=None, description="ISCSI, NAS …")
    capacity_gb: int | None = Field(default=None, description="Capacity in GB, as the API gives it")
    address: str | None = Field(default=None, description="Address of the storage, without credentials")
    mount: str | None = Field(default=None, description="Mount address of file storage")
    lun_id: str | None = Field(default=None, description="LUN of block storage")


class ManifestRecord(ManifestModel):
    """The configuration record beside the images."""

    key: str = Field(description="The record's key")
    size: int = Field(gt=0, description="The record's size in bytes")
    digest: str = Field(pattern="^sha256:[0-9a-f]{64}$", description="SHA-256 of the record's bytes")


class ManifestConversion(ManifestModel):
    """The images in another format, converted from these and proven before the manifest was written."""

    format: str = Field(description="The format")
    key: str = Field(description="Key of the record that names each converted image and what it was made of")
    digest: str = Field(pattern="^sha256:[0-9a-f]{64}$", description="SHA-256 of that record's bytes")


class ManifestSpan(ManifestModel):
    """A duration of which this export saw both ends."""

    seconds: float = Field(gt=0, description="The duration")
    began_at: AwareDatetime = Field(description="Where it was measured from")
    ended_at: AwareDatetime = Field(description="Where it was measured to")


class ManifestTiming(ManifestModel):
    """How long the export took, as far as it was measured; what was not is left out, never guessed."""

    capacity_bytes: int = Field(gt=0, description="Capacity of the captured disks as planned, 1 GB read as 10^9 bytes")
    capture: ManifestSpan | None = Field(
        default=None,
        description="From the template's creation date, by the account, to the first poll that saw it whole",
    )
    export: ManifestSpan | None = Field(
        default=None, description="From the submission to the last object's completion, by the bucket"
    )


class ManifestRun(ManifestModel):
    """What wrote the manifest."""

    dag_id: str = Field(description="The DAG")
    run_id: str = Field(description="The DAG run")
    try_number: int = Field(ge=0, description="Which try of the task wrote the manifest")
    plan_id: str | None = Field(default=None, description="The plan that the run carried out")
    sealift_version: str = Field(description="Version of Sealift")


class ManifestRemoval(ManifestModel):
    """The mark that an export is being removed. What carries it is no export any more."""

    retention_id: str = Field(description="The dry run by which it goes")
    marked_at: AwareDatetime = Field(description="When it was marked, before the first of its objects was deleted")
    etag: str = Field(description="ETag of the manifest as it was before, which the dry run names")
    template: bool = Field(description="Its image template goes with it")


class Manifest(ManifestModel):
    """One export that is done: what it holds, where, and what was proven of it."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    export_id: str = Field(description="<guest id>-<period>")
    period: str = Field(description="The scheduled slot or the manual run that the export was for")
    guest: ManifestGuest = Field(description="The virtual server")
    template: ManifestTemplate = Field(description="The image template")
    captured_at: AwareDatetime = Field(description="When the capture began, by the account; never the schedule's time")
    exported_at: AwareDatetime = Field(description="When the last object was completed, by the bucket")
    proven_at: AwareDatetime = Field(description="When the proof ended")
    bucket: str = Field(description="The bucket that holds the objects")
    region: str = Field(description="The bucket's region")
    format: ImagesFormat = Field(
        description="Format of the images, as their proofs found it; mixed where they are of several: see the disks"
    )
    proof_level: str = Field(description="The lowest proof level of all disks")
    disks: list[ManifestDisk] = Field(min_length=1, description="The images, in the order of the disks")
    left_out: list[dict[str, str]] = Field(
        default_factory=list, description="Devices that are not in the images (swap, metadata, CD), and why"
    )
    storage_not_in_image: list[ManifestStorage] = Field(
        default_factory=list, description="Attached network storage, whose contents are not in the images"
    )
    record: ManifestRecord = Field(description="The configuration record")
    conversion: ManifestConversion | None = Field(
        default=None, description="The images in the format that the plan asked for, where that is not VHD"
    )
    run: ManifestRun = Field(description="What wrote the manifest")
    timing: ManifestTiming | None = Field(
        default=None, description="How long capture and export took, where this export measured it"
    )
    removal: ManifestRemoval | None = Field(
        default=None, description="The export is being removed: it does not count as exported any more"
    )

    @property
    def total_bytes(self) -> int:
        """Bytes of all images."""
        return sum(disk.size for disk in self.disks)

    def same_export(self, other: Manifest) -> bool:
        """Say whether two manifests speak of the same images; who proved them, and when, may differ.

        :param other: the other manifest.
        :returns: True where export id, template, bucket, objects and the record's digest are the same.
        """

        def substance(manifest: Manifest) -> tuple[object, ...]:
            disks = [(disk.key, disk.size, disk.etag, disk.virtual_size, disk.footer_uuid) for disk in manifest.disks]
            return (manifest.export_id, manifest.template.id, manifest.bucket, disks, manifest.record.digest)

        return substance(self) == substance(other)


def format_of(disks: Sequence[ManifestDisk]) -> ImagesFormat:
    """Say which format an export's images have.

    A captured server leaves the API as VHDs. Of one that was made of an imported VMDK that is unconfirmed: IBM's page
    on the export of image templates offers VMDK for those (ibm-cloud-docs/image-templates, export-image-ibm-cos), and
    what the API then puts behind a key that ends in ``.vhd``, nobody has written down.

    :param disks: the images, proven.
    :returns: the format, without its variant; ``mixed`` where there are several.
    """
    found = {_FORMATS.get(disk.format.partition("-")[0], "mixed") for disk in disks}
    return found.pop() if len(found) == 1 else "mixed"


def parse_manifest(body: bytes, *, bucket: str, key: str) -> Manifest:
    """Read a manifest's bytes.

    :param body: the object's bytes.
    :param bucket: where it lies, for the message.
    :param key: where it lies, for the message.
    :returns: the manifest.
    :raises LedgerError: they are not a manifest.
    """
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        do = "Look at who wrote it; Sealift neither trusts nor overwrites it."
        raise LedgerError(unreadable(error, where=f"{bucket}/{key}", what="a manifest", do=do)) from error


def read_manifest(cos: CosApi, *, bucket: str, key: str) -> Manifest | None:
    """Read a manifest from the bucket, or return None where there is none. A marked one is none: see ``removal``.

    :param cos: the object store.
    :param bucket: the bucket.
    :param key: the manifest's key, see :func:`sealift.exports.names.manifest_key`.
    :returns: the manifest, or None.
    :raises LedgerError: what is there is not a manifest.
    """
    body = cos.read(bucket, key)
    found = None if body is None else parse_manifest(body, bucket=bucket, key=key)
    return None if found is None or found.removal is not None else found


def is_marked(body: bytes | None) -> bool:
    """Say whether the bytes of a manifest carry the mark that its export is being removed.

    :param body: the object's bytes, or None where there is none.
    :returns: False also where they are no manifest at all: then nobody marked it.
    """
    try:
        found = json.loads(body or b"null")
    except ValueError:
        return False
    return isinstance(found, dict) and bool(found.get("removal"))
