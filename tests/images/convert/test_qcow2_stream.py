"""qcow2 images in one pass: `qemu-img check` finds neither errors nor leaks, whatever is stored where."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.images import qcow2
from sealift.images.convert.deflate import Deflate
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.pieces import FileSink
from sealift.images.convert.qcow2_stream import Qcow2StreamWriter
from sealift.images.convert.run import convert, prove_result
from sealift.images.source import FileSource
from tests.images.convert.samples import KIB, MIB, PiecesDisk, assert_same_disk, qemu_img, text, write_disk


def written(path: Path, disk: PiecesDisk, *, compressed: bool = True, bits: int = 16) -> Path:
    """Convert, and let Sealift and QEMU check."""
    writer = Qcow2StreamWriter(size=disk.size, deflate=Deflate() if compressed else None, cluster_bits=bits)
    done = convert(disk, writer=writer, sink=FileSink(path))
    assert done.size == path.stat().st_size
    with FileSource(path) as source:
        assert prove_result(source, done) is not None
        assert source.size <= Qcow2StreamWriter(
            size=disk.size, deflate=Deflate() if compressed else None, cluster_bits=bits
        ).largest(done.stored)
    told = json.loads(qemu_img("check", "--output=json", "-f", "qcow2", path).stdout)
    assert told["check-errors"] == 0
    assert not {"leaks", "corruptions"} & set(told), told
    assert told.get("allocated-clusters", 0) == done.stored
    assert told.get("compressed-clusters", 0) == (done.stored if compressed else 0)
    assert told["image-end-offset"] == done.size, "nothing behind what is referred to"
    return path


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("bits", [10, 12, 16, 21])
def test_qemu_finds_the_disk_and_no_fault(tmp_path: Path, compressed: bool, bits: int) -> None:
    chance = random.Random(bits)
    size = 5 * MIB + 512
    pieces = {
        0: chance.randbytes(700 * KIB),
        MIB: text(600 * KIB),
        2 * MIB + 300: b"x",
        3 * MIB: chance.randbytes(100 * KIB) + text(100 * KIB) + bytes(200 * KIB) + text(10),
        size - 512: chance.randbytes(512),
    }
    path = written(tmp_path / "disk.qcow2", PiecesDisk(pieces, size=size), compressed=compressed, bits=bits)
    assert_same_disk(write_disk(tmp_path / "disk.raw", pieces, size=size), "raw", path, "qcow2")


def test_counts_are_right_over_many_blocks_of_them(tmp_path: Path) -> None:
    """In clusters of 1 KiB a block counts 512 KiB of the file, and a table of counts leads to 64 MiB."""
    size = 9 * MIB
    data = random.Random(2).randbytes(size)
    path = written(tmp_path / "full.qcow2", PiecesDisk({0: data}, size=size), bits=10)
    with FileSource(path) as source:
        header = qcow2.read_header(source)
        places = qcow2.unpack_entries(source.read(header.refcounts_at, 1024))
        assert sum(1 for place in places if place) == -(-source.size // (512 * KIB)) > 15
        assert qcow2.Qcow2Reader(source).read(0, size) == data


def test_a_table_of_counts_may_need_several_clusters(tmp_path: Path) -> None:
    size = 70 * MIB
    block = random.Random(2).randbytes(MIB)
    path = written(
        tmp_path / "full.qcow2", PiecesDisk({at * MIB: block for at in range(70)}, size=size), bits=10, compressed=False
    )
    with FileSource(path) as source:
        assert qcow2.read_header(source).refcount_clusters == 2


@pytest.mark.parametrize("compressed", [True, False])
def test_a_blank_disk_is_four_clusters(tmp_path: Path, compressed: bool) -> None:
    path = written(tmp_path / "blank.qcow2", PiecesDisk({}, size=10 * 2**30), compressed=compressed)
    assert path.stat().st_size == 4 * 64 * KIB, "header, L1 table, counts, and the table of counts"
    told = json.loads(qemu_img("info", "--output=json", "-f", "qcow2", path).stdout)
    assert told["virtual-size"] == 10 * 2**30
    assert told["format-specific"]["data"]["compat"] == "1.1"


def test_what_does_not_compress_costs_nearly_nothing(tmp_path: Path) -> None:
    """Random and text by turns: were the random clusters not packed too, each would waste half a cluster."""
    chance = random.Random(9)
    pieces = {at * 128 * KIB: chance.randbytes(64 * KIB) + text(64 * KIB) for at in range(32)}
    path = written(tmp_path / "mixed.qcow2", PiecesDisk(pieces, size=4 * MIB))
    by_qemu = tmp_path / "qemu.qcow2"
    raw = write_disk(tmp_path / "disk.raw", pieces, size=4 * MIB)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-c", raw, by_qemu)
    assert path.stat().st_size < 1.05 * by_qemu.stat().st_size


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    units=st.dictionaries(st.integers(0, 400), st.sampled_from(["random", "text", "zeros", "byte"]), max_size=60),
    tail=st.integers(1, 20),
    bits=st.sampled_from([10, 11, 13]),
    compressed=st.booleans(),
)
def test_any_pattern_of_what_is_stored_is_written_right(
    tmp_path: Path, units: dict[int, str], tail: int, bits: int, compressed: bool
) -> None:
    unit, chance = 8 * KIB, random.Random(len(units))
    contents = {
        "random": lambda: chance.randbytes(unit),
        "text": lambda: text(unit, seed=chance.randrange(100)),
        "zeros": lambda: bytes(unit),
        "byte": lambda: bytes(unit - 1) + b"x",
    }
    pieces = {number * unit: contents[kind]() for number, kind in units.items()}
    size = 401 * unit + tail * 512
    written(tmp_path / "disk.qcow2", PiecesDisk(pieces, size=size), bits=bits, compressed=compressed)


def test_disks_and_clusters_that_cannot_be_are_refused() -> None:
    for size in (0, 100, 513):
        with pytest.raises(ConversionError, match="whole sectors"):
            Qcow2StreamWriter(size=size, deflate=None)
    with pytest.raises(ConversionError, match="Take larger clusters"):
        Qcow2StreamWriter(size=2**50, deflate=None, cluster_bits=12)
    for bits in (9, 22):
        with pytest.raises(ValueError, match="expected 2"):
            Qcow2StreamWriter(size=512, deflate=None, cluster_bits=bits)
