"""What Azure asks of a VHD."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Case, Rule, Source, Verdict, fails, fits, remark, unknown
from sealift.exports.kits.images import MIB, choose
from sealift.exports.kits.models import PROVE_DEEPER, Target
from sealift.exports.kits.rules.checks import boot_drivers, common, formats
from sealift.exports.kits.text import gib

FORMATS: Final = ("vhd-fixed",)
FOOTER: Final = 512
"""Bytes of a VHD's footer, which the size of an upload includes."""

_GIB: Final = 2**30
DATA_MOST: Final = 32_767 * _GIB

_GENERIC: Final = Source(
    where="https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic", date="2022-05-06"
)
_DISKS: Final = Source(where="https://learn.microsoft.com/azure/virtual-machines/managed-disks-overview", date="2024")
_GENERATIONS: Final = Source(where="https://learn.microsoft.com/azure/virtual-machines/generation-2", date="2020-08-28")


def _whole_mib(case: Case) -> Verdict:
    """Judge the sizes; a file must be the disk and a footer, nothing besides."""
    images = choose(case.server, case.converted, FORMATS, align=MIB)
    odd = [image for image in images if image.size is not None and image.size != image.virtual_size + FOOTER]
    if odd:
        return fails(
            f"{odd[0].file} has {odd[0].size} bytes; a disk of {odd[0].virtual_size} bytes and its footer have "
            f"{odd[0].virtual_size + FOOTER}. Convert it again."
        )
    uneven = [disk for disk in case.server.disks if disk.virtual_size % MIB]
    if not uneven:
        return fits("Every disk has whole MiB.")
    words = ", ".join(f"{disk.words} has {disk.virtual_size} bytes" for disk in uneven)
    if all(image.there for image in images):
        return fits(f"{words}; the converted image has whole MiB.")
    return fails(f"{words}, which are no whole MiB. convert.sh of this kit makes the disk larger by what is missing.")


def _boot_size(case: Case) -> Verdict:
    boot, size = case.server.boot_disk, case.server.boot_disk.virtual_size
    if size > 4095 * _GIB:
        return fails(f"{boot.words} has {gib(size)}, more than the 4095 GiB of an OS disk. Make it smaller.")
    if size > 2048 * _GIB and case.server.firmware != "efi":
        return fails(f"{boot.words} has {gib(size)}; a machine of generation 1 starts from 2 TiB at the most.")
    if size > 1023 * _GIB:
        return unknown(
            f"{boot.words} has {gib(size)}. One page of Azure's says that a VHD may have 1023 GB, another that an OS "
            "disk may have 4095 GiB: try it."
        )
    return fits(f"{boot.words} has {gib(size)}.")


def _data_size(case: Case) -> Verdict:
    large = [disk for disk in case.server.data_disks if disk.virtual_size > DATA_MOST]
    if large:
        return fails(f"{large[0].words} has {gib(large[0].virtual_size)}, more than the 32767 GiB of a disk. Split it.")
    return fits("Every other disk fits in a managed disk.")


def _generation(case: Case) -> Verdict:
    firmware = case.server.firmware
    if firmware is None:
        return unknown(f"{PROVE_DEEPER} The kit takes generation 1, which starts by BIOS.")
    number = 1 if firmware == "bios" else 2
    return fits(f"It starts by {firmware.upper()}, by {case.server.firmware_from}: generation {number}.")


def _agent(case: Case) -> Verdict:
    inside = case.server.inside
    sources = inside.datasources
    azure = inside.cloud_init and sources is not None and (not sources or "Azure" in sources)
    if inside.azure_agent or azure:
        return fits("waagent, or cloud-init with the data source Azure, is there.")
    words = "The kit makes the machine of the disk as it is, which needs no agent"
    if inside.azure_agent is None or inside.cloud_init is None:
        return unknown(f"{PROVE_DEEPER} {words}; extensions and new keys do.")
    return remark(f"{words}. Without waagent there are no extensions, and no keys can be set from outside.")


def _swap(case: Case) -> Verdict:
    boot = case.server.boot_disk
    if boot.table is None:
        return unknown(PROVE_DEEPER)
    if "Linux swap" in boot.partitions:
        return remark("The boot disk has a swap partition. Azure asks for swap on the temporary disk instead.")
    return fits("The boot disk has no swap partition.")


def _lvm(case: Case) -> Verdict:
    boot = case.server.boot_disk
    if boot.table is None:
        return unknown(PROVE_DEEPER)
    if "Linux LVM" in boot.partitions:
        return remark("The boot disk is divided by LVM. It works, but two of them at one rescue machine share names.")
    return fits("The boot disk is not divided by LVM.")


RULES: Final = (
    Rule(
        id="format",
        target=Target.AZURE,
        checks="The images are fixed VHDs",
        source=_GENERIC,
        judge=formats(FORMATS, align=MIB),
    ),
    Rule(
        id="whole-mib",
        target=Target.AZURE,
        checks="Every disk has whole MiB, and every file a footer besides",
        source=_GENERIC,
        judge=_whole_mib,
    ),
    Rule(
        id="boot-size",
        target=Target.AZURE,
        checks="The boot disk is small enough",
        source=_DISKS,
        judge=_boot_size,
    ),
    Rule(
        id="data-size",
        target=Target.AZURE,
        checks="Every other disk fits in a managed disk",
        source=_DISKS,
        judge=_data_size,
    ),
    Rule(
        id="generation",
        target=Target.AZURE,
        checks="A generation of machines has the firmware that the system starts by",
        source=_GENERATIONS,
        judge=_generation,
    ),
    Rule(
        id="hyper-v",
        target=Target.AZURE,
        checks="The kernel has the Hyper-V drivers for disk and network",
        source=_GENERIC,
        judge=boot_drivers(("hv_vmbus", "hv_storvsc"), later=("hv_netvsc",)),
    ),
    Rule(
        id="agent",
        target=Target.AZURE,
        checks="An agent takes what Azure hands to the machine",
        source=_GENERIC,
        judge=_agent,
    ),
    Rule(
        id="swap",
        target=Target.AZURE,
        checks="No swap partition lies on the boot disk",
        source=_GENERIC,
        judge=_swap,
    ),
    Rule(
        id="lvm",
        target=Target.AZURE,
        checks="The boot disk has plain partitions",
        source=_GENERIC,
        judge=_lvm,
    ),
    *common(Target.AZURE, mends=False, refuses_encrypted=None),
)
