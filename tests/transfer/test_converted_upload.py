"""From bucket to bucket: an image is read by ranges, converted and uploaded as it goes, and proven where it is."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from sealift.cos.client import CosClient
from sealift.cos.errors import CosError, CosPreconditionError
from sealift.cos.source import ObjectSource
from sealift.images.convert.formats import TargetFormat, identity_of, writer_for
from sealift.images.convert.run import Converted, convert, prove_result
from sealift.images.vhd_writer import write_dynamic_vhd
from sealift.images.virtual_disk import open_disk
from sealift.sandbox.faults import Faults
from sealift.sandbox.iam import Identity
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.server import StoreServer, serve_store
from sealift.transfer.upload import Upload, Uploaded
from sealift.transfer.upload_targets import CosTarget

MIB = 2**20
SOURCE = "images/disk-0.vhd"
HMAC = {"access_key_id": "PLANTEDACCESSKEYID", "secret_access_key": "PLANTED-hmac-secret"}


class Place:
    """A bucket that holds the VHD of a disk, and the disk."""

    def __init__(self, *, objects: ObjectStore, server: StoreServer, faults: Faults, raw: Path) -> None:
        self.faults = faults
        self.raw = raw
        self.cos = CosClient(region="us-south", endpoint_url=server.url, sleep=lambda _seconds: None, **HMAC)
        objects.put_file(bucket="exports", key=SOURCE, source=raw.with_suffix(".vhd"))

    def source(self, key: str = SOURCE) -> ObjectSource:
        info = self.cos.head("exports", key)
        assert info is not None
        return ObjectSource(client=self.cos, bucket="exports", key=key, info=info)

    def convert(self, target: TargetFormat, key: str) -> tuple[Converted, Uploaded]:
        disk = open_disk(self.source())
        upload = Upload(target=CosTarget(client=self.cos, bucket="exports", key=key))
        done = convert(disk, writer=writer_for(target, size=disk.size, identity=identity_of(key)), sink=upload)
        assert upload.result is not None
        return done, upload.result


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    raw = tmp_path / "disk.raw"
    chance = random.Random(12)
    with raw.open("wb") as file:
        file.truncate(48 * MIB)
        for at in (0, 5, 20, 30):
            file.seek(at * MIB)
            file.write(chance.randbytes(3 * MIB) + b"log line\n" * 100_000)
    write_dynamic_vhd(raw=raw, out=tmp_path / "disk.vhd", uuid=UUID(int=3), timestamp=datetime(2026, 1, 1, tzinfo=UTC))
    objects = ObjectStore(root=tmp_path / "store")
    faults = Faults()
    identity = Identity(path=tmp_path / "iam.json", faults=faults)
    identity.add_hmac(**HMAC, roles={"*": "Manager"})
    objects.create_bucket("exports", location_constraint="us-south-standard", service_instance="crn")
    server = serve_store(store=objects, identity=identity, faults=faults)
    place = Place(objects=objects, server=server, faults=faults, raw=raw)
    yield place
    place.cos.close()
    server.close()
    objects.close()


@pytest.mark.parametrize(
    ("target", "qemu"),
    [(TargetFormat.VMDK, "vmdk"), (TargetFormat.QCOW2, "qcow2"), (TargetFormat.VHD_FIXED, "vpc")],
)
def test_an_image_in_the_bucket_becomes_another(place: Place, tmp_path: Path, target: TargetFormat, qemu: str) -> None:
    key = f"converted/disk-0.{target.suffix}"
    done, uploaded = place.convert(target, key)
    info = place.cos.head("exports", key)
    assert info is not None
    assert (info.size, info.etag) == (done.size, uploaded.etag) == (uploaded.size, uploaded.etag)
    assert uploaded.parts > 1
    proof = prove_result(place.source(key), done)
    assert proof is not None
    assert proof.virtual_size == 48 * MIB
    body = place.cos.read("exports", key)
    assert body is not None
    (tmp_path / "back").write_bytes(body)
    command = ["qemu-img", "compare", "-f", "raw", "-F", qemu, place.raw, tmp_path / "back"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "identical" in said.stdout, said
    if qemu != "vpc":
        told = subprocess.run(
            ["qemu-img", "check", "--output=json", "-f", qemu, tmp_path / "back"], capture_output=True, check=True
        )
        assert json.loads(told.stdout)["check-errors"] == 0


def test_only_what_is_stored_is_read_and_in_few_requests(place: Place) -> None:
    source = place.source()
    disk = open_disk(source)
    upload = Upload(target=CosTarget(client=place.cos, bucket="exports", key="k"))
    convert(disk, writer=writer_for(TargetFormat.VMDK, size=disk.size, identity=UUID(int=1)), sink=upload)
    assert source.bytes_read < 1.05 * source.size
    assert source.requests < 30


def test_a_store_that_stumbles_is_asked_again(place: Place) -> None:
    for fault in ("cos_internal_error", "cos_lost_request", "cos_slow_down"):
        place.faults.set(fault, rate=0.1)
    done, _ = place.convert(TargetFormat.QCOW2, "k")
    place.faults.clear()
    prove_result(place.source("k"), done)
    assert place.cos.list_multipart_uploads("exports", "") == []


def test_a_source_that_is_replaced_meanwhile_leaves_nothing(place: Place) -> None:
    place.cos.put("exports", "k", b"older")
    source = place.source()
    disk = open_disk(source)

    def replace(done: int) -> None:
        if done < 4 * MIB + 1:
            place.cos.put("exports", SOURCE, b"another image")

    upload = Upload(target=CosTarget(client=place.cos, bucket="exports", key="k"))
    writer = writer_for(TargetFormat.VHD, size=disk.size, identity=UUID(int=1))
    with pytest.raises(CosPreconditionError):
        convert(disk, writer=writer, sink=upload, threads=1, progress=replace)
    assert place.cos.read("exports", "k") == b"older"
    assert place.cos.list_multipart_uploads("exports", "") == []


def test_a_store_that_fails_for_good_says_what_is_left(place: Place) -> None:
    disk = open_disk(place.source())
    upload = Upload(target=CosTarget(client=place.cos, bucket="exports", key="k"))
    writer = writer_for(TargetFormat.VMDK, size=disk.size, identity=UUID(int=1))

    def fail(_done: int) -> None:
        place.faults.set("cos_internal_error", rate=1.0)

    with pytest.raises(CosError) as caught:
        convert(disk, writer=writer, sink=upload, progress=fail)
    assert "stays in the bucket" in caught.value.__notes__[0]
    place.faults.clear()
    assert len(place.cos.list_multipart_uploads("exports", "")) == 1
    place.convert(TargetFormat.VMDK, "k")
    assert place.cos.list_multipart_uploads("exports", "") == []
