"""Checks that an XFS file system agrees with itself: its allocation groups, their counts, the copies of the superblock.

What is read of it later is checked as it is read; see :mod:`sealift.images.file_systems.xfs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sealift.images.file_systems import xfs_structures as xfs
from sealift.images.file_systems.xfs import XfsFileSystem
from sealift.images.file_systems.xfs_log import log_is_empty
from sealift.images.file_systems.xfs_structures import FreeSpace, InodeSpace, Superblock
from sealift.images.findings import Findings, some
from sealift.images.sampling import spread
from sealift.images.source import ImageFormatError, ShortReadError

GROUPS_READ: Final = 256
"""Allocation groups that are looked at where not all are asked for, over the whole file system."""
MOST_DAMAGED: Final = 100


def check_xfs(findings: Findings, file_system: XfsFileSystem, *, deep: bool) -> None:
    """Check a file system whose superblock was read.

    :param findings: where checks and remarks go.
    :param file_system: what to check.
    :param deep: look at all allocation groups, however many there are.
    """
    superblock, name = file_system.superblock, file_system.name
    findings.record(
        "file_system.superblock",
        True,
        f"{name}: xfs of {superblock.blocks * superblock.block} bytes, {superblock.groups} allocation groups"
        + ("; the superblock's checksum is right" if superblock.checksums else ""),
    )
    if superblock.incompatible & xfs.NEEDS_REPAIR:
        findings.remark("file_system.state", f"{name} is marked as needing xfs_repair, and cannot be mounted before")
    empty = _check_log(findings, file_system)
    _check_groups(findings, file_system, deep=deep, counted=empty is True)


def _check_log(findings: Findings, file_system: XfsFileSystem) -> bool | None:
    try:
        empty = log_is_empty(file_system.region, file_system.superblock)
    except (ImageFormatError, ShortReadError) as error:
        findings.damaged("file_system.log", error, doing=f"{file_system.name}: the log")
        return None
    if empty is None:
        findings.remark(
            "file_system.state", f"{file_system.name}: its log is on another device, or cannot be understood"
        )
    elif not empty:
        file_system.log_pending = True
        findings.remark(
            "file_system.state",
            f"{file_system.name} was not cleanly unmounted: its log has to be replayed, and was not read with it",
        )
    return empty


def _check_groups(findings: Findings, file_system: XfsFileSystem, *, deep: bool, counted: bool) -> None:
    superblock, name = file_system.superblock, file_system.name
    numbers = range(superblock.groups) if deep else _chosen(superblock.groups)
    damaged: list[str] = []
    behind: list[str] = []
    free = inodes = free_inodes = 0
    for number in numbers:
        start = number * superblock.group_blocks * superblock.block
        try:
            data = file_system.region.read_once(start, superblock.sector * 3)
        except (ImageFormatError, ShortReadError) as error:
            damaged.append(f"group {number} cannot be read: {error}")
            break
        sectors = [data[at : at + superblock.sector] for at in range(0, len(data), superblock.sector)]
        copy = Superblock.unpack(sectors[0])
        space, inode_space = FreeSpace.unpack(sectors[1]), InodeSpace.unpack(sectors[2])
        if number:
            where = f"the copy of the superblock of group {number}, byte {start},"
            damaged += [f"{where} {words}" for words in _copy_differs(superblock, copy, sectors[0])]
            if copy.magic == xfs.MAGIC and copy.blocks < superblock.blocks:
                behind.append(f"{where} says {copy.blocks} blocks, not {superblock.blocks}")
        damaged += [
            f"the header of group {number} at byte {start + at} {words}"
            for at, words in _header_differs(superblock, number, space, inode_space, sectors)
        ]
        free += space.free + space.list_blocks + space.tree_blocks
        inodes += inode_space.count
        free_inodes += inode_space.free
        if len(damaged) > MOST_DAMAGED:
            break
    findings.record(
        "file_system.groups",
        not damaged,
        f"{name}: {some(damaged)}"
        if damaged
        else f"{name}: the headers of {len(numbers)} of {superblock.groups} allocation groups agree with it",
    )
    if behind and not damaged:
        findings.remark("file_system.backup", f"{name}: {some(behind)}: left behind when the file system grew")
    if damaged or not counted or len(numbers) < superblock.groups or not superblock.lazy_counts:
        return
    right = (free, inodes, free_inodes) == (superblock.free_blocks, superblock.inodes, superblock.free_inodes)
    findings.record(
        "file_system.counts",
        right,
        f"{name}: the superblock counts {superblock.free_blocks} free blocks, {superblock.inodes} inodes and "
        f"{superblock.free_inodes} free ones"
        + ("" if right else f", but its allocation groups {free}, {inodes} and {free_inodes}"),
    )


def _chosen(groups: int) -> Sequence[int]:
    return range(groups) if groups <= GROUPS_READ else spread(list(range(min(groups, 2**20))), GROUPS_READ)


def _copy_differs(superblock: Superblock, copy: Superblock, sector: bytes) -> list[str]:
    """Say in what a copy differs from the superblock. Counts may: copies are not kept up to date."""
    if copy.magic != xfs.MAGIC:
        return [f"begins with {copy.magic.hex(' ')}, expected {xfs.MAGIC.hex(' ')} (XFSB)"]
    if superblock.checksums:
        computed = copy.computed(sector)
        if computed != copy.checksum:
            return [f"has the checksum {copy.checksum:08x}, but its bytes give {computed:08x}"]
    found = [
        f"has {words} {getattr(copy, field)}, expected {getattr(superblock, field)}"
        for field, words in (
            ("block", "blocks of"),
            ("group_blocks", "blocks in a group"),
            ("inode_size", "inodes of"),
            ("uuid_text", "the UUID"),
        )
        if getattr(copy, field) != getattr(superblock, field)
    ]
    if copy.blocks > superblock.blocks or copy.groups > superblock.groups:
        found.append(f"has {copy.blocks} blocks in {copy.groups} groups, expected {superblock.blocks}")
    return found


def _header_differs(
    superblock: Superblock, number: int, space: FreeSpace, inode_space: InodeSpace, sectors: list[bytes]
) -> list[tuple[int, str]]:
    found = []
    length = superblock.group_length(number)
    headers: tuple[tuple[FreeSpace | InodeSpace, bytes, bytes, int], ...] = (
        (space, b"XAGF", sectors[1], 1),
        (inode_space, b"XAGI", sectors[2], 2),
    )
    for header, magic, sector, index in headers:
        at = index * superblock.sector
        if header.magic != magic:
            found.append((at, f"begins with {header.magic!r}, expected {magic!r}"))
            continue
        if superblock.checksums:
            computed = header.computed(sector)
            if computed != header.checksum:
                found.append((at, f"has the checksum {header.checksum:08x}, but its bytes give {computed:08x}"))
                continue
            if header.uuid != superblock.meta_uuid:
                found.append((at, f"is of the file system {header.uuid.hex()}: it is another's"))
        if (header.number, header.length) != (number, length):
            found.append(
                (at, f"is of group {header.number} with {header.length} blocks, expected {number} with {length}")
            )
    if not found and (space.free > length or inode_space.free > inode_space.count):
        found.append((superblock.sector, f"counts {space.free} free blocks of {length}"))
    return found
