"""The kit for IBM Cloud VPC: Terraform, and the same by command line."""

from __future__ import annotations

import re
from typing import Final

from sealift.exports.kits.fit import Case
from sealift.exports.kits.images import KitImage, choose, conversion, qemu_source, script_head
from sealift.exports.kits.models import Target
from sealift.exports.kits.rules import ibm_vpc as rules
from sealift.exports.kits.targets.readme import DOWNLOADED, Step, convert_step, readme
from sealift.exports.kits.text import hcl, lines, quoted, shell, up

_TAG = re.compile(r"[A-Za-z0-9 _.:-]{1,128}")
"""Tags that IBM Cloud takes."""


def files(case: Case) -> dict[str, bytes]:
    """Write the kit.

    :param case: the export.
    :returns: bytes by file name.
    """
    server = case.server
    boot = choose(server, case.converted, rules.FORMATS)[0]
    return {
        **conversion(server, [boot]),
        "main.tf": lines(_MAIN),
        "variables.tf": _variables(case, boot),
        "outputs.tf": lines(_OUTPUTS),
        "terraform.tfvars.example": lines(_EXAMPLE),
        "import.sh": _import(case, boot),
        "README.md": _readme(case, boot),
    }


def _href(case: Case, boot: KitImage) -> str:
    """Where the image is in the bucket; where one is to be made, where it is to be uploaded to."""
    key = boot.key or f"{boot.disk.key.rpartition('/')[0]}/{boot.file}"
    return f"cos://{case.server.region}/{case.server.bucket}/{key}"


def _variables(case: Case, boot: KitImage) -> bytes:
    server = case.server
    sizes = ", ".join(
        f"{hcl(f'data-{number:02d}')} = {max(rules.BOOT_LEAST_GB, up(disk.virtual_size, rules.GB))}"
        for number, disk in enumerate(server.data_disks, 1)
    )
    volumes = f"{{ {sizes} }}" if sizes else "{}"
    tags = ", ".join(hcl(tag) for tag in server.tags if _TAG.fullmatch(tag))
    return lines(
        _variable("region", "string", "Region of the VPC", hcl(server.region)),
        _variable("zone", "string", "Zone of the server, as us-south-1"),
        _variable("vpc_id", "string", "The VPC"),
        _variable("subnet_id", "string", "Subnet of the server, in the zone"),
        _variable("ssh_key_ids", "list(string)", "SSH keys that cloud-init puts on the server"),
        _variable("resource_group_id", "string", "Resource group; null for the account's default", "null"),
        _variable("create_authorization", "bool", "Let the image service read the bucket's instance", "true"),
        _variable("cos_instance_guid", "string", "GUID of the Object Storage instance that holds the bucket", "null"),
        _variable("image_href", "string", "The image in the bucket", hcl(_href(case, boot))),
        _variable("image_name", "string", "Name of the image", hcl(server.image_name)),
        _variable(
            "operating_system",
            "string",
            "Name of the operating system, by `ibmcloud is operating-systems`",
            _maybe(rules.operating_system(case)),
        ),
        _variable("name", "string", "Name of the server", hcl(server.name)),
        _variable("profile", "string", "Profile, by `ibmcloud is instance-profiles`", _maybe(rules.profile(case))),
        _variable("volume_profile", "string", "Profile of the other volumes", hcl("general-purpose")),
        _variable("data_volumes", "map(number)", "Gigabytes of each other volume, made empty", volumes),
        _variable("tags", "list(string)", "Tags of image, volumes and server", f"[{tags}]"),
    )


def _variable(name: str, type_: str, description: str, default: str | None = None) -> str:
    parts = [f'variable "{name}" {{', f"  type        = {type_}", f"  description = {hcl(description)}"]
    if default is not None:
        parts.append(f"  default     = {default}")
    return "\n".join((*parts, "}", ""))


def _maybe(value: str | None) -> str | None:
    return None if value is None else hcl(value)


def _import(case: Case, boot: KitImage) -> bytes:
    server = case.server
    return lines(
        *script_head(f"Imports the boot disk of {server.title} into IBM Cloud VPC.", "ibmcloud", "jq"),
        f"region=${{REGION:-{shell(server.region)}}}",
        f"name=${{IMAGE_NAME:-{shell(server.image_name)}}}",
        f"system=${{OPERATING_SYSTEM:-{shell(rules.operating_system(case) or '')}}}",
        f"image={quoted(_href(case, boot))}",
        f"sha256={quoted(boot.sha256 or '')}",
        _SCRIPT,
    )


def _readme(case: Case, boot: KitImage) -> bytes:
    server = case.server
    place = "cos:" + _href(case, boot).partition("://")[2].partition("/")[2]
    upload = Step(
        do="Upload it to the bucket, to the place that `variables.tf` names.",
        run=(f"rclone copyto {shell(boot.file)} {shell(place)}",),
        then="`rclone` stands for any tool that uploads to your bucket.",
    )
    system = rules.operating_system(case)
    data = [
        f"`{disk.file}` is not in the image. `main.tf` makes an empty volume; start the server, attach a helper that "
        "can read the export, and write the disk to it: "
        f"`qemu-img convert -n --image-opts -O raw {qemu_source(disk)} /dev/vdX`."
        for disk in server.data_disks
    ]
    return readme(
        server,
        Target.IBM_VPC,
        needs=(
            "Terraform 1.3 or newer, or the `ibmcloud` command with its plug-in `vpc-infrastructure`, and `jq`.",
            "A VPC with a subnet, an SSH key, and the right to make images and servers. The bucket stays where it is.",
        ),
        steps=(
            *convert_step(needed=not boot.there),
            *(() if boot.there else (upload,)),
            Step(
                do="Allow the image service to read the bucket (Terraform does so itself, where told).",
                run=(
                    "ibmcloud iam authorization-policy-create is cloud-object-storage Reader "
                    '--source-resource-type image --target-service-instance-id "$COS_INSTANCE_GUID"',
                ),
            ),
            Step(
                do="Either: image, volumes and server by Terraform.",
                run=(
                    "cp terraform.tfvars.example terraform.tfvars   # and fill it in",
                    'export IC_API_KEY="$(cat <file with your API key>)"',
                    "terraform init && terraform plan && terraform apply",
                ),
            ),
            Step(
                do="Or: the image alone by command line, after `ibmcloud login`.",
                run=(f"{'' if system else 'OPERATING_SYSTEM=<name> '}bash import.sh",),
                then="It waits for the image, and compares the SHA-256 that VPC shows with the export's, if known.",
            ),
        ),
        notes=(
            "The image is imported in the region of the bucket as a rule; whether another region may read it is "
            "unconfirmed.",
            f"`{system}` is the name for the system that the record or the disk names; "
            "`ibmcloud is operating-systems` has the names of the region."
            if system
            else "The name of the operating system is not known here: `ibmcloud is operating-systems` has them.",
            *data,
            *((DOWNLOADED,) if server.data_disks or not boot.there else ()),
        ),
    )


_MAIN: Final = """\
# Image, volumes and server from an export. The key comes from IC_API_KEY; none is written here.
terraform {
  required_version = ">= 1.3"
  required_providers {
    ibm = {
      source  = "IBM-Cloud/ibm"
      version = ">= 1.60"
    }
  }
}

provider "ibm" {
  region = var.region
}

resource "ibm_iam_authorization_policy" "image_reads_bucket" {
  count                       = var.create_authorization ? 1 : 0
  source_service_name         = "is"
  source_resource_type        = "image"
  target_service_name         = "cloud-object-storage"
  target_resource_instance_id = var.cos_instance_guid
  roles                       = ["Reader"]
}

resource "ibm_is_image" "boot" {
  name             = var.image_name
  href             = var.image_href
  operating_system = var.operating_system
  resource_group   = var.resource_group_id
  tags             = var.tags
  depends_on       = [ibm_iam_authorization_policy.image_reads_bucket]

  timeouts {
    create = "3h"
  }
}

resource "ibm_is_volume" "data" {
  for_each       = var.data_volumes
  name           = "${var.name}-${each.key}"
  profile        = var.volume_profile
  zone           = var.zone
  capacity       = each.value
  resource_group = var.resource_group_id
  tags           = var.tags
}

resource "ibm_is_instance" "server" {
  name           = var.name
  image          = ibm_is_image.boot.id
  profile        = var.profile
  vpc            = var.vpc_id
  zone           = var.zone
  keys           = var.ssh_key_ids
  resource_group = var.resource_group_id
  volumes        = [for key in sort(keys(var.data_volumes)) : ibm_is_volume.data[key].id]
  tags           = var.tags

  primary_network_interface {
    subnet = var.subnet_id
  }

  timeouts {
    create = "30m"
  }
}
"""

_OUTPUTS: Final = """\
output "image_id" {
  description = "The image"
  value       = ibm_is_image.boot.id
}

output "image_checksum" {
  description = "SHA-256 of the imported file; compare it with the export's"
  value       = ibm_is_image.boot.checksum
}

output "instance_id" {
  description = "The server"
  value       = ibm_is_instance.server.id
}
"""

_EXAMPLE: Final = """\
# Copy to terraform.tfvars and fill in. No secrets belong here.
zone              = "us-south-1"
vpc_id            = ""
subnet_id         = ""
ssh_key_ids       = [""]
cos_instance_guid = ""
"""

_SCRIPT: Final = """\
# Seconds to wait for the image.
most="${WAIT_SECONDS:-21600}"

if [ -z "$system" ]; then
  echo 'Name the operating system in OPERATING_SYSTEM; ibmcloud is operating-systems lists them.' >&2
  exit 64
fi
ibmcloud target -r "$region"

if ibmcloud is image "$name" --output JSON >/dev/null 2>&1; then
  echo "There is an image $name already; nothing is imported."
else
  ibmcloud is image-create "$name" --file "$image" --os-name "$system" --output JSON >/dev/null
fi

while :; do
  shown="$(ibmcloud is image "$name" --output JSON)"
  status="$(jq -r .status <<<"$shown")"
  case "$status" in
    available) break ;;
    pending) ;;
    *) echo "The image is $status: $(jq -c .status_reasons <<<"$shown")" >&2; exit 1 ;;
  esac
  if [ "$SECONDS" -gt "$most" ]; then
    echo "The image is still $status after $most seconds; run this again to go on waiting." >&2
    exit 75
  fi
  sleep 30
done

there="$(jq -r '.file.checksums.sha256 // empty' <<<"$shown")"
echo "The image $name is available. SHA-256 by VPC: ${there:-not shown}"
if [ -n "$sha256" ] && [ -n "$there" ] && [ "$sha256" != "$there" ]; then
  echo "The export's is $sha256: the image is not what was exported." >&2
  exit 1
fi
"""
