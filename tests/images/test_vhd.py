"""Structures against bytes written down from the specification, and the reader against broken files."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from sealift.images import vhd
from sealift.images.source import BytesSource, FileSource, ShortReadError

GIB = 1024**3
FOOTER = vhd.VhdFooter(
    data_offset=512,
    timestamp=0x0102_0304,
    creator_app=b"win ",
    original_size=3 * GIB,
    current_size=2 * GIB,
    cylinders=4161,
    heads=16,
    sectors_per_track=63,
    disk_type=3,
    uuid=UUID("00112233-4455-6677-8899-aabbccddeeff"),
)


def test_footer_bytes() -> None:
    data = FOOTER.pack()
    assert len(data) == 512
    assert data[:64].hex(" ", -4) == (
        "636f6e65 63746978 00000002 00010000 00000000 00000200 01020304 77696e20 00010000 5769326b "
        "00000000 c0000000 00000000 80000000 1041103f 00000003"
    )
    assert data[68:86].hex() == "00112233445566778899aabbccddeeff" + "0000"
    assert data[86:] == bytes(426)
    total = sum(data[:64]) + sum(data[68:])
    assert int.from_bytes(data[64:68], "big") == 0xFFFF_FFFF - total == vhd.checksum(data)


def test_footer_round_trip() -> None:
    data = FOOTER.pack()
    read = vhd.VhdFooter.unpack(data)
    assert dataclasses.replace(read, stored_checksum=None) == FOOTER
    assert read.stored_checksum == vhd.checksum(data)
    assert read.pack() == data


def test_dynamic_header_bytes() -> None:
    header = vhd.DynamicHeader(table_offset=1536, max_table_entries=1024, block_size=0x20_0000)
    data = header.pack()
    assert len(data) == 1024
    assert data[:36].hex(" ", -4) == "63787370 61727365 ffffffff ffffffff 00000000 00000600 00010000 00000400 00200000"
    assert data[40:] == bytes(984)
    assert int.from_bytes(data[36:40], "big") == 0xFFFF_FFFF - sum(data[:36]) == vhd.checksum(data)
    assert dataclasses.replace(vhd.DynamicHeader.unpack(data), stored_checksum=None) == header


@pytest.mark.parametrize(
    ("size", "geometry"),
    # Computed by hand from the specification's appendix on CHS.
    [
        (64 * 1024**2, (963, 8, 17)),
        (3 * 1024**2, (90, 4, 17)),
        (1 * GIB, (2080, 16, 63)),
        (25 * GIB, (52012, 16, 63)),
        (100 * GIB, (51400, 16, 255)),
        (2040 * GIB, (65535, 16, 255)),
    ],
)
def test_geometry(size: int, geometry: tuple[int, int, int]) -> None:
    cylinders, heads, per_track = vhd.geometry_for(size)
    assert (cylinders, heads, per_track) == geometry
    assert cylinders * heads * per_track * 512 <= size


def test_timestamps() -> None:
    assert vhd.timestamp_seconds(datetime(2000, 1, 1, 0, 1, tzinfo=UTC)) == 60
    assert dataclasses.replace(FOOTER, timestamp=60).created_at == datetime(2000, 1, 1, 0, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="time zone"):
        vhd.timestamp_seconds(datetime(2020, 1, 1))
    for year in (1999, 2137):
        with pytest.raises(ValueError, match="from 2000 to 2136"):
            vhd.timestamp_seconds(datetime(year, 1, 1, tzinfo=UTC))


def test_creator_is_printable() -> None:
    assert FOOTER.creator == "win "
    assert dataclasses.replace(FOOTER, creator_app=b"tap\0").creator == r"tap\x00"
    assert dataclasses.replace(FOOTER, creator_app=b"\n\xff\x1b.").creator == r"\n\xff\x1b."


@pytest.mark.parametrize(("block", "size"), [(2 * 1024**2, 512), (512 * 1024, 512), (4 * 1024**2, 1024), (4096, 512)])
def test_bitmap_size(block: int, size: int) -> None:
    assert vhd.bitmap_size(block) == size


def test_reader_gives_the_disk(images: Any) -> None:
    raw = images.raw.read_bytes()
    for path in (images.dynamic, images.fixed):
        with FileSource(path) as source:
            reader = vhd.VhdReader(source)
            assert reader.size == len(raw)
            assert reader.read(0, len(raw)) == raw
            assert (
                reader.read(1024 * 1024 - 7, 2 * 1024 * 1024 + 100) == raw[1024 * 1024 - 7 :][: 2 * 1024 * 1024 + 100]
            )
            assert reader.read(len(raw), 0) == b""
            with pytest.raises(ShortReadError, match="virtual disk has 67108864 bytes"):
                reader.read(len(raw) - 1, 2)


def test_reader_reads_only_what_is_stored(images: Any) -> None:
    with FileSource(images.dynamic) as source:
        reader = vhd.VhdReader(source)
        before = source.requests
        assert reader.read(40 * 1024**2, 8 * 1024**2) == bytes(8 * 1024**2)
        assert source.requests == before
        assert sum(end - start for start, end in reader.stored_ranges()) == 6 * 2 * 1024**2


def test_sectors_without_a_bit_read_as_zeros(images: Any) -> None:
    data = bytearray(images.dynamic.read_bytes())
    with FileSource(images.dynamic) as source:
        before = vhd.VhdReader(source).read(1024 * 1024, 4096)
    header = vhd.DynamicHeader.unpack(bytes(data[512:1536]))
    first_block = int.from_bytes(data[header.table_offset : header.table_offset + 4], "big") * 512
    data[first_block + 2048 // 8] = 0b1011_1110  # sectors 2048 to 2055, of which the second and the last go
    after = vhd.VhdReader(BytesSource(bytes(data))).read(1024 * 1024, 4096)
    expected = bytearray(before)
    expected[512:1024] = expected[7 * 512 : 8 * 512] = bytes(512)
    assert after == expected


def test_mask_within_sectors() -> None:
    data = b"\xff" * 1000
    assert vhd.mask_sectors(data, start=300, bitmap=b"\xe0") == data
    masked = vhd.mask_sectors(data, start=300, bitmap=b"\xa0")
    assert masked == b"\xff" * 212 + bytes(512) + b"\xff" * 276


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty file", "at least 512 bytes"),
        ("footer zeroed", "no VHD footer"),
        ("differencing", "differencing"),
        ("reserved disk type", "disk type 6"),
        ("dynamic header outside", "outside the file"),
        ("dynamic header zeroed", "no dynamic header"),
        ("BAT too short", "31 entries"),
        ("BAT outside the file", "the BAT at byte 8589934592"),
        ("fixed, cut in the middle, footer there", "bytes of data"),
    ],
)
def test_reader_refuses(images: Any, corpus: Any, name: str, message: str) -> None:
    with pytest.raises(vhd.VhdFormatError, match=message):
        vhd.VhdReader(BytesSource(corpus[name].apply(images)))
