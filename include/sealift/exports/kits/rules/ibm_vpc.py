"""What IBM Cloud VPC asks of a custom image and of a server made from it."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Case, Rule, Source, Verdict, fails, fits, remark, unknown
from sealift.exports.kits.images import choose
from sealift.exports.kits.models import PROVE_DEEPER, Target
from sealift.exports.kits.rules.checks import EXPERIENCE, boot_drivers, common, formats
from sealift.exports.kits.text import gib, up

GB: Final = 10**9
FORMATS: Final = ("qcow2", "vhd-dynamic", "vhd-fixed")
BOOT_MOST_GB: Final = 250
BOOT_LEAST_GB: Final = 10
DATA_MOST_GB: Final = 16_000

_SIZES: Final = (2, 4, 8, 16, 32, 48, 64, 96, 128)
_FAMILIES: Final = (("cx2", 2), ("bx2", 4), ("mx2", 8))
"""Families of profiles, and GiB of memory for each vCPU."""

_RELEASES: Final = {
    "ubuntu": {"20.04": "ubuntu-20-04-amd64", "22.04": "ubuntu-22-04-amd64", "24.04": "ubuntu-24-04-amd64"},
    "debian": {"11": "debian-11-amd64", "12": "debian-12-amd64"},
    "centos": {"7": "centos-7-amd64", "9": "centos-stream-9-amd64"},
    "rhel": {"7": "red-7-amd64", "8": "red-8-amd64", "9": "red-9-amd64"},
    "rocky": {"8": "rocky-linux-8-amd64", "9": "rocky-linux-9-amd64"},
    "windows": {"2016": "windows-2016-amd64", "2019": "windows-2019-amd64", "2022": "windows-2022-amd64"},
}
"""Names of operating systems there. Their pattern and some of them stand in the documents, the whole list does not:
``ibmcloud is operating-systems`` has it."""

_LIST: Final = Source(
    where="https://cloud.ibm.com/docs/vpc?topic=vpc-create-linux-custom-image (its requirements list)",
    date="2026-04-09",
)
_LINUX: Final = Source(where="https://cloud.ibm.com/docs/vpc?topic=vpc-create-linux-custom-image", date="2024-02-22")
_IMPORT: Final = Source(where="https://cloud.ibm.com/docs/vpc?topic=vpc-importing-custom-images-vpc", date="2024-06-12")
_MIGRATE: Final = Source(where="https://cloud.ibm.com/docs/vpc?topic=vpc-migrate-vsi-to-vpc", date="2020-08-03")
_VOLUME: Final = Source(
    where="https://registry.terraform.io/providers/IBM-Cloud/ibm/latest/docs/resources/is_volume", date="2023"
)


def operating_system(case: Case) -> str | None:
    """Say what the server's system is called there.

    :param case: the export.
    :returns: as ``debian-12-amd64``, or None where it has no name of its own.
    """
    system = case.server.system
    return _RELEASES.get(system.id, {}).get(system.version)


def profile(case: Case) -> str | None:
    """Say which profile is the smallest that the server fits in.

    :param case: the export.
    :returns: as ``bx2-2x8``, or None where none is, or nothing is recorded.
    """
    vcpus, memory = case.server.vcpus, case.server.memory_mib
    if vcpus is None or memory is None:
        return None
    found = [
        (size, size * each, f"{family}-{size}x{size * each}")
        for family, each in _FAMILIES
        for size in _SIZES
        if size >= vcpus and size * each * 1024 >= memory
    ]
    return min(found)[2] if found else None


def _size(case: Case) -> Verdict:
    """Judge the boot disk. The documents say GB; whether that is 10^9 or 2^30 bytes, they do not."""
    boot = case.server.boot_disk
    if boot.virtual_size > BOOT_MOST_GB * 2**30:
        return fails(
            f"{boot.words} has {gib(boot.virtual_size)}, more than the {BOOT_MOST_GB} GB that an image may have. Make "
            "the file systems and the partition smaller, or move data to another disk, before the next capture."
        )
    if boot.virtual_size > BOOT_MOST_GB * GB:
        return unknown(
            f"{boot.words} has {boot.virtual_size} bytes: no more than {BOOT_MOST_GB} GB where a GB is 2^30 bytes, but "
            "more where it is 10^9. The documents do not say which; the import will."
        )
    if boot.virtual_size < BOOT_LEAST_GB * GB:
        return remark(f"{boot.words} has {gib(boot.virtual_size)}; the volume made of it has {BOOT_LEAST_GB} GB.")
    return fits(f"{boot.words} has {gib(boot.virtual_size)}.")


def _one_file(case: Case) -> Verdict:
    data = case.server.data_disks
    if not data:
        return fits("The server has one disk.")
    return remark(
        f"An image holds one disk: {', '.join(disk.words for disk in data)} cannot come with it. main.tf makes an "
        "empty volume for each; README.md says how to fill them."
    )


def _data_sizes(case: Case) -> Verdict:
    large = [disk for disk in case.server.data_disks if up(disk.virtual_size, GB) > DATA_MOST_GB]
    if large:
        return fails(f"{large[0].words} needs more than the {DATA_MOST_GB} GB that a volume may have. Split it.")
    return fits("Every other disk fits in a volume.")


def _cloud_init(case: Case) -> Verdict:
    there = case.server.inside.cloud_init
    if there is None:
        return unknown(PROVE_DEEPER)
    if not there:
        return fails(
            "cloud-init is not installed, so that the server gets neither its keys nor its name. Install 0.7.9 or "
            "newer (cloudbase-init in a Windows) before the next capture."
        )
    return fits("It is installed. On Red Hat and CentOS, scripts-vendor must stand in cloud_final_modules besides.")


def _data_source(case: Case) -> Verdict:
    sources = case.server.inside.datasources
    if sources is None:
        return unknown(f"{PROVE_DEEPER} Servers of the classic infrastructure use ConfigDrive, which is not supported.")
    if not sources or sources == ["NoCloud"]:
        return fits("cloud-init looks for NoCloud." if sources else "cloud-init is not limited to some data sources.")
    named = ", ".join(sources)
    if "NoCloud" in sources:
        return remark(f"cloud-init is limited to {named}. The documents ask for NoCloud alone, or no limit.")
    return fails(
        f"cloud-init is limited to {named}, but only NoCloud is offered there. Take datasource_list out of "
        "/etc/cloud/cloud.cfg and cloud.cfg.d before the next capture."
    )


def _system(case: Case) -> Verdict:
    name, system = operating_system(case), case.server.system
    if name is None:
        return unknown(
            f"No name is known for {system.words or 'the system'}: look for it with `ibmcloud is operating-systems`, "
            "and take a generic one where it has none (a beta in 2024)."
        )
    if system.windows:
        return remark(f"It is imported as {name}, or {name}-byol with your own licence: the wrong one may not start.")
    if system.id == "rhel":
        return remark(f"It is imported as {name}, or {name}-byol with a subscription of your own.")
    return fits(f"It is imported as {name}; `ibmcloud is operating-systems` says whether the region has it.")


def _firmware(case: Case) -> Verdict:
    if case.server.firmware == "bios":
        return fits(f"It starts by BIOS, by {case.server.firmware_from}.")
    if case.server.firmware == "efi":
        return unknown("It starts by UEFI. No document was found that says whether an imported image may.")
    return unknown(PROVE_DEEPER)


def _profile(case: Case) -> Verdict:
    name = profile(case)
    if case.server.vcpus is None or case.server.memory_mib is None:
        return unknown("CPUs and memory are not recorded: choose a profile by hand.")
    if name is None:
        return fails("No profile of the families cx2, bx2 and mx2 is as large: choose one of another family.")
    return fits(f"{name} is the smallest that it fits in; `ibmcloud is instance-profiles` has those of the region.")


def _checksum(case: Case) -> Verdict:
    boot = choose(case.server, case.converted, FORMATS)[0]
    if boot.sha256 is None:
        return unknown(
            "The SHA-256 of the image is not known, so that nothing can be compared with what VPC shows. "
            "`sealift download` reads the image and notes it."
        )
    return fits(f"VPC must show {boot.sha256} as the image's checksum.")


RULES: Final = (
    Rule(
        id="format",
        target=Target.IBM_VPC,
        checks="The image is one qcow2 or VHD file",
        source=_LIST,
        judge=formats(FORMATS, boot_alone=True),
    ),
    Rule(
        id="one-disk",
        target=Target.IBM_VPC,
        checks="The image holds one disk, and all of the server",
        source=_MIGRATE,
        judge=_one_file,
    ),
    Rule(
        id="boot-size",
        target=Target.IBM_VPC,
        checks="The boot disk has 10 to 250 GB",
        source=_LIST,
        judge=_size,
    ),
    Rule(
        id="data-size",
        target=Target.IBM_VPC,
        checks="Every other disk fits in a volume",
        source=_VOLUME,
        judge=_data_sizes,
    ),
    Rule(
        id="cloud-init",
        target=Target.IBM_VPC,
        checks="cloud-init is installed",
        source=_LINUX,
        judge=_cloud_init,
    ),
    Rule(
        id="data-source",
        target=Target.IBM_VPC,
        checks="cloud-init finds the data source NoCloud",
        source=_LINUX,
        judge=_data_source,
    ),
    Rule(
        id="virtio",
        target=Target.IBM_VPC,
        checks="The kernel has virtio drivers for disk and network",
        source=_LINUX,
        judge=boot_drivers(("virtio_blk", "virtio_pci"), later=("virtio_net",)),
    ),
    Rule(
        id="system",
        target=Target.IBM_VPC,
        checks="The operating system has a name there",
        source=_IMPORT,
        judge=_system,
    ),
    Rule(
        id="firmware",
        target=Target.IBM_VPC,
        checks="The system starts by the firmware there",
        source=EXPERIENCE,
        judge=_firmware,
    ),
    Rule(
        id="profile",
        target=Target.IBM_VPC,
        checks="A profile has enough CPUs and memory",
        source=Source(where="https://cloud.ibm.com/docs/vpc?topic=vpc-profiles", confirmed=False),
        judge=_profile,
    ),
    Rule(
        id="checksum",
        target=Target.IBM_VPC,
        checks="The image's SHA-256 is known, to compare with VPC's",
        source=_IMPORT,
        judge=_checksum,
    ),
    *common(Target.IBM_VPC, mends=False, refuses_encrypted=None, mends_source=_LINUX),
)
