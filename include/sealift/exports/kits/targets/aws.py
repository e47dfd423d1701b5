"""The kit for AWS: VM Import/Export of all disks as one image."""

from __future__ import annotations

from typing import Any, Final

from sealift.exports.jsontext import canonical_json
from sealift.exports.kits.fit import Case
from sealift.exports.kits.images import KitImage, choose, conversion, script_head
from sealift.exports.kits.models import Target
from sealift.exports.kits.rules import aws as rules
from sealift.exports.kits.targets.readme import Step, convert_step, readme
from sealift.exports.kits.text import gib, lines, plain, quoted, shell

BUCKET: Final = "@S3_BUCKET@"
PREFIX: Final = "@S3_PREFIX@"
"""What import.sh replaces by bucket and prefix: neither can be part of a key, since keys have no ``@``."""

_FORMATS: Final = {"vhd-dynamic": "VHD", "vhd-fixed": "VHD", "vmdk-stream": "VMDK", "raw": "RAW"}


def files(case: Case) -> dict[str, bytes]:
    """Write the kit.

    :param case: the export.
    :returns: bytes by file name.
    """
    images = choose(case.server, case.converted, rules.FORMATS)
    return {
        **conversion(case.server, images),
        "containers.json": canonical_json(containers(images)),
        "trust-policy.json": canonical_json(TRUST),
        "role-policy.json": canonical_json(ROLE),
        "instance-requirements.json": canonical_json(instance_requirements(case)),
        "role.sh": lines(*script_head("Makes the role of VM Import/Export.", "aws"), _BUCKET, _ROLE_SCRIPT),
        "import.sh": _import(case, images),
        "README.md": _readme(case, images),
    }


def containers(images: list[KitImage]) -> list[dict[str, Any]]:
    """Describe the disks as ``import-image`` takes them, the boot disk first.

    :param images: the images.
    :returns: its DiskContainers.
    """
    return [
        {
            "Description": plain(f"{image.disk.file}, device {image.disk.device}, {gib(image.virtual_size)}"),
            "Format": _FORMATS[image.format],
            "UserBucket": {"S3Bucket": BUCKET, "S3Key": f"{PREFIX}{image.file}"},
        }
        for image in images
    ]


def instance_requirements(case: Case) -> dict[str, Any]:
    """Ask for the types that the server fits in, as ``get-instance-types-from-instance-requirements`` takes it.

    :param case: the export.
    :returns: the request.
    """
    return {
        "ArchitectureTypes": ["x86_64"],
        "VirtualizationTypes": ["hvm"],
        "InstanceRequirements": {
            "VCpuCount": {"Min": case.server.vcpus or 1},
            "MemoryMiB": {"Min": case.server.memory_mib or 1024},
        },
    }


TRUST: Final[dict[str, Any]] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "vmie.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:Externalid": "vmimport"}},
        }
    ],
}
"""Who may take the role. Source: VM Import/Export User Guide, required-permissions."""

ROLE: Final[dict[str, Any]] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
        },
        {
            "Effect": "Allow",
            "Action": ["ec2:ModifySnapshotAttribute", "ec2:CopySnapshot", "ec2:RegisterImage", "ec2:Describe*"],
            "Resource": "*",
        },
    ],
}
"""What the role may do: read that bucket, make snapshots and an image. Same source."""


def _import(case: Case, images: list[KitImage]) -> bytes:
    server = case.server
    boot_mode = {"bios": "legacy-bios", "efi": "uefi"}.get(server.firmware or "", "")
    platform = "Windows" if server.system.windows else "Linux"
    return lines(
        *script_head(f"Imports {server.title} as an image of EC2.", "aws"),
        _BUCKET,
        f"prefix=${{S3_PREFIX:-{shell(f'{server.folder}/')}}}",
        f"name={quoted(server.image_name)}",
        'token="${CLIENT_TOKEN:-$name}"',
        f"description={quoted(plain(server.title, limit=100))}",
        f"platform={quoted(platform)}",
        f"boot_mode=${{BOOT_MODE:-{shell(boot_mode)}}}",
        "# Files, and their sizes in bytes where they are known.",
        f"files=({' '.join(shell(image.file) for image in images)})",
        f"sizes=({' '.join(shell(image.size or '') for image in images)})",
        _SCRIPT,
    )


def _readme(case: Case, images: list[KitImage]) -> bytes:
    server = case.server
    missing = any(not image.there for image in images)
    named = ", ".join(f"`{image.file}`" for image in images)
    return readme(
        server,
        Target.AWS,
        needs=(
            "The `aws` command, logged in, with the rights for VM Import/Export: "
            "<https://docs.aws.amazon.com/vm-import/latest/userguide/required-permissions.html>.",
            f"A bucket in the region of the import, with {named} in it. Sealift's DAG `deliver_images` brings the "
            f"exported images there, to `<prefix>/{server.folder}/`.",
        ),
        steps=(
            *convert_step(needed=missing),
            Step(
                do="Make the service role `vmimport`, once for an account. It may read that bucket and no other.",
                run=("S3_BUCKET=<bucket> bash role.sh",),
            ),
            Step(
                do="Import.",
                run=(f"S3_BUCKET=<bucket> S3_PREFIX={shell(f'{server.folder}/')} bash import.sh",),
                then="It checks that the files are in the bucket with their sizes, submits one task with a client "
                "token, so that running it again does not import again, and waits for it.",
            ),
            Step(
                do="Choose a type that is large enough, and start it.",
                run=(
                    "aws ec2 get-instance-types-from-instance-requirements --cli-input-json "
                    "file://instance-requirements.json --query 'InstanceTypes[].InstanceType'",
                    "aws ec2 run-instances --image-id <image> --instance-type <type> --subnet-id <subnet>",
                ),
            ),
        ),
        notes=(
            "The import changes the system: it adds drivers and the Systems Manager agent, sets the network to DHCP "
            "and rewrites `/etc/fstab`. The export stays as it is.",
            "In the regions of China and GovCloud, `arn:aws:` in `role-policy.json` has another name.",
            "A system that may not be imported: "
            "`aws ec2 import-snapshot --disk-container Format=VHD,UserBucket='{S3Bucket=<bucket>,S3Key=<key>}'` for "
            "each disk, then `aws ec2 register-image`. AWS neither checks nor changes anything then.",
        ),
    )


_BUCKET: Final = """\
bucket="${S3_BUCKET:?name the bucket with the disks in S3_BUCKET}"
if ! [[ "$bucket" =~ ^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$ ]]; then
  echo "$bucket is not the name of a bucket." >&2
  exit 64
fi
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
"""

_ROLE_SCRIPT: Final = """\
sed "s|@S3_BUCKET@|$bucket|g" "$here/role-policy.json" >"$work/role-policy.json"
if ! aws iam get-role --role-name vmimport >/dev/null 2>&1; then
  aws iam create-role --role-name vmimport --assume-role-policy-document "file://$here/trust-policy.json"
fi
# A policy for each bucket, so that the role keeps what it may do already.
aws iam put-role-policy --role-name vmimport --policy-name "sealift-$bucket" \\
  --policy-document "file://$work/role-policy.json"
"""

_SCRIPT: Final = """\
# Seconds to wait for the task.
most="${WAIT_SECONDS:-86400}"

if ! [[ "$prefix" =~ ^[A-Za-z0-9._/-]*$ ]]; then
  echo "$prefix is not a prefix that Sealift delivers to." >&2
  exit 64
fi
for index in "${!files[@]}"; do
  key="$prefix${files[$index]}"
  size="$(aws s3api head-object --bucket "$bucket" --key "$key" --query ContentLength --output text)" || {
    echo "s3://$bucket/$key is not there, or may not be read: nothing is imported." >&2
    exit 66
  }
  if [ -n "${sizes[$index]}" ] && [ "$size" != "${sizes[$index]}" ]; then
    echo "s3://$bucket/$key has $size bytes, not ${sizes[$index]}: nothing is imported." >&2
    exit 65
  fi
done
sed -e "s|@S3_BUCKET@|$bucket|g" -e "s|@S3_PREFIX@|$prefix|g" "$here/containers.json" >"$work/containers.json"

arguments=(
  --client-token "$token"
  --description "$description"
  --architecture x86_64
  --platform "$platform"
  --disk-containers "file://$work/containers.json"
  --tag-specifications "ResourceType=import-image-task,Tags=[{Key=Name,Value=$name}]"
)
if [ -n "$boot_mode" ]; then
  arguments+=(--boot-mode "$boot_mode")
fi
task="$(aws ec2 import-image "${arguments[@]}" --query ImportTaskId --output text)"
echo "The task is $task."

while :; do
  shown="$(aws ec2 describe-import-image-tasks --import-task-ids "$task" \\
    --query 'ImportImageTasks[0].[Status,ImageId,Progress,StatusMessage]' --output text)"
  IFS=$'\\t' read -r status image progress message <<<"$shown"
  case "$status" in
    completed) echo "The image is $image."; exit 0 ;;
    deleting | deleted)
      echo "The import failed: $message" >&2
      echo "Once that is mended, name a new CLIENT_TOKEN: the same one means the same task." >&2
      exit 1
      ;;
  esac
  if [ "$SECONDS" -gt "$most" ]; then
    echo "The task is still $status ($progress %, $message) after $most seconds; run this again to go on waiting." >&2
    exit 75
  fi
  sleep 60
done
"""
