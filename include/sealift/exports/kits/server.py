"""The server that a kit is for: what its manifest, its configuration record and a look inside tell, in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sealift.exports import names
from sealift.exports.delivery import file_name, folder_of
from sealift.exports.errors import ExportsError
from sealift.exports.kits.models import DriverPlace, GuestSystem, KitError
from sealift.exports.kits.text import plain, slug
from sealift.exports.manifest import Manifest, ManifestDisk, ManifestStorage
from sealift.exports.record import ConfigurationRecord

NAME_MAX: Final = 50
"""Longest name of a server in a kit: with ``-data-12`` after it, every target takes it (the narrowest takes 63)."""

EXPORTED: Final = ("vhd-dynamic", "vhd-fixed", "vmdk-stream", "vmdk-sparse", "qcow2")
"""Formats that the account exports."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}")
_INTERFACE = re.compile(r"[a-z]{2,8}\d{1,2}")

_TABLES: Final[dict[str, Literal["mbr", "gpt", "none"]]] = {"mbr": "mbr", "gpt": "gpt", "none": "none"}

_CODES: Final = {
    "UBUNTU": "ubuntu",
    "DEBIAN": "debian",
    "CENTOS": "centos",
    "CENTOSSTREAM": "centos",
    "REDHAT": "rhel",
    "RHEL": "rhel",
    "ROCKYLINUX": "rocky",
    "ROCKY": "rocky",
    "ALMALINUX": "almalinux",
    "ALMA": "almalinux",
    "CLOUDLINUX": "cloudlinux",
    "SUSE": "sles",
    "SLES": "sles",
    "ORACLE": "ol",
    "ORACLELINUX": "ol",
    "WIN": "windows",
    "WINDOWS": "windows",
    "FREEBSD": "freebsd",
}
"""Beginnings of the account's reference codes (UBUNTU_20_64), by the ID that os-release has for the same system."""


@dataclass(frozen=True, kw_only=True)
class System:
    """The operating system.

    :param id: as ID of os-release; empty where it is not known.
    :param version: as ``12`` or ``22.04``; empty where it is not known.
    :param words: what people call it.
    :param bits: 32 or 64, where the account says so.
    :param read: the system inside the disks was read; otherwise the account says so, which knows of no upgrade since.
    """

    id: str
    version: str
    words: str
    bits: int | None
    read: bool

    @property
    def windows(self) -> bool:
        """It is a Windows."""
        return self.id == "windows"


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One disk of the export.

    :param index: its number in the order of the objects.
    :param device: the API's device number.
    :param key: the exported image's key.
    :param file: its name in a delivery.
    :param format: the exported image's format.
    :param size: bytes of the image.
    :param virtual_size: bytes of the disk.
    :param sha256: of the image, where it was read in full.
    :param table: kind of partition table, or None where that is not known.
    :param partitions: types of the partitions, in words.
    """

    index: int
    device: str
    key: str
    file: str
    format: str
    size: int
    virtual_size: int
    sha256: str | None
    table: Literal["mbr", "gpt", "none"] | None
    partitions: tuple[str, ...]

    @property
    def boot(self) -> bool:
        """The server starts from it."""
        return self.device == "0"

    @property
    def words(self) -> str:
        """What messages call it."""
        return f"{self.file} (device {self.device})"


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A network interface, as recorded. What is None was not recorded, or cannot be what it should be."""

    name: str
    mac: str | None
    address: str | None
    gateway: str | None
    netmask: str | None
    public: bool


@dataclass(frozen=True, kw_only=True)
class Server:
    """All that kits and rules look at.

    :param name: name of the server at a target.
    :param image_name: name of its images at a target; of no other export.
    :param folder: the export's folder in a delivery.
    :param firmware: ``bios`` or ``efi``, or None where nothing tells.
    :param firmware_from: how that is known, in words.
    """

    export_id: str
    guest_id: int
    hostname: str
    name: str
    image_name: str
    folder: str
    bucket: str
    region: str
    proof_level: str
    vcpus: int | None
    memory_mib: int | None
    system: System
    inside: GuestSystem
    firmware: Literal["bios", "efi"] | None
    firmware_from: str
    disks: tuple[Disk, ...]
    interfaces: tuple[Interface, ...]
    storage: tuple[ManifestStorage, ...]
    left_out: tuple[str, ...]
    tags: tuple[str, ...]
    notes: str

    @property
    def boot_disk(self) -> Disk:
        """The disk that the server starts from."""
        return self.disks[0]

    @property
    def data_disks(self) -> tuple[Disk, ...]:
        """All others."""
        return self.disks[1:]

    @property
    def title(self) -> str:
        """One line that says whose kit it is; free text, to be escaped for its place."""
        return f"{self.hostname} ({self.guest_id}), export {self.export_id}"

    def driver(self, name: str) -> DriverPlace | None:
        """Say where the kernel has a driver.

        :param name: as ``virtio_blk``; ``-`` and ``_`` are the same.
        :returns: the place, or None where that is not known.
        """
        wanted = name.replace("-", "_")
        return next((place for key, place in self.inside.drivers.items() if key.replace("-", "_") == wanted), None)

    def at_boot(self, name: str) -> bool | None:
        """Say whether a driver is at hand before the root file system is.

        :param name: as for :meth:`driver`.
        :returns: None where that is not known.
        """
        place = self.driver(name)
        return None if place is None else place in (DriverPlace.BUILT_IN, DriverPlace.INITRAMFS)


def look_at(manifest: Manifest, record: ConfigurationRecord, inside: GuestSystem) -> Server:
    """Put together what is known of a server.

    :param manifest: the export.
    :param record: its configuration record.
    :param inside: what is known of the system inside the disks.
    :returns: the server.
    :raises KitError: the manifest names a bucket, a region, a key or an export id that Sealift does not write, or the
        record is another server's.
    """
    _check(manifest, record)
    disks = _disks(manifest, inside)
    detail = record.detail
    hostname = plain(manifest.guest.hostname)
    firmware, firmware_from = _firmware(disks[0], inside)
    return Server(
        export_id=manifest.export_id,
        guest_id=manifest.guest.id,
        hostname=hostname,
        name=slug(f"{hostname}-{manifest.guest.id}", limit=NAME_MAX),
        image_name=slug(f"{hostname}-{manifest.export_id}", limit=NAME_MAX + 5),
        folder=str(folder_of(manifest)),
        bucket=manifest.bucket,
        region=manifest.region,
        proof_level=plain(manifest.proof_level),
        vcpus=_count(detail.get("maxCpu")),
        memory_mib=_count(detail.get("maxMemory")),
        system=_system(detail, inside),
        inside=inside,
        firmware=firmware,
        firmware_from=firmware_from,
        disks=disks,
        interfaces=tuple(_interfaces(detail)),
        storage=tuple(manifest.storage_not_in_image),
        left_out=tuple(plain(", ".join(str(value) for value in one.values())) for one in manifest.left_out),
        tags=tuple(_tags(detail)),
        notes=plain(detail.get("notes") or ""),
    )


def _check(manifest: Manifest, record: ConfigurationRecord) -> None:
    if record.guest_id != manifest.guest.id:
        raise KitError(
            f"The configuration record is that of virtual server {record.guest_id}, but the export is of "
            f"{manifest.guest.id}. Give the record that the manifest names."
        )
    strange = [
        what
        for what, good in (
            ("bucket", _BUCKET.fullmatch(manifest.bucket)),
            ("region", _REGION.fullmatch(manifest.region)),
            *(("key", is_key(disk.key)) for disk in manifest.disks),
            *(("format", disk.format in EXPORTED) for disk in manifest.disks),
        )
        if not good
    ]
    if strange:
        raise KitError(
            f"The manifest of {plain(manifest.export_id)} names a {strange[0]} that Sealift does not write. Look at "
            "who wrote it; no kit is made of it."
        )


def is_key(key: str) -> bool:
    """Say whether Sealift could have written an object under this key.

    :param key: the key.
    :returns: False where a part of it is empty, or holds what Sealift leaves out of keys.
    """
    return all(part and names.key_safe(part) == part for part in key.split("/")) and len(key) <= names.KEY_MAX_BYTES


def _disks(manifest: Manifest, inside: GuestSystem) -> tuple[Disk, ...]:
    try:
        folder_of(manifest)
        disks = [_disk(disk, inside) for disk in manifest.disks]
    except ExportsError as error:
        raise KitError(error.message) from error
    if len({disk.file for disk in disks}) < len(disks):
        raise KitError(f"The manifest of {manifest.export_id} names two disks with one file name.")
    boot = [disk for disk in disks if disk.boot]
    if len(boot) != 1:
        raise KitError(
            f"The export {manifest.export_id} holds {len(boot)} disks with the device number 0, from which a server "
            "starts. A kit needs exactly one: export the server's boot disk with the others."
        )
    return (*boot, *(disk for disk in disks if not disk.boot))


def _disk(disk: ManifestDisk, inside: GuestSystem) -> Disk:
    told = _TABLES.get(disk.partition_table.partition(":")[0])
    return Disk(
        index=disk.index,
        device=plain(disk.device, limit=20),
        key=disk.key,
        file=file_name(disk),
        format=plain(disk.format, limit=20),
        size=disk.size,
        virtual_size=disk.virtual_size,
        sha256=disk.sha256,
        table=inside.partition_tables.get(disk.device, told),
        partitions=tuple(plain(one.get("type_name") or "", limit=60) for one in disk.partitions),
    )


def _firmware(disk: Disk, inside: GuestSystem) -> tuple[Literal["bios", "efi"] | None, str]:
    if inside.firmware is not None:
        return inside.firmware, "the boot loader on the disk"
    efi, bios = "EFI system" in disk.partitions, "BIOS boot" in disk.partitions
    if disk.table == "mbr" and not efi:
        return "bios", "an MBR without an EFI system partition"
    if disk.table == "gpt" and efi != bios:
        return ("efi", "the EFI system partition") if efi else ("bios", "the BIOS boot partition")
    return None, ""


def _system(detail: Mapping[str, Any], inside: GuestSystem) -> System:
    software = detail.get("operatingSystem")
    for name in ("softwareLicense", "softwareDescription"):
        software = software.get(name) if isinstance(software, Mapping) else None
    told = software if isinstance(software, Mapping) else {}
    code = plain(told.get("referenceCode") or "")
    bits = next((int(one) for one in ("64", "32") if code.endswith(f"_{one}")), None)
    if inside.os_id is not None:
        version = _short_version(inside.os_id, inside.os_version or "")
        words = inside.name or f"{inside.os_id} {inside.os_version or ''}"
        return System(id=plain(inside.os_id).lower(), version=version, words=plain(words), bits=bits, read=True)
    letters = re.match(r"[A-Z-]*", code.upper())
    id_ = _CODES.get(letters[0].replace("-", "") if letters else "", "")
    words = f"{told.get('name') or ''} {told.get('version') or ''}"
    version = _short_version(id_, plain(told.get("version") or ""))
    return System(id=id_, version=version, words=plain(words), bits=bits, read=False)


def _short_version(id_: str, version: str) -> str:
    """Keep of a version what tells releases apart: both numbers of an Ubuntu, the year of a Windows, else the first."""
    match = re.match(r"\D{0,20}(\d{1,4})(\.\d{1,3})?", version)
    if match is None:
        return ""
    return match[1] + (match[2] or "") if id_ == "ubuntu" else match[1]


def _interfaces(detail: Mapping[str, Any]) -> Sequence[Interface]:
    found = []
    for one in _maps(detail.get("networkComponents")):
        name = f"{plain(one.get('name') or 'eth', limit=10)}{plain(one.get('port', ''), limit=4)}".lower()
        if not _INTERFACE.fullmatch(name) or not name.startswith("eth"):
            continue
        subnet = one.get("primarySubnet")
        subnet = subnet if isinstance(subnet, Mapping) else {}
        mac = str(one.get("macAddress") or "").lower()
        found.append(
            Interface(
                name=name,
                mac=mac if _MAC.fullmatch(mac) and not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00" else None,
                address=_address(one.get("primaryIpAddress")),
                gateway=_address(subnet.get("gateway")),
                netmask=_address(subnet.get("netmask")),
                public=str(subnet.get("addressSpace") or "").upper() == "PUBLIC" or name == "eth1",
            )
        )
    unique = {one.name: one for one in found}
    return [unique[name] for name in sorted(unique)]


def _address(value: object) -> str | None:
    return str(value) if isinstance(value, str) and _IPV4.fullmatch(value) else None


def _tags(detail: Mapping[str, Any]) -> Sequence[str]:
    tags = (one.get("tag") for one in _maps(detail.get("tagReferences")))
    return sorted({plain(tag["name"]) for tag in tags if isinstance(tag, Mapping) and tag.get("name")})


def _maps(value: object) -> Sequence[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _count(value: object) -> int | None:
    """Read a number of CPUs or of MiB; the API's two transports disagree about integers and floats."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
        return None
    return int(value)
