"""The proof of every byte, level L2. :func:`sealift.images.proof.prove_image` is the way in.

Every byte of the file is read once, in order. Its digests are computed and compared with those that are known: the one
that an earlier reading noted, the one that the object store computed when the bytes arrived there. What L2 catches is
any byte that differs from what was proven, stored or read before. Beyond digests it looks at what only all bytes show:
compressed grains and clusters that cannot be read, a disk of nothing but zeros; and it tells of bitmaps that contradict
their blocks.

What it cannot see: data that was wrong already when the store received it, in an image that was never read before.
"""

from __future__ import annotations

from collections.abc import Callable

from sealift.images import qcow2, vmdk
from sealift.images.digests import Digesting, KnownDigests
from sealift.images.reading_through import read_spans, span_for
from sealift.images.sampling import CountedSource
from sealift.images.source import ImageFormatError, RangeSource, ShortReadError
from sealift.images.verdict import Checks, DiskProof, ProofLevel
from sealift.images.vhd_bytes import AnyBytes, BytesWatch, VhdBytes


def prove_bytes(
    source: RangeSource,
    structure: DiskProof,
    *,
    known: KnownDigests,
    boot_disk: bool = False,
    passed: Callable[[int], None] | None = None,
) -> DiskProof:
    """Prove at level L2 an image whose structure has been proven.

    Takes at most 45 MiB of memory: five pieces of up to 9 MiB. Of compressed formats each grain or cluster is read once
    more, to inflate it.

    :param source: the image; its ``read`` is called from several threads.
    :param structure: what :func:`sealift.images.proof.prove_image` said of it at level L1.
    :param known: what its digests must be, as far as that is known.
    :param boot_disk: the server starts from this disk: nothing but zeros is then a failure.
    :param passed: told how many bytes more have been looked at.
    :returns: the proof at level L2, with the checks of both levels, and the digests.
    :raises ProofFailed: naming every check that failed.
    """
    checks = Checks(structure.checks)
    counted = CountedSource(source)
    watch = _watch(counted, structure, boot_disk=boot_disk)
    digesting = Digesting(size=source.size, known=known)
    read = 0
    try:
        for at, data in read_spans(source, watch.spans(span_for(source))):
            digesting.update(data)
            watch.look(at, data)
            read += len(data)
            counted.note(len(data))
            if passed is not None:
                passed(len(data))
    except ShortReadError as error:
        raise checks.fail("bytes", f"the file could not be read to its end: {error}") from error
    checks.record("bytes", read == source.size, f"{read} of {source.size} bytes read")
    digesting.compare(checks)
    watch.conclude(checks)
    checks.raise_if_failed()
    _inflate_all(counted, structure, checks)
    checks.raise_if_failed()
    return structure.model_copy(
        update={
            "level": ProofLevel.L2,
            "checks": list(checks.made),
            "sha256": digesting.sha256,
            "crc64nvme": digesting.crc64nvme,
            "bytes_read": structure.bytes_read + counted.bytes_read,
            "requests": structure.requests + counted.requests,
        }
    )


def _watch(source: RangeSource, structure: DiskProof, *, boot_disk: bool) -> BytesWatch:
    if structure.format.startswith("vhd"):
        return VhdBytes(source, boot_disk=boot_disk)
    return AnyBytes(size=source.size, boot_disk=boot_disk)


def _inflate_all(source: RangeSource, structure: DiskProof, checks: Checks) -> None:
    """Read every compressed grain or cluster: each has a checksum of its own, or must give exactly its bytes."""
    try:
        if structure.format.startswith("vmdk"):
            extent = vmdk.VmdkReader(source)
            if not extent.header.compressed:
                return
            count = sum(extent.grain(number) is not None for number in range(extent.header.grains))
            checks.record("grains.all", True, f"{count} compressed grains read")
        elif structure.format == "qcow2":
            image = qcow2.Qcow2Reader(source)
            count = sum(image.cluster(number) is not None for number in range(image.header.clusters))
            checks.record("clusters.all", True, f"{count} clusters read")
    except ImageFormatError as error:
        checks.record("grains.all" if structure.format.startswith("vmdk") else "clusters.all", False, str(error))
