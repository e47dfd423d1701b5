"""Reads the start of a disk: its partition table, or the reason why there is none.

Knows MBR (UEFI specification 2.10 §5.2), GPT (§5.3), and what commonly lies on a disk without partitions: file systems,
swap, LVM, RAID and encryption, each by its magic number at its fixed place.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import Any, Literal
from uuid import UUID

SECTOR = 512
PROBE_LENGTH = 72 * 1024
"""Bytes from the start of a disk that suffice for every signature here, the one of Btrfs at 64 KiB being the last."""

_MBR_TYPES = {
    0x01: "FAT12",
    0x04: "FAT16",
    0x05: "extended",
    0x06: "FAT16",
    0x07: "NTFS or exFAT",
    0x0B: "FAT32",
    0x0C: "FAT32",
    0x0E: "FAT16",
    0x0F: "extended",
    0x27: "Windows recovery",
    0x82: "Linux swap",
    0x83: "Linux",
    0x85: "Linux extended",
    0x8E: "Linux LVM",
    0xA5: "FreeBSD",
    0xEE: "GPT protective",
    0xEF: "EFI system",
    0xFD: "Linux RAID",
}
_GPT_TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
}
# (offset, magic, what it is); tried in order.
_DIRECT = (
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (82, b"FAT32   ", "a FAT32 file system"),
    (54, b"FAT16   ", "a FAT16 file system"),
    (54, b"FAT12   ", "a FAT12 file system"),
    (0, b"LUKS\xba\xbe", "a LUKS encrypted volume"),
    (0, b"XFSB", "an XFS file system"),
    *((sector * SECTOR, b"LABELONE", "an LVM physical volume") for sector in range(4)),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (4086, b"SWAPSPACE2", "Linux swap space"),
    (0, b"\xfc\x4e\x2b\xa9", "a Linux RAID member"),
    (4096, b"\xfc\x4e\x2b\xa9", "a Linux RAID member"),
    (32769, b"CD001", "an ISO 9660 file system"),
    (65600, b"_BHRfS_M", "a Btrfs file system"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition. ``start`` and ``size`` are bytes."""

    number: int
    type: str
    """``0x83`` in an MBR, the type GUID in a GPT."""
    type_name: str
    name: str
    start: int
    size: int
    bootable: bool

    @property
    def end(self) -> int:
        """First byte after the partition."""
        return self.start + self.size

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values.

        :returns: the fields by name; start and size in bytes.
        """
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartitionTable:
    """What the start of a disk says about its division."""

    kind: Literal["mbr", "gpt", "none"]
    reason: str = ""
    """Why there is no table, where ``kind`` is ``none``."""
    content: str = ""
    """What lies on the disk without partitions, where that was recognised."""
    partitions: tuple[Partition, ...] = ()
    damage: str = ""
    """What is wrong with the table; empty if nothing is."""

    @property
    def summary(self) -> str:
        """One line for people: the kind, or ``none`` and the reason."""
        if self.kind == "none":
            return f"none: {self.reason}"
        count = len(self.partitions)
        return f"{self.kind}: {count} partition{'' if count == 1 else 's'}"


def read_partition_table(head: bytes, *, disk_size: int) -> PartitionTable:
    """Read the partition table from the first bytes of a disk.

    :param head: the first :data:`PROBE_LENGTH` bytes of the disk, or all of a smaller disk; at least one sector.
    :param disk_size: bytes of the whole disk.
    :returns: the table; its kind is ``none``, with the reason, where there is none that can be read.
    """
    if not any(head):
        return PartitionTable(kind="none", reason=f"blank: the first {len(head)} bytes of the disk are zero")
    gpt = head[SECTOR : SECTOR + 8] == b"EFI PART"
    mbr = _mbr_partitions(head)
    if gpt or any(partition.type == "0xee" for partition in mbr or ()):
        return _read_gpt(head, protected=bool(mbr), present=gpt, disk_size=disk_size)
    content = _direct_content(head)
    if content and not mbr:
        return PartitionTable(kind="none", reason=f"{content} lies directly on the disk", content=content)
    if mbr is None:
        return PartitionTable(kind="none", reason=_why_unknown(head))
    return PartitionTable(kind="mbr", partitions=tuple(mbr), damage=_beyond_end(mbr, disk_size))


def _mbr_partitions(head: bytes) -> list[Partition] | None:
    """Return the primary partitions, or ``None`` if the first sector is not an MBR."""
    if head[510:512] != b"\x55\xaa":
        return None
    found = []
    for number in range(1, 5):
        status, type_, first, count = struct.unpack_from("<B3xB3xII", head, 446 + (number - 1) * 16)
        if status not in (0x00, 0x80):
            return None  # boot sectors of file systems carry the signature too, and code where the table would be
        if type_ == 0 or count == 0:
            continue
        found.append(
            Partition(
                number=number,
                type=f"0x{type_:02x}",
                type_name=_MBR_TYPES.get(type_, "unknown"),
                name="",
                start=first * SECTOR,
                size=count * SECTOR,
                bootable=status == 0x80,
            )
        )
    return found


def _direct_content(head: bytes) -> str:
    return next((what for at, magic, what in _DIRECT if head[at : at + len(magic)] == magic), "")


def _why_unknown(head: bytes) -> str:
    if not any(head[:SECTOR]):
        first = next(at for at, byte in enumerate(head) if byte)
        return f"unknown: the first sector is blank, though data begins at byte {first}"
    signature = head[510:512].hex(" ")
    if signature == "55 aa":
        return "unknown: the first sector has the signature 55 aa, but its partition entries are not valid"
    return f"unknown: the first sector begins with {head[:8].hex(' ')} and ends with {signature}, expected 55 aa"


def _beyond_end(partitions: list[Partition], disk_size: int) -> str:
    return "; ".join(
        f"partition {partition.number} ends at byte {partition.end} of the disk, but the disk ends at {disk_size}"
        for partition in partitions
        if partition.end > disk_size
    )


def _read_gpt(head: bytes, *, protected: bool, present: bool, disk_size: int) -> PartitionTable:
    if not present:
        found = head[SECTOR : SECTOR + 8].hex(" ")
        return PartitionTable(
            kind="gpt", damage=f"a protective MBR, but {found} in place of the GPT header ('EFI PART') at byte {SECTOR}"
        )
    damage = [] if protected else ["a GPT header at byte 512, but no protective MBR in the first sector"]
    header_size, header_crc = struct.unpack_from("<I I", head, SECTOR + 12)
    if not 92 <= header_size <= SECTOR:
        return PartitionTable(kind="gpt", damage=f"the GPT header says it has {header_size} bytes, expected 92 to 512")
    header = bytearray(head[SECTOR : SECTOR + header_size])
    header[16:20] = bytes(4)
    computed = zlib.crc32(header)
    if computed != header_crc:
        damage.append(f"the GPT header's checksum is {header_crc:08x}, but its bytes give {computed:08x}")
    entries_at, count, entry_size, entries_crc = struct.unpack_from("<QIII", head, SECTOR + 72)
    entries = head[entries_at * SECTOR : entries_at * SECTOR + count * entry_size]
    if entry_size < 128 or len(entries) < count * entry_size:
        # Legal, though no known tool makes it: the entries lie beyond what was read.
        return PartitionTable(kind="gpt", damage="; ".join(damage))
    computed = zlib.crc32(entries)
    if computed != entries_crc:
        damage.append(f"the GPT entries' checksum is {entries_crc:08x}, but their bytes give {computed:08x}")
    partitions = [
        partition
        for number in range(count)
        if (partition := _gpt_partition(number + 1, entries[number * entry_size : (number + 1) * entry_size]))
    ]
    if beyond := _beyond_end(partitions, disk_size):
        damage.append(beyond)
    return PartitionTable(kind="gpt", partitions=tuple(partitions), damage="; ".join(damage))


def _gpt_partition(number: int, entry: bytes) -> Partition | None:
    type_ = UUID(bytes_le=entry[:16])
    if type_.int == 0:
        return None
    first, last, attributes = struct.unpack_from("<QQQ", entry, 32)
    return Partition(
        number=number,
        type=str(type_),
        type_name=_GPT_TYPES.get(str(type_), "unknown"),
        name=entry[56:128].decode("utf-16-le", "replace").split("\0", 1)[0],
        start=first * SECTOR,
        size=(last - first + 1) * SECTOR,
        bootable=bool(attributes & 4),
    )
