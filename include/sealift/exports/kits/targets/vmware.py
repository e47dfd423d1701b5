"""The kit for vSphere: an OVF package around the VMDKs."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from typing import Final

from sealift.exports.kits.fit import Case
from sealift.exports.kits.images import MIB, KitImage, choose, conversion, script_head
from sealift.exports.kits.models import Target
from sealift.exports.kits.rules import vmware as rules
from sealift.exports.kits.targets.readme import DOWNLOADED, Step, convert_step, readme
from sealift.exports.kits.text import lines, plain, shell, up, xml_bytes

OVF: Final = "http://schemas.dmtf.org/ovf/envelope/1"
CIM: Final = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
RASD: Final = f"{CIM}CIM_ResourceAllocationSettingData"
VSSD: Final = f"{CIM}CIM_VirtualSystemSettingData"
VMW: Final = "http://www.vmware.com/schema/ovf"
STREAM: Final = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
HARDWARE: Final = "vmx-17"
"""Hardware of ESXi 7.0."""

DISKS_EACH: Final = 15
"""Disks that a SCSI controller takes; a SATA controller takes more."""

NETWORK: Final = "Network {}"

_LINUX, _WINDOWS, _OTHER = "101", "103", "102"
_GUESTS: Final = {
    "centos": ("107", {"7": "centos7_64Guest", "8": "centos8_64Guest", "9": "centos9_64Guest"}),
    "debian": ("96", {"10": "debian10_64Guest", "11": "debian11_64Guest"}),
    "rhel": ("80", {"7": "rhel7_64Guest", "8": "rhel8_64Guest", "9": "rhel9_64Guest"}),
    "sles": ("85", {"12": "sles12_64Guest", "15": "sles15_64Guest"}),
    "ubuntu": ("94", dict.fromkeys(("16.04", "18.04", "20.04", "22.04", "24.04"), "ubuntu64Guest")),
    "windows": (_WINDOWS, {"2016": "windows9Server64Guest", "2019": "windows2019srv_64Guest"}),
}
"""CIM_OperatingSystem.OSType, and vSphere's names of releases that hardware 17 knows."""


def files(case: Case) -> dict[str, bytes]:
    """Write the kit.

    :param case: the export.
    :returns: bytes by file name.
    """
    images = choose(case.server, case.converted, rules.FORMATS)
    package = {"server.ovf": ovf(case, images)}
    if all(image.sha256 for image in images):
        package["server.mf"] = _manifest(package["server.ovf"], images)
    return {
        **conversion(case.server, images),
        **package,
        "package.sh": _package(case, images),
        "README.md": _readme(case, images),
    }


def guest(case: Case) -> tuple[str, str]:
    """Say what the operating system is called.

    :param case: the export.
    :returns: by CIM's number and by vSphere's name.
    """
    system = case.server.system
    number, releases = _GUESTS.get(system.id, (_LINUX if system.id else _OTHER, {}))
    fallback = "otherGuest64" if number in (_OTHER, _WINDOWS) else "otherLinux64Guest"
    return number, releases.get(system.version, fallback)


def ovf(case: Case, images: list[KitImage]) -> bytes:
    """Describe the server. Source: DMTF DSP0243 1.1.0.

    :param case: the export.
    :param images: its disks' images.
    :returns: XML.
    """
    for prefix, uri in (("ovf", OVF), ("rasd", RASD), ("vssd", VSSD), ("vmw", VMW)):
        ET.register_namespace(prefix, uri)
    server = case.server
    networks = [NETWORK.format(one.name) for one in server.interfaces]
    envelope = ET.Element(f"{{{OVF}}}Envelope")
    references = _sub(envelope, "References")
    for image in images:
        size = {"size": str(image.size)} if image.size is not None else {}
        _sub(references, "File", id=f"file-{image.disk.index}", href=image.file, **size)
    section = _section(envelope, "DiskSection", "The disks")
    for image in images:
        _sub(
            section,
            "Disk",
            diskId=f"disk-{image.disk.index}",
            fileRef=f"file-{image.disk.index}",
            capacity=str(image.virtual_size),
            capacityAllocationUnits="byte",
            format=STREAM,
        )
    section = _section(envelope, "NetworkSection", "The networks")
    for name in networks:
        _sub(_sub(section, "Network", name=name), "Description").text = "As recorded of the server"
    system = _sub(envelope, "VirtualSystem", id=server.name)
    _sub(system, "Info").text = plain(f"Sealift export {server.export_id}")
    _sub(system, "Name").text = server.name
    number, vmware_name = guest(case)
    section = _section(system, "OperatingSystemSection", "The operating system", id=number)
    section.set(f"{{{VMW}}}osType", vmware_name)
    _sub(section, "Description").text = plain(server.system.words or "Not known")
    _hardware(_section(system, "VirtualHardwareSection", "The hardware"), case, images, networks)
    return xml_bytes(envelope)


def _hardware(section: ET.Element, case: Case, images: list[KitImage], networks: list[str]) -> None:
    server = case.server
    family = _sub(section, "System")
    for name, text in (
        ("ElementName", "Virtual Hardware Family"),
        ("InstanceID", "0"),
        ("VirtualSystemIdentifier", server.name),
        ("VirtualSystemType", HARDWARE),
    ):
        ET.SubElement(family, f"{{{VSSD}}}{name}").text = text
    vcpus, memory = server.vcpus or 1, server.memory_mib or 1024
    _item(
        section,
        AllocationUnits="hertz * 10^6",
        ElementName=f"{vcpus} virtual CPUs",
        InstanceID="1",
        ResourceType="3",
        VirtualQuantity=str(vcpus),
    )
    _item(
        section,
        AllocationUnits="byte * 2^20",
        ElementName=f"{memory} MB of memory",
        InstanceID="2",
        ResourceType="4",
        VirtualQuantity=str(memory),
    )
    controller = rules.controller(case)
    sata = controller == "AHCI"
    for number in range(up(len(images), DISKS_EACH)):
        _item(
            section,
            Address=str(number),
            ElementName=f"Disk controller {number}",
            InstanceID=str(10 + number),
            ResourceSubType="vmware.sata.ahci" if sata else controller,
            ResourceType="20" if sata else "6",
        )
    for number, image in enumerate(images):
        at, place = divmod(number, DISKS_EACH)
        _item(
            section,
            # A SCSI controller is itself at 7.
            AddressOnParent=str(place if sata or place < 7 else place + 1),
            ElementName=image.file,
            HostResource=f"ovf:/disk/disk-{image.disk.index}",
            InstanceID=str(100 + number),
            Parent=str(10 + at),
            ResourceType="17",
        )
    for number, name in enumerate(networks):
        _item(
            section,
            AddressOnParent=str(number),
            AutomaticAllocation="true",
            Connection=name,
            ElementName=f"Network adapter {number + 1}",
            InstanceID=str(1000 + number),
            ResourceSubType=rules.adapter(case),
            ResourceType="10",
        )
    config = ET.SubElement(section, f"{{{VMW}}}Config")
    for key, value in (("ovf:required", "false"), ("vmw:key", "firmware"), ("vmw:value", server.firmware or "bios")):
        prefix, _, name = key.partition(":")
        config.set(f"{{{OVF if prefix == 'ovf' else VMW}}}{name}", value)


def _item(section: ET.Element, /, **values: str) -> None:
    """Add an item; the schema wants its parts in the order of their names."""
    item = _sub(section, "Item")
    for name in sorted(values):
        ET.SubElement(item, f"{{{RASD}}}{name}").text = values[name]


def _sub(parent: ET.Element, tag: str, /, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, f"{{{OVF}}}{tag}", {f"{{{OVF}}}{key}": value for key, value in attributes.items()})


def _section(parent: ET.Element, tag: str, info: str, /, **attributes: str) -> ET.Element:
    section = _sub(parent, tag, **attributes)
    _sub(section, "Info").text = info
    return section


def _manifest(descriptor: bytes, images: list[KitImage]) -> bytes:
    """Digests of all files of the package; DSP0243 names the form."""
    sums = {"server.ovf": hashlib.sha256(descriptor).hexdigest()}
    sums |= {image.file: image.sha256 or "" for image in images}
    return lines(*(f"SHA256({name})= {digest}" for name, digest in sums.items()))


def _package(case: Case, images: list[KitImage]) -> bytes:
    return lines(
        *script_head(f"Puts the OVF package of {case.server.title} together.", "sha256sum", folder=True),
        f"files=({' '.join(shell(image.file) for image in images)})",
        _SCRIPT,
    )


def _readme(case: Case, images: list[KitImage]) -> bytes:
    server = case.server
    networks = [NETWORK.format(one.name) for one in server.interfaces]
    mapping = " ".join(f"--net:{shell(f'{name}=<port group>')}" for name in networks)
    return readme(
        server,
        Target.VMWARE,
        needs=(
            "`ovftool` or `govc`, and ESXi 7.0 or newer. For an older one, change `vmx-17` in `server.ovf`.",
            DOWNLOADED,
        ),
        steps=(
            *convert_step(needed=any(not image.there for image in images)),
            Step(
                do="Put `server.ovf` and its manifest `server.mf`, with the SHA-256 of every file, beside the disks.",
                run=("bash package.sh",),
            ),
            Step(
                do="Deploy, by one of the two.",
                run=(
                    f"ovftool --datastore=<datastore> {mapping} server.ovf 'vi://<host or vCenter path>'",
                    f"govc import.ovf -name {shell(server.name)} server.ovf",
                ),
                then="Both ask for the password, or take it as they are set up: it stands nowhere in this kit.",
            ),
        ),
        notes=(
            f"{case.server.memory_mib or 1024} MB and {case.server.vcpus or 1} CPUs, disks at a controller "
            f"{rules.controller(case)}, adapters {rules.adapter(case)}, firmware {server.firmware or 'bios'}.",
            "VMware counts disk space in whole MB: "
            + ", ".join(f"`{image.file}` {up(image.virtual_size, MIB)}" for image in images)
            + ".",
        ),
    )


_SCRIPT: Final = """\
for file in "${files[@]}"; do
  if [ ! -e "$images/$file" ]; then
    echo "$images/$file is not there: make it with convert.sh, or bring it." >&2
    exit 66
  fi
done
cp -- "$here/server.ovf" "$images/server.ovf"
cd -- "$images"
rm -f -- server.mf.part
for file in server.ovf "${files[@]}"; do
  sum="$(sha256sum -- "$file")"
  echo "SHA256($file)= ${sum%% *}" >>server.mf.part
done
if [ -e "$here/server.mf" ] && ! cmp -- "$here/server.mf" server.mf.part; then
  echo "A file is not what the kit was made for: compare the two lists of digests." >&2
  exit 65
fi
mv -- server.mf.part server.mf
echo "The package is $images/server.ovf."
"""
