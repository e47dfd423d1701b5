"""Reads what the journal of ext3 and ext4 holds that was not written to its place yet.

A server that was not shut down leaves such a journal behind, and the kernel replays it at the next mount. Only with it
the file system is consistent, so that it is read as it will be: blocks that the journal has are read there. After the
Linux kernel's description (Documentation/filesystems/ext4/journal.rst). Its numbers are big-endian.
"""

from __future__ import annotations

import bisect
import dataclasses
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sealift.images.file_systems.checksums import ext4_crc

if TYPE_CHECKING:
    from sealift.images.file_systems.ext import ExtFileSystem

MOST_BLOCKS: Final = 150_000
"""Blocks of a journal that are kept in mind. One of 128 MiB, which is common, has 32,768."""

_MAGIC = 0xC03B_3998
_DESCRIPTOR, _COMMIT, _SUPERBLOCK_1, _SUPERBLOCK_2, _REVOKE = 1, 2, 3, 4, 5
_BITS_64, _CSUM_2, _CSUM_3, _FAST_COMMIT = 0x2, 0x8, 0x10, 0x20
_KNOWN = 0x1 | _BITS_64 | 0x4 | _CSUM_2 | _CSUM_3 | _FAST_COMMIT
_ESCAPED, _SAME_UUID, _LAST_TAG = 1, 2, 8
_FAST_COMMIT_BLOCKS = 256
_ALL = 0xFFFF_FFFF
_PLACE = (1 << 40) - 1
"""Bits of a block's place, where it is kept together with the transaction that wrote it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Journal:
    """What a journal holds.

    :param blocks: for each block that is newer in the journal, the block of the disk that holds it there.
    :param escaped: those of them whose first four bytes are the journal's magic number, and zeros in the journal.
    :param transactions: how many are to be replayed.
    :param unread: what of it is not read, in words; empty if all is.
    """

    blocks: dict[int, int]
    escaped: frozenset[int]
    transactions: int
    unread: str = ""


MAGIC_BYTES: Final = struct.pack(">I", _MAGIC)


def read_journal(file_system: ExtFileSystem) -> Journal:
    """Read the journal of a file system that needs it replayed.

    :param file_system: whose blocks are read as they lie.
    :returns: what it holds.
    :raises ExtFormatError: it is damaged, so that nothing can be replayed.
    """
    if not file_system.superblock.journal_inode:
        return Journal(blocks={}, escaped=frozenset(), transactions=0, unread="its journal is on another device")
    return _JournalReader(file_system).read()


def check_journal_superblock(file_system: ExtFileSystem) -> None:
    """Read the superblock of a journal that holds nothing: without it the file system cannot be mounted (the kernel's
    fs/jbd2/journal.c, ``journal_get_superblock``).

    :param file_system: one with a journal of its own.
    :raises ExtFormatError: it is damaged.
    """
    _JournalReader(file_system).check()


class _JournalReader:
    def __init__(self, file_system: ExtFileSystem) -> None:
        self._file_system = file_system
        self._block = file_system.superblock.block
        inode = file_system.inode(file_system.superblock.journal_inode)
        count = inode.size // self._block
        if not 0 < count <= file_system.superblock.blocks <= _PLACE:
            raise file_system.error(f"the journal, inode {inode.number}, has {inode.size} bytes")
        self._starts: list[int] = []
        self._places: list[int] = []
        logical = 0
        for start, length in file_system.maps.runs(inode, 0, count):
            if not start:
                raise file_system.error(f"block {logical} of the journal is not there")
            self._starts.append(logical)
            self._places.append(start)
            logical += length
        self._count = count
        self._transactions = 0
        self._found: dict[int, int] = {}
        self._escaped: set[int] = set()
        self._revoked: dict[int, int] = {}

    def _place(self, logical: int) -> int:
        """Return where a block of the journal lies."""
        index = bisect.bisect_right(self._starts, logical) - 1
        return self._places[index] + logical - self._starts[index]

    def check(self) -> int:
        """Check the journal's superblock.

        :returns: features that the journal needs and that are not known; 0 where there are none.
        """
        error = self._file_system.error
        data = self._superblock = self._file_system.read_blocks(self._place(0), 1)
        magic, kind, _, block, length, first = struct.unpack_from(">6I", data)
        if magic != _MAGIC or kind not in (_SUPERBLOCK_1, _SUPERBLOCK_2):
            raise error(f"the journal begins with {magic:#010x} of type {kind}, expected {_MAGIC:#010x}")
        incompatible = struct.unpack_from(">I", data, 0x28)[0] if kind == _SUPERBLOCK_2 else 0
        if incompatible & ~_KNOWN:
            return int(incompatible & ~_KNOWN)
        self._bits_64 = bool(incompatible & _BITS_64)
        self._csum_3 = bool(incompatible & _CSUM_3)
        self._checksums = bool(incompatible & (_CSUM_2 | _CSUM_3))
        self._fast_commits = bool(incompatible & _FAST_COMMIT)
        if self._checksums:
            (stored,) = struct.unpack_from(">I", data, 0xFC)
            computed = ext4_crc(_ALL, data[:0xFC] + bytes(4) + data[0x100:1024])
            if stored != computed:
                raise error(
                    f"the journal's superblock has the checksum {stored:08x}, but its bytes give {computed:08x}"
                )
        self._seed = ext4_crc(_ALL, data[0x30:0x40])
        if block != self._block or not 1 <= first < length <= self._count:
            raise error(f"the journal has {length} blocks of {block} bytes, the first at {first}")
        return 0

    def read(self) -> Journal:
        if unknown := self.check():
            return Journal(
                blocks={},
                escaped=frozenset(),
                transactions=0,
                unread=f"its journal needs features that Sealift does not read ({unknown:#x})",
            )
        length, first, sequence, start = struct.unpack_from(">4I", self._superblock, 16)
        unread = ""
        if self._fast_commits:
            length -= struct.unpack_from(">I", self._superblock, 0x54)[0] or _FAST_COMMIT_BLOCKS
            unread = "the fast commits of its journal are not read"
        if start:
            if not first <= start < length:
                raise self._file_system.error(f"the journal's first transaction is at block {start} of {length}")
            self._scan(first, length, start, sequence)
        for number, revoked in self._revoked.items():
            if number in self._found and self._found[number] >> 40 <= revoked:
                del self._found[number]
        for number in self._found:
            self._found[number] &= _PLACE
        return Journal(
            blocks=self._found,
            escaped=frozenset(self._escaped & self._found.keys()),
            transactions=self._transactions,
            unread=unread,
        )

    def _scan(self, first: int, end: int, at: int, sequence: int) -> None:
        """Go through the transactions until one is not complete."""
        pending: dict[int, tuple[int, bool]] = {}
        revoked: set[int] = set()
        steps = 0
        while steps < end:
            data = self._file_system.read_blocks(self._place(at), 1)
            magic, kind, found = struct.unpack_from(">3I", data)
            if magic != _MAGIC or found != sequence:
                return
            steps += 1
            at = at + 1 if at + 1 < end else first
            if kind == _DESCRIPTOR and self._tail_is_right(data):
                for number, flags in self._tags(data):
                    if number >= self._file_system.superblock.blocks:
                        raise self._file_system.error(f"the journal holds block {number}, which is not there")
                    pending[number] = (self._place(at), bool(flags & _ESCAPED))
                    steps += 1
                    at = at + 1 if at + 1 < end else first
            elif kind == _REVOKE and self._tail_is_right(data):
                revoked.update(self._revocations(data))
            elif kind == _COMMIT and self._commit_is_right(data):
                for number, (place, escaped) in pending.items():
                    self._found[number] = self._transactions << 40 | place
                    (self._escaped.add if escaped else self._escaped.discard)(number)
                self._revoked.update(dict.fromkeys(revoked, self._transactions))
                pending, revoked = {}, set()
                sequence = (sequence + 1) & _ALL
                self._transactions += 1
            else:
                return
            if len(self._found) + len(pending) + len(self._revoked) + len(revoked) > MOST_BLOCKS:
                raise self._file_system.error(f"the journal holds more than {MOST_BLOCKS} blocks")

    def _tags(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield (block, flags) of what follows a descriptor block."""
        size = 16 if self._csum_3 else 8 + (4 if self._bits_64 else 0) + (2 if self._checksums else 0)
        at, end = 12, self._block - (4 if self._checksums else 0)
        while at + size <= end:
            if self._csum_3:
                low, flags, high = struct.unpack_from(">3I", data, at)
            else:
                low, flags = struct.unpack_from(">IxxH", data, at)
                high = struct.unpack_from(">I", data, at + 8)[0] if self._bits_64 else 0
            yield (high << 32 if self._bits_64 else 0) | low, flags
            at += size + (0 if flags & _SAME_UUID else 16)
            if flags & _LAST_TAG:
                return

    def _revocations(self, data: bytes) -> Iterator[int]:
        (used,) = struct.unpack_from(">I", data, 12)
        form = struct.Struct(">Q" if self._bits_64 else ">I")
        for at in range(16, min(used, self._block) - form.size + 1, form.size):
            yield form.unpack_from(data, at)[0]

    def _tail_is_right(self, data: bytes) -> bool:
        if not self._checksums:
            return True
        return bool(struct.unpack(">I", data[-4:])[0] == ext4_crc(self._seed, data[:-4] + bytes(4)))

    def _commit_is_right(self, data: bytes) -> bool:
        if not self._checksums:
            return True
        computed = ext4_crc(self._seed, data[:16] + bytes(4) + data[20:])
        return bool(struct.unpack_from(">I", data, 16)[0] == computed)
