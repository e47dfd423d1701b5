"""The VMDK format in one file, structure by structure, and a reader of the virtual disk.

After VMware's Virtual Disk Format 5.0 (2011). All numbers are little-endian, all places are sectors of 512 bytes. A
sparse extent is: a header, a descriptor in text, a grain directory (GD) that leads to grain tables (GT), which lead to
the grains. *monolithicSparse* keeps two copies of directory and tables, and raw grains. *streamOptimized* is written in
one go: each grain is compressed and has a marker, and the directory comes after the grains, found by a footer.
"""

from __future__ import annotations

import array
import dataclasses
import itertools
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Final, Self

from sealift.images.paged import PagedTable
from sealift.images.ranges import MIB, gather, merged
from sealift.images.recent import Recent
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
_KEEP_TABLES: Final = 256
_TABLES_AT_ONCE: Final = 64
_FIRST_READ: Final = 8 * SECTOR
_READ_AT_ONCE: Final = 8 * MIB
"""Bytes of the disk that are read in one go; a longer read goes on from there."""


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


def inflate(data: bytes | memoryview, *, most: int) -> bytes:
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


def read_descriptor(source: RangeSource, header: SparseHeader) -> dict[str, str]:
    """Read the descriptor inside a file.

    :param source: the file.
    :param header: its header.
    :returns: as :func:`parse_descriptor`; empty where the header names none.
    :raises VmdkFormatError: if it lies where it cannot be.
    """
    at, length = header.descriptor_at * SECTOR, header.descriptor_size * SECTOR
    if not length:
        return {}
    if at < SECTOR or length > LARGEST_DESCRIPTOR or at + length > source.size:
        raise VmdkFormatError(f"the header puts the descriptor at bytes {at} to {at + length}", offset=at)
    return parse_descriptor(source.read(at, length))


class VmdkReader:
    """Reads the virtual disk inside a VMDK of one sparse extent.

    Reading is not proving: only what is needed to find the data is looked at. May be used by many threads where the
    source may.

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
        self._directory = PagedTable(source, at=at, count=self.header.tables, kind="I", order="little")
        self._tables: Recent[array.array[int]] = Recent(most=_KEEP_TABLES)

    def table(self, number: int) -> array.array[int]:
        """Give a grain table.

        :param number: from 0.
        :returns: its entries; all unallocated where the directory has none.
        :raises VmdkFormatError: it lies outside the file.
        """
        found = self._tables.get(number)
        if found is None:
            entry = self._directory[number]
            if entry == UNALLOCATED:
                found = array.array("I", bytes(self._table_bytes))
            else:
                found = unpack_entries(self._source.read(self._table_at(number, entry), self._table_bytes))
            self._tables.put(number, found)
        return found

    @property
    def _table_bytes(self) -> int:
        return self.header.table_entries * 4

    def _table_at(self, number: int, entry: int) -> int:
        if entry * SECTOR + self._table_bytes > self._source.size:
            raise VmdkFormatError(
                f"grain table {number} at sector {entry} lies outside the file", offset=entry * SECTOR
            )
        return entry * SECTOR

    def grain(self, number: int) -> bytes | None:
        """Give a grain's bytes.

        :param number: from 0.
        :returns: the bytes of a whole grain; None where it is zeros that are not stored.
        :raises VmdkFormatError: it lies outside the file, or is not what its marker says.
        """
        (found,) = self._grains(number, number + 1)
        return found

    def _grains(self, first: int, beyond: int) -> list[bytes | None]:
        """Give several grains; those that lie together in the file come with one request."""
        places: dict[int, int] = {}
        for number in range(first, beyond):
            entry = self.table(number // self.header.table_entries)[number % self.header.table_entries]
            if self._stored(entry):
                places[number] = entry * SECTOR
        ranges = self._ranges(places)
        found: list[bytes | None] = [None] * (beyond - first)
        for (number, at), data in zip(places.items(), gather(self._source, ranges), strict=True):
            if self.header.compressed:
                found[number - first] = self._inflated(number, at, data)
            else:
                found[number - first] = bytes(data).ljust(self.header.grain_bytes, b"\0")
        return found

    def _stored(self, entry: int) -> bool:
        return entry != UNALLOCATED and not (entry == ZEROED and self.header.flags & FLAG_ZEROED_GRAINS)

    def _ranges(self, places: dict[int, int]) -> list[tuple[int, int]]:
        """Say which bytes of the file to read for grains; of a compressed one only its marker tells how long it is."""
        length = self.header.grain_bytes
        ranges = []
        if not self.header.compressed:
            for number, at in places.items():
                # The last grain of a disk may be cut off with the file.
                end = at + min(length, self.size - number * length)
                if end > self._source.size:
                    raise VmdkFormatError(f"grain {number} at sector {at // SECTOR} lies outside the file", offset=at)
                ranges.append((at, end))
            return ranges
        # Most grains that are asked for alone fit into eight sectors. Of several, each ends where the next begins.
        guess = _FIRST_READ if len(places) == 1 else length + 2 * SECTOR
        starts = sorted(set(places.values()))
        following = dict(itertools.pairwise(starts))
        for number, at in places.items():
            if at + _GRAIN.size > self._source.size:
                raise VmdkFormatError(f"grain {number} at byte {at} lies outside the file", offset=at)
            end = min(at + guess, following.get(at, at + guess), self._source.size)
            ranges.append((at, end))
        return ranges

    def _inflated(self, number: int, at: int, first: memoryview) -> bytes:
        sector, size = _GRAIN.unpack_from(first)
        if sector != number * self.header.grain or not size:
            raise VmdkFormatError(
                f"the marker at byte {at} is that of sector {sector} with {size} bytes, expected sector "
                f"{number * self.header.grain}",
                offset=at,
            )
        if size > 2 * self.header.grain_bytes or at + _GRAIN.size + size > self._source.size:
            raise VmdkFormatError(f"the grain at byte {at} has {size} bytes, more than there can be", offset=at)
        data: bytes | memoryview = first[_GRAIN.size : _GRAIN.size + size]
        if len(data) < size:
            data = bytes(data) + self._source.read(at + len(first), size - len(data))
        try:
            found = inflate(data, most=self.header.grain_bytes)
        except ValueError as error:
            raise VmdkFormatError(f"the grain at byte {at} cannot be read: {error}", offset=at) from None
        return found.ljust(self.header.grain_bytes, b"\0")

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) byte ranges of the virtual disk that are stored, as few as can be.

        :returns: the ranges in rising order; all else reads as zeros.
        :raises VmdkFormatError: a grain table lies outside the file.
        """
        return merged(self._stored_grains())

    def _stored_grains(self) -> Iterator[tuple[int, int]]:
        length = self.header.grain_bytes
        for table, entries in self._tables_in_order():
            at = table * self.header.table_entries * length
            for entry in entries:
                if self._stored(entry):
                    yield at, min(at + length, self.size)
                at += length

    def _tables_in_order(self) -> Iterator[tuple[int, array.array[int]]]:
        """Yield the tables that there are; those that lie one behind the other in the file come with one request."""
        together: list[tuple[int, int]] = []
        for number, entry in enumerate(self._directory):
            if entry == UNALLOCATED:
                continue
            at = self._table_at(number, entry)
            if together and (at != together[-1][1] + self._table_bytes or len(together) == _TABLES_AT_ONCE):
                yield from self._read_tables(together)
                together = []
            together.append((number, at))
        if together:
            yield from self._read_tables(together)

    def _read_tables(self, places: list[tuple[int, int]]) -> list[tuple[int, array.array[int]]]:
        data = self._source.read(places[0][1], len(places) * self._table_bytes)
        found = []
        for index, (number, _) in enumerate(places):
            entries = unpack_entries(data[index * self._table_bytes : (index + 1) * self._table_bytes])
            # Whoever asks for extents reads them next.
            self._tables.put(number, entries)
            found.append((number, entries))
        return found

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of the virtual disk from ``offset``.

        :param offset: first byte of the virtual disk, from 0.
        :param length: number of bytes.
        :returns: the bytes; zeros where nothing is stored.
        :raises ShortReadError: if the range is not inside the virtual disk.
        :raises VmdkFormatError: if a grain cannot be read.
        """
        check_range(name="the virtual disk", size=self.size, offset=offset, length=length)
        grain = self.header.grain_bytes
        pieces: list[bytes | memoryview] = []
        at_once = max(1, _READ_AT_ONCE // grain)
        end = offset + length
        while offset < end:
            first = offset // grain
            beyond = min(first + at_once, -(-end // grain))
            for number, data in enumerate(self._grains(first, beyond), start=first):
                start = max(offset, number * grain)
                stop = min(end, (number + 1) * grain)
                if data is None:
                    pieces.append(bytes(stop - start))
                else:
                    pieces.append(memoryview(data)[start - number * grain : stop - number * grain])
            offset = min(end, beyond * grain)
        return b"".join(pieces)
