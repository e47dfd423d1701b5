"""Names what lies on a partition by its magic number, with its UUID and label; and what a damaged one once was."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Final
from uuid import UUID

from sealift.images.file_systems import ext_structures, fat, ntfs, xfs_structures
from sealift.images.file_systems.window import Region
from sealift.images.partitions import PROBE_LENGTH

BLANK: Final = "blank"
UNKNOWN: Final = "unknown"

_EXT_COPIES: Final = ((8193, 1024), (16384, 2048), (32768, 4096), (65536, 65536))
"""(block, bytes of a block) where the first copy of a superblock is, by the block's size."""
_PAGE: Final = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """What lies on a partition.

    :param kind: ``ext``, ``xfs``, ``vfat``, ``ntfs``, ``swap``, ``lvm``, ``btrfs``, ``luks``, ``raid``, ``exfat``,
        ``iso9660``, ``blank`` or ``unknown``.
    """

    kind: str
    uuid: str = ""
    label: str = ""


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace").strip()


def _uuid(data: bytes) -> str:
    return str(UUID(bytes=data)) if len(data) == 16 else ""


def _is_fat(head: bytes) -> bool:
    named = head[54:59] in (b"FAT12", b"FAT16") or head[82:87] == b"FAT32"
    return named and head[510:512] == b"\x55\xaa"


def _ext(head: bytes) -> Content:
    superblock = ext_structures.Superblock.unpack(head[1024:2048])
    return Content(kind="ext", uuid=superblock.uuid_text, label=superblock.label)


def _xfs(head: bytes) -> Content:
    superblock = xfs_structures.Superblock.unpack(head[: xfs_structures.SUPERBLOCK_SIZE])
    return Content(kind="xfs", uuid=superblock.uuid_text, label=superblock.label)


def _vfat(head: bytes) -> Content:
    boot = fat.BootSector.unpack(head[:512])
    return Content(kind="vfat", uuid=boot.uuid_text, label=boot.shown_label)


def _luks(head: bytes) -> Content:
    return Content(kind="luks", uuid=_text(head[168:208]))


def _swap(head: bytes) -> Content:
    return Content(kind="swap", uuid=_uuid(head[1036:1052]), label=_text(head[1052:1068]))


def _btrfs(head: bytes) -> Content:
    return Content(kind="btrfs", uuid=_uuid(head[65568:65584]), label=_text(head[65835:66091]))


# What must lie there, and how it is read; tried in order.
_KNOWN: Final[tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Content]], ...]] = (
    (lambda head: head[:6] == b"LUKS\xba\xbe", _luks),
    (
        lambda head: any(head[at : at + 8] == b"LABELONE" for at in range(0, 2048, 512)),
        lambda _: Content(kind="lvm"),
    ),
    (lambda head: head[:4] == xfs_structures.MAGIC, _xfs),
    (
        lambda head: head[3:11] == b"NTFS    ",
        lambda head: Content(kind="ntfs", uuid=ntfs.BootSector.unpack(head[:512]).uuid_text),
    ),
    (lambda head: head[3:11] == b"EXFAT   ", lambda _: Content(kind="exfat")),
    (_is_fat, _vfat),
    (lambda head: head[_PAGE - 10 : _PAGE] in (b"SWAPSPACE2", b"S1SUSPEND\0"), _swap),
    (lambda head: head[1080:1082] == b"\x53\xef", _ext),
    (lambda head: head[65600:65608] == b"_BHRfS_M", _btrfs),
    (lambda head: b"\xfc\x4e\x2b\xa9" in (head[:4], head[4096:4100]), lambda _: Content(kind="raid")),
    (lambda head: head[32769:32774] == b"CD001", lambda _: Content(kind="iso9660")),
)


def recognise(region: Region) -> Content:
    """Name what lies on a partition.

    :param region: the partition.
    :returns: its kind, and the names under which fstab may have it.
    """
    head = region.read(0, min(PROBE_LENGTH, region.size)).ljust(PROBE_LENGTH, b"\0")
    for is_there, read in _KNOWN:
        if is_there(head):
            return read(head)
    if _raid_at_end(region):
        return Content(kind="raid")
    return Content(kind=UNKNOWN if any(head) else BLANK)


def _raid_at_end(region: Region) -> bool:
    """Say whether a superblock of Linux RAID, version 0.90 or 1.0, lies at the end."""
    sectors = region.size // 512
    for at in ((sectors & ~127) - 128, (sectors - 16) & ~7):
        if at > 0 and region.read_once(at * 512, 4) == b"\xfc\x4e\x2b\xa9":
            return True
    return False


def damaged_remains(region: Region) -> tuple[str, bool] | None:
    """Say what a partition without any known magic number looks like having been.

    A magic number alone that is zeros was most likely taken away on purpose: that is how a partition is given free. Any
    other wrong one is damage.

    :param region: the partition.
    :returns: what was found in words, and whether it is damage; None where nothing was.
    """
    head = region.read(0, min(PROBE_LENGTH, region.size)).ljust(PROBE_LENGTH, b"\0")
    magic = head[1080:1082]
    ext = ext_structures.Superblock.unpack(head[1024:1080] + b"\x53\xef" + head[1082:2048])
    if not ext.why_not() and ext.blocks * ext.block <= region.size:
        return (
            f"the superblock of an {ext.type} file system at byte 1024, but {magic.hex(' ')} in place of its magic "
            "number 53 ef at byte 1080",
            any(magic),
        )
    xfs = xfs_structures.Superblock.unpack(xfs_structures.MAGIC + head[4 : xfs_structures.SUPERBLOCK_SIZE])
    if not xfs.why_not() and xfs.blocks * xfs.block <= region.size:
        return (
            f"the superblock of an xfs file system at byte 0, but {head[:4].hex(' ')} in place of its magic number "
            "58 46 53 42",
            any(head[:4]),
        )
    if head[512:516] == b"XAGF" or head[4096:4100] == b"XAGF":
        return "the first headers of an xfs file system, but no superblock before them", any(head[:512])
    for block, size in _EXT_COPIES:
        at = block * size
        if at + 1024 > region.size:
            continue
        copy = ext_structures.Superblock.unpack(region.read_once(at, 1024))
        if not copy.why_not() and copy.block == size and copy.blocks * size <= region.size:
            return (
                f"a copy of the superblock of an {copy.type} file system at byte {at}, but none at byte 1024",
                any(head[1024:2048]),
            )
    return None


def hibernated(region: Region) -> bool:
    """Say whether a swap space holds a server that was put to sleep.

    :param region: the swap space.
    """
    return region.size >= _PAGE and region.read(_PAGE - 10, 10) == b"S1SUSPEND\0"


def disk_signature(head: bytes) -> int:
    """Return the number in an MBR of which Linux makes partitions' PARTUUIDs.

    :param head: the first bytes of a disk.
    """
    return int(struct.unpack_from("<I", head, 440)[0])
