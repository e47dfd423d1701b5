"""The corpus of damage: good images of one disk from many producers, ways to damage each, and the level that sees it.

``python -m tests.images.corpus FOLDER`` writes all of it, with an ``index.json`` that says what each file is and which
level must refuse it, for other programs to be measured by. The tests beside it prove every file.

The disk is a server's: a partition table, a file system, an operating system's files, data. What L2 catches only with
the digest of the good image, as an earlier reading would have noted it, is marked. Images that are whole, of disks that
are not, are in :mod:`tests.images.server_damage`, and written too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sealift.images import qcow2, vhd, vmdk
from sealift.images.source import BytesSource
from sealift.sandbox.disks import DiskSpec, build_raw
from tests.images.producers import PRODUCERS, suffix
from tests.images.server_damage import write_servers

MIB: Final = 2**20
DISK: Final = DiskSpec(kind="linux-root", capacity_bytes=64 * MIB, hostname="web01", seed=1, payload_bytes=3 * MIB)
OTHERS: Final = DiskSpec(kind="linux-root", capacity_bytes=64 * MIB, hostname="db01", seed=2, payload_bytes=3 * MIB)
DATA_DISK: Final = DiskSpec(kind="linux-data", capacity_bytes=64 * MIB, hostname="web01", seed=3, payload_bytes=MIB)


# -- good images -------------------------------------------------------------------------------------------------------


def make_good(folder: Path) -> dict[str, Path]:
    """Write the disk and its good images.

    :param folder: an empty folder.
    :returns: the images by producer; the raw disk itself as ``raw``, another server's as ``raw-others``, a data disk of
        the same size as ``raw-data``.
    """
    made = {}
    for name, spec in (("raw", DISK), ("raw-others", OTHERS), ("raw-data", DATA_DISK)):
        made[name] = folder / f"{name}.raw"
        build_raw(spec, made[name])
    for name, (family, make) in PRODUCERS.items():
        made[name] = folder / f"{name}.{suffix(family)}"
        make(made["raw"], made[name])
    return made


# -- finding places ----------------------------------------------------------------------------------------------------


def vhd_blocks(data: bytes) -> list[int]:
    """Where the stored blocks begin, with their bitmaps, in the order of the disk."""
    return list(vhd.VhdReader(BytesSource(bytes(data))).block_places())


def vhd_entries(data: bytes) -> list[int]:
    """Where the entries of the block table are that lead to blocks."""
    header = vhd.DynamicHeader.unpack(bytes(data[512:1536]))
    places = range(header.table_offset, header.table_offset + header.max_table_entries * 4, 4)
    return [at for at in places if data[at : at + 4] != b"\xff\xff\xff\xff"]


def grains(data: bytes) -> list[int]:
    """Where the stored grains begin, in the order of the disk; of a compressed one, its marker."""
    reader = vmdk.VmdkReader(BytesSource(bytes(data)))
    entries = (reader.table(number // 512)[number % 512] for number in range(reader.header.grains))
    return [entry * 512 for entry in entries if entry > 1]


def clusters(data: bytes) -> list[int]:
    """Where the stored clusters begin, in the order of the disk; not the compressed ones."""
    reader = qcow2.Qcow2Reader(BytesSource(bytes(data)))
    entries = (
        reader.table(number // reader.header.l2_entries)[number % reader.header.l2_entries]
        for number in range(reader.header.clusters)
    )
    return [entry & qcow2.ADDRESS for entry in entries if entry & qcow2.ADDRESS and not entry & qcow2.COMPRESSED]


def place_of(data: bytes, family: str, offset: int) -> int:
    """Where a byte of the virtual disk lies in an image that is not compressed."""
    if family == "vhd-fixed":
        return offset
    if family == "vhd-dynamic":
        entry = vhd.VhdReader(BytesSource(bytes(data)))._bat[offset // (2 * MIB)]
        assert entry != vhd.UNALLOCATED
        return entry * 512 + 512 + offset % (2 * MIB)
    if family == "vmdk-sparse":
        reader = vmdk.VmdkReader(BytesSource(bytes(data)))
        number, inside = divmod(offset, reader.header.grain_bytes)
        return reader.table(number // 512)[number % 512] * 512 + inside
    assert family == "qcow2"
    image = qcow2.Qcow2Reader(BytesSource(bytes(data)))
    number, inside = divmod(offset, image.header.cluster)
    return (image.table(number // image.header.l2_entries)[number % image.header.l2_entries] & qcow2.ADDRESS) + inside


# -- damage ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Damage:
    """One way to damage an image.

    :param name: says what is done.
    :param level: the lowest level that must refuse it.
    :param families: what it is for.
    :param make: returns the damaged bytes; gets the good ones, the family, and all good images by name.
    :param needs_digest: L2 sees it only where the digest of the good image is known.
    """

    name: str
    level: str
    families: tuple[str, ...]
    make: Callable[[bytearray, str, Mapping[str, bytes]], bytes | bytearray]
    needs_digest: bool = False


DYNAMIC, FIXED = ("vhd-dynamic",), ("vhd-fixed",)
VHD = DYNAMIC + FIXED
STREAM, SPARSE = ("vmdk-stream",), ("vmdk-sparse",)
VMDK = STREAM + SPARSE
PLAIN_QCOW2, PACKED_QCOW2 = ("qcow2",), ("qcow2-packed",)
QCOW2 = PLAIN_QCOW2 + PACKED_QCOW2
ALL = VHD + VMDK + QCOW2
PLAIN = VHD + SPARSE + PLAIN_QCOW2
"""Families that store the disk's bytes as they are."""


def put(data: bytearray, at: int, value: bytes) -> bytearray:
    start = at if at >= 0 else len(data) + at
    assert start >= 0
    assert start + len(value) <= len(data)
    data[start : start + len(value)] = value
    return data


def flip(data: bytearray, at: int) -> bytearray:
    data[at] ^= 0x10
    return data


def _footers(data: bytearray, **changes: int | bytes) -> bytearray:
    footer = dataclasses.replace(vhd.VhdFooter.unpack(bytes(data[-512:])), **changes).pack()
    data[-512:] = footer
    if data[:8] == b"conectix":
        data[:512] = footer
    return data


def _payload(data: bytearray, family: str) -> int:
    """Where a byte of the payload lies: random bytes, which are part of no structure that anybody checks."""
    reader_of = {"vhd": vhd.VhdReader, "vmdk": vmdk.VmdkReader, "qcow2": qcow2.Qcow2Reader}[family.partition("-")[0]]
    disk = reader_of(BytesSource(bytes(data)))
    # The file system lays it out in one piece; random bytes hold one zero in 256.
    start = next(at for at in range(8 * MIB, MIB, -65536) if disk.read(at, 65536).count(0) < 512)
    return place_of(data, family, start + 8192)


def _exchange_entries(data: bytearray, one: int, other: int) -> bytearray:
    data[one : one + 4], data[other : other + 4] = data[other : other + 4], data[one : one + 4]
    return data


def _of_another(raw: str) -> Callable[[bytearray, str, Mapping[str, bytes]], bytes]:
    def make(data: bytearray, family: str, good: Mapping[str, bytes]) -> bytes:
        return good[f"{raw} {family}"]

    return make


def _grain_length(data: bytearray) -> bytearray:
    at = grains(data)[2] + 8
    return put(data, at, struct.pack("<I", struct.unpack_from("<I", data, at)[0] - 7))


DAMAGE: Final = (
    Damage("zero length", "L1", ALL, lambda d, f, g: b""),
    Damage("cut by 100 bytes", "L1", VHD + VMDK, lambda d, f, g: d[:-100]),
    # Compressed clusters end anywhere in the file's last 512 bytes; what comes after them may go.
    Damage("cut by 600 bytes", "L1", PACKED_QCOW2, lambda d, f, g: d[:-600]),
    Damage("cut by 64 KiB", "L1", ALL, lambda d, f, g: d[:-65536]),
    Damage("cut in half", "L1", ALL, lambda d, f, g: d[: len(d) // 1024 * 512]),
    Damage("tail of 64 KiB zeroed", "L1", VHD + STREAM + PACKED_QCOW2, lambda d, f, g: put(d, -65536, bytes(65536))),
    Damage("something appended", "L1", VHD, lambda d, f, g: d + bytes(512)),
    Damage("footer zeroed", "L1", VHD, lambda d, f, g: put(d, -512, bytes(512))),
    Damage("footer checksum", "L1", VHD, lambda d, f, g: flip(d, len(d) - 512 + 64)),
    Damage("footer differs from its copy", "L1", DYNAMIC, lambda d, f, g: flip(d, 70)),
    Damage("header zeroed", "L1", ALL, lambda d, f, g: put(d, -512 if f in FIXED else 0, bytes(512))),
    Damage("dynamic header bit", "L1", DYNAMIC, lambda d, f, g: flip(d, 512 + 100)),
    Damage("BAT zeroed", "L1", DYNAMIC, lambda d, f, g: put(d, 1536, bytes(128))),
    Damage("BAT entry unallocated", "L1", DYNAMIC, lambda d, f, g: put(d, vhd_entries(d)[1], b"\xff" * 4)),
    Damage("BAT entry outside", "L1", DYNAMIC, lambda d, f, g: put(d, vhd_entries(d)[1], b"\x7f\xff\xff\xff")),
    Damage(
        "BAT entry twice",
        "L1",
        DYNAMIC,
        lambda d, f, g: put(d, vhd_entries(d)[1], bytes(d[vhd_entries(d)[0] : vhd_entries(d)[0] + 4])),
    ),
    Damage(
        "blocks exchanged in the BAT",
        "L2",
        DYNAMIC,
        lambda d, f, g: _exchange_entries(d, vhd_entries(d)[1], vhd_entries(d)[2]),
        needs_digest=True,
    ),
    Damage("bitmap bit", "L2", DYNAMIC, lambda d, f, g: put(d, vhd_blocks(d)[1], b"\0\0\0\0"), needs_digest=True),
    Damage("block and bitmap zeroed", "L1", DYNAMIC, lambda d, f, g: put(d, vhd_blocks(d)[-1], bytes(512 + 2 * MIB))),
    Damage(
        "block zeroed", "L2", DYNAMIC, lambda d, f, g: put(d, vhd_blocks(d)[1] + 512, bytes(2 * MIB)), needs_digest=True
    ),
    Damage("bit in the data", "L2", PLAIN, lambda d, f, g: flip(d, _payload(d, f)), needs_digest=True),
    Damage(
        "4 KiB of the data zeroed", "L2", PLAIN, lambda d, f, g: put(d, _payload(d, f), bytes(4096)), needs_digest=True
    ),
    Damage("grain marker", "L1", STREAM, lambda d, f, g: put(d, grains(d)[0], struct.pack("<Q", 7))),
    Damage("grain marker in the middle", "L2", STREAM, lambda d, f, g: put(d, grains(d)[13], struct.pack("<Q", 7))),
    Damage("grain's length", "L2", STREAM, lambda d, f, g: _grain_length(d)),
    Damage("bit in a grain", "L2", STREAM, lambda d, f, g: flip(d, grains(d)[13] + 200)),
    Damage("descriptor zeroed", "L1", VMDK, lambda d, f, g: put(d, 512, bytes(1024))),
    Damage("sent as text", "L1", VMDK, lambda d, f, g: put(d, 73, b"\n \n\n")),
    Damage("not closed", "L1", VMDK, lambda d, f, g: put(d, 72, b"\1")),
    Damage("first table elsewhere", "L1", PLAIN_QCOW2, lambda d, f, g: put(d, 40, struct.pack(">Q", 2**50))),
    Damage("reference counts elsewhere", "L1", QCOW2, lambda d, f, g: put(d, 48, struct.pack(">Q", 2**40))),
    Damage("size zero", "L1", QCOW2, lambda d, f, g: put(d, 24, bytes(8))),
    Damage("a sector too small", "L1", VHD, lambda d, f, g: _footers(d, current_size=DISK.capacity_bytes - 512)),
    Damage("a child of another disk", "L1", DYNAMIC, lambda d, f, g: _footers(d, disk_type=4)),
    Damage("partition table zeroed", "L1", PLAIN, lambda d, f, g: put(d, place_of(d, f, 0), bytes(512))),
    Damage("another server's disk", "L2", ALL, _of_another("raw-others"), needs_digest=True),
    Damage("disks swapped", "L2", ALL, _of_another("raw-data"), needs_digest=True),
)  # fmt: skip


def cases() -> Iterator[tuple[str, Damage]]:
    """Every damage on every producer's image that it is for."""
    for producer, (family, _) in PRODUCERS.items():
        for damage in DAMAGE:
            if family in damage.families:
                yield producer, damage


class Corpus:
    """The good images, and what is made of them.

    :param folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = make_good(folder)
        self.good: dict[str, bytes] = {name: path.read_bytes() for name, path in self.paths.items()}
        for name, (family, make) in PRODUCERS.items():
            for raw in ("raw-others", "raw-data"):
                if f"{raw} {family}" not in self.good:
                    out = folder / f"{raw}-{name}.{suffix(family)}"
                    make(self.paths[raw], out)
                    self.good[f"{raw} {family}"] = out.read_bytes()

    def damaged(self, producer: str, damage: Damage) -> bytes:
        """Damage a good image."""
        family, _ = PRODUCERS[producer]
        return bytes(damage.make(bytearray(self.good[producer]), family, self.good))


def main(folder: Path) -> None:
    """Write the whole corpus.

    :param folder: a folder to make.
    """
    folder.mkdir(parents=True)
    corpus = Corpus(folder)
    index: list[dict[str, Any]] = [
        {
            "file": corpus.paths[name].name,
            "producer": name,
            "family": PRODUCERS[name][0],
            "damage": None,
            "sha256": hashlib.sha256(corpus.good[name]).hexdigest(),
        }
        for name in PRODUCERS
    ]
    for producer, damage in cases():
        family, _ = PRODUCERS[producer]
        name = f"{producer}--{damage.name.replace(' ', '-')}.{suffix(family)}"
        (folder / name).write_bytes(corpus.damaged(producer, damage))
        index.append(
            {"file": name, "producer": producer, "family": family, "damage": damage.name, "level": damage.level}
        )
    index += write_servers(folder)
    (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
