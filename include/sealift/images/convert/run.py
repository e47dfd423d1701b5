"""Converts a virtual disk into a sink, in one pass and in bounded memory.

Threads read stretches of what the source stores, by ranges, and encode them; the thread that converts takes them in
the disk's order, hashes the disk's content, and places them in the file. Nothing is kept on a disk of this machine, and
what is under way at once is bounded, whatever the disk's size; see :mod:`sealift.images.parallel`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from sealift.images.compare import content_digest
from sealift.images.convert.errors import ConversionError, ResultError
from sealift.images.convert.pieces import LARGEST_HEAD, Output, PieceSink
from sealift.images.convert.writer import Encoded, ImageWriter
from sealift.images.parallel import UNDER_WAY, batch_for, in_order, threads_for
from sealift.images.proof import prove_image
from sealift.images.ranges import merged, stretches, units_in
from sealift.images.source import RangeSource
from sealift.images.sparse import DIGEST_CHUNK, ChunkDigest
from sealift.images.verdict import DiskProof
from sealift.images.virtual_disk import RawDisk, VirtualDisk, open_disk

RAW: Final = "raw"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion wrote. Sizes are bytes.

    :param format: of the image.
    :param size: of the file.
    :param source_size: of the disk that was read.
    :param virtual_size: of the disk in the image: larger than the source's where it was filled up.
    :param source_digest: of the content that was read; see :func:`sealift.images.compare.content_digest`.
    :param digest: of the content that the image must have: another one where the disk was filled up.
    :param read: bytes of the disk that were read; the rest is not stored in the source.
    :param stored: units of the disk that the image stores: blocks, grains, clusters or, of a flat image, 64 KiB.
    """

    format: str
    size: int
    source_size: int
    virtual_size: int
    source_digest: str
    digest: str
    read: int
    stored: int

    @property
    def filled_up(self) -> int:
        """Bytes of zeros that were added at the end of the disk."""
        return self.virtual_size - self.source_size


def convert(
    source: VirtualDisk,
    *,
    writer: ImageWriter,
    sink: PieceSink,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Converted:
    """Convert a disk.

    :param source: the disk.
    :param writer: of the format, for a disk that is not smaller; see :func:`sealift.images.convert.formats.writer_for`.
    :param sink: takes the image. Where anything fails, it is told to leave nothing behind.
    :param threads: how many read and encode; None for what suits the machine. The image does not depend on it.
    :param progress: told how far the conversion has come, in bytes of the disk; what it raises ends the conversion.
    :returns: what was written, with the digest that its content must have: see :func:`prove_result`.
    :raises ConversionError: the format cannot hold the disk, or the sink cannot take the image.
    :raises ImageFormatError: the source cannot be read.
    :raises OSError: as the source raises.
    """
    if writer.size < source.size:
        raise ConversionError(f"The image is for a disk of {writer.size} bytes; this one has {source.size}.")
    if writer.head > LARGEST_HEAD:
        raise ConversionError(f"The image begins with {writer.head} bytes that come last, more than {LARGEST_HEAD}.")
    count = threads_for(threads)
    unit = max(writer.unit, DIGEST_CHUNK)
    batch = max(batch_for(count), unit)
    count = min(count, max(4, UNDER_WAY // batch))  # where units are large, fewer threads have as much under way
    digests = [ChunkDigest(size) for size in dict.fromkeys((source.size, writer.size))]
    read = stored = 0

    def encode(span: tuple[int, int]) -> tuple[int, bytes, Encoded]:
        start, end = span
        data = source.read(start, end - start)
        return start, data, writer.encode(start, data)

    try:
        units = units_in(merged(source.extents()), unit=writer.unit)
        sink.begin(head=writer.head, largest=writer.largest(units))
        out = Output(sink, at=writer.head)
        writer.begin(out)
        spans = stretches(merged(source.extents()), unit=unit, batch=batch, size=source.size)
        results = in_order(encode, spans, threads=count)
        try:
            for start, data, encoded in results:
                for digest in digests:
                    digest.stretch(start, data)
                writer.place(out, encoded)
                read += len(data)
                stored += len(encoded.parts)
                if progress is not None:
                    progress(start + len(data))
        finally:
            results.close()
        writer.finish(out)
        sink.finish(writer.first())
    except BaseException as error:
        if left := sink.abort():
            error.add_note(left)
        raise
    return Converted(
        format=writer.format,
        size=out.position,
        source_size=source.size,
        virtual_size=writer.size,
        source_digest=digests[0].hexdigest(),
        digest=digests[-1].hexdigest(),
        read=read,
        stored=stored,
    )


def prove_result(
    result: RangeSource,
    converted: Converted,
    *,
    boot_disk: bool = False,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> DiskProof | None:
    """Prove an image that was converted: its structure at level L1, and all of its content against what was read.

    The content that was read stands for the source: whoever must know that it was read right proves the source first.

    :param result: the image, where it is now.
    :param converted: what the conversion said.
    :param boot_disk: as for :func:`sealift.images.proof.prove_vhd`.
    :param threads: how many read.
    :param progress: told how far the reading has come, in bytes of the disk.
    :returns: the proof; None for a raw disk, which has no structure: its size and content are compared all the same.
    :raises ProofFailed: the structure is not whole.
    :raises ResultError: the disk is not the one that was read.
    """
    proof: DiskProof | None = None
    if result.size != converted.size:
        raise ResultError(f"{converted.size} bytes were written, but the image has {result.size}. Convert again.")
    if converted.format == RAW:
        disk: VirtualDisk = RawDisk(result)
    else:
        proof = prove_image(result, expected_capacity_bytes=None, boot_disk=boot_disk)
        disk = open_disk(result)
    if disk.size != converted.virtual_size:
        raise ResultError(
            f"The image holds a disk of {disk.size} bytes where {converted.virtual_size} were written. Convert again."
        )
    found = content_digest(disk, threads=threads, progress=progress)
    if found != converted.digest:
        raise ResultError(
            f"The disk in the image is not the one that was read: {found}, expected {converted.digest}. Convert again; "
            "if it comes out the same, report it."
        )
    return proof
