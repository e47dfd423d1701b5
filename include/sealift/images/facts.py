"""What was found of a server in its disks: for reports on where it can run, and for kits that start it there.

Names, versions and places only. Nothing secret is read: no password files, no keys, no data of users; and of what
is read, options and command lines that may hold passwords are left out.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Facts(BaseModel):
    """A model of findings: fixed once made."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VolumeFacts(Facts):
    """A partition, whole disk or logical volume. Sizes are bytes."""

    name: str
    disk: int | None
    """Place of its disk among the server's; None for a logical volume."""
    partition: int
    """0 for a whole disk or a logical volume."""
    content: str
    """``ext4``, ``xfs``, ``swap``, ``lvm``, ``ntfs``, ``blank``, ``unknown`` …"""
    size: int
    free: int | None
    """Bytes that its file system has free, as of its last unmount; None where that is not known."""
    uuid: str
    label: str
    part_uuid: str
    mount_point: str
    """Where fstab mounts it; empty if it does not."""
    read: bool
    """Whether its content was looked into."""


class FstabFacts(Facts):
    """A line of /etc/fstab, without options that may hold passwords."""

    device: str
    mount_point: str
    type: str
    options: list[str]
    volume: str
    """Name of the volume that the line means; empty where there is none among the disks."""


class KernelFacts(Facts):
    """A kernel in /boot."""

    path: str
    version: str
    """As the kernel says itself."""
    default: bool
    """Whether it starts if nobody chooses another."""
    initramfs: str
    """Path of its initramfs; empty where none was found."""
    compression: str
    """Of the initramfs: ``gzip``, ``zstd`` …; empty where it was not read."""
    drivers: dict[str, str]
    """By driver: ``initramfs``, ``built in``, ``modules`` (only on the root file system), ``missing`` or
    ``unknown``."""


class BootFacts(Facts):
    """How the server starts."""

    mbr: str
    """What the code in the first sector of the boot disk is: ``grub``, ``grub legacy``, ``other`` or ``none``."""
    configuration: str
    """Path of GRUB's configuration; empty where there is none."""
    entries: int
    default_entry: str
    root: str
    """What the default entry's command line names as root."""
    consoles: list[str]
    """Of the default entry's command line."""
    efi_loaders: list[str]


class CloudInitFacts(Facts):
    """Whether and how cloud-init is set up."""

    installed: bool
    version: str
    disabled: bool
    datasources: list[str]
    """In the order in which they are tried, where the configuration says so."""
    vendor_scripts: bool | None
    """Whether the vendor's scripts are run (VPC needs it); None where the configuration does not tell."""


class InterfaceFacts(Facts):
    """A network interface that the server configures by itself."""

    name: str
    method: str
    """``dhcp``, ``static``, ``manual`` …, as the configuration says."""


class NetworkFacts(Facts):
    """How the network is configured."""

    styles: list[str]
    """``netplan``, ``ifcfg``, ``interfaces``, ``NetworkManager``, ``systemd-networkd``."""
    interfaces: list[InterfaceFacts]
    """Those that ``ifcfg`` and ``interfaces`` files name."""


class SystemFacts(Facts):
    """What is on a server's disks."""

    os_id: str
    os_version: str
    os_name: str
    hostname: str
    root_volume: str
    """Empty where no root file system was found, or none that is read."""
    volumes: list[VolumeFacts]
    fstab: list[FstabFacts]
    boot: BootFacts | None
    kernels: list[KernelFacts]
    cloud_init: CloudInitFacts | None
    network: NetworkFacts | None
