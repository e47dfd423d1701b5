"""Makes the disks of the sandbox's virtual servers: real partition tables, file systems, an operating system's files.

A disk is a sparse raw file that is fully determined by its :class:`DiskSpec`, so that a test can say which bytes must
come out of an export, and servers with equal specs can share one file. Needs ``mke2fs`` and ``debugfs`` of e2fsprogs;
neither root nor a mount.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal
from uuid import UUID, uuid5

from sealift.images import sparse
from sealift.images.vhd_writer import write_dynamic_vhd
from sealift.sandbox import boot_files

DiskKind = Literal["linux-root", "linux-data", "ntfs", "blank"]

SECTOR: Final = 512
PARTITION_START: Final = 1024 * 1024
"""Where the only partition begins, in bytes: 1 MiB, as installers put it."""
MIN_CAPACITY: Final = 8 * 1024 * 1024
E2FSPROGS_APT: Final = "apt-get install e2fsprogs"
XEN_CREATOR: Final = b"tap\0"
"""Creator of VHDs made by XenServer's blktap, which is what Classic virtual servers ran on."""

_LAYOUT_VERSION = 2  # raise it when the same spec begins to give other bytes: caches then build anew
_NAMESPACE = UUID("6a1f7c0e-5d0b-4a53-9a39-6f1c2be0a7d4")
_BUILT_AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
_EPOCH = int(_BUILT_AT.timestamp())
_MBR_TYPE = {"linux-root": 0x83, "linux-data": 0x83, "ntfs": 0x07}
_SBIN = ("/usr/sbin", "/sbin")
# Named one by one, because the defaults differ between releases of e2fsprogs. No journal and no backup superblocks:
# each of these would put another 2 MiB block into the VHD.
_EXT4_FEATURES = (
    "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,sparse_super2,large_file,huge_file,dir_nlink,"
    "extra_isize,metadata_csum"
)
# In the place of the machine's own /etc/mke2fs.conf: every type that mke2fs may look up, all alike.
_MKE2FS_CONFIG = "[fs_types]\n" + "".join(
    f"{name} = {{\ninode_size = 256\n}}\n" for name in ("ext4", "floppy", "small", "big", "huge")
)
_FS_BLOCK = 4096
_BLOCKS_PER_GROUP = 8 * _FS_BLOCK
_INODES_PER_TABLE_BLOCK = 16
_NTFS_CLUSTER = 4096
_NTFS_MFT_CLUSTER = 4
_NTFS_MIRROR_CLUSTER = 15
_NTFS_PAYLOAD_CLUSTER = 16


class DiskBuildError(RuntimeError):
    """A disk could not be built; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiskSpec:
    """What a disk is to hold.

    :param kind: ``linux-root`` (bootable partition, ext4, an operating system's files, what starts it),
        ``linux-data`` (ext4 with a payload only), ``ntfs`` (type 0x07, NTFS boot sector and the first file records)
        or ``blank`` (all zeros).
    :param capacity_bytes: length of the disk: a multiple of 512, at least 8 MiB.
    :param hostname: goes into /etc/hostname and /etc/hosts, and labels an NTFS volume.
    :param seed: decides the payload and all identifiers.
    :param payload_bytes: random bytes to store; none on a blank disk.
    """

    kind: DiskKind
    capacity_bytes: int
    hostname: str
    seed: int
    payload_bytes: int

    def __post_init__(self) -> None:
        if self.capacity_bytes < MIN_CAPACITY or self.capacity_bytes % SECTOR:
            raise ValueError(f"a disk has a multiple of {SECTOR} bytes from {MIN_CAPACITY} up: {self.capacity_bytes}")
        if self.payload_bytes < 0 or self.payload_bytes > self.capacity_bytes // 2:
            raise ValueError(f"a payload of {self.payload_bytes} bytes does not fit half of {self.capacity_bytes}")

    @functools.cached_property
    def key(self) -> str:
        """Return the caching key: 32 hex digits, equal exactly when the bytes of the disk are to be equal."""
        fields = {"layout": _LAYOUT_VERSION, **dataclasses.asdict(self)}
        if self.kind == "blank":
            fields |= {"hostname": "", "seed": 0, "payload_bytes": 0}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]

    def identifier(self, purpose: str) -> UUID:
        """Return the identifier of this disk for a purpose, e.g. ``file system``."""
        return uuid5(_NAMESPACE, f"{self.key} {purpose}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuiltDisk:
    """A raw disk file that was built."""

    path: Path
    capacity_bytes: int
    digest: str
    """``sparse-sha256:…`` of :func:`sealift.images.sparse.sparse_digest`: cheap, and equal to
    :meth:`sealift.images.vhd.VhdReader.digest` of every true image of the disk."""

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the whole raw file in hex. Reads and hashes all of it: about a second per GiB."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find_tool(name: str) -> str:
    """Return the path of a program of e2fsprogs; /usr/sbin is often missing from a plain user's PATH.

    :raises DiskBuildError: naming the apt line, if it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_SBIN))
    if found is None:
        raise DiskBuildError(
            f"{name} is neither in PATH nor in {' or '.join(_SBIN)}; the sandbox makes its disks with it. "
            f"Install it with: {E2FSPROGS_APT}"
        )
    return found


def build_raw(spec: DiskSpec, out: Path) -> BuiltDisk:
    """Build a disk as a sparse raw file. The same spec gives the same bytes.

    :param spec: what to build.
    :param out: the file to write; an existing one is replaced.
    :raises DiskBuildError: if e2fsprogs is missing or fails.
    """
    with out.open("wb") as file:
        file.truncate(spec.capacity_bytes)
    if spec.kind in ("linux-root", "linux-data"):
        _make_ext4(spec, out)
    with out.open("r+b") as file:
        if spec.kind == "ntfs":
            for at, data in _ntfs_pieces(spec):
                file.seek(PARTITION_START + at)
                file.write(data)
        if spec.kind != "blank":
            file.seek(0)
            file.write(_mbr(spec))
        if spec.kind == "linux-root":
            file.write(boot_files.second_stage(_kernel_extents(out)))
        file.flush()
        digest = sparse.sparse_digest(file.fileno(), spec.capacity_bytes)
    return BuiltDisk(path=out, capacity_bytes=spec.capacity_bytes, digest=digest)


def cached_vhd(spec: DiskSpec, cache: Path) -> Path:
    """Return a dynamic VHD of the disk as the platform would export it, built once per spec and cache directory.

    Safe to call from several threads and processes: the file appears whole, under its final name.

    :param spec: what the disk holds.
    :param cache: directory for ``<key>.vhd``; made if missing.
    """
    final = cache / f"{spec.key}.vhd"
    if final.exists():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{spec.key}.", dir=cache) as work:
        raw, image = Path(work, "disk.raw"), Path(work, "disk.vhd")
        build_raw(spec, raw)
        write_dynamic_vhd(
            raw=raw, out=image, uuid=spec.identifier("image"), creator_app=XEN_CREATOR, timestamp=_BUILT_AT
        )
        image.replace(final)
    return final


def _mbr(spec: DiskSpec) -> bytes:
    first = PARTITION_START // SECTOR
    count = spec.capacity_bytes // SECTOR - first
    sector = bytearray(SECTOR)
    if spec.kind == "linux-root":
        code = boot_files.boot_code()
        sector[: len(code)] = code
    sector[440:444] = spec.identifier("disk signature").bytes[:4]
    # 0xFE 0xFF 0xFF is what partitioning tools write where cylinders and heads cannot express a position.
    beyond_chs = b"\xfe\xff\xff"
    status = 0x80 if spec.kind == "linux-root" else 0
    sector[446:462] = struct.pack("<B3sB3sII", status, beyond_chs, _MBR_TYPE[spec.kind], beyond_chs, first, count)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def _kernel_extents(out: Path) -> list[tuple[int, int]]:
    """Return where the kernel lies on the disk: first sector and number of sectors of each piece."""
    sectors = _FS_BLOCK // SECTOR
    answer = _run(
        [find_tool("debugfs"), "-R", f"blocks /{boot_files.KERNEL}", f"{out}?offset={PARTITION_START}"],
        environment={"PATH": os.defpath, "LC_ALL": "C"},
    )
    extents: list[tuple[int, int]] = []
    for block in (int(word) for word in answer.split()):
        first = PARTITION_START // SECTOR + block * sectors
        if extents and sum(extents[-1]) == first:
            extents[-1] = (extents[-1][0], extents[-1][1] + sectors)
        else:
            extents.append((first, sectors))
    return extents


def _linux_files(spec: DiskSpec) -> dict[str, str]:
    host = spec.hostname
    if spec.kind == "linux-data":
        return {"README": f"Data disk of {host}\n"}
    root = spec.identifier("file system")
    return {
        "etc/os-release": (
            'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
            'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
            'HOME_URL="https://www.debian.org/"\n'
        ),
        "etc/debian_version": "12.7\n",
        "etc/fstab": f"# <file system> <mount point> <type> <options> <dump> <pass>\nUUID={root} / ext4 defaults 0 1\n",
        "etc/hostname": f"{host}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {host}\n",
        "etc/machine-id": f"{spec.identifier('machine').hex}\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "var/log/boot.log": f"{host} booted\n",
        **boot_files.settings_files(root=root),
    }


def _payload(spec: DiskSpec) -> bytes:
    return random.Random(f"{spec.key} payload").randbytes(spec.payload_bytes)  # noqa: S311 - test data, not a secret


def _write_tree(spec: DiskSpec, tree: Path) -> None:
    if spec.kind == "linux-root":
        for name in ("boot", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/log"):
            (tree / name).mkdir(parents=True)
        (tree / "bin").symlink_to("usr/bin")
        (tree / "lib").symlink_to("usr/lib")
        (tree / boot_files.KERNEL).write_bytes(boot_files.kernel(spec.hostname, seed=spec.key))
        (tree / boot_files.INITRAMFS).write_bytes(boot_files.initramfs(seed=spec.key))
    for name, text in _linux_files(spec).items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    payload = tree / ("root/payload.bin" if spec.kind == "linux-root" else "payload.bin")
    payload.write_bytes(_payload(spec))
    for path in _paths(tree):
        os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def _paths(tree: Path) -> Iterator[Path]:
    yield from sorted(tree.rglob("*"))
    yield tree


def _make_ext4(spec: DiskSpec, out: Path) -> None:
    blocks = (spec.capacity_bytes - PARTITION_START) // _FS_BLOCK
    groups = -(-blocks // _BLOCKS_PER_GROUP)
    environment = {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "E2FSPROGS_FAKE_TIME": str(_EPOCH),
        "SOURCE_DATE_EPOCH": str(_EPOCH),
    }
    extended = (
        f"offset={PARTITION_START},root_owner=0:0,lazy_itable_init=1,packed_meta_blocks=1,num_backup_sb=0,nodiscard,"
        f"hash_seed={spec.identifier('directory hash')}"
    )
    with tempfile.TemporaryDirectory(prefix="sealift-disk-") as work:
        tree = Path(work, "tree")
        tree.mkdir()
        _write_tree(spec, tree)
        config = Path(work, "mke2fs.conf")
        config.write_text(_MKE2FS_CONFIG, encoding="ascii")
        environment["MKE2FS_CONFIG"] = str(config)
        options = {
            "-t": "ext4",
            "-b": str(_FS_BLOCK),
            "-I": "256",
            "-m": "0",
            "-L": "rootfs" if spec.kind == "linux-root" else "data",
            "-U": str(spec.identifier("file system")),
            "-O": _EXT4_FEATURES,
            "-G": "4096",  # one flexible group: with packed_meta_blocks all metadata lies at the start
            "-N": str(max(groups, 8) * _INODES_PER_TABLE_BLOCK),
            "-E": extended,
            "-d": str(tree),
        }
        _run(
            [
                find_tool("mke2fs"),
                "-q",
                "-F",
                *(word for pair in options.items() for word in pair),
                str(out),
                str(blocks),
            ],
            environment=environment,
        )
        # mke2fs copies owner and change time of the files it is given, which nobody but root and nobody at all can set.
        script = Path(work, "owner-and-time")
        script.write_text("".join(_fixes(tree)), encoding="ascii")
        _run(
            [find_tool("debugfs"), "-w", "-f", str(script), f"{out}?offset={PARTITION_START}"], environment=environment
        )


def _fixes(tree: Path) -> Iterator[str]:
    for path in _paths(tree):
        inside = f"/{path.relative_to(tree)}" if path != tree else "/"
        for field, value in (("uid", "0"), ("gid", "0"), ("ctime", f"@{_EPOCH}"), ("ctime_extra", "0")):
            yield f"set_inode_field {inside} {field} {value}\n"
        yield f"set_inode_field {inside} atime_extra 0\nset_inode_field {inside} mtime_extra 0\n"


def _run(command: list[str], *, environment: dict[str, str]) -> str:
    """Run a program, and return what it wrote."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # debugfs leaves with 0 also when a command of its script failed; it then says so on standard error.
    complaints = [line for line in done.stderr.splitlines() if line and not line.startswith("debugfs ")]
    if done.returncode or complaints:
        raise DiskBuildError(
            f"{Path(command[0]).name} could not make the disk (exit status {done.returncode}): "
            + ("; ".join(complaints) or done.stdout.strip() or "it gave no reason")
        )
    return done.stdout


def _ntfs_pieces(spec: DiskSpec) -> Iterator[tuple[int, bytes]]:
    """Yield (offset in the partition, bytes) of an NTFS volume: boot sector, first file records, copies, a payload."""
    sectors = (spec.capacity_bytes - PARTITION_START) // SECTOR
    boot = bytearray(SECTOR)
    boot[0:11] = b"\xeb\x52\x90NTFS    "
    struct.pack_into("<HB", boot, 11, SECTOR, _NTFS_CLUSTER // SECTOR)
    boot[21] = 0xF8  # media: fixed disk
    struct.pack_into("<HHI", boot, 24, 63, 255, PARTITION_START // SECTOR)
    struct.pack_into("<I", boot, 36, 0x0080_0080)
    # The last sector of the partition is for the boot sector's copy and does not count.
    struct.pack_into("<QQQ", boot, 40, sectors - 1, _NTFS_MFT_CLUSTER, _NTFS_MIRROR_CLUSTER)
    struct.pack_into("<bxxxbxxx", boot, 64, -10, 1)  # file records of 2**10 bytes, index records of one cluster
    boot[72:80] = spec.identifier("volume").bytes[:8]
    boot[510:512] = b"\x55\xaa"
    yield 0, bytes(boot)
    yield (sectors - 1) * SECTOR, bytes(boot)
    label = spec.hostname[:32].encode("utf-16-le")
    for number in range(4):  # $MFT, $MFTMirr, $LogFile, $Volume
        attribute = b""
        if number == 3:
            length = -(-(24 + len(label)) // 8) * 8
            attribute = struct.pack("<IIBBHHHIHH", 0x60, length, 0, 0, 24, 0, 0, len(label), 24, 0) + label
            attribute = attribute.ljust(length, b"\0")
        for first in (_NTFS_MFT_CLUSTER, _NTFS_MIRROR_CLUSTER):
            yield first * _NTFS_CLUSTER + number * 1024, _file_record(number, attribute)
    yield _NTFS_PAYLOAD_CLUSTER * _NTFS_CLUSTER, _payload(spec)


def _file_record(number: int, attribute: bytes) -> bytes:
    record = bytearray(1024)
    used = 56 + len(attribute) + 8
    struct.pack_into("<4sHHQHHHHIIQHHI", record, 0, b"FILE", 48, 3, 0, 1, 1, 56, 1, used, 1024, 0, 1, 0, number)
    record[56 : 56 + len(attribute)] = attribute
    struct.pack_into("<I", record, 56 + len(attribute), 0xFFFF_FFFF)
    # Update sequence: the last two bytes of each sector are kept at 50 and 52 and replaced by the number kept at 48.
    record[48:50] = b"\x01\x00"
    for sector in range(2):
        end = (sector + 1) * SECTOR
        record[50 + 2 * sector : 52 + 2 * sector] = record[end - 2 : end]
        record[end - 2 : end] = b"\x01\x00"
    return bytes(record)
