"""The VHD format: its structures, byte for byte, and a reader of the virtual disk.

After the Virtual Hard Disk Image Format Specification 1.0 (Microsoft, 2006). All numbers are big-endian. A dynamic
disk is: a copy of the footer at 0, the dynamic header, the block allocation table (BAT), then blocks, each a bitmap of
its sectors followed by its data, and the footer in the last 512 bytes. A fixed disk is the raw data and the footer.
"""

from __future__ import annotations

import array
import dataclasses
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import ClassVar, Final, Self, TypeVar
from uuid import UUID

from sealift.images.paged import PagedTable
from sealift.images.ranges import MIB, gather, merged
from sealift.images.recent import Recent
from sealift.images.source import ImageFormatError, KnowsHoles, RangeSource, check_range
from sealift.images.sparse import DIGEST_CHUNK, digest_of_chunks

SECTOR = 512
FOOTER_SIZE = 512
DYNAMIC_HEADER_SIZE = 1024
FOOTER_COOKIE = b"conectix"
DYNAMIC_COOKIE = b"cxsparse"
FORMAT_VERSION = 0x0001_0000
UNALLOCATED = 0xFFFF_FFFF
"""BAT entry of a block that is not stored: it reads as zeros."""
NO_OFFSET = 0xFFFF_FFFF_FFFF_FFFF
DEFAULT_BLOCK_SIZE = 2 * 1024 * 1024
MAX_VIRTUAL_SIZE = 2040 * 1024**3
"""Largest virtual disk that the readers of the format agree on, in bytes."""
MAX_GEOMETRY = (65535, 16, 255)
NO_PARENT = UUID(int=0)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
FEATURE_RESERVED = 0x0000_0002
"""Bit of the footer's features that the specification wants always set."""

CURRENT_SIZE_CREATORS = frozenset({b"win ", b"qem2", b"d2v ", b"tap\0", b"CXS\0", b"wa\0\0"})
"""Creators whose disks QEMU measures by the footer's current size. For all others it takes cylinders x heads x sectors,
unless that is the largest geometry there is (QEMU's block/vpc.c)."""

_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_DYNAMIC = struct.Struct(">8sQQIIII16sII512s192s256x")
_CHECKSUM_AT = {_FOOTER.size: 64, _DYNAMIC.size: 36}

_READ_AT_ONCE: Final = 8 * MIB
"""Bytes of the disk that are read in one go; a longer read goes on from there."""

_KEPT_BITMAPS: Final = MIB
"""Bytes of bitmaps that stay in memory."""

Block = TypeVar("Block", bytes, memoryview)


class DiskType(IntEnum):
    """The footer's disk type; the other numbers are reserved."""

    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


class VhdFormatError(ImageFormatError):
    """Bytes are not what the format of a VHD demands."""


def checksum(block: bytes) -> int:
    """Return the format's checksum of a footer or dynamic header: ones' complement of the sum of all other bytes.

    :param block: the 512 bytes of a footer or the 1,024 bytes of a dynamic header; its own checksum in them is left
        out.
    :returns: 32 bits, without sign.
    :raises KeyError: if the bytes are neither 512 nor 1,024.
    """
    at = _CHECKSUM_AT[len(block)]
    return ~(sum(block) - sum(block[at : at + 4])) & 0xFFFF_FFFF


def _seal(block: bytes) -> bytes:
    at = _CHECKSUM_AT[len(block)]
    return block[:at] + checksum(block).to_bytes(4, "big") + block[at + 4 :]


def geometry_for(virtual_size: int) -> tuple[int, int, int]:
    """Return (cylinders, heads, sectors per track) by the specification's appendix.

    The product is at most the disk's size, and less for most sizes: geometry cannot express each number of sectors.

    :param virtual_size: bytes.
    :returns: the three numbers as the footer holds them.
    """
    sectors = min(virtual_size // SECTOR, MAX_GEOMETRY[0] * MAX_GEOMETRY[1] * MAX_GEOMETRY[2])
    if sectors >= 65535 * 16 * 63:
        per_track, heads = 255, 16
        tracks = sectors // per_track
    else:
        per_track = 17
        tracks = sectors // per_track
        heads = max((tracks + 1023) // 1024, 4)
        if tracks >= heads * 1024 or heads > 16:
            per_track, heads = 31, 16
            tracks = sectors // per_track
        if tracks >= heads * 1024:
            per_track, heads = 63, 16
            tracks = sectors // per_track
    return tracks // heads, heads, per_track


def timestamp_seconds(moment: datetime) -> int:
    """Return the footer's time stamp for a moment: seconds since the start of the year 2000, UTC.

    :param moment: with a time zone.
    :returns: whole seconds.
    :raises ValueError: if the moment has no time zone, or the format cannot hold it.
    """
    if moment.tzinfo is None:
        raise ValueError("the time stamp of a VHD needs a time zone")
    seconds = (moment - EPOCH) // timedelta(seconds=1)
    if not 0 <= seconds <= 0xFFFF_FFFF:
        raise ValueError(f"a VHD cannot hold the time stamp {moment.isoformat()}: it counts from 2000 to 2136")
    return seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class VhdFooter:
    """The 512 bytes that end each VHD and, copied, begin a dynamic one. Sizes and offsets are bytes."""

    SIZE: ClassVar[int] = FOOTER_SIZE

    cookie: bytes = FOOTER_COOKIE
    features: int = FEATURE_RESERVED
    version: int = FORMAT_VERSION
    data_offset: int = NO_OFFSET
    timestamp: int = 0
    creator_app: bytes
    creator_version: int = 0x0001_0000
    creator_os: bytes = b"Wi2k"
    original_size: int
    current_size: int
    cylinders: int
    heads: int
    sectors_per_track: int
    disk_type: int
    uuid: UUID
    saved_state: int = 0
    stored_checksum: int | None = None
    """Checksum as read; ``None`` in a footer that was not read. :meth:`pack` always computes it."""

    @property
    def geometry_size(self) -> int:
        """Bytes by cylinders x heads x sectors: what some readers take for the disk's size."""
        return self.cylinders * self.heads * self.sectors_per_track * SECTOR

    @property
    def created_at(self) -> datetime:
        """The time stamp as a moment in UTC."""
        return EPOCH + timedelta(seconds=self.timestamp)

    @property
    def creator(self) -> str:
        """The creator application as printable text, e.g. ``qem2`` or ``tap\\x00``."""
        return self.creator_app.decode("latin-1").encode("unicode_escape").decode("ascii")

    def pack(self) -> bytes:
        """Return the footer's 512 bytes with a right checksum.

        :returns: the bytes, whatever :attr:`stored_checksum` says.
        """
        return _seal(
            _FOOTER.pack(
                self.cookie,
                self.features,
                self.version,
                self.data_offset,
                self.timestamp,
                self.creator_app,
                self.creator_version,
                self.creator_os,
                self.original_size,
                self.current_size,
                self.cylinders,
                self.heads,
                self.sectors_per_track,
                self.disk_type,
                0,
                self.uuid.bytes,
                self.saved_state,
            )
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the fields of 512 bytes, without judging them.

        :param data: the 512 bytes.
        :returns: the footer.
        :raises struct.error: if there are more or fewer bytes.
        """
        (cookie, features, version, data_offset, timestamp, app, app_version, os_, original, current, *rest) = (
            _FOOTER.unpack(data)
        )
        cylinders, heads, per_track, disk_type, stored, uuid, saved = rest
        return cls(
            cookie=cookie,
            features=features,
            version=version,
            data_offset=data_offset,
            timestamp=timestamp,
            creator_app=app,
            creator_version=app_version,
            creator_os=os_,
            original_size=original,
            current_size=current,
            cylinders=cylinders,
            heads=heads,
            sectors_per_track=per_track,
            disk_type=disk_type,
            uuid=UUID(bytes=uuid),
            saved_state=saved,
            stored_checksum=stored,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicHeader:
    """The 1,024 bytes after the header copy of a dynamic disk."""

    SIZE: ClassVar[int] = DYNAMIC_HEADER_SIZE

    cookie: bytes = DYNAMIC_COOKIE
    data_offset: int = NO_OFFSET
    table_offset: int
    """Byte of the file where the BAT begins."""
    version: int = FORMAT_VERSION
    max_table_entries: int
    block_size: int
    """Bytes of data in a block, without its bitmap."""
    parent_uuid: UUID = NO_PARENT
    parent_timestamp: int = 0
    parent_name: bytes = bytes(512)
    parent_locators: bytes = bytes(192)
    stored_checksum: int | None = None

    @property
    def bitmap_size(self) -> int:
        """Bytes of the bitmap in front of each block: one bit per sector, filled up to whole sectors."""
        return bitmap_size(self.block_size)

    def pack(self) -> bytes:
        """Return the header's 1,024 bytes with a right checksum.

        :returns: the bytes, whatever :attr:`stored_checksum` says.
        """
        return _seal(
            _DYNAMIC.pack(
                self.cookie,
                self.data_offset,
                self.table_offset,
                self.version,
                self.max_table_entries,
                self.block_size,
                0,
                self.parent_uuid.bytes,
                self.parent_timestamp,
                0,
                self.parent_name,
                self.parent_locators,
            )
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the fields of 1,024 bytes, without judging them.

        :param data: the 1,024 bytes.
        :returns: the header.
        :raises struct.error: if there are more or fewer bytes.
        """
        cookie, data_offset, table, version, entries, block, stored, parent, parent_time, _, name, locators = (
            _DYNAMIC.unpack(data)
        )
        return cls(
            cookie=cookie,
            data_offset=data_offset,
            table_offset=table,
            version=version,
            max_table_entries=entries,
            block_size=block,
            parent_uuid=UUID(bytes=parent),
            parent_timestamp=parent_time,
            parent_name=name,
            parent_locators=locators,
            stored_checksum=stored,
        )


def bitmap_size(block_size: int) -> int:
    """Return the bytes of a block's sector bitmap: one bit per sector, filled up to whole sectors.

    :param block_size: bytes of data in a block.
    :returns: bytes, a multiple of 512.
    """
    return -(-block_size // (SECTOR * 8 * SECTOR)) * SECTOR


def blocks_for(virtual_size: int, block_size: int) -> int:
    """Return how many blocks, and so BAT entries, a virtual disk needs.

    :param virtual_size: bytes of the disk.
    :param block_size: bytes of data in a block.
    :returns: the number of blocks; the last one may reach beyond the disk.
    """
    return -(-virtual_size // block_size)


def unpack_bat(data: bytes) -> array.array[int]:
    """Return BAT entries (sector numbers) from their bytes.

    :param data: four bytes per entry, big-endian.
    :returns: the entries; :data:`UNALLOCATED` stands for a block that is not stored.
    """
    entries = array.array("I")
    assert entries.itemsize == 4
    entries.frombytes(data)
    if sys.byteorder == "little":
        entries.byteswap()
    return entries


def pack_bat(entries: array.array[int]) -> bytes:
    """Return the bytes of BAT entries.

    :param entries: sector numbers, one per block.
    :returns: four bytes per entry, big-endian.
    """
    copy = array.array("I", entries)
    if sys.byteorder == "little":
        copy.byteswap()
    return copy.tobytes()


class VhdReader:
    """Reads the virtual disk inside a dynamic or fixed VHD. Sectors that no bitmap claims read as zeros.

    So the specification says, and so XenServer reads, which may leave in such sectors whatever lay on its storage
    before. QEMU does not look at bitmaps when it reads (block/vpc.c): where a producer stored data without claiming it,
    QEMU sees it and this reader does not.

    Reading is not proving: only what is needed to find the data is looked at. :func:`sealift.images.proof.prove_vhd`
    judges an image. May be used by many threads where the source may.

    :param source: the VHD.
    :raises VhdFormatError: if the structures do not lead to the data, or the disk is differencing.
    """

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        if source.size < FOOTER_SIZE:
            raise VhdFormatError(f"a VHD has at least {FOOTER_SIZE} bytes, this file has {source.size}", offset=0)
        footer_at = source.size - FOOTER_SIZE
        self.footer = VhdFooter.unpack(source.read(footer_at, FOOTER_SIZE))
        if self.footer.cookie != FOOTER_COOKIE:
            raise VhdFormatError(
                f"no VHD footer: {self.footer.cookie!r} at byte {footer_at}, expected {FOOTER_COOKIE!r}",
                offset=footer_at,
            )
        self.size = self.footer.current_size
        self.header: DynamicHeader | None = None
        if self.footer.disk_type == DiskType.DYNAMIC:
            self._open_dynamic()
        elif self.footer.disk_type == DiskType.FIXED:
            if footer_at < self.size:
                raise VhdFormatError(f"{footer_at} bytes of data, but a disk of {self.size} bytes", offset=footer_at)
        elif self.footer.disk_type == DiskType.DIFFERENCING:
            raise VhdFormatError(
                "a differencing disk (type 4): it holds only what changed against its parent", offset=footer_at + 60
            )
        else:
            raise VhdFormatError(
                f"disk type {self.footer.disk_type}, expected 2 (fixed) or 3 (dynamic)", offset=footer_at + 60
            )

    def _open_dynamic(self) -> None:
        at = self.footer.data_offset
        if at + DYNAMIC_HEADER_SIZE > self._source.size:
            raise VhdFormatError(f"the dynamic header should be at byte {at}, outside the file", offset=at)
        header = DynamicHeader.unpack(self._source.read(at, DYNAMIC_HEADER_SIZE))
        if header.cookie != DYNAMIC_COOKIE:
            raise VhdFormatError(
                f"no dynamic header: {header.cookie!r} at byte {at}, expected {DYNAMIC_COOKIE!r}", offset=at
            )
        if header.block_size < SECTOR or header.block_size % SECTOR:
            raise VhdFormatError(f"block size {header.block_size} is not whole sectors", offset=at + 32)
        needed = blocks_for(self.size, header.block_size)
        if header.max_table_entries < needed or header.table_offset + needed * 4 > self._source.size:
            raise VhdFormatError(
                f"the BAT at byte {header.table_offset} has {header.max_table_entries} entries in a file of "
                f"{self._source.size} bytes; a disk of {self.size} bytes needs {needed}",
                offset=header.table_offset,
            )
        self.header = header
        self._bat = PagedTable(self._source, at=header.table_offset, count=needed, kind="I", order="big")
        self._bitmaps: Recent[bytes] = Recent(most=_KEPT_BITMAPS // header.bitmap_size)

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of the virtual disk from ``offset``.

        :param offset: first byte of the virtual disk, from 0.
        :param length: number of bytes.
        :returns: the bytes; zeros where nothing is stored.
        :raises ShortReadError: if the range is not inside the virtual disk, or a block is not inside the file.
        """
        check_range(name="the virtual disk", size=self.size, offset=offset, length=length)
        if self.header is None:
            return self._source.read(offset, length)
        pieces: list[bytes | memoryview] = []
        end = offset + length
        while offset < end:
            stop = min(end, offset + _READ_AT_ONCE)
            pieces += self._blocks(self.header, offset, stop)
            offset = stop
        return b"".join(pieces)

    def _blocks(self, header: DynamicHeader, offset: int, end: int) -> list[bytes | memoryview]:
        """Read a stretch of the disk; blocks that lie together in the file come with one request."""
        parts: list[tuple[int, int, int]] = []  # BAT entry, first byte in the block, bytes
        bitmaps: dict[int, bytes] = {}
        ranges: list[tuple[int, int]] = []
        missing: list[int] = []
        while offset < end:
            block, start = divmod(offset, header.block_size)
            take = min(end - offset, header.block_size - start)
            entry = self._bat[block]
            parts.append((entry, start, take))
            offset += take
            if entry == UNALLOCATED:
                continue
            at = entry * SECTOR
            ranges.append((at + header.bitmap_size + start, at + header.bitmap_size + start + take))
            known = self._bitmaps.get(entry)
            if known is None:
                missing.append(entry)
            else:
                bitmaps[entry] = known
        found = gather(self._source, ranges + [(e * SECTOR, e * SECTOR + header.bitmap_size) for e in missing])
        for entry, bitmap in zip(missing, found[len(ranges) :], strict=True):
            bitmaps[entry] = bytes(bitmap)
            self._bitmaps.put(entry, bitmaps[entry])
        data = iter(found)
        return [
            bytes(take) if entry == UNALLOCATED else mask_sectors(next(data), start=start, bitmap=bitmaps[entry])
            for entry, start, take in parts
        ]

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) byte ranges of the virtual disk that are stored, as few as can be.

        :returns: the ranges in rising order; all else reads as zeros.
        """
        if self.header is None and isinstance(self._source, KnowsHoles):
            return merged((start, min(end, self.size)) for start, end in self._source.data_ranges())
        return merged(self.stored_ranges())

    def stored_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) byte ranges of the virtual disk that are stored, each block for itself.

        :returns: the ranges in rising order; an end is the first byte after its range. All others are zeros.
        """
        if self.header is None:
            yield 0, self.size
            return
        for block, entry in enumerate(self._bat):
            if entry != UNALLOCATED:
                start = block * self.header.block_size
                yield start, min(start + self.header.block_size, self.size)

    def block_places(self) -> Iterator[int]:
        """Yield where the stored blocks lie.

        :returns: the byte of the file where each block's bitmap begins, in the order of the disk.
        """
        for entry in self._bat:
            if entry != UNALLOCATED:
                yield entry * SECTOR

    def digest(self) -> str:
        """Return the digest of the virtual disk, comparable with :func:`sealift.images.sparse.sparse_digest`.

        :returns: ``sparse-sha256:<hex>``.
        :raises ShortReadError: if a block is not inside the file.
        """
        return digest_of_chunks(self.size, self._chunks())

    def _chunks(self) -> Iterator[tuple[int, bytes]]:
        done = 0
        for start, end in self.stored_ranges():
            for number in range(max(start // DIGEST_CHUNK, done), -(-end // DIGEST_CHUNK)):
                at = number * DIGEST_CHUNK
                yield number, self.read(at, min(DIGEST_CHUNK, self.size - at))
                done = number + 1


def mask_sectors(data: Block, *, start: int, bitmap: bytes) -> Block | bytes:
    """Return block data with the sectors that the bitmap does not claim set to zero.

    :param data: bytes of a block.
    :param start: where in the block they begin.
    :param bitmap: the block's bitmap; the first sector is the highest bit of the first byte.
    :returns: as many bytes as ``data`` has.
    """
    first, last = start // SECTOR // 8, (start + len(data) - 1) // SECTOR // 8
    claimed = bitmap[first : last + 1]
    if claimed.count(0xFF) == last - first + 1:
        return data
    masked = bytearray(data)
    for number, bits in enumerate(claimed, start=first):
        for sector, beyond in _CLEAR[bits]:
            begin = max((number * 8 + sector) * SECTOR - start, 0)
            end = min((number * 8 + beyond) * SECTOR - start, len(data))
            if begin < end:
                masked[begin:end] = bytes(end - begin)
    return bytes(masked)


def _clear_runs(bits: int) -> Iterator[tuple[int, int]]:
    """Yield the (first, first after) runs of zeros among eight bits, the highest being number 0."""
    return merged((number, number + 1) for number in range(8) if not bits & 0x80 >> number)


_CLEAR: Final = tuple(tuple(_clear_runs(bits)) for bits in range(256))
"""For each byte of a bitmap the sectors that it does not claim."""
