"""Level L2: every byte is read once, every damage is caught, and what only all bytes show is looked at."""

from __future__ import annotations

import hashlib
import itertools
import random
import tracemalloc
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images import vhd
from sealift.images.proof import DiskProof, KnownDigests, ProofFailed, ProofLevel, prove_image
from sealift.images.source import BytesSource, FileSource
from sealift.images.verdict import Checks
from sealift.images.vhd_bytes import VhdBytes, unclaimed
from tests.images.vmdk_files import stream_optimized

MIB = 2**20


def prove(
    data: bytes, *, known: KnownDigests | None = None, boot_disk: bool = False, capacity: int | None = None
) -> DiskProof:
    return prove_image(
        BytesSource(data), expected_capacity_bytes=capacity, boot_disk=boot_disk, level=ProofLevel.L2, known=known
    )


def sha256(data: bytes) -> KnownDigests:
    return KnownDigests(sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_every_byte_of_a_good_image_is_read_once(images: Any, kind: str) -> None:
    path = getattr(images, kind)
    passed: list[int] = []
    with FileSource(path) as source:
        before = prove_image(source, expected_capacity_bytes=None)
        proof = prove_image(
            source, expected_capacity_bytes=None, level=ProofLevel.L2, boot_disk=True, passed=passed.append
        )
    assert proof.level is ProofLevel.L2
    assert proof.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sum(passed) == path.stat().st_size
    # The second reading of the tables, to find the blocks, is all that comes on top.
    assert 0 <= proof.bytes_read - before.bytes_read - path.stat().st_size < 4096
    names = [check.id for check in proof.checks]
    assert names[: len(before.checks)] == [check.id for check in before.checks]
    assert "bytes" in names
    assert "sha256" in names
    assert ("bitmaps.all" in names) == (kind == "dynamic")


def test_each_damage_that_the_structure_does_not_show_is_caught(images: Any, damage: Any) -> None:
    good = (images.fixed if damage.fixed else images.dynamic).read_bytes()
    with pytest.raises(ProofFailed) as failure:
        prove(damage.apply(images), known=sha256(good), boot_disk=damage.boot_disk, capacity=64 * MIB)
    if damage.check is None:
        assert "sha256" in [check.id for check in failure.value.checks if not check.passed]
    elif damage.name not in ("QCOW2", "VMDK"):  # which are taken for such images here
        assert failure.value.check_id == damage.check


def test_a_bitmap_that_contradicts_its_block_is_told_of_without_any_digest(images: Any, corpus: Any) -> None:
    proof = prove(corpus["bit in a bitmap"].apply(images))
    detail = next(one for one in proof.checks if one.id == "bitmaps.all").detail
    assert "1 blocks hold data in sectors that their bitmaps do not claim" in detail


def test_bitmaps_may_claim_a_whole_block_or_only_what_was_written(images: Any) -> None:
    """As QEMU does, and as XenServer's blktap does; our own writer claims what is not zeros."""
    data = bytearray(images.dynamic.read_bytes())
    places = list(vhd.VhdReader(BytesSource(bytes(data))).block_places())
    assert any(list(unclaimed(bytes(data[at : at + 512]), 2 * MIB)) for at in places)
    assert prove(bytes(data), boot_disk=True).level is ProofLevel.L2
    for at in places:
        data[at : at + 512] = b"\xff" * 512
    assert prove(bytes(data), boot_disk=True).level is ProofLevel.L2


def test_a_disk_that_holds_nothing_is_no_boot_disk(images: Any, tmp_path: Path) -> None:
    """Everything that was written is zeros but the partition table, which the structure needs; then not even that."""
    data = bytearray(images.fixed.read_bytes())
    data[: len(data) - 512] = bytes(len(data) - 512)
    assert prove(bytes(data)).level is ProofLevel.L2
    proof = prove(bytes(data))
    assert next(one for one in proof.checks if one.id == "zeros").detail.startswith("0 bytes of data, ")
    source = BytesSource(bytes(data))
    watch = VhdBytes(source, boot_disk=True)
    for start, end in watch.spans():
        watch.look(start, source.read(start, end - start))
    checks = Checks()
    watch.conclude(checks)
    assert not checks.made[-1].passed
    assert "the server starts from this disk, which holds nothing" in checks.made[-1].detail


def test_stored_blocks_of_zeros_are_told_of(images: Any, corpus: Any) -> None:
    proof = prove(corpus["data of a block zeroed"].apply(images))
    detail = next(one for one in proof.checks if one.id == "zeros").detail
    assert "1 of 6 stored blocks hold only zeros" in detail
    assert "the last one" not in detail


def test_a_store_that_gives_fewer_bytes_than_it_has_is_not_believed(images: Any) -> None:
    class Short(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            data = super().read(offset, length)
            return data[:-1] if length > MIB else data

    with pytest.raises(ProofFailed) as failure:
        prove_image(Short(images.dynamic.read_bytes(), name="x"), expected_capacity_bytes=None, level=ProofLevel.L2)
    assert failure.value.check_id == "bytes"


def test_every_grain_of_a_stream_is_inflated(images: Any) -> None:
    good = bytes(stream_optimized(images.raw.read_bytes()))
    proof = prove(good)
    assert proof.sha256 == hashlib.sha256(good).hexdigest()
    assert next(one for one in proof.checks if one.id == "grains.all").detail == "130 compressed grains read"
    # Somewhere in a grain that L1 does not read: the checksum of its stream tells.
    caught = 0
    for at in range(200_000, len(good) - 4096, 300_007):
        damaged = bytearray(good)
        damaged[at] ^= 0x10
        with pytest.raises(ProofFailed) as failure:
            prove(bytes(damaged))
        caught += failure.value.check_id == "grains.all"
    assert caught


def test_another_level_is_not_for_one_image(images: Any) -> None:
    with pytest.raises(ValueError, match="not at L3"):
        prove_image(BytesSource(images.dynamic.read_bytes()), expected_capacity_bytes=None, level=ProofLevel.L3)


@given(st.binary(min_size=1, max_size=64), st.integers(1, 512))
def test_unclaimed_stretches_are_those_of_the_bits(bitmap: bytes, sectors: int) -> None:
    sectors = min(sectors, len(bitmap) * 8)
    found = list(unclaimed(bitmap, sectors * 512))
    claimed = [bool(bitmap[number // 8] & (0x80 >> number % 8)) for number in range(sectors)]
    told = [False] * sectors
    for start, end in found:
        assert start % 512 == end % 512 == 0
        for number in range(start // 512, end // 512):
            assert not told[number]
            told[number] = True
    assert [not one for one in claimed] == told
    assert all(one[1] < other[0] for one, other in itertools.pairwise(found)), "each as long as it can be"


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_spans_cover_a_file_whole_and_cut_no_block(images: Any, data: st.DataObject) -> None:
    """Blocks anywhere, with gaps of any size between them."""
    blocks = sorted(data.draw(st.sets(st.integers(0, 40), max_size=12)))
    stride = 512 + 2 * MIB
    gaps = [data.draw(st.sampled_from([0, 0, 0, 512, 5 * MIB])) for _ in blocks]
    places, at = [], 2048
    for gap in gaps:
        at += gap
        places.append(at)
        at += stride
    size = at + 512

    watch = VhdBytes(BytesSource(images.dynamic.read_bytes()), boot_disk=False)
    watch._size, watch._footer_at = size, size - 512
    watch._blocks, watch._whole_blocks = places, frozenset(places)
    spans = list(watch.spans())
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))
    assert max(end - start for start, end in spans) <= 9 * MIB
    for place in places:
        assert any(start <= place and place + stride <= end and start in places for start, end in spans)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A fixed image of 256 MiB in a sparse file: reading it takes a few pieces' worth of memory."""
    path = tmp_path / "fixed.vhd"
    size = 256 * MIB
    footer = vhd.VhdFooter(
        creator_app=b"tap\0",
        original_size=size,
        current_size=size,
        cylinders=1,
        heads=1,
        sectors_per_track=1,
        disk_type=vhd.DiskType.FIXED,
        uuid=UUID(int=5),
    )
    with path.open("wb") as file:
        file.write(random.Random(1).randbytes(MIB))
        file.truncate(size)
        file.seek(size)
        file.write(footer.pack())
    tracemalloc.start()
    try:
        with FileSource(path) as source:
            proof = prove_image(source, expected_capacity_bytes=None, level=ProofLevel.L2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert proof.level is ProofLevel.L2
    assert peak < 48 * MIB
