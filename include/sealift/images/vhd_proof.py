"""The checks of a VHD at level L1. :func:`sealift.images.proof.prove_vhd` is the way in.

Order: file length, footer, header copy, dynamic header, BAT, layout of the blocks, size of the disk, start of the disk.
A failed check ends the proof only where the next ones would have nothing to stand on, so that one report names all.
"""

from __future__ import annotations

import array

from sealift.images import vhd
from sealift.images.disk_checks import check_capacity, check_start
from sealift.images.partitions import PROBE_LENGTH, read_partition_table
from sealift.images.source import RangeSource
from sealift.images.verdict import Checks, DiskProof, ProofLevel
from sealift.images.vhd_blocks import BlockChecks, Layout

_HEAD = 128 * 1024
"""First read in bytes: header copy, dynamic header and a BAT for 64 GB; or the start of a fixed disk."""
_BAT_CHUNK = 1024 * 1024
_SPARE_ENTRIES_READ = 16 * 1024
"""How many BAT entries beyond the end of the disk are looked at; XenServer may keep a table for 2 TB."""
_LOOKS_LIKE = (
    (b"QFI\xfb", "a QCOW2 image"),
    (b"KDMV", "a VMDK image"),
    (b"vhdxfile", "a VHDX image"),
    (b"# Disk DescriptorFile", "a VMDK descriptor"),
    (b"\x1f\x8b", "gzip data"),
    (b"\xfd7zXZ", "xz data"),
    (b"PK\x03\x04", "a ZIP or OVA archive"),
    (b"<", "an XML or HTML text, such as an error answer"),
    (b"{", "a JSON text, such as an error answer"),
)


class VhdProver:
    """One proof of one image; see :func:`sealift.images.proof.prove_vhd` for the parameters."""

    def __init__(
        self,
        source: RangeSource,
        *,
        expected_capacity_bytes: int | None,
        boot_disk: bool,
        allow_unclaimed_space: bool,
    ) -> None:
        self._source = source
        self._size = source.size
        self._footer_at = source.size - vhd.FOOTER_SIZE
        self._expected = expected_capacity_bytes
        self._boot_disk = boot_disk
        self._allow_unclaimed = allow_unclaimed_space
        self._checks = Checks()
        self._head = b""
        self._bytes_read = 0
        self._requests = 0

    def prove(self) -> DiskProof:
        """Make all checks.

        :returns: the proof at level L1.
        :raises ProofFailed: if any failed.
        """
        self._check_length()
        tail = self._read(self._footer_at, vhd.FOOTER_SIZE)
        self._head = self._read(0, min(_HEAD, self._size))
        footer = self._check_footer(tail)
        layout: Layout | None = None
        if footer.disk_type == vhd.DiskType.FIXED:
            self._check_fixed_length(footer)
        else:
            self._check_header_copy(tail)
            layout = self._check_dynamic(footer)
        check_capacity(self._checks, footer.current_size, self._expected)
        # A file whose structure is broken does not lead to the right first sector, so nothing is said about it.
        self._checks.raise_if_failed()
        start = self._disk_start(footer, layout)
        table = read_partition_table(start, disk_size=footer.current_size)
        check_start(self._checks, table, boot_disk=self._boot_disk)
        self._checks.raise_if_failed()
        return DiskProof(
            level=ProofLevel.L1,
            format="vhd-fixed" if layout is None else "vhd-dynamic",
            size=self._size,
            virtual_size=footer.current_size,
            footer_uuid=str(footer.uuid),
            creator=footer.creator,
            checks=list(self._checks.made),
            partition_table=table.summary,
            partitions=[partition.as_dict() for partition in table.partitions],
            bytes_read=self._bytes_read,
            requests=self._requests,
        )

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        self._bytes_read += length
        self._requests += 1
        return self._source.read(offset, length)

    # -- the file and its footer ---------------------------------------------------------------------------------------

    def _check_length(self) -> None:
        if self._size == 0:
            raise self._checks.fail("file.length", "the file is empty (0 bytes), expected a VHD")
        if self._size < vhd.FOOTER_SIZE + vhd.SECTOR:
            raise self._checks.fail(
                "file.length", f"the file has {self._size} bytes, expected at least a footer and one sector (1024)"
            )
        self._checks.record(
            "file.length",
            self._size % vhd.SECTOR == 0,
            f"the file has {self._size} bytes"
            + ("" if self._size % vhd.SECTOR == 0 else f", expected a multiple of {vhd.SECTOR}: it was cut or padded"),
        )

    def _check_footer(self, tail: bytes) -> vhd.VhdFooter:
        """Return the footer to go on with: the one at the end, or if that is broken, the copy at the start."""
        good = self._check_footer_bytes(tail)
        footer = vhd.VhdFooter.unpack(tail)
        if not good:
            copy = self._head[: vhd.FOOTER_SIZE]
            footer = vhd.VhdFooter.unpack(copy)
            if footer.cookie != vhd.FOOTER_COOKIE or footer.stored_checksum != vhd.checksum(copy):
                self._checks.raise_if_failed()
        at = self._footer_at if good else 0
        if footer.disk_type == vhd.DiskType.DIFFERENCING:
            raise self._checks.fail(
                "footer.type",
                f"disk type 4 (differencing) at byte {at + 60}, expected 2 (fixed) or 3 (dynamic): the file holds only "
                "what changed against a parent disk, which is not here",
            )
        if footer.disk_type not in (vhd.DiskType.FIXED, vhd.DiskType.DYNAMIC):
            raise self._checks.fail(
                "footer.type", f"disk type {footer.disk_type} at byte {at + 60}, expected 2 (fixed) or 3 (dynamic)"
            )
        self._checks.record("footer.type", True, f"disk type {footer.disk_type} at byte {at + 60}")
        if footer.version >> 16 != vhd.FORMAT_VERSION >> 16:
            raise self._checks.fail(
                "footer.version", f"format version {footer.version:#010x} at byte {at + 12}, expected 0x00010000"
            )
        size = footer.current_size
        if size == 0 or size % vhd.SECTOR:
            raise self._checks.fail(
                "footer.sizes", f"a disk of {size} bytes (byte {at + 48}), expected a positive multiple of {vhd.SECTOR}"
            )
        self._checks.record("footer.sizes", True, _sizes_in_words(footer))
        return footer

    def _check_footer_bytes(self, tail: bytes) -> bool:
        at = self._footer_at
        if tail[:8] != vhd.FOOTER_COOKIE:
            return self._checks.record(
                "footer.cookie",
                False,
                f"bytes {tail[:8].hex(' ')} at {at}, where the footer of a VHD begins with {vhd.FOOTER_COOKIE!r}"
                f"{self._why_no_footer(tail)}",
            )
        self._checks.record("footer.cookie", True, f"footer at byte {at}")
        stored, computed = int.from_bytes(tail[64:68], "big"), vhd.checksum(tail)
        return self._checks.record(
            "footer.checksum",
            stored == computed,
            f"footer checksum {stored:#010x} at byte {at + 64}"
            + ("" if stored == computed else f", but the footer's bytes give {computed:#010x}"),
        )

    def _why_no_footer(self, tail: bytes) -> str:
        if tail[1:9] == vhd.FOOTER_COOKIE:
            return "; it begins one byte later: a footer of 511 bytes, as tools before Virtual PC 2004 wrote it"
        if self._head[:8] == vhd.FOOTER_COOKIE:
            what = "the end was zeroed" if not any(tail) else "the file was cut, or its end overwritten"
            return f"; the copy at byte 0 is there: {what}"
        for magic, what in _LOOKS_LIKE:
            if self._head.startswith(magic):
                return f"; the file looks like {what}"
        table = read_partition_table(self._head[:PROBE_LENGTH], disk_size=self._size)
        if table.kind != "none" or table.content:
            return "; the file looks like a raw disk, or a fixed VHD that was cut"
        return ""

    def _check_fixed_length(self, footer: vhd.VhdFooter) -> None:
        expected = footer.current_size + vhd.FOOTER_SIZE
        self._checks.record(
            "file.end",
            self._size == expected,
            f"the file has {self._size} bytes for a fixed disk of {footer.current_size}"
            + ("" if self._size == expected else f", expected {expected}: {_difference(self._size, expected)}"),
        )

    # -- the structures of a dynamic disk ------------------------------------------------------------------------------

    def _check_header_copy(self, tail: bytes) -> None:
        copy = self._head[: vhd.FOOTER_SIZE]
        if copy == tail:
            self._checks.record("header_copy", True, "the copy at byte 0 equals the footer")
            return
        at = next(number for number, (one, other) in enumerate(zip(copy, tail, strict=True)) if one != other)
        if copy[:8] != vhd.FOOTER_COOKIE:
            detail = f"bytes {copy[:8].hex(' ')} at 0, where the copy of the footer begins with {vhd.FOOTER_COOKIE!r}"
        else:
            detail = (
                f"the copy of the footer differs from it first at byte {at}: {copy[at]:#04x} in the copy, "
                f"{tail[at]:#04x} in the footer (byte {self._footer_at + at})"
            )
        self._checks.record("header_copy", False, detail)

    def _check_dynamic(self, footer: vhd.VhdFooter) -> Layout:
        header = self._check_dynamic_header(footer)
        entries = self._check_bat(header, footer.current_size)
        layout = Layout.of(footer=footer, header=header, entries=entries, footer_at=self._footer_at)
        blocks = BlockChecks(layout, checks=self._checks, read=self._read)
        # Only blocks that lie where they may, each on its own, leave gaps that mean something.
        if blocks.check_areas() & blocks.check_range() & blocks.check_overlap():
            blocks.check_unclaimed(allowed=self._allow_unclaimed)
        return layout

    def _check_dynamic_header(self, footer: vhd.VhdFooter) -> vhd.DynamicHeader:
        at = footer.data_offset
        if at < vhd.FOOTER_SIZE or at + vhd.DYNAMIC_HEADER_SIZE > self._footer_at:
            raise self._checks.fail(
                "dynamic_header.place",
                f"the footer puts the dynamic header at byte {at}, expected {vhd.FOOTER_SIZE} to "
                f"{self._footer_at - vhd.DYNAMIC_HEADER_SIZE}",
            )
        data = self._read(at, vhd.DYNAMIC_HEADER_SIZE)
        header = vhd.DynamicHeader.unpack(data)
        if header.cookie != vhd.DYNAMIC_COOKIE:
            raise self._checks.fail(
                "dynamic_header.cookie",
                f"bytes {header.cookie.hex(' ')} at {at}, where the dynamic header begins with {vhd.DYNAMIC_COOKIE!r}",
            )
        self._checks.record("dynamic_header.cookie", True, f"dynamic header at byte {at}")
        computed = vhd.checksum(data)
        if header.stored_checksum != computed:
            raise self._checks.fail(
                "dynamic_header.checksum",
                f"dynamic header checksum {header.stored_checksum:#010x} at byte {at + 36}, but its bytes give "
                f"{computed:#010x}",
            )
        self._checks.record("dynamic_header.checksum", True, f"dynamic header checksum {computed:#010x}")
        block = header.block_size
        if block < vhd.SECTOR or block & (block - 1):
            raise self._checks.fail(
                "dynamic_header.block_size",
                f"block size {block} at byte {at + 32}, expected a power of two from {vhd.SECTOR} up",
            )
        self._checks.record("dynamic_header.block_size", True, f"blocks of {block} bytes")
        return header

    def _check_bat(self, header: vhd.DynamicHeader, virtual_size: int) -> array.array[int]:
        needed = vhd.blocks_for(virtual_size, header.block_size)
        if header.max_table_entries < needed:
            raise self._checks.fail(
                "bat.entries",
                f"the BAT has {header.max_table_entries} entries; a disk of {virtual_size} bytes in blocks of "
                f"{header.block_size} needs {needed}",
            )
        start, end = header.table_offset, header.table_offset + header.max_table_entries * 4
        if start < vhd.FOOTER_SIZE or end > self._footer_at:
            raise self._checks.fail(
                "bat.place",
                f"the BAT lies at bytes {start} to {end}, expected between {vhd.FOOTER_SIZE} and the footer at "
                f"{self._footer_at}",
            )
        looked_at = min(header.max_table_entries, needed + _SPARE_ENTRIES_READ)
        data = b"".join(
            self._read_bat(start + at, min(_BAT_CHUNK, looked_at * 4 - at))
            for at in range(0, looked_at * 4, _BAT_CHUNK)
        )
        entries = vhd.unpack_bat(data)
        spare = entries[needed:]
        used = len(spare) - spare.count(vhd.UNALLOCATED)
        self._checks.record(
            "bat.entries",
            used == 0,
            f"{header.max_table_entries} entries at byte {start}, {needed} needed"
            + ("" if used == 0 else f"; {used} of the entries beyond the end of the disk point at blocks"),
        )
        return entries[:needed]

    def _read_bat(self, offset: int, length: int) -> bytes:
        """Read a stretch of the BAT, taking from the first read what it already holds."""
        have = self._head[offset : offset + length]
        return have if len(have) == length else have + self._read(offset + len(have), length - len(have))

    # -- the disk ------------------------------------------------------------------------------------------------------

    def _disk_start(self, footer: vhd.VhdFooter, layout: Layout | None) -> bytes:
        """Return the first bytes of the virtual disk, and for a dynamic one check bitmaps on the way."""
        length = min(PROBE_LENGTH, footer.current_size)
        if layout is None:
            return self._read(0, length)
        bitmaps: dict[int, bytes] = {}
        pieces = []
        for number in range(vhd.blocks_for(length, layout.header.block_size)):
            take = min(layout.header.block_size, length - number * layout.header.block_size)
            entry = layout.entries[number]
            if entry == vhd.UNALLOCATED:
                pieces.append(bytes(take))
                continue
            data = self._read(entry * vhd.SECTOR, layout.header.bitmap_size + take)
            bitmaps[entry] = data[: layout.header.bitmap_size]
            pieces.append(vhd.mask_sectors(data[layout.header.bitmap_size :], start=0, bitmap=bitmaps[entry]))
        BlockChecks(layout, checks=self._checks, read=self._read).check_bitmaps(bitmaps)
        return b"".join(pieces)


def _difference(found: int, expected: int) -> str:
    return f"{expected - found} bytes missing" if found < expected else f"{found - expected} bytes too many"


def _sizes_in_words(footer: vhd.VhdFooter) -> str:
    words = f"a disk of {footer.current_size} bytes"
    if footer.original_size != footer.current_size:
        words += f", {footer.original_size} when it was made"
    geometry = (footer.cylinders, footer.heads, footer.sectors_per_track)
    if (
        footer.creator_app not in vhd.CURRENT_SIZE_CREATORS
        and geometry != vhd.MAX_GEOMETRY
        and footer.geometry_size != footer.current_size
    ):
        words += f"; QEMU takes {footer.geometry_size} from the geometry, as the creator is {footer.creator!r}"
    return words
