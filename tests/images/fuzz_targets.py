"""The parsers of the images room, each with good bytes to damage and a way to give it what came of them."""

from __future__ import annotations

import bz2
import functools
import gzip
import itertools
import lzma
import random
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import zstandard

from sealift.images.content.boot_loader import read_boot_code, read_configuration
from sealift.images.content.content_proof import prove_content
from sealift.images.content.fstab import find_device, parse_fstab
from sealift.images.content.handover import take_kernel
from sealift.images.content.initramfs import read_initramfs
from sealift.images.content.kernel import check_kernel_whole, read_kernel_header, version_key
from sealift.images.content.server_settings import read_cloud_init, read_hostname, read_network, read_release
from sealift.images.file_systems.checksums import lvm_crc
from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.fat import FatFileSystem
from sealift.images.file_systems.file_system import FileSystem, Node, NodeKind, Place, Tree
from sealift.images.file_systems.lvm_text import parse_text
from sealift.images.file_systems.volumes import find_volumes
from sealift.images.file_systems.window import CachedDisk, Reading, Window
from sealift.images.file_systems.xfs import XfsFileSystem
from sealift.images.findings import Findings
from sealift.images.proof import prove_image
from sealift.images.source import ImageFormatError, ShortReadError
from sealift.images.verdict import ProofFailed, ProofLevel
from sealift.images.vhd import VhdFooter
from sealift.images.virtual_disk import open_disk
from tests.images.fuzz import Overlaid, Target
from tests.images.producers import PRODUCERS
from tests.images.servers import (
    ESP,
    LINUX,
    MIB,
    ROOT_UUID,
    VERSION,
    boot_files,
    fat16,
    gpt_disk,
    initramfs,
    kernel,
    make_ext,
    make_xfs,
    mbr_disk,
    newc,
    server_files,
    write_tree,
)
from tests.images.volume_groups import Segment, physical_volume, volume_group

MOST_WALKED: Final = 300
"""Nodes of a file system that are looked at."""


# -- image files -------------------------------------------------------------------------------------------------------


@functools.cache
def _images(*families: str) -> list[bytes]:
    disk = bytearray(mbr_disk([(0x83, random.Random(3).randbytes(MIB))], size=8 * MIB))
    disk[5 * MIB : 5 * MIB + 70_000] = random.Random(4).randbytes(70_000)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder) / "raw", Path(folder) / "image"
        raw.write_bytes(disk)
        for family, make in PRODUCERS.values():
            if family in families:
                make(raw, out)
                made.append(out.read_bytes())
    return made


def _image(source: Overlaid) -> None:
    for level in (ProofLevel.L1, ProofLevel.L2):
        with suppress(ProofFailed):
            prove_image(source, expected_capacity_bytes=None, boot_disk=True, level=level)
    disk = open_disk(source)
    disk.read(0, min(disk.size, 65536))
    disk.read(max(0, disk.size - 4096), min(disk.size, 4096))
    for start, end in itertools.islice(disk.extents(), 64):
        disk.read(start, min(end - start, 65536))


def _seal_vhd(made: Overlaid) -> None:
    for at in (0, made.size - 512):
        data = bytearray(made.look(at, 512)) if at >= 0 else bytearray()
        if len(data) == 512 and data[:8] == b"conectix":
            made.put(at, VhdFooter.unpack(bytes(data)).pack())
    header = bytearray(made.look(512, 1024))
    if header[:8] == b"cxsparse" and len(header) == 1024:
        header[36:40] = bytes(4)
        made.put(512 + 36, struct.pack(">I", ~sum(header) & 0xFFFF_FFFF))


# -- disks -------------------------------------------------------------------------------------------------------------


def _disk(source: Overlaid) -> None:
    for deep in (False, True):
        with suppress(ProofFailed):
            prove_content([source], deep=deep)
    with tempfile.TemporaryDirectory() as folder, suppress(ImageFormatError, ShortReadError):
        take_kernel([source], folder=Path(folder))


def _volumes(source: Overlaid) -> None:
    findings = Findings()
    cached = CachedDisk(source, reading=Reading(budget=64 * MIB), name="disk 0")
    _, volumes = find_volumes(findings, [cached], boot_index=0, letters=["a"])
    for volume in volumes:
        read_boot_code(volume.region.read(0, min(512, volume.region.size)).ljust(512, b"\0"))
        find_device(f"UUID={ROOT_UUID}", volumes, letters=["a"])


def _walk(open_: Callable[[Window], FileSystem]) -> Callable[[Overlaid], None]:
    """Return what opens a file system, and reads every directory, link and the ends of every file."""

    def run(source: Overlaid) -> None:
        cached = CachedDisk(source, reading=Reading(budget=256 * MIB), name="disk 0")
        file_system = open_(Window(cached, start=0, size=source.size, name="disk 0"))
        waiting, seen = [file_system.root()], 0
        while waiting and seen < MOST_WALKED:
            node = waiting.pop()
            seen += 1
            try:
                if node.kind is NodeKind.DIRECTORY:
                    keys = [key for _, key in itertools.islice(file_system.entries(node), 1000)]
                    waiting += [file_system.node(key) for key in keys]
                elif node.kind is NodeKind.LINK:
                    file_system.target(node)
                else:
                    file_system.read(node, 0, 70_000)
                    file_system.read(node, max(0, node.size - 5000), 5000)
            except (ImageFormatError, ShortReadError):
                continue
        with suppress(ProofFailed):
            prove_content([source], deep=True)

    return run


def _files() -> dict[str, bytes | str]:
    files = server_files()
    files |= {f"many/entry-{number:03}": "x" for number in range(150)}
    files["sparse"] = b"".join(bytes([number]) * 4096 + bytes(8192) for number in range(1, 9))
    files["links/short"] = "->../sparse"
    files["links/long"] = "->" + "a-long-target/" * 12 + "end"
    return files


@functools.cache
def _ext() -> list[bytes]:
    ways: list[tuple[str, str, tuple[str, ...]]] = [
        ("ext2", "", ("-b", "1024")),
        ("ext3", "", ()),
        ("ext4", "^metadata_csum,^64bit", ()),
        ("ext4", "^metadata_csum,inline_data,bigalloc", ("-b", "1024", "-C", "4096")),
        ("ext4", "^metadata_csum,^extent,^64bit", ("-b", "1024")),
        ("ext4", "", ()),
    ]
    made = []
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(Path(folder) / "tree", _files())
        for number, (kind, features, options) in enumerate(ways):
            path = Path(folder) / f"{number}.img"
            made.append(
                make_ext(path, size=8 * MIB, tree=tree, kind=kind, features=features, options=options).read_bytes()
            )
    return [*made, *(_with_journal(one) for one in (made[1], made[2]))]


def _with_journal(data: bytes) -> bytes:
    """Return a file system that was not unmounted: its journal holds a transaction with one block, the superblock's."""
    out = bytearray(data)
    at = out.index(bytes.fromhex("c03b399800000004"))
    block = struct.unpack_from(">I", out, at + 12)[0]
    start, number = 1, 1
    struct.pack_into(">II", out, at + 24, number, start)
    struct.pack_into("<I", out, 1024 + 0x60, struct.unpack_from("<I", out, 1024 + 0x60)[0] | 4)
    place = at + start * block
    struct.pack_into(">III", out, place, 0xC03B3998, 1, number)
    struct.pack_into(">II", out, place + 12, 0, 8 | 2)
    out[place + block : place + 2 * block] = out[0:block]
    struct.pack_into(">III", out, place + 2 * block, 0xC03B3998, 2, number)
    return bytes(out)


@functools.cache
def _xfs() -> list[bytes]:
    ways = (["-m", "crc=0"], ["-m", "crc=0", "-b", "size=1024", "-i", "size=256"], ["-m", "crc=1"])
    made = []
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(Path(folder) / "tree", _files())
        for number, options in enumerate(ways):
            made.append(make_xfs(Path(folder) / f"{number}.img", tree, list(options)).read_bytes())
    return made


@functools.cache
def _fat() -> list[bytes]:
    files = {"EFI/BOOT/BOOTX64.EFI": b"MZ" * 3000, "EFI/debian/grub.cfg": b"set default=0\n", "notes.txt": b"x" * 9000}
    return [fat16(files, size=5 * MIB), fat16(files, size=16 * MIB)]


def _ntfs() -> list[bytes]:
    data = bytearray(MIB)
    data[:11] = b"\xeb\x52\x90NTFS    "
    struct.pack_into("<HB", data, 11, 512, 8)
    struct.pack_into("<QQQb", data, 40, MIB // 512 - 1, 4, 100, -10)
    data[510:512] = b"\x55\xaa"
    data[-512:] = data[:512]
    data[4 * 4096 : 4 * 4096 + 4] = b"FILE"
    return [bytes(data)]


PV: Final = ("PPPPPP-aaaa-bbbb-cccc-dddd-eeee-PPPPPP", "QQQQQQ-aaaa-bbbb-cccc-dddd-eeee-QQQQQQ")


@functools.cache
def _lvm_text() -> str:
    volumes = {
        "root": [Segment(0, 4, [("pv0", 2)]), Segment(4, 4, [("pv0", 0)])],
        "thin": [Segment(0, 1, [], type="thin")],
        "far": [Segment(0, 2, [("pv1", 0)])],
    }
    return volume_group("vg-a", list(PV), volumes, hidden=("secret",), extent=512 * 1024)


@functools.cache
def _lvm() -> list[bytes]:
    data = _ext()[2]
    pieces = [data[at : at + 512 * 1024] for at in range(0, 8 * 512 * 1024, 512 * 1024)]
    return [physical_volume(_lvm_text(), uuid=PV[0], extents=pieces, text_at=at) for at in (512, 60_000)]


def _seal_lvm(made: Overlaid) -> None:
    made.put(512 + 16, struct.pack("<I", lvm_crc(made.look(512, 512)[20:])))
    header = bytearray(made.look(4096, 512).ljust(512, b"\0"))
    at, size = struct.unpack_from("<QQ", header, 40)
    if 512 <= at < 65536 and size <= 65536 - 512:
        first = made.look(4096 + at, min(size, 65536 - at))
        struct.pack_into("<I", header, 56, lvm_crc(first + made.look(4096 + 512, size - len(first))))
    made.put(4096, struct.pack("<I", lvm_crc(bytes(header[4:]))) + header[4:])


def _extended() -> bytes:
    """Return a disk with two logical partitions in an extended one."""
    disk = bytearray(mbr_disk([(0x83, random.Random(5).randbytes(MIB)), (0x05, bytes(3 * MIB))], size=8 * MIB))
    for at, next_ in ((2 * MIB, 2048), (3 * MIB, 0)):
        struct.pack_into("<B3xB3xII", disk, at + 446, 0, 0x83, 64, 1024)
        struct.pack_into("<B3xB3xII", disk, at + 462, 0, 0x05 if next_ else 0, next_, 2048 if next_ else 0)
        disk[at + 510 : at + 512] = b"\x55\xaa"
    return bytes(disk)


@functools.cache
def _tables() -> list[bytes]:
    small = random.Random(6).randbytes(MIB)
    gpt = bytes(gpt_disk([(ESP, "efi", _fat()[0]), (LINUX, "root", small)], size=10 * MIB))
    return [_extended(), gpt, mbr_disk([(0x8E, small), (0x82, small), (0x83, small)], size=6 * MIB)]


def _seal_gpt(made: Overlaid) -> None:
    for at in (512, made.size - 512):
        header = bytearray(made.look(at, 512))
        if header[:8] != b"EFI PART" or len(header) < 512:
            continue
        place, count, size = struct.unpack_from("<QII", header, 72)
        length = struct.unpack_from("<I", header, 12)[0]
        if count * size <= MIB and 92 <= length <= 512:
            struct.pack_into("<I", header, 88, zlib.crc32(made.look(place * 512, count * size)))
            header[16:20] = bytes(4)
            struct.pack_into("<I", header, 16, zlib.crc32(bytes(header[:length])))
            made.put(at, bytes(header))


@functools.cache
def _servers() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        made = [
            make_ext(
                Path(folder) / f"{number}.img",
                size=8 * MIB,
                tree=write_tree(Path(folder) / f"tree-{number}", server_files(boot=not number)),
                features="^metadata_csum",
            ).read_bytes()
            for number in range(2)
        ]
        boot = write_tree(Path(folder) / "boot", boot_files())
        apart = make_ext(Path(folder) / "boot.img", size=6 * MIB, tree=boot, features="^metadata_csum").read_bytes()
    return [mbr_disk([(0x83, made[0])], size=10 * MIB), mbr_disk([(0x83, apart), (0x83, made[1])], size=16 * MIB)]


# -- files -------------------------------------------------------------------------------------------------------------


class MemoryFiles:
    """A file system of a few files in memory.

    :param files: by path.
    """

    type = "ext4"
    name = "disk 0"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.verified: Counter[str] = Counter()
        self._entries: list[dict[str, int]] = [{}]
        self._nodes: list[bytes | int] = [0]
        for path, data in files.items():
            *folders, last = path.split("/")
            at = 0
            for folder in folders:
                if folder not in self._entries[at]:
                    self._entries[at][folder] = self._add(len(self._entries))
                    self._entries.append({})
                found = self._nodes[self._entries[at][folder]]
                assert isinstance(found, int)
                at = found
            self._entries[at][last] = self._add(data)

    def _add(self, what: bytes | int) -> int:
        self._nodes.append(what)
        return len(self._nodes) - 1

    def root(self) -> Node:
        return self.node(0)

    def node(self, key: int) -> Node:
        found = self._nodes[key]
        if isinstance(found, int):
            return Node(kind=NodeKind.DIRECTORY, size=0, key=key)
        return Node(kind=NodeKind.FILE, size=len(found), key=key)

    def entries(self, directory: Node) -> Iterator[tuple[str, int]]:
        found = self._nodes[directory.key]
        assert isinstance(found, int)
        yield from self._entries[found].items()

    def read(self, file: Node, offset: int, length: int) -> bytes:
        found = self._nodes[file.key]
        assert isinstance(found, bytes)
        return found[offset : offset + length]

    def target(self, link: Node) -> str:
        raise NotImplementedError


class OneFile(MemoryFiles):
    """A file system with one file that is read from a source."""

    def __init__(self, source: Overlaid) -> None:
        super().__init__({})
        self._source = source

    def read(self, file: Node, offset: int, length: int) -> bytes:
        return self._source.read(offset, max(0, min(length, self._source.size - offset)))


def _place(source: Overlaid) -> Place:
    node = Node(kind=NodeKind.FILE, size=source.size, key=1)
    return Place(path=f"/boot/vmlinuz-{VERSION}", file_system=OneFile(source), node=node)


def _initramfs(source: Overlaid) -> None:
    read_initramfs(_place(source), source.size)


@functools.cache
def _archives() -> list[bytes]:
    archive = newc(
        {
            "init": b"#!/bin/sh\n",
            "usr/lib/modules/6.1/virtio_blk.ko": random.Random(8).randbytes(60_000),
            "z": bytes(400_000),
        }
    )
    import lz4.block

    blocks = [archive[at : at + 2**20] for at in range(0, len(archive), 2**20)]
    packed = [lz4.block.compress(block, store_size=False) for block in blocks]
    legacy = struct.pack("<I", 0x184C2102) + b"".join(struct.pack("<I", len(one)) + one for one in packed)
    return [
        initramfs(),
        archive,
        gzip.compress(archive, mtime=0),
        bz2.compress(archive),
        lzma.compress(archive, check=lzma.CHECK_CRC32),
        lzma.compress(archive, format=lzma.FORMAT_ALONE),
        zstandard.ZstdCompressor(level=3, write_checksum=True).compress(archive),
        legacy,
    ]  # fmt: skip


def _kernel(source: Overlaid) -> None:
    place = _place(source)
    header = read_kernel_header(place)
    version_key(header.version)
    check_kernel_whole(place, header)


@functools.cache
def _kernels() -> list[bytes]:
    content = random.Random(9).randbytes(60_000) + bytes(100_000)
    payloads = (
        gzip.compress(content, mtime=0),
        lzma.compress(content, check=lzma.CHECK_CRC32),
        zstandard.ZstdCompressor().compress(content),
        bz2.compress(content),
        lzma.compress(content, format=lzma.FORMAT_ALONE),
    )
    return [kernel(), kernel(appended=random.Random(2).randbytes(3000)), *(kernel(payload=one) for one in payloads)]


TEXTS: Final[dict[str, str]] = {
    "etc/fstab": r"""# root
UUID=11111111-2222-4333-8444-555555555555 / ext4 errors=remount-ro,noatime 0 1
LABEL=swap none swap sw 0 0
/dev/mapper/vg--a-srv /srv/a\040b xfs defaults,nofail 0 2
//nas/share /mnt cifs username=u,password=p 0 0
/dev/disk/by-uuid/AA-BB /boot/efi vfat umask=0077 0 1
""",
    "boot/grub2/grub.cfg": r"""set default="${saved_entry}"
if [ x ]; then
 set a=b
fi
menuentry 'One' --id one {
 linux16 /vmlinuz-1 root=UUID=1 ro "a b"
 initrd16 /initrd-1 /more
}
submenu 'More' --id more {
 menuentry "Two" {
  linux ($root)/vmlinuz-2 root=/dev/vda1
 }
}
blscfg
""",
    "boot/grub2/grubenv": r"""# GRUB Environment Block
saved_entry=more>two
kernelopts=root=/dev/mapper/a ro
next_entry=
####
""",
    "boot/loader/entries/abc-1.conf": r"""title A (1)
version 1
linux /vmlinuz-1
initrd /initrd-1 $tuned_initrd
options $kernelopts quiet
""",
    "boot/grub/menu.lst": r"""default=1
timeout 5
title Old
 root (hd0,0)
 kernel /vmlinuz-old ro root=/dev/xvda1
 initrd /initrd-old
""",
    "boot/extlinux/extlinux.conf": r"""DEFAULT linux
LABEL linux
  KERNEL /vmlinuz
  APPEND ro root=LABEL=/ initrd=/initrd
""",
    "etc/os-release": r"""ID=debian
VERSION_ID="12"
PRETTY_NAME='Debian \"12\"'
""",
    "etc/hostname": "web01\n",
    "etc/cloud/cloud.cfg": r"""datasource_list: [ NoCloud, ConfigDrive ]
cloud_final_modules:
 - scripts-vendor
 - [a, b]
""",
    "etc/cloud/cloud.cfg.d/90.cfg": "datasource_list:\n  - None\n",
    "etc/netplan/50.yaml": "network: {version: 2}\n",
    "etc/network/interfaces": "auto eth0\niface eth0 inet static\n address 1.2.3.4\nsource interfaces.d/*\n",
    "etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nBOOTPROTO=dhcp\n",
    "lib/modules/6.1/modules.builtin": "kernel/drivers/block/virtio_blk.ko\n",
}
_BETWEEN: Final = b"\n\x00\x01file \x01\x00\n"


def _texts() -> list[bytes]:
    return [_BETWEEN.join(f"{path}\n{text}".encode() for path, text in TEXTS.items())]


def _settings(source: Overlaid) -> None:
    files = {}
    for name, part in zip(TEXTS, source.read(0, source.size).split(_BETWEEN), strict=False):
        files[name] = part.partition(b"\n")[2]
    for left_out in ((), ("boot/grub2/grub.cfg",), ("boot/grub2/grub.cfg", "boot/grub/menu.lst")):
        tree = Tree(MemoryFiles({name: data for name, data in files.items() if name not in left_out}))
        configuration = read_configuration(tree)
        if configuration and configuration.default:
            configuration.default.options("root")
    read_release(tree)
    read_hostname(tree)
    read_cloud_init(tree)
    read_network(tree)
    for line in parse_fstab(tree.text("/etc/fstab") or ""):
        find_device(line.device, [], letters=["a"])
        assert "password" not in " ".join(line.shown_options)


def _lvm_texts() -> list[bytes]:
    return [_lvm_text().encode()]


def _parse_lvm(source: Overlaid) -> None:
    parse_text(source.read(0, source.size).decode("utf-8", "backslashreplace"), where="the text")


_ALL: Final[Sequence[Target]] = (
    Target(name="vhd", seeds=lambda: _images("vhd-dynamic", "vhd-fixed"), run=_image, seal=_seal_vhd),
    Target(name="vmdk", seeds=lambda: _images("vmdk-stream", "vmdk-sparse"), run=_image),
    Target(name="qcow2", seeds=lambda: _images("qcow2", "qcow2-packed"), run=_image),
    Target(name="partitions", seeds=_tables, run=_volumes, seal=_seal_gpt),
    Target(name="ext", seeds=_ext, run=_walk(lambda window: ExtFileSystem(window, name="disk 0"))),
    Target(name="xfs", seeds=_xfs, run=_walk(lambda window: XfsFileSystem(window, name="disk 0"))),
    Target(name="fat", seeds=_fat, run=_walk(lambda window: FatFileSystem(window, name="disk 0"))),
    Target(name="ntfs", seeds=_ntfs, run=_disk),
    Target(name="lvm", seeds=_lvm, run=_disk, seal=_seal_lvm),
    Target(name="lvm-text", seeds=_lvm_texts, run=_parse_lvm),
    Target(name="server", seeds=_servers, run=_disk),
    Target(name="initramfs", seeds=_archives, run=_initramfs),
    Target(name="kernel", seeds=_kernels, run=_kernel),
    Target(name="settings", seeds=_texts, run=_settings),
)
TARGETS: Final = {target.name: target for target in _ALL}
