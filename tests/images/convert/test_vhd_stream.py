"""VHDs in one pass: dynamic ones byte for byte as the writer of files makes them, fixed ones as Azure takes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from sealift.images import vhd
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.flat_stream import FlatWriter, fixed_vhd_writer
from sealift.images.convert.pieces import LARGEST_HEAD, FileSink
from sealift.images.convert.run import convert
from sealift.images.convert.vhd_stream import DynamicVhdWriter
from sealift.images.proof import prove_image
from sealift.images.source import FileSource
from sealift.images.vhd_writer import write_dynamic_vhd, write_fixed_vhd
from sealift.images.virtual_disk import RawDisk, open_disk
from tests.images.convert.samples import MIB, MIXED_SIZE, PiecesDisk, assert_same_disk, mixed_disk, qemu_img

IDENTITY = UUID("0f6e0f1e-7c5d-4a53-9a39-6f1c2be0a7d4")
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_dynamic_vhd_is_the_one_that_is_written_to_a_file(mixed: dict[str, Path], tmp_path: Path) -> None:
    write_dynamic_vhd(raw=mixed["raw"], out=tmp_path / "file.vhd", uuid=IDENTITY, timestamp=CREATED)
    writer = DynamicVhdWriter(size=MIXED_SIZE, identity=IDENTITY, created=CREATED)
    with FileSource(mixed["raw"]) as source:
        done = convert(RawDisk(source), writer=writer, sink=FileSink(tmp_path / "stream.vhd"))
    assert (tmp_path / "stream.vhd").read_bytes() == (tmp_path / "file.vhd").read_bytes()
    assert done.size <= writer.largest(done.stored)


def test_a_fixed_vhd_is_the_one_that_is_written_to_a_file(mixed: dict[str, Path], tmp_path: Path) -> None:
    write_fixed_vhd(raw=mixed["raw"], out=tmp_path / "file.vhd", uuid=IDENTITY, timestamp=CREATED)
    writer = fixed_vhd_writer(size=MIXED_SIZE, identity=IDENTITY, created=CREATED)
    with FileSource(mixed["raw"]) as source:
        done = convert(RawDisk(source), writer=writer, sink=FileSink(tmp_path / "stream.vhd"))
    assert (tmp_path / "stream.vhd").read_bytes() == (tmp_path / "file.vhd").read_bytes()
    assert done.size == writer.largest(0) == MIXED_SIZE + 512


def test_a_disk_is_filled_up_to_whole_mebibytes(mixed: dict[str, Path], tmp_path: Path) -> None:
    disk = PiecesDisk(mixed_disk(), size=MIXED_SIZE)
    writer = fixed_vhd_writer(size=13 * MIB, identity=IDENTITY, creator=b"win ")
    done = convert(disk, writer=writer, sink=FileSink(tmp_path / "azure.vhd"))
    assert (done.virtual_size, done.filled_up, done.size) == (13 * MIB, MIB - 3 * 512, 13 * MIB + 512)
    assert done.digest != done.source_digest
    with FileSource(tmp_path / "azure.vhd") as source:
        proof = prove_image(source, expected_capacity_bytes=None)
        footer = vhd.VhdFooter.unpack(source.read(13 * MIB, 512))
    assert (proof.format, proof.virtual_size) == ("vhd-fixed", 13 * MIB)
    assert (footer.disk_type, footer.current_size, footer.original_size) == (2, 13 * MIB, 13 * MIB)
    assert (footer.data_offset, footer.created_at, footer.uuid) == (vhd.NO_OFFSET, vhd.EPOCH, IDENTITY)
    assert (footer.cylinders, footer.heads, footer.sectors_per_track) == vhd.geometry_for(13 * MIB)
    told = json.loads(qemu_img("info", "--output=json", "-f", "vpc", tmp_path / "azure.vhd").stdout)
    assert told["virtual-size"] == 13 * MIB
    assert_same_disk(mixed["raw"], "raw", tmp_path / "azure.vhd", "vpc")


def test_blocks_of_zeros_that_the_source_stores_are_left_out(tmp_path: Path) -> None:
    disk = PiecesDisk({0: bytes(4 * MIB) + b"x", 8 * MIB: bytes(2 * MIB)}, size=16 * MIB)
    writer = DynamicVhdWriter(size=disk.size, identity=IDENTITY)
    done = convert(disk, writer=writer, sink=FileSink(tmp_path / "d.vhd"))
    assert done.stored == 1
    with FileSource(tmp_path / "d.vhd") as source:
        assert list(open_disk(source).extents()) == [(4 * MIB, 6 * MIB)]


@pytest.mark.parametrize("tail", [512, 65536 + 512, MIB, 2 * MIB - 512])
def test_a_last_block_may_reach_beyond_the_disk(tmp_path: Path, tail: int) -> None:
    size = 6 * MIB + tail
    disk = PiecesDisk({size - 512: b"end!" * 128}, size=size)
    convert(disk, writer=DynamicVhdWriter(size=size, identity=IDENTITY), sink=FileSink(tmp_path / "d.vhd"))
    with FileSource(tmp_path / "d.vhd") as source:
        prove_image(source, expected_capacity_bytes=size)
        assert open_disk(source).read(size - 600, 600) == bytes(88) + b"end!" * 128


def test_what_comes_last_of_the_largest_vhd_fits_into_a_part() -> None:
    assert DynamicVhdWriter(size=vhd.MAX_VIRTUAL_SIZE, identity=IDENTITY).head <= LARGEST_HEAD


@pytest.mark.parametrize(
    ("size", "words"), [(0, "whole sectors"), (513, "whole sectors"), (vhd.MAX_VIRTUAL_SIZE + 512, "2040 GiB")]
)
def test_disks_that_no_vhd_holds_are_refused(size: int, words: str) -> None:
    for make in (DynamicVhdWriter, fixed_vhd_writer):
        with pytest.raises(ConversionError, match=words):
            make(size=size, identity=IDENTITY)
    with pytest.raises(ValueError, match="four bytes"):
        DynamicVhdWriter(size=512, identity=IDENTITY, creator=b"long name")
    with pytest.raises(ConversionError, match="a byte or more"):
        FlatWriter(size=0)


@pytest.mark.parametrize("size", [1, 511, 65536, 3 * MIB + 1])
def test_a_raw_disk_has_any_length_and_holes(tmp_path: Path, size: int) -> None:
    disk = PiecesDisk({size - 1: b"!"}, size=size)
    done = convert(disk, writer=FlatWriter(size=size), sink=FileSink(tmp_path / "d.raw"))
    assert (tmp_path / "d.raw").read_bytes() == bytes(size - 1) + b"!"
    assert (done.size, done.stored) == (size, 1)
    assert (tmp_path / "d.raw").stat().st_blocks * 512 <= 128 * 1024
