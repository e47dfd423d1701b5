"""Says where a kernel has the drivers without which a server does not start, or has no network, on another platform."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sealift.images.content.initramfs import module_name
from sealift.images.file_systems.file_system import Tree

INITRAMFS: Final = "initramfs"
BUILT_IN: Final = "built in"
MODULES: Final = "modules"
MISSING: Final = "missing"
UNKNOWN: Final = "unknown"

OPTIONS: Final = {
    "virtio_pci": "CONFIG_VIRTIO_PCI",
    "virtio_blk": "CONFIG_VIRTIO_BLK",
    "virtio_scsi": "CONFIG_SCSI_VIRTIO",
    "virtio_net": "CONFIG_VIRTIO_NET",
    "xen_blkfront": "CONFIG_XEN_BLKDEV_FRONTEND",
    "xen_netfront": "CONFIG_XEN_NETDEV_FRONTEND",
    "nvme": "CONFIG_BLK_DEV_NVME",
    "ena": "CONFIG_ENA_ETHERNET",
    "hv_storvsc": "CONFIG_HYPERV_STORAGE",
    "hv_netvsc": "CONFIG_HYPERV_NET",
    "vmw_pvscsi": "CONFIG_VMWARE_PVSCSI",
    "vmxnet3": "CONFIG_VMXNET3",
}
"""Drivers, and the option of the kernel's configuration that each is made by."""

PLATFORMS: Final = {
    "KVM (VPC, OpenStack, Google Cloud)": (("virtio_pci",), ("virtio_blk", "virtio_scsi"), ("virtio_net",)),
    "Xen (IBM Cloud Classic)": ((), ("xen_blkfront",), ("xen_netfront",)),
    "AWS Nitro": ((), ("nvme",), ("ena",)),
    "Hyper-V (Azure)": ((), ("hv_storvsc",), ("hv_netvsc",)),
    "VMware": ((), ("vmw_pvscsi",), ("vmxnet3",)),
}
"""By platform: drivers that all are needed to start, those of which one is, and those of which one is for the
network."""

LARGEST_LIST: Final = 4 * 1024 * 1024
"""Bytes of a list of modules that are read."""


def find_drivers(tree: Tree, version: str, *, initramfs: frozenset[str] | None) -> dict[str, str]:
    """Say where a kernel has each driver.

    :param tree: the root file system with those that are mounted in it.
    :param version: of the kernel.
    :param initramfs: modules in its initramfs; None where that could not be read.
    :returns: by driver: :data:`INITRAMFS`, :data:`BUILT_IN`, :data:`MODULES` (on the root file system only, where it is
        too late for a disk's driver), :data:`MISSING` or :data:`UNKNOWN`.
    :raises ImageFormatError: damage.
    """
    folder = f"/lib/modules/{version}"
    built_in_list = tree.text(f"{folder}/modules.builtin", most=LARGEST_LIST)
    dependencies = tree.text(f"{folder}/modules.dep", most=LARGEST_LIST)
    configuration = next(
        (text for path in (f"/boot/config-{version}", f"{folder}/config") if (text := tree.text(path)) is not None),
        None,
    )
    built_in = _modules((built_in_list or "").splitlines())
    separate = _modules(line.partition(":")[0] for line in (dependencies or "").splitlines())
    set_options = {line for line in (configuration or "").splitlines() if line.endswith("=y")}
    found = {}
    for driver, option in OPTIONS.items():
        if initramfs is not None and driver in initramfs:
            found[driver] = INITRAMFS
        elif driver in built_in or f"{option}=y" in set_options:
            found[driver] = BUILT_IN
        elif initramfs is None or (dependencies is None and configuration is None):
            found[driver] = UNKNOWN
        else:
            found[driver] = MODULES if driver in separate else MISSING
    return found


def _modules(paths: Iterable[str]) -> set[str]:
    return {module_name(path.strip()) for path in paths}


def cannot_start_on(drivers: dict[str, str]) -> dict[str, str]:
    """Name the platforms on which a kernel would not find its disk, and why.

    :param drivers: as :func:`find_drivers` returns them.
    :returns: by platform: what is missing, in words. A platform of which nothing is known is left out.
    """
    found = {}
    for platform, (needed, one_of, _) in PLATFORMS.items():
        lacking = [driver for driver in needed if drivers[driver] in (MODULES, MISSING)]
        if one_of and all(drivers[driver] in (MODULES, MISSING) for driver in one_of):
            lacking.append(" or ".join(one_of))
        if lacking:
            found[platform] = f"{' and '.join(lacking)} neither in the initramfs nor built in"
    return found


def no_network_on(drivers: dict[str, str]) -> list[str]:
    """Name the platforms for whose network a kernel has no driver at all.

    :param drivers: as :func:`find_drivers` returns them.
    """
    return [
        platform
        for platform, (_, _, network) in PLATFORMS.items()
        if all(drivers[driver] == MISSING for driver in network)
    ]
