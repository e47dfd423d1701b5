"""What vSphere asks of an OVF package and of the system in it."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Case, Rule, Source, Verdict, fails, fits, unknown
from sealift.exports.kits.models import PROVE_DEEPER, DriverPlace, Target
from sealift.exports.kits.rules.checks import EXPERIENCE, REBUILD, best_hardware, common, formats, sizes

FORMATS: Final = ("vmdk-stream",)

_OVF: Final = Source(where="DMTF DSP0243 1.1.0, Open Virtualization Format")
_MAXIMUMS: Final = Source(where="https://configmax.broadcom.com (vSphere 7.0: virtual disk size)", confirmed=False)

CONTROLLERS: Final = (("VirtualSCSI", ("vmw_pvscsi",)), ("lsilogic", ("mptspi",)), ("AHCI", ("ahci",)))
"""Controllers that disks can be at, and the drivers that they need."""


def controller(case: Case) -> str:
    """Choose the disks' controller.

    :param case: the export.
    :returns: one of :data:`CONTROLLERS`; ``lsilogic`` for a Windows.
    """
    return "lsilogic" if case.server.system.windows else best_hardware(case, CONTROLLERS)[0]


def adapter(case: Case) -> str:
    """Choose the network adapter by the drivers that the kernel has.

    :param case: the export.
    :returns: ``VmxNet3``, or ``E1000`` where that alone is there.
    """
    vmxnet3, e1000 = case.server.driver("vmxnet3"), case.server.driver("e1000")
    absent = vmxnet3 is DriverPlace.ABSENT and e1000 not in (None, DriverPlace.ABSENT)
    return "E1000" if absent or case.server.system.windows else "VmxNet3"


def _controller(case: Case) -> Verdict:
    if case.server.system.windows:
        return unknown("Drivers of a Windows are not looked for: the kit takes lsilogic, which it may lack.")
    chosen, there = best_hardware(case, CONTROLLERS)
    if there is None:
        return unknown(f"{PROVE_DEEPER} The kit takes {chosen}.")
    if not there:
        return fails(
            f"The kernel has none of vmw_pvscsi, mptspi and ahci at boot, and does not find its disk. {REBUILD}."
        )
    return fits(f"The kernel has the driver for {chosen} at boot.")


def _adapter(case: Case) -> Verdict:
    places = [case.server.driver(name) for name in ("vmxnet3", "e1000")]
    if any(place not in (None, DriverPlace.ABSENT) for place in places):
        return fits(f"The network adapter is {adapter(case)}.")
    if None in places:
        return unknown(f"{PROVE_DEEPER} The kit takes {adapter(case)}.")
    return fails("The kernel has neither vmxnet3 nor e1000, and so has no network. Install the kernel's modules.")


def _firmware(case: Case) -> Verdict:
    firmware = case.server.firmware
    if firmware is None:
        return unknown(f"{PROVE_DEEPER} server.ovf takes BIOS.")
    return fits(f"It starts by {firmware.upper()}, by {case.server.firmware_from}; server.ovf says so.")


RULES: Final = (
    Rule(
        id="format",
        target=Target.VMWARE,
        checks="The images are stream-optimised VMDKs",
        source=_OVF,
        judge=formats(
            FORMATS,
            remarks="Some versions of ESXi refuse stream-optimised VMDKs by qemu-img: then import them with ovftool.",
        ),
    ),
    Rule(
        id="size",
        target=Target.VMWARE,
        checks="Every disk has 62 TiB at the most",
        source=_MAXIMUMS,
        judge=sizes(most=62 * 2**40, boot_words="Make it smaller.", data_words="Split it."),
    ),
    Rule(
        id="controller",
        target=Target.VMWARE,
        checks="The kernel finds its disk at a controller that can be asked for",
        source=EXPERIENCE,
        judge=_controller,
    ),
    Rule(
        id="adapter",
        target=Target.VMWARE,
        checks="The kernel has a driver for a network adapter",
        source=EXPERIENCE,
        judge=_adapter,
    ),
    Rule(
        id="firmware",
        target=Target.VMWARE,
        checks="The system starts by the firmware there",
        source=_OVF,
        judge=_firmware,
    ),
    *common(Target.VMWARE, mends=False, refuses_encrypted=None),
)
