"""The qcow2 format, structure by structure, and a reader of the virtual disk.

After QEMU's specification of the format (docs/interop/qcow2.txt), versions 2 and 3. All numbers are big-endian. An
image is clusters: a header, a table of the first level (L1) that leads to tables of the second (L2), which lead to the
data, and counts of who refers to each cluster. A compressed cluster may begin and end anywhere.
"""

from __future__ import annotations

import array
import dataclasses
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Final, Self

from sealift.images.paged import PagedTable
from sealift.images.ranges import MIB, gather, merged
from sealift.images.recent import Recent
from sealift.images.source import ImageFormatError, RangeSource, check_range

MAGIC = b"QFI\xfb"
SECTOR = 512
ADDRESS = 0x00FF_FFFF_FFFF_FE00
"""The bits of an entry that say where a table or a cluster is."""
COMPRESSED = 1 << 62
COPIED = 1 << 63
"""Bit of an entry: the cluster or table is referred to once, so that it may be written in place."""
WINDOW_BITS = 12
"""How far back deflate may look in a compressed cluster: QEMU reads with a window of 4 KiB (block/qcow2-threads.c)."""
ZERO = 1
"""Bit of an L2 entry of version 3: the cluster reads as zeros, whatever is stored."""
DIRTY, CORRUPT, EXTERNAL_DATA, OTHER_COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
LARGEST_L1 = 32 * 1024 * 1024
"""Bytes; QEMU takes no larger one."""

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_VERSION_3 = struct.Struct(">QQQII")
_KEEP_TABLES: Final = 64
_READ_AT_ONCE: Final = 8 * MIB
"""Bytes of the disk that are read in one go; a longer read goes on from there."""


class Qcow2FormatError(ImageFormatError):
    """Bytes are not what the format of a qcow2 demands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """The header. Places are bytes of the file."""

    magic: bytes
    version: int
    backing_at: int
    backing_size: int
    cluster_bits: int
    size: int
    encryption: int
    l1_entries: int
    l1_at: int
    refcounts_at: int
    refcount_clusters: int
    snapshots: int
    snapshots_at: int
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = 72

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a header.

        :param data: its first 104 bytes.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        first = dict(zip(names, _HEADER.unpack_from(data), strict=False))
        if first["version"] >= 3:
            first |= dict(zip(names[13:], _VERSION_3.unpack_from(data, _HEADER.size), strict=True))
        return cls(**first)

    def pack(self) -> bytes:
        """Give the bytes of a header of version 3, without extensions."""
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return _HEADER.pack(*values[:13]) + _VERSION_3.pack(*values[13:])

    @property
    def cluster(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries of an L2 table."""
        return self.cluster // 8

    @property
    def clusters(self) -> int:
        """How many clusters the disk has; the last one may reach beyond it."""
        return -(-self.size // self.cluster)

    @property
    def tables(self) -> int:
        """How many L2 tables, and so entries of the L1 table, the disk needs."""
        return -(-self.clusters // self.l2_entries)

    def why_not(self) -> str:
        """Say why a header cannot be used to find the disk's data; empty if it can."""
        if self.magic != MAGIC:  # then the numbers mean nothing
            return f"it begins with {self.magic!r}, expected {MAGIC!r}"
        if self.version not in (2, 3):
            return f"version {self.version}, expected 2 or 3"
        if not 9 <= self.cluster_bits <= 21:
            return f"clusters of 2^{self.cluster_bits} bytes, expected 2^9 to 2^21"
        wrong = (
            (self.size <= 0 or self.size > 2**56, f"a disk of {self.size} bytes"),
            (bool(self.encryption), f"it is encrypted (method {self.encryption})"),
            (
                bool(self.backing_at),
                "it names a backing file: it holds only what changed against one that is not here",
            ),
            (bool(self.incompatible & EXTERNAL_DATA), "its data are in another file"),
            (bool(self.incompatible & EXTENDED_L2), "its L2 tables are extended ones, which Sealift does not read"),
            (
                bool(self.incompatible & ~0b11111),
                f"it needs features that Sealift does not know ({self.incompatible:#x})",
            ),
            (
                self.l1_entries < self.tables or self.l1_entries * 8 > LARGEST_L1,
                f"an L1 table of {self.l1_entries} entries; a disk of {self.size} bytes needs {self.tables}",
            ),
        )
        return next((words for is_wrong, words in wrong if is_wrong), "")


def unpack_entries(data: bytes) -> array.array[int]:
    """Return the entries of a table.

    :param data: eight bytes per entry, big-endian.
    """
    entries = array.array("Q")
    assert entries.itemsize == 8
    entries.frombytes(data)
    if sys.byteorder == "little":
        entries.byteswap()
    return entries


def read_header(source: RangeSource) -> Header:
    """Read the header.

    :param source: the file.
    :returns: the header.
    :raises Qcow2FormatError: if it cannot be used.
    """
    if source.size < 104:
        raise Qcow2FormatError(f"the file has {source.size} bytes, fewer than a qcow2 header", offset=0)
    header = Header.unpack(source.read(0, 104))
    if why := header.why_not():
        raise Qcow2FormatError(f"the header is none that can be used: {why}", offset=0)
    return header


class Qcow2Reader:
    """Reads the virtual disk inside a qcow2 image without a backing file.

    Reading is not proving: only what is needed to find the data is looked at. May be used by many threads where the
    source may.

    :param source: the file.
    :raises Qcow2FormatError: if the structures do not lead to the data.
    """

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self.header = read_header(source)
        self.size = self.header.size
        at, length = self.header.l1_at, self.header.tables * 8
        if at + length > source.size:
            raise Qcow2FormatError(f"the L1 table at byte {at} lies outside the file", offset=at)
        self._l1 = PagedTable(source, at=at, count=self.header.tables, kind="Q", order="big")
        kept = min(_KEEP_TABLES, 4 * MIB // self.header.cluster)
        self._tables: Recent[array.array[int]] = Recent(most=kept)

    def table(self, number: int) -> array.array[int]:
        """Give an L2 table.

        :param number: from 0.
        :returns: its entries; all zero where there is none.
        :raises Qcow2FormatError: it lies outside the file.
        """
        found = self._tables.get(number)
        if found is None:
            at = self._l1[number] & ADDRESS
            if not at:
                found = array.array("Q", bytes(self.header.cluster))
            elif at + self.header.cluster > self._source.size:
                raise Qcow2FormatError(f"L2 table {number} at byte {at} lies outside the file", offset=at)
            else:
                found = unpack_entries(self._source.read(at, self.header.cluster))
            self._tables.put(number, found)
        return found

    def cluster(self, number: int) -> bytes | None:
        """Give a cluster's bytes.

        :param number: from 0.
        :returns: the bytes of a whole cluster; None where it is zeros that are not stored.
        :raises Qcow2FormatError: it lies outside the file, or cannot be read.
        """
        (found,) = self._clusters(number, number + 1)
        return found

    def _clusters(self, first: int, beyond: int) -> list[bytes | None]:
        """Give several clusters; those that lie together in the file come with one request."""
        entries: dict[int, int] = {}
        for number in range(first, beyond):
            entry = self.table(number // self.header.l2_entries)[number % self.header.l2_entries]
            if self._stored(entry):
                entries[number] = entry
        ranges = [self._range(number, entry) for number, entry in entries.items()]
        found: list[bytes | None] = [None] * (beyond - first)
        for (number, entry), data in zip(entries.items(), gather(self._source, ranges), strict=True):
            if entry & COMPRESSED:
                at, _ = compressed_place(entry, self.header.cluster_bits)
                found[number - first] = self._inflated(number, at, data)
            else:
                found[number - first] = bytes(data).ljust(self.header.cluster, b"\0")
        return found

    def _stored(self, entry: int) -> bool:
        if entry & COMPRESSED:
            return True
        return bool(entry & ADDRESS) and not (self.header.version >= 3 and entry & ZERO)

    def _range(self, number: int, entry: int) -> tuple[int, int]:
        """Say which bytes of the file hold a cluster."""
        if not entry & COMPRESSED:
            at = entry & ADDRESS
            # The file may end inside the disk's last cluster.
            end = at + min(self.header.cluster, self.size - number * self.header.cluster)
            if end > self._source.size:
                raise Qcow2FormatError(f"cluster {number} at byte {at} lies outside the file", offset=at)
            return at, end
        at, length = compressed_place(entry, self.header.cluster_bits)
        if at >= self._source.size:
            raise Qcow2FormatError(f"compressed cluster {number} at byte {at} lies outside the file", offset=at)
        if self.header.incompatible & OTHER_COMPRESSION:
            raise Qcow2FormatError(
                f"cluster {number} is compressed in another way than by deflate, which Sealift does not read", offset=at
            )
        return at, min(at + length, self._source.size)

    def _inflated(self, number: int, at: int, data: memoryview) -> bytes:
        stream = zlib.decompressobj(-WINDOW_BITS)
        try:
            found = stream.decompress(data, self.header.cluster)
        except zlib.error as error:
            raise Qcow2FormatError(
                f"compressed cluster {number} at byte {at} cannot be read ({error})", offset=at
            ) from None
        if len(found) != self.header.cluster:
            raise Qcow2FormatError(
                f"compressed cluster {number} at byte {at} gives {len(found)} bytes, expected {self.header.cluster}",
                offset=at,
            )
        return found

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) byte ranges of the virtual disk that are stored, as few as can be.

        :returns: the ranges in rising order; all else reads as zeros.
        :raises Qcow2FormatError: an L2 table lies outside the file.
        """
        return merged(self._stored_clusters())

    def _stored_clusters(self) -> Iterator[tuple[int, int]]:
        length = self.header.cluster
        for table, place in enumerate(self._l1):
            if not place & ADDRESS:
                continue
            at = table * self.header.l2_entries * length
            for entry in self.table(table):
                if self._stored(entry):
                    yield at, min(at + length, self.size)
                at += length

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of the virtual disk from ``offset``.

        :param offset: first byte of the virtual disk, from 0.
        :param length: number of bytes.
        :returns: the bytes; zeros where nothing is stored.
        :raises ShortReadError: if the range is not inside the virtual disk.
        :raises Qcow2FormatError: if a cluster cannot be read.
        """
        check_range(name="the virtual disk", size=self.size, offset=offset, length=length)
        cluster = self.header.cluster
        pieces: list[bytes | memoryview] = []
        at_once = max(1, _READ_AT_ONCE // cluster)
        end = offset + length
        while offset < end:
            first = offset // cluster
            beyond = min(first + at_once, -(-end // cluster))
            for number, data in enumerate(self._clusters(first, beyond), start=first):
                start = max(offset, number * cluster)
                stop = min(end, (number + 1) * cluster)
                if data is None:
                    pieces.append(bytes(stop - start))
                else:
                    pieces.append(memoryview(data)[start - number * cluster : stop - number * cluster])
            offset = min(end, beyond * cluster)
        return b"".join(pieces)


def compressed_place(entry: int, cluster_bits: int) -> tuple[int, int]:
    """Say where a compressed cluster is.

    :param entry: its L2 entry.
    :param cluster_bits: of the image.
    :returns: its first byte in the file, and how many bytes it has at most.
    """
    shift = 62 - (cluster_bits - 8)
    at = entry & ((1 << shift) - 1)
    sectors = ((entry & (COMPRESSED - 1)) >> shift) + 1
    return at, sectors * SECTOR - (at % SECTOR)
