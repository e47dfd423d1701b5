"""Writes dynamic VHDs in one go: blocks as they come, and the table that leads to them last.

After the Virtual Hard Disk Image Format Specification 1.0 (Microsoft, 2006). The block allocation table (BAT) stands
before the blocks, and its length is known from the disk's size: at most 4 MiB. So footer copy, header and BAT are held
back, and which blocks are stored can be told from their bytes in the same pass: blocks of zeros are left out, even
those that the source stores. The same disk gives the same file as
:func:`sealift.images.vhd_writer.write_dynamic_vhd` gives.
"""

from __future__ import annotations

import array
from datetime import datetime
from uuid import UUID

from sealift.images import vhd
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.pieces import Output
from sealift.images.convert.writer import Encoded, padded
from sealift.images.sparse import is_zero
from sealift.images.vhd_writer import CREATOR, footer_for, sector_bitmap


class DynamicVhdWriter:
    """Writes one dynamic VHD.

    :param size: bytes of the disk: a multiple of 512 up to 2040 GiB.
    :param identity: the disk's unique id in the footer.
    :param created: the footer's time stamp.
    :param creator: four bytes that name the creator.
    :raises ConversionError: the format cannot hold such a disk.
    """

    format = "vhd"
    unit = vhd.DEFAULT_BLOCK_SIZE

    def __init__(self, *, size: int, identity: UUID, created: datetime = vhd.EPOCH, creator: bytes = CREATOR) -> None:
        check_vhd_size(size)
        self.size = size
        self._footer = footer_for(
            disk_type=vhd.DiskType.DYNAMIC,
            virtual_size=size,
            uuid=identity,
            creator_app=creator,
            timestamp=created,
            data_offset=vhd.FOOTER_SIZE,
        ).pack()
        count = vhd.blocks_for(size, self.unit)
        self._header = vhd.DynamicHeader(
            table_offset=vhd.FOOTER_SIZE + vhd.DYNAMIC_HEADER_SIZE, max_table_entries=count, block_size=self.unit
        )
        table = padded(count * 4, vhd.SECTOR)
        self._bat = array.array("I", [vhd.UNALLOCATED]) * (table // 4)
        self.head = self._header.table_offset + table

    def largest(self, units: int) -> int:
        """Say how many bytes the file can have at the most; see :meth:`ImageWriter.largest`.

        :param units: blocks that may be stored.
        """
        return self.head + units * (self._header.bitmap_size + self.unit) + vhd.FOOTER_SIZE

    def begin(self, out: Output) -> None:
        """Write nothing: all that comes before the blocks is held back.

        :param out: takes the bytes.
        """

    def encode(self, offset: int, data: bytes) -> Encoded:
        """Put bitmaps before blocks; blocks of zeros are left out. The disk's last block is filled up with zeros.

        :param offset: byte of the disk where the stretch begins.
        :param data: its bytes.
        """
        pieces: list[bytes] = []
        parts: list[tuple[int, int]] = []
        for at in range(0, len(data), self.unit):
            block = data[at : at + self.unit]
            if is_zero(block):
                continue
            # Of a sector that the source cuts off, the rest is zeros as well.
            block = block.ljust(padded(len(block), vhd.SECTOR), b"\0")
            bitmap = sector_bitmap(block, size=self._header.bitmap_size)
            pieces += [bitmap, block, bytes(self.unit - len(block))]
            parts.append(((offset + at) // self.unit, len(bitmap) + self.unit))
        return Encoded(data=b"".join(pieces), parts=parts)

    def place(self, out: Output, encoded: Encoded) -> None:
        """Write blocks, and note where they are.

        :param out: takes the bytes.
        :param encoded: the blocks.
        """
        at = out.position
        for number, length in encoded.parts:
            self._bat[number] = at // vhd.SECTOR
            at += length
        out.write(encoded.data)

    def finish(self, out: Output) -> None:
        """Write the footer.

        :param out: takes the bytes.
        """
        out.write(self._footer)

    def first(self) -> bytes:
        """Give copy of the footer, header and BAT."""
        return self._footer + self._header.pack() + vhd.pack_bat(self._bat)


def check_vhd_size(size: int) -> None:
    """Refuse a disk that no VHD holds.

    :param size: its bytes.
    :raises ConversionError: there are too many, or they are no whole sectors.
    """
    if size <= 0 or size % vhd.SECTOR:
        raise ConversionError(f"A VHD holds a disk of whole sectors of 512 bytes; this one has {size} bytes.")
    if size > vhd.MAX_VIRTUAL_SIZE:
        raise ConversionError(
            f"A VHD holds at most {vhd.MAX_VIRTUAL_SIZE} bytes (2040 GiB); this disk has {size}. Convert it to VMDK or "
            "qcow2."
        )
