"""Reads XFS, versions 4 and 5: inodes, extents, directories, links.

Whatever has a checksum is compared with it as it is read, with the place and the owner that it names for itself, and
everything else with what the format allows.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final

from sealift.images.file_systems import xfs_structures as xfs
from sealift.images.file_systems.checksums import xfs_crc
from sealift.images.file_systems.file_system import LARGEST_DIRECTORY, MOST_ENTRIES, Node, NodeKind
from sealift.images.file_systems.window import Region
from sealift.images.file_systems.xfs_directory import DATA_SPACE, block_entries, short_entries
from sealift.images.file_systems.xfs_structures import Inode, Superblock, XfsFormatError

MOST_EXTENTS: Final = 20_000
"""Extents that one file may have."""
DEEPEST_TREE: Final = 9
LONGEST_LINK: Final = 1024

_TREE_MAGIC_4, _TREE_MAGIC_5 = b"BMAP", b"BMA3"
_LINK_MAGIC = b"XSLM"
_LINK_HEADER = 56
_KEEP_INODES = 256
_KEEP_MAPS = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """Blocks of a file that lie one after the other.

    :param place: first byte in the file system; None where they read as zeros.
    """

    logical: int
    count: int
    place: int | None


class XfsFileSystem:
    """One XFS file system.

    :param region: the partition.
    :param name: what it is called in messages.
    :raises XfsFormatError: if the superblock does not lead to the rest.
    """

    type = "xfs"

    def __init__(self, region: Region, *, name: str) -> None:
        self._region = region
        self.name = name
        self.verified: Counter[str] = Counter()
        self.log_pending = False
        """The log holds what is not in its place yet: that can be why something is not as it should be."""
        self._inodes: OrderedDict[int, Inode] = OrderedDict()
        self._maps: OrderedDict[int, list[Extent]] = OrderedDict()
        superblock = Superblock.unpack(region.read(0, xfs.SUPERBLOCK_SIZE))
        # The checksum first: where it is wrong, what else is wrong comes from that.
        if superblock.magic == xfs.MAGIC and superblock.checksums and superblock.sector in (512, 1024, 2048, 4096):
            self._verify_superblock(superblock)
        if why := superblock.why_not():
            raise XfsFormatError(f"{name}: the superblock at byte 0 is none that can be used: {why}", offset=0)
        if superblock.blocks * superblock.block > region.size:
            raise XfsFormatError(
                f"{name}: the superblock at byte 0 says that the file system has {superblock.blocks} blocks of "
                f"{superblock.block} bytes, but {region.size} bytes are there",
                offset=0,
            )
        self.superblock = superblock

    def _verify_superblock(self, superblock: Superblock) -> None:
        computed = superblock.computed(self._region.read(0, superblock.sector))
        if computed != superblock.checksum:
            raise XfsFormatError(
                f"{self.name}: the superblock at byte 0 has the checksum {superblock.checksum:08x}, but its bytes give "
                f"{computed:08x}",
                offset=0,
            )
        self.verified["superblocks"] += 1

    def error(self, message: str, *, at: int = 0) -> XfsFormatError:
        """Return an error that names the file system.

        :param message: what was found, where, and what was expected.
        :param at: byte of the file system where it was found.
        """
        hint = "; its log was not replayed, which may put that right" if self.log_pending else ""
        return XfsFormatError(f"{self.name}: {message}{hint}", offset=at)

    @property
    def region(self) -> Region:
        """Where it lies."""
        return self._region

    # Inodes

    def inode(self, number: int) -> Inode:
        """Return an inode, compared with its checksum.

        :param number: of the inode.
        :raises XfsFormatError: there is none of that number, or it is damaged.
        """
        if number in self._inodes:
            self._inodes.move_to_end(number)
            return self._inodes[number]
        at = self.superblock.inode_place(number)
        if at is None:
            raise self.error(f"inode {number} is asked for, which cannot be there")
        found = Inode.unpack(self._region.read(at, self.superblock.inode_size), number)
        where = f"inode {number} at byte {at}"
        if found.magic != b"IN" or found.version not in ((3,) if self.superblock.checksums else (1, 2)):
            raise self.error(f"{where} begins with {found.magic!r} and version {found.version}, expected b'IN'", at=at)
        if self.superblock.checksums:
            computed = found.computed
            if computed != found.checksum:
                raise self.error(
                    f"{where} has the checksum {found.checksum:08x}, but its bytes give {computed:08x}", at=at
                )
            if found.own_number != number or found.uuid != self.superblock.meta_uuid:
                raise self.error(
                    f"{where} says that it is inode {found.own_number} of {found.uuid.hex()}: it is another's", at=at
                )
            self.verified["inodes"] += 1
        self._inodes[number] = found
        if len(self._inodes) > _KEEP_INODES:
            self._inodes.popitem(last=False)
        return found

    # Where a file's blocks are

    def extents(self, inode: Inode) -> list[Extent]:
        """Return where the blocks of a file are, in order.

        :param inode: of the file, with a fork of extents or a tree of them.
        :raises XfsFormatError: they are damaged.
        """
        if inode.number in self._maps:
            self._maps.move_to_end(inode.number)
            return self._maps[inode.number]
        found: list[Extent] = []
        where = f"the extents of inode {inode.number}"
        if inode.format == xfs.EXTENTS:
            self._collect(where, inode.fork, 0, inode.extents, found)
        elif inode.format == xfs.BTREE:
            level, entries = struct.unpack_from(">HH", inode.fork)
            most = (len(inode.fork) - 4) // 16
            if not 0 < level <= DEEPEST_TREE or not 0 < entries <= most:
                raise self.error(f"{where} begin with {entries} of {most} entries at level {level}")
            for index in range(entries):
                (child,) = struct.unpack_from(">Q", inode.fork, 4 + most * 8 + index * 8)
                self._walk(inode, child, level - 1, found)
        else:
            raise self.error(f"{where} are in format {inode.format}, which is no list of them")
        if len(found) != inode.extents:
            raise self.error(f"{where}: {len(found)} were found of {inode.extents}")
        self._maps[inode.number] = found
        if len(self._maps) > _KEEP_MAPS:
            self._maps.popitem(last=False)
        return found

    def _walk(self, inode: Inode, number: int, level: int, found: list[Extent]) -> None:
        """Collect the extents below a block of the tree."""
        superblock = self.superblock
        at = superblock.block_place(number)
        if at is None:
            raise self.error(f"the extents of inode {inode.number} lead to block {number:#x}, which is not there")
        where = f"the extents of inode {inode.number}, block at byte {at},"
        data = self._region.read(at, superblock.block)
        magic, found_level, entries = struct.unpack_from(">4sHH", data)
        expected = _TREE_MAGIC_5 if superblock.checksums else _TREE_MAGIC_4
        header = 72 if superblock.checksums else 24
        most = (len(data) - header) // 16
        if magic != expected or found_level != level or not 0 < entries <= most:
            raise self.error(
                f"{where} begin with {magic!r}, level {found_level} and {entries} of {most} entries, expected "
                f"{expected!r} and level {level}",
                at=at,
            )
        if superblock.checksums:
            self.verify(where, data, at, checksum_at=64, owner=inode.number, places=(24, 56, 40))
        if level == 0:
            self._collect(where, data, header, entries, found)
            return
        for index in range(entries):
            (child,) = struct.unpack_from(">Q", data, header + most * 8 + index * 8)
            self._walk(inode, child, level - 1, found)

    def verify(
        self, where: str, data: bytes, at: int, *, checksum_at: int, owner: int, places: tuple[int, int, int]
    ) -> None:
        """Compare a block of version 5 with its checksum and with the place, owner and file system that it names.

        :param where: what it is, in words.
        :param data: the block.
        :param at: its first byte in the file system.
        :param checksum_at: place of the checksum in it.
        :param owner: inode that it belongs to.
        :param places: of its own place, its owner and the file system's UUID in it.
        :raises XfsFormatError: something differs.
        """
        (stored,) = struct.unpack_from("<I", data, checksum_at)
        computed = xfs_crc(data, checksum_at)
        if stored != computed:
            raise self.error(f"{where} has the checksum {stored:08x}, but its bytes give {computed:08x}", at=at)
        own_place, own_owner = (struct.unpack_from(">Q", data, place)[0] for place in places[:2])
        uuid = data[places[2] : places[2] + 16]
        if own_place * 512 != at or own_owner != owner or uuid != self.superblock.meta_uuid:
            raise self.error(
                f"{where} says that it is at byte {own_place * 512} and of inode {own_owner} of {uuid.hex()}: it is "
                "another's",
                at=at,
            )
        self.verified["blocks"] += 1

    def _collect(self, where: str, data: bytes, start: int, count: int, found: list[Extent]) -> None:
        """Append extents from their records."""
        if start + count * 16 > len(data):
            raise self.error(f"{where}: {count} of them do not fit {len(data) - start} bytes")
        superblock = self.superblock
        for index in range(count):
            high, low = struct.unpack_from(">QQ", data, start + index * 16)
            blank = bool(high >> 63)
            logical = (high & ((1 << 63) - 1)) >> 9
            number = (high & 0x1FF) << 43 | low >> 21
            length = low & 0x1FFFFF
            place = superblock.block_place(number)
            last = superblock.block_place(number + length - 1) if length else None
            if (
                place is None
                or last is None
                or last - place != (length - 1) * superblock.block
                or (found and logical < found[-1].logical + found[-1].count)
            ):
                raise self.error(f"{where}: {length} blocks from {logical} on are put at block {number:#x}")
            found.append(Extent(logical=logical, count=length, place=None if blank else place))
            if len(found) > MOST_EXTENTS:
                raise self.error(f"{where}: there are more than {MOST_EXTENTS}")

    # What the common protocol asks for

    def root(self) -> Node:
        """Return the root directory.

        :raises XfsFormatError: it is none.
        """
        found = self.node(self.superblock.root)
        if found.kind is not NodeKind.DIRECTORY:
            raise self.error(f"the root, inode {self.superblock.root}, is a {found.kind} and no directory")
        return found

    def node(self, key: int) -> Node:
        """Return a node.

        :param key: the inode's number.
        :raises XfsFormatError: it is free, or damaged.
        """
        inode = self.inode(key)
        if not inode.mode or not inode.links:
            raise self.error(f"inode {key} is in use by a directory, but it is free")
        return Node(kind=inode.kind, size=inode.size, key=key)

    def entries(self, directory: Node) -> Iterator[tuple[str, int]]:
        """Yield (name, inode number) of a directory's entries.

        :param directory: a node of that kind.
        :raises XfsFormatError: it is damaged.
        """
        inode = self.inode(directory.key)
        for total, (name, number) in enumerate(self._all_entries(inode)):
            if total >= MOST_ENTRIES:
                raise self.error(f"directory inode {inode.number} has more than {MOST_ENTRIES} entries")
            yield name, number

    def _all_entries(self, inode: Inode) -> Iterator[tuple[str, int]]:
        if inode.format == xfs.LOCAL:
            if inode.size > len(inode.fork):
                raise self.error(f"directory inode {inode.number} has {inode.size} bytes, more than fit the inode")
            yield from short_entries(self, inode, inode.fork[: inode.size])
            return
        size = self.superblock.directory_block
        if inode.size > LARGEST_DIRECTORY:
            raise self.error(
                f"directory inode {inode.number} has {inode.size} bytes, more than the {LARGEST_DIRECTORY} that are "
                "read"
            )
        per_block = 1 << self.superblock.directory_log
        end = DATA_SPACE // self.superblock.block
        pieces: list[bytes] = []
        start = 0
        # A block of a directory may be pieced together of several extents.
        for extent in self.extents(inode):
            if extent.logical >= end:
                break  # from here on the hashes, by which names are found
            if extent.place is None or len(pieces) != extent.logical % per_block:
                raise self.error(f"block {extent.logical} of directory inode {inode.number} is not there")
            for index in range(extent.count):
                at = extent.place + index * self.superblock.block
                if not pieces:
                    start = at
                pieces.append(self._region.read(at, self.superblock.block))
                if len(pieces) == per_block:
                    data = b"".join(pieces)
                    pieces = []
                    logical = extent.logical + index + 1 - per_block
                    if (logical + per_block) * self.superblock.block > max(inode.size, size):
                        raise self.error(f"directory inode {inode.number} has blocks beyond its {inode.size} bytes")
                    yield from block_entries(self, inode, data, start)
        if pieces:
            raise self.error(f"the last block of directory inode {inode.number} is not whole")

    def read(self, file: Node, offset: int, length: int) -> bytes:
        """Return a file's bytes.

        :param file: a node of that kind.
        :param offset: first byte, from 0.
        :param length: number of bytes; fewer come only where the file ends.
        :raises XfsFormatError: damage, or the file lies on a real-time device.
        """
        inode = self.inode(file.key)
        if inode.real_time:
            raise self.error(f"inode {inode.number} lies on a real-time device, which Sealift does not read")
        length = max(0, min(length, inode.size - offset))
        if not length:
            return b""
        if inode.format == xfs.LOCAL:
            if inode.size > len(inode.fork):
                raise self.error(f"inode {inode.number} has {inode.size} bytes, more than fit it")
            return inode.fork[offset : offset + length]
        pieces: list[bytes] = []
        at, end = offset, offset + length
        block = self.superblock.block
        for extent in self.extents(inode):
            first, last = extent.logical * block, (extent.logical + extent.count) * block
            if last <= at:
                continue
            if first >= end:
                break
            if first > at:
                pieces.append(bytes(first - at))
                at = first
            take = min(last, end) - at
            pieces.append(bytes(take) if extent.place is None else self._region.read(extent.place + at - first, take))
            at += take
        pieces.append(bytes(end - at))
        return b"".join(pieces)

    def target(self, link: Node) -> str:
        """Return where a symbolic link points.

        :param link: a node of that kind.
        :raises XfsFormatError: damage.
        """
        inode = self.inode(link.key)
        if not 0 < inode.size <= LONGEST_LINK:
            raise self.error(f"symbolic link inode {inode.number} has {inode.size} bytes")
        if inode.format == xfs.LOCAL or not self.superblock.checksums:
            return self.read(link, 0, inode.size).decode("utf-8", "backslashreplace")
        found = b""
        for extent in self.extents(inode):
            if len(found) >= inode.size or extent.place is None:
                break
            where = f"symbolic link inode {inode.number}, block at byte {extent.place},"
            if extent.count > LONGEST_LINK:
                raise self.error(f"{where} has {extent.count} blocks", at=extent.place)
            data = self._region.read(extent.place, extent.count * self.superblock.block)
            magic, place, length = struct.unpack_from(">4sII", data)
            if magic != _LINK_MAGIC or place != len(found) or length > len(data) - _LINK_HEADER:
                raise self.error(f"{where} begins with {magic!r} for {length} bytes from {place} on", at=extent.place)
            self.verify(where, data, extent.place, checksum_at=12, owner=inode.number, places=(40, 32, 16))
            found += data[_LINK_HEADER : _LINK_HEADER + length]
        if len(found) != inode.size:
            raise self.error(f"symbolic link inode {inode.number} has {inode.size} bytes, but {len(found)} were found")
        return found.decode("utf-8", "backslashreplace")
