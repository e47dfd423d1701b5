"""VMDKs at level L1: good ones of several producers pass, damaged ones are named, no bytes break the reader."""

from __future__ import annotations

import dataclasses
import shutil
import struct
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.images import vmdk
from sealift.images.proof import ProofFailed, ProofLevel, prove_image
from sealift.images.source import BytesSource, FileSource
from sealift.images.vmdk import SparseHeader, VmdkFormatError, VmdkReader
from tests.images.vmdk_files import stream_optimized

MIB = 2**20
KINDS = ("streamOptimized", "monolithicSparse", "stream")
SECTOR = 512


@pytest.fixture(scope="session")
def files(images: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same disk by QEMU in two kinds, and as VMware streams it."""
    program = shutil.which("qemu-img")
    if program is None:
        pytest.fail("qemu-img is missing; install it with: apt-get install --no-install-recommends qemu-utils")
    folder = tmp_path_factory.mktemp("vmdk")
    found = {}
    for kind in KINDS[:2]:
        out = folder / f"{kind}.vmdk"
        subprocess.run(
            [program, "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", images.raw, out], check=True
        )
        found[kind] = out.read_bytes()
    found["stream"] = bytes(stream_optimized(images.raw.read_bytes()))
    return found


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def prove(data: bytes | bytearray, **more: Any) -> Any:
    return prove_image(BytesSource(bytes(data)), **({"expected_capacity_bytes": 64 * MIB, "boot_disk": True} | more))


def failed(data: bytes | bytearray, **more: Any) -> ProofFailed:
    with pytest.raises(ProofFailed) as caught:
        prove(data, **more)
    return caught.value


def test_good_images_are_proven_and_read(images: Any, files: dict[str, bytes], kind: str) -> None:
    proof = prove(files[kind])
    assert proof.level == ProofLevel.L1
    assert proof.format == ("vmdk-sparse" if kind == "monolithicSparse" else "vmdk-stream")
    assert (proof.size, proof.virtual_size) == (len(files[kind]), 64 * MIB)
    assert proof.partition_table == "mbr: 1 partition"
    assert proof.footer_uuid
    assert proof.bytes_read < MIB
    reader = VmdkReader(BytesSource(files[kind]))
    raw = images.raw.read_bytes()
    assert reader.read(0, len(raw)) == raw
    assert reader.read(MIB - 7, 100_000) == raw[MIB - 7 : MIB - 7 + 100_000]


def test_our_stream_is_read_by_qemu(images: Any, files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "stream.vmdk").write_bytes(files["stream"])
    done = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "vmdk", images.raw, tmp_path / "stream.vmdk"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "Images are identical.\n", done.stderr


def header_of(data: bytes | bytearray, at: int = 0) -> SparseHeader:
    return SparseHeader.unpack(bytes(data[at : at + SECTOR]))


def with_header(data: bytes, at: int = 0, **changes: Any) -> bytearray:
    out = bytearray(data)
    out[at % len(out) : at % len(out) + SECTOR] = dataclasses.replace(header_of(data, at % len(data)), **changes).pack()
    return out


def leading(data: bytes | bytearray) -> SparseHeader:
    header = header_of(data)
    at_end = header.directory_at == vmdk.DIRECTORY_AT_END
    return header_of(data, len(data) - 2 * SECTOR) if at_end else header


def tables(data: bytes | bytearray) -> list[int]:
    """Where the grain tables are, in bytes."""
    header = leading(data)
    return [one * SECTOR for one in struct.unpack_from(f"<{header.tables}I", data, header.directory_at * SECTOR)]


def entries(data: bytes | bytearray) -> list[int]:
    """Where the entries that lead to grains are, in bytes."""
    return [
        at
        for table in tables(data)
        for at in range(table, table + 2048, 4)
        if struct.unpack_from("<I", data, at)[0] > 1
    ]


def put(data: bytes, at: int, value: bytes) -> bytearray:
    out = bytearray(data)
    out[at : at + len(value)] = value
    return out


def entry(data: bytes, which: int, value: int) -> bytearray:
    """Another value for an entry, in both copies of the tables where there are two."""
    out = bytearray(data)
    at = entries(data)[which]
    struct.pack_into("<I", out, at, value)
    header = header_of(data)
    if header.flags & vmdk.FLAG_REDUNDANT:
        seconds = struct.unpack_from(f"<{header.tables}I", data, header.redundant_directory_at * SECTOR)
        table, index = next((n, at - one) for n, one in enumerate(tables(data)) if one <= at < one + 2048)
        struct.pack_into("<I", out, seconds[table] * SECTOR + index, value)
    return out


def grain_at(data: bytes, which: int) -> int:
    return int(struct.unpack_from("<I", data, entries(data)[which])[0]) * SECTOR


@dataclasses.dataclass(frozen=True)
class Damage:
    """One way to damage an image, the checks of which one must fail first, and the kinds that it is for."""

    name: str
    checks: tuple[str, ...]
    make: Callable[[bytes], bytes | bytearray]
    kinds: tuple[str, ...] = KINDS


COMPRESSED = ("streamOptimized", "stream")
FRONT = ("streamOptimized", "monolithicSparse")
CORPUS = (
    Damage("empty", ("file.length",), lambda d: b""),
    Damage("three sectors", ("file.length",), lambda d: d[: 3 * SECTOR]),
    Damage("cut by 100 bytes", ("file.length",), lambda d: d[:-100]),
    Damage("cut by 64 KiB", ("footer", "tables.range", "grains"), lambda d: d[: -64 * 1024]),
    Damage("cut in half", ("footer", "tables.range", "directory.place"), lambda d: d[: len(d) // 1024 * 512]),
    Damage("last sector missing", ("footer",), lambda d: d[:-SECTOR], ("stream",)),
    Damage("end zeroed", ("footer", "grains"), lambda d: d[: -64 * 1024] + bytes(64 * 1024), COMPRESSED),
    Damage("footer zeroed", ("footer",), lambda d: put(d, len(d) - 2 * SECTOR, bytes(SECTOR)), ("stream",)),
    Damage("footer's marker", ("footer",), lambda d: put(d, len(d) - 3 * SECTOR, b"\1" * 16), ("stream",)),
    Damage("end of stream", ("footer",), lambda d: put(d, len(d) - SECTOR, b"\1"), ("stream",)),
    Damage("footer of another", ("footer",), lambda d: with_header(d, -2 * SECTOR, capacity=7), ("stream",)),
    Damage("magic", ("file.length", "footer.cookie"), lambda d: put(d, 0, b"KDMX")),
    Damage("version", ("header",), lambda d: with_header(d, version=9)),
    Damage("grain size", ("header",), lambda d: with_header(d, grain=100)),
    Damage("no capacity", ("header",), lambda d: with_header(d, capacity=0)),
    Damage("table size", ("header",), lambda d: with_header(d, table_entries=100)),
    Damage("compression", ("header",), lambda d: with_header(d, compression=7), COMPRESSED),
    Damage("sent as text", ("header",), lambda d: with_header(d, newlines=b"\n \n\n")),
    Damage("not closed", ("header.clean",), lambda d: with_header(d, unclean=1)),
    Damage("descriptor zeroed", ("descriptor",), lambda d: put(d, SECTOR, bytes(20 * SECTOR))),
    Damage("descriptor outside", ("descriptor",), lambda d: with_header(d, descriptor_at=10**9)),
    Damage("a child of another disk", ("descriptor",), lambda d: d.replace(b"CID=ffffffff", b"CID=12345678")),
    Damage(
        "another size in the descriptor", ("descriptor",), lambda d: d.replace(b" 131072 SPARSE", b" 131073 SPARSE")
    ),
    Damage("directory outside", ("directory.place",), lambda d: with_header(d, directory_at=10**9), FRONT),
    Damage(
        "directory outside",
        ("directory.place",),
        lambda d: with_header(d, -2 * SECTOR, directory_at=10**9),
        ("stream",),
    ),
    Damage(
        "directory elsewhere",
        ("directory.place",),
        lambda d: with_header(d, -2 * SECTOR, directory_at=leading(d).directory_at + 1),
        ("stream",),
    ),
    Damage(
        "table outside",
        ("directory.range",),
        lambda d: put(d, leading(d).directory_at * SECTOR, struct.pack("<I", 2**31)),
    ),
    Damage(
        "one table twice",
        ("directory.range",),
        lambda d: put(d, leading(d).directory_at * SECTOR, struct.pack("<I", tables(d)[1] // SECTOR)),
    ),
    Damage("grain outside", ("tables.range",), lambda d: entry(d, 3, 2**31)),
    Damage("one grain twice", ("tables.range",), lambda d: entry(d, 3, grain_at(d, 4) // SECTOR)),
    Damage("one copy of a table", ("redundant",), lambda d: put(d, entries(d)[5], bytes(4)), FRONT),
    Damage("second directory outside", ("redundant",), lambda d: with_header(d, redundant_directory_at=10**9), FRONT),
    Damage("grains exchanged", ("grains",), lambda d: exchanged(d, 0, 1), COMPRESSED),
    Damage("a marker", ("grains",), lambda d: put(d, grain_at(d, 0), struct.pack("<Q", 77)), COMPRESSED),
    Damage("a grain's length", ("grains",), lambda d: put(d, grain_at(d, 0) + 8, struct.pack("<I", 2**30)), COMPRESSED),
    Damage("a grain's bytes", ("grains",), lambda d: put(d, grain_at(d, 0) + 40, b"\xff" * 40), COMPRESSED),
    Damage(
        "no partition table",
        ("partition_table",),
        lambda d: put(d, grain_at(d, 0), bytes(SECTOR)),
        ("monolithicSparse",),
    ),
)


def exchanged(data: bytes, one: int, other: int) -> bytearray:
    first, second = grain_at(data, one) // SECTOR, grain_at(data, other) // SECTOR
    return entry(bytes(entry(data, one, second)), other, first)


@pytest.mark.parametrize(
    ("damage", "of"),
    [pytest.param(damage, of, id=f"{damage.name}, {of}") for damage in CORPUS for of in damage.kinds],
)
def test_damage_is_named(files: dict[str, bytes], damage: Damage, of: str) -> None:
    made = damage.make(files[of])
    assert bytes(made) != files[of]
    error = failed(made)
    assert error.check_id in damage.checks, str(error)
    assert error.detail
    reader_gives_an_error_or_bytes(bytes(made))


def reader_gives_an_error_or_bytes(data: bytes) -> None:
    try:
        reader = VmdkReader(BytesSource(data))
        reader.read(0, min(reader.size, 4 * MIB))
    except (VmdkFormatError, OSError):
        pass


def test_a_disk_of_another_size_is_not_the_servers(files: dict[str, bytes], kind: str) -> None:
    assert failed(files[kind], expected_capacity_bytes=100 * 10**9).check_id == "capacity"
    assert prove(files[kind], expected_capacity_bytes=None)


def test_of_a_large_disk_a_sample_is_read(tmp_path: Path) -> None:
    """2 TiB: 65,536 tables, of which 128 are read in sixteen stretches, twice."""
    out = tmp_path / "large.vmdk"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicSparse", out, "2T"], check=True
    )
    with FileSource(out) as source:
        proof = prove_image(source, expected_capacity_bytes=2 * 2**40)
    assert proof.virtual_size == 2 * 2**40
    assert proof.requests < 60
    assert proof.bytes_read < 2 * MIB


def test_vhds_are_proven_as_before(images: Any) -> None:
    with FileSource(images.dynamic) as source:
        assert prove_image(source, expected_capacity_bytes=64 * MIB).format == "vhd-dynamic"
    assert failed(b"").check_id == "file.length"
    assert "looks like a VHDX" in str(failed(b"vhdxfile" + bytes(100_000)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_any_bytes_give_a_proof_or_a_named_failure(files: dict[str, bytes], data: st.DataObject) -> None:
    """Whatever is written over whatever place: no crash, no hang, and no more memory than a proof may have."""
    made = bytearray(files[data.draw(st.sampled_from(KINDS))])
    ends = st.one_of(st.integers(0, 4096), st.integers(4096, 70_000), st.integers(len(made) - 4096, len(made) - 1))
    for at, value in data.draw(st.lists(st.tuples(ends, st.binary(min_size=1, max_size=12)), min_size=1, max_size=6)):
        made[at : at + len(value)] = value[: len(made) - at]
    cut = data.draw(st.sampled_from((0, 0, 1, 512, 70_000)))
    made = made[: len(made) - cut]
    tracemalloc.start()
    try:
        prove(made)
    except ProofFailed as error:
        if not error.checks:
            raise
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 64 * MIB
    reader_gives_an_error_or_bytes(bytes(made))
