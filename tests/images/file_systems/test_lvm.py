"""LVM's labels, metadata and linear volumes, built by the description of the format; damage named."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images.file_systems import lvm
from sealift.images.file_systems.lvm import LogicalVolume, LvmFormatError, read_physical_volume, read_volume_groups
from sealift.images.file_systems.lvm_text import parse_text
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.source import BytesSource, ImageFormatError, ShortReadError
from tests.images.servers import MIB, Patched
from tests.images.volume_groups import EXTENT, Segment, physical_volume, volume_group

CHANCE = random.Random(12)
ONE, TWO = (f"{letter * 6}-aaaa-bbbb-cccc-dddd-eeee-{letter * 6}" for letter in "PQ")


def region(data: bytes | Patched, name: str = "disk 0") -> CachedDisk:
    source = BytesSource(data) if isinstance(data, bytes) else data
    return CachedDisk(source, reading=Reading(budget=256 * MIB), name=name)


def volumes(*disks: bytes) -> dict[str, LogicalVolume]:
    physical = [read_physical_volume(region(data), name=f"disk {index}") for index, data in enumerate(disks)]
    return {one.volume: one for one in read_volume_groups([one for one in physical if one])}


LINEAR = {"root": [Segment(0, 3, [("pv0", 2)])], "my-home": [Segment(0, 1, [("pv0", 0)]), Segment(1, 2, [("pv0", 5)])]}
PIECES = [CHANCE.randbytes(EXTENT) for _ in range(8)]


def disk(text: str, *, uuid: str = ONE, **more: int) -> bytes:
    return physical_volume(text, uuid=uuid, extents=PIECES, **more)


def test_linear_volumes_are_read() -> None:
    found = volumes(disk(volume_group("vg", [ONE], LINEAR)))
    assert set(found) == {"root", "my-home"}
    root, home = found["root"].region, found["my-home"].region
    assert root is not None
    assert home is not None
    assert root.read(0, root.size) == b"".join(PIECES[2:5])
    assert home.read(0, home.size) == PIECES[0] + PIECES[5] + PIECES[6]
    assert home.read_once(EXTENT - 5, 10) == PIECES[0][-5:] + PIECES[5][:5]
    assert found["my-home"].devices == ("/dev/mapper/vg-my--home", "/dev/vg/my-home")
    assert found["my-home"].name == "vg/my-home"
    with pytest.raises(ShortReadError, match="vg/root"):
        root.read(root.size, 1)


def test_a_volume_over_two_disks_is_read() -> None:
    text = volume_group("vg", [ONE, TWO], {"data": [Segment(0, 2, [("pv0", 0)]), Segment(2, 2, [("pv1", 6)])]})
    found = volumes(disk(text, uuid=TWO), disk(text, uuid=ONE))["data"].region
    assert found is not None
    assert found.read(0, found.size) == b"".join([*PIECES[0:2], *PIECES[6:8]])
    alone = volumes(disk(text, uuid=ONE))["data"]
    assert (alone.region, alone.why) == (None, "it needs the physical volume pv1, which is not among the disks")


def test_what_is_not_linear_is_named() -> None:
    text = volume_group(
        "vg",
        [ONE],
        {
            "striped": [Segment(0, 2, [("pv0", 0), ("pv0", 4)])],
            "thin": [Segment(0, 2, [], type="thin-pool")],
            "beyond": [Segment(0, 2, [("pv0", 7)])],
            "gap": [Segment(0, 1, [("pv0", 0)]), Segment(3, 1, [("pv0", 1)])],
        },
        hidden=("inner",),
    )
    found = volumes(disk(text))
    assert {name: one.why for name, one in found.items()} == {
        "striped": "it is striped over several volumes, which Sealift does not read",
        "thin": "it is of type thin-pool, which Sealift does not read",
        "beyond": "its segment 1 lies outside the physical volume pv0",
        "gap": "its segment 2 does not begin where the one before it ends",
    }


def test_metadata_that_go_around_their_ring_are_read() -> None:
    found = volumes(disk(volume_group("vg", [ONE], LINEAR), text_at=EXTENT - 300))
    assert set(found) == {"root", "my-home"}


def test_the_newest_metadata_count() -> None:
    old = volume_group("vg", [ONE, TWO], {"old": [Segment(0, 1, [("pv0", 0)])]}, number=3)
    new = volume_group("vg", [ONE, TWO], {"new": [Segment(0, 1, [("pv1", 0)])]}, number=4)
    assert set(volumes(disk(old, uuid=ONE), disk(new, uuid=TWO))) == {"new"}


def test_a_volume_without_metadata_of_its_own_is_one_all_the_same() -> None:
    found = read_physical_volume(region(physical_volume("", uuid=ONE, extents=PIECES)), name="disk 0")
    assert found is not None
    assert (found.uuid, found.text) == (ONE.replace("-", ""), "")
    assert read_physical_volume(region(bytes(4096)), name="disk 0") is None


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (512 + 17, "the LVM label at byte 512 has the checksum"),
        (512 + 26, "the LVM label at byte 512 has the checksum"),
        (512 + 40, "the LVM label at byte 512 has the checksum"),
        (512 + 8, "the LVM label at byte 512 says that it is in sector 9"),
        (4096 + 1, "the LVM metadata at byte 4096 has the checksum"),
        (4096 + 40, "the LVM metadata at byte 4096 has the checksum"),
        (4096 + 512 + 20, "the LVM metadata at byte 4096: the text has the checksum"),
    ],
)
def test_every_flipped_bit_is_found(at: int, words: str) -> None:
    data = disk(volume_group("vg", [ONE], LINEAR))
    source = Patched(data, {at: data[at] ^ 8})
    with pytest.raises(LvmFormatError, match=re.escape(f"disk 7: {words}")):
        read_physical_volume(region(source), name="disk 7")


def test_a_volume_that_is_larger_than_its_disk_was_cut() -> None:
    data = disk(volume_group("vg", [ONE], LINEAR))
    with pytest.raises(LvmFormatError, match=f"says that it has {len(data)} bytes, but {len(data) - EXTENT} are there"):
        read_physical_volume(region(data[:-EXTENT]), name="disk 0")


@pytest.mark.parametrize(
    "text",
    [
        "vg {", "vg { a = }", "vg { a = [1, }", "vg = { }", 'vg { a = "open }', "vg { a = 1 } }", "&", "a {" * 20,
        "vg { a = [1 2] }",
    ],
)  # fmt: skip
def test_text_that_is_not_in_its_syntax_is_refused(text: str) -> None:
    with pytest.raises(ImageFormatError):
        parse_text(text, where="it")


def test_text_is_parsed() -> None:
    text = (
        '# c\nvg {\n id = "a\\"b" # c\n list = ["x", 2, -3.5,]\n empty = []\n inner { deep { n = 1 } }\n}\ntime = 5\n'
    )
    assert parse_text(text, where="it") == {
        "vg": {"id": 'a"b', "list": ["x", 2, -3.5], "empty": [], "inner": {"deep": {"n": 1}}},
        "time": 5,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a = "no group"', "name no volume group"),
        ("vg { seqno = 1 extent_size = -1 }", "have -1 for extent_size"),
        ("vg { seqno = 1 }", "have None for extent_size"),
    ],
)
def test_metadata_have_to_say_what_they_must(text: str, words: str) -> None:
    with pytest.raises(LvmFormatError, match=words):
        volumes(disk(text))


def test_too_many_words_are_refused() -> None:
    with pytest.raises(ImageFormatError, match="more than"):
        parse_text("a = 1 " * 100_000, where="it")


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet='vg{}[]=",0189 \n#\\.-ab', max_size=200))
def test_no_text_does_more_than_raise_the_formats_error(text: str) -> None:
    with contextlib.suppress(ImageFormatError):
        volumes(disk(text))


@settings(max_examples=60, deadline=None)
@given(changes=st.dictionaries(st.integers(0, 8191), st.integers(0, 255), min_size=1, max_size=8), sealed=st.booleans())
def test_no_bytes_do_more_than_raise_the_formats_error(changes: dict[int, int], sealed: bool) -> None:
    data = bytearray(disk(volume_group("vg", [ONE], LINEAR)))
    for at, value in changes.items():
        data[at] = value
    if sealed:  # the checksums go with it: what a wrong writer would leave
        struct.pack_into("<I", data, 512 + 16, lvm.lvm_crc(bytes(data[532:1024])))
        struct.pack_into("<I", data, 4096, lvm.lvm_crc(bytes(data[4100:4608])))
    try:
        for one in volumes(bytes(data)).values():
            if one.region:
                one.region.read(0, min(one.region.size, 100))
    except (ImageFormatError, ShortReadError):
        pass


def test_the_tests_own_volumes_are_right_for_pvck(tmp_path: Path) -> None:
    pvck = shutil.which("pvck", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if pvck is None:
        pytest.skip("pvck is not installed (apt-get install lvm2)")
    (tmp_path / "pv").write_bytes(disk(volume_group("vg", [ONE], LINEAR)))
    done = subprocess.run(
        [pvck, "--dump", "headers", tmp_path / "pv"], capture_output=True, text=True, close_fds=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"pv_header.pv_uuid {ONE.replace('-', '')}" in done.stdout
    assert "# vgname vg seqno 1" in done.stdout
    assert "invalid" not in done.stdout.lower()
