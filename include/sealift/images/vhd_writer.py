"""Writes VHDs from raw disk files: dynamic ones that store only what is not zero, and fixed ones.

The same raw contents, UUID, time stamp and creator give the same bytes, however the raw file's zeros are stored.
Memory stays at one block and the BAT (4 MiB for the largest disk).
"""

from __future__ import annotations

import array
import dataclasses
import os
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from sealift.images import sparse, vhd

CREATOR = b"slft"
_PAGE = 4096
_ZERO_PAGE = bytes(_PAGE)
_ZERO_SECTOR = bytes(vhd.SECTOR)
_COPY_CHUNK = 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class VhdInfo:
    """What was written. Sizes are bytes."""

    path: Path
    size: int
    virtual_size: int
    uuid: UUID
    stored_blocks: int
    """Blocks that are in the file; 0 for a fixed disk."""


def write_dynamic_vhd(
    *,
    raw: Path,
    out: Path,
    uuid: UUID,
    creator_app: bytes = CREATOR,
    timestamp: datetime,
    block_size: int = vhd.DEFAULT_BLOCK_SIZE,
) -> VhdInfo:
    """Write a dynamic VHD of a raw disk. Holes and blocks of zeros are not stored.

    :param raw: the raw disk; its length, a multiple of 512 up to 2040 GiB, becomes the virtual size exactly.
    :param out: the file to write; an existing one is replaced.
    :param uuid: the disk's identity in the footer.
    :param creator_app: four bytes that name the creator.
    :param timestamp: creation time with a time zone.
    :param block_size: bytes of data per block: a power of two from 4096 up.
    :returns: what was written.
    :raises ValueError: if one of these cannot be had in a VHD.
    :raises OSError: if the raw disk cannot be read or the file not written.
    """
    if block_size < _PAGE or block_size & (block_size - 1):
        raise ValueError(f"block size {block_size} is not a power of two from {_PAGE} up")
    with raw.open("rb", buffering=0) as source, out.open("wb") as target:
        virtual_size = _checked_size(raw, source)
        footer = footer_for(
            disk_type=vhd.DiskType.DYNAMIC,
            virtual_size=virtual_size,
            uuid=uuid,
            creator_app=creator_app,
            timestamp=timestamp,
            data_offset=vhd.FOOTER_SIZE,
        ).pack()
        count = vhd.blocks_for(virtual_size, block_size)
        header = vhd.DynamicHeader(
            table_offset=vhd.FOOTER_SIZE + vhd.DYNAMIC_HEADER_SIZE, max_table_entries=count, block_size=block_size
        )
        table_sectors = -(-count * 4 // vhd.SECTOR)
        # The last sector of the table is filled up with "unallocated" too, as a longer table would be.
        bat = array.array("I", [vhd.UNALLOCATED]) * (table_sectors * vhd.SECTOR // 4)
        next_sector = header.table_offset // vhd.SECTOR + table_sectors
        stride = (header.bitmap_size + block_size) // vhd.SECTOR
        target.seek(next_sector * vhd.SECTOR)
        stored = 0
        fd = source.fileno()
        for number in sparse.units_with_data(fd, virtual_size, block_size):
            at = number * block_size
            data = sparse.pread_exactly(fd, min(block_size, virtual_size - at), at)
            if sparse.is_zero(data):
                continue
            target.write(sector_bitmap(data, size=header.bitmap_size))
            target.write(data)
            target.write(bytes(block_size - len(data)))
            bat[number] = next_sector
            next_sector += stride
            stored += 1
        target.write(footer)
        size = target.tell()
        target.seek(0)
        target.write(footer)
        target.write(header.pack())
        target.write(vhd.pack_bat(bat))
    return VhdInfo(path=out, size=size, virtual_size=virtual_size, uuid=uuid, stored_blocks=stored)


def write_fixed_vhd(*, raw: Path, out: Path, uuid: UUID, creator_app: bytes = CREATOR, timestamp: datetime) -> VhdInfo:
    """Write a fixed VHD of a raw disk: the data, then the footer. Zeros become holes of the file.

    Parameters as for :func:`write_dynamic_vhd`.

    :returns: what was written; no block is stored as such.
    :raises ValueError: if one of the parameters cannot be had in a VHD.
    :raises OSError: if the raw disk cannot be read or the file not written.
    """
    with raw.open("rb", buffering=0) as source, out.open("wb") as target:
        virtual_size = _checked_size(raw, source)
        footer = footer_for(
            disk_type=vhd.DiskType.FIXED,
            virtual_size=virtual_size,
            uuid=uuid,
            creator_app=creator_app,
            timestamp=timestamp,
            data_offset=vhd.NO_OFFSET,
        )
        fd = source.fileno()
        for number in sparse.units_with_data(fd, virtual_size, _COPY_CHUNK):
            at = number * _COPY_CHUNK
            data = sparse.pread_exactly(fd, min(_COPY_CHUNK, virtual_size - at), at)
            if not sparse.is_zero(data):
                target.seek(at)
                target.write(data)
        target.seek(virtual_size)
        target.write(footer.pack())
        size = target.tell()
    return VhdInfo(path=out, size=size, virtual_size=virtual_size, uuid=uuid, stored_blocks=0)


def sector_bitmap(data: bytes, *, size: int) -> bytes:
    """Return a block's bitmap: a bit is set where the sector holds anything but zeros.

    :param data: the block's data, whole sectors; it may end before the block does.
    :param size: length of the bitmap in bytes.
    :returns: ``size`` bytes; the first sector is the highest bit of the first byte.
    """
    bitmap = bytearray(size)
    for at in range(0, len(data), _PAGE):
        page = data[at : at + _PAGE]
        if page == _ZERO_PAGE:
            continue
        bits = 0
        for sector in range(len(page) // vhd.SECTOR):
            if page[sector * vhd.SECTOR : (sector + 1) * vhd.SECTOR] != _ZERO_SECTOR:
                bits |= 0x80 >> sector
        bitmap[at // _PAGE] = bits  # a page is eight sectors: one byte of the bitmap
    return bytes(bitmap)


def _checked_size(raw: Path, source: BinaryIO) -> int:
    size = os.fstat(source.fileno()).st_size
    if size == 0 or size % vhd.SECTOR:
        raise ValueError(f"{raw} has {size} bytes; a disk has a multiple of {vhd.SECTOR} bytes and at least one sector")
    if size > vhd.MAX_VIRTUAL_SIZE:
        raise ValueError(f"{raw} has {size} bytes; a VHD holds at most {vhd.MAX_VIRTUAL_SIZE} (2040 GiB)")
    return size


def footer_for(
    *, disk_type: vhd.DiskType, virtual_size: int, uuid: UUID, creator_app: bytes, timestamp: datetime, data_offset: int
) -> vhd.VhdFooter:
    """Make the footer of a new VHD.

    :param disk_type: fixed or dynamic.
    :param virtual_size: bytes of the disk.
    :param uuid: the disk's identity.
    :param creator_app: four bytes that name the creator.
    :param timestamp: creation time with a time zone.
    :param data_offset: where the dynamic header is; :data:`~sealift.images.vhd.NO_OFFSET` in a fixed disk.
    :returns: the footer. Its geometry makes QEMU and others take the disk's exact size.
    :raises ValueError: if one of these cannot be had in a VHD.
    """
    if len(creator_app) != 4:
        raise ValueError(f"the creator of a VHD has four bytes, not {creator_app!r}")
    cylinders, heads, per_track = vhd.geometry_for(virtual_size)
    if cylinders * heads * per_track * vhd.SECTOR != virtual_size and creator_app not in vhd.CURRENT_SIZE_CREATORS:
        # QEMU would cut the disk to the size that the geometry gives. The largest geometry tells it to take the exact
        # size; its own exact-size disks (force_size=on) carry it too.
        cylinders, heads, per_track = vhd.MAX_GEOMETRY
    return vhd.VhdFooter(
        data_offset=data_offset,
        timestamp=vhd.timestamp_seconds(timestamp),
        creator_app=creator_app,
        original_size=virtual_size,
        current_size=virtual_size,
        cylinders=cylinders,
        heads=heads,
        sectors_per_track=per_track,
        disk_type=disk_type,
        uuid=uuid,
    )
