"""Good images pass, with what they hold said rightly, and within the budget of reads."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sealift.images import vhd
from sealift.images.proof import DiskProof, ProofFailed, ProofLevel, capacity_range, prove_vhd
from sealift.images.source import BytesSource, FileSource
from sealift.images.vhd_writer import write_dynamic_vhd

MIB = 1024 * 1024
GIB = 1024**3


def prove(path: Path, capacity: int | None, **options: bool) -> DiskProof:
    with FileSource(path) as source:
        proof = prove_vhd(source, expected_capacity_bytes=capacity, **options)
        assert (proof.bytes_read, proof.requests) == (source.bytes_read, source.requests)
    return proof


def test_good_dynamic_image(images: Any) -> None:
    proof = prove(images.dynamic, 64 * MIB, boot_disk=True)
    assert (proof.level, proof.format, proof.creator) == (ProofLevel.L1, "vhd-dynamic", "slft")
    assert (proof.size, proof.virtual_size) == (images.dynamic.stat().st_size, 64 * MIB)
    assert proof.footer_uuid == "0f6e0f1e-7c5d-4a53-9a39-6f1c2be0a7d4"
    assert proof.partition_table == "mbr: 1 partition"
    assert proof.partitions == [
        {
            "number": 1,
            "type": "0x83",
            "type_name": "Linux",
            "name": "",
            "start": MIB,
            "size": 63 * MIB,
            "bootable": True,
        }
    ]
    assert [check.id for check in proof.checks] == [
        "file.length",
        "footer.cookie",
        "footer.checksum",
        "footer.type",
        "footer.sizes",
        "header_copy",
        "dynamic_header.cookie",
        "dynamic_header.checksum",
        "dynamic_header.block_size",
        "bat.entries",
        "bat.range",
        "bat.overlap",
        "bat.unclaimed",
        "capacity",
        "bitmaps",
        "partition_table",
    ]
    assert all(check.passed and check.detail for check in proof.checks)
    assert DiskProof.model_validate_json(proof.model_dump_json()) == proof


def test_good_fixed_image(images: Any) -> None:
    proof = prove(images.fixed, 64 * MIB, boot_disk=True)
    assert (proof.format, proof.virtual_size, proof.partition_table) == ("vhd-fixed", 64 * MIB, "mbr: 1 partition")
    assert [check.id for check in proof.checks][-3:] == ["file.end", "capacity", "partition_table"]
    assert proof.requests == 2


def test_blank_disk_is_good_unless_the_server_starts_from_it(images: Any) -> None:
    _, image = images.of({}, name="blank")
    proof = prove(image, 64 * MIB)
    assert proof.partition_table == "none: blank: the first 73728 bytes of the disk are zero"
    with pytest.raises(ProofFailed, match="the server starts from this disk"):
        prove(image, 64 * MIB, boot_disk=True)


def test_known_contents_without_partitions_are_good(images: Any) -> None:
    _, image = images.of({1080: b"\x53\xef", 5 * MIB: b"x"}, name="ext4")
    assert "ext4 file system lies directly" in prove(image, 64 * MIB, boot_disk=True).partition_table


def test_start_of_the_disk_in_small_blocks(images: Any, tmp_path: Path) -> None:
    raw, _ = images.of({65600: b"_BHRfS_M"}, name="btrfs")
    out = tmp_path / "small-blocks.vhd"
    write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=1), timestamp=vhd.EPOCH, block_size=4096)
    assert "Btrfs" in prove(out, 64 * MIB).partition_table


def test_budget_of_reads_for_a_full_disk_of_100_gb(tmp_path: Path) -> None:
    """A disk of 100 GB with all blocks stored, as a file that is nearly all holes."""
    size = 100 * 10**9
    count, stride = vhd.blocks_for(size, 2 * MIB), 512 + 2 * MIB
    footer = vhd.VhdFooter(
        data_offset=512, creator_app=b"tap\0", original_size=size, current_size=size, cylinders=1, heads=1,
        sectors_per_track=1, disk_type=3, uuid=UUID(int=5),
    ).pack()  # fmt: skip
    header = vhd.DynamicHeader(table_offset=1536, max_table_entries=count, block_size=2 * MIB)
    first = -(-(1536 + count * 4) // 512)
    places = list(range(count))
    random.Random(7).shuffle(places)
    image = tmp_path / "full.vhd"
    with image.open("wb") as file:
        file.write(footer + header.pack())
        file.write(b"".join((first + place * stride // 512).to_bytes(4, "big") for place in places))
        for place in range(count):
            file.seek(first * 512 + place * stride)
            file.write(b"\xff" * 512)
        file.seek(first * 512 + count * stride)
        file.write(footer)
    proof = prove(image, size)
    image.unlink()  # its bitmaps alone take 200 MB
    assert proof.size > size
    assert proof.bytes_read < 400 * 1024
    assert proof.requests <= 8


def test_xenserver_table_for_a_later_larger_disk(images: Any, tmp_path: Path) -> None:
    """XenServer may keep a BAT for 2 TB, data aligned to 4 KiB and a map of full blocks behind the BAT."""
    entries = 2**20
    source = bytearray(images.dynamic.read_bytes())
    old = vhd.unpack_bat(bytes(source[1536 : 1536 + 128]))
    header = vhd.DynamicHeader(table_offset=1536, max_table_entries=entries, block_size=2 * MIB)
    at = 1536 + entries * 4
    batmap = b"tdbatmap".ljust(512, b"\0") + b"\xa5" * (entries // 8)
    blocks = -(-(at + len(batmap)) // 4096) * 4096 + 3584
    image = tmp_path / "xen.vhd"
    table = [vhd.UNALLOCATED] * entries
    with image.open("wb") as file:
        file.seek(at)
        file.write(batmap)
        for number, entry in enumerate(old):
            if entry != vhd.UNALLOCATED:
                file.seek(blocks)
                file.write(source[entry * 512 : entry * 512 + 512 + 2 * MIB])
                table[number] = blocks // 512
                blocks += 2 * MIB + 4096
        file.write(source[-512:])
        file.seek(0)
        file.write(source[:512] + header.pack() + b"".join(entry.to_bytes(4, "big") for entry in table))
    proof = prove(image, 64 * MIB, boot_disk=True)
    assert proof.bytes_read < 400 * 1024
    with FileSource(image) as file_source:
        assert vhd.VhdReader(file_source).read(0, 64 * MIB) == images.raw.read_bytes()


def test_resized_disk_and_old_geometry_are_good(images: Any) -> None:
    data = bytearray(images.dynamic.read_bytes())
    footer = vhd.VhdFooter.unpack(bytes(data[-512:]))
    changed = dataclasses.replace(
        footer, original_size=32 * MIB, creator_app=b"vpc ", cylinders=963, heads=8, sectors_per_track=17
    ).pack()
    data[:512] = data[-512:] = changed
    proof = prove_vhd(BytesSource(bytes(data)), expected_capacity_bytes=64 * MIB)
    said = next(check.detail for check in proof.checks if check.id == "footer.sizes")
    assert "33554432 when it was made" in said
    assert f"QEMU takes {963 * 8 * 17 * 512} from the geometry" in said


def test_free_space_is_good_where_it_is_blank(images: Any) -> None:
    data = images.dynamic.read_bytes()
    proof = prove_vhd(BytesSource(data[:-512] + bytes(8 * MIB) + data[-512:]), expected_capacity_bytes=None)
    assert any("8388608 bytes belong to no block" in check.detail for check in proof.checks)
    assert not any(check.id == "capacity" for check in proof.checks)


def test_lost_blocks_can_be_allowed(images: Any, corpus: Any) -> None:
    source = BytesSource(corpus["BAT entry lost in the middle"].apply(images))
    proof = prove_vhd(source, expected_capacity_bytes=64 * MIB, allow_unclaimed_space=True)
    assert any(check.id == "bat.unclaimed" and "belong to no block" in check.detail for check in proof.checks)


@pytest.mark.parametrize(
    ("capacity", "fits", "fails"),
    [
        (25 * GIB, [25 * 10**9, 25 * GIB, 25 * GIB + 155_648], [25 * 10**9 - 512, 25 * GIB + 3 * MIB, 26 * GIB]),
        (25 * 10**9, [25 * 10**9, 25 * GIB, 25 * GIB + 155_648], [25 * 10**9 - 512, 25 * GIB + 3 * MIB, 26 * GIB]),
        (64 * MIB, [64 * MIB, 67_125_248], [64 * MIB - 512, 67 * MIB]),
    ],
)
def test_capacity_range(capacity: int, fits: list[int], fails: list[int]) -> None:
    low, high = capacity_range(capacity)
    assert all(low <= size <= high for size in fits)
    assert not any(low <= size <= high for size in fails)
