"""Writes qcow2 images, version 3, in one go: compressed clusters as they come, each table behind what it leads to.

After QEMU's specification (docs/interop/qcow2.txt). A reader begins with the header, which says where the L1 table and
the table of reference counts are; these may lie anywhere. So the file is written as

    header · clusters … L2 table · clusters … L2 table … · L1 table · last counts · table of counts

and only the header, one cluster, comes last. An L2 table follows the clusters that it leads to. A block of reference
counts is written as soon as the file has gone past all clusters that it counts, since nothing refers back to them then;
so of counts no more than two blocks are in memory, however large the image.

Compressed clusters lie byte behind byte, as QEMU packs them. What does not get smaller is stored inside deflate, in ten
bytes more for each 64 KiB: as a cluster of its own it would have to begin at a multiple of the cluster size, and a disk
on which both kinds alternate would grow by half.
"""

from __future__ import annotations

import array
import sys
from typing import Final

from sealift.images import qcow2
from sealift.images.convert.deflate import Deflate, stored_size
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.pieces import Output
from sealift.images.convert.writer import Encoded, padded
from sealift.images.sparse import is_zero

CLUSTER_BITS: Final = 16
REFCOUNT_ORDER: Final = 4
"""Counts have 2 to the power of this many bits."""

_COUNT_BYTES: Final = 2
_HEADER_LENGTH: Final = 104


class Qcow2StreamWriter:
    """Writes one qcow2 image.

    :param size: bytes of the disk: a multiple of 512.
    :param deflate: compresses clusters; None to store them as they are.
    :param cluster_bits: a cluster has 2 to the power of this many bytes; 10 to 21.
    :raises ConversionError: the format cannot hold such a disk.
    """

    format = "qcow2"

    def __init__(self, *, size: int, deflate: Deflate | None, cluster_bits: int = CLUSTER_BITS) -> None:
        if not 10 <= cluster_bits <= 21:  # in clusters of 512 bytes, a stored one has no room for its length
            raise ValueError(f"clusters of 2^{cluster_bits} bytes, expected 2^10 to 2^21")
        if size <= 0 or size % qcow2.SECTOR:
            raise ConversionError(
                f"A qcow2 image of whole sectors of 512 bytes is written; this disk has {size} bytes."
            )
        self.size = size
        self.unit = self.head = 1 << cluster_bits
        self._bits = cluster_bits
        self._deflate = deflate
        self._entries = self.unit // 8
        tables = -(-size // (self.unit * self._entries))
        if tables * 8 > qcow2.LARGEST_L1:
            raise ConversionError(
                f"A disk of {size} bytes needs an L1 table of {tables * 8} bytes; QEMU takes {qcow2.LARGEST_L1}. Take "
                "larger clusters."
            )
        self._l1 = array.array("Q", bytes(8 * tables))
        self._l1_at = 0
        self._number = -1
        self._l2 = array.array("Q")
        self._counts = _Counts(cluster=self.unit)
        self._counts.add(0, self.unit)  # the header

    def largest(self, units: int) -> int:
        """Say how many bytes the file can have at the most; see :meth:`ImageWriter.largest`.

        :param units: clusters that may be stored.
        """
        stored = stored_size(self.unit) if self._deflate is not None else self.unit
        tables = min(units, len(self._l1)) * 2 * self.unit
        size = self.unit + units * stored + tables + padded(len(self._l1) * 8, self.unit)
        blocks = size // self._counts.covered + 2
        return size + blocks * 2 * self.unit + padded(blocks * 8, self.unit) + self.unit

    def begin(self, out: Output) -> None:
        """Write nothing: the header comes last.

        :param out: takes the bytes.
        """

    def encode(self, offset: int, data: bytes) -> Encoded:
        """Compress clusters; those of zeros are left out. The disk's last cluster is filled up with zeros.

        :param offset: byte of the disk where the stretch begins.
        :param data: its bytes.
        """
        pieces: list[bytes] = []
        parts: list[tuple[int, int]] = []
        for at in range(0, len(data), self.unit):
            cluster = data[at : at + self.unit]
            if is_zero(cluster):
                continue
            cluster = cluster.ljust(self.unit, b"\0")
            if self._deflate is not None:
                cluster = self._deflate.raw(cluster, window_bits=qcow2.WINDOW_BITS)
            pieces.append(cluster)
            parts.append(((offset + at) // self.unit, len(cluster)))
        return Encoded(data=b"".join(pieces), parts=parts)

    def place(self, out: Output, encoded: Encoded) -> None:
        """Write clusters, and in between tables and counts that are whole.

        :param out: takes the bytes.
        :param encoded: the clusters.
        """
        data = memoryview(encoded.data)
        at = written = 0
        for number, length in encoded.parts:
            table, index = divmod(number, self._entries)
            new_table = table != self._number
            if new_table or self._counts.is_over(out.position + at - written):
                out.write(data[written:at])
                written = at
                if new_table:
                    self._end_table(out)
                    self._number, self._l2 = table, array.array("Q", bytes(self.unit))
                if self._counts.is_over(out.position):
                    out.align(self.unit)
                    self._counts.write_finished(out)
            place = out.position + at - written
            self._l2[index] = self._entry(place, length)
            self._counts.add(place, length)
            at += length
        out.write(data[written:])

    def _entry(self, place: int, length: int) -> int:
        if self._deflate is None:
            return place | qcow2.COPIED
        # The length is given in sectors that it touches besides the first.
        more = (place + length - 1) // qcow2.SECTOR - place // qcow2.SECTOR
        return qcow2.COMPRESSED | more << (62 - (self._bits - 8)) | place

    def _end_table(self, out: Output) -> None:
        if self._number < 0:
            return
        out.align(self.unit)
        self._l1[self._number] = out.position | qcow2.COPIED
        self._counts.add(out.position, self.unit)
        out.write(_big(self._l2))
        self._number = -1

    def finish(self, out: Output) -> None:
        """Write the last L2 table, the L1 table, and what is left of the counts.

        :param out: takes the bytes.
        """
        self._end_table(out)
        out.align(self.unit)
        self._l1_at = out.position
        l1 = _big(self._l1)
        l1 = l1.ljust(padded(len(l1), self.unit), b"\0")
        self._counts.add(out.position, len(l1))
        out.write(l1)
        self._counts.finish(out)

    def first(self) -> bytes:
        """Give the header."""
        header = qcow2.Header(
            magic=qcow2.MAGIC,
            version=3,
            backing_at=0,
            backing_size=0,
            cluster_bits=self._bits,
            size=self.size,
            encryption=0,
            l1_entries=len(self._l1),
            l1_at=self._l1_at,
            refcounts_at=self._counts.table_at,
            refcount_clusters=self._counts.table_clusters,
            snapshots=0,
            snapshots_at=0,
            refcount_order=REFCOUNT_ORDER,
            length=_HEADER_LENGTH,
        )
        # Zeros behind it: a header extension of the kind "end".
        return header.pack().ljust(self.head, b"\0")


class _Counts:
    """How often each cluster of the file is referred to, written in blocks as the file goes past what they count."""

    def __init__(self, *, cluster: int) -> None:
        self._cluster = cluster
        self._per_block = cluster // _COUNT_BYTES
        self.covered = self._per_block * cluster
        """Bytes of the file that a block counts."""
        self._open: dict[int, array.array[int]] = {}
        self._places: list[int] = []
        self.table_at = 0
        self.table_clusters = 0

    def add(self, start: int, length: int) -> None:
        """Count one who refers to the clusters that hold these bytes."""
        for cluster in range(start // self._cluster, (start + length - 1) // self._cluster + 1):
            number, index = divmod(cluster, self._per_block)
            block = self._open.get(number)
            if block is None:
                block = self._open[number] = array.array("H", bytes(self._cluster))
            block[index] += 1

    def is_over(self, position: int) -> bool:
        """Whether the file has gone past all that the next block counts."""
        return position >= (len(self._places) + 1) * self.covered

    def write_finished(self, out: Output) -> None:
        """Write the blocks of which nothing changes any more; at a multiple of the cluster."""
        while self.is_over(out.position):
            self._write(out)

    def _write(self, out: Output) -> None:
        self.add(out.position, self._cluster)
        block = self._open.pop(len(self._places), None)
        self._places.append(out.position)
        out.write(_big(block) if block is not None else bytes(self._cluster))

    def finish(self, out: Output) -> None:
        """Write the blocks that are left, and the table that leads to all; they count themselves."""
        self.write_finished(out)
        first = out.position // self._cluster
        blocks = table = 1
        while True:
            beyond = first + blocks + table
            needed = max(1, -(-beyond // self._per_block) - len(self._places))
            needed_table = -(-(len(self._places) + needed) * 8 // self._cluster)
            if (needed, needed_table) == (blocks, table):
                break
            blocks, table = max(blocks, needed), max(table, needed_table)
        start = out.position
        self.add(start, (blocks + table) * self._cluster)
        for _ in range(blocks):
            number = len(self._places)
            block = self._open.pop(number, None)
            self._places.append(out.position)
            out.write(_big(block) if block is not None else bytes(self._cluster))
        self.table_at, self.table_clusters = out.position, table
        places = _big(array.array("Q", self._places))
        out.write(places.ljust(table * self._cluster, b"\0"))


def _big(entries: array.array[int]) -> bytes:
    copy = array.array(entries.typecode, entries)
    if sys.byteorder == "little":
        copy.byteswap()
    return copy.tobytes()
