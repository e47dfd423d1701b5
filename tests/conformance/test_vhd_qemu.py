"""qemu-img judges the VHDs that Sealift writes, and Sealift's proof those that qemu-img writes.

``qemu-img check`` knows nothing of VHDs; ``info`` and ``compare`` read the disk, which is what counts. The format is
always named, because QEMU takes a fixed VHD for a raw disk otherwise.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from sealift.images.proof import prove_vhd
from sealift.images.source import FileSource
from sealift.images.sparse import sparse_digest
from sealift.images.vhd import EPOCH, VhdReader
from sealift.images.vhd_writer import write_dynamic_vhd, write_fixed_vhd
from sealift.sandbox.disks import DiskKind, DiskSpec, build_raw, find_tool

pytestmark = pytest.mark.conformance

MIB = 1024 * 1024
GIB = 1024**3
QemuImg = Callable[..., str]


@pytest.fixture(scope="module")
def qemu_img() -> QemuImg:
    """Run qemu-img and return what it says; a missing one fails the test with the line that installs it."""
    program = shutil.which("qemu-img")
    if program is None:
        pytest.fail("qemu-img is missing; install it with: apt-get install --no-install-recommends qemu-utils")

    def run(*words: str | Path) -> str:
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"
        return done.stdout

    return run


def _info(qemu_img: QemuImg, image: Path) -> dict[str, object]:
    parsed = json.loads(qemu_img("info", "--output=json", "-f", "vpc", image))
    assert isinstance(parsed, dict)
    return parsed


def _assert_identical(qemu_img: QemuImg, raw: Path, image: Path) -> None:
    # Disks of different size would be called identical too, after a warning, if the rest is zeros.
    assert qemu_img("compare", "-f", "raw", "-F", "vpc", raw, image) == "Images are identical.\n"


def _random_raw(path: Path, *, size: int, seed: int) -> Path:
    chance = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(12):
            at = chance.randrange(size // 512) * 512
            file.seek(at)
            file.write(chance.randbytes(min(size - at, chance.randrange(1, 600) * 512)))
    return path


@pytest.mark.parametrize("creator", [b"slft", b"tap\0", b"qem2", b"win "])
@pytest.mark.parametrize("size", [64 * MIB, 5 * MIB + 512, 25 * 10**9, 25 * GIB, 200 * GIB])
def test_qemu_reads_our_dynamic_disk(tmp_path: Path, qemu_img: QemuImg, creator: bytes, size: int) -> None:
    raw = _random_raw(tmp_path / "disk.raw", size=size, seed=size)
    out = tmp_path / "disk.vhd"
    write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=3), creator_app=creator, timestamp=EPOCH)
    assert _info(qemu_img, out)["virtual-size"] == size
    _assert_identical(qemu_img, raw, out)


@pytest.mark.parametrize("seed", range(8))
def test_qemu_reads_random_layouts(tmp_path: Path, qemu_img: QemuImg, seed: int) -> None:
    size = random.Random(seed).randrange(1, 40_000) * 512
    raw = _random_raw(tmp_path / "disk.raw", size=size, seed=seed)
    out = tmp_path / "disk.vhd"
    write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=3), timestamp=EPOCH)
    _assert_identical(qemu_img, raw, out)


@pytest.mark.parametrize("size", [5 * MIB + 512, 25 * GIB])
def test_qemu_reads_our_fixed_disk(tmp_path: Path, qemu_img: QemuImg, size: int) -> None:
    raw = _random_raw(tmp_path / "disk.raw", size=size, seed=size)
    out = tmp_path / "disk.vhd"
    write_fixed_vhd(raw=raw, out=out, uuid=UUID(int=3), timestamp=EPOCH)
    assert _info(qemu_img, out)["virtual-size"] == size
    _assert_identical(qemu_img, raw, out)


def test_qemu_reads_the_largest_disk(tmp_path: Path, qemu_img: QemuImg) -> None:
    raw, out = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    with raw.open("wb") as file:
        file.truncate(2040 * GIB)
        file.seek(2040 * GIB - 512)
        file.write(b"e" * 512)
    write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=3), timestamp=EPOCH)
    assert _info(qemu_img, out)["virtual-size"] == 2040 * GIB
    _assert_identical(qemu_img, raw, out)


@pytest.mark.parametrize("options", ["dynamic", "dynamic,force_size=on", "fixed", "fixed,force_size=on"])
@pytest.mark.parametrize("size", [64 * MIB, 1 * GIB, 25 * GIB, 25 * 10**9, 100 * 10**9, 200 * GIB])
def test_good_images_of_qemu_raise_no_alarm(tmp_path: Path, qemu_img: QemuImg, options: str, size: int) -> None:
    raw = _random_raw(tmp_path / "disk.raw", size=size, seed=size)
    out = tmp_path / "disk.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", f"subformat={options}", raw, out)
    with FileSource(out) as source, raw.open("rb") as file:
        proof = prove_vhd(source, expected_capacity_bytes=size)
        reader = VhdReader(source)
        if "force_size" in options:
            assert (proof.creator, proof.virtual_size) == ("qem2", size)
            assert options.startswith("fixed") or reader.digest() == sparse_digest(file.fileno(), size)
        else:
            assert proof.creator == "qemu"
            assert size <= proof.virtual_size < size + 16 * 255 * 512
        assert reader.read(0, MIB) == file.read(MIB)
    assert proof.virtual_size == _info(qemu_img, out)["virtual-size"]
    assert proof.bytes_read < MIB


def test_qemu_dynamic_disk_of_a_full_disk(tmp_path: Path, qemu_img: QemuImg) -> None:
    raw, out = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    raw.write_bytes(random.Random(4).randbytes(32 * MIB))
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", raw, out)
    with FileSource(out) as source:
        assert all(check.passed for check in prove_vhd(source, expected_capacity_bytes=32 * MIB).checks)
        assert VhdReader(source).read(0, 32 * MIB) == raw.read_bytes()


def test_disk_that_qemu_wrote_into_stays_provable(tmp_path: Path, qemu_img: QemuImg) -> None:
    """Our image grows under another program's writes, as a template's would."""
    raw, out = _random_raw(tmp_path / "disk.raw", size=64 * MIB, seed=5), tmp_path / "disk.vhd"
    write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=3), timestamp=EPOCH)
    writer = shutil.which("qemu-io")
    assert writer is not None, "qemu-io is missing; install it with: apt-get install --no-install-recommends qemu-utils"
    for image, form in ((raw, "raw"), (out, "vpc")):
        for at in (0, 33 * MIB, 63 * MIB):
            subprocess.run(
                [writer, "-f", form, "-c", f"write -P 0x5a {at} 70000", str(image)], check=True, capture_output=True
            )
    with FileSource(out) as source:
        prove_vhd(source, expected_capacity_bytes=64 * MIB)
        assert VhdReader(source).read(0, 64 * MIB) == raw.read_bytes()
    _assert_identical(qemu_img, raw, out)


@pytest.mark.parametrize("kind", ["linux-root", "linux-data", "ntfs", "blank"])
def test_sandbox_disks_come_out_as_they_went_in(tmp_path: Path, qemu_img: QemuImg, kind: DiskKind) -> None:
    spec = DiskSpec(kind=kind, capacity_bytes=25 * GIB, hostname="web01", seed=1, payload_bytes=MIB)
    built = build_raw(spec, tmp_path / "disk.raw")
    out = tmp_path / "disk.vhd"
    write_dynamic_vhd(raw=built.path, out=out, uuid=spec.identifier("image"), creator_app=b"tap\0", timestamp=EPOCH)
    _assert_identical(qemu_img, built.path, out)
    back = tmp_path / "back.raw"
    qemu_img("convert", "-f", "vpc", "-O", "raw", out, back)
    with back.open("rb") as file:
        assert sparse_digest(file.fileno(), 25 * GIB) == built.digest
    if kind.startswith("linux"):
        done = subprocess.run(
            [find_tool("e2fsck"), "-fn", f"{back}?offset={MIB}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
