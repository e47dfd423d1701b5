"""What OpenStack asks of an image for KVM; each cloud has rules of its own besides."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Case, Rule, Source, Verdict, fails, fits, remark, unknown
from sealift.exports.kits.models import PROVE_DEEPER, Target
from sealift.exports.kits.rules.checks import EXPERIENCE, REBUILD, best_hardware, common, formats

FORMATS: Final = ("qcow2", "raw")

_FORMATS: Final = Source(where="https://docs.openstack.org/glance/latest/user/formats.html")
_PROPERTIES: Final = Source(where="https://docs.openstack.org/glance/latest/admin/useful-image-properties.html")

BUSES: Final = (
    ("virtio", ("virtio_blk", "virtio_pci")),
    ("scsi", ("virtio_scsi", "virtio_pci")),
    ("sata", ("ahci",)),
)
"""Buses that disks can be on, and the drivers that they need; ``scsi`` is virtio-scsi."""


def disk_bus(case: Case) -> str:
    """Choose the bus of the disks.

    :param case: the export.
    :returns: one of :data:`BUSES`.
    """
    return best_hardware(case, BUSES)[0]


def bus(case: Case) -> Verdict:
    """Judge whether the kernel finds its disk on some bus.

    :param case: the export.
    :returns: fails where it does not, unknown where nobody looked.
    """
    if case.server.system.windows:
        return unknown("Drivers of a Windows are not looked for. It needs those of virtio-win before the capture.")
    chosen, there = best_hardware(case, BUSES)
    if there is None:
        return unknown(f"{PROVE_DEEPER} The kit takes the bus {chosen}; sata is another way where that finds no disk.")
    if not there:
        return fails(
            f"The kernel has none of virtio_blk, virtio_scsi and ahci at boot, and does not find its disk. {REBUILD}."
        )
    if chosen != "virtio":
        return remark(f"The kernel lacks virtio_blk at boot: the kit puts the disks on the bus {chosen}.")
    return fits("virtio_blk and virtio_pci are at hand at boot.")


def _cloud_init(case: Case) -> Verdict:
    inside = case.server.inside
    if inside.cloud_init is None:
        return unknown(PROVE_DEEPER)
    if not inside.cloud_init:
        return remark("cloud-init is not installed: the server keeps its keys, its name and its addresses.")
    if inside.datasources is None:
        return unknown(PROVE_DEEPER)
    if not inside.datasources or {"OpenStack", "ConfigDrive"} & set(inside.datasources):
        return fits("cloud-init looks for OpenStack or ConfigDrive, or for all data sources.")
    return remark(
        f"cloud-init is limited to {', '.join(inside.datasources)}, so that the server gets neither keys nor a name. "
        "Take datasource_list out of /etc/cloud before the next capture."
    )


def _firmware(case: Case) -> Verdict:
    firmware = case.server.firmware
    if firmware is None:
        return unknown(f"{PROVE_DEEPER} The kit leaves the property hw_firmware_type out, which means BIOS as a rule.")
    words = f"It starts by {firmware.upper()}, by {case.server.firmware_from}"
    if firmware == "efi":
        return remark(f"{words}: the kit sets hw_firmware_type=uefi and hw_machine_type=q35, for clouds with both.")
    return fits(f"{words}.")


RULES: Final = (
    Rule(
        id="format",
        target=Target.OPENSTACK,
        checks="The images are qcow2 or raw, which KVM starts from",
        source=_FORMATS,
        judge=formats(FORMATS),
    ),
    Rule(
        id="bus",
        target=Target.OPENSTACK,
        checks="The kernel finds its disk on a bus that can be asked for",
        source=_PROPERTIES,
        judge=bus,
    ),
    Rule(
        id="cloud-init",
        target=Target.OPENSTACK,
        checks="cloud-init takes what the cloud hands to the server",
        source=EXPERIENCE,
        judge=_cloud_init,
    ),
    Rule(
        id="firmware",
        target=Target.OPENSTACK,
        checks="The system starts by the firmware there",
        source=_PROPERTIES,
        judge=_firmware,
    ),
    *common(Target.OPENSTACK, mends=False, refuses_encrypted=None),
)
