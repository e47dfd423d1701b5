"""Damage to servers at level L3: each is found and named, or lies in nothing that was read."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.images.content import content_proof
from sealift.images.content.content_proof import BUDGET, prove_content
from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.file_system import Tree
from sealift.images.file_systems.window import CachedDisk, Reading, Window
from sealift.images.source import BytesSource, ImageFormatError, ShortReadError
from sealift.images.verdict import ProofFailed, ProofLevel
from tests.images.content.world import Workshop, failure, prove, remarks
from tests.images.servers import (
    BOOT_UUID,
    DATA_UUID,
    ESP,
    LINUX,
    MIB,
    MODULES,
    ROOT_UUID,
    STARTS_AT,
    VERSION,
    Patched,
    fat16,
    gpt_disk,
    mbr_disk,
    server_files,
)

# Damage


def root_file_system(disk: bytes) -> tuple[ExtFileSystem, int]:
    reading = Reading(budget=256 * MIB)
    cached = CachedDisk(BytesSource(disk), reading=reading, name="disk 0")
    window = Window(cached, start=STARTS_AT, size=12 * MIB, name="root")
    return ExtFileSystem(window, name="root"), STARTS_AT


def place_of(disk: bytes, path: str) -> tuple[int, int]:
    """Return (where a file's first block is on the disk, where its inode is)."""
    file_system, start = root_file_system(disk)
    place = Tree(file_system).find(path)
    assert place is not None
    superblock = file_system.superblock
    (block, _), *_ = list(file_system.maps.runs(file_system.inode(place.node.key), 0, 1))
    group, index = divmod(place.node.key - 1, superblock.inodes_per_group)
    inode = file_system.descriptor(group).inode_table * superblock.block + index * superblock.inode_size
    return start + block * superblock.block, start + inode


DAMAGES: dict[str, tuple[Callable[[bytes], int], str, str]] = {
    "superblock": (
        lambda disk: STARTS_AT + 1024 + 0x20,
        "file_system.superblock",
        "superblock at byte 1024 has the checksum",
    ),
    "superblock's magic": (
        lambda disk: STARTS_AT + 1024 + 0x38,
        "file_system.superblock",
        "disk 0 partition 1 has the superblock of an ext4 file system at byte 1024, but 43 ef in place of its magic",
    ),
    "group descriptor": (
        lambda disk: STARTS_AT + 4096 + 8,
        "file_system.groups",
        "the descriptor of block group 0 in block 1 has the checksum",
    ),
    "root inode": (lambda disk: place_of(disk, "/")[1] + 4, "file_system.root", "inode 2 at byte 256 of block"),
    "root directory": (lambda disk: place_of(disk, "/")[0] + 30, "file_system.root", "directory inode 2, block"),
    "directory of the boot files": (
        lambda disk: place_of(disk, "/boot")[0] + 40,
        "boot.configuration",
        "block 0 of directory inode",
    ),
    "kernel": (lambda disk: place_of(disk, f"/boot/vmlinuz-{VERSION}")[0] + 0x202, "boot.kernel", "is no Linux kernel"),
    "kernel's inode": (
        lambda disk: place_of(disk, f"/boot/vmlinuz-{VERSION}")[1] + 8,
        "boot.kernel",
        "has the checksum",
    ),
    "initramfs": (
        lambda disk: place_of(disk, f"/boot/initrd.img-{VERSION}")[0] + 41_000,
        "boot.initramfs",
        f"/boot/initrd.img-{VERSION}",
    ),
    "fstab's inode": (lambda disk: place_of(disk, "/etc/fstab")[1] + 40, "fstab", "has the checksum"),
    "partition table": (
        lambda disk: 511,
        "partition_table",
        "ends with 55 ba, expected 55 aa, but the server starts from this disk",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_named(good: bytes, name: str) -> None:
    where, check, words = DAMAGES[name]
    at = where(good)
    found = failure(Patched(good, {at: good[at] ^ 0x10}))
    assert words in found[check]


def test_a_zeroed_start_of_a_partition_is_not_a_server(good: bytes) -> None:
    disk = bytearray(good)
    disk[STARTS_AT : STARTS_AT + 65536] = bytes(65536)
    assert "no operating system was found" in failure(bytes(disk))["system.root"]


def test_a_lost_superblock_is_found_by_its_copies(workshop: Workshop, good: bytes) -> None:
    data = bytearray(workshop.ext({"x": "y"}, size=40 * MIB, options=("-b", "1024"), uuid=DATA_UUID))
    data[1024:2048] = random.Random(1).randbytes(1024)
    found = failure(good, bytes(data))
    assert (
        "disk 1 has a copy of the superblock of an ext4 file system at byte 8389632" in found["file_system.superblock"]
    )
    data[1024:2048] = bytes(1024)
    assert "it was taken away, or is lost" in remarks(prove(good, bytes(data)))


def test_a_gpt_whose_copy_is_cut_off(workshop: Workshop) -> None:
    disk = gpt_disk([(LINUX, "root", workshop.ext(server_files()))], size=15 * MIB, code=b"\xfacode")
    assert prove(bytes(disk)).system.os_id == "debian"
    assert "lies beyond the disk" in failure(bytes(disk[:-MIB]))["partition_table.backup"]
    for at, words in (
        (-512, "begins with"),
        (-512 + 60, "has the checksum"),
        (-33 * 512 + 40, "entries whose checksum"),
    ):
        damaged = bytearray(disk)
        damaged[at] ^= 1
        assert words in failure(bytes(damaged))["partition_table.backup"]


def test_damage_in_trees_is_found_when_asked(good: bytes) -> None:
    at = place_of(good, "/etc/netplan/50-cloud-init.yaml")[1] + 8
    damaged = Patched(good, {at: good[at] ^ 1})
    assert prove(damaged).level is ProofLevel.L3
    assert "/etc/netplan/50-cloud-init.yaml: disk 0 partition 1: inode" in failure(damaged, deep=True)["trees"]


def test_a_budget_that_is_spent_is_no_proof(good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_proof, "BUDGET", 200_000)
    found = failure(good)
    assert any("more than the 200000 that a proof reads" in words for words in found.values())
    assert BUDGET == 64 * MIB


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="number 0 of 0 disks"):
        prove_content([])
    with pytest.raises(ValueError, match="number 2 of 1 disks"):
        prove(bytes(512), boot_index=2)
    with pytest.raises(ValueError, match="2 device numbers for 1 disks"):
        prove(bytes(512), device_numbers=[0, 1])


# Whatever lies there


def read_places(disk: bytes) -> list[tuple[int, int]]:
    """Return the pieces of a disk that a proof reads: only there a change can matter to it."""
    pieces: list[tuple[int, int]] = []

    class Noting(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            pieces.append((offset, length))
            return super().read(offset, length)

    prove_content([Noting(disk)])
    return pieces


def test_a_flipped_bit_is_found_or_is_not_in_what_must_be_right(good: bytes) -> None:
    """Damage that is not found changes nothing of what was found: neither facts, nor what was said."""
    whole = prove(good)
    pieces = read_places(good)
    chance = random.Random(13)
    caught = 0
    for _ in range(60):
        offset, length = chance.choice(pieces)
        at = offset + chance.randrange(length)
        try:
            proof = prove(Patched(good, {at: good[at] ^ 1 << chance.randrange(8)}))
        except ProofFailed:
            caught += 1
            continue
        assert [check.id for check in proof.checks] == [check.id for check in whole.checks]
    assert caught > 5


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_does_more_than_fail_the_proof(good: bytes, data: st.DataObject) -> None:
    places = st.one_of(
        st.integers(0, 1535),
        st.integers(STARTS_AT + 1024, STARTS_AT + 2047),
        st.integers(STARTS_AT + 4096, STARTS_AT + 4200),
        st.integers(STARTS_AT, STARTS_AT + 600_000),
    )
    changes = data.draw(st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=20))
    source = Patched(good, changes)
    with contextlib.suppress(ProofFailed, ImageFormatError, ShortReadError):
        prove_content([source], deep=data.draw(st.booleans()))
    assert source.reads < 400


def test_names_in_messages_are_printable(workshop: Workshop) -> None:
    files = server_files()
    files["etc/hostname"] = b"\xff\xfe\n"
    files["etc/os-release"] = b'ID="\xff"\n'
    proof = prove(mbr_disk([(0x83, workshop.ext(files, label="\u00e4"))], size=14 * MIB))
    assert proof.model_dump_json()
    assert re.fullmatch(r"\ufffd+", proof.system.hostname)
    assert MODULES


def test_a_boot_volume_that_is_not_read_is_said(workshop: Workshop) -> None:
    btrfs = bytearray(MIB)
    btrfs[65568:65584] = BOOT_UUID.bytes
    btrfs[65600:65608] = b"_BHRfS_M"
    fstab = f"UUID={ROOT_UUID} / ext4 defaults\nUUID={BOOT_UUID} /boot btrfs defaults\n"
    files = server_files(fstab=fstab, boot=False)
    disk = mbr_disk([(0x83, workshop.ext(files)), (0x83, bytes(btrfs))], size=15 * MIB)
    proof = prove(disk)
    assert "/boot is on disk 0 partition 2 (btrfs), which is not read: nothing is known of the kernels" in remarks(
        proof
    )
    assert (proof.system.boot, proof.system.kernels) == (None, [])


def test_the_label_of_a_fat_is_that_of_its_root_directory(workshop: Workshop) -> None:
    fat = bytearray(fat16({"EFI/BOOT/BOOTX64.EFI": b"MZ"}, size=5 * MIB))
    fat[43:54] = b"NO NAME    "
    fstab = f"UUID={ROOT_UUID} / ext4 defaults\nLABEL=EFI /boot/efi vfat defaults\n"
    disk = gpt_disk([(ESP, "", bytes(fat)), (LINUX, "", workshop.ext(server_files(fstab=fstab)))], size=20 * MIB)
    assert prove(bytes(disk)).system.volumes[0].mount_point == "/boot/efi"
