"""Checks what of NTFS can be checked without reading files: the boot sector, its copy, the first file records.

Numbers are little-endian. The copy of the boot sector lies in the sector after the last one that the file system
counts.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final, Self

from sealift.images.file_systems.window import Region
from sealift.images.findings import Findings
from sealift.images.source import ImageFormatError

_OEM: Final = b"NTFS    "
_RECORD: Final = b"FILE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BootSector:
    """The first sector. ``table`` and ``mirror`` are clusters."""

    oem: bytes
    sector: int
    cluster_sectors: int
    sectors: int
    table: int
    mirror: int
    record_size: int
    serial: int
    signature: bytes

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the 512 bytes of the first sector.

        :param data: the bytes.
        """
        sector, cluster = struct.unpack_from("<HB", data, 11)
        sectors, table, mirror, record = struct.unpack_from("<QQQb", data, 40)
        cluster_sectors = cluster if cluster <= 128 else 1 << min(256 - cluster, 16)
        return cls(
            oem=data[3:11],
            sector=sector,
            cluster_sectors=cluster_sectors,
            sectors=sectors,
            table=table,
            mirror=mirror,
            record_size=1 << min(-record, 16) if record < 0 else record * cluster_sectors * sector,
            serial=struct.unpack_from("<Q", data, 72)[0],
            signature=data[510:512],
        )

    @property
    def uuid_text(self) -> str:
        """The serial number as fstab has it."""
        return f"{self.serial:016X}"

    def why_not(self, size: int) -> str:
        """Say why the boot sector cannot be right; empty if it can.

        :param size: of the partition, in bytes.
        """
        if self.oem != _OEM or self.signature != b"\x55\xaa":
            return f"it begins with {self.oem!r} and ends with {self.signature.hex(' ')}, expected {_OEM!r} and 55 aa"
        if self.sector not in (512, 1024, 2048, 4096) or not self.cluster_sectors:
            return f"sectors of {self.sector} bytes, clusters of {self.cluster_sectors} sectors"
        clusters = self.sectors // self.cluster_sectors
        if not self.sectors or self.sectors * self.sector > size:
            return f"{self.sectors} sectors of {self.sector} bytes, but {size} bytes are there"
        if not 0 < self.table < clusters or not 0 < self.mirror < clusters:
            return f"file tables in clusters {self.table} and {self.mirror} of {clusters}"
        if not 256 <= self.record_size <= 65536:
            return f"file records of {self.record_size} bytes"
        return ""


def read_boot_sector(region: Region, *, name: str) -> BootSector:
    """Read and check the boot sector.

    :param region: the partition.
    :param name: what it is called in messages.
    :raises ImageFormatError: it cannot be right.
    """
    boot = BootSector.unpack(region.read(0, 512))
    if why := boot.why_not(region.size):
        raise ImageFormatError(f"{name}: the NTFS boot sector cannot be right: {why}", offset=0)
    return boot


def check_ntfs(findings: Findings, region: Region, boot: BootSector, *, name: str) -> None:
    """Check a file system whose boot sector was read.

    :param findings: where checks go.
    :param region: the partition.
    :param boot: the boot sector.
    :param name: what it is called in messages.
    """
    findings.record(
        "file_system.superblock",
        True,
        f"{name}: ntfs of {boot.sectors * boot.sector} bytes; its boot sector can be right",
    )
    cluster = boot.cluster_sectors * boot.sector
    for what, number in (("file table", boot.table), ("file table's mirror", boot.mirror)):
        begins = region.read(number * cluster, 4)
        findings.record(
            "file_system.root",
            begins == _RECORD,
            f"{name}: the {what} at byte {number * cluster} begins with {begins!r}"
            + ("" if begins == _RECORD else f", expected {_RECORD!r}"),
        )
    at = boot.sectors * boot.sector
    if at + boot.sector > region.size:
        findings.remark("file_system.backup", f"{name}: there is no room for the copy of the boot sector")
        return
    copy = BootSector.unpack(region.read_once(at, 512))
    where = f"{name}: the copy of the boot sector at byte {at}"
    why = copy.why_not(region.size)
    findings.record("file_system.backup", not why, f"{where} cannot be right: {why}" if why else f"{where} is there")
    if not why and copy != boot:
        findings.remark("file_system.backup", f"{where} differs from the boot sector")
