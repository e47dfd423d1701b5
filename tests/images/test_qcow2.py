"""qcow2 at level L1: good images of QEMU pass, damaged ones are named, no bytes break the reader."""

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

from sealift.images import qcow2
from sealift.images.proof import ProofFailed, ProofLevel, prove_image
from sealift.images.qcow2 import Header, Qcow2FormatError, Qcow2Reader
from sealift.images.source import BytesSource, FileSource

MIB = 2**20
KINDS = ("version 3", "version 2", "compressed", "small clusters")
OPTIONS = {
    "version 3": [],
    "version 2": ["-o", "compat=0.10"],
    "compressed": ["-c"],
    "small clusters": ["-o", "cluster_size=4096"],
}


@pytest.fixture(scope="session")
def files(images: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same disk by QEMU in four ways."""
    program = shutil.which("qemu-img")
    if program is None:
        pytest.fail("qemu-img is missing; install it with: apt-get install --no-install-recommends qemu-utils")
    folder = tmp_path_factory.mktemp("qcow2")
    found = {}
    for kind, options in OPTIONS.items():
        out = folder / "disk.qcow2"
        subprocess.run([program, "convert", "-f", "raw", "-O", "qcow2", *options, images.raw, out], check=True)
        found[kind] = out.read_bytes()
    return found


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def prove(data: bytes | bytearray, **more: Any) -> Any:
    return prove_image(BytesSource(bytes(data)), **({"expected_capacity_bytes": 64 * MIB, "boot_disk": True} | more))


def test_good_images_are_proven_and_read(images: Any, files: dict[str, bytes], kind: str) -> None:
    proof = prove(files[kind])
    assert (proof.level, proof.format) == (ProofLevel.L1, "qcow2")
    assert (proof.size, proof.virtual_size) == (len(files[kind]), 64 * MIB)
    assert proof.creator == ("version 2" if kind == "version 2" else "version 3")
    assert proof.partition_table == "mbr: 1 partition"
    reader = Qcow2Reader(BytesSource(files[kind]))
    raw = images.raw.read_bytes()
    assert reader.read(0, len(raw)) == raw
    assert reader.read(MIB - 7, 100_000) == raw[MIB - 7 : MIB - 7 + 100_000]


def header_of(data: bytes | bytearray) -> Header:
    return Header.unpack(bytes(data[:104]))


def put(data: bytes, at: int, form: str, value: int) -> bytearray:
    out = bytearray(data)
    struct.pack_into(form, out, at, value)
    return out


def first_table(data: bytes) -> int:
    return int(struct.unpack_from(">Q", data, header_of(data).l1_at)[0]) & qcow2.ADDRESS


def entries(data: bytes) -> list[int]:
    """Where the entries of the first table are that lead to something, in bytes."""
    at = first_table(data)
    places = range(at, at + header_of(data).cluster, 8)
    return [one for one in places if struct.unpack_from(">Q", data, one)[0] & (qcow2.ADDRESS | qcow2.COMPRESSED)]


def value(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">Q", data, at)[0])


def packed_at(data: bytes, which: int) -> int:
    return qcow2.compressed_place(value(data, entries(data)[which]), header_of(data).cluster_bits)[0]


def second_table(data: bytes) -> bytearray:
    """Let the second entry of the L1 table lead where the first does."""
    at = header_of(data).l1_at
    return put(data, at + 8, ">Q", value(data, at))


@dataclasses.dataclass(frozen=True)
class Damage:
    """One way to damage an image, the checks of which one must fail first, and the kinds that it is for."""

    name: str
    checks: tuple[str, ...]
    make: Callable[[bytes], bytes | bytearray]
    kinds: tuple[str, ...] = KINDS


def zeroed(data: bytes, at: int, count: int) -> bytes:
    return data[:at] + bytes(count) + data[at + count :]


FAR, ONES = qcow2.COMPRESSED | 2**40, 2**64 - 1
PLAIN = ("version 3", "version 2", "small clusters")
CORPUS = (
    Damage("only a magic", ("header",), lambda d: d[:90]),
    Damage("cut in half", ("l1.range", "l2.range", "compressed.range"), lambda d: d[: len(d) // 2]),
    Damage("last cluster cut", ("l2.range", "compressed"), lambda d: d[:-5000]),
    Damage("compressed zeroed", ("compressed",), lambda d: zeroed(d, packed_at(d, 0), 512), ("compressed",)),
    Damage("version", ("header",), lambda d: put(d, 4, ">I", 7)),
    Damage("cluster size", ("header",), lambda d: put(d, 20, ">I", 40)),
    Damage("no size", ("header",), lambda d: put(d, 24, ">Q", 0)),
    Damage("encrypted", ("header",), lambda d: put(d, 32, ">I", 2)),
    Damage("a child of another", ("header",), lambda d: put(d, 8, ">Q", 512)),
    Damage("data elsewhere", ("header",), lambda d: put(d, 72, ">Q", qcow2.EXTERNAL_DATA), ("version 3",)),
    Damage("extended tables", ("header",), lambda d: put(d, 72, ">Q", qcow2.EXTENDED_L2), ("version 3",)),
    Damage("unknown feature", ("header",), lambda d: put(d, 72, ">Q", 1 << 9), ("version 3",)),
    Damage("not closed", ("header.clean",), lambda d: put(d, 72, ">Q", qcow2.DIRTY), ("version 3",)),
    Damage("marked corrupt", ("header.clean",), lambda d: put(d, 72, ">Q", qcow2.CORRUPT), ("version 3",)),
    Damage("too few tables", ("header",), lambda d: put(d, 36, ">I", 0)),
    Damage("L1 table outside", ("l1.place",), lambda d: put(d, 40, ">Q", 2**50)),
    Damage("L1 table between clusters", ("l1.place",), lambda d: put(d, 40, ">Q", header_of(d).l1_at + 512)),
    Damage("counts outside", ("refcounts.place",), lambda d: put(d, 48, ">Q", 2**40)),
    Damage("L2 table outside", ("l1.range",), lambda d: put(d, header_of(d).l1_at, ">Q", 2**50)),
    Damage("one L2 table twice", ("l1.range",), second_table, ("small clusters",)),
    Damage("cluster outside", ("l2.range",), lambda d: put(d, entries(d)[1], ">Q", 2**50), PLAIN),
    Damage("one cluster twice", ("l2.range",), lambda d: put(d, entries(d)[1], ">Q", value(d, entries(d)[2])), PLAIN),
    Damage("compressed outside", ("compressed.range",), lambda d: put(d, entries(d)[1], ">Q", FAR), ("compressed",)),
    Damage("compressed bytes", ("compressed",), lambda d: put(d, packed_at(d, 0) + 20, ">Q", ONES), ("compressed",)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "of"),
    [pytest.param(damage, of, id=f"{damage.name}, {of}") for damage in CORPUS for of in damage.kinds],
)
def test_damage_is_named(files: dict[str, bytes], damage: Damage, of: str) -> None:
    made = damage.make(files[of])
    assert bytes(made) != files[of]
    with pytest.raises(ProofFailed) as caught:
        prove(made)
    assert caught.value.check_id in damage.checks, str(caught.value)
    reader_gives_an_error_or_bytes(bytes(made))


def reader_gives_an_error_or_bytes(data: bytes) -> None:
    try:
        reader = Qcow2Reader(BytesSource(data))
        reader.read(0, min(reader.size, 4 * MIB))
    except (Qcow2FormatError, OSError):
        pass


def test_a_disk_of_another_size_is_not_the_servers(files: dict[str, bytes], kind: str) -> None:
    with pytest.raises(ProofFailed, match="100000000000"):
        prove(files[kind], expected_capacity_bytes=100 * 10**9)


def test_of_a_large_disk_a_sample_is_read(tmp_path: Path) -> None:
    out = tmp_path / "large.qcow2"
    options = "cluster_size=4096,preallocation=metadata"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, out, "3G"], check=True)
    with FileSource(out) as source:
        proof = prove_image(source, expected_capacity_bytes=3 * 2**30)
    assert proof.virtual_size == 3 * 2**30
    details = {one.id: one.detail for one in proof.checks}
    assert "in 256 of 1536 L2 tables" in details["l2.range"]
    assert proof.bytes_read < 2 * MIB


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_any_bytes_give_a_proof_or_a_named_failure(files: dict[str, bytes], data: st.DataObject) -> None:
    """Whatever is written over whatever place: no crash, no hang, and no more memory than a proof may have."""
    made = bytearray(files[data.draw(st.sampled_from(KINDS))])
    tables = header_of(made).l1_at
    ends = st.one_of(
        st.integers(0, 110),
        st.integers(tables, tables + 64),
        st.integers(first_table(bytes(made)), first_table(bytes(made)) + 400),
        st.integers(0, len(made) - 1),
    )
    for at, written in data.draw(st.lists(st.tuples(ends, st.binary(min_size=1, max_size=12)), min_size=1, max_size=6)):
        made[at : at + len(written)] = written[: len(made) - at]
    made = made[: len(made) - data.draw(st.sampled_from((0, 0, 1, 512, 70_000)))]
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
