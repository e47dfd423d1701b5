"""``sealift kits`` over the sandbox: kits beside the images, below a download, and the report alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from tests.cli.steps import LATER, Exported


@pytest.fixture
def call(connections: Path) -> Callable[..., Result]:
    def run(command: str, *words: str) -> Result:
        return CliRunner().invoke(main, [command, "--connections", str(connections), *words])

    return run


def test_kits_stand_beside_the_images_and_the_report_says_what_would_fail(
    exported: Exported, call: Callable[..., Result]
) -> None:
    manifest = exported.manifest(exported.several.guest_id, LATER)
    result = call("kits", exported.several.hostname, "--target", "aws", "--target", "libvirt")
    assert result.exit_code == 0, result.output
    assert f"{exported.several.hostname} on AWS: " in result.stdout
    assert f"{exported.several.hostname} on libvirt (KVM): " in result.stdout
    images = manifest.disks[0].key.rpartition("/")[0]
    keys = {info.key.removeprefix(f"{images}/kits/") for info in exported.cos.list(exported.bucket, f"{images}/kits/")}
    assert {"aws/containers.json", "aws/fit.json", "libvirt/domain.xml", "libvirt/README.md"} <= keys
    assert not [key for key in keys if not key.startswith(("aws/", "libvirt/"))]
    again = call("kits", exported.several.hostname, "--target", "aws", "--target", "libvirt")
    assert again.exit_code == 0
    assert f"0 files written, {len(keys)} were there already." in again.stdout


def test_what_somebody_changed_is_left_alone_and_told_of(exported: Exported, call: Callable[..., Result]) -> None:
    manifest = exported.manifest(exported.several.guest_id, LATER)
    call("kits", manifest.export_id, "--target", "azure")
    key = f"{manifest.disks[0].key.rpartition('/')[0]}/kits/azure/README.md"
    exported.cos.put(exported.bucket, key, b"mine\n")
    result = call("kits", manifest.export_id, "--target", "azure")
    assert result.exit_code == 1
    assert "1 are there with other contents and were left as they are" in result.stdout
    assert exported.cos.read(exported.bucket, key) == b"mine\n"


def test_the_report_alone_writes_nothing(exported: Exported, call: Callable[..., Result]) -> None:
    before = {info.key for info in exported.cos.list(exported.bucket, "")}
    result = call("kits", exported.other.hostname, "--fit", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [one["target"] for one in report["targets"]] == [
        "ibm-vpc",
        "aws",
        "google",
        "azure",
        "openstack",
        "libvirt",
        "vmware",
    ]
    assert all(one["lines"] for one in report["targets"])
    assert {info.key for info in exported.cos.list(exported.bucket, "")} == before


def test_kits_below_a_download_count_on_the_images_that_are_there(
    exported: Exported, call: Callable[..., Result], tmp_path: Path
) -> None:
    """VMDKs that lie in the bucket are of no use to scripts that look for them in a folder without them."""
    wanted = exported.other.hostname
    converted = call("convert-export", wanted, "--into", "vmdk")
    assert converted.exit_code == 0, converted.output
    places = {}
    for name, words in {"vhd": [], "vmdk": ["--format", "vmdk"]}.items():
        downloaded = call("download", wanted, "--to", str(tmp_path / name), "--json", *words)
        assert downloaded.exit_code == 0, downloaded.output
        places[name] = Path(json.loads(downloaded.stdout)["place"]) / "kits" / "vmware"
        result = call("kits", wanted, "--to", str(tmp_path / name), "--target", "vmware")
        assert result.exit_code == 0, result.output
    assert (places["vhd"] / "convert.sh").exists()
    assert not (places["vmdk"] / "convert.sh").exists()


def test_kits_go_below_the_disks_of_a_download(exported: Exported, call: Callable[..., Result], tmp_path: Path) -> None:
    wanted = exported.other.hostname
    early = call("kits", wanted, "--to", str(tmp_path))
    assert early.exit_code == 1
    assert "download the export first" in early.stderr
    downloaded = call("download", wanted, "--to", str(tmp_path), "--json")
    assert downloaded.exit_code == 0, downloaded.output
    place = Path(json.loads(downloaded.stdout)["place"])
    result = call("kits", wanted, "--to", str(tmp_path), "--target", "libvirt")
    assert result.exit_code == 0, result.output
    assert (place / "kits" / "libvirt" / "domain.xml").is_file()
    assert (place / "kits" / "libvirt" / "import.sh").stat().st_mode & 0o111
