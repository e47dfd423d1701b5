"""Disks, good images and a corpus of damaged ones, for the tests of the images room."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from sealift.images import vhd
from sealift.images.vhd_writer import write_dynamic_vhd, write_fixed_vhd
from tests.images.convert.samples import MADE_BY_QEMU, MIXED_SIZE, mixed_disk, qemu_img, write_disk

MIB = 1024 * 1024
DISK_SIZE = 64 * MIB
IMAGE_UUID = UUID("0f6e0f1e-7c5d-4a53-9a39-6f1c2be0a7d4")
STAMP = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def mbr(*, partitions: list[tuple[int, int, int, int]]) -> bytes:
    """Return an MBR of (status, type, first sector, sectors)."""
    sector = bytearray(512)
    for number, (status, type_, first, count) in enumerate(partitions):
        struct.pack_into("<B3xB3xII", sector, 446 + number * 16, status, type_, first, count)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def write_raw(path: Path, *, size: int, pieces: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in pieces.items():
            file.seek(at)
            file.write(data)
    return path


@dataclasses.dataclass(frozen=True)
class Images:
    """A disk and its good images, and makers for more."""

    folder: Path
    raw: Path
    dynamic: Path
    fixed: Path

    def of(self, pieces: dict[int, bytes], *, size: int = DISK_SIZE, name: str = "other") -> tuple[Path, Path]:
        """Return (raw, dynamic VHD) of a disk with these pieces."""
        raw = write_raw(self.folder / f"{name}.raw", size=size, pieces=pieces)
        out = self.folder / f"{name}.vhd"
        write_dynamic_vhd(raw=raw, out=out, uuid=IMAGE_UUID, timestamp=STAMP)
        return raw, out


def disk_pieces() -> dict[int, bytes]:
    """Return 8 MiB of data spread over a disk with one partition."""
    chance = random.Random(20261123)
    return {
        0: mbr(partitions=[(0x80, 0x83, 2048, DISK_SIZE // 512 - 2048)]),
        MIB: chance.randbytes(3 * MIB),
        20 * MIB + 512: chance.randbytes(4 * MIB),
        DISK_SIZE - MIB: chance.randbytes(MIB),
    }


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("images")
    raw = write_raw(folder / "disk.raw", size=DISK_SIZE, pieces=disk_pieces())
    write_dynamic_vhd(raw=raw, out=folder / "dynamic.vhd", uuid=IMAGE_UUID, timestamp=STAMP)
    write_fixed_vhd(raw=raw, out=folder / "fixed.vhd", uuid=IMAGE_UUID, timestamp=STAMP)
    return Images(folder=folder, raw=raw, dynamic=folder / "dynamic.vhd", fixed=folder / "fixed.vhd")


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A disk of mixed data by producer: QEMU in all its ways, Sealift's own writer, and ``raw``, the disk itself."""
    folder = tmp_path_factory.mktemp("mixed")
    found = {"raw": write_disk(folder / "disk.raw", mixed_disk(), size=MIXED_SIZE)}
    for name, options in MADE_BY_QEMU.items():
        found[name] = folder / name
        qemu_img("convert", "-f", "raw", *options, found["raw"], found[name])
    found["sealift"] = folder / "sealift.vhd"
    write_dynamic_vhd(raw=found["raw"], out=found["sealift"], uuid=IMAGE_UUID, timestamp=STAMP)
    return found


@dataclasses.dataclass(frozen=True)
class Damage:
    """One way to damage an image.

    :param name: says what is done.
    :param check: id of the check that must be the first to fail; ``None`` where level L1 cannot see the damage.
    :param says: words that the message must hold.
    :param make: returns the damaged bytes of a good image.
    :param fixed: damages the fixed image instead of the dynamic one.
    :param boot_disk: proved as the disk that the server starts from.
    """

    name: str
    check: str | None
    says: tuple[str, ...]
    make: Callable[[bytearray], bytes | bytearray]
    fixed: bool = False
    boot_disk: bool = False

    def apply(self, images: Images) -> bytes:
        return bytes(self.make(bytearray((images.fixed if self.fixed else images.dynamic).read_bytes())))


def _entries(data: bytearray) -> list[int]:
    """Return the BAT entries that are in use, by their place in the file."""
    header = vhd.DynamicHeader.unpack(bytes(data[512:1536]))
    places = range(header.table_offset, header.table_offset + header.max_table_entries * 4, 4)
    return [at for at in places if data[at : at + 4] != b"\xff\xff\xff\xff"]


def _with_footers(data: bytearray, **changes: int | bytes) -> bytearray:
    """Change fields of both footers and seal them again: what a wrong, but self-consistent producer writes."""
    footer = dataclasses.replace(vhd.VhdFooter.unpack(bytes(data[-512:])), **changes).pack()
    data[-512:] = footer
    if data[:8] == b"conectix":
        data[:512] = footer
    return data


def _with_header(data: bytearray, **changes: int) -> bytearray:
    data[512:1536] = dataclasses.replace(vhd.DynamicHeader.unpack(bytes(data[512:1536])), **changes).pack()
    return data


def _set(data: bytearray, at: int, value: bytes) -> bytearray:
    start = at if at >= 0 else len(data) + at
    assert start + len(value) <= len(data)
    data[start : start + len(value)] = value
    return data


def _copy_entry(data: bytearray) -> bytearray:
    first, second = _entries(data)[1:3]
    return _set(data, second, bytes(data[first : first + 4]))


def _shift_entry(data: bytearray) -> bytearray:
    at = _entries(data)[2]
    return _set(data, at, (int.from_bytes(data[at : at + 4], "big") + 1).to_bytes(4, "big"))


def _lose_entry(data: bytearray, which: int) -> bytearray:
    return _set(data, _entries(data)[which], b"\xff\xff\xff\xff")


def _block_at(data: bytearray, which: int) -> int:
    at = _entries(data)[which]
    return int.from_bytes(data[at : at + 4], "big") * 512


def _zero_block(data: bytearray, which: int) -> bytearray:
    return _set(data, _block_at(data, which), bytes(512 + 2 * MIB))


def _swap_entries(data: bytearray) -> bytearray:
    one, other = _entries(data)[1:3]
    data[one : one + 4], data[other : other + 4] = data[other : other + 4], data[one : one + 4]
    return data


def _flip(data: bytearray, at: int) -> bytearray:
    data[at] ^= 0x10
    return data


def _twice(data: bytearray) -> bytearray:
    """A multipart upload that holds its second part twice: the rest, with the footer, comes later than it should."""
    part = 4 * MIB
    return data[: 2 * part] + data[part : 2 * part] + data[2 * part :]


CORPUS = (
    Damage("empty file", "file.length", ("0 bytes",), lambda d: b""),
    Damage("one sector", "file.length", ("512 bytes",), lambda d: d[:512]),
    Damage("cut by 64 KiB", "footer.cookie", ("the file was cut", "65536 bytes are missing"), lambda d: d[:-65536]),
    Damage("cut by 100 bytes", "file.length", ("multiple of 512",), lambda d: d[:-100]),
    Damage("cut in the BAT", "footer.cookie", ("conectix",), lambda d: d[:2048]),
    Damage(
        "cut, and the footer put at the end again",
        "bat.range",
        ("65536 bytes are missing",),
        lambda d: d[: -512 - 65536] + d[-512:],
    ),
    Damage("last 64 KiB zero", "footer.cookie", ("the end was zeroed",), lambda d: _set(d, -65536, bytes(65536))),
    Damage(
        "footer zeroed", "footer.cookie", ("00 00 00 00", "the end was zeroed"), lambda d: _set(d, -512, bytes(512))
    ),
    Damage("footer missing", "footer.cookie", ("512 bytes are missing",), lambda d: d[:-512]),
    Damage("footer checksum wrong", "footer.checksum", ("0x00000000",), lambda d: _set(d, -512 + 64, bytes(4))),
    Damage("footer of 511 bytes", "file.length", ("511 bytes",), lambda d: d[:-1]),
    Damage("something appended", "footer.cookie", ("conectix",), lambda d: d + bytes(512)),
    Damage("header copy zeroed", "header_copy", ("00 00", "at 0"), lambda d: _set(d, 0, bytes(512))),
    Damage("header copy differs", "header_copy", ("at byte 70",), lambda d: _flip(d, 70)),
    Damage("dynamic header zeroed", "dynamic_header.cookie", ("at 512",), lambda d: _set(d, 512, bytes(1024))),
    Damage("dynamic header checksum", "dynamic_header.checksum", ("at byte 548",), lambda d: _flip(d, 512 + 36)),
    Damage("dynamic header text", "dynamic_header.checksum", ("at byte 548",), lambda d: _flip(d, 512 + 100)),
    Damage(
        "dynamic header outside",
        "dynamic_header.place",
        ("expected 512",),
        lambda d: _with_footers(d, data_offset=2**40),
    ),
    Damage("block size", "dynamic_header.block_size", ("3000000",), lambda d: _with_header(d, block_size=3_000_000)),
    Damage("BAT too short", "bat.entries", ("needs 32",), lambda d: _with_header(d, max_table_entries=31)),
    Damage("BAT outside the file", "bat.place", ("the footer",), lambda d: _with_header(d, table_offset=2**33)),
    Damage("BAT over the header", "metadata.overlap", ("inside",), lambda d: _with_header(d, table_offset=1024)),
    Damage("BAT zeroed", "bat.range", ("32 of 32", "entry 0"), lambda d: _set(d, 1536, bytes(128))),
    Damage("BAT entry outside", "bat.range", ("entry 1 ",), lambda d: _set(d, _entries(d)[1], b"\x7f\xff\xff\xff")),
    Damage("BAT entry in the header", "bat.range", ("entry 1 ",), lambda d: _set(d, _entries(d)[1], b"\0\0\0\1")),
    Damage("two BAT entries the same", "bat.overlap", ("0 sectors apart",), _copy_entry),
    Damage("BAT entry one sector on", "bat.overlap", ("sectors apart",), _shift_entry),
    Damage("BAT entry lost in the middle", "bat.unclaimed", ("belong to no block",), lambda d: _lose_entry(d, 2)),
    Damage("BAT entry lost at the end", "bat.unclaimed", ("belong to no block",), lambda d: _lose_entry(d, -1)),
    Damage("BAT entry of the first block lost", "bat.unclaimed", ("no block",), lambda d: _lose_entry(d, 0)),
    Damage(
        "BAT blank", "bat.unclaimed", ("bytes 2048 to", "6 blocks are lost"), lambda d: _set(d, 1536, b"\xff" * 128)
    ),
    Damage("a part of the upload twice", "bat.unclaimed", ("is there twice",), _twice),
    Damage("last block zeroed", "bitmaps", ("claims no sector",), lambda d: _zero_block(d, -1)),
    Damage("first block zeroed", "bitmaps", ("claims no sector",), lambda d: _zero_block(d, 0)),
    Damage("differencing", "footer.type", ("differencing", "parent"), lambda d: _with_footers(d, disk_type=4)),
    Damage("reserved disk type", "footer.type", ("disk type 6",), lambda d: _with_footers(d, disk_type=6)),
    Damage("newer format", "footer.version", ("0x00020000",), lambda d: _with_footers(d, version=0x20000)),
    Damage("no size", "footer.sizes", ("0 bytes",), lambda d: _with_footers(d, current_size=0)),
    Damage("half a sector", "footer.sizes", ("67108608",), lambda d: _with_footers(d, current_size=DISK_SIZE - 256)),
    Damage("disk too small", "bat.entries", ("beyond the end",), lambda d: _with_footers(d, current_size=32 * MIB)),
    Damage("disk too large", "bat.entries", ("needs 64",), lambda d: _with_footers(d, current_size=2 * DISK_SIZE)),
    Damage(
        "a sector too small",
        "capacity",
        ("67108352", "expected 67108864 to"),
        lambda d: _with_footers(d, current_size=DISK_SIZE - 512),
    ),
    Damage(
        "first sector blank",
        "partition_table",
        ("blank",),
        lambda d: _set(d, _block_at(d, 0) + 512, bytes(512)),
        boot_disk=True,
    ),
    Damage(
        "first sector not claimed",
        "partition_table",
        ("blank",),
        lambda d: _set(d, _block_at(d, 0), b"\x7f"),
        boot_disk=True,
    ),
    Damage(
        "first sector random",
        "partition_table",
        ("ab ab", "expected 55 aa"),
        lambda d: _set(d, _block_at(d, 0) + 512, b"\xab" * 512),
        boot_disk=True,
    ),
    Damage(
        "partition beyond the end",
        "partition_table",
        ("partition 1", "but the disk ends at 67108864"),
        lambda d: _set(d, _block_at(d, 0) + 512 + 446 + 12, b"\xff\xff\xff\x00"),
    ),
    Damage("fixed, cut by 64 KiB", "footer.cookie", ("raw disk, or a fixed VHD",), lambda d: d[:-65536], fixed=True),
    Damage(
        "fixed, cut in the middle, footer there",
        "file.end",
        ("1048576 bytes missing",),
        lambda d: d[: 32 * MIB] + d[33 * MIB :],
        fixed=True,
    ),
    Damage("fixed, a part twice", "file.end", ("too many",), lambda d: d[: 2 * MIB] + d[MIB:], fixed=True),
    Damage("fixed, footer zeroed", "footer.cookie", ("00 00",), lambda d: _set(d, -512, bytes(512)), fixed=True),
    Damage(
        "fixed, footer bit", "footer.checksum", ("footer's bytes give",), lambda d: _flip(d, len(d) - 10), fixed=True
    ),
    Damage("raw disk", "footer.cookie", ("looks like a raw disk",), lambda d: d[:-512], fixed=True),
    Damage("fixed, blank start", "partition_table", ("blank",), lambda d: _set(d, 0, bytes(512)), True, True),
    Damage("QCOW2", "footer.cookie", ("QCOW2",), lambda d: b"QFI\xfb\0\0\0\3".ljust(65536, b"\0")),
    Damage("VMDK", "footer.cookie", ("VMDK",), lambda d: b"KDMV\3\0\0\0".ljust(65536, b"\0")),
    Damage("error answer", "footer.cookie", ("error answer",), lambda d: b"<?xml version='1.0'?><Error>".ljust(2048)),
    # What only level L2 sees, because every structure is as it should be:
    Damage("bit in the data", None, (), lambda d: _flip(d, _block_at(d, 1) + 512 + 70_000)),
    Damage("data of a block zeroed", None, (), lambda d: _set(d, _block_at(d, 2) + 512, bytes(2 * MIB))),
    Damage("two blocks exchanged", None, (), _swap_entries),
    Damage("bit in a bitmap", None, (), lambda d: _flip(d, _block_at(d, 1) + 100)),
)


@pytest.fixture(params=CORPUS, ids=lambda damage: damage.name.replace(" ", "-"))
def damage(request: pytest.FixtureRequest) -> Damage:
    """Each damage of the corpus in turn."""
    return request.param


@pytest.fixture(scope="session")
def corpus() -> dict[str, Damage]:
    """All damages by name."""
    return {damage.name: damage for damage in CORPUS}
