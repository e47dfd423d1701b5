"""Ways to damage a server's disks, each with the level and the check that see it, and the images that are made of them.

The other part of the corpus (:mod:`tests.images.corpus`) damages image files. Here the files are whole, and what they
hold is not: bit rot below the file system, half a kernel, an fstab of another server, disks that were exchanged. A
proof of a file alone says nothing of that; level L3 has to.
"""

from __future__ import annotations

import dataclasses
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.images.producers import PRODUCERS, suffix
from tests.images.server_corpus import (
    INITRAMFS,
    KERNEL,
    KINDS,
    Files,
    Server,
    block_of,
    build,
    extent_block_of,
    inode_of,
    journal_of,
)
from tests.images.servers import MIB, ROOT_UUID, fat16, initramfs

NOWHERE: Final = "dddddddd-0000-4000-8000-000000000000"

Disks = list[bytearray]
Places = Callable[[Server], tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class ServerDamage:
    """One way to damage a server.

    :param name: says what is done.
    :param level: the lowest level that must refuse it, or say it.
    :param check: the check that must fail; of a remark, what is remarked on.
    :param says: words that must be in it.
    :param servers: which it is for.
    :param change: changes the server's files before its disks are made.
    :param edit: changes the disks.
    :param remark: the server is whole, and starts where it was; that it would not elsewhere must be said.
    """

    name: str
    check: str
    says: str = ""
    level: str = "L3"
    servers: tuple[str, ...] = KINDS
    change: Callable[[Files], object] | None = None
    edit: Callable[[Disks, Server], object] | None = None
    remark: bool = False


def _flip(place: Places, offset: int = 0, *, bit: int = 0x10) -> Callable[[Disks, Server], None]:
    def edit(disks: Disks, server: Server) -> None:
        disk, at = place(server)
        disks[disk][at + offset] ^= bit

    return edit


def _zero(place: Places, length: int) -> Callable[[Disks, Server], None]:
    def edit(disks: Disks, server: Server) -> None:
        disk, at = place(server)
        assert any(disks[disk][at : at + length])
        disks[disk][at : at + length] = bytes(length)

    return edit


def _at(where: str, offset: int = 0) -> Places:
    def place(server: Server) -> tuple[int, int]:
        disk, start, _ = server.regions[where]
        return disk, start + offset

    return place


def _inode(path: str) -> Places:
    return lambda server: inode_of(server, path)


def _block(path: str) -> Places:
    return lambda server: block_of(server, path)


def _put(path: str, content: Callable[[bytes | str], bytes | str | None]) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        new = content(files[path])
        if new is None:
            del files[path]
        else:
            assert new != files[path]
            files[path] = new

    return change


def _exchanged(disks: Disks, server: Server) -> None:
    disks.reverse()


def _of_another(number: int) -> Callable[[Disks, Server], None]:
    def edit(disks: Disks, server: Server) -> None:
        with tempfile.TemporaryDirectory() as folder:
            disks[number] = bytearray(build(server.kind, Path(folder), other=True).disks[number])

    return edit


def _move_partition(disks: Disks, server: Server) -> None:
    """Let the last partition begin 64 sectors later, as a table of before it was moved would."""
    disk = disks[0]
    if server.kind == "gpt":
        entry = 1024 + 2 * 128
        struct.pack_into("<Q", disk, entry + 32, struct.unpack_from("<Q", disk, entry + 32)[0] + 64)
        _seal_gpt(disk)
        return
    at = 446 + (0 if server.kind == "mbr" else 16) + 8
    first, count = struct.unpack_from("<II", disk, at)
    struct.pack_into("<II", disk, at, first + 64, count - 64)


def _seal_gpt(disk: bytearray) -> None:
    last = len(disk) // 512 - 1
    disk[(last - 32) * 512 : last * 512] = disk[1024 : 1024 + 128 * 128]
    for at in (512, last * 512):
        struct.pack_into("<I", disk, at + 88, zlib.crc32(disk[1024 : 1024 + 128 * 128]))
        struct.pack_into("<I", disk, at + 16, 0)
        struct.pack_into("<I", disk, at + 16, zlib.crc32(disk[at : at + 92]))


def _both_copies(disks: Disks, server: Server) -> None:
    disks[0][1024 + 40] ^= 1
    disks[0][-33 * 512 + 40] ^= 1


def _efi_without_loaders(disks: Disks, server: Server) -> None:
    _, start, size = server.regions["efi"]
    disks[0][start : start + size] = fat16({"readme.txt": b"none"}, size=size)


def _blank_data(disks: Disks, server: Server) -> None:
    disks[1] = bytearray(len(disks[1]))


def _without_system(files: Files) -> None:
    for name in ("etc/os-release", "usr/lib/os-release", "etc/fstab"):
        del files[name]


def _first(server: Server) -> tuple[int, int]:
    return 0, 0


def _end(server: Server) -> tuple[int, int]:
    return 0, len(server.disks[0])


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def _half(content: bytes | str) -> bytes | str:
    return content[: len(content) // 2]


EXT_ROOT: Final = ("mbr", "gpt", "lvm")
ON_MBR: Final = ("mbr", "xfs", "lvm")
GPT, XFS, LVM = ("gpt",), ("xfs",), ("lvm",)
GRUB_CFG: Final = "boot/grub/grub.cfg"

DAMAGE: Final = (
    # Bit rot below the file system
    ServerDamage("superblock", "file_system.superblock", edit=_flip(_at("root", 1024 + 0x20)), servers=EXT_ROOT),
    ServerDamage(
        "superblock's magic", "file_system.superblock", edit=_flip(_at("root", 1024 + 0x38)), servers=EXT_ROOT
    ),
    ServerDamage("superblock zeroed", "system.root", edit=_zero(_at("root"), 65536)),
    ServerDamage(
        "copy of the superblock",
        "file_system.backup",
        says="in group 1, block 8193",
        edit=_flip(_at("data", 8193 * 1024 + 0x68)),
    ),
    ServerDamage(
        "group descriptor",
        "file_system.groups",
        says="the descriptor of block group 0",
        edit=_flip(_at("root", 4096 + 8)),
        servers=EXT_ROOT,
    ),
    ServerDamage(
        "group descriptor of a data disk",
        "file_system.groups",
        says="the descriptor of block group 1",
        edit=_flip(_at("data", 2048 + 64 + 8)),
    ),
    ServerDamage("inode of the root directory", "file_system.root", edit=_flip(_inode("/"), 4)),
    ServerDamage("inode table zeroed", "file_system.root", edit=_zero(_inode("/"), 4096), servers=EXT_ROOT),
    ServerDamage("inode of the kernel", "boot.kernel", edit=_flip(_inode(f"/{KERNEL}"), 8), servers=("mbr",)),
    ServerDamage(
        "inode of the kernel in a /boot of its own",
        "file_system.root",
        edit=_flip(_inode(f"/{KERNEL}"), 8),
        servers=("gpt", "xfs", "lvm"),
    ),
    ServerDamage("inode of fstab", "fstab", edit=_flip(_inode("/etc/fstab"), 40)),
    ServerDamage(
        "root directory",
        "file_system.root",
        says="directory inode 2, block",
        edit=_flip(_block("/"), 30),
        servers=EXT_ROOT,
    ),
    ServerDamage("directory of the settings", "system.root", edit=_flip(_block("/etc"), 200)),
    ServerDamage("directory of the boot loader", "boot.configuration", edit=_flip(_block("/boot/grub"), 40)),
    ServerDamage(
        "extents of the initramfs",
        "boot.initramfs",
        says="extent",
        edit=_flip(lambda server: extent_block_of(server, f"/{INITRAMFS}"), 16),
    ),
    ServerDamage(
        "journal's superblock",
        "file_system.journal",
        says="the journal begins with",
        edit=_flip(journal_of, 1),
        servers=EXT_ROOT,
    ),
    ServerDamage(
        "journal's superblock zeroed",
        "file_system.journal",
        says="the journal begins with",
        edit=_zero(journal_of, 1024),
        servers=EXT_ROOT,
    ),
    # XFS
    ServerDamage("XFS superblock", "file_system.superblock", edit=_flip(_at("root", 0x60)), servers=XFS),
    ServerDamage("XFS free space header", "file_system.groups", edit=_flip(_at("root", 512 + 30)), servers=XFS),
    ServerDamage("XFS inode space header", "file_system.groups", edit=_flip(_at("root", 1024 + 30)), servers=XFS),
    ServerDamage(
        "XFS log zeroed", "file_system.state", says="its log", remark=True, edit=_zero(journal_of, 4096), servers=XFS
    ),
    # Files that the server needs
    ServerDamage("bit in the kernel", "boot.kernel", edit=_flip(_block(f"/{KERNEL}"), 2048 + 1000)),
    ServerDamage("kernel's header", "boot.kernel", says="is no Linux kernel", edit=_flip(_block(f"/{KERNEL}"), 0x202)),
    ServerDamage("kernel cut", "boot.kernel", change=_put(KERNEL, _half)),
    ServerDamage("kernel empty", "boot.kernel", change=_put(KERNEL, lambda _: b"")),
    ServerDamage("kernel missing", "boot.kernel", says="which is not there", change=_put(KERNEL, lambda _: None)),
    ServerDamage(
        "bit in the initramfs", "boot.initramfs", change=_put(INITRAMFS, lambda _: _flipped(initramfs(), 20_000))
    ),
    ServerDamage("initramfs cut", "boot.initramfs", change=_put(INITRAMFS, lambda _: initramfs()[:50_000])),
    ServerDamage(
        "initramfs missing", "boot.initramfs", says="which is not there", change=_put(INITRAMFS, lambda _: None)
    ),
    ServerDamage(
        "fstab names no volume of the server",
        "fstab",
        says="which is not on the disks",
        change=_put("etc/fstab", lambda old: f"{old!s}UUID={NOWHERE} /var ext4 defaults 0 2\n"),
    ),
    ServerDamage(
        "boot loader names another root",
        "boot.root",
        says="which is not on the disks",
        change=_put(GRUB_CFG, lambda old: str(old).replace(f"root=UUID={ROOT_UUID}", f"root=UUID={NOWHERE}")),
    ),
    ServerDamage(
        "boot loader's configuration cut",
        "boot.configuration",
        says="has no entry that starts a kernel",
        change=_put(GRUB_CFG, lambda _: "set default=0\nmenuentry 'Debian' {\n"),
    ),
    ServerDamage("no operating system", "system.root", change=_without_system),
    # What starts it
    ServerDamage(
        "boot loader's code missing", "boot.loader", says="the code was lost", edit=_zero(_first, 440), servers=ON_MBR
    ),
    ServerDamage(
        "boot loader's second stage missing",
        "boot.loader",
        says="is blank",
        edit=_zero(lambda _: (0, 512), 512),
        servers=ON_MBR,
    ),
    ServerDamage("EFI loaders missing", "boot.loader", says="holds no loader", edit=_efi_without_loaders, servers=GPT),
    ServerDamage("EFI partition's boot sector", "file_system.superblock", edit=_flip(_at("efi", 11)), servers=GPT),
    ServerDamage("EFI partition zeroed", "boot.loader", edit=_zero(_at("efi"), 5 * MIB), servers=GPT),
    # Where everything lies
    ServerDamage("partition table's signature", "partition_table", level="L1", edit=_flip(_first, 511), servers=ON_MBR),
    ServerDamage("partition moved", "system.root", says="no operating system was found", edit=_move_partition),
    ServerDamage(
        "first copy of the GPT", "partition_table", level="L1", edit=_flip(lambda _: (0, 1024), 40), servers=GPT
    ),
    ServerDamage(
        "header of the first copy of the GPT",
        "partition_table",
        level="L1",
        edit=_flip(lambda _: (0, 512), 60),
        servers=GPT,
    ),
    ServerDamage("second copy of the GPT", "partition_table.backup", edit=_flip(_end, -33 * 512 + 40), servers=GPT),
    ServerDamage(
        "header of the second copy of the GPT", "partition_table.backup", edit=_flip(_end, -512 + 60), servers=GPT
    ),
    ServerDamage("both copies of the GPT", "partition_table", level="L1", edit=_both_copies, servers=GPT),
    ServerDamage("LVM label", "lvm", edit=_flip(_at("pv", 512 + 40)), servers=LVM),
    ServerDamage("LVM metadata's header", "lvm", edit=_flip(_at("pv", 4096 + 45)), servers=LVM),
    ServerDamage("LVM metadata", "lvm", edit=_flip(_at("pv", 4096 + 512 + 100)), servers=LVM),
    ServerDamage("LVM metadata zeroed", "lvm", edit=_zero(_at("pv", 4096), 65536), servers=LVM),
    # Right images of wrong disks
    ServerDamage("disks exchanged", "boot.loader", says="the disks were swapped", edit=_exchanged),
    ServerDamage("another server's data disk", "fstab", says="on /srv, which is not on the disks", edit=_of_another(1)),
    ServerDamage("another server's boot disk", "fstab", says="on /srv, which is not on the disks", edit=_of_another(0)),
    ServerDamage("data disk blank", "fstab", says="on /srv, which is not on the disks", edit=_blank_data),
    # What is no damage, but keeps a server from starting on VPC
    ServerDamage(
        "virtio drivers missing",
        "boot.drivers",
        says="does not find its disk on KVM",
        remark=True,
        change=_put(INITRAMFS, lambda _: initramfs(("xen-blkfront",))),
    ),
)


# -- images ------------------------------------------------------------------------------------------------------------

IMAGES_OF_A_DAMAGE: Final = 4
"""At least so many different servers or producers each damage is seen in."""


def server_cases() -> list[tuple[str, str, ServerDamage]]:
    """Return every damage on every server that it is for, in images of several producers; over all, of every one."""
    names = list(PRODUCERS)
    found: list[tuple[str, str, ServerDamage]] = []
    for damage in DAMAGE:
        for kind in damage.servers:
            for _ in range(-(-IMAGES_OF_A_DAMAGE // len(damage.servers))):
                found.append((names[len(found) % len(names)], kind, damage))
    return found


class ServerCorpus:
    """The images of good servers, and what is made of them.

    :param folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._good: dict[str, Server] = {}
        self._images: dict[tuple[str, str, int], bytes] = {}
        self._damaged: tuple[str, str, list[bytes]] = ("", "", [])

    def server(self, kind: str) -> Server:
        """Give a good server.

        :param kind: which.
        """
        if kind not in self._good:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                self._good[kind] = build(kind, Path(folder))
        return self._good[kind]

    def good(self, kind: str, producer: str) -> list[bytes]:
        """Give the images of a good server.

        :param kind: which server.
        :param producer: of the images.
        """
        return [self._good_image(kind, producer, number) for number in range(len(self.server(kind).disks))]

    def _good_image(self, kind: str, producer: str, number: int) -> bytes:
        key = (kind, producer, number)
        if key not in self._images:
            self._images[key] = self._image(self.server(kind).disks[number], producer)
        return self._images[key]

    def damaged(self, kind: str, producer: str, damage: ServerDamage) -> list[bytes]:
        """Give the images of a damaged server.

        :param kind: which server.
        :param producer: of the images.
        :param damage: what is done to it.
        """
        disks = self._damaged_disks(kind, damage)
        assert disks != list(self.server(kind).disks), f"{damage.name} changes nothing of {kind}"
        good = list(self.server(kind).disks)
        return [
            self._good_image(kind, producer, good.index(disk)) if disk in good else self._image(disk, producer)
            for disk in disks
        ]

    def _damaged_disks(self, kind: str, damage: ServerDamage) -> list[bytes]:
        if self._damaged[:2] != (kind, damage.name):
            server = self.server(kind)
            if damage.change:
                with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                    server = build(kind, Path(folder), damage.change)
            disks = [bytearray(disk) for disk in server.disks]
            if damage.edit:
                damage.edit(disks, server)
            self._damaged = (kind, damage.name, [bytes(disk) for disk in disks])
        return self._damaged[2]

    def _image(self, disk: bytes, producer: str) -> bytes:
        raw, out = self._folder / "disk.raw", self._folder / "disk.image"
        write_sparse(raw, disk)
        _, make = PRODUCERS[producer]
        make(raw, out)
        return out.read_bytes()


def write_sparse(path: Path, data: bytes) -> None:
    """Write a file, zeros as holes.

    :param path: of the file.
    :param data: what it is to hold.
    """
    with path.open("wb") as file:
        file.truncate(len(data))
        for at in range(0, len(data), 256 * 1024):
            piece = data[at : at + 256 * 1024]
            if piece.count(0) < len(piece):
                file.seek(at)
                file.write(piece)


def write_servers(folder: Path) -> list[dict[str, Any]]:
    """Write the servers, good and damaged, each into a folder of its own.

    :param folder: a folder that exists.
    :returns: for each what it is, and the level and the check that must see it.
    """
    index: list[dict[str, Any]] = []

    written: dict[int, Path] = {}

    def write(name: str, producer: str, images: list[bytes]) -> list[str]:
        files = []
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images):
            files.append(f"{name}/disk-{number}.{suffix(PRODUCERS[producer][0])}")
            path = folder / files[-1]
            if id(image) in written:  # the image of a disk that nothing was done to
                path.hardlink_to(written[id(image)])
                continue
            write_sparse(path, image)
        return files

    with tempfile.TemporaryDirectory() as work:
        corpus = ServerCorpus(Path(work))
        for kind in KINDS:
            for producer, (family, _) in PRODUCERS.items():
                files = write(f"servers/{kind}--{producer}", producer, corpus.good(kind, producer))
                written |= dict(zip(map(id, corpus.good(kind, producer)), (folder / one for one in files), strict=True))
                index.append({"server": kind, "files": files, "producer": producer, "family": family, "damage": None})
        for producer, kind, damage in server_cases():
            name = f"servers/{kind}--{producer}--{damage.name.replace(' ', '-').replace('/', '')}"
            files = write(name, producer, corpus.damaged(kind, producer, damage))
            index.append(
                {
                    "server": kind,
                    "files": files,
                    "producer": producer,
                    "family": PRODUCERS[producer][0],
                    "damage": damage.name,
                    "level": damage.level,
                    "check": damage.check,
                    "remark": damage.remark,
                }
            )
    return index
