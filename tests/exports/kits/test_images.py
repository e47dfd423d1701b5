"""Which image a target gets, and the script that makes it: run for real, where qemu-img is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sealift.exports.kits import KitError, Target, build_kits
from sealift.exports.kits.images import choose
from sealift.images.vhd_writer import write_dynamic_vhd, write_fixed_vhd
from tests.exports.kits.world import GIB, case, converted, disk, manifest, record

MIB = 2**20
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def test_the_first_format_that_there_is_goes_before_one_that_is_to_be_made() -> None:
    one = case(images=[converted("raw"), converted("qcow2")])

    [image] = choose(one.server, one.converted, ("qcow2", "raw"))
    assert (image.file, image.key, image.sha256) == ("disk-0.qcow2", converted("qcow2").key, "b" * 64)
    [image] = choose(one.server, one.converted, ("vmdk-stream", "raw"))
    assert (image.format, image.there) == ("raw", True)
    [image] = choose(one.server, one.converted, ("vmdk-stream",))
    assert (image.file, image.there, image.size, image.sha256) == ("disk-0.vmdk", False, None, None)
    [image] = choose(one.server, (), ("vhd-fixed", "vhd-dynamic"))
    assert (image.file, image.format, image.there) == ("disk-0.vhd", "vhd-dynamic", True)


def test_an_image_that_is_not_aligned_is_not_taken() -> None:
    one = case(disks=[disk(size=25 * GIB + 512)], images=[converted("vhd-fixed", size=25 * GIB + 512)])

    [image] = choose(one.server, one.converted, ("vhd-fixed",), align=MIB)
    assert (image.there, image.virtual_size) == (False, 25 * GIB + MIB)


@pytest.mark.parametrize(
    "changes", [{"of_device": "7"}, {"virtual_size": 24 * GIB}, {"key": "x/$(id)/disk-0.qcow2"}, {"key": "/x.qcow2"}]
)
def test_a_converted_image_that_cannot_be_one_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(KitError, match="not of this export"):
        build_kits(manifest(), record(), None, [converted("qcow2", **changes)])


def made(tmp_path: Path, *, size: int, fixed: bool) -> tuple[Path, bytes]:
    """A delivery's folder with one small disk, and what the disk holds."""
    folder = tmp_path / "an, export"
    folder.mkdir()
    content = (bytes(range(256)) * 2048)[: min(size, 512 * 1024)]
    raw = tmp_path / "disk.raw"
    raw.write_bytes(content + bytes(size - len(content)))
    write = write_fixed_vhd if fixed else write_dynamic_vhd
    write(
        raw=raw,
        out=folder / "disk-0.vhd",
        uuid=UUID(int=1),
        creator_app=b"vpc ",  # a maker whose sizes qemu would round to whole cylinders
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return folder, raw.read_bytes()


def run_convert(folder: Path, target: Target, *, size: int, format_: str) -> subprocess.CompletedProcess[str]:
    [kit] = build_kits(manifest([disk(size=size, format=format_)]), record(), None, (), [target])
    place = folder / "kits" / target.value
    place.mkdir(parents=True, exist_ok=True)
    (place / "convert.sh").write_bytes(kit.files["convert.sh"])
    return subprocess.run(["bash", str(place / "convert.sh")], capture_output=True, text=True, check=False, timeout=60)


def content_of(path: Path, driver: str) -> bytes:
    raw = path.with_suffix(".check")
    name = str(path).replace(",", ",,")
    subprocess.run(
        ["qemu-img", "convert", "-O", "raw", "--image-opts", f"{driver},file.driver=file,file.filename={name}", raw],
        check=True,
        timeout=60,
    )
    found = raw.read_bytes()
    raw.unlink()
    return found


@needs_qemu
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(
    ("target", "file", "driver"),
    [
        (Target.LIBVIRT, "disk-0.qcow2", "driver=qcow2"),
        (Target.VMWARE, "disk-0.vmdk", "driver=vmdk"),
    ],
)
def test_convert_makes_the_same_disk(tmp_path: Path, target: Target, file: str, driver: str, fixed: bool) -> None:
    size = 3 * MIB + 512 * 7
    folder, content = made(tmp_path, size=size, fixed=fixed)

    done = run_convert(folder, target, size=size, format_="vhd-fixed" if fixed else "vhd-dynamic")

    assert done.returncode == 0, done.stderr
    assert content_of(folder / file, driver)[:size] == content
    assert sorted(one.name for one in folder.iterdir()) == sorted(["disk-0.vhd", file, "kits"])
    again = run_convert(folder, target, size=size, format_="vhd-fixed" if fixed else "vhd-dynamic")
    assert (again.returncode, "is there already" in again.stdout) == (0, True)


@needs_qemu
@pytest.mark.parametrize("size", [3 * MIB, 3 * MIB + 512])
def test_convert_makes_fixed_vhds_of_whole_mib_for_azure(tmp_path: Path, size: int) -> None:
    folder, content = made(tmp_path, size=size, fixed=False)

    done = run_convert(folder, Target.AZURE, size=size, format_="vhd-dynamic")

    assert done.returncode == 0, done.stderr
    image = (folder / "disk-0.fixed.vhd").read_bytes()
    whole = -(-size // MIB) * MIB
    assert len(image) == whole + 512
    assert image[:size] == content
    assert image[size:whole] == bytes(whole - size)
    assert image[whole : whole + 8] == b"conectix"
    assert int.from_bytes(image[whole + 48 : whole + 56], "big") == whole, "the size that the footer names"
    assert sorted(one.name for one in folder.iterdir()) == ["disk-0.fixed.vhd", "disk-0.vhd", "kits"]


@needs_qemu
def test_convert_stops_at_an_image_that_is_cut_short(tmp_path: Path) -> None:
    folder, _ = made(tmp_path, size=3 * MIB, fixed=False)
    with (folder / "disk-0.vhd").open("r+b") as file:
        file.truncate(os.path.getsize(folder / "disk-0.vhd") - 65536)

    done = run_convert(folder, Target.LIBVIRT, size=3 * MIB, format_="vhd-dynamic")

    assert done.returncode != 0
    assert not (folder / "disk-0.qcow2").exists()


@needs_qemu
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is not installed")
def test_convert_does_not_keep_a_copy_that_differs(tmp_path: Path) -> None:
    """A qemu-img whose conversion writes something else without saying so."""
    folder, _ = made(tmp_path, size=3 * MIB, fixed=False)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "qemu-img").write_text(
        f'#!/bin/bash\n"{shutil.which("qemu-img")}" "$@" || exit\n'
        '[ "$1" != convert ] || qemu-io -f qcow2 -c "write -P 7 0 512" "${@: -1}" >/dev/null\n'
    )
    (tools / "qemu-img").chmod(0o755)
    [kit] = build_kits(manifest([disk(size=3 * MIB)]), record(), None, (), [Target.LIBVIRT])
    script = folder / "convert.sh"
    script.write_bytes(kit.files["convert.sh"])

    done = subprocess.run(
        ["bash", str(script)],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "IMAGES": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode != 0
    assert "mismatch" in (done.stdout + done.stderr)
    assert not (folder / "disk-0.qcow2").exists()


def test_no_script_is_made_where_nothing_is_missing() -> None:
    images = [converted("qcow2"), converted("vmdk-stream"), converted("vhd-fixed")]
    kits = build_kits(manifest(), record(), None, images)

    assert [kit.target for kit in kits if "convert.sh" in kit.files] == []
    for kit in kits:
        assert not any(b"convert.sh" in body for name, body in kit.files.items() if name == "README.md")
        assert json.loads(kit.files["fit.json"])["targets"][0]["target"] == kit.target
