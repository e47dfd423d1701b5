"""Finds all places on a server's disks that can hold a file system: partitions, whole disks, logical volumes.

Each comes with the names under which an fstab may have it.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from sealift.images.file_systems import lvm
from sealift.images.file_systems.signatures import Content, disk_signature, recognise
from sealift.images.file_systems.window import CachedDisk, Region, Window
from sealift.images.findings import Findings
from sealift.images.partitions import PROBE_LENGTH, SECTOR, Partition, PartitionTable, read_partition_table
from sealift.images.source import ImageFormatError, ShortReadError

MOST_LOGICAL: Final = 128
"""Logical partitions of an extended one that are followed."""
MOST_VOLUMES: Final = 1024
UNREAD: Final = "unread"
"""Kind of the content of a logical volume that is not read."""
INCOMPLETE: Final = "incomplete"
"""Kind of the content of a logical volume that lies, in part, on a disk that is not there."""
LARGEST_ENTRIES: Final = 256 * 1024
"""Bytes of a copy of GPT entries that are read."""

_EXTENDED: Final = ("0x05", "0x0f", "0x85")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_DISK_NAMES: Final = ("xvd", "sd", "vd", "hd")
_NO_FILE_SYSTEM: Final = ("21686148-6449-6e6f-744e-656564454649", "e3c9e316-0b5c-4db8-817d-f92df00215ae")
"""GPT types of partitions that hold none: GRUB's second stage, and what Microsoft reserves."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Volume:
    """A place that can hold a file system.

    :param name: for people: ``disk 0 partition 1``.
    :param disk: place of its disk among the server's; None for a logical volume.
    :param number: of the partition; 0 for a whole disk or a logical volume.
    :param devices: names under ``/dev`` that Linux gives it.
    """

    name: str
    region: Region
    content: Content
    disk: int | None
    number: int = 0
    type_name: str = ""
    part_uuid: str = ""
    part_label: str = ""
    devices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiskStart:
    """How a disk begins.

    :param number: its place among the server's disks.
    :param head: its first bytes.
    """

    number: int
    disk: CachedDisk
    head: bytes
    table: PartitionTable


def find_volumes(
    findings: Findings, disks: Sequence[CachedDisk], *, boot_index: int, letters: Sequence[str]
) -> tuple[list[DiskStart], list[Volume]]:
    """Find all volumes of a server's disks.

    :param findings: where checks of partition tables and of LVM go.
    :param disks: in the server's order.
    :param boot_index: the disk that the server starts from: it has to begin with something known.
    :param letters: which letter Linux gives each disk; empty where that is not known.
    :returns: how each disk begins, and the volumes.
    """
    starts: list[DiskStart] = []
    found: list[Volume] = []
    for index, disk in enumerate(disks):
        head = disk.read(0, min(PROBE_LENGTH, disk.size))
        if len(head) < SECTOR:
            findings.remark("partition_table", f"{disk.name} has {disk.size} bytes, which is less than a sector")
            continue
        table = read_partition_table(head, disk_size=disk.size)
        starts.append(DiskStart(number=index, disk=disk, head=head, table=table))
        start_unknown = index == boot_index and not table.partitions and not table.content
        findings.record(
            "partition_table",
            not table.damage and not start_unknown,
            f"{disk.name}: {table.damage or table.summary}"
            + (", but the server starts from this disk" if start_unknown and not table.damage else ""),
        )
        if table.kind == "gpt" and not table.damage:
            _check_backup_table(findings, disk, head)
        if not table.partitions:
            content = recognise(disk)
            found.append(
                Volume(name=disk.name, region=disk, content=content, disk=index, devices=_devices(letters[index], 0))
            )
            continue
        found += _partitions(findings, index, disk, head, table, letters[index])
        if len(found) > MOST_VOLUMES:
            raise ImageFormatError(f"there are more than {MOST_VOLUMES} partitions", offset=0)
    return starts, found + _logical_volumes(findings, found)


def _devices(letter: str, number: int) -> tuple[str, ...]:
    if not letter:
        return ()
    return tuple(f"/dev/{name}{letter}{number or ''}" for name in _DISK_NAMES)


def _partitions(
    findings: Findings, index: int, disk: CachedDisk, head: bytes, table: PartitionTable, letter: str
) -> Iterator[Volume]:
    unique = _unique_ids(head) if table.kind == "gpt" else {}
    signature = disk_signature(head)
    partitions = list(table.partitions)
    for extended in table.partitions:
        if extended.type in _EXTENDED:
            partitions += _logical_partitions(findings, disk, extended)
    for partition in partitions:
        if partition.type in _EXTENDED or partition.end > disk.size or partition.size <= 0:
            continue  # the first holds others; what is beyond the end was said with the table
        name = f"{disk.name} partition {partition.number}"
        region = Window(disk, start=partition.start, size=partition.size, name=name)
        part_uuid = unique.get(partition.number, "") or f"{signature:08x}-{partition.number:02x}"
        content = Content(kind="") if partition.type in _NO_FILE_SYSTEM else recognise(region)
        yield Volume(
            name=name,
            region=region,
            content=content,
            disk=index,
            number=partition.number,
            type_name=partition.type_name,
            part_uuid=part_uuid,
            part_label=partition.name,
            devices=_devices(letter, partition.number),
        )


def _unique_ids(head: bytes) -> dict[int, str]:
    """Return the GPT's own identifiers of its partitions, by their numbers."""
    at, count, size = struct.unpack_from("<QII", head, SECTOR + 72)
    found = {}
    for number in range(min(count, 128)):
        place = at * SECTOR + number * size + 16
        if place + 16 <= len(head):
            found[number + 1] = str(UUID(bytes_le=head[place : place + 16]))
    return found


def _check_backup_table(findings: Findings, disk: CachedDisk, head: bytes) -> None:
    """Check the copy of a GPT that lies at the end, where a cut would take it."""
    (sector,) = struct.unpack_from("<Q", head, SECTOR + 32)
    at = sector * SECTOR
    where = f"{disk.name}: the copy of the GPT at byte {at}"
    if at + SECTOR > disk.size:
        findings.record("partition_table.backup", False, f"{where} lies beyond the disk, which has {disk.size} bytes")
        return
    header = disk.read_once(at, SECTOR)
    (length, stored) = struct.unpack_from("<II", header, 12)
    if header[:8] != b"EFI PART" or not 92 <= length <= SECTOR:
        findings.record("partition_table.backup", False, f"{where} begins with {header[:8]!r}, expected b'EFI PART'")
        return
    computed = zlib.crc32(header[:16] + bytes(4) + header[20:length])
    (own,) = struct.unpack_from("<Q", header, 24)
    entries_at, count, size, entries_sum = struct.unpack_from("<QIII", header, 72)
    primary_sum = struct.unpack_from("<I", head, SECTOR + 88)[0]
    problems = []
    if computed != stored:
        problems.append(f"has the checksum {stored:08x}, but its bytes give {computed:08x}")
    elif own != sector:
        problems.append(f"says that it is in sector {own}")
    elif entries_sum != primary_sum:
        findings.remark("partition_table.backup", f"{where} has other partitions than the table at the start")
    elif count * size <= LARGEST_ENTRIES and entries_at * SECTOR + count * size <= disk.size:
        computed = zlib.crc32(disk.read_once(entries_at * SECTOR, count * size))
        if computed != entries_sum:
            problems.append(f"has entries whose checksum is {entries_sum:08x}, but their bytes give {computed:08x}")
    findings.record("partition_table.backup", not problems, f"{where} {problems[0] if problems else 'is whole'}")


def _logical_partitions(findings: Findings, disk: CachedDisk, extended: Partition) -> Iterator[Partition]:
    """Follow the chain of tables in an extended partition; each has one partition and the place of the next table."""
    at, number = extended.start, 5
    seen: set[int] = set()
    while len(seen) < MOST_LOGICAL:
        if at in seen or not extended.start <= at < min(extended.end, disk.size - SECTOR + 1):
            findings.record(
                "partition_table",
                False,
                f"{disk.name}: a table of logical partitions is put at byte {at}, outside its own",
            )
            return
        seen.add(at)
        sector = disk.read(at, SECTOR)
        if sector[510:512] != b"\x55\xaa":
            findings.record(
                "partition_table",
                False,
                f"{disk.name}: the table of logical partition {number} at byte {at} ends with "
                f"{sector[510:512].hex(' ')}, expected 55 aa",
            )
            return
        kind, first, count = struct.unpack_from("<B3xII", sector, 450)
        next_kind, next_first = struct.unpack_from("<B3xI", sector, 466)
        if kind and count:
            start, size = at + first * SECTOR, count * SECTOR
            if start + size > disk.size:
                findings.record(
                    "partition_table",
                    False,
                    f"{disk.name}: logical partition {number} ends at byte {start + size}, but the disk at {disk.size}",
                )
            yield Partition(
                number=number,
                type=f"0x{kind:02x}",
                type_name="logical",
                name="",
                start=start,
                size=size,
                bootable=False,
            )
            number += 1
        if not next_kind or not next_first:
            return
        at = extended.start + next_first * SECTOR


def _logical_volumes(findings: Findings, volumes: Sequence[Volume]) -> list[Volume]:
    """Find the logical volumes of all physical ones."""
    physical = []
    for volume in volumes:
        if volume.content.kind != "lvm":
            continue
        try:
            found = lvm.read_physical_volume(volume.region, name=volume.name)
        except (ImageFormatError, ShortReadError) as error:
            findings.damaged("lvm", error)
            continue
        if found is not None:
            physical.append(found)
            findings.record("lvm", True, f"{volume.name}: an LVM physical volume; its label and metadata are whole")
    try:
        logical = lvm.read_volume_groups(physical)
    except ImageFormatError as error:
        findings.damaged("lvm", error)
        return []
    made = []
    for one in logical:
        if one.region is None:
            findings.remark("lvm", f"logical volume {one.name} was not looked into: {one.why}")
            made.append(
                Volume(
                    name=f"logical volume {one.name}",
                    region=lvm.LinearVolume([], name=one.name),
                    content=Content(kind=INCOMPLETE if one.incomplete else UNREAD),
                    disk=None,
                    devices=one.devices,
                )
            )
            continue
        try:
            content = recognise(one.region)
        except (ImageFormatError, ShortReadError) as error:
            findings.damaged("lvm", error, doing=f"logical volume {one.name}")
            continue
        made.append(
            Volume(
                name=f"logical volume {one.name}", region=one.region, content=content, disk=None, devices=one.devices
            )
        )
    return made
