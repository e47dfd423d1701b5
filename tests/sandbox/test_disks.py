"""The sandbox's disks are real, small, quick to build, and the same each time."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest

from sealift.images.partitions import PROBE_LENGTH, read_partition_table
from sealift.images.proof import prove_vhd
from sealift.images.source import FileSource
from sealift.images.sparse import sparse_digest
from sealift.images.vhd import VhdReader
from sealift.images.vhd_writer import write_dynamic_vhd
from sealift.sandbox import disks
from sealift.sandbox.disks import DiskBuildError, DiskSpec, build_raw, cached_vhd, find_tool

MIB = 1024 * 1024
GIB = 1024**3
ROOT = DiskSpec(kind="linux-root", capacity_bytes=64 * MIB, hostname="web01", seed=1, payload_bytes=MIB)


def spec(**changes: object) -> DiskSpec:
    return dataclasses.replace(ROOT, **changes)


def debugfs(disk: Path, request: str) -> str:
    """Return what debugfs says about the file system in the first partition."""
    command = [find_tool("debugfs"), "-R", request, f"{disk}?offset={disks.PARTITION_START}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def extract_partition(disk: Path, out: Path) -> Path:
    """Copy the partition into a file of its own, holes as holes."""
    size = disk.stat().st_size - disks.PARTITION_START
    with disk.open("rb") as source, out.open("wb") as target:
        target.truncate(size)
        at = disks.PARTITION_START
        end = disk.stat().st_size
        while at < end:
            try:
                start = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(source.fileno(), start, os.SEEK_HOLE)
            target.seek(start - disks.PARTITION_START)
            target.write(os.pread(source.fileno(), at - start, start))
    return out


@pytest.mark.parametrize("kind", ["linux-root", "linux-data"])
@pytest.mark.parametrize("capacity", [16 * MIB, 64 * MIB, 25 * GIB, 100 * 10**9])
def test_file_systems_are_clean(tmp_path: Path, kind: disks.DiskKind, capacity: int) -> None:
    built = build_raw(spec(kind=kind, capacity_bytes=capacity), tmp_path / "disk.raw")
    assert built.path.stat().st_size == capacity
    partition = extract_partition(built.path, tmp_path / "partition")
    check = subprocess.run([find_tool("e2fsck"), "-fn", partition], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def test_root_disk_of_25_gib_is_quick_and_small(tmp_path: Path) -> None:
    big = spec(capacity_bytes=25 * GIB, payload_bytes=2 * MIB)
    started = time.monotonic()
    built = build_raw(big, tmp_path / "disk.raw")
    info = write_dynamic_vhd(
        raw=built.path, out=tmp_path / "disk.vhd", uuid=big.identifier("image"), timestamp=disks._BUILT_AT
    )
    assert time.monotonic() - started < 1
    assert info.size < 8 * MIB
    with FileSource(info.path) as source:
        proof = prove_vhd(source, expected_capacity_bytes=25 * GIB, boot_disk=True)
        assert VhdReader(source).digest() == built.digest
    assert [(part["type_name"], part["bootable"]) for part in proof.partitions] == [("Linux", True)]


def test_root_disk_holds_an_operating_systems_files(tmp_path: Path) -> None:
    disk = build_raw(ROOT, tmp_path / "disk.raw").path
    assert debugfs(disk, "cat /etc/hostname") == "web01\n"
    assert "ID=debian\n" in debugfs(disk, "cat /etc/os-release")
    assert f"UUID={ROOT.identifier('file system')} / ext4" in debugfs(disk, "cat /etc/fstab")
    assert len(debugfs(disk, "cat /etc/machine-id").strip()) == 32
    assert str(ROOT.identifier("file system")) in debugfs(disk, "stats")
    debugfs(disk, f"dump /root/payload.bin {tmp_path / 'payload'}")
    assert (tmp_path / "payload").read_bytes() == disks._payload(ROOT)
    assert (tmp_path / "payload").stat().st_size == MIB


def test_files_belong_to_root_and_to_no_moment_of_the_build(tmp_path: Path) -> None:
    disk = build_raw(ROOT, tmp_path / "disk.raw").path
    for path in ("/", "/etc", "/etc/fstab", "/root/payload.bin", "/bin"):
        said = debugfs(disk, f"stat {path}")
        assert "User:     0   Group:     0" in said
        for field in ("ctime", "atime", "mtime", "crtime"):
            assert f"{field}: 0x6553f100:00000000" in said, said


@pytest.mark.parametrize("kind", ["linux-root", "linux-data", "ntfs", "blank"])
def test_same_spec_same_bytes(tmp_path: Path, kind: disks.DiskKind) -> None:
    one = build_raw(spec(kind=kind), tmp_path / "one.raw")
    while int(time.time()) <= int(one.path.stat().st_mtime):
        time.sleep(0.05)  # until the clock shows another second: a time that leaked into the disk would differ
    (tmp_path / "elsewhere").mkdir()
    other = build_raw(spec(kind=kind), tmp_path / "elsewhere" / "other.raw")
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.digest == other.digest
    assert one.sha256 == hashlib.sha256(other.path.read_bytes()).hexdigest()
    with one.path.open("rb") as file:
        assert one.digest == sparse_digest(file.fileno(), one.capacity_bytes)


def test_every_field_of_the_spec_changes_disk_and_key(tmp_path: Path) -> None:
    specs = [
        ROOT,
        spec(seed=2),
        spec(hostname="web02"),
        spec(payload_bytes=MIB + 1),
        spec(capacity_bytes=65 * MIB),
        spec(kind="linux-data"),
        spec(kind="ntfs"),
        spec(kind="blank"),
    ]
    assert len({each.key for each in specs}) == len(specs)
    assert len({build_raw(each, tmp_path / "disk.raw").digest for each in specs}) == len(specs)
    assert spec(kind="blank", seed=2, hostname="web02").key == spec(kind="blank").key
    assert spec().key == ROOT.key


def test_ntfs_disk(tmp_path: Path) -> None:
    disk = build_raw(spec(kind="ntfs"), tmp_path / "disk.raw").path
    data = disk.read_bytes()
    table = read_partition_table(data[:PROBE_LENGTH], disk_size=len(data))
    assert [(part.type, part.start, part.size, part.bootable) for part in table.partitions] == [
        ("0x07", MIB, 63 * MIB, False)
    ]
    boot = data[MIB : MIB + 512]
    sector, cluster, hidden, total = struct.unpack_from("<HB14xI8xQ", boot, 11)
    assert (boot[3:11], boot[510:], sector, cluster, hidden) == (b"NTFS    ", b"\x55\xaa", 512, 8, 2048)
    assert total == 63 * MIB // 512 - 1
    assert disks._payload(spec(kind="ntfs")) in data


@pytest.mark.parametrize(("kind", "type_"), [("linux-root", "ext4"), ("linux-data", "ext4"), ("ntfs", "ntfs")])
def test_blkid_knows_the_file_system(tmp_path: Path, kind: disks.DiskKind, type_: str) -> None:
    disk = build_raw(spec(kind=kind), tmp_path / "disk.raw").path
    command = [find_tool("blkid"), "-p", "-O", str(disks.PARTITION_START), "-s", "TYPE", "-o", "value", str(disk)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == type_


def test_blank_disk_is_all_hole(tmp_path: Path) -> None:
    disk = build_raw(spec(kind="blank", capacity_bytes=25 * GIB), tmp_path / "disk.raw").path
    assert (disk.stat().st_size, disk.stat().st_blocks) == (25 * GIB, 0)


def test_cached_vhd_is_built_once_and_whole(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: cached_vhd(ROOT, cache), range(8)))
    assert paths == {cache / f"{ROOT.key}.vhd"}
    assert [path.name for path in cache.iterdir()] == [f"{ROOT.key}.vhd"], "work files are left behind"
    (path,) = paths
    built_at = path.stat().st_mtime_ns
    assert cached_vhd(spec(), cache).stat().st_mtime_ns == built_at
    with FileSource(path) as source:
        assert prove_vhd(source, expected_capacity_bytes=64 * MIB, boot_disk=True).creator == r"tap\x00"
        assert VhdReader(source).digest() == build_raw(ROOT, tmp_path / "disk.raw").digest
    again = cached_vhd(ROOT, tmp_path / "other cache")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity_bytes": 64 * MIB + 1}, "multiple of 512"),
        ({"capacity_bytes": MIB}, "from 8388608 up"),
        ({"payload_bytes": 60 * MIB}, "does not fit"),
        ({"payload_bytes": -1}, "does not fit"),
    ],
)
def test_impossible_disks_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**changes)


def test_missing_e2fsprogs_names_the_apt_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(disks, "_SBIN", (str(tmp_path),))
    with pytest.raises(DiskBuildError, match="apt-get install e2fsprogs"):
        build_raw(ROOT, tmp_path / "disk.raw")
    assert build_raw(spec(kind="ntfs"), tmp_path / "disk.raw").capacity_bytes == 64 * MIB


def test_tools_are_found_in_sbin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert Path(find_tool("mke2fs")).is_file()


def test_failures_of_the_tools_are_told(tmp_path: Path) -> None:
    fail = tmp_path / "fail"
    fail.write_text("#!/bin/sh\necho 'no room' >&2\nexit 0\n")
    fail.chmod(0o755)
    with pytest.raises(DiskBuildError, match=r"fail could not make the disk \(exit status 0\): no room"):
        disks._run([str(fail)], environment={})
