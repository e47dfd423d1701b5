"""The kit for libvirt: the domain, and the networks as they were recorded."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Final

from sealift.exports.kits.fit import Case
from sealift.exports.kits.images import KitImage, choose, conversion, script_head
from sealift.exports.kits.models import DriverPlace, Target
from sealift.exports.kits.rules import libvirt as rules
from sealift.exports.kits.rules.openstack import disk_bus
from sealift.exports.kits.server import Interface
from sealift.exports.kits.targets.readme import DOWNLOADED, Step, convert_step, readme
from sealift.exports.kits.text import lines, plain, quoted, shell, xml_bytes

POOL: Final = "/var/lib/libvirt/images"
"""Where domain.xml looks for the disks; import.sh changes it where they go elsewhere."""


def files(case: Case) -> dict[str, bytes]:
    """Write the kit.

    :param case: the export.
    :returns: bytes by file name.
    """
    images = choose(case.server, case.converted, rules.FORMATS)
    networks = {f"network-{one.name}.xml": network_xml(case, one) for one in _own_networks(case)}
    return {
        **conversion(case.server, images),
        "domain.xml": domain_xml(case, images),
        **networks,
        "import.sh": _import(case, images, sorted(networks)),
        "README.md": _readme(case, images, sorted(networks)),
    }


def domain_xml(case: Case, images: list[KitImage]) -> bytes:
    """Describe the server. Source: https://libvirt.org/formatdomain.html

    :param case: the export.
    :param images: its disks' images.
    :returns: XML.
    """
    server, bus = case.server, disk_bus(case)
    domain = ET.Element("domain", type="kvm")
    _text(domain, "name", server.name)
    _text(domain, "title", server.hostname or server.name)
    _text(domain, "description", plain(f"Sealift export {server.export_id}. {server.notes}", limit=400))
    _text(domain, "memory", str(server.memory_mib or 1024), unit="MiB")
    _text(domain, "vcpu", str(server.vcpus or 1))
    system = ET.SubElement(domain, "os", {"firmware": "efi"} if server.firmware == "efi" else {})
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    ET.SubElement(system, "boot", dev="hd")
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(domain, "cpu", mode="host-model")
    ET.SubElement(domain, "clock", offset="utc")
    devices = ET.SubElement(domain, "devices")
    for number, image in enumerate(images):
        _disk(devices, image, number, bus, f"{POOL}/{server.name}/{image.file}")
    if bus == "scsi":
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    own = {one.name for one in _own_networks(case)}
    for one in server.interfaces:
        _interface(devices, case, one, own=one.name in own)
    ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(devices, "console", type="pty")
    ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="vga")
    return xml_bytes(domain)


def _disk(devices: ET.Element, image: KitImage, number: int, bus: str, path: str) -> None:
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type=image.format, cache="none", discard="unmap")
    ET.SubElement(disk, "source", file=path)
    ET.SubElement(disk, "target", dev=target_name(number, "vd" if bus == "virtio" else "sd"), bus=bus)


def target_name(number: int, prefix: str) -> str:
    """Name a disk as Linux would.

    :param number: from 0.
    :param prefix: ``vd`` or ``sd``.
    :returns: as ``vda``, ``vdz``, ``vdaa``.
    """
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return prefix + letters


def _interface(devices: ET.Element, case: Case, one: Interface, *, own: bool) -> None:
    interface = ET.SubElement(devices, "interface", type="network")
    if one.mac is not None:
        ET.SubElement(interface, "mac", address=one.mac)
    ET.SubElement(interface, "source", network=network_name(case, one) if own else "default")
    absent = case.server.driver("virtio_net") is DriverPlace.ABSENT
    ET.SubElement(interface, "model", type="e1000" if absent else "virtio")


def network_name(case: Case, one: Interface) -> str:
    """Name the network of an interface.

    :param case: the export.
    :param one: the interface.
    :returns: letters, digits and ``-``.
    """
    return f"{case.server.name}-{one.name}"


def network_xml(case: Case, one: Interface) -> bytes:
    """Describe a network with the recorded subnet, cut off from others. Source: https://libvirt.org/formatnetwork.html

    :param case: the export.
    :param one: an interface whose gateway and netmask are recorded.
    :returns: XML.
    """
    network = ET.Element("network")
    _text(network, "name", network_name(case, one))
    ET.SubElement(network, "ip", address=one.gateway or "", netmask=one.netmask or "")
    return xml_bytes(network)


def _own_networks(case: Case) -> list[Interface]:
    """Interfaces that get a network of their own: two in one subnet would be two networks with one address."""
    found: dict[str, Interface] = {}
    for one in case.server.interfaces:
        if one.gateway and one.netmask:
            found.setdefault(one.gateway, one)
    return list(found.values())


def _text(parent: ET.Element, tag: str, text: str, /, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _import(case: Case, images: list[KitImage], networks: list[str]) -> bytes:
    server = case.server
    return lines(
        *script_head(f"Defines {server.title} as a domain of libvirt.", "virsh", folder=True),
        f"name={quoted(server.name)}",
        f"files=({' '.join(shell(image.file) for image in images)})",
        f"networks=({' '.join(shell(name) for name in networks)})",
        f"pool={quoted(POOL)}",
        _SCRIPT,
    )


def _readme(case: Case, images: list[KitImage], networks: list[str]) -> bytes:
    server = case.server
    return readme(
        server,
        Target.LIBVIRT,
        needs=(
            "A host with libvirt and KVM, `virsh`, and the right to write to its folder of images.",
            *(("OVMF, for UEFI.",) if server.firmware == "efi" else ()),
            DOWNLOADED,
        ),
        steps=(
            *convert_step(needed=any(not image.there for image in images)),
            Step(
                do="Check what is to be defined.",
                run=tuple(f"virt-xml-validate {name}" for name in ("domain.xml", *networks)),
            ),
            Step(
                do="Copy the disks, and define networks and domain.",
                run=("bash import.sh",),
                then=f"`TARGET_DIR=<folder>` puts the disks elsewhere than into `{POOL}/{server.name}`. Disks that are "
                "there already are left alone, and so are networks.",
            ),
            Step(
                do="Start it, and look at its console.",
                run=(f"virsh start {shell(server.name)} && virsh console {shell(server.name)}",),
            ),
        ),
        notes=(
            "Never let it meet the server that it was made of: it has its addresses and its keys. The networks of this "
            "kit are cut off from others.",
            *(
                (
                    "Each network gives the host the recorded gateway's address: while it is active, the host does not "
                    "reach the real one. `virsh net-destroy <network>` ends that.",
                )
                if networks
                else ()
            ),
            f"The disks are on the bus {disk_bus(case)}. Where the system finds none of them, change the bus in "
            "`domain.xml` to `sata`, and the targets to `sda` and on.",
        ),
    )


_SCRIPT: Final = """\
target="${TARGET_DIR:-$pool/$name}"
case "$target" in
  *[!A-Za-z0-9/._-]*)
    echo "TARGET_DIR may hold letters, digits, and / . _ - only: $target" >&2
    exit 64
    ;;
esac
work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT

mkdir -p -- "$target"
for file in "${files[@]}"; do
  if [ ! -e "$target/$file" ]; then
    rm -f -- "$target/$file.part"
    cp --sparse=always -- "$images/$file" "$target/$file.part"
    mv -- "$target/$file.part" "$target/$file"
  fi
done
for network in ${networks[@]+"${networks[@]}"}; do
  named="$name-${network#network-}"
  named="${named%.xml}"
  if ! virsh net-info "$named" >/dev/null 2>&1; then
    virsh net-define "$here/$network"
  fi
  active="$(virsh net-list --name)"
  if ! grep -qx -- "$named" <<<"$active"; then
    virsh net-start "$named"
  fi
done
sed "s|$pool/$name/|$target/|" "$here/domain.xml" >"$work/domain.xml"
virsh define "$work/domain.xml"
"""
