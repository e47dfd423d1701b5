"""The start of a disk is named for what it is: a table, something known without one, or a reason."""

from __future__ import annotations

import struct
import zlib
from uuid import UUID

import pytest

from sealift.images.partitions import PROBE_LENGTH, Partition, read_partition_table

SIZE = 64 * 1024 * 1024
SECTORS = SIZE // 512
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"


def start(pieces: dict[int, bytes], *, signature: bool = False) -> bytes:
    head = bytearray(PROBE_LENGTH)
    if signature:
        head[510:512] = b"\x55\xaa"
    for at, data in pieces.items():
        head[at : at + len(data)] = data
    return bytes(head)


def entry(status: int, type_: int, first: int, count: int) -> bytes:
    return struct.pack("<B3xB3xII", status, type_, first, count)


def gpt(partitions: list[tuple[str, str, int, int]], *, protective: bool = True) -> bytes:
    entries = b"".join(
        struct.pack("<16s16sQQQ72s", UUID(type_).bytes_le, UUID(int=9).bytes, first, last, 0, name.encode("utf-16-le"))
        for type_, name, first, last in partitions
    ).ljust(128 * 128, b"\0")
    header = struct.pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, SECTORS - 1, 34, SECTORS - 34, bytes(16), 2, 128, 128,
        zlib.crc32(entries),
    )  # fmt: skip
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    mbr = {446: entry(0, 0xEE, 1, 0xFFFF_FFFF)} if protective else {}
    return start({**mbr, 512: header, 1024: entries}, signature=protective)


def test_mbr() -> None:
    head = start({446: entry(0x80, 0x83, 2048, 1000), 478: entry(0, 0x05, 4096, 2000)}, signature=True)
    table = read_partition_table(head, disk_size=SIZE)
    assert (table.kind, table.damage, table.summary) == ("mbr", "", "mbr: 2 partitions")
    assert table.partitions[0] == Partition(
        number=1, type="0x83", type_name="Linux", name="", start=1048576, size=512000, bootable=True
    )
    assert (table.partitions[1].number, table.partitions[1].type_name) == (3, "extended")
    assert table.partitions[1].as_dict()["start"] == 4096 * 512


def test_mbr_without_partitions() -> None:
    table = read_partition_table(start({0: b"\xeb\x63"}, signature=True), disk_size=SIZE)
    assert (table.kind, table.partitions, table.summary) == ("mbr", (), "mbr: 0 partitions")


def test_partition_beyond_the_end() -> None:
    head = start({446: entry(0, 7, 2048, SECTORS - 2047)}, signature=True)
    table = read_partition_table(head, disk_size=SIZE)
    assert table.damage == "partition 1 ends at byte 67109376 of the disk, but the disk ends at 67108864"
    assert read_partition_table(head, disk_size=SIZE + 512).damage == ""


def test_gpt() -> None:
    head = gpt([(ESP, "EFI", 2048, 4095), (LINUX, "root", 4096, SECTORS - 35)])
    table = read_partition_table(head, disk_size=SIZE)
    assert (table.kind, table.damage) == ("gpt", "")
    assert [(p.type_name, p.name, p.start, p.size) for p in table.partitions] == [
        ("EFI system", "EFI", 2048 * 512, 2048 * 512),
        ("Linux", "root", 4096 * 512, SIZE - 34 * 512 - 4096 * 512),
    ]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (512, "in place of the GPT header"),
        (512 + 24, "header's checksum"),
        (512 + 16, "header's checksum"),
        (512 + 12, "expected 92 to 512"),
        (1024 + 5, "entries' checksum"),
    ],
)
def test_damaged_gpt(at: int, message: str) -> None:
    head = bytearray(gpt([(LINUX, "root", 4096, SECTORS - 35)]))
    head[at] ^= 0x40
    assert message in read_partition_table(bytes(head), disk_size=SIZE).damage


def test_gpt_whose_first_sector_is_blank() -> None:
    table = read_partition_table(gpt([(LINUX, "root", 4096, SECTORS - 35)], protective=False), disk_size=SIZE)
    assert "no protective MBR" in table.damage


def test_gpt_partition_beyond_the_end() -> None:
    table = read_partition_table(gpt([(LINUX, "root", 4096, SECTORS)]), disk_size=SIZE)
    assert "the disk ends at" in table.damage


@pytest.mark.parametrize(
    ("at", "magic", "signature", "what"),
    [
        (3, b"NTFS    ", True, "NTFS"),
        (3, b"EXFAT   ", True, "exFAT"),
        (82, b"FAT32   ", True, "FAT32"),
        (0, b"XFSB", False, "XFS"),
        (0, b"LUKS\xba\xbe", False, "LUKS"),
        (512, b"LABELONE", False, "LVM"),
        (1080, b"\x53\xef", False, "ext4"),
        (4086, b"SWAPSPACE2", False, "swap"),
        (4096, b"\xfc\x4e\x2b\xa9", False, "RAID"),
        (65600, b"_BHRfS_M", False, "Btrfs"),
    ],
)
def test_disk_without_partitions(at: int, magic: bytes, signature: bool, what: str) -> None:
    table = read_partition_table(start({at: magic}, signature=signature), disk_size=SIZE)
    assert table.kind == "none"
    assert what in table.content
    assert table.summary == f"none: {table.content} lies directly on the disk"


def test_mbr_wins_over_remains_of_a_file_system() -> None:
    head = start({446: entry(0, 0x83, 2048, 1000), 1080: b"\x53\xef"}, signature=True)
    assert read_partition_table(head, disk_size=SIZE).kind == "mbr"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (bytes(PROBE_LENGTH), "blank: the first 73728 bytes of the disk are zero"),
        (bytes(512), "blank: the first 512 bytes of the disk are zero"),
        (start({9000: b"x"}), "unknown: the first sector is blank, though data begins at byte 9000"),
        (start({0: b"abcdefgh"}), "unknown: the first sector begins with 61 62 63 64 65 66 67 68 and ends with 00 00"),
        (start({446: b"\x17"}, signature=True), "unknown: the first sector has the signature 55 aa, but"),
    ],
)
def test_no_table_and_why(head: bytes, reason: str) -> None:
    table = read_partition_table(head, disk_size=SIZE)
    assert (table.kind, table.content) == ("none", "")
    assert table.reason.startswith(reason)
