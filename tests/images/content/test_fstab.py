"""Lines of an fstab are understood, and what they mean is found, missing, elsewhere, or not to be told."""

from __future__ import annotations

import pytest

from sealift.images.content.fstab import Meaning, find_device, hiding, parse_fstab
from sealift.images.file_systems.lvm import LinearVolume
from sealift.images.file_systems.signatures import Content
from sealift.images.file_systems.volumes import Volume

EMPTY = LinearVolume([], name="empty")


def volume(name: str, **fields: object) -> Volume:
    return Volume(**{"name": name, "region": EMPTY, "disk": 0, "content": Content(kind="ext"), **fields})  # type: ignore[arg-type]


ROOT = volume(
    "root",
    content=Content(kind="ext", uuid="0a-b1", label="Root"),
    part_uuid="cafe0001-01",
    part_label="system",
    devices=("/dev/xvda1", "/dev/sda1"),
)
ESP = volume("esp", content=Content(kind="vfat", uuid="1234-ABCD"))
HOME = volume("vg/home", disk=None, devices=("/dev/mapper/vg-home", "/dev/vg/home"))
ALL = (ROOT, ESP, HOME)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("UUID=0A-b1", ROOT),
        ('UUID="0a-b1"', ROOT),
        ("LABEL=Root", ROOT),
        ("PARTUUID=CAFE0001-01", ROOT),
        ("PARTLABEL=system", ROOT),
        ("/dev/disk/by-uuid/0a-b1", ROOT),
        ("/dev/disk/by-label/Root", ROOT),
        ("/dev/disk/by-partuuid/cafe0001-01", ROOT),
        ("/dev/disk/by-partlabel/system", ROOT),
        ("/dev/xvda1", ROOT),
        ("UUID=1234-ABCD", ESP),
        ("/dev/mapper/vg-home", HOME),
        ("/dev/vg/home", HOME),
    ],
)
def test_what_is_found(device: str, expected: Volume) -> None:
    assert find_device(device, ALL, letters=["a"]) == (Meaning.FOUND, expected)


@pytest.mark.parametrize(
    ("device", "letters", "meaning"),
    [
        ("UUID=77", ["a"], Meaning.MISSING),
        ("LABEL=root", ["a"], Meaning.MISSING),
        ("LABEL=", ["a"], Meaning.MISSING),
        ("PARTUUID=cafe0001-02", ["a"], Meaning.MISSING),
        ("/dev/xvda7", ["a"], Meaning.MISSING),
        ("/dev/sdc1", ["a"], Meaning.MISSING),
        ("/dev/sdc1", ["a", ""], Meaning.UNKNOWN),
        ("/dev/mapper/vg-var", ["a"], Meaning.MISSING),
        ("/dev/vg/var", ["a"], Meaning.MISSING),
        ("/dev/other/var", ["a"], Meaning.UNKNOWN),
        ("/dev/md0", ["a"], Meaning.UNKNOWN),
        ("/dev/nvme0n1p1", ["a"], Meaning.UNKNOWN),
        ("tmpfs", ["a"], Meaning.ELSEWHERE),
        ("nas:/export", ["a"], Meaning.ELSEWHERE),
    ],
)
def test_what_is_not_found(device: str, letters: list[str], meaning: Meaning) -> None:
    assert find_device(device, ALL, letters=letters) == (meaning, None)


def test_what_may_be_in_something_that_is_not_read_is_not_called_missing() -> None:
    luks = volume("crypt", content=Content(kind="luks"))
    assert hiding([*ALL, luks]) == ["crypt"]
    for device in ("UUID=77", "LABEL=x", "/dev/mapper/vg-var"):
        assert find_device(device, [*ALL, luks], letters=["a"])[0] is Meaning.UNKNOWN
    assert find_device("/dev/xvda7", [*ALL, luks], letters=["a"])[0] is Meaning.MISSING


def test_lines() -> None:
    lines = parse_fstab(
        "# comment\n\n"
        "UUID=1 / ext4 errors=remount-ro 0 1\n"
        "/dev/xvdb1 swap swap defaults 0 0\n"
        "LABEL=with\\040space /mnt/a\\040b/ xfs nofail,noatime 0 2\n"
        "//nas/share /mnt/nas cifs username=me,password=hidden,_netdev 0 0\n"
        "https://me:hidden@dav/x /mnt/dav davfs noauto\n"
        "/srv /export none bind\n"
        "proc /proc\n"
        "alone\n"
    )
    assert [(line.device, line.mount_point) for line in lines] == [
        ("UUID=1", "/"),
        ("/dev/xvdb1", "swap"),
        ("LABEL=with space", "/mnt/a b"),
        ("//nas/share", "/mnt/nas"),
        ("https://me:hidden@dav/x", "/mnt/dav"),
        ("/srv", "/export"),
        ("proc", "/proc"),
    ]
    assert [line.optional for line in lines] == [False, False, True, True, True, False, False]
    assert [line.swap for line in lines][:2] == [False, True]
    assert [line.network for line in lines] == [False, False, False, True, True, False, False]
    assert lines[5].bind
    assert (lines[6].type, lines[6].options) == ("auto", ("defaults",))
    assert lines[0].shown_options == ["errors=remount-ro"]
    assert lines[3].shown_options == ["_netdev"]
    assert lines[4].shown_device == "https://dav/x"
    assert "hidden" not in " ".join(str((line.shown_device, line.shown_options)) for line in lines)


def test_only_so_many_lines_are_read() -> None:
    assert len(parse_fstab("a b\n" * 5000)) == 1000
