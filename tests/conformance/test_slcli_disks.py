"""From a server's disks to objects in the bucket: what comes out is what went in, judged by qemu-img and e2fsck."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import SoftLayer

from sealift.sandbox import Sandbox
from sealift.sandbox.disks import PARTITION_START, build_raw, find_tool
from sealift.sandbox.imaging import disk_spec

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def quiet_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The demo's six servers, at a speed that leaves the export no time to hide in."""
    with Sandbox(root=tmp_path_factory.mktemp("demo"), scenario="demo", speed=1000.0) as box:
        yield box


def tool(name: str, package: str) -> str:
    """A program's path; a missing one fails the test with the line that installs it."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing; install it with: apt-get install --no-install-recommends {package}")
    return found


def run(*words: str | Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"
    return done.stdout


def export_by_slcli(slcli: Any, hostname: str, stem: str) -> None:
    number = slcli.finished_template(hostname, name=stem, all_disks=True)
    box = slcli.box
    slcli.run("image", "export", number, f"cos://us-south/{box.bucket}/{stem}.vhd", "--ibm-api-key", box.cos_api_key)


def export_by_manager(slcli: Any, hostname: str, stem: str) -> None:
    box = slcli.box
    reply = SoftLayer.VSManager(slcli.client()).capture(slcli.guest(hostname), stem, additional_disks=True)
    box.wait_until(slcli.idle, what="the capture")
    uri = f"cos://us-south/{box.bucket}/{stem}.vhd"
    assert SoftLayer.ImageManager(slcli.client()).export_image_to_uri(reply["id"], uri, box.cos_api_key) is True


@pytest.mark.parametrize("export", [export_by_slcli, export_by_manager])
@pytest.mark.parametrize("hostname", ["web-01", "db-01", "win-01", "batch-01"])
def test_the_bytes_that_come_out_are_the_disk_that_went_in(
    slcli: Any, tmp_path: Path, hostname: str, export: Any
) -> None:
    qemu_img, box = tool("qemu-img", "qemu-utils"), slcli.box
    stem = f"{export.__name__}-{slcli.transport}/{hostname}/disk"
    export(slcli, hostname, stem)
    box.wait_until(slcli.idle, what="the export")

    disks = box.world.guests[slcli.guest(hostname)]["_disks"]
    assert len(list(box.store.list(box.bucket, stem))) == len(disks)
    for n, disk in enumerate(disks):
        image = box.store.path_of(box.bucket, f"{stem}-{n}.vhd")
        assert image is not None
        info = json.loads(run(qemu_img, "info", "--output=json", "-f", "vpc", image))
        assert info["virtual-size"] == disk["gb"] * 2**30
        assert image.stat().st_size < 2**24, "a sandbox's disk is small"
        raw = tmp_path / "went-in.raw"
        build_raw(disk_spec(disk, "2^30"), raw)
        assert run(qemu_img, "compare", "-f", "raw", "-F", "vpc", raw, image) == "Images are identical.\n"
        if disk["kind"] != "ntfs":
            came_out = tmp_path / "came-out.raw"
            run(qemu_img, "convert", "-f", "vpc", "-O", "raw", image, came_out)
            check_file_system(came_out, disk)
            came_out.unlink()
        raw.unlink()


def check_file_system(raw: Path, disk: dict[str, Any]) -> None:
    """e2fsck finds nothing wrong with the partition, and the files are there."""
    partition = f"{raw}?offset={PARTITION_START}"
    said = run(find_tool("e2fsck"), "-f", "-n", partition)
    assert "FILESYSTEM WAS MODIFIED" not in said
    assert "contiguous" in said or "clean" in said
    if disk["kind"] == "linux-root":
        debugfs = find_tool("debugfs")
        assert run(debugfs, "-R", "cat /etc/hostname", partition).strip() == disk["hostname"]
        assert "ID=" in run(debugfs, "-R", "cat /etc/os-release", partition)
        assert "UUID=" in run(debugfs, "-R", "cat /etc/fstab", partition)


def test_what_is_downloaded_is_what_is_stored(slcli: Any) -> None:
    box = slcli.box
    stem = f"download-{slcli.transport}"
    export_by_slcli(slcli, "files-01", stem)
    box.wait_until(slcli.idle, what="the export")
    token = box.identity.token_for_api_key(box.cos_api_key)
    reply = requests.get(
        f"{box.cos_url}/{box.bucket}/{stem}-0.vhd", headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    assert reply.status_code == 200
    path = box.store.path_of(box.bucket, f"{stem}-0.vhd")
    assert path is not None
    assert reply.content == path.read_bytes()
    assert reply.content[-512:-504] == b"conectix"
