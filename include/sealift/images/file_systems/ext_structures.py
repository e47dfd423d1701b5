"""The structures of ext2, ext3 and ext4 with their checksums: superblock, group descriptors, inodes.

After the Linux kernel's description of the format (Documentation/filesystems/ext4). All numbers are little-endian.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final, Self
from uuid import UUID

from sealift.images.file_systems.checksums import crc16, ext4_crc
from sealift.images.file_systems.file_system import KIND_OF_MODE, NodeKind
from sealift.images.source import ImageFormatError

SUPERBLOCK_AT: Final = 1024
SUPERBLOCK_SIZE: Final = 1024
MAGIC: Final = 0xEF53
ALL: Final = 0xFFFF_FFFF

HAS_JOURNAL, SPARSE_SUPER2, FAST_COMMIT = 0x4, 0x200, 0x400
"""Compatible features that matter here."""
RECOVER, META_BG, EXTENTS, BITS_64, FLEX_BG, CSUM_SEED, INLINE_DATA = 0x4, 0x10, 0x40, 0x80, 0x200, 0x2000, 0x8000
"""Incompatible features that matter here."""
SPARSE_SUPER, HUGE_FILE, GDT_CSUM, BIGALLOC, METADATA_CSUM, ORPHAN_PRESENT = 0x1, 0x8, 0x10, 0x200, 0x400, 0x10000
"""Features under which a disk may still be read."""

VALID, ERRORS, ORPHANS = 1, 2, 4
"""Bits of the state."""

EXTENTS_FLAG, INLINE_FLAG, ENCRYPT_FLAG, INDEX_FLAG, COMPRESSED_FLAG = 0x80000, 0x1000_0000, 0x800, 0x1000, 0x4
"""Flags of an inode."""

_INCOMPATIBLE_NAMES: Final = {
    0x1: "compression",
    0x2: "filetype",
    0x4: "needs_recovery",
    0x8: "journal_dev",
    0x10: "meta_bg",
    0x40: "extent",
    0x80: "64bit",
    0x100: "mmp",
    0x200: "flex_bg",
    0x400: "ea_inode",
    0x1000: "dirdata",
    0x2000: "metadata_csum_seed",
    0x4000: "large_dir",
    0x8000: "inline_data",
    0x10000: "encrypt",
    0x20000: "casefold",
}
_READABLE: Final = ALL & ~(0x1 | 0x8 | 0x1000) & sum(_INCOMPATIBLE_NAMES)
"""All that are known but compression, journal devices and dirdata."""
_EXT3_INCOMPATIBLE, _EXT3_READ_ONLY = 0x2 | 0x4 | 0x10, 0x1 | 0x2 | 0x4
_EXT2_FIRST_INODE, _EXT2_INODE_SIZE = 11, 128


class ExtFormatError(ImageFormatError):
    """Bytes are not what the format of ext2, ext3 and ext4 demands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Superblock:
    """The superblock. Counts are blocks where nothing else is said."""

    raw: bytes
    inodes: int
    blocks: int
    free_blocks: int
    free_inodes: int
    first_data_block: int
    block_bits: int
    cluster_bits: int
    blocks_per_group: int
    clusters_per_group: int
    inodes_per_group: int
    magic: int
    state: int
    revision: int
    inode_size: int
    group: int
    compatible: int
    incompatible: int
    read_only: int
    uuid: bytes
    label: str
    reserved_descriptor_blocks: int
    journal_inode: int
    last_orphan: int
    descriptor_size: int
    first_meta_group: int
    backup_groups: tuple[int, int]
    checksum_type: int
    checksum_seed: int
    checksum: int

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the 1024 bytes of a superblock.

        :param data: the bytes.
        """
        (inodes, blocks_lo, _, free_lo, free_inodes, first_data_block, block_bits, cluster_bits) = struct.unpack_from(
            "<8I", data
        )
        per_group = struct.unpack_from("<3I", data, 0x20)
        magic, state = struct.unpack_from("<2H", data, 0x38)
        (revision,) = struct.unpack_from("<I", data, 0x4C)
        inode_size, group, compatible, incompatible, read_only = struct.unpack_from("<2H3I", data, 0x58)
        if revision == 0:
            inode_size, compatible, incompatible, read_only = _EXT2_INODE_SIZE, 0, 0, 0
        blocks_hi, _, free_hi = struct.unpack_from("<3I", data, 0x150) if incompatible & BITS_64 else (0, 0, 0)
        descriptor_size = struct.unpack_from("<H", data, 0xFE)[0] if incompatible & BITS_64 else 32
        return cls(
            raw=data,
            inodes=inodes,
            blocks=blocks_hi << 32 | blocks_lo,
            free_blocks=free_hi << 32 | free_lo,
            free_inodes=free_inodes,
            first_data_block=first_data_block,
            block_bits=block_bits,
            cluster_bits=cluster_bits,
            blocks_per_group=per_group[0],
            clusters_per_group=per_group[1],
            inodes_per_group=per_group[2],
            magic=magic,
            state=state,
            revision=revision,
            inode_size=inode_size,
            group=group,
            compatible=compatible,
            incompatible=incompatible,
            read_only=read_only,
            uuid=data[0x68:0x78],
            label=data[0x78:0x88].split(b"\0", 1)[0].decode("utf-8", "backslashreplace"),
            reserved_descriptor_blocks=struct.unpack_from("<H", data, 0xCE)[0],
            journal_inode=struct.unpack_from("<I", data, 0xE0)[0],
            last_orphan=struct.unpack_from("<I", data, 0xE8)[0],
            descriptor_size=descriptor_size,
            first_meta_group=struct.unpack_from("<I", data, 0x104)[0],
            backup_groups=struct.unpack_from("<2I", data, 0x24C),
            checksum_type=data[0x175],
            checksum_seed=struct.unpack_from("<I", data, 0x270)[0],
            checksum=struct.unpack_from("<I", data, 0x3FC)[0],
        )

    @property
    def block(self) -> int:
        """Bytes of a block."""
        return 1024 << self.block_bits

    @property
    def cluster_ratio(self) -> int:
        """Blocks in a cluster, by which groups count what is free: 1 without bigalloc."""
        return 1 << min(max(self.cluster_bits - self.block_bits, 0), 20) if self.read_only & BIGALLOC else 1

    @property
    def groups(self) -> int:
        """How many block groups there are."""
        return -(-(self.blocks - self.first_data_block) // self.blocks_per_group)

    @property
    def checksums(self) -> bool:
        """Whether all metadata carry a CRC-32C."""
        return bool(self.read_only & METADATA_CSUM)

    @property
    def seed(self) -> int:
        """With which the checksums of metadata begin."""
        if self.incompatible & CSUM_SEED:
            return self.checksum_seed
        return ext4_crc(ALL, self.uuid)

    @property
    def type(self) -> str:
        """``ext2``, ``ext3`` or ``ext4``, by the first of them that knows all its features."""
        if self.incompatible & ~_EXT3_INCOMPATIBLE or self.read_only & ~_EXT3_READ_ONLY:
            return "ext4"
        return "ext3" if self.compatible & HAS_JOURNAL else "ext2"

    @property
    def computed(self) -> int:
        """The checksum that the superblock's bytes give."""
        return ext4_crc(ALL, self.raw[:0x3FC])

    @property
    def uuid_text(self) -> str:
        """The UUID as fstab has it."""
        return str(UUID(bytes=self.uuid))

    def why_not(self) -> str:
        """Say why the superblock cannot be used to read the file system; empty if it can."""
        if self.magic != MAGIC:
            return f"magic number {self.magic:#06x}, expected {MAGIC:#06x}"
        if self.incompatible & ~_READABLE:
            return f"it needs features that Sealift does not read: {', '.join(self._unreadable())}"
        # Before anything is computed with them: what is shifted by or divided by.
        if self.block_bits > 6:
            return f"blocks of 2^{10 + self.block_bits} bytes, expected 2^10 to 2^16"
        bits = self.block * 8
        wrong = (
            (self.checksums and self.checksum_type != 1, f"checksum type {self.checksum_type}, expected 1 (crc32c)"),
            (self.revision > 1, f"revision {self.revision}, expected 0 or 1"),
            (
                self.inode_size < 128 or self.inode_size > self.block or self.inode_size & (self.inode_size - 1) != 0,
                f"inodes of {self.inode_size} bytes, expected a power of two from 128 to {self.block}",
            ),
            (
                bool(self.read_only & BIGALLOC) and not self.block_bits <= self.cluster_bits <= 20,
                f"clusters of 2^{10 + self.cluster_bits} bytes with blocks of {self.block}",
            ),
            (
                not 0 < self.inodes_per_group <= bits or self.inodes_per_group * self.inode_size % self.block != 0,
                f"{self.inodes_per_group} inodes in a group, expected whole blocks of them and at most {bits}",
            ),
            (not 0 < self.clusters_per_group <= bits, f"{self.clusters_per_group} clusters in a group"),
            (
                self.blocks_per_group != self.clusters_per_group * self.cluster_ratio,
                f"{self.blocks_per_group} blocks in a group of {self.clusters_per_group} clusters",
            ),
            (
                self.first_data_block != (1 if self.block == 1024 and not self.read_only & BIGALLOC else 0),
                f"the first data block is {self.first_data_block}",
            ),
            (self.blocks <= self.first_data_block, f"{self.blocks} blocks"),
            (
                bool(self.incompatible & BITS_64)
                and (not 64 <= self.descriptor_size <= 1024 or self.descriptor_size & (self.descriptor_size - 1) != 0),
                f"group descriptors of {self.descriptor_size} bytes",
            ),
        )
        if why := next((words for is_wrong, words in wrong if is_wrong), ""):
            return why
        if self.inodes != self.groups * self.inodes_per_group:
            return f"{self.inodes} inodes, but {self.groups} groups of {self.inodes_per_group}"
        return ""

    def _unreadable(self) -> list[str]:
        bits = [1 << bit for bit in range(32) if (self.incompatible & ~_READABLE) >> bit & 1]
        return [_INCOMPATIBLE_NAMES.get(bit, f"{bit:#x} (unknown)") for bit in bits]

    def has_backup(self, group: int) -> bool:
        """Say whether a group holds a superblock.

        :param group: its number.
        """
        if group == 0:
            return True
        if self.compatible & SPARSE_SUPER2:
            return group in self.backup_groups
        if not self.read_only & SPARSE_SUPER or group == 1:
            return True
        for base in (3, 5, 7):
            power = base
            while power < group:
                power *= base
            if power == group:
                return True
        return False

    def group_start(self, group: int) -> int:
        """Return the first block of a group.

        :param group: its number.
        """
        return self.first_data_block + group * self.blocks_per_group

    def descriptor_block(self, number: int) -> int:
        """Return where a block of the table of group descriptors is.

        :param number: of the block in the table, from 0.
        """
        if not self.incompatible & META_BG or number < self.first_meta_group:
            return SUPERBLOCK_AT // self.block + 1 + number
        group = number * (self.block // self.descriptor_size)
        start = self.group_start(group)
        # Blocks of 1 KiB with a first data block of 0: the boot block comes before the superblock.
        boot_block = 1 if group == 0 and self.block == 1024 and self.first_data_block == 0 else 0
        return start + (1 if self.has_backup(group) else 0) + boot_block


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupDescriptor:
    """A group's descriptor. Places are blocks; free blocks are clusters."""

    raw: bytes
    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    free_clusters: int
    free_inodes: int
    flags: int
    block_bitmap_checksum: int
    inode_bitmap_checksum: int
    unused_inodes: int
    checksum: int

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a descriptor of 32 bytes, or of 64 and more.

        :param data: the bytes.
        """
        block_bitmap, inode_bitmap, table, free, free_inodes, _, flags, _, block_sum, inode_sum, unused, checksum = (
            struct.unpack_from("<3I4HI4H", data)
        )
        if len(data) >= 64:
            high = struct.unpack_from("<3I4HI2H", data, 32)
            block_bitmap |= high[0] << 32
            inode_bitmap |= high[1] << 32
            table |= high[2] << 32
            free |= high[3] << 16
            free_inodes |= high[4] << 16
            unused |= high[6] << 16
            block_sum |= high[8] << 16
            inode_sum |= high[9] << 16
        return cls(
            raw=data,
            block_bitmap=block_bitmap,
            inode_bitmap=inode_bitmap,
            inode_table=table,
            free_clusters=free,
            free_inodes=free_inodes,
            flags=flags,
            block_bitmap_checksum=block_sum,
            inode_bitmap_checksum=inode_sum,
            unused_inodes=unused,
            checksum=checksum,
        )

    def computed(self, superblock: Superblock, group: int) -> int | None:
        """Return the checksum that the descriptor's bytes give; None where the file system keeps none.

        :param superblock: says how checksums are made.
        :param group: number of the group.
        """
        number = struct.pack("<I", group)
        if superblock.checksums:
            crc = ext4_crc(superblock.seed, number + self.raw[:0x1E] + bytes(2) + self.raw[0x20:])
            return crc & 0xFFFF
        if superblock.read_only & GDT_CSUM:
            return crc16(0xFFFF, superblock.uuid + number + self.raw[:0x1E] + self.raw[0x20:])
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inode:
    """An inode."""

    number: int
    mode: int
    links: int
    size: int
    flags: int
    generation: int
    block_map: bytes
    """60 bytes: block numbers, the root of an extent tree, a short link's target, or the first of a small file."""
    rest: bytes
    """What follows the first 128 bytes."""

    @classmethod
    def unpack(cls, data: bytes, number: int) -> Self:
        """Read an inode of 128 bytes or more.

        :param data: the bytes.
        :param number: the inode's number.
        """
        mode, _, size_lo = struct.unpack_from("<HHI", data)
        (links,) = struct.unpack_from("<H", data, 0x1A)
        (flags,) = struct.unpack_from("<I", data, 0x20)
        generation, _, size_hi = struct.unpack_from("<3I", data, 0x64)
        kind = mode >> 12
        return cls(
            number=number,
            mode=mode,
            links=links,
            # In the first revisions of the format the upper half was a directory's access list.
            size=size_hi << 32 | size_lo if kind in (0x8, 0x4) else size_lo,
            flags=flags,
            generation=generation,
            block_map=data[0x28:0x64],
            rest=data[128:],
        )

    @property
    def kind(self) -> NodeKind:
        """What it is."""
        return KIND_OF_MODE.get(self.mode >> 12, NodeKind.OTHER)

    def seed(self, superblock: Superblock) -> int:
        """Return with what the checksums of the inode and all that belongs to it begin.

        :param superblock: says with what all checksums begin.
        """
        return ext4_crc(superblock.seed, struct.pack("<II", self.number, self.generation))


def inode_checksums(superblock: Superblock, inode: Inode, data: bytes) -> tuple[int, int]:
    """Return the checksum that is stored in an inode, and the one that its bytes give.

    :param superblock: of a file system with checksums.
    :param inode: what was read from the bytes.
    :param data: all bytes of the inode.
    """
    (stored,) = struct.unpack_from("<H", data, 0x7C)
    zeroed = bytearray(data)
    zeroed[0x7C:0x7E] = bytes(2)
    mask = 0xFFFF
    if len(data) > 128 and struct.unpack_from("<H", data, 0x80)[0] >= 4:
        stored |= struct.unpack_from("<H", data, 0x82)[0] << 16
        zeroed[0x82:0x84] = bytes(2)
        mask = ALL
    return stored, ext4_crc(inode.seed(superblock), bytes(zeroed)) & mask
