"""Deliveries of small disks in every format, into a folder and into a bucket, converted before and on their way."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sealift.exports.converting import convert_images
from sealift.exports.delivery import Delivered, Delivery, Wanted
from sealift.exports.delivery_images import DeliveredConversion, images_in
from sealift.exports.delivery_places import FolderPlace, Place, S3Place
from sealift.exports.errors import ConversionFailedError, DeliveryError, InputError, UnsettledProofError
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest
from sealift.images.convert.files import convert_file
from sealift.images.convert.formats import TargetFormat
from sealift.images.proof import prove_image
from sealift.images.source import FileSource
from sealift.images.vhd_writer import write_dynamic_vhd
from sealift.transfer.s3_bucket import S3Bucket
from tests.exports.kits import world
from tests.transfer.upload_bucket import Bucket, open_bucket

MIB = 2**20
QEMU = {"vmdk": "vmdk", "qcow2": "qcow2", "vhd-fixed": "vpc", "raw": "raw", "exported": "vpc"}
SUFFIX = {"vmdk": "vmdk", "qcow2": "qcow2", "vhd-fixed": "vhd", "raw": "raw", "exported": "vhd"}


class Quiet:
    """A watcher that adds up what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}

    def begins(self, name: str, size: int) -> None:
        self.told[name] = 0

    def arrived(self, name: str, count: int) -> None:
        self.told[name] += count

    checked = arrived

    def done(self, name: str, sha256: str, *, already: bool) -> None:
        self.told[name] += 0


class Export:
    """An export of two small disks in a bucket, and a second bucket for deliveries."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self.bucket = bucket
        self.folder = folder
        self.cos = bucket.cos
        service = "crn"
        bucket.objects.create_bucket("copies", location_constraint="us-south-standard", service_instance=service)
        record = b'{"schema_version": 1}'
        chance = random.Random(5)
        disks = []
        for index, size in enumerate((12 * MIB, 8 * MIB + 512)):
            raw = folder / f"{index}.raw"
            with raw.open("wb") as file:
                file.truncate(size)
                file.seek(5 * MIB)
                file.write(chance.randbytes(MIB) + b"log line\n" * 50_000)
            image = folder / f"{index}.vhd"
            write_dynamic_vhd(raw=raw, out=image, uuid=UUID(int=index + 1), timestamp=datetime(2026, 1, 1, tzinfo=UTC))
            disks.append(self.put(index, image))
        key = f"{world.IMAGES}/server.json"
        self.cos.put("exports", key, record)
        self.manifest = world.manifest(
            disks,
            bucket="exports",
            record={"key": key, "size": len(record), "digest": f"sha256:{hashlib.sha256(record).hexdigest()}"},
        )

    def put(self, index: int, image: Path) -> dict[str, Any]:
        """Put an image into the bucket, and say what a manifest says of it."""
        key = f"{world.IMAGES}/disk-{index}{image.suffix}"
        self.bucket.objects.put_file(bucket="exports", key=key, source=image)
        info = self.cos.head("exports", key)
        assert info is not None
        with FileSource(image) as source:
            proof = prove_image(source, expected_capacity_bytes=None)
        return world.disk(
            index,
            device=str(index + 2),
            size=proof.virtual_size,
            key=key,
            format=proof.format,
            etag=info.etag,
            sha256=hashlib.sha256(image.read_bytes()).hexdigest(),
            footer_uuid=proof.footer_uuid,
            creator=proof.creator,
        ) | {"size": info.size}

    def convert(self, format_: str) -> None:
        convert_images(
            self.cos,
            bucket="exports",
            images=world.IMAGES,
            export_id=self.manifest.export_id,
            disks=self.manifest.disks,
            format_=TargetFormat(format_),
            made_by="a test",
        )

    def place(self, kind: str) -> Place:
        if kind == "folder":
            return FolderPlace(self.folder / "to")
        return S3Place(bucket=S3Bucket(client=self.bucket.s3, bucket="copies"), prefix="to")

    def deliver(self, kind: str, format_: str, manifest: Manifest | None = None) -> Delivered:
        given = manifest or self.manifest
        return Delivery(
            cos=self.cos,
            manifest=given,
            body=canonical_json(given),
            place=self.place(kind),
            watcher=Quiet(),
            wanted=Wanted.of(format_=format_, kits=False),
            made_by="a test",
            digests={disk.key: disk.sha256 for disk in given.disks if disk.sha256},
        ).run()

    def files(self, kind: str) -> dict[str, bytes]:
        """What is at the place."""
        if kind == "folder":
            return {one.name: one.read_bytes() for one in (self.folder / "to").iterdir()}
        listed = self.bucket.objects.list("copies", "to/")
        return {one.key.removeprefix("to/"): one.file.read_bytes() for one in listed}


@pytest.fixture
def export(tmp_path: Path) -> Iterator[Export]:
    with open_bucket("cos", tmp_path) as bucket:
        yield Export(bucket, tmp_path)


def sums_of(files: dict[str, bytes]) -> dict[str, str]:
    return dict(reversed(line.split("  ")) for line in files["SHA256SUMS"].decode().splitlines())


def compared(export: Export, files: dict[str, bytes], format_: str) -> None:
    for index in range(2):
        (export.folder / "back").write_bytes(files[f"disk-{index}.{SUFFIX[format_]}"])
        command = ["qemu-img", "compare", "-f", "raw", "-F", QEMU[format_], f"{index}.raw", "back"]
        said = subprocess.run(command, cwd=export.folder, capture_output=True, text=True, check=False)
        assert "Images are identical" in said.stdout, said


@pytest.mark.parametrize("before", [False, True], ids=["on the way", "in the bucket"])
@pytest.mark.parametrize("kind", ["folder", "bucket"])
@pytest.mark.parametrize("format_", ["exported", "vmdk", "qcow2", "vhd-fixed", "raw"])
def test_every_format_arrives_whole_at_every_place(export: Export, format_: str, kind: str, before: bool) -> None:
    other = format_ != "exported"
    if before and other:
        export.convert(format_)
    done = export.deliver(kind, format_)
    files = export.files(kind)
    images = {f"disk-{index}.{SUFFIX[format_]}" for index in range(2)}
    extra = ({"conversion.json"} if other else set()) | ({"delivery.json"} if kind == "bucket" else set())
    assert set(files) == images | extra | {"server.json", "manifest.json", "SHA256SUMS"}
    assert sums_of(files) == {
        name: hashlib.sha256(body).hexdigest()
        for name, body in files.items()
        if name not in ("SHA256SUMS", "delivery.json")
    }
    compared(export, files, format_)
    if other:
        told = DeliveredConversion.model_validate_json(files["conversion.json"])
        assert [one.name in images for one in told.disks] == [True, True]
        assert [one.sha256 for one in told.disks] == [sums_of(files)[one.name] for one in told.disks]
        assert all((one.converted_key is not None) is before for one in told.disks)
        assert [one.filled_up for one in told.disks] == [0, MIB - 512 if format_ == "vhd-fixed" else 0]
    assert done.brought > 0
    again = export.deliver(kind, format_)
    assert all(one.already for one in again.files)
    assert again.brought == 0
    assert export.files(kind) == files


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_fixed_vhd_takes_the_place_of_the_dynamic_one_of_the_same_name(export: Export, kind: str) -> None:
    export.deliver(kind, "exported")
    export.deliver(kind, "vhd-fixed")
    files = export.files(kind)
    assert len(files["disk-0.vhd"]) == 12 * MIB + 512
    assert "conversion.json" in sums_of(files)
    compared(export, files, "vhd-fixed")
    export.deliver(kind, "exported")
    files = export.files(kind)
    assert hashlib.sha256(files["disk-0.vhd"]).hexdigest() == export.manifest.disks[0].sha256
    assert set(sums_of(files)) == {"disk-0.vhd", "disk-1.vhd", "server.json", "manifest.json"}


def test_an_image_that_is_damaged_at_its_place_is_made_again_and_the_other_one_is_not(export: Export) -> None:
    export.deliver("folder", "qcow2")
    before = export.files("folder")
    (export.folder / "to" / "disk-1.qcow2").write_bytes(b"damaged")
    done = export.deliver("folder", "qcow2")
    assert {one.name: one.already for one in done.files}["disk-0.qcow2"] is True
    assert {one.name: one.already for one in done.files}["disk-1.qcow2"] is False
    after = export.files("folder")
    assert {name: body for name, body in after.items() if name != "conversion.json"} == {
        name: body for name, body in before.items() if name not in ("conversion.json",)
    } | {"SHA256SUMS": after["SHA256SUMS"]}
    assert sums_of(after)["conversion.json"] == hashlib.sha256(after["conversion.json"]).hexdigest()


def test_a_delivery_that_broke_off_keeps_what_was_made(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second disk's object is gone: the first one's image is noted, and not made again."""
    second = export.manifest.disks[1]
    body = export.cos.read("exports", second.key)
    assert body is not None
    export.cos.delete("exports", second.key)
    with pytest.raises(UnsettledProofError, match="was replaced or deleted"):
        export.deliver("folder", "qcow2")
    assert set(export.files("folder")) == {"disk-0.qcow2", "conversion.json", "SHA256SUMS.part"}
    export.bucket.objects.put_file(bucket="exports", key=second.key, source=export.folder / "1.vhd")
    done = export.deliver("folder", "qcow2")
    assert {one.name: one.already for one in done.files}["disk-0.qcow2"] is True
    compared(export, export.files("folder"), "qcow2")


def test_a_conversion_leaves_alone_what_an_interrupted_download_of_that_name_left(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fixed VHD is called as the dynamic one is; a journal tells which bytes of the latter have arrived."""
    left = {"disk-0.vhd.part": b"some bytes", "disk-0.vhd.journal": b"which ones"}
    (export.folder / "to").mkdir()
    for name, body in left.items():
        (export.folder / "to" / name).write_bytes(body)
    export.deliver("folder", "vhd-fixed")
    files = export.files("folder")
    assert {name: files[name] for name in left} == left
    compared(export, files, "vhd-fixed")
    assert not [name for name in files if "made" in name]


def test_an_export_that_is_a_vmdk_already_is_not_converted_into_one(export: Export) -> None:
    for index in range(2):
        convert_file(export.folder / f"{index}.vhd", export.folder / f"{index}.vmdk", into=TargetFormat.VMDK)
    disks = [export.put(index, export.folder / f"{index}.vmdk") for index in range(2)]
    manifest = export.manifest.model_copy(update={"disks": world.manifest(disks).disks, "format": "vmdk"})
    assert [disk.format for disk in manifest.disks] == ["vmdk-stream"] * 2
    for format_ in ("exported", "vmdk"):
        export.deliver("folder", format_, manifest)
        files = export.files("folder")
        assert "conversion.json" not in sums_of(files)
        compared(export, files, "vmdk")
    export.deliver("bucket", "raw", manifest)
    compared(export, export.files("bucket"), "raw")


def test_an_exported_image_of_any_format_is_proven_where_it_arrived(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_file(export.folder / "0.vhd", export.folder / "0.vmdk", into=TargetFormat.VMDK)
    good = export.put(0, export.folder / "0.vmdk")
    body = bytearray((export.folder / "0.vmdk").read_bytes())
    body[-1024:] = bytes(1024)
    (export.folder / "0.vmdk").write_bytes(body)
    key = good["key"]
    export.bucket.objects.put_file(bucket="exports", key=key, source=export.folder / "0.vmdk")
    info = export.cos.head("exports", key)
    assert info is not None
    bad = good | {"etag": info.etag, "sha256": hashlib.sha256(body).hexdigest()}
    manifest = export.manifest.model_copy(update={"disks": world.manifest([bad]).disks})
    with pytest.raises(DeliveryError, match="arrived whole, but is not a sound image"):
        export.deliver("folder", "exported", manifest)


def test_a_format_that_cannot_hold_the_disk_leaves_nothing(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    from sealift.images.convert import vmdk_stream

    monkeypatch.setattr(vmdk_stream.vmdk, "LARGEST_DISK", 1)
    for kind in ("folder", "bucket"):
        with pytest.raises(ConversionFailedError, match="could not be delivered as vmdk: A VMDK holds"):
            export.deliver(kind, "vmdk")
        assert not [name for name in export.files(kind) if name.startswith("disk-")]
    assert export.bucket.uploads() == []


def test_how_images_come_is_decided_one_by_one(export: Export) -> None:
    export.convert("vmdk")
    key = f"{world.IMAGES}/converted/vmdk/disk-1.vmdk"
    export.cos.delete("exports", key)
    found = images_in(
        export.cos,
        bucket="exports",
        disks=export.manifest.disks,
        format_=TargetFormat.VMDK,
        earlier={},
        digests={},
        name_of=lambda one: one.rpartition("/")[2],
    )
    assert [type(one).__name__ for one in found] == ["ConvertedImage", "MadeImage"]
    assert [one.name for one in found] == ["disk-0.vmdk", "disk-1.vmdk"]


def test_what_no_export_is_delivered_as_is_refused() -> None:
    for none in (None, "", "exported"):
        assert Wanted.of(format_=none, kits=True) == Wanted(format=None, kits=True)
    with pytest.raises(InputError, match="not delivered as 'vdi': name one of exported, vmdk"):
        Wanted.of(format_="vdi", kits=False)
