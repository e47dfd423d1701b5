"""All places for file systems are found, with the names that Linux gives them."""

from __future__ import annotations

import random

import pytest

from sealift.images.file_systems.volumes import DiskStart, Volume, find_volumes
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.findings import Findings, some
from sealift.images.source import BytesSource
from tests.images.servers import ESP, LINUX, MIB, gpt_disk, mbr_disk
from tests.images.volume_groups import EXTENT, Segment, physical_volume, volume_group

PV = "PPPPPP-aaaa-bbbb-cccc-dddd-eeee-PPPPPP"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
NOISE = random.Random(1).randbytes(MIB)


def found(
    *disks: bytes, letters: list[str] | None = None, boot_index: int = 0
) -> tuple[Findings, list[DiskStart], list[Volume]]:
    findings, reading = Findings(), Reading(budget=64 * MIB)
    cached = [CachedDisk(BytesSource(bytes(disk)), reading=reading, name=f"disk {n}") for n, disk in enumerate(disks)]
    starts, volumes = find_volumes(findings, cached, boot_index=boot_index, letters=letters or [""] * len(disks))
    return findings, starts, volumes


def test_partitions_of_an_mbr() -> None:
    _, starts, volumes = found(mbr_disk([(0x83, NOISE), (0x82, NOISE)], size=4 * MIB), letters=["a"])
    assert [one.name for one in volumes] == ["disk 0 partition 1", "disk 0 partition 2"]
    assert volumes[1].devices == ("/dev/xvda2", "/dev/sda2", "/dev/vda2", "/dev/hda2")
    assert [one.part_uuid for one in volumes] == ["cafe0001-01", "cafe0001-02"]
    assert volumes[0].region.read(0, MIB) == NOISE
    assert (starts[0].number, starts[0].table.kind) == (0, "mbr")


def test_partitions_of_a_gpt() -> None:
    disk = gpt_disk([(BIOS_BOOT, "grub", NOISE), (ESP, "EFI", NOISE), (LINUX, "root", NOISE)], size=6 * MIB)
    findings, _, volumes = found(bytes(disk))
    assert [(one.part_uuid, one.part_label) for one in volumes] == [
        ("00000000-0000-0000-0000-000000000001", "grub"),
        ("00000000-0000-0000-0000-000000000002", "EFI"),
        ("00000000-0000-0000-0000-000000000003", "root"),
    ]
    assert [one.content.kind for one in volumes] == ["", "unknown", "unknown"]
    assert volumes[0].devices == ()
    assert [check.id for check in findings.made] == ["partition_table", "partition_table.backup"]


def test_a_whole_disk_and_a_blank_one() -> None:
    findings, starts, volumes = found(NOISE, bytes(MIB), b"", letters=["", "c", ""], boot_index=1)
    assert [(one.name, one.number, one.content.kind) for one in volumes] == [
        ("disk 0", 0, "unknown"),
        ("disk 1", 0, "blank"),
    ]
    assert volumes[1].devices[0] == "/dev/xvdc"
    assert len(starts) == 2
    failed = [check.detail for check in findings.made if not check.passed]
    assert len(failed) == 1
    assert failed[0].startswith("disk 1: none: blank")


def test_logical_volumes_have_their_names() -> None:
    text = volume_group("vg-a", [PV], {"root": [Segment(0, 1, [("pv0", 0)])], "thin": [Segment(0, 1, [], type="thin")]})
    disk = physical_volume(text, uuid=PV, extents=[NOISE[:EXTENT]])
    findings, _, volumes = found(mbr_disk([(0x8E, disk + bytes(-len(disk) % 512))], size=4 * MIB))
    assert [(one.name, one.content.kind, one.disk) for one in volumes] == [
        ("disk 0 partition 1", "lvm", 0),
        ("logical volume vg-a/root", "unknown", None),
        ("logical volume vg-a/thin", "unread", None),
    ]
    assert volumes[1].devices == ("/dev/mapper/vg--a-root", "/dev/vg-a/root")
    assert [remark.id for remark in findings.remarks] == ["lvm"]


def test_a_partition_beyond_the_disk_is_said_and_left_out() -> None:
    disk = mbr_disk([(0x83, NOISE), (0x83, NOISE)], size=4 * MIB)[: 5 * MIB // 2]
    findings, _, volumes = found(disk)
    assert [one.number for one in volumes] == [1]
    assert "partition 2 ends at byte 3145728" in findings.made[0].detail


@pytest.mark.parametrize(("count", "words"), [(2, "1, 2"), (5, "1, 2, 3, 4, 5"), (7, "1, 2, 3, 4, 5 and 2 more")])
def test_of_many_things_some_are_named(count: int, words: str) -> None:
    assert some([str(number + 1) for number in range(count)]) == words
