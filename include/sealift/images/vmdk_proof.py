"""The checks of a VMDK at level L1. :func:`sealift.images.proof.prove_image` is the way in.

Order: file length, header, descriptor, footer and end of stream, directory, tables, grains, the disk's size and start.
Nothing in a VMDK has a checksum but the compressed grains; so L1 looks at what must agree with something else: footer
and header, both directories, markers and what they mark, tables and the places that they lead to.
"""

from __future__ import annotations

import array
import itertools
from collections.abc import Iterable

from sealift.images import vmdk
from sealift.images.disk_checks import check_disk
from sealift.images.sampling import CountedSource, spread
from sealift.images.source import RangeSource
from sealift.images.verdict import Checks, DiskProof, ProofLevel

TABLE_SAMPLES = 128
"""So many grain tables are read; of a disk with more of them, sixteen stretches over its whole length."""

_STRETCH = 8
"""Tables that are read together, where they lie together."""

GRAIN_SAMPLES = 8
"""So many compressed grains are read in full."""

_DIRECTORY_AT_MOST = 4 * 1024 * 1024


class VmdkProver:
    """One proof of one image; see :func:`sealift.images.proof.prove_image` for the parameters."""

    def __init__(self, source: RangeSource, *, expected_capacity_bytes: int | None, boot_disk: bool) -> None:
        self._counted = CountedSource(source)
        self._size = source.size
        self._expected = expected_capacity_bytes
        self._boot_disk = boot_disk
        self._checks = Checks()

    def prove(self) -> DiskProof:
        """Make all checks.

        :returns: the proof at level L1.
        :raises ProofFailed: if any failed.
        """
        self._check_length()
        header = self._check_header()
        descriptor = self._check_descriptor(header)
        footer = self._check_end(header) if header.directory_at == vmdk.DIRECTORY_AT_END else header
        self._checks.raise_if_failed()
        directory = self._check_directory(header, footer)
        self._checks.raise_if_failed()
        tables = self._check_tables(header, directory)
        if header.flags & vmdk.FLAG_REDUNDANT and footer is header:
            self._check_redundant(header, directory, tables)
        self._checks.raise_if_failed()
        self._check_grains(header, tables)
        table = check_disk(
            self._checks,
            read=lambda offset, length: vmdk.VmdkReader(self._counted).read(offset, length),
            size=header.size,
            expected=self._expected,
            boot_disk=self._boot_disk,
        )
        return DiskProof(
            level=ProofLevel.L1,
            format="vmdk-stream" if header.compressed else "vmdk-sparse",
            size=self._size,
            virtual_size=header.size,
            footer_uuid=descriptor.get("ddb.uuid") or descriptor.get("CID", ""),
            creator=descriptor.get("ddb.toolsVersion", ""),
            checks=list(self._checks.made),
            partition_table=table.summary,
            partitions=[partition.as_dict() for partition in table.partitions],
            bytes_read=self._counted.bytes_read,
            requests=self._counted.requests,
        )

    # -- the file and its ends -----------------------------------------------------------------------------------------

    def _check_length(self) -> None:
        size = self._size
        if size < 4 * vmdk.SECTOR:
            raise self._checks.fail("file.length", f"the file has {size} bytes, fewer than a VMDK can have")
        whole = size % vmdk.SECTOR == 0
        self._checks.record(
            "file.length",
            whole,
            f"the file has {size} bytes"
            + ("" if whole else f", expected a multiple of {vmdk.SECTOR}: it was cut or padded"),
        )

    def _check_header(self) -> vmdk.SparseHeader:
        header = vmdk.SparseHeader.unpack(self._counted.read(0, vmdk.SECTOR))
        if why := header.why_not():
            raise self._checks.fail("header", f"the header is none of a sparse extent: {why}")
        self._checks.record(
            "header",
            header.newlines == vmdk.NEWLINES,
            f"a sparse extent of {header.size} bytes in grains of {header.grain_bytes}"
            + (
                ""
                if header.newlines == vmdk.NEWLINES
                else f"; its line ends are {header.newlines!r}, expected {vmdk.NEWLINES!r}: it was sent as text"
            ),
        )
        self._checks.record(
            "header.clean",
            header.unclean == 0,
            "closed cleanly" if header.unclean == 0 else "it was not closed, by its header: writes may be missing",
        )
        return header

    def _check_descriptor(self, header: vmdk.SparseHeader) -> dict[str, str]:
        at, length = header.descriptor_at * vmdk.SECTOR, header.descriptor_size * vmdk.SECTOR
        if not length:
            self._checks.record("descriptor", True, "no descriptor inside, as in an extent with one of its own")
            return {}
        if at < vmdk.SECTOR or length > vmdk.LARGEST_DESCRIPTOR or at + length > self._size:
            raise self._checks.fail(
                "descriptor",
                f"the header puts the descriptor at bytes {at} to {at + length}, where it cannot be",
            )
        found = vmdk.parse_descriptor(self._counted.read(at, length))
        words = found.get("extent", "").split()
        kind = found.get("createType", "")
        problems = []
        if not kind:
            problems.append("it names no createType")
        if found["extents"] != "1" or len(words) < 3 or words[2] != "SPARSE":
            problems.append(f"it has {found['extents']} extents ({found.get('extent', 'none')!r}), expected one SPARSE")
        elif words[1] != str(header.capacity):
            problems.append(f"its extent has {words[1]} sectors, the header says {header.capacity}")
        if found.get("parentCID", vmdk.NO_PARENT).lower() != vmdk.NO_PARENT:
            problems.append(
                "it names a parent: the file holds only what changed against another one, which is not here"
            )
        self._checks.record(
            "descriptor", not problems, f"descriptor of a {kind or 'disk of unknown kind'}" + _joined(problems)
        )
        return found

    def _check_end(self, header: vmdk.SparseHeader) -> vmdk.SparseHeader:
        """Check what ends a stream: a marker, the footer, and a marker of nothing."""
        at = self._size - 3 * vmdk.SECTOR
        data = self._counted.read(at, 3 * vmdk.SECTOR)
        marker, end = (vmdk.Marker.unpack(data[n * vmdk.SECTOR :][: vmdk.SECTOR]) for n in (0, 2))
        footer = vmdk.SparseHeader.unpack(data[vmdk.SECTOR : 2 * vmdk.SECTOR])
        if footer.magic != vmdk.MAGIC:
            what = "zeros" if not any(data) else "other data"
            raise self._checks.fail(
                "footer",
                f"no footer at byte {at + vmdk.SECTOR}, but {what}: the file was cut, or its end overwritten, and "
                "without footer nothing leads to the grains",
            )
        problems = []
        if (marker.size, marker.kind) != (0, vmdk.MARKER_FOOTER):
            problems.append(f"the sector before it, at byte {at}, is no marker of a footer")
        if any(data[2 * vmdk.SECTOR :]) or end.kind != vmdk.MARKER_END:
            problems.append("the last sector is not the end of the stream, which is zeros")
        if why := footer.why_not():
            problems.append(why)
        same = ("capacity", "grain", "table_entries", "flags", "compression", "version")
        problems += [
            f"it says {getattr(footer, name)} for {name}, the header {getattr(header, name)}"
            for name in same
            if getattr(footer, name) != getattr(header, name)
        ]
        self._checks.record("footer", not problems, f"footer at byte {at + vmdk.SECTOR}" + _joined(problems))
        return footer

    # -- directory, tables, grains -------------------------------------------------------------------------------------

    def _check_directory(self, header: vmdk.SparseHeader, footer: vmdk.SparseHeader) -> array.array[int]:
        at, length = footer.directory_at * vmdk.SECTOR, header.tables * 4
        if at < vmdk.SECTOR or at + length > self._size or length > _DIRECTORY_AT_MOST:
            raise self._checks.fail(
                "directory.place",
                f"the grain directory lies at bytes {at} to {at + length}, outside of the file's {self._size}",
            )
        # In a stream, a marker stands before it. QEMU writes compressed grains behind a directory in front, and none.
        before = vmdk.SECTOR if footer is not header and header.flags & vmdk.FLAG_MARKERS else 0
        data = self._counted.read(at - before, length + before)
        problems = []
        if before:
            marker = vmdk.Marker.unpack(data[: vmdk.SECTOR])
            if (marker.size, marker.kind) != (0, vmdk.MARKER_DIRECTORY):
                problems.append(f"the sector before it, at byte {at - before}, is no marker of a directory")
        entries = vmdk.unpack_entries(data[before:])
        self._checks.record(
            "directory.place", not problems, f"a directory of {len(entries)} tables at byte {at}" + _joined(problems)
        )
        self._check_places("directory.range", "grain tables", entries, sectors=header.table_entries * 4 // vmdk.SECTOR)
        return entries

    def _check_places(self, check: str, what: str, entries: Iterable[int], *, sectors: int) -> bool:
        """Check that what entries lead to lies in the file, and not in another's place."""
        used = sorted(entry for entry in entries if entry != vmdk.UNALLOCATED)
        end = self._size // vmdk.SECTOR
        outside = [entry for entry in used if entry < 1 or entry + sectors > end]
        if outside:
            return self._checks.record(
                check,
                False,
                f"{len(outside)} of {len(used)} {what} lie outside the file; one is put at byte "
                f"{outside[-1] * vmdk.SECTOR} of {self._size}",
            )
        for one, other in itertools.pairwise(used):
            if other - one < sectors:
                return self._checks.record(
                    check, False, f"{what} overlap: two are {other - one} sectors apart, at byte {one * vmdk.SECTOR}"
                )
        return self._checks.record(check, True, f"{len(used)} {what}, each in a place of its own")

    def _check_tables(self, header: vmdk.SparseHeader, directory: array.array[int]) -> dict[int, array.array[int]]:
        """Read tables, all or a sample, and check where they lead to."""
        found = self._tables(header, {number: directory[number] for number in _sample(directory)})
        ignored = {vmdk.UNALLOCATED} | ({vmdk.ZEROED} if header.flags & vmdk.FLAG_ZEROED_GRAINS else set())
        entries = [entry for table in found.values() for entry in table if entry not in ignored]
        # A compressed grain takes a sector at least; the last of raw ones may end with the disk.
        sectors = 1 if header.compressed else header.grain
        last = header.capacity % header.grain
        if not header.compressed and last and entries:
            sectors = last
        self._check_places("tables.range", f"grains in {len(found)} tables", entries, sectors=sectors)
        return found

    def _tables(self, header: vmdk.SparseHeader, places: dict[int, int]) -> dict[int, array.array[int]]:
        """Read tables; those that lie one after the other in the file with one request."""
        length = header.table_entries * 4
        found: dict[int, array.array[int]] = {}
        together: list[int] = []

        def read() -> None:
            data = self._counted.read(places[together[0]] * vmdk.SECTOR, length * len(together))
            for index, number in enumerate(together):
                found[number] = vmdk.unpack_entries(data[index * length : (index + 1) * length])
            together.clear()

        for number, entry in places.items():
            follows = together and entry == places[together[-1]] + length // vmdk.SECTOR
            if together and (not follows or len(together) == TABLE_SAMPLES):
                read()
            together.append(number)
        if together:
            read()
        return found

    def _check_redundant(
        self, header: vmdk.SparseHeader, directory: array.array[int], tables: dict[int, array.array[int]]
    ) -> None:
        """Compare the second copy of directory and tables with the first."""
        at, length = header.redundant_directory_at * vmdk.SECTOR, header.tables * 4
        if at < vmdk.SECTOR or at + length > self._size:
            self._checks.record("redundant", False, f"the second directory lies at byte {at}, outside the file")
            return
        second = vmdk.unpack_entries(self._counted.read(at, length))
        end = (self._size - header.table_entries * 4) // vmdk.SECTOR
        outside = [number for number in tables if not 0 < second[number] <= end]
        if outside:
            self._checks.record("redundant", False, f"the second copy of table {outside[0]} lies outside the file")
            return
        copies = self._tables(header, {number: second[number] for number in tables})
        for number, table in tables.items():
            if copies[number] != table:
                self._checks.record(
                    "redundant",
                    False,
                    f"the two copies of grain table {number}, at sectors {directory[number]} and {second[number]}, "
                    "differ: one of them was damaged, or not written",
                )
                return
        self._checks.record("redundant", True, f"both copies of {len(tables)} tables are the same")

    def _check_grains(self, header: vmdk.SparseHeader, tables: dict[int, array.array[int]]) -> None:
        """Read a few compressed grains in full: their markers, and that they can be read."""
        if not header.compressed:
            return
        ignored = {vmdk.UNALLOCATED} | ({vmdk.ZEROED} if header.flags & vmdk.FLAG_ZEROED_GRAINS else set())
        places = {
            number * header.table_entries + index: entry
            for number, table in sorted(tables.items())
            for index, entry in enumerate(table)
            if entry not in ignored
        }
        stored = list(places)
        reader = vmdk.VmdkReader(self._counted)
        # What is last in the file is the first that a cut takes.
        last = [max(stored, key=places.__getitem__)] if stored else []
        chosen = list(dict.fromkeys(spread(stored, GRAIN_SAMPLES) + last))
        for number in chosen:
            try:
                reader.grain(number)
            except vmdk.VmdkFormatError as error:
                self._checks.record("grains", False, f"{error}")
                return
        self._checks.record("grains", True, f"{len(chosen)} of {len(stored)} grains read: marked and compressed right")


def _joined(problems: list[str]) -> str:
    return "; " + "; ".join(problems) if problems else ""


def _sample(directory: array.array[int]) -> list[int]:
    """Choose tables that are there, over the whole disk."""
    there = [number for number, entry in enumerate(directory) if entry != vmdk.UNALLOCATED]
    if len(there) <= TABLE_SAMPLES:
        return there
    starts = spread(list(range(len(there) - _STRETCH + 1)), TABLE_SAMPLES // _STRETCH)
    return sorted({there[at] for start in starts for at in range(start, start + _STRETCH)})
