"""What kits are made of, and what a fit report says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from sealift.exports.errors import ExportsError
from sealift.exports.versions import reads_up_to

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

PROVE_DEEPER: Final = "Not known: prove the export at level L3 to find out."
"""What a report says of a fact that stands inside the disks and that nobody has looked for."""


class KitError(ExportsError):
    """No kit can be made of this export: its manifest names what Sealift does not write."""


class Target(StrEnum):
    """A platform that an export can be taken to; the value names its folder."""

    IBM_VPC = "ibm-vpc"
    AWS = "aws"
    GOOGLE = "google"
    AZURE = "azure"
    OPENSTACK = "openstack"
    LIBVIRT = "libvirt"
    VMWARE = "vmware"

    @property
    def label(self) -> str:
        """What people call it."""
        return _LABELS[self]


_LABELS: Final = {
    Target.IBM_VPC: "IBM Cloud VPC",
    Target.AWS: "AWS",
    Target.GOOGLE: "Google Cloud",
    Target.AZURE: "Azure",
    Target.OPENSTACK: "OpenStack",
    Target.LIBVIRT: "libvirt (KVM)",
    Target.VMWARE: "VMware vSphere",
}


class Outcome(StrEnum):
    """What a rule found."""

    FITS = "fits"
    FAILS = "fails"
    UNKNOWN = "unknown"
    REMARK = "remark"


class DriverPlace(StrEnum):
    """Where a kernel has a driver. At boot, before the root file system is mounted, only the first two are at hand."""

    BUILT_IN = "built-in"
    INITRAMFS = "initramfs"
    MODULE = "module"
    ABSENT = "absent"


class KitModel(BaseModel):
    """Base of the models here."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GuestSystem(KitModel):
    """What is known of the system inside the disks. None, or a driver that is not named, means: not known."""

    name: str | None = Field(default=None, description="The system's name in words, as PRETTY_NAME of os-release")
    os_id: str | None = Field(default=None, description="ID of os-release (debian, rhel …), or windows")
    os_version: str | None = Field(default=None, description="VERSION_ID of os-release, as 12 or 22.04")
    kernel: str | None = Field(default=None, description="Version of the kernel that boots")
    firmware: Literal["bios", "efi"] | None = Field(default=None, description="What the boot loader is made for")
    efi_fallback: bool | None = Field(default=None, description="EFI/BOOT/BOOTX64.EFI is on the EFI system partition")
    drivers: dict[str, DriverPlace] = Field(
        default_factory=dict, description="Where the kernel that boots has a driver, by its name (virtio_blk …)"
    )
    cloud_init: bool | None = Field(default=None, description="cloud-init (or cloudbase-init) is installed")
    datasources: list[str] | None = Field(
        default=None, description="Data sources that cloud-init is limited to; empty where it is not limited"
    )
    fstab_by_device: bool | None = Field(
        default=None, description="/etc/fstab or the kernel's command line name disks as /dev/xvda1, not by UUID"
    )
    dhcp: bool | None = Field(default=None, description="An interface takes its address by DHCP")
    encrypted: bool | None = Field(default=None, description="A volume that the system starts from is encrypted")
    root_file_system: str | None = Field(default=None, description="Type of the root file system, as ext4")
    azure_agent: bool | None = Field(default=None, description="The Azure Linux Agent is installed")
    partition_tables: dict[str, Literal["mbr", "gpt", "none"]] = Field(
        default_factory=dict, description="Partition tables by device, where they were read anew"
    )


ImageFormat = Literal["vhd-dynamic", "vhd-fixed", "vmdk-stream", "vmdk-sparse", "qcow2", "raw"]
"""Formats as proofs name them, and ``raw``."""


class ConvertedImage(KitModel):
    """A disk of the export in another format, beside the exported image."""

    key: str = Field(description="The object's key; its last part is the file's name in a delivery")
    format: ImageFormat = Field(description="The format it was converted to")
    size: int = Field(gt=0, description="Size of the file in bytes")
    virtual_size: int = Field(gt=0, description="Size of the disk that it holds, in bytes")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the file")
    of_device: str = Field(description="The API's device number of the disk: 0 is the boot disk")


class FitLine(KitModel):
    """What one rule found."""

    id: str = Field(description="The rule, as <target>.<fact>")
    checks: str = Field(description="What is checked")
    outcome: Outcome = Field(description="fits, fails, unknown, or remark: works, but needs something done or known")
    words: str = Field(description="Why, and what to do")
    source: str = Field(description="Where the rule comes from")
    source_date: str = Field(default="", description="Of when the source is, where that is known")
    confirmed: bool = Field(default=True, description="The source says so; otherwise the rule is from experience")


class TargetFit(KitModel):
    """How an export fits one target."""

    target: Target = Field(description="The target")
    outcome: Outcome = Field(description="fails where a rule fails, else unknown where one is, else remark, else fits")
    lines: list[FitLine] = Field(description="What each rule found, what fails first")

    def having(self, outcome: Outcome) -> list[FitLine]:
        """Pick the lines with one outcome.

        :param outcome: the outcome.
        :returns: the lines, in their order.
        """
        return [line for line in self.lines if line.outcome is outcome]


class FitReport(KitModel):
    """How an export fits the targets that kits were made for."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    export_id: str = Field(description="<guest id>-<period>")
    guest_id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name")
    proof_level: str = Field(description="The lowest proof level of all disks, by the manifest")
    targets: list[TargetFit] = Field(description="The targets")


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What takes an export to one target.

    :param target: the target.
    :param files: bytes by file name, the fit report among them.
    :param fit: how the export fits there.
    """

    target: Target
    files: Mapping[str, bytes]
    fit: TargetFit
