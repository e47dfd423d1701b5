"""Every image that QEMU makes, into every format that Sealift writes: QEMU judges, and Sealift proves."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.images.compare import compare_content
from sealift.images.convert.errors import ConversionError, ResultError
from sealift.images.convert.formats import WAYS, TargetFormat, Way, identity_of, identity_of_image, writer_for
from sealift.images.convert.pieces import Data, FileSink
from sealift.images.convert.run import Converted, convert, prove_result
from sealift.images.convert.vmdk_stream import VmdkStreamWriter
from sealift.images.source import BytesSource, FileSource, ImageFormatError
from sealift.images.sparse import sparse_digest
from sealift.images.verdict import ProofFailed
from sealift.images.virtual_disk import ImageKind, RawDisk, VirtualDisk, open_disk
from tests.images.convert.samples import (
    MADE_BY_QEMU,
    MIB,
    MIXED_SIZE,
    QEMU_FORMATS,
    PiecesDisk,
    assert_same_disk,
    qemu_img,
    write_disk,
)

IDENTITY = UUID("0f6e0f1e-7c5d-4a53-9a39-6f1c2be0a7d4")
OURS = [target for target in TargetFormat if WAYS[ImageKind.VHD, target] is Way.STREAM]


class BytesSink:
    """A sink in memory that notes what happens to it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.head = -1
        self.largest = -1
        self.finished = self.aborted = False
        self.left = ""

    def begin(self, *, head: int, largest: int) -> None:
        self.head, self.largest = head, largest
        self.data += bytes(head)

    def write(self, data: Data) -> None:
        self.data += data

    def zeros(self, count: int) -> None:
        self.data += bytes(count)

    def finish(self, head: bytes) -> None:
        assert len(head) == self.head
        self.data[: len(head)] = head
        self.finished = True

    def abort(self) -> str:
        self.aborted = True
        return self.left


def converted(disk: VirtualDisk, target: TargetFormat, **more: Any) -> tuple[BytesSink, Converted]:
    sink = BytesSink()
    done = convert(disk, writer=writer_for(target, size=disk.size, identity=IDENTITY), sink=sink, **more)
    return sink, done


@pytest.mark.parametrize("target", OURS)
@pytest.mark.parametrize("producer", [*MADE_BY_QEMU, "sealift", "raw"])
def test_every_image_becomes_every_format(
    mixed: dict[str, Path], tmp_path: Path, producer: str, target: TargetFormat
) -> None:
    path = tmp_path / f"result.{target.suffix}"
    with FileSource(mixed[producer]) as source:
        disk = open_disk(source, raw=producer == "raw")
        writer = writer_for(target, size=disk.size, identity=IDENTITY)
        done = convert(disk, writer=writer, sink=FileSink(path))
    expected = 13 * MIB if target is TargetFormat.VHD_FIXED else MIXED_SIZE
    assert (done.format, done.source_size, done.virtual_size) == (target.removesuffix("-plain"), MIXED_SIZE, expected)
    assert done.size == path.stat().st_size
    with FileSource(path) as result, FileSource(mixed["raw"]) as raw:
        proof = prove_result(result, done)
        assert (proof is None) == (target is TargetFormat.RAW)
        found = compare_content(RawDisk(raw), open_disk(result, raw=proof is None), longer=True)
        assert (found.difference, found.digest) == (None, done.digest)
    with mixed["raw"].open("rb") as file:
        assert done.source_digest == sparse_digest(file.fileno(), MIXED_SIZE)
    assert_same_disk(mixed["raw"], "raw", path, QEMU_FORMATS[target])
    if QEMU_FORMATS[target] in ("vmdk", "qcow2"):
        qemu_img("check", "-f", QEMU_FORMATS[target], path)
    told = json.loads(qemu_img("info", "--output=json", "-f", QEMU_FORMATS[target], path).stdout)
    assert told["virtual-size"] == expected


@pytest.mark.parametrize("target", OURS)
def test_what_is_written_does_not_depend_on_threads_or_on_how_the_source_stores(
    mixed: dict[str, Path], target: TargetFormat
) -> None:
    made = set()
    for producer, threads in (("raw", 1), ("raw", 3), ("sealift", 12), ("qcow2-compressed", 5), ("vpc-fixed", 2)):
        with FileSource(mixed[producer]) as source:
            sink, _ = converted(open_disk(source, raw=producer == "raw"), target, threads=threads)
        made.add(bytes(sink.data))
    assert len(made) == 1


@pytest.mark.parametrize("target", OURS)
@pytest.mark.parametrize("kind", ["empty", "full", "one byte", "last sector"])
def test_odd_disks(tmp_path: Path, target: TargetFormat, kind: str) -> None:
    size = 4 * MIB + 512
    pieces = {
        "empty": {},
        "full": {0: random.Random(3).randbytes(size)},
        "one byte": {777_777: b"!"},
        "last sector": {size - 1: b"!"},
    }[kind]
    sink, done = converted(PiecesDisk(pieces, size=size), target)
    assert sink.finished
    assert len(sink.data) == done.size <= sink.largest
    assert done.read <= sum(len(data) for data in pieces.values()) + 2 * 2 * MIB
    prove_result(BytesSource(bytes(sink.data)), done)
    path = tmp_path / "result"
    path.write_bytes(sink.data)
    assert_same_disk(write_disk(tmp_path / "raw", pieces, size=size), "raw", path, QEMU_FORMATS[target])


@pytest.mark.parametrize("target", OURS)
@pytest.mark.parametrize("size", [1, 513, 70_001])
def test_disks_that_are_no_whole_sectors_are_filled_up(target: TargetFormat, size: int) -> None:
    sink, done = converted(PiecesDisk({0: b"x" * size}, size=size), target)
    align = {TargetFormat.RAW: 1, TargetFormat.VHD_FIXED: MIB}.get(target, 512)
    assert done.virtual_size == -(-size // align) * align
    prove_result(BytesSource(bytes(sink.data)), done)
    assert done.source_digest != done.digest or target is TargetFormat.RAW


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spans=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400), st.sampled_from("rtz")), max_size=8),
    sectors=st.integers(3400, 3600),
    target=st.sampled_from(OURS),
    threads=st.integers(1, 4),
)
def test_any_pattern_of_what_is_stored_arrives(
    spans: list[tuple[int, int, str]], sectors: int, target: TargetFormat, threads: int
) -> None:
    """Up to 1.7 MiB in pieces of sectors, next to each other, apart, of zeros."""
    chance = random.Random(sectors)
    pieces: dict[int, bytes] = {}
    end = 0
    for start, count, kind in sorted(spans):
        if start < end or start + count > sectors:
            continue
        end = start + count
        size = count * 512
        pieces[start * 512] = {"r": chance.randbytes(size), "t": b"text" * (size // 4), "z": bytes(size)}[kind]
    disk = PiecesDisk(pieces, size=sectors * 512)
    sink, done = converted(disk, target, threads=threads)
    prove_result(BytesSource(bytes(sink.data)), done)
    result = open_disk(BytesSource(bytes(sink.data)), raw=target is TargetFormat.RAW)
    assert compare_content(disk, result, longer=True).difference is None
    assert result.read(0, disk.size) == disk.read(0, disk.size)


class Failing:
    """A disk that fails at its fourth read, or as it is told."""

    size = 64 * MIB

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._count = itertools.count()

    def read(self, offset: int, length: int) -> bytes:
        if next(self._count) == 3:
            raise self._error
        return b"x" * length

    def extents(self) -> Iterator[tuple[int, int]]:
        yield 0, self.size


@pytest.mark.parametrize("error", [OSError("the connection broke"), ImageFormatError("no block", offset=7)])
@pytest.mark.parametrize("target", OURS)
def test_a_source_that_fails_midway_leaves_nothing(tmp_path: Path, target: TargetFormat, error: Exception) -> None:
    (tmp_path / "result").write_bytes(b"older")
    writer = writer_for(target, size=Failing.size, identity=IDENTITY)
    with pytest.raises(type(error)) as caught:
        convert(Failing(error), writer=writer, sink=FileSink(tmp_path / "result"))
    assert caught.value is error
    assert [one.name for one in tmp_path.iterdir()] == ["result"]
    assert (tmp_path / "result").read_bytes() == b"older"


def test_what_a_sink_could_not_remove_is_said_with_the_error() -> None:
    sink = BytesSink()
    sink.left = "An unfinished upload stays."
    writer = writer_for(TargetFormat.RAW, size=Failing.size, identity=IDENTITY)
    with pytest.raises(OSError, match="broke") as caught:
        convert(Failing(OSError("it broke")), writer=writer, sink=sink)
    assert sink.aborted
    assert not sink.finished
    assert caught.value.__notes__ == ["An unfinished upload stays."]


def test_whoever_is_told_of_progress_can_end_the_conversion() -> None:
    told: list[int] = []

    def progress(done: int) -> None:
        told.append(done)
        if done > 8 * MIB:
            raise KeyboardInterrupt

    disk = PiecesDisk({0: b"x" * 32 * MIB}, size=32 * MIB)
    sink = BytesSink()
    with pytest.raises(KeyboardInterrupt):
        convert(
            disk, writer=writer_for(TargetFormat.RAW, size=disk.size, identity=IDENTITY), sink=sink, progress=progress
        )
    assert told == sorted(told)
    assert len(disk.reads) < 14
    assert sink.aborted


def test_what_is_not_stored_is_not_read() -> None:
    disk = PiecesDisk({10 * MIB: b"x", 500 * MIB: b"y" * 70_000}, size=2**40)
    _, done = converted(disk, TargetFormat.VMDK)
    assert sorted(disk.reads) == [(10 * MIB, 65536), (500 * MIB, 2 * 65536)]
    assert (done.read, done.stored) == (3 * 65536, 3)


def test_a_damaged_result_is_found_out() -> None:
    disk = PiecesDisk({0: random.Random(5).randbytes(MIB)}, size=4 * MIB)
    sink, done = converted(disk, TargetFormat.VHD_FIXED)
    good = bytes(sink.data)
    prove_result(BytesSource(good), done)
    flipped = bytearray(good)
    flipped[700_000] ^= 1
    with pytest.raises(ResultError, match="not the one that was read"):
        prove_result(BytesSource(bytes(flipped)), done)
    with pytest.raises(ResultError, match="bytes were written"):
        prove_result(BytesSource(good[:-512]), done)
    with pytest.raises(ProofFailed, match="footer"):
        prove_result(BytesSource(good[:-512] + bytes(512)), done)
    smaller, its = converted(PiecesDisk({}, size=2 * MIB), TargetFormat.VHD)
    with pytest.raises(ResultError, match="holds a disk of"):
        prove_result(
            BytesSource(bytes(smaller.data)), Converted(**{**vars(done), "size": its.size, "format": its.format})
        )


def test_a_writer_for_a_smaller_disk_is_refused() -> None:
    with pytest.raises(ConversionError, match="this one has 2097152"):
        convert(
            PiecesDisk({}, size=2 * MIB),
            writer=writer_for(TargetFormat.RAW, size=MIB, identity=IDENTITY),
            sink=BytesSink(),
        )


def test_each_pair_has_a_way_and_only_formats_of_ours_have_writers() -> None:
    assert len(WAYS) == len(ImageKind) * len(TargetFormat)
    assert {target.value for target in OURS} == set(QEMU_FORMATS)
    assert WAYS[ImageKind.VHDX, TargetFormat.RAW] is Way.QEMU_IMG
    assert WAYS[ImageKind.VHD, TargetFormat.VHDX] is Way.QEMU_IMG
    with pytest.raises(ValueError, match="qemu-img does"):
        writer_for(TargetFormat.VDI, size=MIB, identity=IDENTITY)
    assert writer_for(TargetFormat.VHD, size=MIB + 1, identity=IDENTITY, align=MIB).size == 2 * MIB
    writer = writer_for(TargetFormat.VMDK, size=MIB, identity=IDENTITY, adapter="ide")
    assert isinstance(writer, VmdkStreamWriter)


def test_an_identity_follows_from_facts() -> None:
    assert identity_of("a", "b") == identity_of("a", "b") != identity_of("b", "a")
    one, other = BytesSource(b"x" * 200_000), BytesSource(b"x" * 199_999 + b"y")
    assert identity_of_image(one, TargetFormat.VMDK) == identity_of_image(one, TargetFormat.VMDK)
    assert identity_of_image(one, TargetFormat.VMDK) != identity_of_image(other, TargetFormat.VMDK)
    assert identity_of_image(one, TargetFormat.VMDK) != identity_of_image(one, TargetFormat.VHD)


MEASURED = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    from uuid import UUID
    from sealift.images.convert.formats import TargetFormat, writer_for
    from sealift.images.convert.pieces import FileSink
    from sealift.images.convert.run import convert, prove_result
    from sealift.images.source import FileSource
    from sealift.images.virtual_disk import open_disk

    GIB = 2**30
    SIZE = 2040 * GIB
    BLOCK = bytes(range(256)) * 16384  # 4 MiB

    class Disk:
        def __init__(self, size, stored):
            self.size = size
            self._stored = stored
        def read(self, offset, length):
            return BLOCK[:length]
        def extents(self):
            yield from self._stored

    class Nowhere:
        def begin(self, *, head, largest): pass
        def write(self, data): pass
        def zeros(self, count): pass
        def finish(self, head): pass
        def abort(self): return ""

    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    sparse = Disk(SIZE, [(at, at + 4096) for at in range(0, SIZE, 97 * GIB)] + [(SIZE - 512, SIZE)])

    def into(target, disk, sink):
        writer = writer_for(target, size=disk.size, identity=UUID(int=5))
        return convert(disk, writer=writer, sink=sink, threads=threads)

    done = into(TargetFormat.VHD, sparse, FileSink(folder / "large.vhd"))
    with FileSource(folder / "large.vhd") as source:
        for target in (TargetFormat.VMDK, TargetFormat.QCOW2):
            result = into(target, open_disk(source), FileSink(folder / "result"))
            assert result.source_digest == done.digest, target
            with FileSource(folder / "result") as made:
                prove_result(made, result)
    full = Disk(GIB, [(0, GIB)])
    for target in (TargetFormat.VMDK, TargetFormat.QCOW2, TargetFormat.VHD, TargetFormat.RAW):
        into(target, full, Nowhere())
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")))
    """
)


@pytest.mark.parametrize("threads", [4, 12])
def test_memory_is_bounded_whatever_the_disks_size(tmp_path: Path, threads: int) -> None:
    """A disk of 2040 GiB, nearly blank, and a full one: the largest resident size of a process that converts them."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path, str(threads)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150, f"{done.stdout} MiB; an upload takes up to 64 MiB more"
