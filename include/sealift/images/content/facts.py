"""What was found of a server in its disks: for reports on where it can run, and for kits that start it there.

Names, versions and places only. Nothing secret is read: no password files, no keys, no data of users; and of what
is read, options and command lines that may hold passwords are left out.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Facts(BaseModel):
    """A model of findings: fixed once made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class VolumeFacts(Facts):
    """A partition, whole disk or logical volume. Sizes are bytes."""

    name: str
    """What the proof calls it."""
    disk: int | None
    """Place of its disk among the server's; None for a logical volume."""
    partition: int
    """0 for a whole disk or a logical volume."""
    content: str
    """``ext4``, ``xfs``, ``swap``, ``lvm``, ``ntfs``, ``blank``, ``unknown`` …"""
    size: int
    """Bytes."""
    free: int | None
    """Bytes that its file system has free, as of its last unmount; None where that is not known."""
    uuid: str
    """Of its file system; empty where there is none."""
    label: str
    """Of its file system."""
    part_uuid: str
    """Of its entry in the partition table."""
    mount_point: str
    """Where fstab mounts it; empty if it does not."""
    read: bool
    """Whether its content was looked into."""


class FstabFacts(Facts):
    """A line of /etc/fstab, without options that may hold passwords."""

    device: str
    """As the line names it."""
    mount_point: str
    """Where it is mounted."""
    type: str
    """Of the file system."""
    options: list[str]
    """Without those that may hold passwords."""
    volume: str
    """Name of the volume that the line means; empty where there is none among the disks."""


class KernelFacts(Facts):
    """A kernel in /boot."""

    path: str
    """Of the file."""
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
    """How many the configuration has."""
    default_entry: str
    """Title of the one that starts if nobody chooses another."""
    root: str
    """What the default entry's command line names as root."""
    consoles: list[str]
    """Of the default entry's command line."""
    efi_loaders: list[str]
    """Paths of loaders for EFI."""


class CloudInitFacts(Facts):
    """Whether and how cloud-init is set up."""

    installed: bool
    """Whether its program is there."""
    version: str
    """Empty where that is not known."""
    disabled: bool
    """Whether it is switched off."""
    datasources: list[str]
    """In the order in which they are tried, where the configuration says so."""
    vendor_scripts: bool | None
    """Whether the vendor's scripts are run (VPC needs it); None where the configuration does not tell."""


class InterfaceFacts(Facts):
    """A network interface that the server configures by itself."""

    name: str
    """As the configuration names it."""
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
    """ID of os-release."""
    os_version: str
    """VERSION_ID of os-release."""
    os_name: str
    """PRETTY_NAME of os-release."""
    hostname: str
    """By /etc/hostname."""
    root_volume: str
    """Empty where no root file system was found, or none that is read."""
    volumes: list[VolumeFacts]
    """All partitions, whole disks without any, and logical volumes."""
    fstab: list[FstabFacts]
    """The lines of /etc/fstab."""
    boot: BootFacts | None
    """None where no root file system is read."""
    kernels: list[KernelFacts]
    """In /boot."""
    cloud_init: CloudInitFacts | None
    """None where no root file system is read."""
    network: NetworkFacts | None
    """None where no root file system is read."""
