"""The kit for Google Cloud: an image import for each disk, and a machine made of the images."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Case
from sealift.exports.kits.images import KitImage, choose, conversion, script_head
from sealift.exports.kits.models import Target
from sealift.exports.kits.rules import google as rules
from sealift.exports.kits.targets.readme import DOWNLOADED, Step, convert_step, readme
from sealift.exports.kits.text import lines, plain, quoted, shell

_VCPUS: Final = (2, 4, 8, 16, 32, 48, 64, 80)
_TYPES: Final = (("n2-standard", 4), ("n2-highmem", 8))
"""Predefined types, and GB of memory for each vCPU: https://cloud.google.com/compute/docs/general-purpose-machines"""


def machine_type(case: Case) -> str:
    """Say which predefined type is the smallest that the server fits in.

    :param case: the export.
    :returns: as ``n2-standard-2``; the largest where none is large enough, the smallest where nothing is recorded.
    """
    vcpus, memory = case.server.vcpus or 1, case.server.memory_mib or 0
    found = [
        (count, count * each, f"{name}-{count}")
        for name, each in _TYPES
        for count in _VCPUS
        if count >= vcpus and count * each * 1024 >= memory
    ]
    return min(found)[2] if found else f"{_TYPES[-1][0]}-{_VCPUS[-1]}"


def image_name(case: Case, image: KitImage) -> str:
    """Name a disk's image there.

    :param case: the export.
    :param image: the image.
    :returns: at most 63 characters.
    """
    return case.server.image_name if image.disk.boot else f"{case.server.image_name}-d{image.disk.index}"


def files(case: Case) -> dict[str, bytes]:
    """Write the kit.

    :param case: the export.
    :returns: bytes by file name.
    """
    images = choose(case.server, case.converted, rules.FORMATS)
    return {
        **conversion(case.server, images),
        "import.sh": _import(case, images),
        "server.sh": _server(case, images),
        "README.md": _readme(case, images),
    }


def _import(case: Case, images: list[KitImage]) -> bytes:
    server = case.server
    calls = [
        f"import {shell(image.file)} {shell(image_name(case, image))} {'boot' if image.disk.boot else 'data'}"
        for image in images
    ]
    return lines(
        *script_head(f"Imports the disks of {server.title} as images of Compute Engine.", "gcloud", folder=True),
        f"folder={quoted(server.folder)}",
        f"description={quoted(plain(server.title, limit=100))}",
        _SCRIPT,
        *calls,
        "",
        *(f"wait_for {shell(image_name(case, image))}" for image in images),
    )


def _server(case: Case, images: list[KitImage]) -> bytes:
    server = case.server
    data = [image for image in images if not image.disk.boot]
    return lines(
        *script_head(f"Makes a machine of the images of {server.title}.", "gcloud"),
        'zone="${ZONE:?name the zone in ZONE, as us-central1-a}"',
        'project="${PROJECT:?name the project in PROJECT}"',
        f"name=${{NAME:-{shell(server.name)}}}",
        f"type=${{MACHINE_TYPE:-{shell(machine_type(case))}}}",
        'where=(--project="$project" --zone="$zone")',
        'network=(${SUBNET:+"--subnet=$SUBNET"})',
        "",
        *(
            line
            for image in data
            for line in (
                f'gcloud compute disks describe "$name"-d{image.disk.index} "${{where[@]}}" >/dev/null 2>&1 ||',
                f'  gcloud compute disks create "$name"-d{image.disk.index} "${{where[@]}}" \\',
                f'    --image={shell(image_name(case, image))} --image-project="$project"',
            )
        ),
        'gcloud compute instances create "$name" "${where[@]}" --machine-type="$type" \\',
        f'  --image={shell(image_name(case, images[0]))} --image-project="$project" \\',
        *(f'  --disk=name="$name"-d{image.disk.index},device-name=disk-{image.disk.index} \\' for image in data),
        '  ${network[@]+"${network[@]}"}',
    )


def _readme(case: Case, images: list[KitImage]) -> bytes:
    return readme(
        case.server,
        Target.GOOGLE,
        needs=(
            "The `gcloud` command, logged in. A project with the VM Migration API enabled, and itself added as a "
            "target project: <https://cloud.google.com/migrate/virtual-machines/docs/5.0/how-to/target-project>.",
            "A bucket of Cloud Storage in or near the region of the import.",
            DOWNLOADED,
        ),
        steps=(
            *convert_step(needed=any(not image.there for image in images)),
            Step(
                do="Copy the disks to the bucket and import them.",
                run=("PROJECT=<project> LOCATION=us-central1 GCS_BUCKET=<bucket> bash import.sh",),
                then="Files that are in the bucket already are not copied again, nor images imported again. The boot "
                "disk is adapted to Compute Engine unless `SKIP_ADAPTATION=1` is set.",
            ),
            Step(
                do="Make the machine.",
                run=("PROJECT=<project> ZONE=us-central1-a bash server.sh",),
                then=f"`MACHINE_TYPE` is `{machine_type(case)}` unless you set another.",
            ),
        ),
        notes=(
            "Why an import failed: `gcloud migration vms image-imports describe <name> --location=<location>`.",
            "A project holds 1000 image imports: delete those that are done "
            "(`gcloud migration vms image-imports delete`); their images stay.",
            "The copies in the bucket are billed until you delete them.",
        ),
    )


_SCRIPT: Final = """\
project="${PROJECT:?name the project in PROJECT}"
location="${LOCATION:?name the region of the import in LOCATION, as us-central1}"
bucket="${GCS_BUCKET:?name a bucket of Cloud Storage in GCS_BUCKET}"
target="${TARGET_PROJECT:-projects/$project/locations/global/targetProjects/$project}"
where=(--project="$project" --location="$location")
# Seconds to wait for the images.
most="${WAIT_SECONDS:-86400}"

import() {
  local file="$1" name="$2" kind="$3" options=()
  if gcloud compute images describe "$name" --project="$project" >/dev/null 2>&1 ||
    gcloud migration vms image-imports describe "$name" "${where[@]}" >/dev/null 2>&1; then
    echo "$name is imported, or being imported, already."
    return
  fi
  gcloud storage cp --no-clobber "$images/$file" "gs://$bucket/$folder/$file"
  if [ "$kind" = data ] || [ -n "${SKIP_ADAPTATION:-}" ]; then
    options+=(--skip-os-adaptation)
  fi
  gcloud migration vms image-imports create "$name" "${where[@]}" \\
    --source-file="gs://$bucket/$folder/$file" --image-name="$name" --target-project="$target" \\
    --description="$description" ${options[@]+"${options[@]}"}
}

wait_for() {
  local name="$1" status state
  while :; do
    status="$(gcloud compute images describe "$name" --project="$project" --format='value(status)' 2>/dev/null || true)"
    case "$status" in
      READY) echo "The image $name is ready."; return ;;
      FAILED) echo "The image $name failed." >&2; exit 1 ;;
    esac
    state="$(gcloud migration vms image-imports describe "$name" "${where[@]}" \\
      --format='value(recentImageImportJobs[0].state)' 2>/dev/null || true)"
    if [ "$state" = FAILED ]; then
      gcloud migration vms image-imports describe "$name" "${where[@]}" >&2
      exit 1
    fi
    if [ "$SECONDS" -gt "$most" ]; then
      echo "The image $name is not ready after $most seconds (${state:-no state}); run this again to go on waiting." >&2
      exit 75
    fi
    sleep 60
  done
}
"""
