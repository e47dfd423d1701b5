"""Where the blocks of a file of ext2, ext3 or ext4 are: extent trees, and the older maps of blocks."""

from __future__ import annotations

import dataclasses
import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sealift.images.file_systems.checksums import ext4_crc
from sealift.images.file_systems.ext_structures import EXTENTS_FLAG, Inode

if TYPE_CHECKING:
    from sealift.images.file_systems.ext import ExtFileSystem

MOST_EXTENTS: Final = 20_000
"""Extents that one file may have."""
MOST_MAPPED: Final = 1_000_000
"""Blocks of one file whose places are looked up where a whole map is checked."""
DEEPEST_TREE: Final = 5

_MAGIC = 0xF30A
_INITIALISED = 32768
"""Longest extent with data; longer ones are allocated, and read as zeros."""
_KEEP = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """Blocks of a file that lie one after the other. ``physical`` is 0 where they read as zeros."""

    logical: int
    count: int
    physical: int


class BlockMaps:
    """The maps of one file system's files; the last ones are kept.

    :param file_system: which one.
    """

    def __init__(self, file_system: ExtFileSystem) -> None:
        self._file_system = file_system
        self._maps: OrderedDict[int, list[Extent]] = OrderedDict()

    def forget(self) -> None:
        """Forget what is kept: the file system is another now."""
        self._maps.clear()

    def extents(self, inode: Inode) -> list[Extent]:
        """Return where the blocks of a file that has an extent tree are, in order.

        :param inode: of the file.
        :raises ExtFormatError: the tree is damaged.
        """
        if inode.number in self._maps:
            self._maps.move_to_end(inode.number)
            return self._maps[inode.number]
        found: list[Extent] = []
        self._walk(inode, inode.block_map, None, None, found)
        self._maps[inode.number] = found
        if len(self._maps) > _KEEP:
            self._maps.popitem(last=False)
        return found

    def _walk(self, inode: Inode, node: bytes, block: int | None, depth: int | None, found: list[Extent]) -> None:
        """Collect the extents below a node of the tree.

        :param block: where the node is; None for the root in the inode.
        :param depth: that the node must have; None for the root.
        """
        where = f"the extent tree of inode {inode.number}" + ("" if block is None else f", block {block},")
        magic, entries, most, deep = struct.unpack_from("<4H", node)
        if magic != _MAGIC:
            raise self._file_system.error(f"{where} begins with {magic:#06x}, expected {_MAGIC:#06x}", block=block or 0)
        misplaced = deep > DEEPEST_TREE if depth is None else deep != depth
        empty = not entries and (block is not None or deep > 0)
        if misplaced or empty or entries > most or 12 + most * 12 > len(node):
            raise self._file_system.error(
                f"{where} has {entries} of {most} entries at depth {deep}"
                + ("" if depth is None else f", expected depth {depth}"),
                block=block or 0,
            )
        if block is not None and self._file_system.superblock.checksums:
            end = 12 + most * 12
            (stored,) = struct.unpack_from("<I", node, end) if end + 4 <= len(node) else (0,)
            computed = ext4_crc(inode.seed(self._file_system.superblock), node[:end])
            if stored != computed:
                raise self._file_system.error(
                    f"{where} has the checksum {stored:08x}, but its bytes give {computed:08x}", block=block
                )
            self._file_system.verified["extent blocks"] += 1
        for index in range(entries):
            at = 12 + index * 12
            if deep:
                _, low, high = struct.unpack_from("<IIH", node, at)
                child = high << 32 | low
                if not self._file_system.superblock.first_data_block < child < self._file_system.superblock.blocks:
                    raise self._file_system.error(
                        f"{where} leads to block {child} of {self._file_system.superblock.blocks}", block=block or 0
                    )
                self._walk(inode, self._file_system.read_blocks(child, 1), child, deep - 1, found)
                continue
            logical, length, high, low = struct.unpack_from("<IHHI", node, at)
            blank = length > _INITIALISED
            count = length - _INITIALISED if blank else length
            physical = high << 32 | low
            if (
                count == 0
                or physical <= self._file_system.superblock.first_data_block
                or physical + count > self._file_system.superblock.blocks
                or (found and logical < found[-1].logical + found[-1].count)
            ):
                raise self._file_system.error(
                    f"{where} puts {count} blocks from {logical} on at block {physical} of "
                    f"{self._file_system.superblock.blocks}",
                    block=block or 0,
                )
            found.append(Extent(logical=logical, count=count, physical=0 if blank else physical))
            if len(found) > MOST_EXTENTS:
                raise self._file_system.error(f"inode {inode.number} has more than {MOST_EXTENTS} extents")

    def _mapped(self, inode: Inode, logical: int) -> int:
        """Return where a block of a file with a block map is; 0 for a hole."""
        per_block = self._file_system.superblock.block // 4
        if logical < 12:
            return self._checked(inode, struct.unpack_from("<I", inode.block_map, logical * 4)[0])
        rest = logical - 12
        for level in (1, 2, 3):
            span = per_block**level
            if rest < span:
                break
            rest -= span
        else:
            raise self._file_system.error(
                f"inode {inode.number} has no block {logical}: a block map does not reach so far"
            )
        block = self._checked(inode, struct.unpack_from("<I", inode.block_map, (11 + level) * 4)[0])
        while block and level:
            level -= 1
            index, rest = divmod(rest, per_block**level)
            block = self._checked(inode, struct.unpack("<I", self._file_system.read_bytes(block, index * 4, 4))[0])
        return block

    def _checked(self, inode: Inode, block: int) -> int:
        if block and not self._file_system.superblock.first_data_block < block < self._file_system.superblock.blocks:
            raise self._file_system.error(
                f"the block map of inode {inode.number} leads to block {block} of {self._file_system.superblock.blocks}"
            )
        return block

    def runs(self, inode: Inode, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield (first block, how many) of some blocks of a file, in order; block 0 stands for zeros.

        :param inode: of the file.
        :param first: number of the first block in the file.
        :param count: how many.
        :raises ExtFormatError: the map or tree is damaged.
        """
        end = first + count
        if inode.flags & EXTENTS_FLAG:
            for extent in self.extents(inode):
                if extent.logical + extent.count <= first:
                    continue
                if extent.logical >= end or first >= end:
                    break
                if extent.logical > first:
                    yield 0, extent.logical - first
                    first = extent.logical
                skip = first - extent.logical
                take = min(extent.count - skip, end - first)
                yield (extent.physical + skip if extent.physical else 0), take
                first += take
            if first < end:
                yield 0, end - first
            return
        start, length = 0, 0
        for logical in range(first, end):
            block = self._mapped(inode, logical)
            if length and block == (start + length if start else 0):
                length += 1
                continue
            if length:
                yield start, length
            start, length = block, 1
        if length:
            yield start, length

    def check(self, inode: Inode) -> None:
        """Read where all blocks of a file are.

        :param inode: of the file.
        :raises ExtFormatError: its map or tree is damaged.
        """
        if inode.flags & EXTENTS_FLAG:
            self.extents(inode)
            return
        blocks = -(-inode.size // self._file_system.superblock.block)
        for _ in self.runs(inode, 0, min(blocks, MOST_MAPPED)):
            pass
