"""Writes streamOptimized VMDKs: version 3, compressed grains with markers, grain tables after their grains, a footer.

After VMware's Virtual Disk Format 5.0 (2011), "Stream-Optimized Compressed Sparse Extents". The format is made for
this: the header says that the directory is found by the footer, so nothing has to be known before it is written. ESXi
refuses streams of a version below 3 (glennmatthews/cot#65).
"""

from __future__ import annotations

import array
import dataclasses
import struct
import sys
from typing import Final, Literal
from uuid import UUID

from sealift.images import vmdk
from sealift.images.convert.deflate import Deflate, stored_size
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.pieces import Output
from sealift.images.convert.writer import Encoded, padded
from sealift.images.sparse import is_zero

Adapter = Literal["lsilogic", "buslogic", "ide"]

GRAIN: Final = 64 * 1024
TABLE_ENTRIES: Final = 512
OVERHEAD: Final = 128
"""Sectors before the first grain: header and descriptor."""

_FLAGS: Final = 1 | vmdk.FLAG_COMPRESSED | vmdk.FLAG_MARKERS
_DESCRIPTOR_SECTORS: Final = 20
_GRAIN_HEADER: Final = struct.Struct("<QI")
_MARKER: Final = struct.Struct("<QII496x")
_TABLE_BYTES: Final = TABLE_ENTRIES * 4
_NOT_A_CID: Final = (0, 0xFFFF_FFFE, 0xFFFF_FFFF)


class VmdkStreamWriter:
    """Writes one streamOptimized VMDK.

    :param size: bytes of the disk: a multiple of 512.
    :param identity: what the descriptor's content ids are made of.
    :param deflate: compresses grains.
    :param adapter: the disk controller that the descriptor names.
    :raises ConversionError: the format cannot hold such a disk.
    """

    format = "vmdk"
    head = 0
    unit = GRAIN

    def __init__(self, *, size: int, identity: UUID, deflate: Deflate, adapter: Adapter = "lsilogic") -> None:
        if size <= 0 or size % vmdk.SECTOR or size // vmdk.SECTOR > vmdk.LARGEST_DISK:
            raise ConversionError(
                f"A VMDK holds a disk of whole sectors of 512 bytes, up to 62 TiB; this one has {size} bytes."
            )
        self.size = size
        self._deflate = deflate
        self._header = vmdk.SparseHeader(
            magic=vmdk.MAGIC,
            version=3,
            flags=_FLAGS,
            capacity=size // vmdk.SECTOR,
            grain=GRAIN // vmdk.SECTOR,
            descriptor_at=1,
            descriptor_size=_DESCRIPTOR_SECTORS,
            table_entries=TABLE_ENTRIES,
            redundant_directory_at=0,
            directory_at=vmdk.DIRECTORY_AT_END,
            overhead=OVERHEAD,
            unclean=0,
            newlines=vmdk.NEWLINES,
            compression=vmdk.DEFLATE,
        )
        self._descriptor = descriptor(size=size, identity=identity, adapter=adapter)
        self._directory = array.array("I", bytes(4 * self._header.tables))
        self._number = -1
        self._table = array.array("I")

    def largest(self, units: int) -> int:
        """Say how many bytes the file can have at the most; see :meth:`ImageWriter.largest`.

        :param units: grains that may be stored.
        """
        grain = padded(_GRAIN_HEADER.size + stored_size(GRAIN) + 6, vmdk.SECTOR)
        tables = min(units, len(self._directory)) * (vmdk.SECTOR + _TABLE_BYTES)
        return OVERHEAD * vmdk.SECTOR + units * grain + tables + len(self._directory) * 4 + 5 * vmdk.SECTOR

    def begin(self, out: Output) -> None:
        """Write header and descriptor.

        :param out: takes the bytes.
        """
        out.write(self._header.pack())
        out.write(self._descriptor)
        out.align(OVERHEAD * vmdk.SECTOR)

    def encode(self, offset: int, data: bytes) -> Encoded:
        """Compress grains; those of zeros are left out. The disk's last grain is filled up with zeros.

        :param offset: byte of the disk where the stretch begins.
        :param data: its bytes.
        """
        pieces: list[bytes] = []
        parts: list[tuple[int, int]] = []
        for at in range(0, len(data), GRAIN):
            grain = data[at : at + GRAIN]
            if is_zero(grain):
                continue
            packed = self._deflate.stream(grain.ljust(GRAIN, b"\0"))
            used = _GRAIN_HEADER.size + len(packed)
            length = padded(used, vmdk.SECTOR)
            pieces += [_GRAIN_HEADER.pack((offset + at) // vmdk.SECTOR, len(packed)), packed, bytes(length - used)]
            parts.append(((offset + at) // GRAIN, length))
        return Encoded(data=b"".join(pieces), parts=parts)

    def place(self, out: Output, encoded: Encoded) -> None:
        """Write grains, and before those of another table the table of the last ones.

        :param out: takes the bytes.
        :param encoded: the grains.
        :raises ConversionError: the file becomes larger than its tables can say.
        """
        data = memoryview(encoded.data)
        at = written = 0
        for number, length in encoded.parts:
            table, index = divmod(number, TABLE_ENTRIES)
            if table != self._number:
                out.write(data[written:at])
                written = at
                self._end_table(out)
                self._number, self._table = table, array.array("I", bytes(_TABLE_BYTES))
            self._table[index] = _sector(out.position + at - written)
            at += length
        out.write(data[written:])

    def finish(self, out: Output) -> None:
        """Write the last table, the directory, the footer and the end of the stream.

        :param out: takes the bytes.
        :raises ConversionError: the file becomes larger than its tables can say.
        """
        self._end_table(out)
        directory = _little(self._directory)
        directory = directory.ljust(padded(len(directory), vmdk.SECTOR), b"\0")
        out.write(_MARKER.pack(len(directory) // vmdk.SECTOR, 0, vmdk.MARKER_DIRECTORY))
        footer = dataclasses.replace(self._header, directory_at=_sector(out.position))
        out.write(directory)
        out.write(_MARKER.pack(1, 0, vmdk.MARKER_FOOTER))
        out.write(footer.pack())
        out.write(_MARKER.pack(0, 0, vmdk.MARKER_END))

    def first(self) -> bytes:
        """Give the beginning of the file: nothing of it is held back."""
        return b""

    def _end_table(self, out: Output) -> None:
        if self._number < 0:
            return
        out.write(_MARKER.pack(_TABLE_BYTES // vmdk.SECTOR, 0, vmdk.MARKER_TABLE))
        self._directory[self._number] = _sector(out.position)
        out.write(_little(self._table))
        self._number = -1


def descriptor(*, size: int, identity: UUID, adapter: Adapter) -> bytes:
    """Give the descriptor inside a streamOptimized VMDK.

    The geometry is what a BIOS makes of such a disk: 255 heads and 63 sectors behind SCSI, and behind IDE 16 heads, of
    which ATA counts at most 16,383 cylinders. The content id is the end of the long one, as VMware's tools have it.

    :param size: bytes of the disk.
    :param identity: becomes the long content id.
    :param adapter: the disk controller.
    :returns: text, filled up with zeros to whole sectors.
    """
    heads, most = (16, 16_383) if adapter == "ide" else (255, 65_535)
    sectors = size // vmdk.SECTOR
    cylinders = max(1, min(most, -(-sectors // (heads * 63))))
    cid = identity.int & 0xFFFF_FFFF
    if cid in _NOT_A_CID:
        cid = identity.int >> 32 & 0x7FFF_FFFF | 1
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        'encoding="UTF-8"',
        f"CID={cid:08x}",
        f"parentCID={vmdk.NO_PARENT}",
        'createType="streamOptimized"',
        "",
        "# Extent description",
        f'RW {sectors} SPARSE "disk.vmdk"',
        "",
        "# The Disk Data Base",
        "#DDB",
        "",
        f'ddb.longContentID = "{identity.hex[:24]}{cid:08x}"',
        'ddb.virtualHWVersion = "4"',
        f'ddb.geometry.cylinders = "{cylinders}"',
        f'ddb.geometry.heads = "{heads}"',
        'ddb.geometry.sectors = "63"',
        f'ddb.adapterType = "{adapter}"',
        "",
    ]
    return "\n".join(lines).encode().ljust(_DESCRIPTOR_SECTORS * vmdk.SECTOR, b"\0")


def _sector(position: int) -> int:
    sector = position // vmdk.SECTOR
    if sector > 0xFFFF_FFFF:
        raise ConversionError(
            "The VMDK would become larger than 2 TiB, which its tables cannot say. Convert this disk to qcow2 or VHD."
        )
    return sector


def _little(entries: array.array[int]) -> bytes:
    copy = array.array("I", entries)
    if sys.byteorder == "big":
        copy.byteswap()
    return copy.tobytes()
