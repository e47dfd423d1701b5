"""An export to make kits of, and changes to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sealift.exports.kits import ConvertedImage, DriverPlace, GuestSystem, Kit, build_kits
from sealift.exports.kits.fit import Case
from sealift.exports.kits.server import look_at
from sealift.exports.manifest import Manifest
from sealift.exports.record import ConfigurationRecord

GIB = 2**30
EXPORT = "101-20261123T0200Z"
IMAGES = f"nightly/images/web101-101/{EXPORT}"
SHA = "a" * 64

LINUX_MBR = [{"type_name": "Linux"}, {"type_name": "Linux"}]
GPT_EFI = [{"type_name": "EFI system"}, {"type_name": "Linux"}]

DRIVERS = (
    "virtio_blk",
    "virtio_pci",
    "virtio_net",
    "virtio_scsi",
    "nvme",
    "ena",
    "hv_vmbus",
    "hv_storvsc",
    "hv_netvsc",
    "vmw_pvscsi",
    "vmxnet3",
    "ahci",
)

READY = GuestSystem(
    name="Debian GNU/Linux 12 (bookworm)",
    os_id="debian",
    os_version="12",
    kernel="6.1.0-18-amd64",
    firmware="bios",
    drivers=dict.fromkeys(DRIVERS, DriverPlace.INITRAMFS),
    cloud_init=True,
    datasources=["NoCloud"],
    fstab_by_device=False,
    dhcp=True,
    encrypted=False,
    root_file_system="ext4",
    azure_agent=True,
)
"""A system that was looked into, and would start almost anywhere."""


def disk(index: int = 0, *, device: str | None = None, size: int = 25 * GIB, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "device": device if device is not None else ("0" if index == 0 else str(index + 1)),
        "key": f"{IMAGES}/disk-{index}.vhd",
        "size": 46_000_000 + index,
        "virtual_size": size,
        "capacity": size / GIB,
        "units": "GB",
        "format": "vhd-dynamic",
        "etag": f"etag-{index}",
        "sha256": SHA,
        "uploaded_at": "2026-11-23T02:30:00Z",
        "footer_uuid": f"uuid-{index}",
        "creator": "tap",
        "partition_table": "mbr: 2 partitions",
        "partitions": LINUX_MBR,
        "proof_level": "L1",
        "checks": [],
        "proof_bytes_read": 1,
        "proof_requests": 1,
        **changes,
    }


def manifest(disks: Sequence[dict[str, Any]] | None = None, **changes: Any) -> Manifest:
    raw = {
        "export_id": EXPORT,
        "period": "20261123T0200Z",
        "guest": {"id": 101, "hostname": "web101"},
        "template": {"id": 900, "name": f"sealift-{EXPORT}"},
        "captured_at": "2026-11-23T02:01:00Z",
        "exported_at": "2026-11-23T02:30:00Z",
        "proven_at": "2026-11-23T02:31:00Z",
        "bucket": "exports-eu",
        "region": "eu-de",
        "format": "vhd",
        "proof_level": "L1",
        "disks": list(disks or [disk()]),
        "record": {"key": f"{IMAGES}/server.json", "size": 2, "digest": "sha256:" + "0" * 64},
        "run": {"dag_id": "d", "run_id": "r", "try_number": 1, "sealift_version": "0"},
    }
    return Manifest.model_validate({**raw, **changes})


def record(**changes: Any) -> ConfigurationRecord:
    detail = {
        "maxCpu": 2,
        "maxMemory": 4096,
        "notes": "the shop's front",
        "tagReferences": [{"tag": {"id": 1, "name": "prod"}}],
        "operatingSystem": software("Debian", "12.0-64 Minimal for VSI", "DEBIAN_12_64"),
        "networkComponents": [
            interface("eth", 0, "06:f9:65:9b:23:65", "10.240.142.59", "10.240.142.1", "PRIVATE"),
            interface("eth", 1, "06:11:22:33:44:55", "203.0.113.9", "203.0.113.1", "PUBLIC"),
            interface("mgmt", 0, "06:00:00:00:00:01", "10.0.0.9", "10.0.0.1", "PRIVATE"),
        ],
        **changes,
    }
    return ConfigurationRecord(
        guest_id=101,
        detail={name: value for name, value in detail.items() if value is not None},
        block_devices=[],
        attached_network_storage=[],
        attributes=[],
    )


def software(name: str, version: str, code: str) -> dict[str, Any]:
    return {"softwareLicense": {"softwareDescription": {"name": name, "version": version, "referenceCode": code}}}


def interface(name: str, port: int, mac: str, address: str, gateway: str, space: str) -> dict[str, Any]:
    return {
        "name": name,
        "port": port,
        "macAddress": mac,
        "primaryIpAddress": address,
        "primarySubnet": {"gateway": gateway, "netmask": "255.255.255.192", "addressSpace": space},
    }


def converted(format_: str, *, index: int = 0, size: int = 25 * GIB, **changes: Any) -> ConvertedImage:
    extension = {"vmdk-stream": "vmdk", "vhd-fixed": "fixed.vhd"}.get(format_, format_)
    file_size = size + 512 if format_ == "vhd-fixed" else 31_000_000
    raw = {
        "key": f"{IMAGES}/disk-{index}.{extension}",
        "format": format_,
        "size": file_size,
        "virtual_size": size,
        "sha256": "b" * 64,
        "of_device": "0" if index == 0 else str(index + 1),
    }
    return ConvertedImage.model_validate({**raw, **changes})


def case(
    *,
    disks: Sequence[dict[str, Any]] | None = None,
    inside: GuestSystem | None = READY,
    images: Sequence[ConvertedImage] = (),
    about: dict[str, Any] | None = None,
    **changes: Any,
) -> Case:
    """An export as rules and generators see it; ``changes`` are the manifest's, ``about`` the record's."""
    server = look_at(manifest(disks, **changes), record(**(about or {})), inside or GuestSystem())
    return Case(server=server, converted=tuple(images))


def inside(**changes: Any) -> GuestSystem:
    """The system that was looked into, with changes."""
    return GuestSystem.model_validate({**READY.model_dump(), **changes})


def drivers(**places: str | None) -> GuestSystem:
    """The system with other places of some drivers; None for one that nobody looked for."""
    changed = {**dict.fromkeys(DRIVERS, "initramfs"), **places}
    return inside(drivers={name: place for name, place in changed.items() if place is not None})


HOSTILE = [
    "$(touch PWNED)`touch PWNED`",
    "'; touch PWNED; '",
    '"; touch PWNED; "${x} %{y}',
    "</name><evil/>&lt;]]>",
    "a\nrm -rf /\r\x00\x1b[31m\u202e\u2028",
    "| *b* _i_ [l](http://x) <script>",
    "\U0001f984\U0001d54f é",
    "-rf --help",
]

TWO = [disk(), disk(1, size=100 * GIB + 512)]
ALL_CONVERTED = [
    *(converted(one) for one in ("qcow2", "vmdk-stream", "vhd-fixed")),
    *(converted(one, index=1, size=100 * GIB + 512) for one in ("qcow2", "vmdk-stream")),
    converted("vhd-fixed", index=1, size=100 * GIB + 2**20),
]


def hostile_record(value: str) -> ConfigurationRecord:
    """A record in which all free text is one value."""
    return record(
        notes=value,
        tagReferences=[{"tag": {"name": value}}],
        operatingSystem=software(value, value, "DEBIAN_12_64"),
        networkComponents=[
            interface("eth", 0, value, value, value, value),
            interface(value, 0, value, value, value, ""),
        ],
    )


def hostile_kits(value: str, images: list[ConvertedImage] | None = None) -> list[Kit]:
    """Kits of an export in which all free text is one value."""
    told = inside(name=value, datasources=[value], root_file_system=value, kernel=value)
    exported = manifest(
        TWO,
        guest={"id": 101, "hostname": value},
        left_out=[{"device": value}],
        storage_not_in_image=[{"id": 1, "type": value}],
    )
    return build_kits(exported, hostile_record(value), told, images or [])
