"""Reads ext2, ext3 and ext4: inodes, block maps and extents, directories, links.

Whatever has a checksum is compared with it as it is read, and everything else with what the format allows, so that what
comes out of a read is what the file system holds. A journal that was not replayed is read as if it had been; see
:mod:`sealift.images.file_systems.ext_journal`.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final

from sealift.images.file_systems import ext_structures as ext
from sealift.images.file_systems.ext_directory import directory_entries, verify_directory_block
from sealift.images.file_systems.ext_journal import MAGIC_BYTES, Journal, read_journal
from sealift.images.file_systems.ext_map import BlockMaps
from sealift.images.file_systems.ext_structures import ExtFormatError, GroupDescriptor, Inode, Superblock
from sealift.images.file_systems.file_system import LARGEST_DIRECTORY, MOST_ENTRIES, Node, NodeKind
from sealift.images.file_systems.window import Region

ROOT_INODE: Final = 2
LONGEST_LINK: Final = 4096

_XATTR_MAGIC = 0xEA02_0000
_SYSTEM_NAMES = 7
_KEEP_INODES = 256
_KEEP_DESCRIPTORS = 1024


class ExtFileSystem:
    """One file system of the ext family.

    :param region: the partition.
    :param name: what it is called in messages.
    :raises ExtFormatError: if the superblock does not lead to the rest.
    """

    def __init__(self, region: Region, *, name: str) -> None:
        self._region = region
        self.name = name
        self.verified: Counter[str] = Counter()
        self._inodes: OrderedDict[int, Inode] = OrderedDict()
        self._descriptors: OrderedDict[int, GroupDescriptor] = OrderedDict()
        self.maps = BlockMaps(self)
        self._overlay: dict[int, int] = {}
        self.superblock = self._read_superblock(region.read_once(ext.SUPERBLOCK_AT, ext.SUPERBLOCK_SIZE))
        self.journal: Journal | None = None
        if self.superblock.incompatible & ext.RECOVER:
            self._replay()

    @property
    def type(self) -> str:
        """``ext2``, ``ext3`` or ``ext4``."""
        return self.superblock.type

    @property
    def clean(self) -> bool:
        """Whether it was unmounted, so that its counts are those of its groups."""
        return self.journal is None and bool(self.superblock.state & ext.VALID)

    def error(self, message: str, *, block: int = 0) -> ExtFormatError:
        """Return an error that names the file system.

        :param message: what was found, where, and what was expected.
        :param block: where it was found.
        """
        return ExtFormatError(f"{self.name}: {message}", offset=block * self.superblock.block)

    def _read_superblock(self, data: bytes) -> Superblock:
        superblock = Superblock.unpack(data)
        where = f"{self.name}: the superblock at byte {ext.SUPERBLOCK_AT}"
        # The checksum first: where it is wrong, what else is wrong comes from that.
        if superblock.magic == ext.MAGIC and superblock.checksums and superblock.checksum_type == 1:
            if superblock.checksum != superblock.computed:
                raise ExtFormatError(
                    f"{where} has the checksum {superblock.checksum:08x}, but its bytes give {superblock.computed:08x}",
                    offset=ext.SUPERBLOCK_AT,
                )
            self.verified["superblocks"] += 1
        if why := superblock.why_not():
            raise ExtFormatError(f"{where} is none that can be used: {why}", offset=ext.SUPERBLOCK_AT)
        if superblock.blocks * superblock.block > self._region.size:
            raise ExtFormatError(
                f"{where} says that the file system has {superblock.blocks} blocks of {superblock.block} bytes, but "
                f"{self._region.size} bytes are there",
                offset=ext.SUPERBLOCK_AT,
            )
        return superblock

    def _replay(self) -> None:
        """Look what the journal holds, and read the superblock again as it will be."""
        self.journal = read_journal(self)
        self._overlay = self.journal.blocks
        if not self._overlay:
            return
        self._inodes.clear()
        self._descriptors.clear()
        self.maps.forget()
        block, at = divmod(ext.SUPERBLOCK_AT, self.superblock.block)
        data = self.read_blocks(block, 1)
        self.superblock = self._read_superblock(data[at : at + ext.SUPERBLOCK_SIZE])

    # Blocks

    def read_blocks(self, first: int, count: int) -> bytes:
        """Return blocks as they are once the journal is replayed.

        :param first: number of the first.
        :param count: how many.
        :raises ExtFormatError: they are not all inside the file system.
        """
        size = self.superblock.block
        if first + count > self.superblock.blocks:
            raise self.error(
                f"blocks {first} to {first + count - 1} are asked for of {self.superblock.blocks}", block=first
            )
        if not self._overlay or self._overlay.keys().isdisjoint(range(first, first + count)):
            return self._region.read(first * size, count * size)
        return b"".join(self._block(number) for number in range(first, first + count))

    def read_bytes(self, block: int, at: int, length: int) -> bytes:
        """Return some bytes of a block, as :meth:`read_blocks` does.

        :param block: its number.
        :param at: first byte in it.
        :param length: number of bytes, not beyond the block.
        """
        if block >= self.superblock.blocks:
            raise self.error(f"block {block} is asked for of {self.superblock.blocks}", block=block)
        if block in self._overlay:
            return self._block(block)[at : at + length]
        return self._region.read(block * self.superblock.block + at, length)

    def _block(self, number: int) -> bytes:
        """Return one block, from the journal if that has a newer one."""
        size = self.superblock.block
        data = self._region.read(self._overlay.get(number, number) * size, size)
        if self.journal and number in self.journal.escaped:
            data = MAGIC_BYTES + data[4:]
        return data

    # Groups and inodes

    def descriptor(self, group: int) -> GroupDescriptor:
        """Return the descriptor of a group, compared with its checksum.

        :param group: its number, from 0.
        :raises ExtFormatError: it is damaged.
        """
        if group in self._descriptors:
            self._descriptors.move_to_end(group)
            return self._descriptors[group]
        superblock = self.superblock
        number, index = divmod(group, superblock.block // superblock.descriptor_size)
        block = superblock.descriptor_block(number)
        data = self.read_bytes(block, index * superblock.descriptor_size, superblock.descriptor_size)
        found = GroupDescriptor.unpack(data)
        computed = found.computed(superblock, group)
        if computed is not None and computed != found.checksum:
            raise self.error(
                f"the descriptor of block group {group} in block {block} has the checksum {found.checksum:04x}, but "
                f"its bytes give {computed:04x}",
                block=block,
            )
        table_end = found.inode_table + superblock.inodes_per_group * superblock.inode_size // superblock.block
        for what, first, end in (
            ("block bitmap", found.block_bitmap, found.block_bitmap + 1),
            ("inode bitmap", found.inode_bitmap, found.inode_bitmap + 1),
            ("inode table", found.inode_table, table_end),
        ):
            if first <= superblock.first_data_block or end > superblock.blocks:
                raise self.error(
                    f"the descriptor of block group {group} in block {block} puts the {what} at block {first} of "
                    f"{superblock.blocks}",
                    block=block,
                )
        if computed is not None:
            self.verified["group descriptors"] += 1
        self._descriptors[group] = found
        if len(self._descriptors) > _KEEP_DESCRIPTORS:
            self._descriptors.popitem(last=False)
        return found

    def inode(self, number: int) -> Inode:
        """Return an inode, compared with its checksum.

        :param number: from 1.
        :raises ExtFormatError: there is none of that number, or it is damaged.
        """
        if number in self._inodes:
            self._inodes.move_to_end(number)
            return self._inodes[number]
        superblock = self.superblock
        if not 1 <= number <= superblock.inodes:
            raise self.error(f"inode {number} is asked for of {superblock.inodes}")
        group, index = divmod(number - 1, superblock.inodes_per_group)
        skip, at = divmod(index * superblock.inode_size, superblock.block)
        block = self.descriptor(group).inode_table + skip
        data = self.read_bytes(block, at, superblock.inode_size)
        found = Inode.unpack(data, number)
        if superblock.checksums and any(data):
            stored, computed = ext.inode_checksums(superblock, found, data)
            if stored != computed:
                raise self.error(
                    f"inode {number} at byte {at} of block {block} has the checksum {stored:08x}, but its bytes give "
                    f"{computed:08x}",
                    block=block,
                )
            self.verified["inodes"] += 1
        self._inodes[number] = found
        if len(self._inodes) > _KEEP_INODES:
            self._inodes.popitem(last=False)
        return found

    # What the common protocol asks for

    def root(self) -> Node:
        """Return the root directory.

        :raises ExtFormatError: it is none.
        """
        found = self.node(ROOT_INODE)
        if found.kind is not NodeKind.DIRECTORY:
            raise self.error(f"the root, inode {ROOT_INODE}, is a {found.kind} and no directory")
        return found

    def node(self, key: int) -> Node:
        """Return a node.

        :param key: the inode's number.
        :raises ExtFormatError: it is free, or damaged.
        """
        inode = self.inode(key)
        if not inode.mode or not inode.links:
            raise self.error(f"inode {key} is in use by a directory, but it is free")
        return Node(kind=inode.kind, size=inode.size, key=key)

    def entries(self, directory: Node) -> Iterator[tuple[str, int]]:
        """Yield (name, inode number) of a directory's entries.

        :param directory: a node of that kind.
        :returns: nothing of an encrypted directory.
        :raises ExtFormatError: it is damaged.
        """
        inode = self.inode(directory.key)
        if inode.flags & ext.ENCRYPT_FLAG:
            return  # the names in it are no names without the key
        total = 0
        for number, data in self._directory_blocks(inode):
            for name, target in directory_entries(self, inode, number, data):
                total += 1
                if total > MOST_ENTRIES:
                    raise self.error(f"directory inode {inode.number} has more than {MOST_ENTRIES} entries")
                yield name, target

    def _directory_blocks(self, inode: Inode) -> Iterator[tuple[int, bytes]]:
        if inode.flags & ext.INLINE_FLAG:
            yield 0, inode.block_map[4:]  # before that is the number of the directory above
            if rest := self._inline_rest(inode):
                yield 1, rest
            return
        size = self.superblock.block
        if inode.size > LARGEST_DIRECTORY or inode.size % size or not inode.size:
            raise self.error(
                f"directory inode {inode.number} has {inode.size} bytes, expected blocks of {size}, and at most "
                f"{LARGEST_DIRECTORY}"
            )
        number = 0
        for start, count in self.maps.runs(inode, 0, inode.size // size):
            if not start:
                raise self.error(f"block {number} of directory inode {inode.number} is not there")
            for block in range(start, start + count):
                data = self.read_blocks(block, 1)
                verify_directory_block(self, inode, number, data, block)
                yield number, data
                number += 1

    def read(self, file: Node, offset: int, length: int) -> bytes:
        """Return a file's bytes.

        :param file: a node of that kind.
        :param offset: first byte, from 0.
        :param length: number of bytes; fewer come only where the file ends.
        :raises ExtFormatError: damage, or the file is encrypted.
        """
        inode = self.inode(file.key)
        if inode.flags & (ext.ENCRYPT_FLAG | ext.COMPRESSED_FLAG):
            raise self.error(f"inode {inode.number} is encrypted or compressed, which Sealift does not read")
        length = max(0, min(length, inode.size - offset))
        if not length:
            return b""
        if inode.flags & ext.INLINE_FLAG:
            data = (inode.block_map + self._inline_rest(inode))[: inode.size]
            if len(data) < inode.size:
                raise self.error(f"inode {inode.number} has {inode.size} bytes, but {len(data)} are in it")
            return data[offset : offset + length]
        size = self.superblock.block
        first, skip = divmod(offset, size)
        count = -(-(skip + length) // size)
        pieces = [
            self.read_blocks(start, taken) if start else bytes(taken * size)
            for start, taken in self.maps.runs(inode, first, count)
        ]
        return b"".join(pieces)[skip : skip + length]

    def target(self, link: Node) -> str:
        """Return where a symbolic link points.

        :param link: a node of that kind.
        :raises ExtFormatError: damage.
        """
        inode = self.inode(link.key)
        if not 0 < inode.size <= LONGEST_LINK:
            raise self.error(f"symbolic link inode {inode.number} has {inode.size} bytes")
        fast = inode.size < len(inode.block_map) and not inode.flags & (ext.EXTENTS_FLAG | ext.INLINE_FLAG)
        data = inode.block_map[: inode.size] if fast else self.read(link, 0, inode.size)
        return data.decode("utf-8", "backslashreplace")

    def _inline_rest(self, inode: Inode) -> bytes:
        """Return what of a small file or directory does not fit the block map: the attribute ``system.data``."""
        if len(inode.rest) < 4:
            return b""
        (extra,) = struct.unpack_from("<H", inode.rest)
        attributes = inode.rest[extra:]
        if len(attributes) < 4 or struct.unpack_from("<I", attributes)[0] != _XATTR_MAGIC:
            return b""
        entries = attributes[4:]
        at = 0
        while at + 16 <= len(entries) and any(entries[at : at + 4]):
            name_length, index, value_at, value_inode, value_size = struct.unpack_from("<BBHII", entries, at)
            if index == _SYSTEM_NAMES and entries[at + 16 : at + 16 + name_length] == b"data":
                if value_inode or value_at + value_size > len(entries):
                    break
                return entries[value_at : value_at + value_size]
            at += (16 + name_length + 3) & ~3
        else:
            return b""
        raise self.error(f"the attribute system.data of inode {inode.number} lies outside it")
