"""The disk behind an image: the same bytes whatever the format, and which of them are stored."""

from __future__ import annotations

import itertools
import random
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.images import paged, vhd
from sealift.images.paged import PagedTable
from sealift.images.source import BytesSource, FileSource, ImageFormatError
from sealift.images.virtual_disk import ImageKind, RawDisk, image_kind, open_disk
from tests.images.convert.samples import MIB, qemu_img, write_disk
from tests.images.vmdk_files import DESCRIPTOR, stream_optimized

KINDS = {
    "vpc-dynamic": ImageKind.VHD,
    "vpc-fixed": ImageKind.VHD_FIXED,
    "vmdk-sparse": ImageKind.VMDK_SPARSE,
    "vmdk-stream": ImageKind.VMDK,
    "qcow2-v3": ImageKind.QCOW2,
    "qcow2-v2": ImageKind.QCOW2,
    "qcow2-compressed": ImageKind.QCOW2,
    "qcow2-small-clusters": ImageKind.QCOW2,
    "raw": ImageKind.RAW,
    "sealift": ImageKind.VHD,
}


@pytest.fixture(params=KINDS)
def producer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_image_gives_the_same_disk(mixed: dict[str, Path], producer: str) -> None:
    raw = mixed["raw"].read_bytes()
    with FileSource(mixed[producer]) as source:
        assert image_kind(source) is KINDS[producer]
        disk = open_disk(source, raw=producer == "raw")
        assert disk.size == len(raw)
        assert disk.read(0, disk.size) == raw
        extents = list(disk.extents())
        assert all(one[1] < other[0] for one, other in itertools.pairwise(extents))
        stored = bytearray(len(raw))
        for start, end in extents:
            assert 0 <= start < end <= len(raw)
            stored[start:end] = raw[start:end]
        assert stored == raw, "what is not stored is zeros"
        if producer not in ("vpc-fixed", "raw"):
            assert sum(end - start for start, end in extents) < len(raw)
        chance = random.Random(3)
        for _ in range(30):
            at = chance.randrange(len(raw))
            length = chance.randrange(min(600_000, len(raw) - at) + 1)
            assert disk.read(at, length) == raw[at : at + length]


def test_many_threads_may_read(mixed: dict[str, Path], producer: str) -> None:
    raw = mixed["raw"].read_bytes()
    with FileSource(mixed[producer]) as source, ThreadPoolExecutor(6) as pool:
        disk = open_disk(source, raw=producer == "raw")
        starts = list(range(0, len(raw), 300_001))
        random.Random(5).shuffle(starts)
        pieces = pool.map(lambda at: disk.read(at, min(300_001, len(raw) - at)), starts)
        for at, piece in zip(starts, pieces, strict=True):
            assert piece == raw[at : at + 300_001]


def test_neighbouring_blocks_come_with_one_request(mixed: dict[str, Path]) -> None:
    for name in ("sealift", "vmdk-stream", "qcow2-v3", "qcow2-compressed"):
        with FileSource(mixed[name]) as source:
            disk = open_disk(source)
            disk.read(0, 65536)
            before = source.requests
            disk.read(0, 2 * MIB)
            assert source.requests - before <= 2, name


def test_holes_of_a_raw_file_are_not_stored(tmp_path: Path) -> None:
    path = write_disk(tmp_path / "d.raw", {8 * MIB: b"x" * 4096}, size=32 * MIB)
    with FileSource(path) as source:
        assert sum(end - start for start, end in open_disk(source, raw=True).extents()) <= MIB
        with pytest.raises(ImageFormatError, match="say that it is raw"):
            open_disk(source)
    assert list(RawDisk(BytesSource(b"abc")).extents()) == [(0, 3)]
    with pytest.raises(ImageFormatError, match="0 bytes"):
        open_disk(BytesSource(b""), raw=True)
    with pytest.raises(ValueError, match="is closed"):
        list(source.data_ranges())


def test_what_holds_only_a_part_of_a_disk_is_refused(tmp_path: Path) -> None:
    disk = bytes(MIB)
    child = stream_optimized(disk, descriptor=DESCRIPTOR.replace("parentCID=ffffffff", "parentCID=12345678"))
    with pytest.raises(ImageFormatError, match="names a parent"):
        open_disk(BytesSource(bytes(child)))
    several = stream_optimized(disk, descriptor=DESCRIPTOR + 'RW 10 SPARSE "second.vmdk"\n')
    with pytest.raises(ImageFormatError, match="2 extents"):
        open_disk(BytesSource(bytes(several)))
    extent = bytearray(stream_optimized(disk))
    struct.pack_into("<QQ", extent, 28, 0, 0)
    with pytest.raises(ImageFormatError, match="one extent of a disk"):
        open_disk(BytesSource(bytes(extent)))
    base = tmp_path / "base.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", tmp_path / "child.qcow2")
    with FileSource(tmp_path / "child.qcow2") as source, pytest.raises(ImageFormatError, match="backing file"):
        open_disk(source)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"vhdxfile" + bytes(600), ImageKind.VHDX),
        (b"# Disk DescriptorFile\nversion=1\n", ImageKind.VMDK_DESCRIPTOR),
        (bytes(64) + b"\x7f\x10\xda\xbe" + bytes(600), ImageKind.VDI),
        (b"KDMV", ImageKind.VMDK_SPARSE),
        (b"", ImageKind.RAW),
    ],
)
def test_other_images_are_known_by_their_beginning(data: bytes, kind: ImageKind) -> None:
    assert image_kind(BytesSource(data)) is kind
    with pytest.raises(ImageFormatError):
        open_disk(BytesSource(data))


def test_a_disk_of_no_size_is_refused(images: Any) -> None:
    data = bytearray(images.fixed.read_bytes()[-512:])
    footer = vhd.VhdFooter.unpack(bytes(data))
    for size in (0, 100):
        made = vhd.VhdFooter(**{**vars(footer), "current_size": size}).pack()
        with pytest.raises(ImageFormatError, match=f"a disk of {size} bytes"):
            open_disk(BytesSource(bytes(1024) + made))


@given(count=st.integers(0, 500), per=st.sampled_from([16, 64]), data=st.data())
def test_a_table_read_by_pages_is_the_table(count: int, per: int, data: st.DataObject) -> None:
    chance = random.Random(count)
    numbers = [chance.getrandbits(32) for _ in range(count)]
    packed = struct.pack(f">{count}I", *numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paged, "PAGE", per)
        patch.setattr(paged, "KEPT", 2)
        table = PagedTable(BytesSource(b"head" + packed), at=4, count=count, kind="I", order="big")
        assert len(table) == count
        assert list(table) == numbers
        for index in data.draw(st.lists(st.integers(0, max(0, count - 1)), max_size=8)) if count else []:
            assert table[index] == numbers[index]
        for index in (-1, count):
            with pytest.raises(IndexError):
                table[index]


class Sparse:
    """A source that is mostly zeros, as large as it says."""

    def __init__(self, pieces: dict[int, bytes], size: int) -> None:
        self._pieces = pieces
        self.size = size
        self.bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        self.bytes_read += length
        found = bytearray(length)
        for at, data in self._pieces.items():
            start, end = max(at, offset), min(at + len(data), offset + length)
            if start < end:
                found[start - offset : end - offset] = data[start - at : end - at]
        return bytes(found)


def test_a_table_as_long_as_a_file_allows_is_not_read_into_memory() -> None:
    """Blocks of 512 bytes, so that the BAT of a disk of 64 GiB has half a gibibyte: opening it reads none of it."""
    size, blocks = 64 * 2**30, 2**27
    footer = vhd.VhdFooter(
        data_offset=512,
        creator_app=b"win ",
        original_size=size,
        current_size=size,
        cylinders=1,
        heads=1,
        sectors_per_track=1,
        disk_type=3,
        uuid=UUID(int=7),
    ).pack()
    header = vhd.DynamicHeader(table_offset=2048, max_table_entries=blocks, block_size=512).pack()
    source = Sparse({0: footer, 512: header, 2**30 - 512: footer}, 2**30)
    disk = open_disk(source)
    assert source.bytes_read < MIB
    assert len(disk.read(10 * 2**30, 4096)) == 4096
    assert source.bytes_read < 2 * MIB


def test_tables_are_read_ahead_of_extents_and_not_twice(tmp_path: Path) -> None:
    out = tmp_path / "large.vmdk"
    qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicSparse", out, "64G")
    with FileSource(out) as source:
        disk = open_disk(source)
        before = source.requests
        assert list(disk.extents()) == []
        assert source.requests - before <= 2048 / 64 + 2
