"""Converts a local file into a local file, by the way that :data:`~sealift.images.convert.formats.WAYS` names."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sealift.images import qcow2, vhd
from sealift.images.convert.formats import WAYS, TargetFormat, Way, identity_of_image, writer_for
from sealift.images.convert.pieces import FileSink
from sealift.images.convert.qemu import QemuImg
from sealift.images.convert.run import Converted, convert
from sealift.images.convert.vmdk_stream import Adapter
from sealift.images.source import FileSource
from sealift.images.vhd_writer import CREATOR
from sealift.images.virtual_disk import ImageKind, image_kind, open_disk


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertedFile:
    """A file that was converted.

    :param path: the file.
    :param size: its bytes.
    :param kind: what the source was.
    :param way: how it was converted.
    :param converted: what the stream said, for :func:`sealift.images.convert.run.prove_result`; None for qemu-img.
    """

    path: Path
    size: int
    kind: ImageKind
    way: Way
    converted: Converted | None


def convert_file(
    source: Path,
    target: Path,
    *,
    into: TargetFormat,
    kind: ImageKind | None = None,
    identity: uuid.UUID | None = None,
    created: datetime = vhd.EPOCH,
    creator: bytes = CREATOR,
    adapter: Adapter = "lsilogic",
    align: int | None = None,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> ConvertedFile:
    """Convert a file.

    :param source: the image.
    :param target: the file to make; one that is there is replaced once the new one is whole.
    :param into: its format.
    :param kind: what the source is; None to look. A raw disk has to be named, since anything looks like one.
    :param identity: of the new image; None to derive it from the source, see
        :func:`~sealift.images.convert.formats.identity_of_image`.
    :param created: as for :func:`~sealift.images.convert.formats.writer_for`.
    :param creator: as for :func:`~sealift.images.convert.formats.writer_for`.
    :param adapter: as for :func:`~sealift.images.convert.formats.writer_for`.
    :param align: as for :func:`~sealift.images.convert.formats.writer_for`.
    :param threads: as for :func:`sealift.images.convert.run.convert`.
    :param progress: told how much is done, from 0 to 1; what it raises ends the conversion.
    :returns: the file.
    :raises ConversionError: it cannot be converted, or qemu-img is needed and not there.
    :raises ImageFormatError: the source cannot be read.
    """
    with FileSource(source) as file:
        found = kind if kind is not None else image_kind(file)
        way = WAYS[found, into]
        if way is Way.STREAM and found is ImageKind.QCOW2 and _only_qemu_reads(file):
            way = Way.QEMU_IMG
        if way is Way.STREAM:
            disk = open_disk(file, raw=kind is ImageKind.RAW)
            size = disk.size
            converted = convert(
                disk,
                writer=writer_for(
                    into,
                    size=size,
                    identity=identity or identity_of_image(file, into),
                    created=created,
                    creator=creator,
                    adapter=adapter,
                    align=align,
                ),
                sink=FileSink(target),
                threads=threads,
                progress=None if progress is None else lambda done: progress(done / size),
            )
            return ConvertedFile(path=target, size=converted.size, kind=found, way=way, converted=converted)
    done = QemuImg().convert(source=source, kind=found, target=target, into=into, progress=progress)
    return ConvertedFile(path=done.path, size=done.size, kind=found, way=way, converted=None)


def _only_qemu_reads(source: FileSource) -> bool:
    """Whether a qcow2 image is compressed by zstd, or has extended L2 tables."""
    header = qcow2.Header.unpack(source.read(0, min(104, source.size)).ljust(104, b"\0"))
    return header.version >= 3 and bool(header.incompatible & (qcow2.OTHER_COMPRESSION | qcow2.EXTENDED_L2))
