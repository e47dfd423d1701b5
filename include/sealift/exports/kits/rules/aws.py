"""What VM Import/Export of AWS asks of an image."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Case, Rule, Source, Verdict, fails, fits, remark, unknown
from sealift.exports.kits.models import PROVE_DEEPER, DriverPlace, Target
from sealift.exports.kits.rules.checks import common, formats, listed_system, mbr_limit, sizes

FORMATS: Final = ("vhd-dynamic", "vhd-fixed", "vmdk-stream", "raw")
VOLUMES_MOST: Final = 21
DISK_MOST: Final = 16 * 2**40

_GUIDE: Final = "https://docs.aws.amazon.com/vm-import/latest/userguide/"
_REQUIREMENTS: Final = Source(where=f"{_GUIDE}prerequisites.html", date="2026")
_SYSTEMS: Final = Source(where=f"{_GUIDE}prerequisites.html#vmimport-operating-systems", date="2026-10-04")
_LIMITS: Final = Source(where=f"{_GUIDE}limitations-image-importing.html", date="2026")
_CHANGES: Final = Source(where=f"{_GUIDE}import-modify-vm.html")
_NITRO: Final = Source(where="https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/nvme-ebs-volumes.html")

SYSTEMS: Final = {
    "amzn": ("2", "2023"),
    "centos": ("9",),
    "debian": ("11", "12"),
    "fedora": ("41", "42", "43"),
    "ol": ("7", "8", "9", "10"),
    "rhel": ("7", "8", "9", "10"),
    "rocky": ("9", "10"),
    "sles": ("12", "15"),
    "ubuntu": ("16.04", "16.10", "17.04", "18.04", "20.04", "22.04", "23.04", "24.04", "25.10", "26.04"),
    "windows": ("2012", "2016", "2019", "2022"),
}
"""Releases that may be imported, without those that AWS began to drop on 2026-02-01 as beyond support."""

_FILE_SYSTEMS: Final = ("ext2", "ext3", "ext4", "btrfs", "jfs", "xfs")


def _volumes(case: Case) -> Verdict:
    count = len(case.server.disks)
    if count > VOLUMES_MOST:
        return fails(
            f"The server has {count} disks, and an import takes {VOLUMES_MOST}. Import the others one by one with "
            "import-snapshot."
        )
    return fits(f"{count} of {VOLUMES_MOST} disks at the most.")


def _root_disk(case: Case) -> Verdict:
    boot = case.server.boot_disk
    if boot.table in ("mbr", "gpt") and boot.partitions:
        return fits(f"{boot.words} has a partition table with {len(boot.partitions)} partitions.")
    if boot.table is None:
        return unknown(PROVE_DEEPER)
    return fails(
        f"{boot.words} has no partitions, so that the root file system is not on a partition of the disk that starts. "
        "AWS warns that such a server may fail to boot."
    )


def _file_system(case: Case) -> Verdict:
    type_ = case.server.inside.root_file_system
    if type_ is None:
        return unknown(PROVE_DEEPER)
    if case.server.system.windows:
        return fits(f"{type_}.") if type_ == "ntfs" else fails(f"A Windows must lie on NTFS, not on {type_}.")
    if type_ not in _FILE_SYSTEMS:
        return fails(f"The root file system is {type_}; the import reads {', '.join(_FILE_SYSTEMS)}.")
    if type_ == "btrfs":
        return remark("The root file system is Btrfs, whose subvolumes are not supported.")
    return fits(f"The root file system is {type_}.")


def _firmware(case: Case) -> Verdict:
    server = case.server
    if server.firmware is None:
        return unknown(PROVE_DEEPER)
    if server.firmware == "bios":
        return fits(f"It starts by BIOS, by {server.firmware_from}.")
    fallback = server.inside.efi_fallback
    if server.system.windows or fallback:
        return remark("It starts by UEFI: import.sh says so. Such an image cannot be encrypted by the import.")
    if fallback is None:
        return unknown(f"It starts by UEFI, which needs EFI/BOOT/BOOTX64.EFI on its system partition. {PROVE_DEEPER}")
    return fails(
        "It starts by UEFI, but EFI/BOOT/BOOTX64.EFI is not on the EFI system partition. Put it there (grub-install "
        "--removable --target=x86_64-efi) before the next capture."
    )


def _interfaces(case: Case) -> Verdict:
    count = len(case.server.interfaces)
    if count > 1:
        return remark(
            f"{count} network interfaces are recorded; the imported server has one, with a private address by DHCP. "
            "Attach others, and an Elastic IP, afterwards."
        )
    return fits("It has one network interface, with a private address by DHCP.")


def _nitro(case: Case) -> Verdict:
    server = case.server
    if server.system.windows:
        return unknown("Drivers of a Windows are not looked for. Types on Nitro need those for NVMe and ENA.")
    nvme, ena = server.at_boot("nvme"), server.driver("ena")
    if nvme is None or ena is None:
        return unknown(f"{PROVE_DEEPER} Types on Nitro need NVMe at boot and ENA; types on Xen (t2, m4) need neither.")
    if nvme and ena is not DriverPlace.ABSENT:
        return fits("The kernel has NVMe at boot and ENA: types on Nitro may start it.")
    return remark("The kernel lacks NVMe at boot or ENA: start it as a type on Xen (t2, m4), or add them first.")


RULES: Final = (
    Rule(
        id="format",
        target=Target.AWS,
        checks="The images are VHD, stream-optimised VMDK or raw",
        source=_REQUIREMENTS,
        judge=formats(FORMATS),
    ),
    Rule(
        id="size",
        target=Target.AWS,
        checks="Every disk is smaller than 16 TiB",
        source=_LIMITS,
        judge=sizes(
            most=DISK_MOST - 1,
            boot_words="Make it smaller before the next capture.",
            data_words="Split it.",
        ),
    ),
    Rule(
        id="mbr",
        target=Target.AWS,
        checks="A boot disk with an MBR has 2 TiB at the most",
        source=Source(where="UEFI specification 2.10, section 5.2"),
        judge=mbr_limit,
    ),
    Rule(
        id="disks",
        target=Target.AWS,
        checks="The server has 21 disks at the most",
        source=_LIMITS,
        judge=_volumes,
    ),
    Rule(
        id="root-disk",
        target=Target.AWS,
        checks="The root file system is on a partition of the boot disk",
        source=_LIMITS,
        judge=_root_disk,
    ),
    Rule(
        id="file-system",
        target=Target.AWS,
        checks="The import can read the root file system",
        source=_REQUIREMENTS,
        judge=_file_system,
    ),
    Rule(
        id="system",
        target=Target.AWS,
        checks="The operating system is among those that may be imported",
        source=_SYSTEMS,
        judge=listed_system(
            SYSTEMS,
            also="The import looks at the kernel's version too, and at the minor release.",
            otherwise="Import the boot disk with import-snapshot and register an image of it yourself: nothing is "
            "checked or changed then, so that NVMe and ENA drivers must be there.",
        ),
    ),
    Rule(
        id="firmware",
        target=Target.AWS,
        checks="The system starts by the firmware there",
        source=_LIMITS,
        judge=_firmware,
    ),
    Rule(
        id="interfaces",
        target=Target.AWS,
        checks="One network interface is enough",
        source=_LIMITS,
        judge=_interfaces,
    ),
    Rule(
        id="nitro",
        target=Target.AWS,
        checks="The kernel has the drivers that types on Nitro need",
        source=_NITRO,
        judge=_nitro,
    ),
    *common(Target.AWS, mends=True, refuses_encrypted=_LIMITS, mends_source=_CHANGES),
)
