"""streamOptimized VMDKs as VMware describes them, read by QEMU and by Sealift's own reader and proof."""

from __future__ import annotations

import json
import random
import re
import zlib
from pathlib import Path
from uuid import UUID

import pytest

from sealift.images import vmdk
from sealift.images.convert import vmdk_stream
from sealift.images.convert.deflate import Deflate
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.pieces import FileSink, Output
from sealift.images.convert.run import convert
from sealift.images.convert.vmdk_stream import VmdkStreamWriter, descriptor
from sealift.images.source import FileSource
from tests.images.convert.samples import MIB, PiecesDisk, assert_same_disk, qemu_img, text, write_disk

IDENTITY = UUID("0f6e0f1e-7c5d-4a53-9a39-6f1c2be0a7d4")
SIZE = 100 * MIB + 5 * 512


def pieces() -> dict[int, bytes]:
    chance = random.Random(8)
    return {
        0: text(200_000),
        31 * MIB: chance.randbytes(2 * MIB),  # over the end of the first table
        70 * MIB: b"\0" * 65536 + b"x",
        SIZE - 512: chance.randbytes(512),
    }


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vmdk") / "disk.vmdk"
    writer = VmdkStreamWriter(size=SIZE, identity=IDENTITY, deflate=Deflate())
    done = convert(PiecesDisk(pieces(), size=SIZE), writer=writer, sink=FileSink(path))
    assert done.size == path.stat().st_size
    assert done.stored == 4 + 32 + 1 + 1
    return path


def test_the_file_is_what_the_format_says_marker_by_marker(image: Path) -> None:
    data = image.read_bytes()
    header = vmdk.SparseHeader.unpack(data[:512])
    assert (header.version, header.flags, header.capacity) == (3, 0x30001, SIZE // 512)
    assert (header.grain, header.table_entries, header.overhead, header.compression) == (128, 512, 128, 1)
    assert (header.directory_at, header.redundant_directory_at, header.unclean) == (2**64 - 1, 0, 0)
    at, seen, grains = header.overhead * 512, [], []
    tables: dict[int, int] = {}
    while True:
        value, size, kind = (int.from_bytes(data[at + a : at + b], "little") for a, b in ((0, 8), (8, 12), (12, 16)))
        if size:
            assert zlib.decompress(data[at + 12 : at + 12 + size]).__len__() == 65536
            grains.append((value, at // 512))
            at += -(-(12 + size) // 512) * 512
            continue
        seen.append(kind)
        at += 512
        if kind == vmdk.MARKER_TABLE:
            assert value == 4
            tables[at // 512] = len(grains)
        elif kind == vmdk.MARKER_DIRECTORY:
            directory = vmdk.unpack_entries(data[at : at + 16])
            directory_at = at // 512
        elif kind == vmdk.MARKER_END:
            assert (value, at) == (0, len(data))
            break
        at += value * 512
    assert seen == [1, 1, 1, 1, 2, 3, 0]
    footer = vmdk.SparseHeader.unpack(data[-1024:-512])
    assert footer.directory_at == directory_at
    assert [sector for sector, _ in grains] == sorted(sector for sector, _ in grains)
    assert set(directory) == set(tables)
    entries = {
        table * 512 + index: entry
        for table, place in enumerate(directory)
        for index, entry in enumerate(vmdk.unpack_entries(data[place * 512 : place * 512 + 2048]))
        if entry
    }
    assert entries == {sector // 128: place for sector, place in grains}


def test_qemu_reads_it(image: Path, tmp_path: Path) -> None:
    raw = write_disk(tmp_path / "disk.raw", pieces(), size=SIZE)
    assert_same_disk(raw, "raw", image, "vmdk")
    qemu_img("check", "-f", "vmdk", image)
    told = json.loads(qemu_img("info", "--output=json", "-f", "vmdk", image).stdout)
    assert told["virtual-size"] == SIZE
    assert told["format-specific"]["data"]["create-type"] == "streamOptimized"
    assert told["format-specific"]["data"]["cid"] == int("2be0a7d4", 16)


def test_a_blank_disk_has_no_grain(tmp_path: Path) -> None:
    size = 3 * 2**40
    writer = VmdkStreamWriter(size=size, identity=IDENTITY, deflate=Deflate())
    done = convert(PiecesDisk({}, size=size), writer=writer, sink=FileSink(tmp_path / "blank"))
    assert done.stored == 0
    assert done.size == 128 * 512 + 512 + 4 * (size // (32 * MIB)) + 3 * 512
    assert (
        json.loads(qemu_img("info", "--output=json", "-f", "vmdk", tmp_path / "blank").stdout)["virtual-size"] == size
    )
    with FileSource(tmp_path / "blank") as source:
        assert list(vmdk.VmdkReader(source).extents()) == []


def test_the_descriptor_says_size_geometry_and_adapter() -> None:
    data = descriptor(size=25 * 2**30, identity=IDENTITY, adapter="lsilogic")
    assert len(data) == 20 * 512
    found = vmdk.parse_descriptor(data)
    assert found["extent"] == 'RW 52428800 SPARSE "disk.vmdk"'
    assert (found["CID"], found["parentCID"], found["createType"]) == ("2be0a7d4", "ffffffff", "streamOptimized")
    assert found["ddb.longContentID"] == "0f6e0f1e7c5d4a539a396f1c2be0a7d4"
    assert found["ddb.adapterType"] == "lsilogic"
    geometry = [int(found[f"ddb.geometry.{name}"]) for name in ("cylinders", "heads", "sectors")]
    assert geometry == [3264, 255, 63]
    ide = vmdk.parse_descriptor(descriptor(size=25 * 2**30, identity=IDENTITY, adapter="ide"))
    assert [ide[f"ddb.geometry.{name}"] for name in ("cylinders", "heads", "sectors")] == ["16383", "16", "63"]
    tiny = vmdk.parse_descriptor(descriptor(size=512, identity=IDENTITY, adapter="ide"))
    assert tiny["ddb.geometry.cylinders"] == "1"


@pytest.mark.parametrize("end", ["00000000", "fffffffe", "ffffffff"])
def test_a_content_id_is_never_one_that_means_something_else(end: str) -> None:
    found = vmdk.parse_descriptor(
        descriptor(size=512, identity=UUID(f"0f6e0f1e-7c5d-4a53-9a39-6f1c{end}"), adapter="lsilogic")
    )
    assert re.fullmatch("[0-9a-f]{8}", found["CID"])
    assert found["CID"] not in ("00000000", "fffffffe", "ffffffff")
    assert found["ddb.longContentID"].endswith(found["CID"])


@pytest.mark.parametrize("size", [0, 100, 63 * 2**40])
def test_a_disk_that_no_vmdk_holds_is_refused(size: int) -> None:
    with pytest.raises(ConversionError, match="up to 62 TiB"):
        VmdkStreamWriter(size=size, identity=IDENTITY, deflate=Deflate())


def test_a_file_that_its_tables_cannot_describe_is_refused() -> None:
    class Nowhere:
        def write(self, _data: object) -> None: ...

        def zeros(self, _count: int) -> None: ...

    writer = VmdkStreamWriter(size=MIB, identity=IDENTITY, deflate=Deflate())
    out = Output(Nowhere(), at=2**32 * 512)  # type: ignore[arg-type]
    with pytest.raises(ConversionError, match="larger than 2 TiB"):
        writer.place(out, writer.encode(0, b"x" * 65536))
    assert vmdk_stream.GRAIN == 65536
