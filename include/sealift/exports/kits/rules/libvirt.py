"""What libvirt with KVM asks of a server's disks."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Case, Rule, Source, Verdict, fits, remark, unknown
from sealift.exports.kits.models import PROVE_DEEPER, Target
from sealift.exports.kits.rules.checks import common, formats
from sealift.exports.kits.rules.openstack import bus

FORMATS: Final = ("qcow2", "raw")

_DOMAIN: Final = Source(where="https://libvirt.org/formatdomain.html")
_NETWORK: Final = Source(where="https://libvirt.org/formatnetwork.html")


def _firmware(case: Case) -> Verdict:
    firmware = case.server.firmware
    if firmware is None:
        return unknown(f"{PROVE_DEEPER} domain.xml takes BIOS.")
    words = f"It starts by {firmware.upper()}, by {case.server.firmware_from}"
    if firmware == "efi":
        return remark(f"{words}: the host needs OVMF.")
    return fits(f"{words}.")


def _networks(case: Case) -> Verdict:
    interfaces = case.server.interfaces
    if not interfaces:
        return unknown("No network interface is recorded: domain.xml has none. Add one where the server needs it.")
    whole = [one.name for one in interfaces if one.mac and one.gateway and one.netmask]
    if len(whole) == len(interfaces):
        return remark(
            f"{', '.join(whole)} with the recorded MAC addresses, each in a network of its own with the recorded "
            "subnet, cut off from others: the server keeps its addresses and meets nobody."
        )
    return remark(
        "Not all of MAC address, gateway and netmask are recorded of each interface: such an interface is in the "
        "network `default`, or gets a new MAC address."
    )


RULES: Final = (
    Rule(
        id="format",
        target=Target.LIBVIRT,
        checks="The images are qcow2 or raw",
        source=_DOMAIN,
        judge=formats(FORMATS),
    ),
    Rule(
        id="bus",
        target=Target.LIBVIRT,
        checks="The kernel finds its disk on a bus that can be asked for",
        source=_DOMAIN,
        judge=bus,
    ),
    Rule(
        id="firmware",
        target=Target.LIBVIRT,
        checks="The system starts by the firmware there",
        source=_DOMAIN,
        judge=_firmware,
    ),
    Rule(
        id="networks",
        target=Target.LIBVIRT,
        checks="The recorded networks can be made",
        source=_NETWORK,
        judge=_networks,
    ),
    *common(Target.LIBVIRT, mends=False, refuses_encrypted=None),
)
