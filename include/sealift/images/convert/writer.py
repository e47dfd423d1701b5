"""What a writer of a format does: encode units in any thread, then place them in the file in their order.

The disk is cut into units: grains, clusters, blocks. To encode a unit needs nothing but its bytes, so many threads may
do it at once. To place it needs all that was placed before, so one thread does it, in the order of the disk; that is
only counting and handing on. What is written depends on the disk alone, never on how it was cut into stretches or
shared out among threads.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from sealift.images.convert.pieces import Output

MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A stretch of a disk as a format stores it.

    :param data: what is stored, one unit after the other.
    :param parts: for each unit that is stored, in rising order: its number, and its bytes in ``data``. Units of zeros
        are left out.
    """

    data: bytes
    parts: list[tuple[int, int]]


class ImageWriter(Protocol):
    """Writes one image of a format.

    :param format: its name in results.
    :param size: bytes of the disk in the image.
    :param head: bytes at the beginning of the file that come last.
    :param unit: bytes of the disk that are stored together, a power of two; the last unit may reach beyond the disk.
    """

    format: str
    size: int
    head: int
    unit: int

    def largest(self, units: int) -> int:
        """Say how many bytes the file can have at the most.

        :param units: of the disk, that may be stored.
        """
        ...

    def begin(self, out: Output) -> None:
        """Write what comes before all units."""
        ...

    def encode(self, offset: int, data: bytes) -> Encoded:
        """Encode a stretch of the disk. In any thread.

        :param offset: byte of the disk where it begins: a multiple of the unit.
        :param data: whole units, or all up to the end of the disk.
        """
        ...

    def place(self, out: Output, encoded: Encoded) -> None:
        """Write an encoded stretch; they come in rising order."""
        ...

    def finish(self, out: Output) -> None:
        """Write what comes after all units."""
        ...

    def first(self) -> bytes:
        """Give the beginning of the file, ``head`` bytes, once all else is written."""
        ...


def padded(size: int, unit: int) -> int:
    """Return the smallest multiple of a unit that is not below a size.

    :param size: in bytes.
    :param unit: in bytes.
    """
    return -(-size // unit) * unit
