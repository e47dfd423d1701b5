"""Makes servers' disks for the tests: file systems by mke2fs, kernels, initramfs archives, partition tables, LVM."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

MIB = 2**20
VERSION = "6.1.0-18-amd64"
ROOT_UUID = UUID("11111111-2222-4333-8444-555555555555")
BOOT_UUID = UUID("22222222-2222-4333-8444-555555555555")
DATA_UUID = UUID("33333333-2222-4333-8444-555555555555")
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
STARTS_AT = MIB
# In the place of the machine's own mke2fs.conf, so that the same file systems are made everywhere.
MKE2FS_CONF = """[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
blocksize = 4096
inode_size = 256
inode_ratio = 16384
[fs_types]
ext3 = {
features = has_journal
}
ext4 = {
features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
small = {
inode_ratio = 8192
}
floppy = {
inode_ratio = 8192
}
"""


def tool(name: str) -> str:
    """Return the path of a program that the tests cannot do without."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{name} is missing; install it with: apt-get install e2fsprogs")
    return found


def run(*command: str | Path, text: str | None = None, **environment: str) -> str:
    environment = {**os.environ, "LC_ALL": "C", **environment}
    done = subprocess.run(
        [str(word) for word in command], input=text, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def make_ext(
    path: Path,
    *,
    size: int = 16 * MIB,
    tree: Path | None = None,
    kind: str = "ext4",
    features: str = "",
    options: tuple[str, ...] = (),
    uuid: UUID = ROOT_UUID,
    label: str = "root",
) -> Path:
    """Make an ext file system in a file of its own."""
    with path.open("wb") as file:
        file.truncate(size)
    command = [tool("mke2fs"), "-q", "-F", "-t", kind, "-U", str(uuid), "-L", label, *options]
    if features:
        command += ["-O", features]
    if tree:
        command += ["-d", str(tree)]
    config = path.with_name("mke2fs.conf")
    config.write_text(MKE2FS_CONF)
    run(*command, str(path), f"{size // 1024}k", MKE2FS_CONFIG=str(config))
    return path


def program(name: str) -> str:
    """Return the path of a program of xfsprogs, without which a test is left out."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install xfsprogs)")
    return found


def prototype(tree: Path, folder: Path | None = None) -> list[str]:
    """Return the lines by which mkfs.xfs fills a file system."""
    lines = []
    for path in sorted((folder or tree).iterdir()):
        if path.is_symlink():
            lines.append(f"{path.name} l--777 0 0 {os.readlink(path)}")
        elif path.is_dir():
            lines += [f"{path.name} d--755 0 0", *prototype(tree, path), "$"]
        else:
            lines.append(f"{path.name} ---644 0 0 {path}")
    return lines


def make_xfs(path: Path, tree: Path, options: list[str], *, size: int = 40 * MIB) -> Path:
    """Make an XFS file system in a file of its own."""
    make = program("mkfs.xfs")
    proto = path.with_suffix(".proto")
    proto.write_text("\n".join(["/nothing", "0 0", "d--755 0 0", *prototype(tree), "$", "$"]) + "\n")
    with path.open("wb") as file:
        file.truncate(size)
    command = [make, "-q", "-f", "-K", "-L", "xroot", "-p", str(proto), *options, str(path)]
    # Its smallest size is 300 MB, unless these say that it is for tests (mkfs.xfs(8), --unsupported).
    done = subprocess.run([command[0], "--unsupported", *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


def debugfs(path: Path, request: str, *, write: bool = False) -> str:
    return run(tool("debugfs"), *(["-w"] if write else []), "-R", request, path)


def newc(files: dict[str, bytes], *, folders: Sequence[str] = ()) -> bytes:
    """Return a cpio archive in the new ASCII format, of programs where it has folders."""
    out = bytearray()
    everything = [*((name, b"") for name in folders), *files.items(), ("TRAILER!!!", b"")]
    for number, (name, data) in enumerate(everything, 1):
        mode = 0o40755 if name in folders else 0o100755 if folders else 0o100644
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4)
        out += data
        out += bytes(-len(out) % 4)
    return bytes(out) + bytes(-len(out) % 512)


MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "xen-blkfront")


def initramfs(modules: tuple[str, ...] = MODULES, *, microcode: bool = True) -> bytes:
    """Return an initramfs as Debian makes it: plain microcode, then the rest compressed."""
    files = {
        f"usr/lib/modules/{VERSION}/kernel/drivers/{name}.ko": random.Random(name).randbytes(20_000) for name in modules
    }
    packed = gzip.compress(newc({"init": b"#!/bin/sh\n", **files}), mtime=0)
    early = newc({"kernel/x86/microcode/GenuineIntel.bin": bytes(range(256)) * 40}) if microcode else b""
    return early + packed


_SAYS = bytes.fromhex(
    "fc baf803"  # cld; mov dx, 0x3f8
    "66a12802 66c1e804 8ec0 31f6"  # mov eax, [0x228]; shr eax, 4; mov es, ax; xor si, si: the command line
    "268a04 46 84c0 7403 ee ebf5"  # until a zero: mov al, es:[si]; inc si; out dx, al
    "66833e1c0200 7403 b02b ee"  # if [0x21c], the size of the initramfs: '+'
    "bea002 ac 84c0 7403 ee ebf8 f4 ebfd"  # mov si, what follows; until a zero: lodsb; out dx, al. hlt
)


def kernel(
    version: str = VERSION,
    *,
    payload: bytes | None = None,
    appended: bytes = b"",
    sealed: bool = True,
    says: str = "",
) -> bytes:
    """Return what has the outside of a Linux kernel for x86.

    :param payload: the compressed kernel; by default random bytes in gzip.
    :param sealed: end with the checksum that the kernel's build adds.
    :param says: a machine that starts it writes its command line to the serial port, ``+`` if there is an initramfs,
        and then this; a processor does it in real mode, where a kernel's first part runs.
    :param appended: comes after what the header counts, as a signature does.
    """
    if payload is None:
        payload = gzip.compress(random.Random(version).randbytes(150_000), mtime=0)
    start = 4 * 512
    body = bytes(256) + payload
    body += bytes(-(len(body) + 4) % 16 + 4)
    head = bytearray(start)
    head[0x1F1] = 3
    struct.pack_into("<I", head, 0x1F4, len(body) // 16)
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<H", head, 0x20E, 0x400)
    head[0x600 : 0x600 + 100] = f"{version} (somebody@somewhere) #1 SMP".encode().ljust(100, b"\0")
    struct.pack_into("<II", head, 0x248, 256, len(payload))
    if says:
        head[0x200:0x202] = b"\xeb\x6a"  # to 0x26c
        head[0x211] = 1  # to be loaded high
        struct.pack_into("<I", head, 0x22C, 0x7FFF_FFFF)
        program = _SAYS + says.encode() + b"\0"
        head[0x26C : 0x26C + len(program)] = program
    whole = bytes(head) + body
    if sealed:
        whole = whole[:-4] + struct.pack("<I", zlib.crc32(whole[:-4]) ^ 0xFFFF_FFFF)
    return whole + appended


GRUB = """
set default="0"
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {{
\tsearch --no-floppy --fs-uuid --set=root {boot}
\tlinux\t{prefix}/vmlinuz-{version} root=UUID={root} ro quiet console=ttyS0
\tinitrd\t{prefix}/initrd.img-{version}
}}
submenu 'Advanced options' {{
\tmenuentry 'Debian, with Linux 5.10' {{
\t\tlinux\t{prefix}/vmlinuz-5.10 root=UUID={root} ro
\t}}
}}
"""


def server_files(*, boot: bool = True, prefix: str = "/boot", fstab: str | None = None) -> dict[str, bytes | str]:
    """Return the files of a small server, by path; text that begins with ``->`` is a symbolic link."""
    root = f"UUID={ROOT_UUID}"
    files: dict[str, bytes | str] = {
        "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "etc/os-release": "->../usr/lib/os-release",
        "etc/hostname": "web01\n",
        "etc/fstab": f"# a comment\n{root} / ext4 errors=remount-ro 0 1\n" if fstab is None else fstab,
        "etc/shadow": "root:secret-that-nobody-may-read:19000::::::\n",
        "etc/cloud/cloud.cfg": "datasource_list: [ NoCloud, ConfigDrive ]\ncloud_final_modules:\n - scripts-vendor\n",
        "etc/netplan/50-cloud-init.yaml": "network: {version: 2}\n",
        "usr/bin/cloud-init": "#!/usr/bin/python3\n",
        "usr/lib/python3/dist-packages/cloud_init-22.4.2.egg-info/PKG-INFO": "",
        f"usr/lib/modules/{VERSION}/modules.builtin": "kernel/drivers/char/hw_random/rng-core.ko\n",
        f"usr/lib/modules/{VERSION}/modules.dep": "".join(
            f"kernel/drivers/{name}.ko: \n" for name in (*MODULES, "nvme", "ena", "virtio_scsi", "xen-netfront")
        ),
        "lib": "->usr/lib",
    }
    return files | (boot_files("boot/", prefix=prefix) if boot else {"boot/.keep": ""})


def boot_files(folder: str = "", *, prefix: str = "") -> dict[str, bytes | str]:
    return {
        f"{folder}vmlinuz-{VERSION}": kernel(),
        f"{folder}initrd.img-{VERSION}": initramfs(),
        f"{folder}config-{VERSION}": "CONFIG_HYPERV_STORAGE=y\nCONFIG_VIRTIO_BLK=m\n",
        f"{folder}grub/grub.cfg": GRUB.format(boot=BOOT_UUID, root=ROOT_UUID, version=VERSION, prefix=prefix),
    }


def write_tree(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def grub_code(next_sector: int = 1) -> bytes:
    """Return what looks like the boot code of GRUB 2."""
    code = bytearray(b"\xeb\x63\x90".ljust(440, b"\x90"))
    struct.pack_into("<HQ", code, 0x5A, 0x8000, next_sector)
    code[0x180:0x188] = b"GRUB \0Ge"
    return bytes(code)


def mbr_disk(partitions: list[tuple[int, bytes]], *, size: int, code: bytes | None = None) -> bytes:
    """Return a disk with an MBR, and GRUB's second stage after it.

    :param partitions: (type, content) of each; they lie one after the other from 1 MiB on.
    """
    out = bytearray(size)
    code = grub_code() if code is None else code
    out[: len(code)] = code
    if code:
        out[512:1024] = b"\x52\x56\xbe\x1b\x81loading, the second stage".ljust(512, b"\x90")
    struct.pack_into("<I", out, 440, 0xCAFE_0001)
    at = STARTS_AT
    for number, (kind, content) in enumerate(partitions):
        struct.pack_into(
            "<B3xB3xII", out, 446 + number * 16, 0x80 if not number else 0, kind, at // 512, len(content) // 512
        )
        out[at : at + len(content)] = content
        at += len(content)
    out[510:512] = b"\x55\xaa"
    return bytes(out)


def gpt_disk(partitions: list[tuple[str, str, bytes]], *, size: int, code: bytes = b"") -> bytearray:
    """Return a disk with a GPT and its copy.

    :param partitions: (type, name, content) of each; they lie one after the other from 1 MiB on.
    """
    out = bytearray(size)
    out[: len(code)] = code
    struct.pack_into("<B3xB3xII", out, 446, 0, 0xEE, 1, min(size // 512 - 1, 2**32 - 1))
    out[510:512] = b"\x55\xaa"
    entries = bytearray(128 * 128)
    at = STARTS_AT
    for number, (kind, name, content) in enumerate(partitions):
        struct.pack_into(
            "<16s16sQQQ72s", entries, number * 128, UUID(kind).bytes_le, UUID(int=number + 1).bytes_le, at // 512,
            (at + len(content)) // 512 - 1, 0, name.encode("utf-16-le"),
        )  # fmt: skip
        out[at : at + len(content)] = content
        at += len(content)
    last = size // 512 - 1
    for own, other, place in ((1, last, 2), (last, 1, last - 32)):
        header = struct.pack(
            "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, own, other, 34, last - 33, bytes(16), place, 128, 128,
            zlib.crc32(entries),
        )  # fmt: skip
        header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
        out[own * 512 : own * 512 + len(header)] = header
        out[place * 512 : place * 512 + len(entries)] = entries
    return out


def fat16(files: dict[str, bytes], *, size: int = 16 * MIB) -> bytes:
    """Return a FAT16 file system with short names only, in directories of one cluster each."""
    sector, cluster = 512, 2048
    reserved, root_entries = 1, 512
    sectors = size // sector
    table_sectors = -(-(sectors // 4 + 2) * 2 // sector)
    data_start = reserved + 2 * table_sectors + root_entries * 32 // sector
    out = bytearray(size)
    struct.pack_into(
        "<3s8sHBHBHHBHHHII", out, 0, b"\xeb\x3c\x90", b"mkfs.fat", sector, 4, reserved, 2, root_entries, 0, 0xF8,
        table_sectors, 32, 2, 0, sectors,
    )  # fmt: skip
    struct.pack_into("<BBBI11s8s", out, 36, 0x80, 0, 0x29, 0x1234ABCD, b"EFI        ", b"FAT16   ")
    out[510:512] = b"\x55\xaa"
    table = [0xFFF8, 0xFFFF]
    used: dict[str, tuple[int, int]] = {}  # directory -> (place of the next entry, its end)
    used[""] = ((data_start * sector) - root_entries * 32, data_start * sector)

    def take(data: bytes) -> int:
        first = len(table)
        count = max(1, -(-len(data) // cluster))
        table.extend([*range(first + 1, first + count), 0xFFFF])
        at = data_start * sector + (first - 2) * cluster
        out[at : at + len(data)] = data
        return first

    def entry(folder: str, name: str, attributes: int, first: int, length: int) -> None:
        at, end = used[folder]
        assert at + 32 <= end
        base, _, extension = (name, "", "") if name.startswith(".") else name.partition(".")
        short = f"{base.upper():8.8}{extension.upper():3.3}".encode()
        struct.pack_into("<11sB14xHI", out, at, short, attributes, first, length)
        used[folder] = (at + 32, end)

    firsts: dict[str, int] = {}
    entry("", "EFI", 0x08, 0, 0)
    for path, data in files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in used:
                first = take(b"")
                entry("/".join(parts[: depth - 1]), parts[depth - 1], 0x10, first, 0)
                at = data_start * sector + (first - 2) * cluster
                used[folder] = (at, at + cluster)
                above = "/".join(parts[: depth - 1])
                entry(folder, ".", 0x10, first, 0)
                entry(folder, "..", 0x10, firsts.get(above, 0), 0)
                firsts[folder] = first
        entry("/".join(parts[:-1]), parts[-1], 0x20, take(data) if data else 0, len(data))
    packed = struct.pack(f"<{len(table)}H", *table)
    for number in range(2):
        at = (reserved + number * table_sectors) * sector
        out[at : at + len(packed)] = packed
    return bytes(out)


def made_once(factory: pytest.TempPathFactory, name: str) -> Path:
    return factory.mktemp(name)


def checks_by_id(checks: list[Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for check in checks:
        found.setdefault(check.id, []).append(check.detail)
    return found


class Patched:
    """Bytes of which some are others, and which counts its reads."""

    def __init__(self, data: bytes, changed: dict[int, int]) -> None:
        self._data = data
        self._changed = changed
        self.size = len(data)
        self.reads = 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= self.size
        self.reads += 1
        out = self._data[offset : offset + length]
        if not any(offset <= at < offset + length for at in self._changed):
            return out
        patched = bytearray(out)
        for at, value in self._changed.items():
            if offset <= at < offset + length:
                patched[at - offset] = value
        return bytes(patched)
