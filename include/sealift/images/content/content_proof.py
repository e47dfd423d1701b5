"""Proof of a server's disks at level L3: what is on them is whole, and holds what the server needs to start.

All disks of a server are proven together, because a file system of one may be mounted from another. Nothing is
mounted and nothing is written; the disks are read piece by piece, so that they can be objects in a bucket.

How much is read: at most :data:`BUDGET` bytes of a server, and in addition the sizes of the kernels and initramfs
archives that are read whole (the default's and the newest's; together at most
:data:`sealift.images.kernels.LARGEST_TOGETHER`). With ``deep``, at most :data:`DEEP_BUDGET`.

What L3 catches: damage to partition tables and their copies, superblocks and their copies, group descriptors or
headers of allocation groups, LVM's labels and metadata, root directories, and to every inode, directory and map of
blocks on the way to what is read; a kernel or initramfs that is damaged, cut or missing; an fstab or boot loader
that names what is not there; a boot disk without a boot loader or an operating system. What it cannot see: damage
to the data of all other files, and to metadata that it does not read. That needs level L2.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from sealift.images.content.contents import Server, check_root_directory, read_system
from sealift.images.content.deep import check_trees
from sealift.images.content.facts import SystemFacts
from sealift.images.content.mounts import Opened
from sealift.images.file_systems import ntfs
from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.ext_checks import check_ext
from sealift.images.file_systems.fat import FatFileSystem
from sealift.images.file_systems.file_system import FileSystem
from sealift.images.file_systems.signatures import BLANK, UNKNOWN, damaged_remains, hibernated
from sealift.images.file_systems.volumes import INCOMPLETE, UNREAD, Volume, find_volumes
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.file_systems.xfs import XfsFileSystem
from sealift.images.file_systems.xfs_checks import check_xfs
from sealift.images.findings import Findings, Remark
from sealift.images.source import ImageFormatError, RangeSource, ShortReadError
from sealift.images.verdict import Check, ProofLevel

BUDGET: Final = 64 * 1024 * 1024
"""Bytes that are read of a server's disks, kernels and initramfs archives not counted."""
DEEP_BUDGET: Final = 4 * 1024 * 1024 * 1024
"""Bytes that are read where all groups and whole trees are asked for."""

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_QUIET: Final = (BLANK, "lvm", UNREAD, INCOMPLETE, "")
"""Contents of which nothing more is to be said: they are named elsewhere."""


class ContentProof(BaseModel):
    """The proof of the content of a server's disks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: ProofLevel
    checks: list[Check]
    """All passed; a proof with a failed one is not made."""
    remarks: list[Remark]
    system: SystemFacts
    verified: dict[str, int]
    """How many structures of which kind had a checksum, and the right one."""
    bytes_read: int
    requests: int

    @property
    def starts_by_uefi(self) -> bool:
        """Whether the server starts by loaders for EFI, and has no code in its first sector that does."""
        boot = self.system.boot
        return boot is not None and bool(boot.efi_loaders) and boot.mbr in ("none", "other")

    @property
    def starts_without_loader(self) -> bool:
        """Whether there is nothing for a firmware to start: the platform reads GRUB's configuration itself."""
        boot = self.system.boot
        return boot is not None and boot.mbr == "none" and not boot.efi_loaders


def prove_content(
    disks: Sequence[RangeSource],
    *,
    boot_index: int = 0,
    device_numbers: Sequence[int] | None = None,
    deep: bool = False,
) -> ContentProof:
    """Prove the content of a server's disks at level L3.

    :param disks: all of them that are in the image: the virtual disks, not the files that hold them.
    :param boot_index: place of the disk that the server starts from.
    :param device_numbers: for each disk, its number on the server (0 is ``xvda``, 2 is ``xvdc``), so that names like
        ``/dev/xvdc1`` can be understood; without it only the boot disk's are.
    :param deep: check all groups of all file systems, and every inode and directory in /etc, /boot and
        /usr/lib/modules.
    :returns: the proof, with every check made, every remark, and what was found on the disks.
    :raises ProofFailed: naming every check that failed: what was found, where, and what was expected.
    :raises ValueError: there is no disk, no such boot disk, or not a device number for each.
    """
    if not 0 <= boot_index < len(disks):
        raise ValueError(f"the boot disk is number {boot_index} of {len(disks)} disks")
    if device_numbers is not None and len(device_numbers) != len(disks):
        raise ValueError(f"{len(device_numbers)} device numbers for {len(disks)} disks")
    findings = Findings()
    reading = Reading(budget=DEEP_BUDGET if deep else BUDGET)
    cached = [CachedDisk(disk, reading=reading, name=f"disk {index}") for index, disk in enumerate(disks)]
    letters = disk_letters(len(disks), boot_index, device_numbers)
    try:
        starts, volumes = find_volumes(findings, cached, boot_index=boot_index, letters=letters)
        opened = open_volumes(findings, volumes, deep=deep)
        server = Server(starts=starts, opened=opened, boot_index=boot_index, letters=letters)
        system, mounted = read_system(findings, server, reading)
        if deep and mounted:
            check_trees(findings, mounted.tree)
    except (ImageFormatError, ShortReadError) as error:
        raise findings.fail("content", str(error)) from error
    findings.raise_if_failed()
    verified: Counter[str] = Counter()
    for one in opened:
        if one.file_system:
            verified += one.file_system.verified
    return ContentProof(
        level=ProofLevel.L3,
        checks=list(findings.made),
        remarks=findings.remarks,
        system=system,
        verified=dict(sorted(verified.items())),
        bytes_read=reading.bytes_read,
        requests=reading.requests,
    )


def disk_letters(count: int, boot_index: int, device_numbers: Sequence[int] | None) -> list[str]:
    """Return the letter that Linux gives each disk; empty where that is not known.

    :param count: of the disks.
    :param boot_index: place of the disk that the server starts from.
    :param device_numbers: as for :func:`prove_content`.
    """
    if device_numbers is None:
        return ["a" if index == boot_index else "" for index in range(count)]
    return [_LETTERS[number] if 0 <= number < len(_LETTERS) else "" for number in device_numbers]


def open_volumes(findings: Findings, volumes: Sequence[Volume], *, deep: bool = False) -> list[Opened]:
    """Open and check what volumes hold.

    :param findings: where checks and remarks go.
    :param volumes: of all disks.
    :param deep: as for :func:`prove_content`.
    """
    return [_open(findings, volume, deep=deep) for volume in volumes]


def _open(findings: Findings, volume: Volume, *, deep: bool) -> Opened:
    """Open and check what a volume holds."""
    try:
        file_system = _open_kind(findings, volume, deep=deep)
    except (ImageFormatError, ShortReadError) as error:
        findings.damaged("file_system.superblock", error)
        return Opened(volume=volume, damaged=True)
    if file_system is None:
        return Opened(volume=volume, damaged=_name_unread(findings, volume))
    if not check_root_directory(findings, file_system):
        return Opened(volume=volume, damaged=True)
    if isinstance(file_system, FatFileSystem):
        volume = dataclasses.replace(volume, content=dataclasses.replace(volume.content, label=file_system.label))
    return Opened(volume=volume, file_system=file_system)


def _open_kind(findings: Findings, volume: Volume, *, deep: bool) -> FileSystem | None:
    kind, region, name = volume.content.kind, volume.region, volume.name
    if kind == "ext":
        ext = ExtFileSystem(region, name=name)
        check_ext(findings, ext, deep=deep)
        return ext
    if kind == "xfs":
        xfs = XfsFileSystem(region, name=name)
        check_xfs(findings, xfs, deep=deep)
        return xfs
    if kind == "vfat":
        fat = FatFileSystem(region, name=name)
        findings.record("file_system.superblock", True, f"{name}: vfat; its boot sector can be right")
        if words := fat.copies_differ():
            findings.remark("file_system.state", f"{name}: {words}; it was not cleanly unmounted")
        return fat
    if kind == "ntfs":
        ntfs.check_ntfs(findings, region, ntfs.read_boot_sector(region, name=name), name=name)
    return None


def _name_unread(findings: Findings, volume: Volume) -> bool:
    """Say what a volume holds that is not looked into, and whether it is damage."""
    kind, name = volume.content.kind, volume.name
    if kind == UNKNOWN:
        remains = damaged_remains(volume.region)
        if remains and remains[1]:
            findings.record("file_system.superblock", False, f"{name} has {remains[0]}")
            return True
        if remains:
            findings.remark("content", f"{name} has {remains[0]}: it was taken away, or is lost")
        else:
            findings.remark("content", f"{name} holds nothing that is known; it was not looked into")
    elif kind == "swap":
        if hibernated(volume.region):
            findings.remark("content", f"{name} is swap space that holds a server put to sleep: it wakes up elsewhere")
    elif kind == BLANK:
        findings.remark("content", f"{name} is blank at its start")
    elif kind not in _QUIET:
        findings.remark("content", f"{name} holds {kind}; its content was not read")
    return False
