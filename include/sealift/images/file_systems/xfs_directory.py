"""Directories of XFS: short ones inside the inode, and blocks of entries. Hashes, by which names are found, are not
read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sealift.images.file_systems.xfs_structures import Inode

if TYPE_CHECKING:
    from sealift.images.file_systems.xfs import XfsFileSystem

DATA_SPACE: Final = 1 << 35
"""Bytes of a directory's address space in which the entries are; hashes and free space come after it."""

_BLOCK_4, _DATA_4, _BLOCK_5, _DATA_5 = b"XD2B", b"XD2D", b"XDB3", b"XDD3"
_FREE = 0xFFFF


def _name(file_system: XfsFileSystem, inode: Inode, name: bytes, number: int) -> str:
    if not name or b"/" in name or b"\0" in name or file_system.superblock.inode_place(number) is None:
        raise file_system.error(f"directory inode {inode.number}: the entry {name!r} leads to inode {number}")
    return name.decode("utf-8", "backslashreplace")


def short_entries(file_system: XfsFileSystem, inode: Inode, data: bytes) -> Iterator[tuple[str, int]]:
    """Yield (name, inode number) of a directory that fits its inode.

    :param file_system: where it was read.
    :param inode: of the directory.
    :param data: the directory.
    :raises XfsFormatError: it is not what the format allows.
    """
    where = f"directory inode {inode.number}"
    if len(data) < 6:
        raise file_system.error(f"{where} has {len(data)} bytes, expected at least 6")
    count, wide = data[0], data[1]
    width = 8 if wide else 4
    # The second number counts the entries that need eight bytes; where it is not 0, all have eight.
    at = 2 + width
    for _ in range(count):
        length = data[at] if at < len(data) else 0
        number_at = at + 3 + length + (1 if file_system.superblock.has_types else 0)
        if number_at + width > len(data):
            raise file_system.error(f"{where} ends in the middle of an entry at byte {at}")
        name = data[at + 3 : at + 3 + length]
        number = int.from_bytes(data[number_at : number_at + width], "big")
        yield _name(file_system, inode, name, number), number
        at = number_at + width
    if at != len(data):
        raise file_system.error(f"{where} has {len(data)} bytes, but its {count} entries end at byte {at}")


def block_entries(file_system: XfsFileSystem, inode: Inode, data: bytes, at: int) -> Iterator[tuple[str, int]]:
    """Yield (name, inode number) of a block of a directory, without ``.`` and ``..``.

    :param file_system: where it was read.
    :param inode: of the directory.
    :param data: the block.
    :param at: its first byte in the file system.
    :raises XfsFormatError: it is damaged.
    """
    superblock = file_system.superblock
    where = f"directory inode {inode.number}, block at byte {at},"
    magic = data[:4]
    known = (_BLOCK_5, _DATA_5) if superblock.checksums else (_BLOCK_4, _DATA_4)
    if magic not in known:
        raise file_system.error(f"{where} begins with {magic!r}, expected {known[0]!r} or {known[1]!r}", at=at)
    if superblock.checksums:
        file_system.verify(where, data, at, checksum_at=4, owner=inode.number, places=(8, 40, 24))
    end, hashes = len(data), 0
    if magic in (_BLOCK_4, _BLOCK_5):
        (hashes,) = struct.unpack_from(">I", data, end - 8)
        end -= 8 + hashes * 8
    place = 64 if superblock.checksums else 16
    if end < place:
        raise file_system.error(f"{where} has {hashes} hashes, which do not fit", at=at)
    types = 1 if superblock.has_types else 0
    while place < end:
        tag, length = struct.unpack_from(">HH", data, place)
        if tag == _FREE:
            if length < 8 or length % 8 or place + length > end:
                raise file_system.error(f"{where} has {length} free bytes at {place}", at=at)
            place += length
            continue
        if place + 12 > end:
            raise file_system.error(f"{where} ends in the middle of an entry at {place}", at=at)
        number, name_length = struct.unpack_from(">QB", data, place)
        size = (8 + 1 + name_length + types + 2 + 7) & ~7
        if not name_length or place + size > end:
            raise file_system.error(f"{where} has an entry with a name of {name_length} bytes at {place}", at=at)
        (tag,) = struct.unpack_from(">H", data, place + size - 2)
        if tag != place:
            raise file_system.error(f"{where} has an entry at {place} that says it is at {tag}", at=at)
        name = data[place + 9 : place + 9 + name_length]
        place += size
        if name not in (b".", b".."):
            yield _name(file_system, inode, name, number), number
