"""Proof of disk images: their structure at level L1, by few and small range reads, and every byte at level L2.

What L1 catches: an empty, cut or padded file; a wrong, missing or zeroed footer; a damaged header copy, dynamic header
or BAT; blocks that overlap, lie outside the file or are lost; a disk of the wrong size; a boot disk without partitions;
a damaged GPT. What it cannot see, because only bytes of the data differ, needs L2 (every byte against a digest):

- a bit that flipped in a block's data or in its bitmap;
- data overwritten with zeros, unless that blanks one of the at most four bitmaps that L1 samples;
- two blocks exchanged, in the file or in the BAT;
- a BAT entry set to "unallocated" in a file from which the block is gone too. (A block that is still there is found as
  space that holds data and belongs to no entry.)
"""

from __future__ import annotations

from collections.abc import Callable

from sealift.images.digests import KnownDigests
from sealift.images.disk_checks import capacity_range
from sealift.images.qcow2 import MAGIC as QCOW2_MAGIC
from sealift.images.qcow2_proof import Qcow2Prover
from sealift.images.source import RangeSource
from sealift.images.verdict import Check, DiskProof, ProofFailed, ProofLevel
from sealift.images.vhd_proof import VhdProver
from sealift.images.vmdk import MAGIC as VMDK_MAGIC
from sealift.images.vmdk_proof import VmdkProver

__all__ = [
    "Check",
    "DiskProof",
    "KnownDigests",
    "ProofFailed",
    "ProofLevel",
    "capacity_range",
    "prove_image",
    "prove_vhd",
]


def prove_image(
    source: RangeSource,
    *,
    expected_capacity_bytes: int | None,
    boot_disk: bool = False,
    level: ProofLevel = ProofLevel.L1,
    known: KnownDigests | None = None,
    passed: Callable[[int], None] | None = None,
) -> DiskProof:
    """Prove an image at level L1 or L2, whichever of the known formats it has.

    What begins as a VMDK is proven as one (one sparse extent: monolithicSparse or streamOptimized), what begins as a
    qcow2 as that; all else is proven as a VHD, and the proof of that says what it looks like. Of a VMDK at most 128
    grain tables are read, and nine grains; of a qcow2 a mebibyte of tables, and nine compressed clusters.

    :param source: the image.
    :param expected_capacity_bytes: as for :func:`prove_vhd`.
    :param boot_disk: as for :func:`prove_vhd`.
    :param level: L1, or L2 to read every byte as well; see :mod:`sealift.images.bytes_proof`.
    :param known: digests that the file must have, for L2.
    :param passed: told how many bytes more L2 has read.
    :returns: the proof, with every check made.
    :raises ProofFailed: naming every check that failed.
    :raises ValueError: the level is another one: L3 and L4 are about all disks of a server together.
    """
    if level not in (ProofLevel.L1, ProofLevel.L2):
        raise ValueError(f"an image on its own is proven at level L1 or L2, not at {level}")
    structure = _prove_structure(source, expected_capacity_bytes=expected_capacity_bytes, boot_disk=boot_disk)
    if level is ProofLevel.L1:
        return structure
    from sealift.images.bytes_proof import prove_bytes

    return prove_bytes(source, structure, known=known or KnownDigests(), boot_disk=boot_disk, passed=passed)


def _prove_structure(source: RangeSource, *, expected_capacity_bytes: int | None, boot_disk: bool) -> DiskProof:
    begins = source.read(0, 4) if source.size >= 4 else b""
    if begins == VMDK_MAGIC:
        return VmdkProver(source, expected_capacity_bytes=expected_capacity_bytes, boot_disk=boot_disk).prove()
    if begins == QCOW2_MAGIC:
        return Qcow2Prover(source, expected_capacity_bytes=expected_capacity_bytes, boot_disk=boot_disk).prove()
    return prove_vhd(source, expected_capacity_bytes=expected_capacity_bytes, boot_disk=boot_disk)


def prove_vhd(
    source: RangeSource,
    *,
    expected_capacity_bytes: int | None,
    boot_disk: bool = False,
    allow_unclaimed_space: bool = False,
) -> DiskProof:
    """Prove a VHD at level L1.

    Reads less than 400 KiB of a dynamic disk of 100 GB in at most eight requests; of one of 2040 GiB 4.2 MiB, because
    its BAT alone has 4 MiB.

    :param source: the image.
    :param expected_capacity_bytes: capacity of the captured disk, in bytes, however the API's gigabytes were
        multiplied; see :func:`capacity_range`. ``None`` if it is not known: the size is then not compared.
    :param boot_disk: the server starts from this disk: a blank or unknown first sector is then a failure, not a remark.
    :param allow_unclaimed_space: accept stored blocks that no BAT entry claims. They are harmless leftovers in the
        images of a producer that lost power, but in a fresh export they are lost data.
    :returns: the proof, with every check made.
    :raises ProofFailed: naming every check that failed: what was found, where, and what was expected.
    """
    return VhdProver(
        source,
        expected_capacity_bytes=expected_capacity_bytes,
        boot_disk=boot_disk,
        allow_unclaimed_space=allow_unclaimed_space,
    ).prove()
