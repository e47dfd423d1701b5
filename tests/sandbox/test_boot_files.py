"""What the sandbox's servers start with: as proofs see it, and as a machine starts it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sealift.images.boot_proof import prove_boot
from sealift.images.content.content_proof import ContentProof, prove_content
from sealift.images.emulator import DirectKernel
from sealift.images.source import FileSource
from sealift.images.verdict import ProofFailed
from sealift.sandbox import boot_files, disks

MIB = 2**20
SECTOR = 512


def built(path: Path, kind: disks.DiskKind = "linux-root") -> Path:
    spec = disks.DiskSpec(kind=kind, capacity_bytes=32 * MIB, hostname="web-01", seed=11, payload_bytes=100_000)
    disks.build_raw(spec, path)
    return path


def proven(path: Path) -> ContentProof:
    with FileSource(path) as source:
        return prove_content([source])


def test_a_linux_servers_disk_passes_level_three(tmp_path: Path) -> None:
    proof = proven(built(tmp_path / "disk"))
    boot = proof.system.boot
    assert boot is not None
    assert (boot.mbr, boot.configuration, boot.entries) == ("grub", "/boot/grub/grub.cfg", 1)
    (kernel,) = proof.system.kernels
    assert (kernel.version, kernel.default) == (boot_files.VERSION, True)
    assert kernel.drivers["virtio_blk"] == kernel.drivers["xen_blkfront"] == "initramfs"
    assert proof.system.cloud_init is not None
    assert {one.id for one in proof.remarks} == {"boot.drivers"}, "only that other platforms need other drivers"


def test_a_windows_servers_disk_passes_with_a_remark(tmp_path: Path) -> None:
    proof = proven(built(tmp_path / "disk", "ntfs"))
    assert [one.id for one in proof.remarks if one.id == "system.root"] == ["system.root"]


@pytest.mark.parametrize(
    ("at", "length", "check"),
    [
        pytest.param(SECTOR, 2 * SECTOR, "boot.loader", id="second part of the boot code"),
        pytest.param(0, 440, "", id="boot code"),
    ],
)
def test_what_is_taken_away_is_missed(tmp_path: Path, at: int, length: int, check: str) -> None:
    path = built(tmp_path / "disk")
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(length))
    if check:
        with pytest.raises(ProofFailed) as failed:
            proven(path)
        assert failed.value.check_id == check
    else:
        assert "boot.loader" in {one.id for one in proven(path).remarks}, "Xen could still start it"


@pytest.mark.parametrize("name", [boot_files.KERNEL, boot_files.INITRAMFS])
def test_a_byte_of_the_kernel_or_the_initramfs_counts(tmp_path: Path, name: str) -> None:
    path = built(tmp_path / "disk")
    seed = disks.DiskSpec(
        kind="linux-root", capacity_bytes=32 * MIB, hostname="web-01", seed=11, payload_bytes=100_000
    ).key
    content = boot_files.kernel("web-01", seed=seed) if name == boot_files.KERNEL else boot_files.initramfs(seed=seed)
    whole = path.read_bytes()
    at = whole.index(content) + len(content) * 3 // 4
    path.write_bytes(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
    with pytest.raises(ProofFailed) as failed:
        proven(path)
    assert failed.value.check_id in ("boot.kernel", "boot.initramfs")


def test_a_machine_starts_it_by_its_boot_code(tmp_path: Path) -> None:
    with FileSource(built(tmp_path / "disk")) as source:
        (tmp_path / "boot").mkdir()
        proof = prove_boot([source], folder=tmp_path / "boot", buses=("ide",), seconds=60)
    (made,) = proof.tries
    assert made.login
    assert made.serial.endswith("web-01 login: ")


def test_a_machine_starts_its_kernel_alone(tmp_path: Path) -> None:
    path = built(tmp_path / "disk")
    with path.open("r+b") as file:
        file.write(bytes(440))
    kernel = tmp_path / "kernel"
    kernel.write_bytes(boot_files.kernel("web-01", seed="any"))
    initrd = tmp_path / "initrd"
    initrd.write_bytes(boot_files.initramfs(seed="any"))
    handed = DirectKernel(kernel=kernel, initrd=initrd, command_line="console=ttyS0")
    with FileSource(path) as source:
        (tmp_path / "boot").mkdir()
        proof = prove_boot(
            [source], folder=tmp_path / "boot", buses=("ide",), seconds=20, direct=lambda _folder: handed
        )
    first, second = proof.tries
    assert (first.login, second.login, second.how) == (False, True, "kernel")


def test_a_kernel_in_pieces_is_loaded_piece_by_piece() -> None:
    packets = boot_files.second_stage([(100, 2), (300, 1), (900, 50)])[0x80:]
    found = [
        (int.from_bytes(packets[at + 2 : at + 4], "little"), int.from_bytes(packets[at + 8 : at + 16], "little"))
        for at in (0, 16, 32)
    ]
    assert found == [(2, 100), (1, 300), (1, 900)], "only what belongs to the kernel's first part"


def test_what_is_stored_as_gzip_is_read_by_others() -> None:
    data = bytes(range(256)) * 600
    assert gzip.decompress(boot_files.stored_gzip(data)) == data
    assert gzip.decompress(boot_files.stored_gzip(b"")) == b""
