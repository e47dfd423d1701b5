"""What a look inside the disks found, as kits need it."""

from __future__ import annotations

from typing import Final, Literal

from sealift.exports.kits.models import DriverPlace, GuestSystem
from sealift.images.content.facts import FstabFacts, KernelFacts, SystemFacts

_PLACES: Final = {
    "built in": DriverPlace.BUILT_IN,
    "initramfs": DriverPlace.INITRAMFS,
    "modules": DriverPlace.MODULE,
    "missing": DriverPlace.ABSENT,
}
"""Where a driver is, by how facts say it; what is not known stands in neither."""

_BY_PLACE: Final = ("/dev/xvd", "/dev/sd", "/dev/vd", "/dev/hd", "/dev/nvme")
"""Beginnings of names that a disk has only where it is attached as it was."""


def guest_system(facts: SystemFacts) -> GuestSystem:
    """Say what kits and fit reports need to know of a system.

    :param facts: what a proof at level L3 has found.
    :returns: the system; what the proof does not tell is None.
    """
    kernel = next((one for one in facts.kernels if one.default), None)
    cloud = facts.cloud_init
    root = next((one for one in facts.volumes if one.name == facts.root_volume and facts.root_volume), None)
    return GuestSystem(
        name=facts.os_name or None,
        os_id=facts.os_id or None,
        os_version=facts.os_version or None,
        kernel=kernel.version if kernel is not None else None,
        firmware=_firmware(facts),
        efi_fallback=_efi_fallback(facts),
        drivers=_drivers(kernel),
        cloud_init=None if cloud is None else cloud.installed and not cloud.disabled,
        datasources=list(cloud.datasources) if cloud is not None and cloud.installed else None,
        fstab_by_device=_by_device(facts),
        dhcp=_dhcp(facts),
        root_file_system=root.content if root is not None else None,
    )


def _firmware(facts: SystemFacts) -> Literal["bios", "efi"] | None:
    """What the boot loader is made for; where there are both, BIOS, by which Classic starts its servers."""
    boot = facts.boot
    if boot is None:
        return None
    if boot.mbr in ("grub", "grub legacy"):
        return "bios"
    return "efi" if boot.efi_loaders else None


def _efi_fallback(facts: SystemFacts) -> bool | None:
    if facts.boot is None or not facts.boot.efi_loaders:
        return None
    return any(one.lower().endswith("/boot/bootx64.efi") for one in facts.boot.efi_loaders)


def _drivers(kernel: KernelFacts | None) -> dict[str, DriverPlace]:
    if kernel is None:
        return {}
    found = {name: _PLACES.get(place) for name, place in kernel.drivers.items()}
    return {name.replace("-", "_"): place for name, place in found.items() if place is not None}


def _by_device(facts: SystemFacts) -> bool | None:
    if not facts.fstab:
        return None
    root = facts.boot.root if facts.boot is not None else ""
    named = [one.device for one in facts.fstab if _matters(one)]
    return any(one.startswith(_BY_PLACE) for one in [*named, root])


def _matters(line: FstabFacts) -> bool:
    """A line without which the server does not start."""
    return line.type != "swap" and not {"nofail", "noauto"} & set(line.options)


def _dhcp(facts: SystemFacts) -> bool | None:
    if facts.network is None or not facts.network.interfaces:
        return None
    return any(one.method == "dhcp" for one in facts.network.interfaces)
