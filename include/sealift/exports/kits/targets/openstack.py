"""The kit for OpenStack: images with their properties, and a stack for the server."""

from __future__ import annotations

from typing import Any, Final

from sealift.exports.jsontext import canonical_json
from sealift.exports.kits.fit import Case
from sealift.exports.kits.images import KitImage, choose, conversion, script_head
from sealift.exports.kits.models import DriverPlace, Target
from sealift.exports.kits.rules import openstack as rules
from sealift.exports.kits.targets.readme import DOWNLOADED, Step, convert_step, readme
from sealift.exports.kits.text import lines, shell, up

_DISTROS: Final = {
    "almalinux": "almalinux",
    "centos": "centos",
    "debian": "debian",
    "fedora": "fedora",
    "freebsd": "freebsd",
    "ol": "ol",
    "rhel": "rhel",
    "rocky": "rocky",
    "sles": "sles",
    "ubuntu": "ubuntu",
    "windows": "windows",
}
"""Names of libosinfo, by the ID of os-release."""

_VERSION_CHARACTERS: Final = frozenset("0123456789.")


def image_name(case: Case, image: KitImage) -> str:
    """Name a disk's image there.

    :param case: the export.
    :param image: the image.
    """
    return case.server.image_name if image.disk.boot else f"{case.server.image_name}-d{image.disk.index}"


def properties(case: Case) -> dict[str, str]:
    """Say how the server is to be made of the boot image.

    Source: https://docs.openstack.org/glance/latest/admin/useful-image-properties.html

    :param case: the export.
    :returns: properties of the image.
    """
    server = case.server
    bus = rules.disk_bus(case)
    found = {
        "architecture": "x86_64",
        "hw_disk_bus": bus,
        "hw_vif_model": "e1000" if server.driver("virtio_net") is DriverPlace.ABSENT else "virtio",
        "os_type": "windows" if server.system.windows else "linux",
        "sealift_export": server.export_id,
    }
    if bus == "scsi":
        found["hw_scsi_model"] = "virtio-scsi"
    if server.firmware == "efi":
        found |= {"hw_firmware_type": "uefi", "hw_machine_type": "q35"}
    elif bus == "sata":
        found["hw_machine_type"] = "q35"
    distro = _DISTROS.get(server.system.id)
    if distro is not None:
        found["os_distro"] = distro
        if server.system.version and _VERSION_CHARACTERS.issuperset(server.system.version):
            found["os_version"] = server.system.version
    return found


def files(case: Case) -> dict[str, bytes]:
    """Write the kit.

    :param case: the export.
    :returns: bytes by file name.
    """
    images = choose(case.server, case.converted, rules.FORMATS)
    return {
        **conversion(case.server, images),
        "import.sh": _import(case, images),
        "stack.json": canonical_json(stack(case, images)),
        "README.md": _readme(case, images),
    }


def stack(case: Case, images: list[KitImage]) -> dict[str, Any]:
    """Describe the server, with a volume for each disk.

    :param case: the export.
    :param images: the images.
    :returns: a template of Heat, which reads JSON as well as YAML.
    """
    data = images[1:]
    mapping: list[dict[str, Any]] = [
        {
            "boot_index": 0,
            "image": {"get_param": "boot_image"},
            "volume_size": up(images[0].virtual_size, 2**30),
            "delete_on_termination": False,
        }
    ]
    mapping += [
        {
            "boot_index": -1,
            "volume_id": {"get_resource": f"data_{image.disk.index}"},
            "delete_on_termination": False,
        }
        for image in data
    ]
    volumes = {
        f"data_{image.disk.index}": {
            "type": "OS::Cinder::Volume",
            "properties": {
                "name": f"{case.server.name}-d{image.disk.index}",
                "image": {"get_param": f"data_image_{image.disk.index}"},
                "size": up(image.virtual_size, 2**30),
            },
        }
        for image in data
    }
    return {
        "heat_template_version": "2018-08-31",
        "description": "A server made of an export by Sealift",
        "parameters": {
            "boot_image": {"type": "string", "default": case.server.image_name},
            "flavor": {
                "type": "string",
                "description": f"With {case.server.vcpus or 1} VCPUs and {case.server.memory_mib or 1024} MB of RAM "
                "at least",
            },
            "network": {"type": "string", "description": "Network of the server"},
            "name": {"type": "string", "default": case.server.name},
            **{
                f"data_image_{image.disk.index}": {"type": "string", "default": image_name(case, image)}
                for image in data
            },
        },
        "resources": {
            **volumes,
            "server": {
                "type": "OS::Nova::Server",
                "properties": {
                    "name": {"get_param": "name"},
                    "flavor": {"get_param": "flavor"},
                    "networks": [{"network": {"get_param": "network"}}],
                    "block_device_mapping_v2": mapping,
                },
            },
        },
        "outputs": {"server": {"description": "The server", "value": {"get_resource": "server"}}},
    }


def _import(case: Case, images: list[KitImage]) -> bytes:
    boot_properties = " ".join(f"--property {shell(f'{key}={value}')}" for key, value in properties(case).items())
    calls = [
        f"import {shell(image.file)} {shell(image_name(case, image))} {shell(image.format)} "
        f"{up(image.virtual_size, 2**30)}" + (f" {boot_properties}" if image.disk.boot else "")
        for image in images
    ]
    return lines(
        *script_head(f"Uploads the disks of {case.server.title} as images of OpenStack.", "openstack", folder=True),
        _SCRIPT,
        *calls,
    )


def _readme(case: Case, images: list[KitImage]) -> bytes:
    server = case.server
    return readme(
        server,
        Target.OPENSTACK,
        needs=(
            "The `openstack` command with the plug-in for Heat, logged in (`OS_CLOUD`, or an RC file).",
            DOWNLOADED,
        ),
        steps=(
            *convert_step(needed=any(not image.there for image in images)),
            Step(
                do="Upload the disks as images.",
                run=("bash import.sh",),
                then="An image that is there already by its name is left alone.",
            ),
            Step(
                do="Choose a flavor that is large enough, and make the server with a volume for each disk.",
                run=(
                    f"openstack flavor list --min-ram {server.memory_mib or 1024} --sort-column RAM",
                    f"openstack stack create --template stack.json --parameter flavor=<flavor> "
                    f"--parameter network=<network> --wait {shell(server.name)}",
                ),
                then="The volumes stay when the server is deleted, but not when the stack is.",
            ),
        ),
        notes=(
            "The images' properties follow what is known of the system; "
            "`openstack image set --property <name>=<value> <image>` changes them.",
            "Data volumes of a cloud without a volume service: `openstack server create` with the boot image, and the "
            "disks copied in another way.",
        ),
    )


_SCRIPT: Final = """\
import() {
  local file="$1" name="$2" format="$3" gigabytes="$4"
  shift 4
  if openstack image show "$name" -f value -c status >/dev/null 2>&1; then
    echo "There is an image $name already; nothing is sent."
    return
  fi
  openstack image create "$name" --private --disk-format "$format" --container-format bare \\
    --min-disk "$gigabytes" --file "$images/$file" "$@"
}
"""
