"""ext2, ext3 and ext4 as mke2fs makes them: read as debugfs reads them, and damage is found and named."""

from __future__ import annotations

import hashlib
import random
import re
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.images.file_systems import ext_structures as structures
from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.ext_checks import check_ext
from sealift.images.file_systems.ext_structures import ExtFormatError, Superblock
from sealift.images.file_systems.file_system import NodeKind, Tree
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.findings import Findings
from sealift.images.source import BytesSource, ImageFormatError, ShortReadError
from tests.images.servers import MIB, Patched, debugfs, make_ext, run, tool, write_tree

FEATURES = {
    "ext2": ("ext2", "", ("-b", "1024")),
    "ext3": ("ext3", "", ("-b", "4096")),
    "ext4": ("ext4", "", ()),
    "ext4 of 1 KiB blocks": ("ext4", "64bit,metadata_csum", ("-b", "1024")),
    "ext4 of 2 KiB blocks": ("ext4", "64bit,metadata_csum", ("-b", "2048")),
    "without 64bit": ("ext4", "^64bit,metadata_csum", ()),
    "without checksums": ("ext4", "64bit,^metadata_csum,uninit_bg", ("-b", "1024")),
    "inline data": ("ext4", "inline_data,metadata_csum", ("-I", "256")),
    "without extents": ("ext4", "^extent,^64bit,metadata_csum", ()),
    "sparse_super2": ("ext4", "sparse_super2,^resize_inode,metadata_csum", ("-b", "1024")),
    "meta_bg": ("ext4", "meta_bg,^resize_inode,metadata_csum", ("-b", "1024")),
    "bigalloc": ("ext4", "bigalloc,metadata_csum", ("-C", "16384")),
    "without flex_bg": ("ext4", "^flex_bg,metadata_csum", ("-b", "1024")),
    "checksum seed": ("ext4", "metadata_csum,metadata_csum_seed", ()),
    "old inodes": ("ext4", "metadata_csum,^extra_isize", ("-I", "128")),
}


def content() -> dict[str, bytes | str]:
    chance = random.Random(20261127)
    long = "a-target-that-is-too-long-for-the-inode-and-needs-a-block-of-its-own-" * 2
    files: dict[str, bytes | str] = {
        "small": "a few bytes\n",
        "middle": chance.randbytes(100),
        "empty": "",
        "large": chance.randbytes(700_000),
        "short-link": "->small",
        "long-link": f"->{long}",
        "round": "->round",
        "up/and/down/file": "found\n",
        "up/link-over": "->../up/./and/down",
        "up/absolute": "->/up/and/../and/down/file",
        "nowhere": "->/not/there",
    }
    for number in range(400):
        files[f"many/file-with-a-rather-long-name-{number:04}"] = str(number)
    return files


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file system of each kind with the same content."""
    folder = tmp_path_factory.mktemp("ext")
    tree = write_tree(folder / "tree", content())
    found = {}
    for number, (name, (kind, features, options)) in enumerate(FEATURES.items()):
        path = folder / f"{number}.img"
        found[name] = make_ext(path, size=24 * MIB, tree=tree, kind=kind, features=features, options=options)
        if name != "inline data":  # there an empty file lies in its inode
            debugfs(path, "write /dev/null hollow", write=True)
            debugfs(path, "set_inode_field hollow size 5000000", write=True)
        # Directories with many files get their hash trees from e2fsck.
        run_fsck(path)
    return found


def run_fsck(path: Path) -> None:
    import subprocess

    done = subprocess.run([tool("e2fsck"), "-fyD", path], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout


@pytest.fixture(params=FEATURES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(data: bytes | bytearray | Patched) -> ExtFileSystem:
    source = data if isinstance(data, Patched) else BytesSource(bytes(data))
    disk = CachedDisk(source, reading=Reading(budget=256 * MIB), name="disk 0")
    return ExtFileSystem(disk, name="disk 0 partition 1")


def checked(file_system: ExtFileSystem, *, deep: bool = False) -> Findings:
    findings = Findings()
    check_ext(findings, file_system, deep=deep)
    return findings


def whole_tree(file_system: ExtFileSystem) -> dict[str, str]:
    """Return what each path is, with a digest of its content."""
    found: dict[str, str] = {}
    waiting = [("", file_system.root())]
    while waiting:
        path, node = waiting.pop()
        if node.kind is NodeKind.DIRECTORY:
            found[path] = "directory"
            waiting += [(f"{path}/{name}", file_system.node(key)) for name, key in file_system.entries(node)]
        elif node.kind is NodeKind.LINK:
            found[path] = f"-> {file_system.target(node)}"
        else:
            found[path] = hashlib.sha256(file_system.read(node, 0, node.size)).hexdigest()
    return found


def test_what_mke2fs_wrote_is_what_is_read(made: dict[str, Path], name: str) -> None:
    file_system = opened(made[name].read_bytes())
    found = whole_tree(file_system)
    for path, data in content().items():
        if isinstance(data, str) and data.startswith("->"):
            assert found[f"/{path}"] == f"-> {data[2:]}"
        else:
            raw = data.encode() if isinstance(data, str) else data
            assert found[f"/{path}"] == hashlib.sha256(raw).hexdigest(), path
    if name != "inline data":
        assert found["/hollow"] == hashlib.sha256(bytes(5_000_000)).hexdigest()
    assert found["/lost+found"] == "directory"


def test_the_listing_is_that_of_debugfs(made: dict[str, Path], name: str) -> None:
    file_system = opened(made[name].read_bytes())
    tree = Tree(file_system)
    for path in ("/", "/many", "/up/and"):
        said = debugfs(made[name], f"ls -p {path}")
        expected = {line.split("/")[5]: int(line.split("/")[1]) for line in said.splitlines() if line.startswith("/")}
        place = tree.find(path)
        assert place is not None
        assert dict(file_system.entries(place.node)) == {
            entry: number for entry, number in expected.items() if entry not in (".", "..", "") and number
        }


def test_good_file_systems_pass_every_check(made: dict[str, Path], name: str) -> None:
    file_system = opened(made[name].read_bytes())
    findings = checked(file_system, deep=True)
    assert [check.detail for check in findings.made if not check.passed] == []
    assert findings.remarks == []
    ids = {check.id for check in findings.made}
    assert {"file_system.superblock", "file_system.groups", "file_system.counts", "file_system.bitmaps"} <= ids
    said = run(tool("dumpe2fs"), "-h", made[name])
    assert f"Block count:              {file_system.superblock.blocks}\n" in said
    assert f"Free blocks:              {file_system.superblock.free_blocks}\n" in said
    assert str(file_system.superblock.uuid_text) in said
    whole_tree(file_system)
    if "metadata_csum" in FEATURES[name][1] and "^metadata_csum" not in FEATURES[name][1]:
        assert file_system.verified["superblocks"] == 1
        assert file_system.verified["inodes"] > 400
        assert file_system.verified["directory blocks"] > (0 if name == "inline data" else 5)
        assert file_system.verified["group descriptors"] >= 1
        assert file_system.verified["bitmaps"] >= 2


def test_types_are_named(made: dict[str, Path]) -> None:
    types = {kind: opened(path.read_bytes()).type for kind, path in made.items()}
    assert (types["ext2"], types["ext3"], types["ext4"]) == ("ext2", "ext3", "ext4")
    assert set(list(types.values())[2:]) == {"ext4"}


def test_hash_trees_are_met(made: dict[str, Path]) -> None:
    """Otherwise nothing here says anything about them."""
    file_system = opened(made["ext4 of 1 KiB blocks"].read_bytes())
    place = Tree(file_system).find("/many")
    assert place is not None
    assert file_system.inode(place.node.key).flags & structures.INDEX_FLAG


def test_an_extent_tree_with_blocks_of_its_own_is_read(tmp_path: Path) -> None:
    path = make_ext(tmp_path / "fs", features="metadata_csum", options=("-b", "1024"))
    (tmp_path / "filler").write_bytes(bytes(1024))
    script = ["write /dev/null holes"]
    debugfs_script(path, script)
    # Every second block of a file: each is an extent of its own.
    debugfs_script(path, [f"fallocate holes {block} {block}" for block in range(0, 40, 2)])
    debugfs_script(path, ["set_inode_field holes size 40960"])
    file_system = opened(path.read_bytes())
    place = Tree(file_system).file("/holes")
    assert place is not None
    extents = file_system.maps.extents(file_system.inode(place.node.key))
    assert [extent.logical for extent in extents] == list(range(0, 40, 2))
    assert file_system.verified["extent blocks"] >= 1
    assert place.read(0, 100_000) == bytes(40960)


def debugfs_script(path: Path, lines: list[str]) -> None:
    run(tool("debugfs"), "-w", "-f", "-", path, text="\n".join(lines) + "\n")


def test_paths_are_resolved(made: dict[str, Path], name: str) -> None:
    tree = Tree(opened(made[name].read_bytes()))
    assert tree.text("/up/absolute") == "found\n"
    assert tree.text("/up/link-over/file") == "found\n"
    assert tree.text("/short-link") == "a few bytes\n"
    assert tree.text("/up/../up/../small") == "a few bytes\n"
    assert tree.find("/nowhere") is None
    assert tree.find("/small/below-a-file") is None
    assert tree.file("/up") is None
    assert tree.names("/up/link-over") == ["file"]
    link = tree.find("/short-link", follow=False)
    assert link is not None and link.node.kind is NodeKind.LINK
    with pytest.raises(ImageFormatError, match="more than 40 symbolic links"):
        tree.find("/round")


# Damage


def flipped(data: bytes, at: int, bit: int = 4) -> Patched:
    return Patched(data, {at: data[at] ^ 1 << bit})


@pytest.mark.parametrize("at", [0, 4, 0x18, 0x20, 0x58, 0x60, 0x68, 0x78, 0x200, 0x3FB, 0x3FC])
def test_a_bit_in_a_superblock_with_a_checksum_is_found(made: dict[str, Path], at: int) -> None:
    data = made["ext4 of 2 KiB blocks"].read_bytes()
    with pytest.raises(ExtFormatError, match="partition 1: the superblock at byte 1024") as failure:
        opened(flipped(data, 1024 + at))
    assert failure.value.offset == 1024


@pytest.mark.parametrize(
    ("at", "form", "value", "words"),
    [
        (0x38, "<H", 0x1234, "magic number 0x1234"),
        (0x60, "<I", 0x2 | 0x80000000, "does not read: 0x80000000 (unknown)"),
        (0x60, "<I", 0x3, "does not read: compression"),
        (0x18, "<I", 7, "blocks of 2^17 bytes"),
        (0x20, "<I", 0, "0 blocks in a group"),
        (0x28, "<I", 0, "0 inodes in a group"),
        (0x58, "<H", 100, "inodes of 100 bytes"),
        (0x4, "<I", 0xFFFFFF, "but 25165824 bytes are there"),
        (0x0, "<I", 17, "17 inodes, but"),
        (0x14, "<I", 9, "the first data block is 9"),
        (0x4C, "<I", 9, "revision 9"),
    ],
)
def test_a_superblock_without_a_checksum_has_to_make_sense(
    made: dict[str, Path], at: int, form: str, value: int, words: str
) -> None:
    data = bytearray(made["ext2"].read_bytes())
    struct.pack_into(form, data, 1024 + at, value)
    if at == 0x4:  # more blocks than there are, but groups that go with them
        groups = -(-(value - 1) // 8192)
        struct.pack_into("<I", data, 1024, groups * struct.unpack_from("<I", data, 1024 + 0x28)[0])
    with pytest.raises(ExtFormatError, match=re.escape(words)):
        opened(data)


def test_a_checksum_of_another_kind_is_named(made: dict[str, Path]) -> None:
    data = bytearray(made["ext4 of 2 KiB blocks"].read_bytes())
    data[1024 + 0x175] = 2
    with pytest.raises(ExtFormatError, match="checksum type 2"):
        opened(data)


@pytest.mark.parametrize("kind", ["ext4 of 1 KiB blocks", "without checksums", "without 64bit"])
def test_a_bit_in_a_group_descriptor_is_found(made: dict[str, Path], kind: str) -> None:
    data = made[kind].read_bytes()
    superblock = Superblock.unpack(data[1024:2048])
    start = superblock.descriptor_block(0) * superblock.block
    chance = random.Random(5)
    for _ in range(20):
        group = chance.randrange(superblock.groups)
        at = start + group * superblock.descriptor_size + chance.randrange(0x1C)
        findings = checked(opened(flipped(data, at, chance.randrange(8))))
        failed = [check for check in findings.made if not check.passed]
        assert [check.id for check in failed] == ["file_system.groups"]
        assert f"the descriptor of block group {group} in block" in failed[0].detail


def test_descriptors_without_checksums_have_to_lead_into_the_file_system(made: dict[str, Path]) -> None:
    data = bytearray(made["ext2"].read_bytes())
    struct.pack_into("<I", data, 2048 + 8, 0xFFFFFF)
    findings = checked(opened(data))
    assert "puts the inode table at block 16777215 of 24576" in findings.made[1].detail
    data = bytearray(made["ext2"].read_bytes())
    struct.pack_into("<H", data, 2048 + 12, 9000)
    assert "counts 9000 free of 8192" in checked(opened(data)).made[1].detail
    struct.pack_into("<H", data, 2048 + 12, 7)
    counts = next(check for check in checked(opened(data)).made if check.id == "file_system.counts")
    assert not counts.passed
    assert "but its groups" in counts.detail


def test_the_superblock_of_an_empty_journal_is_checked(made: dict[str, Path]) -> None:
    """Without it the kernel mounts nothing, though nothing has to be replayed."""
    data = made["ext4 of 1 KiB blocks"].read_bytes()
    at = data.index(bytes.fromhex("c03b3998 00000004"))
    for place, words in ((at + 1, "the journal begins with"), (at + 14, "the journal has 1024 blocks of 3072 bytes")):
        (check,) = [one for one in checked(opened(flipped(data, place, 3))).made if one.id == "file_system.journal"]
        assert not check.passed
        assert words in check.detail
    assert "file_system.journal" not in [one.id for one in checked(opened(made["ext2"].read_bytes())).made]


def inode_place(file_system: ExtFileSystem, number: int) -> int:
    superblock = file_system.superblock
    group, index = divmod(number - 1, superblock.inodes_per_group)
    return file_system.descriptor(group).inode_table * superblock.block + index * superblock.inode_size


@pytest.mark.parametrize("kind", ["ext4 of 1 KiB blocks", "old inodes", "inline data"])
def test_a_bit_in_an_inode_is_found(made: dict[str, Path], kind: str) -> None:
    data = made[kind].read_bytes()
    file_system = opened(data)
    place = Tree(file_system).find("/up/and")
    assert place is not None
    at = inode_place(file_system, place.node.key)
    chance = random.Random(6)
    for _ in range(30):
        damaged = opened(flipped(data, at + chance.randrange(file_system.superblock.inode_size), chance.randrange(8)))
        with pytest.raises(ExtFormatError, match=f"inode {place.node.key} at byte .* has the checksum"):
            Tree(damaged).find("/up/and/down/file")


@pytest.mark.parametrize("kind", ["ext4 of 1 KiB blocks", "without extents", "meta_bg"])
@pytest.mark.parametrize("path", ["/", "/many"])
def test_a_bit_in_a_directory_is_found(made: dict[str, Path], kind: str, path: str) -> None:
    data = made[kind].read_bytes()
    file_system = opened(data)
    place = Tree(file_system).find(path)
    assert place is not None
    inode = file_system.inode(place.node.key)
    blocks = [
        block
        for start, count in file_system.maps.runs(inode, 0, inode.size // file_system.superblock.block)
        for block in range(start, start + count)
    ]
    chance = random.Random(7)
    missed = 0
    for _ in range(40):
        block = chance.choice(blocks)
        at = chance.randrange(file_system.superblock.block)
        damaged = opened(flipped(data, block * file_system.superblock.block + at, chance.randrange(8)))
        try:
            list(damaged.entries(place.node))
        except ExtFormatError as error:
            found = str(error)
        else:
            # A hash tree's blocks are covered up to their last entry in use; the rest holds nothing.
            assert inode.flags & structures.INDEX_FLAG
            assert whole_tree(damaged) == whole_tree(file_system)
            missed += 1
            continue
        assert f"directory inode {place.node.key}" in found
    assert missed < 10


def test_a_bit_in_a_block_of_extents_is_found(tmp_path: Path) -> None:
    path = make_ext(tmp_path / "fs", features="metadata_csum", options=("-b", "1024"))
    debugfs_script(path, ["write /dev/null holes", *[f"fallocate holes {block} {block}" for block in range(0, 40, 2)]])
    debugfs_script(path, ["set_inode_field holes size 40960"])
    data = path.read_bytes()
    file_system = opened(data)
    place = Tree(file_system).file("/holes")
    assert place is not None
    root = file_system.inode(place.node.key).block_map
    assert struct.unpack_from("<H", root, 6)[0] == 1, "the tree has a level"
    block = struct.unpack_from("<I", root, 12 + 4)[0]
    for at in (0, 2, 6, 12, 17, 100, 12 + 84 * 12):
        damaged = opened(flipped(data, block * 1024 + at))
        with pytest.raises(ExtFormatError, match=f"extent tree of inode {place.node.key}, block {block}"):
            damaged.maps.check(damaged.inode(place.node.key))


def test_the_copy_of_the_superblock_is_compared(made: dict[str, Path]) -> None:
    data = made["ext4 of 1 KiB blocks"].read_bytes()
    good = next(check for check in checked(opened(data)).made if check.id == "file_system.backup")
    block = int(re.search(r"block (\d+)", good.detail).group(1))  # type: ignore[union-attr]
    for at, words in ((0x38, "begins with"), (0x7, "blocks"), (0x68, "UUID"), (0x28, "inodes in a group")):
        check = next(
            one for one in checked(opened(flipped(data, block * 1024 + at))).made if one.id == "file_system.backup"
        )
        assert not check.passed
        assert words in check.detail
    findings = checked(opened(flipped(data, block * 1024 + 5, 6)))
    assert all(check.passed for check in findings.made)
    assert "left behind when the file system grew" in findings.remarks[0].detail
    findings = checked(opened(flipped(data, block * 1024 + 0x3FC)))
    assert all(check.passed for check in findings.made)
    assert "enlarged while mounted" in findings.remarks[0].detail


def test_bitmaps_are_compared_when_asked(made: dict[str, Path]) -> None:
    data = made["ext4 of 1 KiB blocks"].read_bytes()
    descriptor = opened(data).descriptor(0)
    for what, block in (("block bitmap", descriptor.block_bitmap), ("inode bitmap", descriptor.inode_bitmap)):
        damaged = flipped(data, block * 1024 + 3)
        assert all(check.passed for check in checked(opened(damaged)).made)
        check = next(one for one in checked(opened(damaged), deep=True).made if one.id == "file_system.bitmaps")
        assert not check.passed
        assert f"the {what} of group 0 in block {block}" in check.detail


def test_states_are_remarks(made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "fs"
    path.write_bytes(made["ext2"].read_bytes())
    run(tool("debugfs"), "-w", "-R", "set_super_value state 2", path)
    findings = checked(opened(path.read_bytes()))
    assert all(check.passed for check in findings.made)
    assert "file_system.counts" not in {check.id for check in findings.made}
    words = " ".join(remark.detail for remark in findings.remarks)
    assert "was not cleanly unmounted" in words and "marked as having errors" in words


# The journal


@pytest.fixture(params=["", "^metadata_csum,64bit", "^64bit,^metadata_csum"], ids=["checksums", "64bit", "32bit"])
def with_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file system whose journal holds a newer block of a file: what debugfs writes into it."""
    return make_ext(
        tmp_path / "fs", size=24 * MIB, tree=write_tree(tmp_path / "tree", {"file": "old content\n" * 400}),
        features=f"has_journal,{request.param}".strip(","), options=("-b", "4096", "-J", "size=4"),
    )  # fmt: skip


def test_what_the_journal_holds_is_read_with_it(with_journal: Path, tmp_path: Path) -> None:
    file_system = opened(with_journal.read_bytes())
    place = Tree(file_system).file("/file")
    assert place is not None
    (first, _), *_ = list(file_system.maps.runs(file_system.inode(place.node.key), 0, 1))
    newer = tmp_path / "newer"
    newer.write_bytes((b"new content\n" * 400)[:4096])
    escaped = tmp_path / "escaped"
    escaped.write_bytes(struct.pack(">I", 0xC03B3998) + b"x" * 4092)
    checksums = ["-c"] if file_system.superblock.checksums else []
    debugfs_script(
        with_journal,
        [
            f"journal_open {' '.join(checksums)}",
            f"journal_write -b {first} {newer}",
            f"journal_write -b {first + 1} {escaped}",
            "journal_close",
        ],
    )
    data = with_journal.read_bytes()
    file_system = opened(data)
    assert file_system.journal is not None
    assert file_system.journal.transactions >= 1
    assert {first, first + 1} <= set(file_system.journal.blocks)
    place = Tree(file_system).file("/file")
    assert place is not None
    assert place.read(0, 8192)[:4096] == newer.read_bytes()
    findings = checked(file_system)
    assert all(check.passed for check in findings.made)
    assert "journal has to be replayed" in findings.remarks[0].detail
    # What the tool that belongs to the format makes of it is what was read.
    debugfs_script(with_journal, ["journal_run"])
    replayed = opened(with_journal.read_bytes())
    assert replayed.journal is None
    after = Tree(replayed).file("/file")
    assert after is not None
    assert after.read(0, 100_000) == place.read(0, 100_000)


def test_what_a_journal_takes_back_is_not_read_from_it(with_journal: Path, tmp_path: Path) -> None:
    file_system = opened(with_journal.read_bytes())
    place = Tree(file_system).file("/file")
    assert place is not None
    ((first, _),) = list(file_system.maps.runs(file_system.inode(place.node.key), 0, 2))
    for name in ("one", "two", "three"):
        (tmp_path / name).write_bytes((f"{name} content\n".encode() * 400)[:4096])
    checksums = ["-c"] if file_system.superblock.checksums else []
    script = [f"journal_open {' '.join(checksums)}"]
    script += [f"journal_write -b {first} {tmp_path / 'one'}", f"journal_write -b {first + 1} {tmp_path / 'one'}"]
    script += [f"journal_write -r {first}", f"journal_write -r {first + 1}"]
    script += [f"journal_write -b {first + 1} {tmp_path / 'three'}", "journal_close"]
    debugfs_script(with_journal, script)
    file_system = opened(with_journal.read_bytes())
    place = Tree(file_system).file("/file")
    assert place is not None
    assert place.read(0, 12) == b"old content\n"
    assert place.read(4096, 14) == b"three content\n"
    debugfs_script(with_journal, ["journal_run"])
    after = Tree(opened(with_journal.read_bytes())).file("/file")
    assert after is not None
    assert after.read(0, 100_000) == place.read(0, 100_000)


def test_a_transaction_that_is_not_complete_is_left_out(with_journal: Path, tmp_path: Path) -> None:
    file_system = opened(with_journal.read_bytes())
    place = Tree(file_system).file("/file")
    assert place is not None
    (first, _), *_ = list(file_system.maps.runs(file_system.inode(place.node.key), 0, 1))
    (tmp_path / "newer").write_bytes(b"n" * 4096)
    checksums = ["-c"] if file_system.superblock.checksums else []
    debugfs_script(
        with_journal,
        [f"journal_open {' '.join(checksums)}", f"journal_write -b {first} {tmp_path / 'newer'}", "journal_close"],
    )
    data = bytearray(with_journal.read_bytes())
    commit = data.find(struct.pack(">III", 0xC03B3998, 2, 1))
    assert commit > 0
    data[commit + 16] ^= 1  # its checksum, where it has one
    with_checksums = opened(data)
    assert with_checksums.journal is not None
    assert with_checksums.journal.transactions == (0 if checksums else 1)
    data[commit : commit + 4096] = bytes(4096)
    without = opened(data)
    assert without.journal is not None
    assert (without.journal.transactions, without.journal.blocks) == (0, {})


def test_a_damaged_journal_is_named(with_journal: Path) -> None:
    run(tool("debugfs"), "-w", "-R", "feature needs_recovery", with_journal)
    data = with_journal.read_bytes()
    file_system = opened(data)
    assert file_system.journal is not None and file_system.journal.blocks == {}
    inode = file_system.inode(file_system.superblock.journal_inode)
    (start, _), *_ = list(file_system.maps.runs(inode, 0, 1))
    with pytest.raises(ExtFormatError, match="the journal begins with"):
        opened(flipped(data, start * 4096))


# Whatever lies there


def cases(paths: dict[str, Path]) -> Iterator[bytes]:
    for kind in ("ext2", "ext4 of 1 KiB blocks", "inline data", "without checksums"):
        yield paths[kind].read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_does_more_than_raise_the_formats_error(made: dict[str, Path], data: st.DataObject) -> None:
    kinds = list(cases(made))
    raw = kinds[data.draw(st.integers(0, len(kinds) - 1))]
    changed = {}
    superblock = Superblock.unpack(raw[1024:2048])
    table = superblock.descriptor_block(0) * superblock.block
    places = st.one_of(
        st.integers(1024, 2047),
        st.integers(table, table + 511),
        st.integers(0, 400 * 1024),
    )
    for at in data.draw(st.lists(places, min_size=1, max_size=30)):
        changed[at] = data.draw(st.integers(0, 255))
    source = Patched(raw, changed)
    disk = CachedDisk(source, reading=Reading(budget=256 * MIB), name="disk 0")
    try:
        file_system = ExtFileSystem(disk, name="it")
        check_ext(Findings(), file_system, deep=True)
        whole = 0
        waiting = [file_system.root()]
        seen = set()
        while waiting and whole < 2000:
            node = waiting.pop()
            whole += 1
            if node.kind is NodeKind.DIRECTORY and node.key not in seen:
                seen.add(node.key)
                waiting += [file_system.node(key) for _, key in file_system.entries(node)]
            elif node.kind is NodeKind.FILE:
                file_system.read(node, 0, 4096)
    except (ImageFormatError, ShortReadError):
        pass
    assert source.reads < 3000


def test_memory_stays_small(made: dict[str, Path]) -> None:
    from sealift.images.source import FileSource

    tracemalloc.start()
    with FileSource(made["ext4 of 1 KiB blocks"]) as source:
        disk = CachedDisk(source, reading=Reading(budget=256 * MIB), name="disk 0")
        file_system = ExtFileSystem(disk, name="it")
        check_ext(Findings(), file_system, deep=True)
        whole_tree(file_system)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * MIB
