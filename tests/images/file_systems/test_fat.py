"""FAT as EFI system partitions have it: read, and damage named."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images.file_systems.fat import BootSector, FatFileSystem, FatFormatError
from sealift.images.file_systems.file_system import NodeKind, Tree
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.source import BytesSource, ImageFormatError, ShortReadError
from tests.images.servers import MIB, Patched, fat16

LARGE = random.Random(2).randbytes(50_001)
FILES = {
    "EFI/BOOT/BOOTX64.EFI": LARGE,
    "EFI/debian/grub.cfg": b"search\n",
    "EFI/debian/empty": b"",
    "readme.txt": b"x",
}
DATA = fat16(FILES)


def opened(data: bytes | Patched) -> FatFileSystem:
    source = BytesSource(data) if isinstance(data, bytes) else data
    return FatFileSystem(CachedDisk(source, reading=Reading(budget=64 * MIB), name="disk 0"), name="disk 0 partition 1")


def test_files_are_read() -> None:
    tree = Tree(opened(DATA))
    assert tree.names("/") == ["efi", "readme.txt"]
    assert tree.names("/EFI") == ["boot", "debian"]
    place = tree.file("/efi/Boot/bootx64.efi")
    assert place is not None
    assert place.read(0, 100_000) == LARGE
    assert place.read(2040, 5000) == LARGE[2040:7040]
    empty = tree.file("/EFI/debian/empty")
    assert empty is not None
    assert (empty.node.kind, empty.read(0, 10)) == (NodeKind.FILE, b"")
    assert tree.find("/EFI/other") is None
    assert opened(DATA).boot.uuid_text == "1234-ABCD"
    assert opened(DATA).copies_differ() == ""


@pytest.mark.parametrize(
    ("at", "form", "value", "words"),
    [
        (510, "<H", 0, "it ends with 00 00"),
        (11, "<H", 500, "sectors of 500 bytes"),
        (13, "<B", 3, "clusters of 3 sectors"),
        (14, "<H", 0, "no reserved sectors"),
        (16, "<B", 7, "7 tables"),
        (32, "<I", 2**31, f"2147483648 sectors of 512 bytes, but {16 * MIB} bytes are there"),
        (22, "<H", 9, "more than its tables of 9 sectors"),
        (17, "<H", 0, "0 entries in the root directory"),
        (21, "<B", 0xF0, "expected the media byte 0xf0"),
        (512, "<H", 0, "begins with 0x0"),
    ],
)
def test_a_boot_sector_has_to_make_sense(at: int, form: str, value: int, words: str) -> None:
    data = bytearray(DATA)
    struct.pack_into(form, data, at, value)
    with pytest.raises(FatFormatError, match=words):
        opened(bytes(data))


def test_chains_that_lead_out_or_in_circles_are_found() -> None:
    for value, words in ((9999, "leads to 9999"), (4, "leads in a circle"), (0xFFFF, "ends before")):
        data = bytearray(DATA)
        struct.pack_into("<H", data, 512 + 2 * 5, value)  # after the first file's second cluster
        place = Tree(opened(bytes(data))).file("/efi/boot/bootx64.efi")
        assert place is not None
        with pytest.raises(FatFormatError, match=words):
            place.read(0, 100_000)


def test_tables_that_differ_are_named() -> None:
    data = bytearray(DATA)
    data[512 + 40] ^= 1
    assert "differ at byte 40" in opened(bytes(data)).copies_differ()


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install dosfstools mtools)")
    return found


@pytest.mark.parametrize(("bits", "size"), [(12, 2), (16, 16), (32, 48)])
def test_what_other_tools_wrote_is_read(tmp_path: Path, bits: int, size: int) -> None:
    make, copy = program("mkfs.fat"), program("mcopy")
    image = tmp_path / "fat"
    with image.open("wb") as file:
        file.truncate(size * MIB)
    command = [make, "-F", str(bits), "-n", "EFI", "-i", "1234ABCD"]
    if bits == 32:
        command += ["-s", "1"]
    subprocess.run([*command, image], check=True, capture_output=True)
    (tmp_path / "EFI/BOOT").mkdir(parents=True)
    (tmp_path / "EFI/BOOT/a long name of a loader.efi").write_bytes(LARGE)
    for number in range(200):
        (tmp_path / f"EFI/BOOT/file with a name {number}").write_bytes(b"n" * number)
    subprocess.run([copy, "-i", image, "-s", tmp_path / "EFI", "::/"], check=True, capture_output=True)
    file_system = opened(image.read_bytes())
    assert (file_system.boot.bits, file_system.boot.uuid_text, file_system.boot.label) == (bits, "1234-ABCD", "EFI")
    tree = Tree(file_system)
    place = tree.file("/EFI/BOOT/a long name of a loader.efi")
    assert place is not None
    assert place.read(0, 100_000) == LARGE
    assert len(tree.names("/efi/boot")) == 201
    last = tree.file("/EFI/boot/file with a name 199")
    assert last is not None
    assert last.read(0, 1000) == b"n" * 199


def test_the_tests_own_writer_makes_what_fsck_calls_clean(tmp_path: Path) -> None:
    (tmp_path / "fat").write_bytes(DATA)
    done = subprocess.run([program("fsck.fat"), "-n", tmp_path / "fat"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@settings(max_examples=80, deadline=None)
@given(changes=st.dictionaries(st.integers(0, 80_000), st.integers(0, 255), min_size=1, max_size=20))
def test_no_bytes_do_more_than_raise_the_formats_error(changes: dict[int, int]) -> None:
    source = Patched(DATA, changes)
    try:
        tree = Tree(opened(source))
        for path in ("/efi/boot", "/efi/debian"):
            for name in tree.names(path):
                place = tree.file(f"{path}/{name}")
                if place:
                    place.read(0, 200_000)
    except (ImageFormatError, ShortReadError):
        pass
    assert source.reads < 500


def test_a_short_region_is_refused() -> None:
    with pytest.raises(ShortReadError):
        opened(b"x" * 100)
    assert BootSector.unpack(DATA[:512]).why_not(100) != ""
