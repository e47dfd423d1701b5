"""``sealift download --format … --kits``: images in another format, converted before or on the way, and kits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from sealift.exports import beside
from sealift.exports.converting import convert_images
from sealift.exports.delivery_images import DeliveredConversion
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest
from sealift.images.convert import run as convert_run
from sealift.images.convert.formats import TargetFormat
from tests.cli.steps import LATER, PERIOD, Exported

QEMU = {"vmdk": "vmdk", "qcow2": "qcow2"}
"""Fixed VHDs and raw disks are as large as the servers' disks; tests/exports/test_delivery_images.py has small ones."""


@pytest.fixture
def download(connections: Path, tmp_path: Path) -> Callable[..., Result]:
    def call(*words: str) -> Result:
        given = ["download", "--connections", str(connections), "--to", str(tmp_path / "images"), *words]
        return CliRunner().invoke(main, given)

    return call


@pytest.fixture
def in_bucket(exported: Exported) -> Iterator[Callable[[Manifest, TargetFormat], str]]:
    """Converts an export in the bucket, for as long as the test."""
    made: list[str] = []

    def convert(manifest: Manifest, format_: TargetFormat) -> str:
        images = manifest.disks[0].key.rpartition("/")[0]
        convert_images(
            exported.cos,
            bucket=exported.bucket,
            images=images,
            export_id=manifest.export_id,
            disks=manifest.disks,
            format_=format_,
            made_by="a test",
        )
        made.append(f"{images}/converted/{format_}/")
        return images

    yield convert
    for prefix in made:
        for info in list(exported.cos.list(exported.bucket, prefix)):
            exported.cos.delete(exported.bucket, info.key)


def place(result: Result) -> Path:
    assert result.exit_code == 0, result.output
    return Path(json.loads(result.stdout)["place"])


def checked(where: Path) -> list[str]:
    """Have sha256sum check a folder, and say which files it found whole."""
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(line.removesuffix(": OK") for line in done.stdout.splitlines())


def compared(exported: Exported, manifest: Manifest, where: Path, target: str, tmp_path: Path) -> None:
    """Have qemu-img compare each file with the exported image in the bucket."""
    for index, disk in enumerate(manifest.disks):
        body = exported.cos.read(exported.bucket, disk.key)
        assert body is not None
        (tmp_path / "exported.vhd").write_bytes(body)
        file = where / f"disk-{index}.{target}"
        said = subprocess.run(
            ["qemu-img", "compare", "-f", "vpc", "-F", QEMU[target], tmp_path / "exported.vhd", file],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Images are identical" in said.stdout, said


@pytest.mark.parametrize("before", [False, True], ids=["on the way", "in the bucket"])
@pytest.mark.parametrize("target", list(QEMU))
def test_the_images_arrive_in_the_format_that_was_asked_for(
    exported: Exported,
    download: Callable[..., Result],
    in_bucket: Callable[..., str],
    tmp_path: Path,
    target: str,
    before: bool,
) -> None:
    manifest = exported.manifest(exported.several.guest_id, LATER)
    if before:
        in_bucket(manifest, TargetFormat(target))
    result = download(manifest.export_id, "--format", target, "--json")
    where = place(result)
    images = [f"disk-{number}.{target}" for number in range(len(manifest.disks))]
    assert len(images) >= 2
    assert checked(where) == sorted([*images, "conversion.json", "manifest.json", "server.json"])
    assert sorted(one.name for one in where.iterdir()) == sorted([*checked(where), "SHA256SUMS"])
    compared(exported, manifest, where, target, tmp_path)
    told = DeliveredConversion.model_validate_json((where / "conversion.json").read_bytes())
    assert (told.export_id, told.format, told.made_by) == (manifest.export_id, target, "sealift download")
    assert [(one.source_key, one.source_etag) for one in told.disks] == [(one.key, one.etag) for one in manifest.disks]
    assert [one.name for one in told.disks] == images
    assert all((one.converted_key is not None) is before for one in told.disks)
    assert all("content" in {check.id for check in one.checks} for one in told.disks)

    sums, record = (where / "SHA256SUMS").read_bytes(), (where / "conversion.json").read_bytes()
    again = json.loads(download(manifest.export_id, "--format", target, "--json").stdout)
    assert all(one["already"] for one in again["files"])
    assert ((where / "SHA256SUMS").read_bytes(), (where / "conversion.json").read_bytes()) == (sums, record)
    (where / images[1]).write_bytes(b"damaged")
    third = json.loads(download(manifest.export_id, "--format", target, "--json").stdout)
    assert images[1] in {one["name"] for one in third["files"] if not one["already"]}
    assert images[0] in {one["name"] for one in third["files"] if one["already"]}
    assert (where / "SHA256SUMS").read_bytes().splitlines()[-1:] == sums.splitlines()[-1:]
    checked(where)


def test_without_a_format_nothing_changes(exported: Exported, download: Callable[..., Result]) -> None:
    manifest = exported.manifest(exported.several.guest_id, LATER)
    where = place(download(manifest.export_id, "--json"))
    names = [disk.key.rpartition("/")[2] for disk in manifest.disks]
    assert checked(where) == sorted([*names, "manifest.json", "server.json"])


def test_another_format_into_the_same_folder_lists_what_it_brought(
    exported: Exported, download: Callable[..., Result]
) -> None:
    """The exported images stay where they are; what is listed was checked in this delivery."""
    export = exported.manifest(exported.other.guest_id, PERIOD).export_id
    where = place(download(export, "--json"))
    size = (where / "disk-0.vhd").stat().st_size
    download(export, "--format", "vmdk", "--json")
    assert "disk-0.vmdk" in checked(where)
    assert "disk-0.vhd" not in checked(where)
    assert (where / "disk-0.vhd").stat().st_size == size
    download(export, "--json")
    assert "disk-0.vhd" in checked(where)
    assert "conversion.json" not in checked(where)


def test_an_image_that_came_out_wrong_is_not_kept(
    exported: Exported, download: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = convert_run.content_digest
    monkeypatch.setattr(convert_run, "content_digest", lambda *given, **more: f"{real(*given, **more)[:-1]}x")
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    result = download(manifest.export_id, "--format", "qcow2")
    assert result.exit_code == 1
    assert "could not be delivered as qcow2" in result.stderr
    assert not list((tmp_path / "images").rglob("disk-0*"))
    assert not list((tmp_path / "images").rglob("SHA256SUMS"))


def test_a_converted_image_that_was_replaced_is_made_anew_on_the_way(
    exported: Exported, download: Callable[..., Result], in_bucket: Callable[..., str], tmp_path: Path
) -> None:
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    images = in_bucket(manifest, TargetFormat.VMDK)
    key = beside.converted_key(images=images, format_="vmdk", index=0, suffix="vmdk")
    exported.cos.put(exported.bucket, key, b"somebody's")
    where = place(download(manifest.export_id, "--format", "vmdk", "--json"))
    compared(exported, manifest, where, "vmdk", tmp_path)
    told = DeliveredConversion.model_validate_json((where / "conversion.json").read_bytes())
    assert told.disks[0].converted_key is None


def test_a_record_of_a_conversion_that_lies_of_a_content_is_found_out(
    exported: Exported, download: Callable[..., Result], in_bucket: Callable[..., str]
) -> None:
    """Of a qcow2 no digest is known, as its header is written last: what it holds is compared."""
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    images = in_bucket(manifest, TargetFormat.QCOW2)
    key = beside.conversion_key(images=images, format_="qcow2")
    record: dict[str, Any] = json.loads(exported.cos.read(exported.bucket, key) or b"")
    assert record["disks"][0]["sha256"] is None
    record["disks"][0]["content"] = f"sparse-sha256:{'0' * 64}"
    exported.cos.put(exported.bucket, key, json.dumps(record).encode())
    result = download(manifest.export_id, "--format", "qcow2")
    assert result.exit_code == 1
    assert "does not hold the disk that was converted" in result.stderr


def test_a_rate_holds_for_what_is_converted_on_its_way(exported: Exported, download: Callable[..., Result]) -> None:
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    size = sum(disk.size for disk in manifest.disks)
    result = download(manifest.export_id, "--format", "vmdk", "--limit-rate", str(size // 2), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["seconds"] > 1


def test_kits_stand_below_the_images_and_count_on_what_is_there(
    exported: Exported, download: Callable[..., Result]
) -> None:
    manifest = exported.manifest(exported.several.guest_id, LATER)
    where = place(download(manifest.export_id, "--format", "vmdk", "--kits", "--json"))
    whole = checked(where)
    assert {"kits/aws/import.sh", "kits/vmware/server.ovf", "kits/ibm-vpc/main.tf"} <= set(whole)
    assert (where / "kits/vmware/package.sh").stat().st_mode & 0o111
    ovf = (where / "kits/vmware/server.ovf").read_text()
    assert "disk-0.vmdk" in ovf
    assert not (where / "kits/vmware/convert.sh").exists(), "the VMDKs are there"
    assert (where / "kits/azure/convert.sh").exists(), "a fixed VHD is not"
    sums = (where / "SHA256SUMS").read_text()
    for line in sums.splitlines():
        if line.endswith("  disk-0.vmdk"):
            assert line.split()[0] in (where / "kits/vmware/server.mf").read_text()


def test_kits_that_need_exported_images_which_are_not_there_are_named(
    exported: Exported, download: Callable[..., Result]
) -> None:
    manifest = exported.manifest(exported.several.guest_id, LATER)
    result = download(manifest.export_id, "--format", "vmdk", "--kits")
    assert result.exit_code == 0, result.output
    assert "Azure" in result.stderr
    assert "begin with the exported images (disk-0.vhd, disk-1.vhd" in result.stderr
    plain = download(manifest.export_id, "--kits")
    assert "begin with the exported images" not in plain.stderr


def test_what_somebody_changed_in_a_kit_stays(exported: Exported, download: Callable[..., Result]) -> None:
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    where = place(download(manifest.export_id, "--kits", "--json"))
    (where / "kits/aws/import.sh").write_text("# mine\n")
    again = download(manifest.export_id, "--kits")
    assert again.exit_code == 0
    assert "1 files of the kits are there with other contents and were left as they are" in again.stderr
    assert (where / "kits/aws/import.sh").read_text() == "# mine\n"
    assert "kits/aws/import.sh" in checked(where)


def test_a_manifest_that_names_files_of_a_delivery_is_refused(
    exported: Exported, download: Callable[..., Result]
) -> None:
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    disk = manifest.disks[0].model_copy(update={"key": manifest.disks[0].key.replace("disk-0.vhd", "conversion.json")})
    key = f"sealift/manifests/{manifest.guest.id}/{PERIOD}.json"
    body = exported.cos.read(exported.bucket, key)
    assert body is not None
    exported.cos.put(exported.bucket, key, canonical_json(manifest.model_copy(update={"disks": [disk]})))
    try:
        for words in ([], ["--format", "vmdk"]):
            result = download(manifest.export_id, *words)
            assert result.exit_code == 1
            assert "which Sealift does not write" in result.stderr
    finally:
        exported.cos.put(exported.bucket, key, body)
