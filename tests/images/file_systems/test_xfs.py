"""XFS as mkfs.xfs makes it: read as xfs_db reads it, and damage is found and named."""

from __future__ import annotations

import hashlib
import random
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.images.content.content_proof import prove_content
from sealift.images.file_systems.checksums import xfs_crc
from sealift.images.file_systems.file_system import NodeKind, Tree
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.file_systems.xfs import XfsFileSystem
from sealift.images.file_systems.xfs_checks import check_xfs
from sealift.images.file_systems.xfs_structures import BTREE, EXTENTS, LOCAL, XfsFormatError
from sealift.images.findings import Findings
from sealift.images.source import BytesSource, ImageFormatError, ShortReadError
from sealift.images.verdict import ProofFailed
from tests.images.servers import MIB, ROOT_UUID, Patched, make_xfs, mbr_disk, program, server_files, write_tree

SIZE = 40 * MIB
WAYS = {
    "version 5": ["-m", "crc=1"],
    "version 5 of 1 KiB blocks": ["-m", "crc=1", "-b", "size=1024"],
    "version 5 with wide directories": ["-m", "crc=1", "-n", "size=16384"],
    "version 5 with many features": ["-m", "crc=1,rmapbt=1,reflink=1,bigtime=1,inobtcount=1", "-i", "nrext64=1"],
    "version 4": ["-m", "crc=0"],
    "version 4 of 1 KiB blocks": ["-m", "crc=0", "-b", "size=1024", "-i", "size=256"],
    "version 4 with types": ["-m", "crc=0", "-n", "ftype=1"],
    "large sectors": ["-m", "crc=1", "-s", "size=4096"],
}
LONG = "a-target-that-is-too-long-for-the-inode-" * 20


def content() -> dict[str, bytes | str]:
    chance = random.Random(20261128)
    files: dict[str, bytes | str] = {
        "small": "a few bytes\n",
        "empty": "",
        "large": chance.randbytes(700_000),
        "short-link": "->small",
        "long-link": f"->{LONG}",
        "up/and/down/file": "found\n",
        "up/absolute": "->/up/and/../and/down/file",
    }
    for number in range(30):
        files[f"some/file-{number}"] = str(number)
    for number in range(900):
        files[f"many/file-with-a-rather-long-name-{number:04}"] = ""
    return files


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("xfs")
    tree = write_tree(folder / "tree", content())
    found = {}
    for number, (way, options) in enumerate(WAYS.items()):
        found[way] = make_xfs(folder / f"{number}.img", tree, options)
        if way.startswith("version 5") or way == "large sectors":
            add_link_header(found[way])
    return found


def add_link_header(path: Path) -> None:
    """Put the header before a long link's target that mkfs.xfs before 6.10 forgets in file systems of version 5."""
    data = bytearray(path.read_bytes())
    file_system = opened(data)
    place = Tree(file_system).find("/long-link", follow=False)
    assert place is not None
    inode = file_system.inode(place.node.key)
    extent = file_system.extents(inode)[0]
    assert extent.place is not None
    size = file_system.superblock.block
    if data[extent.place : extent.place + 4] == b"XSLM":
        return
    header = struct.pack(
        ">4sIII16sQQQ", b"XSLM", 0, len(LONG), 0, file_system.superblock.uuid, inode.number, extent.place // 512, 0
    )
    block = bytearray((header + LONG.encode()).ljust(size, b"\0"))
    struct.pack_into("<I", block, 12, xfs_crc(bytes(block), 12))
    data[extent.place : extent.place + size] = block
    path.write_bytes(data)


def test_what_the_tests_made_is_right_for_xfs_repair(made: dict[str, Path], way: str) -> None:
    done = subprocess.run([program("xfs_repair"), "-n", made[way]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(data: bytes | bytearray | Patched) -> XfsFileSystem:
    source = data if isinstance(data, Patched) else BytesSource(bytes(data))
    disk = CachedDisk(source, reading=Reading(budget=256 * MIB), name="disk 0")
    return XfsFileSystem(disk, name="disk 0 partition 1")


def flipped(data: bytes, at: int, bit: int = 4) -> Patched:
    return Patched(data, {at: data[at] ^ 1 << bit})


def checked(file_system: XfsFileSystem, *, deep: bool = False) -> Findings:
    findings = Findings()
    check_xfs(findings, file_system, deep=deep)
    return findings


def xfs_db(path: Path, *commands: str) -> str:
    words = [word for command in commands for word in ("-c", command)]
    return subprocess.run([program("xfs_db"), "-r", *words, path], capture_output=True, text=True, check=True).stdout


def test_what_mkfs_wrote_is_what_is_read(made: dict[str, Path], way: str) -> None:
    file_system = opened(made[way].read_bytes())
    tree = Tree(file_system)
    for path, data in content().items():
        place = tree.find(f"/{path}", follow=False)
        assert place is not None, path
        if isinstance(data, str) and data.startswith("->"):
            assert place.node.kind is NodeKind.LINK
            assert file_system.target(place.node) == data[2:]
        else:
            raw = data.encode() if isinstance(data, str) else data
            assert hashlib.sha256(place.read(0, 2**30)).digest() == hashlib.sha256(raw).digest(), path
    large = tree.file("/large")
    assert large is not None
    expected = content()["large"]
    assert isinstance(expected, bytes)
    assert large.read(100_000, 5000) == expected[100_000:105_000]
    assert tree.text("/up/absolute") == "found\n"
    assert len(tree.names("/many")) == 900
    assert tree.names("/") == ["empty", "large", "long-link", "many", "short-link", "small", "some", "up"]


def test_all_forms_of_directories_are_met(made: dict[str, Path]) -> None:
    """Otherwise nothing here says anything about them."""
    file_system = opened(made["version 5"].read_bytes())
    forms = {}
    for path in ("/up", "/some", "/many"):
        place = Tree(file_system).find(path)
        assert place is not None
        inode = file_system.inode(place.node.key)
        forms[path] = (inode.format, inode.size // 4096)
    assert forms["/up"][0] == LOCAL
    assert forms["/some"] == (EXTENTS, 1)
    assert forms["/many"][0] in (EXTENTS, BTREE)
    assert forms["/many"][1] > 4


def test_the_listing_is_that_of_xfs_db(made: dict[str, Path], way: str) -> None:
    file_system = opened(made[way].read_bytes())
    for path in ("/", "/some", "/many", "/up"):
        said = xfs_db(made[way], f"ls {path}")
        expected = {}
        for line in said.splitlines():
            words = line.split()
            if len(words) >= 7 and words[0].isdigit():
                expected[words[5]] = int(words[1])
        place = Tree(file_system).find(path)
        assert place is not None
        assert expected
        found = dict(file_system.entries(place.node))
        assert found == {name: number for name, number in expected.items() if name not in (".", "..")}


def test_good_file_systems_pass_every_check(made: dict[str, Path], way: str) -> None:
    file_system = opened(made[way].read_bytes())
    findings = checked(file_system, deep=True)
    assert [check.detail for check in findings.made if not check.passed] == []
    assert findings.remarks == []
    assert {"file_system.superblock", "file_system.groups", "file_system.counts"} <= {c.id for c in findings.made}
    said = xfs_db(made[way], "sb 0", "print dblocks fdblocks icount ifree uuid fname")
    superblock = file_system.superblock
    assert f"dblocks = {superblock.blocks}\nfdblocks = {superblock.free_blocks}\n" in said
    assert f"icount = {superblock.inodes}\nifree = {superblock.free_inodes}\n" in said
    assert superblock.uuid_text in said
    assert superblock.label == "xroot"
    if way.startswith("version 5"):
        list(file_system.entries(file_system.root()))
        assert file_system.verified["superblocks"] == 1
        assert file_system.verified["inodes"] >= 1


# Damage


@pytest.mark.parametrize("at", [4, 9, 33, 60, 85, 89, 101, 103, 109, 121, 130, 217, 225, 240, 400])
def test_a_bit_in_a_superblock_with_a_checksum_is_found(made: dict[str, Path], at: int) -> None:
    with pytest.raises(XfsFormatError, match="partition 1: the superblock at byte 0"):
        opened(flipped(made["version 5"].read_bytes(), at))


@pytest.mark.parametrize(
    ("at", "form", "value", "words"),
    [
        (0, ">I", 7, "it begins with 00 00 00 07"),
        (100, ">H", 0x2003, "version 3"),
        (4, ">I", 1000, "blocks of 1000 bytes"),
        (102, ">H", 7, "sectors of 7 bytes"),
        (104, ">H", 300, "inodes of 300 bytes"),
        (106, ">H", 3, "3 inodes in a block"),
        (84, ">I", 9, "groups of 9 blocks"),
        (88, ">I", 77, "blocks in 77 groups"),
        (192, ">B", 7, "2^7 blocks in one of a directory"),
        (126, ">B", 1, "still being made"),
        (8, ">Q", 2**40, "1099511627776 blocks in"),
    ],
)
def test_a_superblock_without_a_checksum_has_to_make_sense(
    made: dict[str, Path], at: int, form: str, value: int, words: str
) -> None:
    data = bytearray(made["version 4"].read_bytes()[: 4 * MIB])
    struct.pack_into(form, data, at, value)
    with pytest.raises(XfsFormatError, match=re.escape(words)):
        opened(data)


def sealed(data: bytearray, sector: int, at: int) -> bytearray:
    """Give a sector the checksum that its bytes have."""
    struct.pack_into("<I", data, sector + at, xfs_crc(bytes(data[sector : sector + 512]), at))
    return data


def test_features_that_are_not_known_are_named(made: dict[str, Path]) -> None:
    data = bytearray(made["version 5"].read_bytes()[: 4 * MIB])
    struct.pack_into(">I", data, 216, 0x4000_0101)
    with pytest.raises(XfsFormatError, match="does not read: metadata directory, 0x40000000 \\(unknown\\)"):
        opened(sealed(data, 0, 224))


def test_a_file_system_that_is_larger_than_its_partition_is_found(made: dict[str, Path], way: str) -> None:
    with pytest.raises(XfsFormatError, match=f"but {SIZE - MIB} bytes are there"):
        opened(made[way].read_bytes()[:-MIB])


@pytest.mark.parametrize("header", [0, 1, 2])
def test_a_bit_in_a_header_of_an_allocation_group_is_found(made: dict[str, Path], header: int) -> None:
    data = made["version 5"].read_bytes()
    superblock = opened(data).superblock
    group = superblock.group_blocks * superblock.block
    chance = random.Random(header)
    for _ in range(10):
        at = group + header * 512 + chance.randrange(200)
        findings = checked(opened(flipped(data, at, chance.randrange(8))))
        failed = [check for check in findings.made if not check.passed]
        assert [check.id for check in failed] == ["file_system.groups"]
        assert "group 1" in failed[0].detail
        assert str(group if header == 0 else group + header * 512) in failed[0].detail


def test_headers_without_checksums_have_to_agree(made: dict[str, Path]) -> None:
    data = made["version 4"].read_bytes()
    superblock = opened(data).superblock
    group = superblock.group_blocks * superblock.block
    for at, words in (
        (group + 9, "blocks"),
        (group + 35, "the UUID"),
        (group + 512, "begins with"),
        (group + 512 + 11, "is of group"),
        (group + 512 + 14, "blocks, expected"),
        (group + 512 + 52, "counts"),
        (group + 1024 + 2, "begins with"),
    ):
        failed = [check for check in checked(opened(flipped(data, at))).made if not check.passed]
        assert [check.id for check in failed] == ["file_system.groups"], at
        assert words in failed[0].detail
    for at in (512 + 55, 1024 + 19, 1024 + 31, 130 + 16, 144 + 6):
        failed = [check for check in checked(opened(flipped(data, at, 1))).made if not check.passed]
        assert {check.id for check in failed} <= {"file_system.counts", "file_system.groups"}
        assert failed


def test_a_bit_in_an_inode_is_found(made: dict[str, Path]) -> None:
    data = made["version 5"].read_bytes()
    file_system = opened(data)
    place = Tree(file_system).find("/up/and")
    assert place is not None
    at = file_system.superblock.inode_place(place.node.key)
    assert at is not None
    chance = random.Random(6)
    for _ in range(30):
        damaged = opened(flipped(data, at + chance.randrange(512), chance.randrange(8)))
        with pytest.raises(XfsFormatError, match=f"inode {place.node.key} at byte {at}"):
            Tree(damaged).find("/up/and/down/file")


@pytest.mark.parametrize("path", ["/some", "/many", "/long-link"])
@pytest.mark.parametrize("way", ["version 5", "version 5 of 1 KiB blocks", "version 5 with wide directories"])
def test_a_bit_in_a_block_of_metadata_is_found(made: dict[str, Path], way: str, path: str) -> None:
    data = made[way].read_bytes()
    file_system = opened(data)
    place = Tree(file_system).find(path, follow=False)
    assert place is not None
    extent = file_system.extents(file_system.inode(place.node.key))[0]
    assert extent.place is not None
    chance = random.Random(7)
    for _ in range(20):
        damaged = opened(
            flipped(data, extent.place + chance.randrange(file_system.superblock.block), chance.randrange(8))
        )
        read = damaged.target if path == "/long-link" else lambda node, of=damaged: list(of.entries(node))
        with pytest.raises(XfsFormatError, match=f"inode {place.node.key}, block at byte"):
            read(place.node)


def test_a_block_of_another_is_found(made: dict[str, Path]) -> None:
    data = bytearray(made["version 5"].read_bytes())
    file_system = opened(data)
    tree = Tree(file_system)
    places = []
    for path in ("/some", "/many"):
        place = tree.find(path)
        assert place is not None
        extent = file_system.extents(file_system.inode(place.node.key))[0]
        assert extent.place is not None
        places.append((extent.place, place.node))
    data[places[0][0] : places[0][0] + 4096] = data[places[1][0] : places[1][0] + 4096]
    with pytest.raises(XfsFormatError, match="it is another's"):
        list(opened(data).entries(places[0][1]))


def test_a_log_that_was_not_emptied_is_a_remark(made: dict[str, Path], way: str) -> None:
    data = bytearray(made[way].read_bytes())
    superblock = opened(data).superblock
    log = superblock.block_place(superblock.log_start)
    assert log is not None
    flag = log + data[log:].find(b"\x20", 512 + 9, 512 + 10)
    assert data[flag] == 0x20, "the record of an unmount"
    data[flag] = 0
    findings = checked(opened(data))
    assert all(check.passed for check in findings.made)
    assert "its log has to be replayed" in findings.remarks[0].detail
    assert "file_system.counts" not in {check.id for check in findings.made}
    data[log : log + 512] = bytes(512)
    assert "cannot be understood" in checked(opened(data)).remarks[0].detail


def test_a_file_system_that_wants_repair_is_remarked(made: dict[str, Path]) -> None:
    data = bytearray(made["version 5"].read_bytes())
    (incompatible,) = struct.unpack_from(">I", data, 216)
    struct.pack_into(">I", data, 216, incompatible | 0x10)
    findings = checked(opened(sealed(data, 0, 224)))
    assert "marked as needing xfs_repair" in findings.remarks[0].detail


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_does_more_than_raise_the_formats_error(made: dict[str, Path], data: st.DataObject) -> None:
    ways = ["version 5", "version 4", "version 4 of 1 KiB blocks", "version 5 with wide directories"]
    raw = made[data.draw(st.sampled_from(ways))].read_bytes()
    root = opened(raw).superblock.inode_place(opened(raw).superblock.root)
    assert root is not None
    places = st.one_of(st.integers(0, 1535), st.integers(root, root + 8191), st.integers(0, 400 * 1024))
    source = Patched(raw, data.draw(st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=20)))
    try:
        file_system = opened(source)
        checked(file_system, deep=True)
        waiting, seen = [file_system.root()], set()
        while waiting and len(seen) < 1500:
            node = waiting.pop()
            if node.key in seen:
                continue
            seen.add(node.key)
            if node.kind is NodeKind.DIRECTORY:
                waiting += [file_system.node(key) for _, key in file_system.entries(node)]
            elif node.kind is NodeKind.FILE:
                file_system.read(node, 0, 4096)
            elif node.kind is NodeKind.LINK:
                file_system.target(node)
    except (ImageFormatError, ShortReadError):
        pass
    assert source.reads < 3000


# Files whose extents need a tree, which mkfs.xfs makes none of: the extents of a file are put into one by hand.


def with_tree(path: Path, *, levels: int) -> tuple[bytearray, int, list[int]]:
    """Return a file system whose large file has one extent per block, in a tree; the inode, and the tree's blocks."""
    data = bytearray(path.read_bytes())
    file_system = opened(data)
    superblock = file_system.superblock
    place = Tree(file_system).file("/large")
    assert place is not None
    inode = file_system.inode(place.node.key)
    at = superblock.inode_place(inode.number)
    assert at is not None
    records = [
        struct.pack(">QQ", (extent.logical + index) << 9, (extent.place // superblock.block + index) << 21 | 1)
        for extent in file_system.extents(inode)
        for index in range(extent.count)
        if extent.place is not None
    ]
    header = 72 if superblock.checksums else 24
    most = (superblock.block - header) // 16
    assert len(records) <= 2 * most, "two leaves hold them"
    free = superblock.group_blocks - 1  # at the end of the first group, where nothing is
    used: list[int] = []

    def block(level: int, content: bytes, entries: int, *, left: int = 2**64 - 1, right: int = 2**64 - 1) -> int:
        number = free - len(used)
        place = number * superblock.block
        out = bytearray(superblock.block)
        magic = b"BMA3" if superblock.checksums else b"BMAP"
        struct.pack_into(">4sHHQQ", out, 0, magic, level, entries, left, right)
        if superblock.checksums:
            struct.pack_into(">QQ16sQ", out, 24, place // 512, 0, superblock.uuid, inode.number)
        out[header : header + len(content)] = content
        if superblock.checksums:
            struct.pack_into("<I", out, 64, xfs_crc(bytes(out), 64))
        data[place : place + superblock.block] = out
        used.append(place)
        return number

    half = len(records) // 2

    def pointers(numbers: list[int], room: int) -> bytes:
        keys = struct.pack(f">{len(numbers)}Q", *(0, half)[: len(numbers)]).ljust(room * 8, b"\0")
        return keys + b"".join(struct.pack(">Q", number) for number in numbers).ljust(room * 8, b"\0")

    below = [
        block(0, b"".join(records[:half]), half, right=free - 1),
        block(0, b"".join(records[half:]), len(records) - half, left=free),
    ]
    if levels == 2:
        below = [block(1, pointers(below, most), 2)]
    fork = bytearray(len(inode.fork))
    struct.pack_into(">HH", fork, 0, levels, len(below))
    content = pointers(below, (len(fork) - 4) // 16)
    fork[4 : 4 + len(content)] = content
    raw = bytearray(inode.raw)
    raw[5] = BTREE
    struct.pack_into(">I", raw, 76, len(records))
    raw[inode.fork_at : inode.fork_end] = fork
    if superblock.checksums:
        struct.pack_into("<I", raw, 100, xfs_crc(bytes(raw), 100))
    data[at : at + len(raw)] = raw
    return data, inode.number, used


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("way", ["version 5", "version 4"])
def test_a_tree_of_extents_is_read(made: dict[str, Path], tmp_path: Path, way: str, levels: int) -> None:
    data, number, used = with_tree(made[way], levels=levels)
    place = Tree(opened(data)).file("/large")
    assert place is not None
    assert place.read(0, 2**20) == content()["large"]
    (tmp_path / "fs").write_bytes(data)
    said = xfs_db(tmp_path / "fs", f"inode {number}", "bmap")
    assert [int(offset) for offset in re.findall(r"offset (\d+) startblock", said)] == list(range(171))
    chance = random.Random(levels)
    if way == "version 5":
        for at in used:
            for _ in range(5):
                damaged = opened(flipped(bytes(data), at + chance.randrange(4096), chance.randrange(8)))
                inode = damaged.inode(number)
                with pytest.raises(XfsFormatError, match=f"the extents of inode {number}, block at byte {at}"):
                    damaged.extents(inode)
    for at, value in ((0, 1), (5, 9), (7, 0)):
        damaged = opened(Patched(bytes(data), {used[-1] + at: value}))
        with pytest.raises(XfsFormatError, match=f"the extents of inode {number}, block at byte"):
            damaged.extents(damaged.inode(number))


def test_a_tree_that_leads_in_a_circle_is_found(made: dict[str, Path]) -> None:
    data, number, used = with_tree(made["version 4"], levels=2)
    node = used[-1]
    most = (4096 - 24) // 16
    data[node + 24 + most * 8 + 8 : node + 24 + most * 8 + 16] = data[node + 24 + most * 8 : node + 24 + most * 8 + 8]
    damaged = opened(data)
    with pytest.raises(XfsFormatError, match="blocks from 0 on are put at"):
        damaged.extents(damaged.inode(number))


def test_a_server_whose_root_is_xfs_is_proven(tmp_path: Path) -> None:
    fstab = f"UUID={ROOT_UUID} / xfs defaults 0 0\n"
    tree = write_tree(tmp_path / "tree", server_files(fstab=fstab))
    root = make_xfs(tmp_path / "root", tree, ["-m", f"crc=1,uuid={ROOT_UUID}"]).read_bytes()
    proof = prove_content([BytesSource(mbr_disk([(0x83, root)], size=SIZE + MIB))], deep=True)
    assert (proof.system.os_id, proof.system.kernels[0].compression) == ("debian", "gzip")
    assert [one.content for one in proof.system.volumes] == ["xfs"]
    assert proof.verified["inodes"] > 20
    disk = bytearray(mbr_disk([(0x83, root)], size=SIZE + MIB))
    disk[MIB : MIB + 4] = b"XFSC"
    with pytest.raises(ProofFailed, match="58 46 53 43 in place of its magic number 58 46 53 42"):
        prove_content([BytesSource(bytes(disk))])
    disk[MIB : MIB + 512] = bytes(512)
    with pytest.raises(ProofFailed) as failed:
        prove_content([BytesSource(bytes(disk))])
    assert failed.value.check_id == "system.root"
    disk[MIB : MIB + 512] = random.Random(1).randbytes(512)
    with pytest.raises(ProofFailed, match="the first headers of an xfs file system, but no superblock"):
        prove_content([BytesSource(bytes(disk))])
