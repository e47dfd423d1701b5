"""What can be converted into what, and by which way: Sealift's own stream, or qemu-img on local files.

:data:`WAYS` is the one place that says so.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from sealift.images import vhd
from sealift.images.convert.deflate import Deflate
from sealift.images.convert.flat_stream import FlatWriter, fixed_vhd_writer
from sealift.images.convert.qcow2_stream import Qcow2StreamWriter
from sealift.images.convert.vhd_stream import DynamicVhdWriter
from sealift.images.convert.vmdk_stream import Adapter, VmdkStreamWriter
from sealift.images.convert.writer import ImageWriter, padded
from sealift.images.source import RangeSource
from sealift.images.vhd_writer import CREATOR
from sealift.images.virtual_disk import ImageKind


class TargetFormat(StrEnum):
    """A format that an image can be converted into."""

    VHD = "vhd"
    """Dynamic."""
    VHD_FIXED = "vhd-fixed"
    """For Azure, which wants whole MiB; see :data:`ALIGNMENT`."""
    VMDK = "vmdk"
    """streamOptimized, as ESXi and OVF want it."""
    QCOW2 = "qcow2"
    """Version 3, compressed."""
    QCOW2_PLAIN = "qcow2-plain"
    """Version 3, not compressed."""
    RAW = "raw"
    VMDK_SPARSE = "vmdk-sparse"
    """monolithicSparse, as VMware Workstation wants it."""
    VHDX = "vhdx"
    VDI = "vdi"

    @property
    def suffix(self) -> str:
        """What names of such files end with, without the dot."""
        return {"vhd-fixed": "vhd", "qcow2-plain": "qcow2", "vmdk-sparse": "vmdk"}.get(self.value, self.value)


class Way(StrEnum):
    """How a conversion is done."""

    STREAM = "stream"
    """In one go, from a range source into a sink: no local file, bounded memory."""
    QEMU_IMG = "qemu-img"
    """By qemu-img, from a local file into a local file."""


_READ: Final = (
    ImageKind.VHD,
    ImageKind.VHD_FIXED,
    ImageKind.VMDK,
    ImageKind.VMDK_SPARSE,
    ImageKind.QCOW2,
    ImageKind.RAW,
)
_WRITTEN: Final = (
    TargetFormat.VHD,
    TargetFormat.VHD_FIXED,
    TargetFormat.VMDK,
    TargetFormat.QCOW2,
    TargetFormat.QCOW2_PLAIN,
    TargetFormat.RAW,
)
WAYS: Final[Mapping[tuple[ImageKind, TargetFormat], Way]] = {
    (kind, target): Way.STREAM if kind in _READ and target in _WRITTEN else Way.QEMU_IMG
    for kind in ImageKind
    for target in TargetFormat
}
"""The way of every pair."""

ALIGNMENT: Final[Mapping[TargetFormat, int]] = {TargetFormat.VHD_FIXED: 1024 * 1024, TargetFormat.RAW: 1}
"""Of what the disk's size is made a multiple, with zeros at its end, where nothing else is said: of whole sectors, but
for a fixed VHD of whole MiB, without which Azure refuses it, while a raw disk stays as it is."""

_LOOKED_AT: Final = 64 * 1024
_NAMESPACE: Final = uuid.UUID("5b0c3e2a-6c1f-5d8e-9a44-0d2f7b1c9e63")


def identity_of(*facts: str) -> uuid.UUID:
    """Make the identity of a converted image from what it is made of: the same facts give the same identity.

    :param facts: for example the source's digest, or its key and ETag, and the target's format.
    :returns: a UUID of version 5.
    """
    return uuid.uuid5(_NAMESPACE, "\n".join(facts))


def identity_of_image(source: RangeSource, target: TargetFormat) -> uuid.UUID:
    """Make the identity of a converted image from its source: of how that begins and ends, and its size.

    A VHD ends with a unique id and a time stamp; other images begin with their tables.

    :param source: the image that is converted.
    :param target: the format that it is converted into.
    :returns: a UUID of version 5.
    """
    length = min(_LOOKED_AT, source.size)
    parts = (source.read(0, length), source.read(source.size - length, length))
    return identity_of(target, str(source.size), *(hashlib.sha256(part).hexdigest() for part in parts))


def writer_for(
    target: TargetFormat,
    *,
    size: int,
    identity: uuid.UUID,
    created: datetime = vhd.EPOCH,
    creator: bytes = CREATOR,
    adapter: Adapter = "lsilogic",
    align: int | None = None,
    deflate: Deflate | None = None,
) -> ImageWriter:
    """Make the writer of a format that Sealift writes itself.

    :param target: the format.
    :param size: bytes of the disk.
    :param identity: becomes the disk's unique id, in formats that have one; see :func:`identity_of`.
    :param created: the time stamp, in formats that have one. No clock is asked.
    :param creator: four bytes that name the creator in a VHD.
    :param adapter: the disk controller that a VMDK names.
    :param align: the disk is made larger, with zeros, to a multiple of this many bytes; None for :data:`ALIGNMENT`.
    :param deflate: compresses, in formats that do; None for the fastest library.
    :returns: the writer; its size says how large the disk became.
    :raises ConversionError: the format cannot hold such a disk.
    :raises ValueError: it is not among those that Sealift writes, or a parameter cannot be.
    """
    size = padded(size, ALIGNMENT.get(target, vhd.SECTOR) if align is None else align)
    if target is TargetFormat.VHD:
        return DynamicVhdWriter(size=size, identity=identity, created=created, creator=creator)
    if target is TargetFormat.VHD_FIXED:
        return fixed_vhd_writer(size=size, identity=identity, created=created, creator=creator)
    if target is TargetFormat.VMDK:
        return VmdkStreamWriter(size=size, identity=identity, deflate=deflate or Deflate(), adapter=adapter)
    if target is TargetFormat.QCOW2:
        return Qcow2StreamWriter(size=size, deflate=deflate or Deflate())
    if target is TargetFormat.QCOW2_PLAIN:
        return Qcow2StreamWriter(size=size, deflate=None)
    if target is TargetFormat.RAW:
        return FlatWriter(size=size)
    raise ValueError(f"Sealift does not write {target} itself; qemu-img does")
