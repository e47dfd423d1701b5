"""The VMDK format in one file, structure by structure, and a reader of the virtual disk.

After VMware's Virtual Disk Format 5.0 (2011). All numbers are little-endian, all places are sectors of 512 bytes. A
sparse extent is: a header, a descriptor in text, a grain directory (GD) that leads to grain tables (GT), which lead to
the grains. *monolithicSparse* keeps two copies of directory and tables, and raw grains. *streamOptimized* is written in
one go: each grain is compressed and has a marker, and the directory comes after the grains, found by a footer.
"""

from __future__ import annotations

import array
import dataclasses
import re
import struct
import sys
import zlib
from collections import OrderedDict
from typing import Self

from sealift.images.source import ImageFormatError, RangeSource, check_range

SECTOR = 512
MAGIC = b"KDMV"
NEWLINES = b"\n \r\n"
"""In the header, so that a transfer as text, which changes line ends, shows."""
DIRECTORY_AT_END = 0xFFFF_FFFF_FFFF_FFFF
DEFLATE = 1
FLAG_REDUNDANT = 1 << 1
FLAG_ZEROED_GRAINS = 1 << 2
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17
UNALLOCATED = 0
ZEROED = 1
"""Grain table entry of a grain that is zeros, where the header says that there are such entries."""
MARKER_END, MARKER_TABLE, MARKER_DIRECTORY, MARKER_FOOTER = range(4)
LARGEST_GRAIN = 16 * 1024 * 1024
"""Bytes; the format allows any power of two, producers take 64 KiB."""
LARGEST_DISK = 62 * 1024**4 // SECTOR
"""Sectors: 62 TB, the most that VMware gives a disk."""
LARGEST_DESCRIPTOR = 64 * 1024
NO_PARENT = "ffffffff"

_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH433x")
_MARKER = struct.Struct("<QII496x")
_GRAIN = struct.Struct("<QI")
_KEEP_TABLES = 64


class VmdkFormatError(ImageFormatError):
    """Bytes are not what the format of a VMDK demands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseHeader:
    """The header of a sparse extent, and its footer. Places and sizes are sectors."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_at: int
    descriptor_size: int
    table_entries: int
    redundant_directory_at: int
    directory_at: int
    overhead: int
    unclean: int
    newlines: bytes
    compression: int

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a header.

        :param data: its 512 bytes.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**dict(zip(names, _HEADER.unpack(data), strict=True)))

    def pack(self) -> bytes:
        """Give the header's 512 bytes."""
        return _HEADER.pack(*(getattr(self, field.name) for field in dataclasses.fields(self)))

    @property
    def compressed(self) -> bool:
        """Whether grains are compressed and have markers."""
        return bool(self.flags & FLAG_COMPRESSED)

    @property
    def size(self) -> int:
        """Bytes of the virtual disk."""
        return self.capacity * SECTOR

    @property
    def grain_bytes(self) -> int:
        """Bytes of a grain."""
        return self.grain * SECTOR

    @property
    def grains(self) -> int:
        """How many grains the disk has; the last one may reach beyond it."""
        return -(-self.capacity // self.grain)

    @property
    def tables(self) -> int:
        """How many grain tables, and so entries of the directory, the disk needs."""
        return -(-self.grains // self.table_entries)

    def why_not(self) -> str:
        """Say why a header cannot be used to find the disk's data; empty if it can."""
        if self.magic != MAGIC:  # then the numbers mean nothing
            return f"it begins with {self.magic!r}, expected {MAGIC!r}"
        wrong = (
            (self.version not in (1, 2, 3), f"version {self.version}, expected 1 to 3"),
            (not 0 < self.capacity <= LARGEST_DISK, f"a disk of {self.capacity} sectors"),
            (
                self.grain < 8 or self.grain & (self.grain - 1) or self.grain_bytes > LARGEST_GRAIN,
                f"grains of {self.grain} sectors, expected a power of two from 8 up",
            ),
            (self.table_entries != 512, f"grain tables of {self.table_entries} entries, expected 512"),
            (
                self.compressed and self.compression != DEFLATE,
                f"compressed by method {self.compression}, expected {DEFLATE} (deflate)",
            ),
        )
        return next((words for is_wrong, words in wrong if is_wrong), "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Marker:
    """A sector that says what follows it, in a streamOptimized file.

    :param value: for a grain its first sector on the disk, else how many sectors follow.
    :param size: bytes of the compressed grain; 0 for what is no grain.
    :param kind: what follows, where it is no grain.
    """

    value: int
    size: int
    kind: int

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a marker.

        :param data: its 512 bytes.
        """
        value, size, kind = _MARKER.unpack(data)
        return cls(value=value, size=size, kind=kind)


def parse_descriptor(data: bytes) -> dict[str, str]:
    """Read the descriptor's lines of the form ``name=value``, and its extents.

    :param data: its bytes, filled up with zeros.
    :returns: values by name, without quotes; the first extent under ``extent``, the number of extents under
        ``extents``.
    """
    found: dict[str, str] = {}
    extents = 0
    for line in data.split(b"\0", 1)[0].decode("utf-8", "replace").splitlines():
        line = line.strip()
        if re.match(r"(RW|RDONLY|NOACCESS)\s+\d+\s", line):
            extents += 1
            found.setdefault("extent", line)
        elif not line.startswith("#") and "=" in line:
            name, _, value = line.partition("=")
            found.setdefault(name.strip(), value.strip().strip('"'))
    found["extents"] = str(extents)
    return found


def unpack_entries(data: bytes) -> array.array[int]:
    """Return the entries of a directory or a table: sector numbers.

    :param data: four bytes per entry, little-endian.
    """
    entries = array.array("I")
    assert entries.itemsize == 4
    entries.frombytes(data)
    if sys.byteorder == "big":
        entries.byteswap()
    return entries


def inflate(data: bytes, *, most: int) -> bytes:
    """Give a compressed grain's bytes.

    :param data: a zlib stream.
    :param most: how many bytes it may have at most.
    :returns: its bytes.
    :raises ValueError: it is no whole stream, or has more bytes.
    """
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(f"it is not compressed as it should be ({error})") from None
    if len(found) > most:
        raise ValueError(f"it has more than {most} bytes")
    if not stream.eof:
        raise ValueError("it ends before its end")
    return found


def find_header(source: RangeSource) -> tuple[SparseHeader, SparseHeader]:
    """Read the header, and the one that leads to the directory: the footer, where the header says so.

    :param source: the file.
    :returns: the header, and the footer or the header again.
    :raises VmdkFormatError: if they cannot be used.
    """
    if source.size < 4 * SECTOR:
        raise VmdkFormatError(f"the file has {source.size} bytes, fewer than a VMDK can have", offset=0)
    header = SparseHeader.unpack(source.read(0, SECTOR))
    if why := header.why_not():
        raise VmdkFormatError(f"the header is none of a sparse extent: {why}", offset=0)
    if header.directory_at != DIRECTORY_AT_END:
        return header, header
    at = source.size - 2 * SECTOR
    footer = SparseHeader.unpack(source.read(at, SECTOR))
    if why := footer.why_not():
        raise VmdkFormatError(f"the footer at byte {at} is none: {why}", offset=at)
    return header, footer


class VmdkReader:
    """Reads the virtual disk inside a VMDK of one sparse extent.

    Reading is not proving: only what is needed to find the data is looked at.

    :param source: the file.
    :raises VmdkFormatError: if the structures do not lead to the data.
    """

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self.header, self.footer = find_header(source)
        self.size = self.header.size
        at = self.footer.directory_at * SECTOR
        if at + self.header.tables * 4 > source.size:
            raise VmdkFormatError(f"the grain directory at byte {at} lies outside the file", offset=at)
        self.directory = unpack_entries(source.read(at, self.header.tables * 4))
        self._tables: OrderedDict[int, array.array[int]] = OrderedDict()

    def table(self, number: int) -> array.array[int]:
        """Give a grain table.

        :param number: from 0.
        :returns: its entries; all unallocated where the directory has none.
        :raises VmdkFormatError: it lies outside the file.
        """
        if number in self._tables:
            self._tables.move_to_end(number)
            return self._tables[number]
        entry = self.directory[number]
        length = self.header.table_entries * 4
        if entry == UNALLOCATED:
            found = array.array("I", bytes(length))
        elif entry * SECTOR + length > self._source.size:
            raise VmdkFormatError(
                f"grain table {number} at sector {entry} lies outside the file", offset=entry * SECTOR
            )
        else:
            found = unpack_entries(self._source.read(entry * SECTOR, length))
        self._tables[number] = found
        while len(self._tables) > _KEEP_TABLES:
            self._tables.popitem(last=False)
        return found

    def grain(self, number: int) -> bytes | None:
        """Give a grain's bytes.

        :param number: from 0.
        :returns: the bytes of a whole grain; None where it is zeros that are not stored.
        :raises VmdkFormatError: it lies outside the file, or is not what its marker says.
        """
        entry = self.table(number // self.header.table_entries)[number % self.header.table_entries]
        if entry == UNALLOCATED or (entry == ZEROED and self.header.flags & FLAG_ZEROED_GRAINS):
            return None
        at = entry * SECTOR
        length = self.header.grain_bytes
        if not self.header.compressed:
            # The last grain of a disk may be cut off with the file.
            length = min(length, self.size - number * length)
            if at + length > self._source.size:
                raise VmdkFormatError(f"grain {number} at sector {entry} lies outside the file", offset=at)
            return self._source.read(at, length).ljust(self.header.grain_bytes, b"\0")
        return self._compressed(number, at)

    def _compressed(self, number: int, at: int) -> bytes:
        if at + _GRAIN.size > self._source.size:
            raise VmdkFormatError(f"grain {number} at byte {at} lies outside the file", offset=at)
        # Most grains fit into one read with their marker.
        first = self._source.read(at, min(SECTOR * 8, self._source.size - at))
        sector, size = _GRAIN.unpack_from(first)
        if sector != number * self.header.grain or not size:
            raise VmdkFormatError(
                f"the marker at byte {at} is that of sector {sector} with {size} bytes, expected sector "
                f"{number * self.header.grain}",
                offset=at,
            )
        if size > 2 * self.header.grain_bytes or at + _GRAIN.size + size > self._source.size:
            raise VmdkFormatError(f"the grain at byte {at} has {size} bytes, more than there can be", offset=at)
        data = first[_GRAIN.size : _GRAIN.size + size]
        if len(data) < size:
            data += self._source.read(at + len(first), size - len(data))
        try:
            found = inflate(data, most=self.header.grain_bytes)
        except ValueError as error:
            raise VmdkFormatError(f"the grain at byte {at} cannot be read: {error}", offset=at) from None
        return found.ljust(self.header.grain_bytes, b"\0")

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of the virtual disk from ``offset``.

        :param offset: first byte of the virtual disk, from 0.
        :param length: number of bytes.
        :returns: the bytes; zeros where nothing is stored.
        :raises ShortReadError: if the range is not inside the virtual disk.
        :raises VmdkFormatError: if a grain cannot be read.
        """
        check_range(name="the virtual disk", size=self.size, offset=offset, length=length)
        pieces = []
        while length > 0:
            number, start = divmod(offset, self.header.grain_bytes)
            take = min(length, self.header.grain_bytes - start)
            data = self.grain(number)
            pieces.append(bytes(take) if data is None else data[start : start + take])
            offset += take
            length -= take
        return b"".join(pieces)
