"""Reads FAT12, FAT16 and FAT32, as EFI system partitions have them.

After Microsoft's "FAT32 File System Specification" 1.03. Numbers are little-endian.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final, Self

from sealift.images.file_systems.file_system import LARGEST_DIRECTORY, MOST_ENTRIES, Node, NodeKind
from sealift.images.file_systems.window import Region
from sealift.images.source import ImageFormatError

_ENTRY: Final = 32
_ARCHIVE, _DIRECTORY, _LABEL, _LONG_NAME = 0x20, 0x10, 0x08, 0x0F
_DELETED, _END = 0xE5, 0x00
_ROOT_KEY: Final = 0
_FAT12_CLUSTERS, _FAT16_CLUSTERS = 4085, 65525
"""Below these many clusters a file system is FAT12 or FAT16, whatever it says of itself."""


class FatFormatError(ImageFormatError):
    """Bytes are not what the format of FAT demands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BootSector:
    """The first sector: the BIOS parameter block. Sizes are sectors where nothing else is said."""

    sector: int
    cluster_sectors: int
    reserved: int
    tables: int
    root_entries: int
    sectors: int
    table_sectors: int
    root_cluster: int
    backup: int
    media: int
    serial: int
    label: str
    signature: bytes

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the 512 bytes of the first sector.

        :param data: the bytes.
        """
        sector, cluster_sectors, reserved, tables, root_entries, sectors, media, table_sectors = struct.unpack_from(
            "<HBHBHHBH", data, 11
        )
        large = table_sectors == 0
        long_sectors, long_table_sectors = struct.unpack_from("<II", data, 32)
        root_cluster, backup = struct.unpack_from("<I2xH", data, 44) if large else (0, 0)
        at = 67 if large else 39
        return cls(
            sector=sector,
            cluster_sectors=cluster_sectors,
            reserved=reserved,
            tables=tables,
            root_entries=root_entries,
            sectors=sectors or long_sectors,
            table_sectors=table_sectors or long_table_sectors,
            root_cluster=root_cluster,
            backup=backup,
            media=media,
            serial=struct.unpack_from("<I", data, at)[0],
            label=data[at + 4 : at + 15].decode("ascii", "replace").strip(),
            signature=data[510:512],
        )

    @property
    def root_sectors(self) -> int:
        """Sectors of the root directory of FAT12 and FAT16."""
        return -(-self.root_entries * _ENTRY // self.sector)

    @property
    def data_start(self) -> int:
        """First sector of the first cluster, whose number is 2."""
        return self.reserved + self.tables * self.table_sectors + self.root_sectors

    @property
    def clusters(self) -> int:
        """How many clusters there are."""
        return max(0, self.sectors - self.data_start) // self.cluster_sectors

    @property
    def bits(self) -> int:
        """Bits of an entry of the table: 12, 16 or 32."""
        if self.clusters < _FAT12_CLUSTERS:
            return 12
        return 16 if self.clusters < _FAT16_CLUSTERS else 32

    @property
    def uuid_text(self) -> str:
        """The serial number as fstab has it."""
        return f"{self.serial >> 16:04X}-{self.serial & 0xFFFF:04X}"

    @property
    def shown_label(self) -> str:
        """The label, where there is one."""
        return "" if self.label == "NO NAME" else self.label

    def why_not(self, size: int) -> str:
        """Say why the boot sector cannot be used; empty if it can.

        :param size: of the partition, in bytes.
        """
        if self.signature != b"\x55\xaa":
            return f"it ends with {self.signature.hex(' ')}, expected 55 aa"
        if self.sector not in (512, 1024, 2048, 4096):
            return f"sectors of {self.sector} bytes"
        wrong = (
            (
                self.cluster_sectors == 0 or self.cluster_sectors & (self.cluster_sectors - 1) != 0,
                f"clusters of {self.cluster_sectors} sectors",
            ),
            (self.reserved == 0, "no reserved sectors"),
            (self.tables not in (1, 2), f"{self.tables} tables"),
            (self.table_sectors == 0, "tables of no sectors"),
            (self.data_start >= self.sectors, f"{self.sectors} sectors, but data from {self.data_start} on"),
            (
                self.sectors * self.sector > size,
                f"{self.sectors} sectors of {self.sector} bytes, but {size} bytes are there",
            ),
        )
        if why := next((words for is_wrong, words in wrong if is_wrong), ""):
            return why
        if self.table_sectors * self.sector * 8 // self.bits < self.clusters + 2:
            return f"{self.clusters} clusters, more than its tables of {self.table_sectors} sectors have entries"
        if (self.bits == 32) != (self.root_entries == 0):
            return f"{self.clusters} clusters, but {self.root_entries} entries in the root directory"
        return ""


class FatFileSystem:
    """One FAT file system.

    :param region: the partition.
    :param name: what it is called in messages.
    :raises FatFormatError: if the boot sector does not lead to the rest.
    """

    type = "vfat"

    def __init__(self, region: Region, *, name: str) -> None:
        self._region = region
        self.name = name
        self.verified: Counter[str] = Counter()
        self.boot = BootSector.unpack(region.read(0, 512))
        if why := self.boot.why_not(region.size):
            raise FatFormatError(f"{name}: the boot sector is none that can be used: {why}", offset=0)
        first = self._next_raw(0)
        if first & 0xFF != self.boot.media or first & 0xF00 != 0xF00:
            raise FatFormatError(
                f"{name}: the allocation table begins with {first:#x}, expected the media byte {self.boot.media:#x} "
                "with all other bits set",
                offset=self.boot.reserved * self.boot.sector,
            )

    def error(self, message: str) -> FatFormatError:
        """Return an error that names the file system.

        :param message: what was found, where, and what was expected.
        """
        return FatFormatError(f"{self.name}: {message}", offset=0)

    def _next_raw(self, cluster: int, *, table: int = 0) -> int:
        boot = self.boot
        start = (boot.reserved + table * boot.table_sectors) * boot.sector
        if boot.bits == 12:
            (pair,) = struct.unpack("<H", self._region.read(start + cluster * 3 // 2, 2))
            return int(pair >> 4 if cluster & 1 else pair & 0xFFF)
        width = boot.bits // 8
        data = self._region.read(start + cluster * width, width)
        return int.from_bytes(data, "little") & 0x0FFF_FFFF

    @property
    def label(self) -> str:
        """The label: what the root directory says, which counts before what the boot sector says."""
        for data in self._directory(self.root()):
            for at in range(0, len(data) - _ENTRY + 1, _ENTRY):
                entry = data[at : at + _ENTRY]
                if entry[0] == _END:
                    return self.boot.shown_label
                if entry[0] != _DELETED and entry[11] & 0x3F in (_LABEL, _LABEL | _ARCHIVE):
                    return entry[:11].decode("cp437").strip()
        return self.boot.shown_label

    def copies_differ(self) -> str:
        """Say where the first sectors of the two allocation tables differ; empty if they do not."""
        boot = self.boot
        if boot.tables < 2:
            return ""
        length = min(boot.table_sectors, 8) * boot.sector
        start = boot.reserved * boot.sector
        one = self._region.read(start, length)
        other = self._region.read(start + boot.table_sectors * boot.sector, length)
        at = next((at for at, (left, right) in enumerate(zip(one, other, strict=True)) if left != right), None)
        return "" if at is None else f"the two allocation tables differ at byte {at} of them"

    def _chain(self, first: int, most: int) -> Iterator[int]:
        """Yield the clusters of a file."""
        cluster = first
        seen: set[int] = set()
        last = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFF_FFF8}[self.boot.bits]
        while cluster < last:
            if not 2 <= cluster < self.boot.clusters + 2:
                raise self.error(f"the chain of clusters from {first} on leads to {cluster} of {self.boot.clusters}")
            if cluster in seen or len(seen) >= most:
                raise self.error(f"the chain of clusters from {first} on leads in a circle, or has more than {most}")
            seen.add(cluster)
            yield cluster
            cluster = self._next_raw(cluster)

    def _cluster(self, number: int) -> bytes:
        boot = self.boot
        at = (boot.data_start + (number - 2) * boot.cluster_sectors) * boot.sector
        return self._region.read(at, boot.cluster_sectors * boot.sector)

    def root(self) -> Node:
        """Return the root directory."""
        return self.node(_ROOT_KEY)

    def node(self, key: int) -> Node:
        """Return a node.

        :param key: its first cluster, its size and whether it is a directory, in one number; 0 is the root.
        """
        cluster, size, directory = key >> 34, key >> 2 & 0xFFFF_FFFF, key >> 1 & 1
        if key == _ROOT_KEY or (directory and not cluster):
            return Node(kind=NodeKind.DIRECTORY, size=0, key=_ROOT_KEY)
        return Node(kind=NodeKind.DIRECTORY if directory else NodeKind.FILE, size=size, key=key)

    def _directory(self, directory: Node) -> Iterator[bytes]:
        boot = self.boot
        cluster = directory.key >> 34
        if directory.key == _ROOT_KEY:
            if boot.bits != 32:
                start = (boot.data_start - boot.root_sectors) * boot.sector
                yield self._region.read(start, boot.root_sectors * boot.sector)
                return
            cluster = boot.root_cluster
        most = LARGEST_DIRECTORY // (boot.cluster_sectors * boot.sector)
        for number in self._chain(cluster, most):
            yield self._cluster(number)

    def entries(self, directory: Node) -> Iterator[tuple[str, int]]:
        """Yield (name, key) of a directory's entries; short names in lower case, as Linux shows them.

        :param directory: a node of that kind.
        :raises FatFormatError: it is damaged.
        """
        long_name: dict[int, bytes] = {}
        total = 0
        for data in self._directory(directory):
            for at in range(0, len(data) - _ENTRY + 1, _ENTRY):
                entry = data[at : at + _ENTRY]
                if entry[0] == _END:
                    return
                total += 1
                if total > MOST_ENTRIES:
                    raise self.error(f"a directory has more than {MOST_ENTRIES} entries")
                if entry[0] == _DELETED:
                    long_name = {}
                    continue
                attributes = entry[11]
                if attributes == _LONG_NAME:
                    long_name[entry[0] & 0x3F] = entry[1:11] + entry[14:26] + entry[28:32]
                    continue
                name = _name(entry, long_name)
                long_name = {}
                if attributes & _LABEL or name in (".", ".."):
                    continue
                high, low, size = struct.unpack_from("<H4xHI", entry, 20)
                cluster = (high << 16 if self.boot.bits == 32 else 0) | low
                yield name, cluster << 34 | size << 2 | (3 if attributes & _DIRECTORY else 1)

    def read(self, file: Node, offset: int, length: int) -> bytes:
        """Return a file's bytes.

        :param file: a node of that kind.
        :param offset: first byte, from 0.
        :param length: number of bytes; fewer come only where the file ends.
        :raises FatFormatError: damage.
        """
        length = max(0, min(length, file.size - offset))
        if not length:
            return b""
        size = self.boot.cluster_sectors * self.boot.sector
        first, skip = divmod(offset, size)
        count = -(-(skip + length) // size)
        pieces = []
        for index, cluster in enumerate(self._chain(file.key >> 34, self.boot.clusters)):
            if index >= first + count:
                break
            if index >= first:
                pieces.append(self._cluster(cluster))
        data = b"".join(pieces)[skip : skip + length]
        if len(data) < length:
            raise self.error(f"a file of {file.size} bytes has a chain of clusters that ends before")
        return data

    def target(self, link: Node) -> str:
        """Refuse: there are no symbolic links.

        :param link: what was taken for one.
        :raises FatFormatError: always.
        """
        raise self.error(f"{link.kind} where there are none")


def _name(entry: bytes, long_name: dict[int, bytes]) -> str:
    if long_name:
        data = b"".join(long_name[number] for number in sorted(long_name))
        return data.decode("utf-16-le", "replace").split("\0", 1)[0].rstrip("\uffff")
    base, end = (part.decode("cp437").rstrip(" ") for part in (entry[:8], entry[8:11]))
    return (f"{base}.{end}" if end else base).lower()
