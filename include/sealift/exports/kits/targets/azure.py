"""The kit for Azure: managed disks by direct upload, and a template for the machine."""

from __future__ import annotations

from typing import Any, Final

from sealift.exports.jsontext import canonical_json
from sealift.exports.kits.fit import Case
from sealift.exports.kits.images import MIB, KitImage, choose, conversion, script_head
from sealift.exports.kits.models import Target
from sealift.exports.kits.rules import azure as rules
from sealift.exports.kits.targets.readme import DOWNLOADED, Step, convert_step, readme
from sealift.exports.kits.text import lines, plain, quoted, shell

_VCPUS: Final = (2, 4, 8, 16, 32, 48, 64, 96)
_SIZES: Final = (("Standard_D{}s_v5", 4), ("Standard_E{}s_v5", 8))
"""Sizes that take both generations and disks by SCSI, and GiB of memory for each vCPU; ``az vm list-sizes`` has those
of a region."""


def vm_size(case: Case) -> str:
    """Say which size is the smallest that the server fits in.

    :param case: the export.
    :returns: as ``Standard_D2s_v5``; the largest where none is large enough, the smallest where nothing is recorded.
    """
    vcpus, memory = case.server.vcpus or 1, case.server.memory_mib or 0
    found = [
        (count, min(count * each, 672), name.format(count))
        for name, each in _SIZES
        for count in _VCPUS
        if count >= vcpus and min(count * each, 672) * 1024 >= memory
    ]
    return min(found)[2] if found else _SIZES[-1][0].format(_VCPUS[-1])


def disk_name(case: Case, image: KitImage) -> str:
    """Name a managed disk.

    :param case: the export.
    :param image: the disk's image.
    :returns: letters, digits and ``-``.
    """
    return f"{case.server.name}-os" if image.disk.boot else f"{case.server.name}-data-{image.disk.index}"


def files(case: Case) -> dict[str, bytes]:
    """Write the kit.

    :param case: the export.
    :returns: bytes by file name.
    """
    images = choose(case.server, case.converted, rules.FORMATS, align=MIB)
    return {
        **conversion(case.server, images),
        "import.sh": _import(case, images),
        "server.json": canonical_json(template(case, images)),
        "README.md": _readme(case, images),
    }


def template(case: Case, images: list[KitImage]) -> dict[str, Any]:
    """Describe the machine, with the uploaded disks as they are.

    :param case: the export.
    :param images: the images.
    :returns: a template of Azure Resource Manager.
    """
    server = case.server
    location = "[parameters('location')]"
    disks = [
        {
            "lun": lun,
            "createOption": "Attach",
            "managedDisk": {"id": f"[resourceId('Microsoft.Compute/disks', '{disk_name(case, image)}')]"},
        }
        for lun, image in enumerate(images[1:])
    ]
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "location": {"type": "string", "defaultValue": "[resourceGroup().location]"},
            "name": {"type": "string", "defaultValue": server.name},
            "subnetId": {"type": "string", "metadata": {"description": "Resource id of the machine's subnet"}},
            "vmSize": {"type": "string", "defaultValue": vm_size(case)},
        },
        "resources": [
            {
                "type": "Microsoft.Network/networkInterfaces",
                "apiVersion": "2023-09-01",
                "name": "[concat(parameters('name'), '-nic')]",
                "location": location,
                "properties": {
                    "ipConfigurations": [
                        {
                            "name": "primary",
                            "properties": {
                                "privateIPAllocationMethod": "Dynamic",
                                "subnet": {"id": "[parameters('subnetId')]"},
                            },
                        }
                    ]
                },
            },
            {
                "type": "Microsoft.Compute/virtualMachines",
                "apiVersion": "2023-09-01",
                "name": "[parameters('name')]",
                "location": location,
                "dependsOn": [
                    "[resourceId('Microsoft.Network/networkInterfaces', concat(parameters('name'), '-nic'))]"
                ],
                "properties": {
                    "hardwareProfile": {"vmSize": "[parameters('vmSize')]"},
                    "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
                    "storageProfile": {
                        "osDisk": {
                            "osType": _os_type(case),
                            "createOption": "Attach",
                            "managedDisk": {
                                "id": f"[resourceId('Microsoft.Compute/disks', '{disk_name(case, images[0])}')]"
                            },
                        },
                        "dataDisks": disks,
                    },
                    "networkProfile": {
                        "networkInterfaces": [
                            {
                                "id": "[resourceId('Microsoft.Network/networkInterfaces', "
                                "concat(parameters('name'), '-nic'))]"
                            }
                        ]
                    },
                },
            },
        ],
        "outputs": {
            "machine": {
                "type": "string",
                "value": "[resourceId('Microsoft.Compute/virtualMachines', parameters('name'))]",
            }
        },
    }


def _os_type(case: Case) -> str:
    return "Windows" if case.server.system.windows else "Linux"


def _import(case: Case, images: list[KitImage]) -> bytes:
    server = case.server
    calls = [
        f"upload {shell(image.file)} {image.virtual_size + rules.FOOTER} {shell(disk_name(case, image))} "
        f"{'boot' if image.disk.boot else 'data'}"
        for image in images
    ]
    return lines(
        *script_head(f"Uploads the disks of {server.title} to managed disks of Azure.", "az", "azcopy", folder=True),
        f"system={quoted(_os_type(case))}",
        f"generation=${{GENERATION:-{'V2' if server.firmware == 'efi' else 'V1'}}}",
        f"export_id={quoted(plain(server.export_id))}",
        _SCRIPT,
        *calls,
    )


def _readme(case: Case, images: list[KitImage]) -> bytes:
    server = case.server
    return readme(
        server,
        Target.AZURE,
        needs=(
            "The `az` command, logged in, and `azcopy` 10. A resource group, and a virtual network with a subnet.",
            DOWNLOADED,
        ),
        steps=(
            *convert_step(needed=any(not image.there for image in images)),
            Step(
                do="Upload the disks, each straight to a managed disk.",
                run=("RESOURCE_GROUP=<group> LOCATION=westeurope bash import.sh",),
                then="A disk that is uploaded already is left alone. A broken upload leaves a disk in the state "
                "`ActiveUpload` or `ReadyToUpload`, which the next run takes up again.",
            ),
            Step(
                do="Make the machine of the disks as they are.",
                run=(
                    "az deployment group create --resource-group <group> --template-file server.json "
                    "--parameters subnetId=<id of the subnet>",
                ),
                then=f"`vmSize` is `{vm_size(case)}` unless you set another, by `az vm list-sizes`.",
            ),
        ),
        notes=(
            "`azcopy` takes the address to write to, with its signature, as an argument: other users of the machine "
            "can see it while it works. It is good for a day at the most, and revoked at the end.",
            "The machine starts with the users and keys that the export has; nothing is provisioned.",
            f"Generation {'2, which starts by UEFI' if server.firmware == 'efi' else '1, which starts by BIOS'}: "
            f"`GENERATION={'V1' if server.firmware == 'efi' else 'V2'}` takes the other.",
        ),
    )


_SCRIPT: Final = """\
group="${RESOURCE_GROUP:?name the resource group in RESOURCE_GROUP}"
location="${LOCATION:?name the region in LOCATION, as westeurope}"
sku="${SKU:-StandardSSD_LRS}"
writing=""

revoke() {
  if [ -n "$writing" ]; then
    az disk revoke-access --resource-group "$group" --name "$writing" --output none || true
  fi
}
trap revoke EXIT

upload() {
  local file="$1" size="$2" name="$3" kind="$4" state address options=()
  if [ "$(stat -c %s -- "$images/$file")" != "$size" ]; then
    echo "$images/$file has not the $size bytes of a fixed VHD with its footer: nothing is sent." >&2
    exit 65
  fi
  state="$(az disk show --resource-group "$group" --name "$name" --query diskState --output tsv 2>/dev/null || true)"
  case "$state" in
    "")
      if [ "$kind" = boot ]; then
        options+=(--os-type "$system" --hyper-v-generation "$generation")
      fi
      az disk create --resource-group "$group" --location "$location" --name "$name" --sku "$sku" \\
        --upload-type Upload --upload-size-bytes "$size" --tags "sealift-export=$export_id" --output none \\
        ${options[@]+"${options[@]}"}
      ;;
    ReadyToUpload | ActiveUpload) ;;
    *)
      echo "The disk $name is there already ($state); nothing is sent."
      return
      ;;
  esac
  # The command's newer versions write the last word in capitals.
  address="$(az disk grant-access --resource-group "$group" --name "$name" --access-level Write \\
    --duration-in-seconds 86400 --query 'not_null(accessSas, accessSAS)' --output tsv)"
  writing="$name"
  azcopy copy "$images/$file" "$address" --blob-type PageBlob
  revoke
  writing=""
  echo "The disk $name is uploaded."
}
"""
