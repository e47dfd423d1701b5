"""The part of the VHD proof that is about blocks: where they lie, whether any is lost, what their bitmaps say."""

from __future__ import annotations

import array
import dataclasses
import itertools
from collections.abc import Callable
from typing import Self

from sealift.images import vhd
from sealift.images.verdict import Checks

_BITMAP_SAMPLES = 4
_GAP_SAMPLES = 8
_GAP_SAMPLE_LENGTH = 8 * 1024
"""Bytes read where a lost block may begin: its bitmap, also when the producer aligned it to 4 KiB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the parts of a dynamic disk lie. Places are bytes of the file."""

    header: vhd.DynamicHeader
    entries: array.array[int]
    """The BAT: first sector of each block of the disk."""
    stored: array.array[int]
    """The entries that point at blocks, sorted."""
    areas: tuple[tuple[str, int, int], ...]
    """The metadata: name, first byte, first byte after, sorted."""
    footer_at: int

    @classmethod
    def of(cls, *, footer: vhd.VhdFooter, header: vhd.DynamicHeader, entries: array.array[int], footer_at: int) -> Self:
        """Return the layout that the structures describe.

        :param footer: the disk's footer, for the place of the dynamic header.
        :param header: the dynamic header, for the place of the BAT.
        :param entries: the BAT, as :func:`sealift.images.vhd.unpack_bat` gives it.
        :param footer_at: byte of the file where the footer begins.
        :returns: the layout, not yet checked.
        """
        areas = (
            ("the copy of the footer", 0, vhd.FOOTER_SIZE),
            ("the dynamic header", footer.data_offset, footer.data_offset + vhd.DYNAMIC_HEADER_SIZE),
            ("the BAT", header.table_offset, header.table_offset + header.max_table_entries * 4),
        )
        return cls(
            header=header,
            entries=entries,
            stored=array.array("I", sorted(entry for entry in entries if entry != vhd.UNALLOCATED)),
            areas=tuple(sorted(areas, key=lambda area: area[1])),
            footer_at=footer_at,
        )

    @property
    def stride(self) -> int:
        """Bytes of a block with its bitmap."""
        return self.header.bitmap_size + self.header.block_size

    @property
    def metadata_end(self) -> int:
        """First byte after the metadata, with the rest of its last sector."""
        return -(-max(end for _, _, end in self.areas) // vhd.SECTOR) * vhd.SECTOR

    def entry_in_words(self, entry: int) -> str:
        """Return which BAT entry has this value, and where.

        :param entry: a sector number that the BAT holds.
        :returns: the first such entry's number, its byte in the file, and its value.
        :raises ValueError: if the BAT does not hold it.
        """
        number = self.entries.index(entry)
        return f"BAT entry {number} (byte {self.header.table_offset + number * 4}, sector {entry})"


class BlockChecks:
    """Checks the blocks of one dynamic disk.

    :param layout: where they lie.
    :param checks: where findings go.
    :param read: reads (offset, length) of the file.
    """

    def __init__(self, layout: Layout, *, checks: Checks, read: Callable[[int, int], bytes]) -> None:
        self._layout = layout
        self._checks = checks
        self._read = read

    def check_areas(self) -> bool:
        """Check that header copy, dynamic header and BAT do not overlap.

        :returns: whether the check passed.
        """
        for (name, _, end), (other, start, _) in itertools.pairwise(self._layout.areas):
            if start < end:
                return self._checks.record(
                    "metadata.overlap", False, f"{other} begins at byte {start}, inside {name}, which ends at {end}"
                )
        return True

    def check_range(self) -> bool:
        """Check that each block lies between the metadata and the footer.

        :returns: whether the check passed.
        """
        layout = self._layout
        low, high = layout.metadata_end, layout.footer_at
        stored, stride = layout.stored, layout.stride
        low_sector, high_sector = low // vhd.SECTOR, (high - stride) // vhd.SECTOR
        outside = [entry for entry in stored if not low_sector <= entry <= high_sector]
        if not outside:
            end = stored[-1] * vhd.SECTOR + stride if stored else low
            return self._checks.record(
                "bat.range",
                True,
                f"{len(stored)} of {len(layout.entries)} blocks stored, {high - end} bytes between the last and the "
                "footer",
            )
        begin = outside[0] * vhd.SECTOR
        detail = (
            f"{len(outside)} of {len(stored)} stored blocks lie outside bytes {low} to {high}; "
            f"{layout.entry_in_words(outside[0])} puts its block at bytes {begin} to {begin + stride}"
        )
        if begin >= low:
            missing = stored[-1] * vhd.SECTOR + stride - high
            detail += f"; either the BAT is damaged or {missing} bytes are missing at the end of the file"
        return self._checks.record("bat.range", False, detail)

    def check_overlap(self) -> bool:
        """Check that no two blocks overlap.

        :returns: whether the check passed.
        """
        layout = self._layout
        sectors = layout.stride // vhd.SECTOR
        for one, other in itertools.pairwise(layout.stored):
            if other - one < sectors:
                first = layout.entry_in_words(one)
                # The same value twice: the second one is further on in the BAT.
                number = layout.entries.index(other, layout.entries.index(one) + 1 if one == other else 0)
                at = layout.header.table_offset + number * 4
                return self._checks.record(
                    "bat.overlap",
                    False,
                    f"blocks overlap: {first} and BAT entry {number} (byte {at}, sector {other}) are {other - one} "
                    f"sectors apart; a block with its bitmap takes {sectors}",
                )
        return self._checks.record("bat.overlap", True, "no two blocks overlap")

    def check_unclaimed(self, *, allowed: bool) -> bool:
        """Look for stored blocks that no BAT entry claims: data that was there and can no longer be reached.

        Gaps smaller than a block are padding. XenServer's map of full blocks behind the BAT is smaller too.

        :param allowed: note such blocks, but do not fail.
        :returns: whether the check passed.
        """
        layout = self._layout
        starts = [entry * vhd.SECTOR for entry in layout.stored]
        ends = [layout.metadata_end, *(start + layout.stride for start in starts)]
        gaps = [
            (end, start)
            for end, start in zip(ends, [*starts, layout.footer_at], strict=True)
            if start - end >= layout.stride
        ]
        # A lost block begins with its bitmap; a shifted file has data up to the footer.
        places = {
            (max(at, start), start, end)
            for start, end in gaps
            for at in (start, start + (end - start) // layout.stride // 2 * layout.stride, end - _GAP_SAMPLE_LENGTH)
        }
        for at, start, end in sorted(places)[:: -(-len(places) // _GAP_SAMPLES) or 1]:
            if any(self._read(at, min(_GAP_SAMPLE_LENGTH, end - at))):
                return self._checks.record(
                    "bat.unclaimed",
                    allowed,
                    f"bytes {start} to {end} belong to no block, though there is data at {at}: BAT entries of "
                    f"{(end - start) // layout.stride} blocks are lost, or a stretch of the file is there twice",
                )
        unused = sum(end - start for start, end in gaps)
        return self._checks.record(
            "bat.unclaimed",
            True,
            f"{unused} bytes belong to no block; samples of them are zero" if gaps else "all space belongs to a block",
        )

    def check_bitmaps(self, known: dict[int, bytes]) -> bool:
        """Check that the bitmaps of a few blocks over the whole file claim at least one sector.

        :param known: bitmaps that were read already, by BAT entry.
        :returns: whether the check passed.
        """
        stored = self._layout.stored
        if not stored:
            return self._checks.record("bitmaps", True, "no block is stored: the disk is blank")
        bitmaps = dict(known)
        for number in range(_BITMAP_SAMPLES):
            entry = stored[number * (len(stored) - 1) // (_BITMAP_SAMPLES - 1)]
            if entry not in bitmaps:
                bitmaps[entry] = self._read(entry * vhd.SECTOR, self._layout.header.bitmap_size)
        empty = next((entry for entry in sorted(bitmaps) if not any(bitmaps[entry])), None)
        detail = f"{len(bitmaps)} of {len(stored)} bitmaps read"
        if empty is not None:
            detail += (
                f"; the one at byte {empty * vhd.SECTOR} ({self._layout.entry_in_words(empty)}) claims no sector, but "
                "a block is stored only because something was written to it: zeros may have replaced data"
            )
        return self._checks.record("bitmaps", empty is None, detail)
