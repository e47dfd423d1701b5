"""What the writer makes is exact, small, and the same each time; random layouts come back through the reader."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.images import vhd
from sealift.images.proof import prove_vhd
from sealift.images.source import FileSource
from sealift.images.sparse import sparse_digest
from sealift.images.vhd_writer import sector_bitmap, write_dynamic_vhd, write_fixed_vhd

MIB = 1024 * 1024
GIB = 1024**3


def _arguments(images: Any) -> dict[str, Any]:
    with FileSource(images.dynamic) as source:
        footer = vhd.VhdReader(source).footer
    return {"uuid": footer.uuid, "timestamp": footer.created_at}


def test_layout_of_a_dynamic_disk(images: Any) -> None:
    data = images.dynamic.read_bytes()
    stride = 512 + 2 * MIB
    # Data lies in blocks 0, 1, 10, 11, 12 and 31 of 32; the BAT takes one sector.
    assert len(data) == 512 + 1024 + 512 + 6 * stride + 512
    assert data[:512] == data[-512:]
    bat = vhd.unpack_bat(data[1536:2048])
    assert {number: entry for number, entry in enumerate(bat) if entry != vhd.UNALLOCATED} == {
        number: 4 + place * stride // 512 for place, number in enumerate((0, 1, 10, 11, 12, 31))
    }
    footer = vhd.VhdFooter.unpack(data[-512:])
    assert (footer.creator_app, footer.disk_type, footer.data_offset) == (b"slft", 3, 512)
    assert footer.original_size == footer.current_size == 64 * MIB


def test_layout_of_a_fixed_disk(images: Any) -> None:
    data = images.fixed.read_bytes()
    assert data[:-512] == images.raw.read_bytes()
    footer = vhd.VhdFooter.unpack(data[-512:])
    assert (footer.disk_type, footer.data_offset, footer.current_size) == (2, vhd.NO_OFFSET, 64 * MIB)
    assert images.fixed.stat().st_blocks * 512 < 12 * MIB, "zeros should be holes"


def test_bitmap_bits_are_the_sectors_with_data(images: Any) -> None:
    raw, data = images.raw.read_bytes(), images.dynamic.read_bytes()
    bat = vhd.unpack_bat(data[1536 : 1536 + 128])
    for number, entry in enumerate(bat):
        if entry == vhd.UNALLOCATED:
            assert not any(raw[number * 2 * MIB : (number + 1) * 2 * MIB])
            continue
        bits = int.from_bytes(data[entry * 512 : entry * 512 + 512], "big")
        expected = 0
        for sector in range(4096):
            at = number * 2 * MIB + sector * 512
            expected = expected << 1 | any(raw[at : at + 512])
        assert bits == expected


def test_bitmap_of_a_short_block() -> None:
    assert sector_bitmap(bytes(512) + b"x" * 512 + bytes(4096), size=512) == b"\x40".ljust(512, b"\0")


def test_same_input_same_bytes_however_zeros_are_stored(images: Any, tmp_path: Path) -> None:
    full = tmp_path / "full.raw"
    full.write_bytes(images.raw.read_bytes())
    assert full.stat().st_blocks > images.raw.stat().st_blocks
    for write, good in ((write_dynamic_vhd, images.dynamic), (write_fixed_vhd, images.fixed)):
        write(raw=full, out=tmp_path / "again.vhd", **_arguments(images))
        assert (tmp_path / "again.vhd").read_bytes() == good.read_bytes()


def test_an_existing_file_is_replaced(images: Any, tmp_path: Path) -> None:
    out = tmp_path / "old.vhd"
    out.write_bytes(b"old" * 10 * MIB)
    info = write_dynamic_vhd(raw=images.raw, out=out, **_arguments(images))
    assert out.read_bytes() == images.dynamic.read_bytes()
    assert (info.size, info.virtual_size, info.stored_blocks) == (out.stat().st_size, 64 * MIB, 6)


@pytest.mark.parametrize("size", [512, 100 * 512, 2 * MIB - 512, 2 * MIB + 512, 25 * GIB, 25 * 10**9, 2040 * GIB])
def test_any_size_is_kept_exactly(tmp_path: Path, size: int) -> None:
    raw, out = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    with raw.open("wb") as file:
        file.truncate(size)
        file.seek(size - 512)
        file.write(b"e" * 512)
    info = write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=1), timestamp=vhd.EPOCH)
    assert (info.virtual_size, info.stored_blocks) == (size, 1)
    with FileSource(out) as source:
        reader = vhd.VhdReader(source)
        assert reader.size == size
        assert reader.read(size - 512, 512) == b"e" * 512
        proof = prove_vhd(source, expected_capacity_bytes=size)
    assert proof.virtual_size == size
    table = -(-vhd.blocks_for(size, 2 * MIB) * 4 // 512) * 512
    assert out.stat().st_size == 1536 + table + 512 + 2 * MIB + 512


def test_geometry_never_makes_a_reader_cut_the_disk(tmp_path: Path) -> None:
    raw, out = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    for size, exact in ((25 * GIB, False), (963 * 8 * 17 * 512, True)):
        with raw.open("wb") as file:
            file.truncate(size)
        write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=1), timestamp=vhd.EPOCH)
        footer = vhd.VhdFooter.unpack(out.read_bytes()[-512:])
        geometry = (footer.cylinders, footer.heads, footer.sectors_per_track)
        assert geometry == (vhd.geometry_for(size) if exact else vhd.MAX_GEOMETRY)
        write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=1), timestamp=vhd.EPOCH, creator_app=b"tap\0")
        footer = vhd.VhdFooter.unpack(out.read_bytes()[-512:])
        assert (footer.cylinders, footer.heads, footer.sectors_per_track) == vhd.geometry_for(size)


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        (0, {}, "0 bytes"),
        (1000, {}, "multiple of 512"),
        (2040 * GIB + 512, {}, "2040 GiB"),
        (MIB, {"creator_app": b"long name"}, "four bytes"),
        (MIB, {"block_size": 3 * MIB}, "power of two"),
        (MIB, {"block_size": 512}, "power of two"),
        (MIB, {"timestamp": vhd.EPOCH.replace(year=1990)}, "2000 to 2136"),
    ],
)
def test_what_a_vhd_cannot_hold_is_refused(tmp_path: Path, size: int, changes: dict[str, Any], message: str) -> None:
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(size)
    arguments = {"uuid": UUID(int=1), "timestamp": vhd.EPOCH} | changes
    with pytest.raises(ValueError, match=message):
        write_dynamic_vhd(raw=raw, out=tmp_path / "out.vhd", **arguments)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Return (size of the disk, block size, pieces as (sector, sectors, seed of the bytes))."""
    sectors = draw(st.integers(1, 3 * MIB // 512))
    block_size = draw(st.sampled_from([4096, 64 * 1024, MIB, 2 * MIB]))
    pieces = draw(
        st.lists(st.tuples(st.integers(0, sectors - 1), st.integers(1, 300), st.integers(0, 2**16)), max_size=12)
    )
    return sectors * 512, block_size, pieces


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layout=layouts())
def test_random_layouts_come_back(tmp_path: Path, layout: tuple[int, int, list[tuple[int, int, int]]]) -> None:
    size, block_size, pieces = layout
    raw, out = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    with raw.open("wb") as file:
        file.truncate(size)
        for sector, count, seed in pieces:
            file.seek(sector * 512)
            # Every fourth piece is zeros that are written out.
            length = min(count * 512, size - sector * 512)
            file.write(bytes(length) if seed % 4 == 0 else random.Random(seed).randbytes(length))
    contents = raw.read_bytes()
    info = write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=2), timestamp=vhd.EPOCH, block_size=block_size)
    used = {at // block_size for at in range(0, size, 512) if contents[at : at + 512] != bytes(512)}
    assert info.stored_blocks == len(used)
    with FileSource(out) as source, raw.open("rb") as file:
        reader = vhd.VhdReader(source)
        assert reader.read(0, size) == contents
        assert reader.digest() == sparse_digest(file.fileno(), size)
        assert prove_vhd(source, expected_capacity_bytes=size).virtual_size == size
    write_fixed_vhd(raw=raw, out=out, uuid=UUID(int=2), timestamp=vhd.EPOCH)
    assert out.read_bytes()[:-512] == contents
