"""The checks of a qcow2 image at level L1. :func:`sealift.images.proof.prove_image` is the way in.

Order: file length, header, first table, tables of the second level, places of the clusters, compressed clusters, the
disk's size and start.
"""

from __future__ import annotations

import array
import itertools

from sealift.images import qcow2
from sealift.images.disk_checks import check_disk
from sealift.images.sampling import CountedSource, spread
from sealift.images.source import RangeSource
from sealift.images.verdict import Checks, DiskProof, ProofLevel

TABLES_READ = 1024 * 1024
"""Bytes of L2 tables that are read; of a disk with more of them, some over its whole length."""

CLUSTER_SAMPLES = 8
"""So many compressed clusters are read in full, and the last in the file."""


class Qcow2Prover:
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
        header = self._check_header()
        l1 = self._check_l1(header)
        self._checks.raise_if_failed()
        reader = qcow2.Qcow2Reader(self._counted)
        self._check_clusters(header, reader, l1)
        table = check_disk(
            self._checks, read=reader.read, size=header.size, expected=self._expected, boot_disk=self._boot_disk
        )
        return DiskProof(
            level=ProofLevel.L1,
            format="qcow2",
            size=self._size,
            virtual_size=header.size,
            footer_uuid="",
            creator=f"version {header.version}",
            checks=list(self._checks.made),
            partition_table=table.summary,
            partitions=[partition.as_dict() for partition in table.partitions],
            bytes_read=self._counted.bytes_read,
            requests=self._counted.requests,
        )

    def _check_header(self) -> qcow2.Header:
        try:
            header = qcow2.read_header(self._counted)
        except qcow2.Qcow2FormatError as error:
            raise self._checks.fail("header", str(error)) from error
        self._checks.record("header", True, f"version {header.version}, a disk of {header.size} bytes")
        marks = [
            words
            for bit, words in ((qcow2.DIRTY, "not closed cleanly"), (qcow2.CORRUPT, "corrupt"))
            if header.incompatible & bit
        ]
        self._checks.record(
            "header.clean",
            not marks,
            f"the header marks the image as {' and '.join(marks)}" if marks else "closed cleanly",
        )
        return header

    def _check_l1(self, header: qcow2.Header) -> array.array[int]:
        at, length = header.l1_at, header.tables * 8
        if at % header.cluster or at < header.cluster or at + length > self._size:
            raise self._checks.fail(
                "l1.place", f"the L1 table lies at bytes {at} to {at + length} of a file of {self._size}"
            )
        counts = header.refcounts_at
        self._checks.record(
            "refcounts.place",
            counts % header.cluster == 0
            and header.cluster <= counts
            and counts + header.refcount_clusters * header.cluster <= self._size + header.cluster,
            f"the table of reference counts has {header.refcount_clusters} clusters at byte {counts}",
        )
        entries = qcow2.unpack_entries(self._counted.read(at, length))
        self._check_places(
            "l1.range", "L2 tables", sorted(entry & qcow2.ADDRESS for entry in entries if entry), header.cluster
        )
        return entries

    def _check_places(self, check: str, what: str, places: list[int], length: int, *, last: int = 0) -> bool:
        """Check that clusters lie in the file, aligned, and each in a place of its own.

        :param last: bytes that the last of them may have, where that is fewer.
        """
        wrong = [at for at in places if at % length or at < length or at + min(length, last or length) > self._size]
        if wrong:
            return self._checks.record(
                check,
                False,
                f"{len(wrong)} of {len(places)} {what} lie where none can be; one is put at byte {wrong[-1]} of "
                f"{self._size}",
            )
        twice = next((one for one, other in itertools.pairwise(places) if one == other), None)
        if twice is not None:
            return self._checks.record(check, False, f"two {what} share the place at byte {twice}")
        return self._checks.record(check, True, f"{len(places)} {what}, each in a place of its own")

    def _check_clusters(self, header: qcow2.Header, reader: qcow2.Qcow2Reader, l1: array.array[int]) -> None:
        there = [number for number, entry in enumerate(l1) if entry & qcow2.ADDRESS]
        chosen = spread(there, max(2, TABLES_READ // header.cluster))
        plain: list[int] = []
        packed: dict[int, int] = {}
        for number in chosen:
            for index, entry in enumerate(reader.table(number)):
                cluster = number * header.l2_entries + index
                if entry & qcow2.COMPRESSED:
                    packed[cluster] = qcow2.compressed_place(entry, header.cluster_bits)[0]
                elif entry & qcow2.ADDRESS:
                    plain.append(entry & qcow2.ADDRESS)
        rest = header.size % header.cluster
        self._check_places(
            "l2.range", f"clusters in {len(chosen)} of {len(there)} L2 tables", sorted(plain), header.cluster, last=rest
        )
        outside = [at for at in packed.values() if not header.cluster <= at < self._size]
        self._checks.record(
            "compressed.range",
            not outside,
            f"{len(packed)} compressed clusters"
            + (f"; {len(outside)} of them lie outside the file, one at byte {outside[0]}" if outside else ""),
        )
        if not outside:
            self._check_compressed(reader, packed)

    def _check_compressed(self, reader: qcow2.Qcow2Reader, packed: dict[int, int]) -> None:
        """Read a few compressed clusters in full, and the last in the file, which a cut takes first."""
        if not packed or reader.header.incompatible & qcow2.OTHER_COMPRESSION:
            return
        last = max(packed, key=packed.__getitem__)
        chosen = list(dict.fromkeys([*spread(sorted(packed), CLUSTER_SAMPLES), last]))
        for number in chosen:
            try:
                reader.cluster(number)
            except qcow2.Qcow2FormatError as error:
                self._checks.record("compressed", False, str(error))
                return
        self._checks.record("compressed", True, f"{len(chosen)} of {len(packed)} compressed clusters read")
