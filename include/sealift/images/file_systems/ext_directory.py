"""Blocks of directories of ext2, ext3 and ext4: their checksums and their entries.

Directories with a hash tree are read as the format means old software to read them: the tree's blocks look empty.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sealift.images.file_systems.checksums import ext4_crc
from sealift.images.file_systems.ext_structures import INDEX_FLAG, Inode

if TYPE_CHECKING:
    from sealift.images.file_systems.ext import ExtFileSystem

_FILETYPE: Final = 0x2
_TAIL: Final = 12
_TAIL_TYPE: Final = 0xDE
_SMALLEST_ENTRY: Final = 8


def _record_length(stored: int, block: int) -> int:
    """Return an entry's length; blocks of 64 KiB need a way to write lengths of more than 16 bits."""
    if block < 65536:
        return stored
    if stored in (65535, 0):
        return block
    return (stored & 65532) | ((stored & 3) << 16)


def verify_directory_block(file_system: ExtFileSystem, inode: Inode, number: int, data: bytes, block: int) -> None:
    """Compare a block of a directory with its checksum, where the file system keeps some.

    :param file_system: where it was read.
    :param inode: of the directory.
    :param number: of the block in the directory.
    :param data: the block.
    :param block: where it lies.
    :raises ExtFormatError: it is another, or there is no place for it.
    """
    superblock = file_system.superblock
    if not superblock.checksums:
        return
    where = f"block {number} of directory inode {inode.number}, block {block},"
    seed = inode.seed(superblock)
    if _is_tree(inode, number, data):
        parts = _tree_parts(data)
        if parts is None:
            raise file_system.error(f"{where} is no valid node of a hash tree", block=block)
        covered, tail = parts
        (stored,) = struct.unpack_from("<I", tail, 4)
        computed = ext4_crc(seed, covered + tail[:4] + bytes(4))
    else:
        inode_zero, length, name_length, kind, stored = struct.unpack("<IHBBI", data[-_TAIL:])
        if (inode_zero, length, name_length, kind) != (0, _TAIL, 0, _TAIL_TYPE):
            raise file_system.error(f"{where} does not end with a checksum", block=block)
        computed = ext4_crc(seed, data[:-_TAIL])
    if stored != computed:
        raise file_system.error(
            f"{where} has the checksum {stored:08x}, but its bytes give {computed:08x}", block=block
        )
    file_system.verified["directory blocks"] += 1


def _is_tree(inode: Inode, number: int, data: bytes) -> bool:
    if not inode.flags & INDEX_FLAG:
        return False
    first, length = struct.unpack_from("<IH", data)
    return number == 0 or (first == 0 and _record_length(length, len(data)) == len(data))


def _tree_parts(data: bytes) -> tuple[bytes, bytes] | None:
    """Return (what the checksum covers, the tail that holds it) of a node of the hash tree."""
    (length,) = struct.unpack_from("<H", data, 4)
    if _record_length(length, len(data)) == len(data):
        start = 8
    elif length == 12 and data[0x18:0x1C] == bytes(4) and data[0x1D] == 8:
        start = 32
    else:
        return None
    limit, count = struct.unpack_from("<2H", data, start)
    tail = start + limit * 8
    if not 0 < count <= limit or tail + 8 > len(data):
        return None
    return data[: start + count * 8], data[tail : tail + 8]


def directory_entries(file_system: ExtFileSystem, inode: Inode, number: int, data: bytes) -> Iterator[tuple[str, int]]:
    """Yield (name, inode number) of the entries in a block, without ``.`` and ``..``.

    :param file_system: where it was read.
    :param inode: of the directory.
    :param number: of the block in the directory.
    :param data: the block.
    :raises ExtFormatError: an entry is not what the format allows.
    """
    superblock = file_system.superblock
    long_names = not superblock.incompatible & _FILETYPE
    at = 0
    while at < len(data):
        if at + _SMALLEST_ENTRY > len(data):
            raise file_system.error(
                f"block {number} of directory inode {inode.number} ends in the middle of an entry at byte {at}"
            )
        target, stored, name_length, kind = struct.unpack_from("<IHBB", data, at)
        if long_names:
            name_length |= kind << 8
        length = _record_length(stored, superblock.block)
        if length < _SMALLEST_ENTRY or length % 4 or at + length > len(data) or name_length + 8 > length:
            raise file_system.error(
                f"block {number} of directory inode {inode.number}: the entry at byte {at} has {length} bytes and a "
                f"name of {name_length}"
            )
        name = data[at + 8 : at + 8 + name_length]
        at += length
        if not target or name in (b".", b".."):
            continue
        if not name or b"/" in name or b"\0" in name or target > superblock.inodes:
            raise file_system.error(
                f"block {number} of directory inode {inode.number}: the entry {name!r} leads to inode {target} of "
                f"{superblock.inodes}"
            )
        yield name.decode("utf-8", "backslashreplace"), target
