"""Makes images of a disk as many producers do: Sealift's own writers, QEMU, VMware's tools, XenServer's blktap."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from sealift.images import vhd
from sealift.images.source import BytesSource
from sealift.images.vhd_writer import write_dynamic_vhd, write_fixed_vhd
from tests.images.vmdk_files import stream_optimized

MIB: Final = 2**20
IMAGE_UUID: Final = UUID("0f6e0f1e-7c5d-4a53-9a39-6f1c2be0a7d4")
STAMP: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _qemu(form: str, options: str = "", *more: str) -> Callable[[Path, Path], None]:
    def make(raw: Path, out: Path) -> None:
        words = ["qemu-img", "convert", "-f", "raw", "-O", form, *(("-o", options) if options else ()), *more]
        subprocess.run([*words, str(raw), str(out)], check=True, capture_output=True, timeout=120)

    return make


def _sealift(write: Callable[..., object]) -> Callable[[Path, Path], None]:
    def make(raw: Path, out: Path) -> None:
        write(raw=raw, out=out, uuid=IMAGE_UUID, timestamp=STAMP)

    return make


def vmware(raw: Path, out: Path) -> None:
    """As VMware's tools stream: directory and footer at the end."""
    out.write_bytes(stream_optimized(raw.read_bytes()))


def blktap(raw: Path, out: Path) -> None:
    """As XenServer's blktap writes: a table for a later, larger disk, a map of full blocks behind it, blocks aligned to
    4 KiB, and bitmaps that claim only the sectors that were written."""
    entries = 4096
    write_dynamic_vhd(raw=raw, out=out, uuid=IMAGE_UUID, creator_app=b"tap\0", timestamp=STAMP)
    source = out.read_bytes()
    reader = vhd.VhdReader(BytesSource(source))
    assert reader.header is not None
    old = vhd.unpack_bat(source[1536 : 1536 + reader.header.max_table_entries * 4])
    header = vhd.DynamicHeader(table_offset=1536, max_table_entries=entries, block_size=2 * MIB)
    at = 1536 + entries * 4
    batmap = b"tdbatmap".ljust(512, b"\0") + b"\xa5" * (entries // 8)
    place = -(-(at + len(batmap)) // 4096) * 4096 + 3584
    table = [vhd.UNALLOCATED] * entries
    image = bytearray(place)
    image[at : at + len(batmap)] = batmap
    for number, entry in enumerate(old):
        if entry == vhd.UNALLOCATED:
            continue
        block = source[entry * 512 + 512 : entry * 512 + 512 + 2 * MIB]
        bits = "".join("1" if any(block[start : start + 512]) else "0" for start in range(0, 2 * MIB, 512))
        table[number] = len(image) // 512
        image += int(bits, 2).to_bytes(512, "big") + block
        image += bytes(-(len(image) - 3584) % 4096)
    image += source[-512:]
    image[:1536] = source[:512] + header.pack()
    image[1536:at] = b"".join(entry.to_bytes(4, "big") for entry in table)
    out.write_bytes(image)


PRODUCERS: Final[Mapping[str, tuple[str, Callable[[Path, Path], None]]]] = {
    # Name → family, and how it is made.
    "sealift-dynamic": ("vhd-dynamic", _sealift(write_dynamic_vhd)),
    "blktap": ("vhd-dynamic", blktap),
    "qemu-dynamic": ("vhd-dynamic", _qemu("vpc", "subformat=dynamic,force_size=on")),
    "qemu-rounded": ("vhd-dynamic", _qemu("vpc", "subformat=dynamic")),
    "sealift-fixed": ("vhd-fixed", _sealift(write_fixed_vhd)),
    "qemu-fixed": ("vhd-fixed", _qemu("vpc", "subformat=fixed,force_size=on")),
    "qemu-sparse": ("vmdk-sparse", _qemu("vmdk", "subformat=monolithicSparse")),
    "qemu-stream": ("vmdk-stream", _qemu("vmdk", "subformat=streamOptimized")),
    "vmware-stream": ("vmdk-stream", vmware),
    "qemu-qcow2": ("qcow2", _qemu("qcow2")),
    "qemu-qcow2-v2": ("qcow2", _qemu("qcow2", "compat=0.10")),
    "qemu-qcow2-packed": ("qcow2-packed", _qemu("qcow2", "", "-c")),
}
SUFFIXES: Final = {"vhd": "vhd", "vmdk": "vmdk", "qcow2": "qcow2"}


def suffix(family: str) -> str:
    """What a family's files are called."""
    return SUFFIXES[family.partition("-")[0]]
