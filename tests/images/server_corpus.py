"""Whole servers for the corpus of damage, and where what they hold lies on their disks.

Four servers, each with a disk to start from and one of data: ``mbr`` (GRUB in the MBR, one ext4), ``gpt`` (an EFI
partition, a /boot of its own), ``xfs`` (a root of XFS) and ``lvm`` (a volume group over both disks).
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.file_system import Tree
from sealift.images.file_systems.window import CachedDisk, Reading, Window
from sealift.images.file_systems.xfs import XfsFileSystem
from sealift.images.source import BytesSource
from tests.images import volume_groups
from tests.images.servers import (
    BOOT_UUID,
    DATA_UUID,
    ESP,
    LINUX,
    MIB,
    ROOT_UUID,
    VERSION,
    boot_files,
    fat16,
    gpt_disk,
    initramfs,
    make_ext,
    make_xfs,
    mbr_disk,
    newc,
    server_files,
    write_tree,
)

Files = dict[str, bytes | str]
KINDS: Final = ("mbr", "gpt", "xfs", "lvm")
KERNEL: Final = f"boot/vmlinuz-{VERSION}"
INITRAMFS: Final = f"boot/initrd.img-{VERSION}"
DATA_SIZE: Final = 12 * MIB
EXTENT: Final = MIB
PVS: Final = ("PPPPPP-aaaa-bbbb-cccc-dddd-eeee-PPPPP0", "PPPPPP-aaaa-bbbb-cccc-dddd-eeee-PPPPP1")


# -- good servers ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """The disks of a server, and where its file systems lie on them.

    :param regions: for ``root``, ``boot``, ``efi`` and ``data``: disk, first byte, size.
    """

    kind: str
    disks: tuple[bytes, ...]
    regions: Mapping[str, tuple[int, int, int]]


def spread_initramfs() -> bytes:
    """Return an initramfs of which mke2fs makes more extents than an inode holds: blocks of zeros lie between its
    archives, which need no place in a file system."""
    early = b""
    for number in range(6):
        archive = newc({f"kernel/x86/microcode/{number}.bin": bytes([number + 1]) * 2000})
        early += archive + bytes(-len(archive) % 4096 + 8192)
    return early + initramfs(microcode=False)


def all_files(kind: str) -> Files:
    """Return the files of a server, those of /boot among them.

    :param kind: which server.
    """
    root = {"lvm": "/dev/mapper/vg0-root"}.get(kind, f"UUID={ROOT_UUID}")
    form = "xfs" if kind == "xfs" else "ext4"
    data = {"lvm": "/dev/mapper/vg0-data"}.get(kind, f"UUID={DATA_UUID}")
    fstab = f"{root} / {form} defaults 0 1\n{data} /srv ext4 defaults 0 2\n"
    prefix = "/boot" if kind == "mbr" else ""
    if kind != "mbr":
        fstab += f"UUID={BOOT_UUID} /boot ext4 defaults 0 2\n"
    if kind == "gpt":
        fstab += "LABEL=EFI /boot/efi vfat umask=0077 0 1\n"
    files = server_files(fstab=fstab, boot=False) | boot_files("boot/", prefix=prefix)
    del files["boot/.keep"]
    files[INITRAMFS] = spread_initramfs()
    for number in range(60):
        files[f"etc/default/setting-{number:02}"] = f"number={number}\n"
        files[f"etc/setting-{number:02}.conf"] = f"number={number}\n"
    return files


def build(kind: str, folder: Path, change: Callable[[Files], object] | None = None, *, other: bool = False) -> Server:
    """Make a server.

    :param kind: ``mbr``, ``gpt``, ``xfs`` or ``lvm``.
    :param folder: an empty folder to work in.
    :param change: changes its files before its disks are made of them.
    :param other: another server of the same kind: with UUIDs of its own.
    """
    files = all_files(kind)
    if change:
        change(files)
    uuids = {uuid: UUID(int=uuid.int + 1 if other else uuid.int) for uuid in (ROOT_UUID, BOOT_UUID, DATA_UUID)}
    if other:
        for name, content in files.items():
            if isinstance(content, str):
                for uuid, own in uuids.items():
                    content = content.replace(str(uuid), str(own))
                files[name] = content
        files["etc/hostname"] = "db01\n"
    numbers = itertools.count()

    def ext(own: Files, size: int, uuid: UUID, label: str, *options: str) -> bytes:
        place = folder / str(next(numbers))
        tree = write_tree(place, own)
        return make_ext(
            place.with_suffix(".img"), size=size, tree=tree, uuid=uuids[uuid], label=label, options=options
        ).read_bytes()

    data = ext({"data/file": "x" * 5000}, DATA_SIZE, DATA_UUID, "data", "-b", "1024")
    in_boot = {name.removeprefix("boot/"): content for name, content in files.items() if name.startswith("boot/")}
    in_root = {name: content for name, content in files.items() if not name.startswith("boot/")} | {"boot/.keep": ""}
    if kind == "mbr":
        root = ext(files, 12 * MIB, ROOT_UUID, "root")
        return Server(
            kind=kind,
            disks=(mbr_disk([(0x83, root)], size=14 * MIB), data),
            regions={"root": (0, MIB, len(root)), "boot": (0, MIB, len(root)), "data": (1, 0, len(data))},
        )
    boot = ext(in_boot, 6 * MIB, BOOT_UUID, "boot")
    if kind == "gpt":
        efi = fat16({"EFI/BOOT/BOOTX64.EFI": b"MZ" * 500, "EFI/debian/shimx64.efi": b"MZ" * 900}, size=5 * MIB)
        root = ext(in_root, 12 * MIB, ROOT_UUID, "root")
        disk = bytes(gpt_disk([(ESP, "efi", efi), (LINUX, "boot", boot), (LINUX, "root", root)], size=26 * MIB))
        regions = {"efi": (0, MIB, len(efi)), "boot": (0, 6 * MIB, len(boot)), "root": (0, 12 * MIB, len(root))}
        return Server(kind=kind, disks=(disk, data), regions=regions | {"data": (1, 0, len(data))})
    if kind == "xfs":
        tree = write_tree(folder / "xfs", in_root)
        root = make_xfs(folder / "xfs.img", tree, ["-m", f"crc=1,uuid={uuids[ROOT_UUID]}"]).read_bytes()
        disk = mbr_disk([(0x83, boot), (0x83, root)], size=48 * MIB)
        regions = {"boot": (0, MIB, len(boot)), "root": (0, 7 * MIB, len(root))}
        return Server(kind=kind, disks=(disk, data), regions=regions | {"data": (1, 0, len(data))})
    assert kind == "lvm"
    root = ext(in_root, 12 * MIB, ROOT_UUID, "root")
    physical_ids = [name.replace("PPPPPP", "QQQQQQ" if other else "PPPPPP") for name in PVS]
    segment = volume_groups.Segment
    text = volume_groups.volume_group(
        "vg0",
        physical_ids,
        {"root": [segment(0, 12, [("pv0", 0)])], "data": [segment(0, 12, [("pv1", 0)])]},
        extent=EXTENT,
    )
    physical = []
    for name, content in zip(physical_ids, (root, data), strict=True):
        pieces = [content[at : at + EXTENT] for at in range(0, len(content), EXTENT)]
        physical.append(volume_groups.physical_volume(text, uuid=name, extents=pieces))
    disk = mbr_disk([(0x83, boot), (0x8E, physical[0])], size=20 * MIB)
    at = volume_groups.DATA_AT
    regions = {"boot": (0, MIB, len(boot)), "pv": (0, 7 * MIB, len(physical[0]))}
    regions |= {"root": (0, 7 * MIB + at, len(root)), "data": (1, at, len(data))}
    return Server(kind=kind, disks=(disk, physical[1]), regions=regions)


# -- finding places ----------------------------------------------------------------------------------------------------


def _window(server: Server, where: str) -> tuple[Window, int, int]:
    disk, start, size = server.regions[where]
    cached = CachedDisk(BytesSource(server.disks[disk]), reading=Reading(budget=256 * MIB), name=f"disk {disk}")
    return Window(cached, start=start, size=size, name=where), disk, start


def _opened(server: Server, path: str) -> tuple[ExtFileSystem | XfsFileSystem, str, int, int]:
    """Return the file system that holds a path, the path in it, its disk, and where it begins there."""
    apart = path.startswith("/boot/") and server.kind != "mbr"
    window, disk, start = _window(server, "boot" if apart else "root")
    inside = path.removeprefix("/boot") if apart else path
    if server.kind == "xfs" and not apart:
        return XfsFileSystem(window, name="root"), inside, disk, start
    return ExtFileSystem(window, name="root"), inside, disk, start


def inode_of(server: Server, path: str) -> tuple[int, int]:
    """Return the disk and the byte where a path's inode is."""
    file_system, inside, disk, start = _opened(server, path)
    place = Tree(file_system).find(inside)
    assert place is not None
    if isinstance(file_system, XfsFileSystem):
        at = file_system.superblock.inode_place(place.node.key)
        assert at is not None
        return disk, start + at
    superblock = file_system.superblock
    group, index = divmod(place.node.key - 1, superblock.inodes_per_group)
    table = file_system.descriptor(group).inode_table
    return disk, start + table * superblock.block + index * superblock.inode_size


def block_of(server: Server, path: str) -> tuple[int, int]:
    """Return the disk and the byte where a path's first block is."""
    file_system, inside, disk, start = _opened(server, path)
    place = Tree(file_system).find(inside)
    assert place is not None
    if isinstance(file_system, XfsFileSystem):
        at = file_system.extents(file_system.inode(place.node.key))[0].place
        assert at is not None
        return disk, start + at
    (block, _), *_ = list(file_system.maps.runs(file_system.inode(place.node.key), 0, 1))
    return disk, start + block * file_system.superblock.block


def extent_block_of(server: Server, path: str) -> tuple[int, int]:
    """Return the disk and the byte of the block that holds a file's extents, because its inode is too small."""
    disk, at = inode_of(server, path)
    magic, _, _, depth = struct.unpack_from("<4H", server.disks[disk], at + 40)
    assert (magic, depth) == (0xF30A, 1), "the file has to have more than four extents"
    (low,) = struct.unpack_from("<I", server.disks[disk], at + 40 + 12 + 4)
    _, start, _ = server.regions["root" if server.kind == "mbr" else "boot"]
    return disk, start + low * 4096


def journal_of(server: Server) -> tuple[int, int]:
    """Return the disk and the byte where the journal of the root's ext4, or of XFS its log, begins."""
    disk, start, size = server.regions["root"]
    if server.kind == "xfs":
        window, _, _ = _window(server, "root")
        superblock = XfsFileSystem(window, name="root").superblock
        at = superblock.block_place(superblock.log_start)
        assert at is not None
        return disk, start + at
    return disk, server.disks[disk].index(bytes.fromhex("c03b399800000004"), start, start + size)
