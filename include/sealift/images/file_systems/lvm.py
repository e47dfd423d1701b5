"""Reads LVM: labels of physical volumes, the metadata of their volume group, and logical volumes that are linear.

A label lies in one of the first four sectors and leads to a ring of metadata in text. Whatever is mapped in another way
than piece by piece (mirrors, thin pools, snapshots, stripes) is named and not read. After the format's description in
LVM2 (lib/format_text/layout.h, lib/label/label.h; lvm.conf's metadata syntax). Numbers are little-endian.
"""

from __future__ import annotations

import bisect
import dataclasses
import struct
from collections.abc import Mapping
from typing import Final

from sealift.images.file_systems.checksums import lvm_crc
from sealift.images.file_systems.lvm_text import Section, parse_text
from sealift.images.file_systems.window import Region
from sealift.images.source import ImageFormatError, check_range

SECTOR: Final = 512
LARGEST_METADATA: Final = 1024 * 1024
MOST_VOLUMES: Final = 512
MOST_SEGMENTS: Final = 4096

_LABEL = b"LABELONE"
_TYPE = b"LVM2 001"
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_IGNORED = 1


class LvmFormatError(ImageFormatError):
    """Bytes are not what LVM's format demands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhysicalVolume:
    """A disk or partition that LVM uses.

    :param uuid: 32 characters, without the dashes that LVM shows.
    :param text: the volume group's metadata; empty where this volume holds none.
    """

    name: str
    region: Region
    uuid: str
    size: int
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogicalVolume:
    """A logical volume.

    :param region: its bytes; None where it is not read.
    :param why: why it is not read.
    :param incomplete: that is because a part of it is on a physical volume that is not there.
    """

    group: str
    volume: str
    region: Region | None
    why: str = ""
    incomplete: bool = False

    @property
    def name(self) -> str:
        """As LVM and people write it: group/volume."""
        return f"{self.group}/{self.volume}"

    @property
    def devices(self) -> tuple[str, str]:
        """The names under which Linux has it."""
        mapped = f"{self.group.replace('-', '--')}-{self.volume.replace('-', '--')}"
        return f"/dev/mapper/{mapped}", f"/dev/{self.group}/{self.volume}"


class LinearVolume:
    """A logical volume that is made of pieces of physical ones, one after the other.

    :param pieces: (region, first byte there, length) in order.
    :param name: what it is called in messages.
    """

    def __init__(self, pieces: list[tuple[Region, int, int]], *, name: str) -> None:
        self.name = name
        self._pieces = pieces
        self._starts: list[int] = []
        self.size = 0
        for _, _, length in pieces:
            self._starts.append(self.size)
            self.size += length

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :raises ShortReadError: if the volume has fewer.
        """
        return self._gather(offset, length, once=False)

    def read_once(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``, without keeping what was fetched.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :raises ShortReadError: if the volume has fewer.
        """
        return self._gather(offset, length, once=True)

    def _gather(self, offset: int, length: int, *, once: bool) -> bytes:
        check_range(name=self.name, size=self.size, offset=offset, length=length)
        found: list[bytes] = []
        while length > 0:
            index = bisect.bisect_right(self._starts, offset) - 1
            region, start, size = self._pieces[index]
            skip = offset - self._starts[index]
            take = min(length, size - skip)
            found.append((region.read_once if once else region.read)(start + skip, take))
            offset += take
            length -= take
        return b"".join(found)


def read_physical_volume(region: Region, *, name: str) -> PhysicalVolume | None:
    """Read the label of a physical volume.

    :param region: the disk or partition.
    :param name: what it is called in messages.
    :returns: None where there is no label.
    :raises LvmFormatError: the label or the metadata are damaged.
    """
    head = region.read(0, min(4 * SECTOR, region.size))
    for at in range(0, len(head) - SECTOR + 1, SECTOR):
        sector = head[at : at + SECTOR]
        if sector[:8] == _LABEL:
            return _read_label(region, sector, at, name)
    return None


def _read_label(region: Region, sector: bytes, at: int, name: str) -> PhysicalVolume:
    where = f"{name}: the LVM label at byte {at}"
    number, stored, offset = struct.unpack_from("<QII", sector, 8)
    computed = lvm_crc(sector[20:])
    if stored != computed:
        raise LvmFormatError(f"{where} has the checksum {stored:08x}, but its bytes give {computed:08x}", offset=at)
    if number != at // SECTOR or sector[24:32] != _TYPE or not 32 <= offset <= SECTOR - 56:
        raise LvmFormatError(
            f"{where} says that it is in sector {number} and of type {sector[24:32]!r}, expected {_TYPE!r}", offset=at
        )
    uuid = sector[offset : offset + 32].decode("ascii", "backslashreplace")
    (size,) = struct.unpack_from("<Q", sector, offset + 32)
    lists: list[list[tuple[int, int]]] = [[], []]
    place = offset + 40
    for areas in lists:  # data areas, then metadata areas; each list ends with zeros
        while place + 16 <= SECTOR:
            start, length = struct.unpack_from("<QQ", sector, place)
            place += 16
            if not start:
                break
            areas.append((start, length))
    if size > region.size:
        raise LvmFormatError(f"{where} says that it has {size} bytes, but {region.size} are there", offset=at)
    errors: list[LvmFormatError] = []
    text = ""
    for start, length in lists[1]:
        try:
            text = text or _read_area(region, start, length, where=f"{name}: the LVM metadata at byte {start}")
        except LvmFormatError as error:
            errors.append(error)
    # A second area at the end of the volume is a copy of the first.
    if errors:
        raise errors[0]
    return PhysicalVolume(name=name, region=region, uuid=uuid, size=size, text=text)


def _read_area(region: Region, start: int, length: int, *, where: str) -> str:
    if length < 2 * SECTOR or start + length > region.size:
        raise LvmFormatError(f"{where} has {length} bytes of {region.size}", offset=start)
    header = region.read(start, SECTOR)
    (stored,) = struct.unpack_from("<I", header)
    computed = lvm_crc(header[4:])
    if stored != computed or header[4:20] != _AREA_MAGIC:
        raise LvmFormatError(f"{where} has the checksum {stored:08x}, but its bytes give {computed:08x}", offset=start)
    version, own_start, own_size, at, size, text_sum, flags = struct.unpack_from("<IQQQQII", header, 20)
    if version != 1 or own_start != start or own_size != length:
        raise LvmFormatError(f"{where} says that it is at byte {own_start} with {own_size} bytes", offset=start)
    if not at or flags & _IGNORED:
        return ""
    if not SECTOR <= at < length or size > min(length - SECTOR, LARGEST_METADATA):
        raise LvmFormatError(f"{where} has its text at {at} with {size} bytes", offset=start)
    first = min(size, length - at)
    data = region.read(start + at, first) + region.read(start + SECTOR, size - first)  # it is a ring
    computed = lvm_crc(data)
    if computed != text_sum:
        raise LvmFormatError(
            f"{where}: the text has the checksum {text_sum:08x}, but its bytes give {computed:08x}", offset=start
        )
    return data.rstrip(b"\0").decode("utf-8", "backslashreplace")


def read_volume_groups(physical: list[PhysicalVolume]) -> list[LogicalVolume]:
    """Return the logical volumes of all groups that some physical volumes make.

    :param physical: of all disks.
    :returns: every volume that people see; those that are not read say why.
    :raises LvmFormatError: metadata do not say what they must.
    """
    by_uuid = {one.uuid: one for one in physical}
    newest: dict[str, tuple[int, Section]] = {}
    for one in physical:
        if not one.text:
            continue
        top = parse_text(one.text, where=f"{one.name}: the LVM metadata")
        group, content = next(((key, value) for key, value in top.items() if isinstance(value, dict)), ("", {}))
        number = content.get("seqno")
        if not group or not isinstance(number, int):
            raise LvmFormatError(f"{one.name}: the LVM metadata name no volume group", offset=0)
        if group not in newest or newest[group][0] < number:
            newest[group] = (number, content)
    found = []
    for group, (_, content) in newest.items():
        found += _logical_volumes(group, content, by_uuid)
    return found


def _logical_volumes(group: str, content: Section, by_uuid: Mapping[str, PhysicalVolume]) -> list[LogicalVolume]:
    extent = _number(content, "extent_size", group) * SECTOR
    physical: dict[str, tuple[PhysicalVolume | None, int]] = {}
    for name, section in _section(content, "physical_volumes").items():
        if isinstance(section, dict):
            uuid = str(section.get("id", "")).replace("-", "")
            physical[name] = (by_uuid.get(uuid), _number(section, "pe_start", group) * SECTOR)
    found: list[LogicalVolume] = []
    for name, section in _section(content, "logical_volumes").items():
        if not isinstance(section, dict):
            continue
        status = section.get("status")
        if not isinstance(status, list) or "VISIBLE" not in status:
            continue  # a part of another volume
        if len(found) >= MOST_VOLUMES:
            raise LvmFormatError(f"volume group {group} has more than {MOST_VOLUMES} logical volumes", offset=0)
        pieces, why, incomplete = _pieces(group, section, extent, physical)
        region = None if why else LinearVolume(pieces, name=f"logical volume {group}/{name}")
        found.append(LogicalVolume(group=group, volume=name, region=region, why=why, incomplete=incomplete))
    return found


def _pieces(
    group: str, section: Section, extent: int, physical: Mapping[str, tuple[PhysicalVolume | None, int]]
) -> tuple[list[tuple[Region, int, int]], str, bool]:
    """Return the pieces of a logical volume, or why it is not read, and whether a part of it is missing."""
    count = _number(section, "segment_count", group)
    if not 0 < count <= MOST_SEGMENTS:
        return [], f"it has {count} segments", False
    found: list[tuple[Region, int, int]] = []
    next_extent = 0
    for index in range(1, count + 1):
        segment = _section(section, f"segment{index}")
        kind, stripes = segment.get("type"), segment.get("stripes")
        if kind != "striped" or segment.get("stripe_count") != 1 or not isinstance(stripes, list) or len(stripes) != 2:
            shown = "striped over several volumes" if kind == "striped" else f"of type {kind}"
            return [], f"it is {shown}, which Sealift does not read", False
        if _number(segment, "start_extent", group) != next_extent:
            return [], f"its segment {index} does not begin where the one before it ends", False
        name, first = stripes
        volume, start = physical.get(str(name), (None, 0))
        if volume is None:
            return [], f"it needs the physical volume {name}, which is not among the disks", True
        length = _number(segment, "extent_count", group)
        if not isinstance(first, int) or length <= 0 or start + (first + length) * extent > volume.region.size:
            return [], f"its segment {index} lies outside the physical volume {name}", True
        found.append((volume.region, start + first * extent, length * extent))
        next_extent += length
    return found, "", False


def _section(content: Section, key: str) -> Section:
    found = content.get(key, {})
    return found if isinstance(found, dict) else {}


def _number(content: Section, key: str, group: str) -> int:
    found = content.get(key)
    if not isinstance(found, int) or not 0 <= found < 2**48:
        raise LvmFormatError(f"the metadata of volume group {group} have {found!r} for {key}", offset=0)
    return found
