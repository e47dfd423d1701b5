"""Checks that an ext2, ext3 or ext4 file system agrees with itself: state, groups, counts, the copy of the superblock.

What is read of it later is checked as it is read; see :mod:`sealift.images.file_systems.ext`.
"""

from __future__ import annotations

from typing import Final

from sealift.images.file_systems import ext_structures as ext
from sealift.images.file_systems.checksums import ext4_crc
from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.ext_journal import check_journal_superblock
from sealift.images.file_systems.ext_structures import ExtFormatError, GroupDescriptor, Superblock
from sealift.images.findings import Findings, some
from sealift.images.source import ImageFormatError, ShortReadError

DESCRIPTORS_READ: Final = 4 * 1024 * 1024
"""Bytes of group descriptors that are read where not all are asked for: those of 8 TiB with blocks of 4 KiB."""
MOST_DAMAGED: Final = 100
"""Damaged groups after which no more are looked at."""
_BLOCK_UNINITIALISED, _INODE_UNINITIALISED = 2, 1


def check_ext(findings: Findings, file_system: ExtFileSystem, *, deep: bool) -> None:
    """Check a file system whose superblock was read.

    :param findings: where checks and remarks go.
    :param file_system: what to check.
    :param deep: read all group descriptors and bitmaps, however many there are.
    """
    superblock, name = file_system.superblock, file_system.name
    size = superblock.blocks * superblock.block
    findings.record(
        "file_system.superblock",
        True,
        f"{name}: {superblock.type} of {size} bytes, {superblock.groups} block groups"
        + ("; the superblock's checksum is right" if superblock.checksums else ""),
    )
    _check_state(findings, file_system)
    if _check_groups(findings, file_system, deep=deep):
        _check_journal(findings, file_system)
    _check_backup(findings, file_system)
    if deep:
        _check_bitmaps(findings, file_system)


def _check_state(findings: Findings, file_system: ExtFileSystem) -> None:
    superblock, name = file_system.superblock, file_system.name
    journal = file_system.journal
    if journal:
        words = f"{journal.transactions} transactions with {len(journal.blocks)} blocks are in it and were read with it"
        if journal.unread:
            words += f"; {journal.unread}"
        findings.remark(
            "file_system.state", f"{name} was not cleanly unmounted: its journal has to be replayed; {words}"
        )
    elif not superblock.state & ext.VALID:
        findings.remark(
            "file_system.state",
            f"{name} was not cleanly unmounted, and has no journal: it is checked when the server starts",
        )
    if superblock.state & ext.ERRORS:
        findings.remark(
            "file_system.state",
            f"{name} is marked as having errors, which its server found: it needs a file system check",
        )
    if superblock.state & ext.ORPHANS or (superblock.last_orphan and not journal):
        findings.remark(
            "file_system.state", f"{name} has files that were deleted while open: they go at the next mount"
        )


def _check_journal(findings: Findings, file_system: ExtFileSystem) -> None:
    """Check the superblock of a journal that holds nothing; one that does hold something was read already."""
    if file_system.journal is not None or not file_system.superblock.journal_inode:
        return
    try:
        check_journal_superblock(file_system)
    except (ImageFormatError, ShortReadError) as error:
        findings.damaged("file_system.journal", error)
    else:
        findings.record("file_system.journal", True, f"{file_system.name}: the journal is empty, its superblock right")


def _check_groups(findings: Findings, file_system: ExtFileSystem, *, deep: bool) -> bool:
    """Check the groups' descriptors and counts; return whether the descriptors are right."""
    superblock, name = file_system.superblock, file_system.name
    groups = superblock.groups
    looked = groups if deep else min(groups, DESCRIPTORS_READ // superblock.descriptor_size)
    damaged: list[str] = []
    free = free_inodes = 0
    for group in range(looked):
        try:
            descriptor = file_system.descriptor(group)
        except ExtFormatError as error:
            damaged.append(str(error))
            if len(damaged) > MOST_DAMAGED:
                break
            continue
        free += descriptor.free_clusters
        free_inodes += descriptor.free_inodes
        if wrong := _too_many(superblock, group, descriptor):
            damaged.append(f"{name}: {wrong}")
    if damaged:
        findings.record("file_system.groups", False, f"{len(damaged)} block groups are damaged: {some(damaged)}")
        return False
    findings.record(
        "file_system.groups", True, f"{name}: {looked} of {groups} group descriptors lead into the file system"
    )
    if not file_system.clean or looked < groups:
        return True
    free *= superblock.cluster_ratio
    right = free == superblock.free_blocks and free_inodes == superblock.free_inodes
    findings.record(
        "file_system.counts",
        right,
        f"{name}: the superblock counts {superblock.free_blocks} free blocks and {superblock.free_inodes} free inodes"
        + ("" if right else f", but its groups {free} and {free_inodes}"),
    )
    return True


def _too_many(superblock: Superblock, group: int, descriptor: GroupDescriptor) -> str:
    """Say what a group counts that it cannot have; empty if nothing."""
    blocks = min(superblock.blocks_per_group, superblock.blocks - superblock.group_start(group))
    clusters = -(-blocks // superblock.cluster_ratio)
    if descriptor.free_clusters > clusters:
        return f"block group {group} counts {descriptor.free_clusters} free of {clusters}"
    if descriptor.free_inodes > superblock.inodes_per_group:
        return f"block group {group} counts {descriptor.free_inodes} free inodes of {superblock.inodes_per_group}"
    return ""


def _check_backup(findings: Findings, file_system: ExtFileSystem) -> None:
    """Compare the last copy of the superblock: it lies far behind, where a cut or a wrong piece would show."""
    superblock, name = file_system.superblock, file_system.name
    group = next((group for group in range(superblock.groups - 1, 0, -1) if superblock.has_backup(group)), 0)
    if not group:
        return
    block = superblock.group_start(group)
    where = f"{name}: the copy of the superblock in group {group}, block {block},"
    try:
        copy = Superblock.unpack(file_system.read_bytes(block, 0, ext.SUPERBLOCK_SIZE))
    except (ImageFormatError, ShortReadError) as error:
        findings.damaged("file_system.backup", error, doing=where)
        return
    if copy.magic != ext.MAGIC:
        findings.record(
            "file_system.backup", False, f"{where} begins with {copy.magic:#06x} where {ext.MAGIC:#06x} is expected"
        )
        return
    if copy.blocks < superblock.blocks:
        findings.remark(
            "file_system.backup",
            f"{where} says {copy.blocks} blocks, not {superblock.blocks}: it was left behind when the file system grew",
        )
    differ = [
        f"{words} {getattr(copy, field)}, expected {getattr(superblock, field)}"
        for field, words in (
            ("block_bits", "block size"),
            ("blocks_per_group", "blocks in a group"),
            ("inodes_per_group", "inodes in a group"),
            ("inode_size", "inode size"),
            ("uuid_text", "UUID"),
        )
        if getattr(copy, field) != getattr(superblock, field)
    ]
    if copy.blocks > superblock.blocks:
        differ.append(f"blocks {copy.blocks}, expected {superblock.blocks}")
    findings.record(
        "file_system.backup",
        not differ,
        f"{where} says {'; '.join(differ)}" if differ else f"{where} agrees with the superblock",
    )
    if not differ and superblock.checksums and copy.checksum != copy.computed:
        # Linux before 5.19 left wrong ones behind when it enlarged a mounted file system, as cloud images do.
        findings.remark(
            "file_system.backup",
            f"{where} has the checksum {copy.checksum:08x}, but its bytes give {copy.computed:08x}; a file system that "
            "was enlarged while mounted can have that",
        )


def _check_bitmaps(findings: Findings, file_system: ExtFileSystem) -> None:
    """Compare the bitmaps of all groups with their checksums and with what their groups count."""
    superblock, name = file_system.superblock, file_system.name
    damaged: list[str] = []
    for group in range(superblock.groups):
        try:
            descriptor = file_system.descriptor(group)
        except ExtFormatError:
            continue  # said already
        for what, block, skipped, bits, stored in (
            (
                "block bitmap",
                descriptor.block_bitmap,
                descriptor.flags & _BLOCK_UNINITIALISED,
                superblock.clusters_per_group,
                descriptor.block_bitmap_checksum,
            ),
            (
                "inode bitmap",
                descriptor.inode_bitmap,
                descriptor.flags & _INODE_UNINITIALISED,
                superblock.inodes_per_group,
                descriptor.inode_bitmap_checksum,
            ),
        ):
            if skipped and superblock.read_only & (ext.GDT_CSUM | ext.METADATA_CSUM):
                continue
            data = file_system.read_blocks(block, 1)
            if superblock.checksums:
                mask = ext.ALL if superblock.descriptor_size >= 64 else 0xFFFF
                computed = ext4_crc(superblock.seed, data[: bits // 8]) & mask
                if computed != stored:
                    damaged.append(
                        f"the {what} of group {group} in block {block} has the checksum {stored:08x}, but its bytes "
                        f"give {computed:08x}"
                    )
                    continue
                file_system.verified["bitmaps"] += 1
            if what == "inode bitmap" and file_system.clean:
                used = int.from_bytes(data[: bits // 8], "little").bit_count()
                if bits - used != descriptor.free_inodes:
                    damaged.append(
                        f"the {what} of group {group} in block {block} has {bits - used} free, but its descriptor "
                        f"counts {descriptor.free_inodes}"
                    )
    findings.record(
        "file_system.bitmaps",
        not damaged,
        f"{name}: {some(damaged)}" if damaged else f"{name}: the bitmaps of {superblock.groups} groups agree",
    )
