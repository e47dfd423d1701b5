"""Writes VMDKs as VMware's tools stream them: grains as they come, directory and footer at the end."""

from __future__ import annotations

import dataclasses
import struct
import zlib

from sealift.images import vmdk

DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=5a5a5a5a
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RDONLY {sectors} SPARSE "disk.vmdk"

# The Disk Data Base
ddb.adapterType = "lsilogic"
ddb.toolsVersion = "10338"
ddb.uuid = "60 00 C2 9a 11 22 33 44-55 66 77 88 99 aa bb cc"
"""
GRAIN = 128 * vmdk.SECTOR


def stream_optimized(disk: bytes, *, descriptor: str = DESCRIPTOR) -> bytearray:
    """Make a streamOptimized VMDK of a disk of whole sectors."""
    capacity = len(disk) // vmdk.SECTOR
    header = vmdk.SparseHeader(
        magic=vmdk.MAGIC,
        version=3,
        flags=1 | vmdk.FLAG_COMPRESSED | vmdk.FLAG_MARKERS,
        capacity=capacity,
        grain=128,
        descriptor_at=1,
        descriptor_size=20,
        table_entries=512,
        redundant_directory_at=0,
        directory_at=vmdk.DIRECTORY_AT_END,
        overhead=128,
        unclean=0,
        newlines=vmdk.NEWLINES,
        compression=vmdk.DEFLATE,
    )
    out = bytearray(header.pack())
    out += descriptor.format(sectors=capacity).encode().ljust(20 * vmdk.SECTOR, b"\0")
    out += bytes(128 * vmdk.SECTOR - len(out))

    def marker(value: int, kind: int) -> None:
        out.extend(struct.pack("<QII496x", value, 0, kind))

    def place() -> int:
        return len(out) // vmdk.SECTOR

    directory = []
    for table in range(header.tables):
        entries = [0] * 512
        for index in range(512):
            number = table * 512 + index
            data = disk[number * GRAIN : (number + 1) * GRAIN]
            if any(data):
                packed = zlib.compress(data.ljust(GRAIN, b"\0"))
                entries[index] = place()
                out += struct.pack("<QI", number * 128, len(packed)) + packed
                out += bytes(-len(out) % vmdk.SECTOR)
        if not any(entries):
            directory.append(0)
            continue
        marker(4, vmdk.MARKER_TABLE)
        directory.append(place())
        out += struct.pack("<512I", *entries)
    size = -(-len(directory) * 4 // vmdk.SECTOR)
    marker(size, vmdk.MARKER_DIRECTORY)
    at = place()
    out += struct.pack(f"<{len(directory)}I", *directory).ljust(size * vmdk.SECTOR, b"\0")
    marker(1, vmdk.MARKER_FOOTER)
    out += dataclasses.replace(header, directory_at=at).pack()
    marker(0, vmdk.MARKER_END)
    return out
