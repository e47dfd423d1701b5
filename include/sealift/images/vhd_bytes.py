"""What a proof of every byte looks at in a VHD while the bytes pass: bitmaps against data, and zeros.

A block's bitmap says which of its sectors were written. A sector that holds data but is not claimed reads as zeros with
one program (XenServer's blktap, this one) and as data with another (QEMU, which does not look at bitmaps of dynamic
disks). That is told of, and no failure: a producer may leave there what lay on its storage before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, Protocol

from sealift.images import vhd
from sealift.images.reading_through import SPAN, even_spans
from sealift.images.source import RangeSource
from sealift.images.sparse import is_zero
from sealift.images.verdict import Checks

LARGEST_BLOCK: Final = 8 * 1024 * 1024
"""Bytes of a block up to which it is read in one piece, and its bitmap compared with its data; producers take 2 MiB."""

_UNIT: Final = 64 * 1024
_SAMPLE_EVERY: Final = 4096


class BytesWatch(Protocol):
    """Decides how a file is read in full, and looks at the pieces as they come."""

    def spans(self, length: int = SPAN) -> Iterator[tuple[int, int]]:
        """Give the (start, end) of each read, in order, each of about a length: together the whole file."""
        ...

    def look(self, at: int, data: bytes | memoryview) -> None:
        """Look at a piece: where it begins in the file, and its bytes."""
        ...

    def conclude(self, checks: Checks) -> None:
        """Say what was seen."""
        ...


class AnyBytes:
    """Watches a file of which nothing is known: only zeros are seen.

    :param size: bytes of the file.
    :param boot_disk: a server starts from it: zeros only are then a failure.
    """

    def __init__(self, *, size: int, boot_disk: bool) -> None:
        self._size = size
        self._boot_disk = boot_disk
        self._zero = 0

    def spans(self, length: int = SPAN) -> Iterator[tuple[int, int]]:
        """See :class:`BytesWatch`."""
        return even_spans(0, self._size, length)

    def look(self, at: int, data: bytes | memoryview) -> None:  # noqa: ARG002
        """See :class:`BytesWatch`."""
        self._zero += zero_bytes(data)

    def conclude(self, checks: Checks) -> None:
        """See :class:`BytesWatch`."""
        checks.record(
            "zeros",
            self._zero < self._size or not self._boot_disk,
            f"{self._zero} of {self._size} bytes are in stretches of 64 KiB of zeros",
        )


class VhdBytes:
    """Watches a VHD whose structure has been proven.

    :param source: the file.
    :param boot_disk: the server starts from it: no data at all is then a failure.
    """

    def __init__(self, source: RangeSource, *, boot_disk: bool) -> None:
        self._size = source.size
        self._boot_disk = boot_disk
        reader = vhd.VhdReader(source)
        self._footer_at = source.size - vhd.FOOTER_SIZE
        self._bitmap_size = self._block_size = 0
        self._blocks: list[int] = []
        if reader.header is not None and reader.header.block_size <= LARGEST_BLOCK:
            self._bitmap_size, self._block_size = reader.header.bitmap_size, reader.header.block_size
            self._blocks = sorted(reader.block_places())
        self._whole_blocks = frozenset(self._blocks)
        self._dynamic = reader.header is not None
        self._zero = 0
        self._data = 0
        self._blank_blocks = 0
        self._last_blank = -1
        self._hidden: list[int] = []

    def spans(self, length: int = SPAN) -> Iterator[tuple[int, int]]:
        """See :class:`BytesWatch`. No block is cut in two."""
        stride = self._bitmap_size + self._block_size
        begun, at = 0, 0
        for start in self._blocks:
            if start > at:
                if at > begun:
                    yield begun, at
                yield from even_spans(at, start, length)
                begun = at = start
            if at + stride - begun > max(length + length // 8, stride):
                yield begun, at
                begun = at
            at += stride
        if at > begun:
            yield begun, at
        yield from even_spans(at, self._size, length)

    def look(self, at: int, data: bytes | memoryview) -> None:
        """See :class:`BytesWatch`."""
        if at not in self._whole_blocks:
            end = min(at + len(data), self._footer_at) - at
            if not self._dynamic and end > 0:
                zero = zero_bytes(data[:end])
                self._zero += zero
                self._data += end - zero
            return
        for start in range(0, len(data), self._bitmap_size + self._block_size):
            self._look_at_block(at + start, data, start)

    def _look_at_block(self, at: int, data: bytes | memoryview, start: int) -> None:
        """Look at one block: where it begins in the file, and in the piece that holds it."""
        begins = start + self._bitmap_size
        ends = begins + self._block_size
        if _blank(data, begins, ends):
            self._blank_blocks += 1
            self._zero += self._block_size
            self._last_blank = at
            return
        self._data += self._block_size
        for first, last in unclaimed(bytes(data[start:begins]), self._block_size):
            if not _blank(data, begins + first, begins + last):
                self._hidden.append(at)
                return

    def conclude(self, checks: Checks) -> None:
        """See :class:`BytesWatch`."""
        if self._blocks:
            detail = f"{len(self._blocks)} bitmaps compared with their blocks"
            if self._hidden:
                detail += (
                    f"; {len(self._hidden)} blocks hold data in sectors that their bitmaps do not claim, the first at "
                    f"byte {self._hidden[0]}: QEMU reads that data, and whoever looks at bitmaps reads zeros"
                )
            checks.record("bitmaps.all", True, detail)
        words = f"{self._data} bytes of data, {self._zero} bytes of stored zeros"
        if self._blank_blocks:
            words += f"; {self._blank_blocks} of {len(self._blocks)} stored blocks hold only zeros"
        if self._blocks and self._last_blank == self._blocks[-1]:
            words += ", the last one in the file among them, as where a write ended early"
        empty = not self._data and (not self._dynamic or bool(self._blocks))
        checks.record(
            "zeros",
            not (empty and self._boot_disk),
            words + ("; the server starts from this disk, which holds nothing" if empty and self._boot_disk else ""),
        )


def unclaimed(bitmap: bytes, block_size: int) -> Iterator[tuple[int, int]]:
    """Give the stretches of a block that its bitmap does not claim.

    :param bitmap: the bitmap; the first sector is the highest bit of the first byte.
    :param block_size: bytes of the block.
    :returns: (start, end) in bytes of the block, in rising order, each as long as it can be.
    """
    sectors = block_size // vhd.SECTOR
    used = bitmap[: -(-sectors // 8)]
    if used.count(0xFF) == len(used):
        return
    bits = "".join(f"{byte:08b}" for byte in used)[:sectors]
    changes = [0, *(number for number, (one, other) in enumerate(pairwise(bits), 1) if one != other), sectors]
    for start, end in pairwise(changes):
        if bits[start] == "0":
            yield start * vhd.SECTOR, end * vhd.SECTOR


def zero_bytes(data: bytes | memoryview) -> int:
    """Count the bytes that are in stretches of 64 KiB of zeros, aligned to the piece's beginning.

    :param data: the piece.
    :returns: how many.
    """
    ends = ((start, min(start + _UNIT, len(data))) for start in range(0, len(data), _UNIT))
    return sum(end - start for start, end in ends if _blank(data, start, end))


def _blank(data: bytes | memoryview, start: int, end: int) -> bool:
    """Whether a stretch holds only zeros. Few do, and a few of its bytes tell: comparing all takes a copy of them."""
    return not any(data[start:end:_SAMPLE_EVERY]) and is_zero(bytes(data[start:end]))
