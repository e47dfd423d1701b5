"""Writes images that are the disk itself: raw, and fixed VHDs, which are raw with a footer behind.

All of the disk is in the file, zeros too; where the file has holes, they are holes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from sealift.images import vhd
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.pieces import Output
from sealift.images.convert.vhd_stream import check_vhd_size
from sealift.images.convert.writer import Encoded
from sealift.images.sparse import is_zero
from sealift.images.vhd_writer import CREATOR, footer_for

UNIT: Final = 64 * 1024


class FlatWriter:
    """Writes one image that is the disk itself.

    :param size: bytes of the disk.
    :param name: the format's name in results.
    :param footer: what comes behind the disk.
    :raises ConversionError: there is no disk.
    """

    head = 0
    unit = UNIT

    def __init__(self, *, size: int, name: str = "raw", footer: bytes = b"") -> None:
        if size <= 0:
            raise ConversionError(f"A disk has a byte or more; this one has {size}.")
        self.size = size
        self.format = name
        self._footer = footer

    def largest(self, units: int) -> int:
        """Say how many bytes the file has; see :meth:`ImageWriter.largest`.

        :param units: does not matter: what is not stored is in the file too.
        """
        del units
        return self.size + len(self._footer)

    def begin(self, out: Output) -> None:
        """Write nothing.

        :param out: takes the bytes.
        """

    def encode(self, offset: int, data: bytes) -> Encoded:
        """Find out which units are not zeros; the others become zeros of the output.

        :param offset: byte of the disk where the stretch begins.
        :param data: its bytes.
        """
        pieces: list[bytes] = []
        parts: list[tuple[int, int]] = []
        for at in range(0, len(data), UNIT):
            piece = data[at : at + UNIT]
            if not is_zero(piece):
                pieces.append(piece)
                parts.append(((offset + at) // UNIT, len(piece)))
        if len(pieces) * UNIT >= len(data):
            return Encoded(data=data, parts=parts)
        return Encoded(data=b"".join(pieces), parts=parts)

    def place(self, out: Output, encoded: Encoded) -> None:
        """Write units at their places, and zeros between them.

        :param out: takes the bytes.
        :param encoded: the units.
        """
        data = memoryview(encoded.data)
        at = written = 0
        for number, length in encoded.parts:
            gap = number * UNIT - (out.position + at - written)
            if gap:
                out.write(data[written:at])
                written = at
                out.zeros(gap)
            at += length
        out.write(data[written:])

    def finish(self, out: Output) -> None:
        """Write the zeros at the end, and the footer.

        :param out: takes the bytes.
        """
        out.zeros(self.size - out.position)
        out.write(self._footer)

    def first(self) -> bytes:
        """Give the beginning of the file: nothing of it is held back."""
        return b""


def fixed_vhd_writer(
    *, size: int, identity: UUID, created: datetime = vhd.EPOCH, creator: bytes = CREATOR
) -> FlatWriter:
    """Make the writer of a fixed VHD.

    :param size: bytes of the disk: a multiple of 512 up to 2040 GiB; Azure wants whole MiB.
    :param identity: the disk's unique id in the footer.
    :param created: the footer's time stamp.
    :param creator: four bytes that name the creator.
    :returns: the writer.
    :raises ConversionError: the format cannot hold such a disk.
    """
    check_vhd_size(size)
    footer = footer_for(
        disk_type=vhd.DiskType.FIXED,
        virtual_size=size,
        uuid=identity,
        creator_app=creator,
        timestamp=created,
        data_offset=vhd.NO_OFFSET,
    )
    return FlatWriter(size=size, name="vhd-fixed", footer=footer.pack())
