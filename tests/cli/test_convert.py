"""``sealift convert`` on files, and ``sealift convert-export`` over the sandbox, both judged by qemu-img."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from sealift.exports import beside
from sealift.images.vhd_writer import write_dynamic_vhd
from tests.cli.steps import LATER, PERIOD, Exported

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed (qemu-utils)")
MIB = 2**20
QEMU = {"vmdk": "vmdk", "qcow2": "qcow2", "vhd-fixed": "vpc", "raw": "raw", "vdi": "vdi", "vhd": "vpc"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(random.Random(1).randbytes(MIB) + bytes(7 * MIB))
    write_dynamic_vhd(raw=raw, out=tmp_path / "disk.vhd", uuid=UUID(int=7), timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    return tmp_path / "disk.vhd"


def sealift(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(one) for one in words])


def same(one: Path, form: str, other: Path, other_form: str) -> bool:
    done = subprocess.run(
        ["qemu-img", "compare", "-f", form, "-F", other_form, one, other], capture_output=True, text=True, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize("into", ["vmdk", "qcow2", "vhd-fixed", "raw", "vdi"])
def test_a_file_becomes_another_with_the_same_disk(image: Path, tmp_path: Path, into: str) -> None:
    target = tmp_path / f"made.{into}"
    result = sealift("convert", image, target, "--into", into)
    assert result.exit_code == 0, result.output
    assert "its disk was compared with that of" in result.output
    assert ("by qemu-img" in result.output) == (into == "vdi")
    assert same(image, "vpc", target, QEMU[into])


def test_there_and_back_is_the_same_disk(image: Path, tmp_path: Path) -> None:
    assert sealift("convert", image, tmp_path / "a.vmdk", "--into", "vmdk").exit_code == 0
    assert sealift("convert", tmp_path / "a.vmdk", tmp_path / "b.vhd", "--into", "vhd").exit_code == 0
    assert same(image, "vpc", tmp_path / "b.vhd", "vpc")


def test_what_cannot_be_converted_is_said_and_leaves_nothing(image: Path, tmp_path: Path) -> None:
    image.write_bytes(image.read_bytes()[:-512])
    result = sealift("convert", image, tmp_path / "made.vmdk", "--into", "vmdk")
    assert result.exit_code == 1
    assert result.stderr.startswith("Not converted: ")
    assert not (tmp_path / "made.vmdk").exists()
    itself = sealift("convert", image, image, "--into", "vmdk")
    assert itself.exit_code == 1
    assert "is the image itself" in itself.stderr
    gone = sealift("convert", tmp_path / "gone", tmp_path / "made.vmdk", "--into", "vmdk")
    assert gone.exit_code == 1
    assert "No such file" in gone.stderr


@pytest.fixture
def call(connections: Path) -> Callable[..., Result]:
    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["convert-export", "--connections", str(connections), *words])

    return run


@pytest.mark.parametrize(("into", "form"), [("vmdk", "vmdk"), ("qcow2", "qcow2")])
def test_an_exports_images_are_converted_in_the_bucket_once(
    exported: Exported, call: Callable[..., Result], tmp_path: Path, into: str, form: str
) -> None:
    manifest = exported.manifest(exported.several.guest_id, LATER)
    result = call(exported.several.hostname, "--into", into, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["export_id"], record["format"]) == (manifest.export_id, into)
    images = manifest.disks[0].key.rpartition("/")[0]
    assert exported.cos.read(exported.bucket, beside.conversion_key(images=images, format_=into)) is not None
    for disk, one in zip(manifest.disks, record["disks"], strict=True):
        assert (one["device"], one["source_key"], one["source_etag"]) == (disk.device, disk.key, disk.etag)
        assert one["key"] == f"{images}/converted/{into}/disk-{disk.index}.{into}"
        old, new = (exported.cos.read(exported.bucket, key) for key in (disk.key, one["key"]))
        assert old is not None
        assert new is not None
        (tmp_path / "old").write_bytes(old)
        (tmp_path / "new").write_bytes(new)
        assert same(tmp_path / "old", "vpc", tmp_path / "new", form)
        assert one["sha256"] in (None, hashlib.sha256(new).hexdigest())
        assert {"content"} <= {check["id"] for check in one["checks"]}
    again = call(manifest.export_id, "--into", into)
    assert again.exit_code == 0
    assert "there already" in again.stdout


def test_an_exported_image_that_was_replaced_is_not_converted(
    exported: Exported, call: Callable[..., Result], tmp_path: Path
) -> None:
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    disk = manifest.disks[0]
    body = exported.cos.read(exported.bucket, disk.key)
    assert body is not None
    (tmp_path / "before").write_bytes(body)
    exported.cos.put(exported.bucket, disk.key, body + b"x")
    try:
        result = call(manifest.export_id, "--into", "qcow2")
        assert result.exit_code == 1
        assert "was replaced or deleted since it was proven" in result.stderr
    finally:
        part = disk.part_size or len(body)
        exported.sandbox.store.put_file(
            bucket=exported.bucket, key=disk.key, source=tmp_path / "before", part_size=part
        )
        info = exported.cos.head(exported.bucket, disk.key)
        assert info is not None
        assert info.etag == disk.etag
