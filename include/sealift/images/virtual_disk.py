"""The virtual disk behind an image, whatever the image's format: its size, its bytes, and which of them are stored.

A virtual disk has the shape of a :class:`~sealift.images.source.RangeSource`, so what reads one reads the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, Protocol

from sealift.images import qcow2, vhd, vmdk
from sealift.images.source import ImageFormatError, KnowsHoles, RangeSource

VDI_MAGIC: Final = b"\x7f\x10\xda\xbe"
VDI_MAGIC_AT: Final = 0x40
_LONGEST_MAGIC: Final = 80


class VirtualDisk(Protocol):
    """A disk inside an image."""

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes of the disk from ``offset``."""
        ...

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) byte ranges that are stored, in rising order; all else reads as zeros."""
        ...


class ImageKind(StrEnum):
    """What an image file is, as its first or last bytes tell."""

    VHD = "vhd"
    VHD_FIXED = "vhd-fixed"
    VMDK = "vmdk"
    """streamOptimized: every grain is compressed."""
    VMDK_SPARSE = "vmdk-sparse"
    """monolithicSparse."""
    VMDK_DESCRIPTOR = "vmdk-descriptor"
    """A text that names the files which hold the disk."""
    QCOW2 = "qcow2"
    VHDX = "vhdx"
    VDI = "vdi"
    RAW = "raw"
    """Anything else: the disk's bytes themselves, or no image at all."""


_BEGINNINGS: Final = {
    qcow2.MAGIC: ImageKind.QCOW2,
    b"vhdxfile": ImageKind.VHDX,
    b"# Disk DescriptorFile": ImageKind.VMDK_DESCRIPTOR,
}


class RawDisk:
    """A file that is the disk itself. Holes of a sparse file are not stored.

    :param source: the file.
    :raises ImageFormatError: it is empty.
    """

    def __init__(self, source: RangeSource) -> None:
        if source.size == 0:
            raise ImageFormatError("the file is empty (0 bytes), which is no disk", offset=0)
        self._source = source
        self.size = source.size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes of the disk from ``offset``.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        """
        return self._source.read(offset, length)

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) ranges that are stored: all of it, where the file does not know its holes."""
        if isinstance(self._source, KnowsHoles):
            yield from self._source.data_ranges()
        else:
            yield 0, self.size


def image_kind(source: RangeSource) -> ImageKind:
    """Say what an image is, by its magic numbers. Nothing is proven by that.

    A fixed VHD is known by its footer alone; where the disk inside begins like another image, that is what it is taken
    for, as the proof takes it.

    :param source: the file.
    :returns: the kind; :attr:`ImageKind.RAW` where nothing is known of it.
    """
    begins = source.read(0, min(_LONGEST_MAGIC, source.size))
    if begins.startswith(vmdk.MAGIC):
        compressed = len(begins) >= 12 and int.from_bytes(begins[8:12], "little") & vmdk.FLAG_COMPRESSED
        return ImageKind.VMDK if compressed else ImageKind.VMDK_SPARSE
    for magic, kind in _BEGINNINGS.items():
        if begins.startswith(magic):
            return kind
    if source.size >= vhd.FOOTER_SIZE:
        footer = source.read(source.size - vhd.FOOTER_SIZE, vhd.FOOTER_SIZE)
        if footer.startswith(vhd.FOOTER_COOKIE):
            fixed = vhd.VhdFooter.unpack(footer).disk_type == vhd.DiskType.FIXED
            return ImageKind.VHD_FIXED if fixed else ImageKind.VHD
    if begins[VDI_MAGIC_AT : VDI_MAGIC_AT + len(VDI_MAGIC)] == VDI_MAGIC:
        return ImageKind.VDI
    return ImageKind.RAW


def open_disk(source: RangeSource, *, raw: bool = False) -> VirtualDisk:
    """Open the disk inside an image.

    :param source: the image.
    :param raw: the file is the disk itself, whatever it begins with. Without this, a file whose format is not known is
        refused: a damaged image would otherwise pass for a disk.
    :returns: the disk. May be read by many threads where the source may.
    :raises ImageFormatError: it is no image that Sealift reads, or its structures do not lead to the data.
    """
    if raw:
        return RawDisk(source)
    kind = image_kind(source)
    if kind in (ImageKind.VHD, ImageKind.VHD_FIXED):
        reader = vhd.VhdReader(source)
        if reader.size <= 0 or reader.size % vhd.SECTOR:
            raise vhd.VhdFormatError(
                f"a disk of {reader.size} bytes, expected a positive multiple of {vhd.SECTOR}",
                offset=source.size - vhd.FOOTER_SIZE + 48,
            )
        return reader
    if kind in (ImageKind.VMDK, ImageKind.VMDK_SPARSE):
        return _open_vmdk(source)
    if kind is ImageKind.QCOW2:
        return qcow2.Qcow2Reader(source)
    if kind is ImageKind.RAW:
        raise ImageFormatError(
            "the file is neither a VHD (no footer at its end) nor a VMDK or qcow2 (by its beginning). If it is the "
            "disk itself, say that it is raw",
            offset=0,
        )
    raise ImageFormatError(f"Sealift does not read images of the kind {kind}; qemu-img does", offset=0)


def _open_vmdk(source: RangeSource) -> VirtualDisk:
    """Open a VMDK that holds all of its disk: not a part of one, and not what changed against another."""
    reader = vmdk.VmdkReader(source)
    descriptor = vmdk.read_descriptor(source, reader.header)
    if not descriptor:
        raise vmdk.VmdkFormatError(
            "the file has no descriptor: it is one extent of a disk that lies in several files", offset=28
        )
    if descriptor.get("parentCID", vmdk.NO_PARENT).lower() != vmdk.NO_PARENT:
        raise vmdk.VmdkFormatError(
            "the file names a parent: it holds only what changed against another one, which is not here",
            offset=reader.header.descriptor_at * vmdk.SECTOR,
        )
    if descriptor["extents"] != "1":
        raise vmdk.VmdkFormatError(
            f"the descriptor names {descriptor['extents']} extents, expected one",
            offset=reader.header.descriptor_at * vmdk.SECTOR,
        )
    return reader
