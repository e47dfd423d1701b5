"""The structures of XFS, versions 4 and 5, with their checksums: superblock, headers of allocation groups, inodes.

After the kernel's own description of the format (XFS Algorithms & Data Structures; fs/xfs/libxfs/xfs_format.h). Numbers
are big-endian, but for checksums, which are little-endian.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final, Self
from uuid import UUID

from sealift.images.file_systems.checksums import xfs_crc
from sealift.images.file_systems.file_system import KIND_OF_MODE, NodeKind
from sealift.images.source import ImageFormatError

MAGIC: Final = b"XFSB"
SUPERBLOCK_SIZE: Final = 512
"""Bytes of a superblock that are read; it has no more fields in any version that is read here."""
FILETYPE, META_UUID, NEEDS_REPAIR = 0x1, 0x4, 0x10
"""Incompatible features that matter here."""
LOCAL, EXTENTS, BTREE = 1, 2, 3
"""Formats of a fork."""

_INCOMPATIBLE_NAMES: Final = {
    0x1: "ftype",
    0x2: "sparse inodes",
    0x4: "meta uuid",
    0x8: "bigtime",
    0x10: "needs repair",
    0x20: "nrext64",
    0x40: "exchange range",
    0x80: "parent pointers",
    0x100: "metadata directory",
    0x200: "zoned",
}
_READABLE: Final = 0xFF
_CRC_AT, _AGF_CRC_AT, _AGI_CRC_AT, _INODE_CRC_AT = 224, 216, 312, 100
_MORE_BITS, _LAZY_COUNTS, _V4_FILETYPE, _DIRECTORIES_2 = 0x8000, 0x2, 0x200, 0x2000
_NREXT64 = 0x10
_REALTIME = 1


class XfsFormatError(ImageFormatError):
    """Bytes are not what the format of XFS demands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Superblock:
    """A superblock. Sizes are blocks where nothing else is said."""

    raw: bytes
    magic: bytes
    block: int
    blocks: int
    uuid: bytes
    log_start: int
    root: int
    group_blocks: int
    groups: int
    log_blocks: int
    version: int
    version_bits: int
    sector: int
    inode_size: int
    inodes_per_block: int
    label: str
    block_log: int
    sector_log: int
    inode_log: int
    inodes_per_block_log: int
    group_log: int
    in_progress: int
    inodes: int
    free_inodes: int
    free_blocks: int
    directory_log: int
    features_2: int
    read_only: int
    incompatible: int
    checksum: int
    meta_uuid: bytes

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the first bytes of an allocation group.

        :param data: the bytes.
        """
        block, blocks = struct.unpack_from(">IQ", data, 4)
        log_start, root = struct.unpack_from(">QQ", data, 48)
        group_blocks, groups, _, log_blocks, version, sector, inode_size, inodes_per_block = struct.unpack_from(
            ">4I4H", data, 84
        )
        logs = struct.unpack_from(">6B", data, 120)
        inodes, free_inodes, free_blocks = struct.unpack_from(">3Q", data, 128)
        (features_2,) = struct.unpack_from(">I", data, 200)
        read_only, incompatible = struct.unpack_from(">II", data, 212) if version & 0xF == 5 else (0, 0)
        uuid = data[32:48]
        return cls(
            raw=data,
            magic=data[:4],
            block=block,
            blocks=blocks,
            uuid=uuid,
            log_start=log_start,
            root=root,
            group_blocks=group_blocks,
            groups=groups,
            log_blocks=log_blocks,
            version=version & 0xF,
            version_bits=version,
            sector=sector,
            inode_size=inode_size,
            inodes_per_block=inodes_per_block,
            label=data[108:120].split(b"\0", 1)[0].decode("utf-8", "backslashreplace"),
            block_log=logs[0],
            sector_log=logs[1],
            inode_log=logs[2],
            inodes_per_block_log=logs[3],
            group_log=logs[4],
            in_progress=data[126],
            inodes=inodes,
            free_inodes=free_inodes,
            free_blocks=free_blocks,
            directory_log=data[192],
            features_2=features_2 if version & _MORE_BITS else 0,
            read_only=read_only,
            incompatible=incompatible,
            checksum=struct.unpack_from("<I", data, _CRC_AT)[0],
            meta_uuid=data[248:264] if incompatible & META_UUID else uuid,
        )

    @property
    def checksums(self) -> bool:
        """Whether all metadata carry a CRC-32C."""
        return self.version == 5

    @property
    def has_types(self) -> bool:
        """Whether a directory's entries have a byte for the type."""
        if self.checksums:
            return bool(self.incompatible & FILETYPE)
        return bool(self.features_2 & _V4_FILETYPE)

    @property
    def lazy_counts(self) -> bool:
        """Whether the counts are made of the groups' at each unmount."""
        return self.checksums or bool(self.features_2 & _LAZY_COUNTS)

    @property
    def directory_block(self) -> int:
        """Bytes of a block of a directory."""
        return self.block << self.directory_log

    @property
    def uuid_text(self) -> str:
        """The UUID as fstab has it."""
        return str(UUID(bytes=self.uuid))

    def computed(self, data: bytes) -> int:
        """Return the checksum that the bytes of the superblock's sector give.

        :param data: the bytes.
        """
        return xfs_crc(data, _CRC_AT)

    def group_length(self, group: int) -> int:
        """Return how many blocks a group has; the last one may have fewer.

        :param group: its number.
        """
        return min(self.group_blocks, self.blocks - group * self.group_blocks)

    def why_not(self) -> str:
        """Say why the superblock cannot be used to read the file system; empty if it can."""
        if self.magic != MAGIC:
            return f"it begins with {self.magic.hex(' ')}, expected {MAGIC.hex(' ')} (XFSB)"
        if self.version not in (4, 5):
            return f"version {self.version}, expected 4 or 5"
        if self.incompatible & ~_READABLE:
            bits = [1 << bit for bit in range(32) if (self.incompatible & ~_READABLE) >> bit & 1]
            names = ", ".join(_INCOMPATIBLE_NAMES.get(bit, f"{bit:#x} (unknown)") for bit in bits)
            return f"it needs features that Sealift does not read: {names}"
        wrong = (
            (
                not 9 <= self.block_log <= 16 or self.block != 1 << self.block_log,
                f"blocks of {self.block} bytes (2^{self.block_log})",
            ),
            (
                not 9 <= self.sector_log <= 15 or self.sector != 1 << self.sector_log or self.sector > self.block,
                f"sectors of {self.sector} bytes (2^{self.sector_log})",
            ),
            (
                not 8 <= self.inode_log <= 11 or self.inode_size != 1 << self.inode_log,
                f"inodes of {self.inode_size} bytes (2^{self.inode_log})",
            ),
            (
                self.inodes_per_block_log != self.block_log - self.inode_log
                or self.inodes_per_block << self.inode_log != self.block,
                f"{self.inodes_per_block} inodes in a block (2^{self.inodes_per_block_log})",
            ),
            (
                self.group_blocks < 64 or self.group_log > 31 or not self.group_blocks <= 1 << self.group_log,
                f"groups of {self.group_blocks} blocks (2^{self.group_log})",
            ),
            (
                self.directory_log > 7 or self.block_log + self.directory_log > 16,
                f"2^{self.directory_log} blocks in one of a directory",
            ),
            (
                self.groups == 0
                or not (self.groups - 1) * self.group_blocks < self.blocks <= self.groups * self.group_blocks,
                f"{self.blocks} blocks in {self.groups} groups of {self.group_blocks}",
            ),
            (self.version == 4 and not self.version_bits & _DIRECTORIES_2, "directories of version 1"),
            (bool(self.in_progress), "it was still being made"),
        )
        return next((words for is_wrong, words in wrong if is_wrong), "")

    # Places

    def block_place(self, number: int) -> int | None:
        """Return the first byte of a block by its number, which has the group in its upper bits.

        :param number: as extents have it.
        :returns: None where there is no such block.
        """
        group, block = number >> self.group_log, number & ((1 << self.group_log) - 1)
        if group >= self.groups or block >= self.group_length(group):
            return None
        return (group * self.group_blocks + block) * self.block

    def inode_place(self, number: int) -> int | None:
        """Return the first byte of an inode.

        :param number: of the inode.
        :returns: None where there can be no such inode.
        """
        place = self.block_place(number >> self.inodes_per_block_log)
        if place is None or number < 0:
            return None
        return place + (number & (self.inodes_per_block - 1)) * self.inode_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreeSpace:
    """The header of an allocation group's free space (AGF)."""

    magic: bytes
    version: int
    number: int
    length: int
    list_blocks: int
    free: int
    longest: int
    tree_blocks: int
    uuid: bytes
    checksum: int

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the second sector of an allocation group.

        :param data: the bytes.
        """
        version, number, length = struct.unpack_from(">3I", data, 4)
        list_blocks, free, longest, tree_blocks = struct.unpack_from(">4I", data, 48)
        return cls(
            magic=data[:4],
            version=version,
            number=number,
            length=length,
            list_blocks=list_blocks,
            free=free,
            longest=longest,
            tree_blocks=tree_blocks,
            uuid=data[64:80],
            checksum=struct.unpack_from("<I", data, _AGF_CRC_AT)[0],
        )

    @staticmethod
    def computed(data: bytes) -> int:
        """Return the checksum that the sector's bytes give.

        :param data: the bytes.
        """
        return xfs_crc(data, _AGF_CRC_AT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InodeSpace:
    """The header of an allocation group's inodes (AGI)."""

    magic: bytes
    version: int
    number: int
    length: int
    count: int
    free: int
    uuid: bytes
    checksum: int

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the third sector of an allocation group.

        :param data: the bytes.
        """
        version, number, length, count = struct.unpack_from(">4I", data, 4)
        return cls(
            magic=data[:4],
            version=version,
            number=number,
            length=length,
            count=count,
            free=struct.unpack_from(">I", data, 28)[0],
            uuid=data[296:312],
            checksum=struct.unpack_from("<I", data, _AGI_CRC_AT)[0],
        )

    @staticmethod
    def computed(data: bytes) -> int:
        """Return the checksum that the sector's bytes give.

        :param data: the bytes.
        """
        return xfs_crc(data, _AGI_CRC_AT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inode:
    """An inode of version 1, 2 or 3."""

    raw: bytes
    number: int
    magic: bytes
    version: int
    mode: int
    format: int
    links: int
    size: int
    extents: int
    fork_at: int
    fork_end: int
    real_time: bool
    checksum: int
    own_number: int
    uuid: bytes

    @classmethod
    def unpack(cls, data: bytes, number: int) -> Self:
        """Read an inode.

        :param data: all its bytes.
        :param number: under which it was looked up.
        """
        magic, mode, version, format_, old_links = struct.unpack_from(">2sHBBH", data)
        (links,) = struct.unpack_from(">I", data, 16)
        size, _, _, extents = struct.unpack_from(">QQII", data, 56)
        fork_offset = data[82]
        (flags,) = struct.unpack_from(">H", data, 90)
        own_number, uuid, flags_2 = 0, b"", 0
        start = 100
        if version == 3:
            start = 176
            (flags_2,) = struct.unpack_from(">Q", data, 120)
            (own_number,) = struct.unpack_from(">Q", data, 152)
            uuid = data[160:176]
        if flags_2 & _NREXT64:
            (extents,) = struct.unpack_from(">Q", data, 24)
        return cls(
            raw=data,
            number=number,
            magic=magic,
            version=version,
            mode=mode,
            format=format_,
            links=old_links if version == 1 else links,
            size=size,
            extents=extents,
            fork_at=start,
            fork_end=min(start + fork_offset * 8, len(data)) if fork_offset else len(data),
            real_time=bool(flags & _REALTIME),
            checksum=struct.unpack_from("<I", data, _INODE_CRC_AT)[0],
            own_number=own_number,
            uuid=uuid,
        )

    @property
    def computed(self) -> int:
        """The checksum that the bytes of an inode of version 3 give."""
        return xfs_crc(self.raw, _INODE_CRC_AT)

    @property
    def kind(self) -> NodeKind:
        """What it is."""
        return KIND_OF_MODE.get(self.mode >> 12, NodeKind.OTHER)

    @property
    def fork(self) -> bytes:
        """The bytes of the data fork."""
        return self.raw[self.fork_at : self.fork_end]
