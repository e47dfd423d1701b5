"""What Google Cloud asks of an image that Migrate to Virtual Machines imports."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Case, Rule, Source, Verdict, fits, remark, unknown
from sealift.exports.kits.images import VHD
from sealift.exports.kits.models import PROVE_DEEPER, Target
from sealift.exports.kits.rules.checks import EXPERIENCE, common, formats, listed_system, mbr_limit

FORMATS: Final = (*VHD, "vmdk-stream", "qcow2")

_COMMAND: Final = Source(where="https://cloud.google.com/sdk/gcloud/reference/migration/vms/image-imports/create")
_FORMATS: Final = Source(where="https://cloud.google.com/compute/docs/import/import-ovf-files (formats)")
_SYSTEMS: Final = Source(
    where="https://cloud.google.com/migrate/virtual-machines/docs/5.0/reference/supported-os-versions", date="2025"
)
_CHANGES: Final = Source(
    where="https://cloud.google.com/migrate/virtual-machines/docs/5.0/resources/vm-adaptations", date="2025"
)

SYSTEMS: Final = {
    "centos": ("7", "8", "9"),
    "debian": ("11", "12"),
    "rhel": ("7", "8", "9"),
    "rocky": ("8", "9"),
    "sles": ("12", "15"),
    "ubuntu": ("18.04", "20.04", "22.04", "24.04"),
    "windows": ("2016", "2019", "2022", "2025"),
}
"""Releases whose boot disk the import adapts (the source VMware; an image has the same)."""

_ADAPTED: Final = (
    "The import adapts the boot disk: virtio drivers into the initramfs, DHCP, UUIDs in /etc/fstab, the console on the "
    "serial port."
)


def _virtio(case: Case) -> Verdict:
    """Judge drivers; the adaptation mends what it can, with a kernel that is there."""
    places = {name: case.server.at_boot(name) for name in ("virtio_scsi", "virtio_pci")}
    if all(places.values()):
        return fits("virtio_scsi and virtio_pci are at hand at boot.")
    if any(there is False for there in places.values()):
        return remark(
            "virtio_scsi or virtio_pci is missing at boot. The import rebuilds the initramfs where a kernel has them; "
            "with --skip-os-adaptation nobody does."
        )
    return unknown(f"{PROVE_DEEPER} The import looks for virtio drivers, and adds them where a kernel has them.")


def _firmware(case: Case) -> Verdict:
    if case.server.firmware == "bios":
        return fits(f"It starts by BIOS, by {case.server.firmware_from}; so does the machine.")
    if case.server.firmware == "efi":
        return remark("It starts by UEFI. After the import, look that the image has the feature UEFI_COMPATIBLE.")
    return unknown(PROVE_DEEPER)


def _each_disk(case: Case) -> Verdict:
    data = case.server.data_disks
    if not data:
        return fits("The server has one disk.")
    return remark(
        f"Each disk is imported as an image of its own, {len(data)} of them without adaptation; import.sh does so, and "
        "says how to attach disks made of them."
    )


RULES: Final = (
    Rule(
        id="format",
        target=Target.GOOGLE,
        checks="The images are VHD, VMDK or qcow2",
        source=_FORMATS,
        judge=formats(FORMATS),
    ),
    Rule(
        id="disks",
        target=Target.GOOGLE,
        checks="All disks come with one import",
        source=_COMMAND,
        judge=_each_disk,
    ),
    Rule(
        id="mbr",
        target=Target.GOOGLE,
        checks="A boot disk with an MBR has 2 TiB at the most",
        source=Source(where="UEFI specification 2.10, section 5.2"),
        judge=mbr_limit,
    ),
    Rule(
        id="system",
        target=Target.GOOGLE,
        checks="The import can adapt the operating system",
        source=_SYSTEMS,
        judge=listed_system(
            SYSTEMS,
            also=_ADAPTED,
            otherwise="Import it with --skip-os-adaptation (SKIP_ADAPTATION=1 bash import.sh): then virtio drivers, "
            "DHCP and UUIDs in /etc/fstab must be there before.",
        ),
    ),
    Rule(
        id="virtio",
        target=Target.GOOGLE,
        checks="The kernel has virtio drivers for disk and network",
        source=_CHANGES,
        judge=_virtio,
    ),
    Rule(
        id="firmware",
        target=Target.GOOGLE,
        checks="The system starts by the firmware there",
        source=EXPERIENCE,
        judge=_firmware,
    ),
    *common(Target.GOOGLE, mends=True, refuses_encrypted=None, mends_source=_CHANGES),
)
