"""What lies on a partition is named by its magic number, with the names that an fstab may have for it."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images.file_systems.signatures import Content, damaged_remains, disk_signature, hibernated, recognise
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.source import BytesSource
from tests.images.servers import MIB, Patched, fat16, mbr_disk

ID = UUID("12345678-1234-4234-8234-123456789abc")


def region(pieces: dict[int, bytes], *, size: int = MIB) -> CachedDisk:
    data = bytearray(size)
    for at, piece in pieces.items():
        data[at : at + len(piece)] = piece
    return CachedDisk(BytesSource(bytes(data)), reading=Reading(budget=64 * MIB), name="it")


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ({}, Content(kind="blank")),
        ({100: b"x"}, Content(kind="unknown")),
        (
            {0: b"XFSB", 32: ID.bytes, 108: b"xlabel\0"},
            Content(kind="xfs", uuid=str(ID), label="xlabel"),
        ),
        (
            {1080: b"\x53\xef", 1024 + 0x68: ID.bytes, 1024 + 0x78: b"elabel\0"},
            Content(kind="ext", uuid=str(ID), label="elabel"),
        ),
        (
            {4086: b"SWAPSPACE2", 1036: ID.bytes, 1052: b"SWAP-xvdb1"},
            Content(kind="swap", uuid=str(ID), label="SWAP-xvdb1"),
        ),
        (
            {65600: b"_BHRfS_M", 65568: ID.bytes, 65835: b"blabel"},
            Content(kind="btrfs", uuid=str(ID), label="blabel"),
        ),
        ({0: b"LUKS\xba\xbe\0\2", 168: str(ID).encode()}, Content(kind="luks", uuid=str(ID))),
        ({512: b"LABELONE"}, Content(kind="lvm")),
        ({1536: b"LABELONE"}, Content(kind="lvm")),
        ({3: b"NTFS    ", 72: bytes(range(8))}, Content(kind="ntfs", uuid="0706050403020100")),
        ({3: b"EXFAT   "}, Content(kind="exfat")),
        ({0: b"\xfc\x4e\x2b\xa9"}, Content(kind="raid")),
        ({4096: b"\xfc\x4e\x2b\xa9"}, Content(kind="raid")),
        ({MIB - 65536: b"\xfc\x4e\x2b\xa9"}, Content(kind="raid")),
        ({32769: b"CD001"}, Content(kind="iso9660")),
    ],
)
def test_what_is_known_is_named(pieces: dict[int, bytes], expected: Content) -> None:
    assert recognise(region(pieces)) == expected


def test_fat_is_known_by_more_than_a_boot_sector() -> None:
    assert recognise(region({0: fat16({})[:512]})) == Content(kind="vfat", uuid="1234-ABCD", label="EFI")
    assert recognise(region({0: mbr_disk([], size=MIB)[:512]})).kind == "unknown"


def test_small_regions_are_looked_at_too() -> None:
    for size in (0, 1, 100, 512, 4096):
        assert recognise(region({}, size=size)).kind == "blank"
        assert damaged_remains(region({}, size=size)) is None
        assert not hibernated(region({}, size=size))


def test_a_server_put_to_sleep() -> None:
    assert hibernated(region({4086: b"S1SUSPEND\0"}))
    assert recognise(region({4086: b"S1SUSPEND\0"})).kind == "swap"
    assert not hibernated(region({4086: b"SWAPSPACE2"}))


def test_the_number_of_a_disk() -> None:
    assert disk_signature(mbr_disk([], size=MIB)) == 0xCAFE_0001


@settings(max_examples=60, deadline=None)
@given(changes=st.dictionaries(st.integers(0, 70_000), st.integers(0, 255), max_size=40), size=st.integers(0, 80_000))
def test_no_bytes_stop_the_naming(changes: dict[int, int], size: int) -> None:
    data = random.Random(size).randbytes(size)
    source = Patched(data, {at: value for at, value in changes.items() if at < size})
    cached = CachedDisk(source, reading=Reading(budget=64 * MIB), name="it")
    assert recognise(cached).kind
    damaged_remains(cached)
