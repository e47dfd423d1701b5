"""Judges that several targets share, made for each by what it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sealift.exports.kits.fit import Case, Judge, Rule, Source, Verdict, fails, fits, remark, unknown
from sealift.exports.kits.images import KitImage, choose
from sealift.exports.kits.models import PROVE_DEEPER, DriverPlace, Target
from sealift.exports.kits.text import gib, plain

EXPERIENCE: Final = Source(where="experience with moving servers between hypervisors", confirmed=False)
MANIFEST: Final = Source(where="the export's manifest")
RECORD: Final = Source(where="the configuration record")

REBUILD: Final = (
    "Add it before the next capture (dracut --force --no-hostonly, or update-initramfs -u -k all with the module named "
    "in /etc/initramfs-tools/modules)"
)


def formats(wanted: Sequence[str], *, align: int = 1, boot_alone: bool = False, remarks: str = "") -> Judge:
    """Judge whether there are images in a format that the target takes.

    :param wanted: the formats, the best first.
    :param align: virtual sizes must be whole multiples of so many bytes.
    :param boot_alone: only the boot disk is taken.
    :param remarks: what to say besides where they fit.
    :returns: fails where one is to be made.
    """

    def judged(case: Case) -> Verdict:
        images = choose(case.server, case.converted, wanted, align=align)
        images = images[:1] if boot_alone else images
        missing = [image for image in images if not image.there]
        if not missing:
            words = f"{_files(images)}: {', '.join(dict.fromkeys(image.format for image in images))}."
            return remark(f"{words} {remarks}") if remarks else fits(words)
        return fails(
            f"{_files(missing)} must be made as {wanted[0]} from {', '.join(image.disk.file for image in missing)} "
            f"({', '.join(dict.fromkeys(image.disk.format for image in missing))}): run convert.sh of this kit, which "
            "compares every byte, or give the kit images that were converted already."
        )

    return judged


def _files(images: Sequence[KitImage]) -> str:
    return ", ".join(image.file for image in images)


def boot_drivers(needed: Sequence[str], *, later: Sequence[str] = ()) -> Judge:
    """Judge whether the kernel finds its disk, and later its network.

    :param needed: drivers that must be at hand before the root file system is.
    :param later: drivers that may be modules.
    :returns: fails where one is missing, unknown where nobody looked.
    """

    def judged(case: Case) -> Verdict:
        server = case.server
        if server.system.windows:
            return unknown(
                f"Drivers of a Windows are not looked for. It needs those for {', '.join((*needed, *later))} installed "
                "before the capture."
            )
        at_boot = {name: server.at_boot(name) for name in needed}
        after = {name: server.driver(name) for name in later}
        missing = [name for name, there in at_boot.items() if there is False]
        missing += [name for name, place in after.items() if place is DriverPlace.ABSENT]
        if missing:
            what = "does not find its disk" if missing[0] in at_boot else "has no network"
            return fails(f"The kernel lacks {', '.join(missing)} at boot, and {what}. {REBUILD}.")
        open_ = [name for name, there in at_boot.items() if there is None]
        open_ += [name for name, place in after.items() if place is None]
        if open_:
            return unknown(f"{PROVE_DEEPER} Asked for: {', '.join(open_)}.")
        return fits(f"{', '.join((*needed, *later))} are at hand.")

    return judged


def sizes(*, most: int, boot_words: str, data_words: str) -> Judge:
    """Judge the sizes of the disks.

    :param most: bytes of a disk at the most.
    :param boot_words: what a boot disk that is larger meets, and what to do.
    :param data_words: the same for another disk.
    :returns: fails where a disk is too large.
    """

    def judged(case: Case) -> Verdict:
        boot = case.server.boot_disk
        large = [disk for disk in case.server.data_disks if disk.virtual_size > most]
        if boot.virtual_size > most:
            return fails(f"{boot.words} has {gib(boot.virtual_size)}, more than {gib(most)}. {boot_words}")
        if large:
            words = ", ".join(f"{disk.words} {gib(disk.virtual_size)}" for disk in large)
            return fails(f"{words}: more than {gib(most)}. {data_words}")
        return fits(", ".join(f"{disk.words} {gib(disk.virtual_size)}" for disk in case.server.disks) + ".")

    return judged


def mbr_limit(case: Case) -> Verdict:
    """Judge whether a boot disk with an MBR is larger than an MBR can name.

    :param case: the export.
    :returns: fails where it is.
    """
    boot = case.server.boot_disk
    if boot.table is None:
        return unknown(PROVE_DEEPER)
    if boot.table == "mbr" and boot.virtual_size > 2 * 2**40:
        return fails(f"{boot.words} has {gib(boot.virtual_size)} and an MBR, which names 2 TiB. Convert it to a GPT.")
    return fits(f"{boot.words}: {boot.table}, {gib(boot.virtual_size)}.")


def by_device(*, mended: bool) -> Judge:
    """Judge whether the system names its disks as Xen does.

    :param mended: the target's import rewrites /etc/fstab itself.
    :returns: fails where it does and nobody mends it.
    """

    def judged(case: Case) -> Verdict:
        named = case.server.inside.fstab_by_device
        if case.server.system.windows:
            return fits("A Windows names its volumes by their ids.")
        if named is None:
            return unknown(PROVE_DEEPER)
        if not named:
            return fits("/etc/fstab and the kernel's command line name disks by UUID or label.")
        words = "The system names disks as /dev/xvda1; they have other names there."
        if mended:
            return remark(f"{words} The import rewrites /etc/fstab; look at it afterwards, and write UUIDs before.")
        return fails(f"{words} Write UUIDs (blkid) to /etc/fstab and the boot loader before the next capture.")

    return judged


def by_dhcp(*, mended: bool) -> Judge:
    """Judge whether the system takes its address from the target's network.

    :param mended: the target's import configures the network itself.
    :returns: fails where it has none but fixed addresses and nobody mends it.
    """

    def judged(case: Case) -> Verdict:
        dhcp = case.server.inside.dhcp
        if dhcp is None:
            return unknown(f"{PROVE_DEEPER} Servers of the classic infrastructure have fixed addresses as a rule.")
        if dhcp:
            return fits("An interface takes its address by DHCP.")
        words = "Every interface has a fixed address, of a network that is not there."
        if mended:
            return remark(f"{words} The import changes that to DHCP.")
        return fails(f"{words} Have one take its address by DHCP before the next capture, or mend it at the console.")

    return judged


def unencrypted(*, refused: bool) -> Judge:
    """Judge whether the system starts without a passphrase.

    :param refused: the target refuses encrypted volumes.
    :returns: fails where it does not and the target refuses that.
    """

    def judged(case: Case) -> Verdict:
        encrypted = case.server.inside.encrypted
        if encrypted is None:
            return unknown(PROVE_DEEPER)
        if not encrypted:
            return fits("No volume that the system starts from is encrypted.")
        if refused:
            return fails("A volume is encrypted, which the import refuses. Decrypt it before the next capture.")
        return remark("A volume is encrypted: somebody must give its passphrase at the console at each start.")

    return judged


def storage(case: Case) -> Verdict:
    """Judge whether storage on the network was attached.

    :param case: the export.
    :returns: a remark where it was.
    """
    volumes = case.server.storage
    if not volumes:
        return fits("No network storage was attached.")
    words = ", ".join(
        plain(f"{one.type or 'volume'} {one.id}{f' ({one.capacity_gb} GB)' if one.capacity_gb else ''}")
        for one in volumes
    )
    return remark(
        f"Not in the images: {words}. Copy what they hold, and give their mounts the option nofail, or the start waits "
        "for them."
    )


def devices_left_out(case: Case) -> Verdict:
    """Judge whether devices of the server are not in the images.

    :param case: the export.
    :returns: a remark where some are not.
    """
    if not case.server.left_out:
        return fits("All disks of the server are in the images.")
    return remark(
        f"Not in the images: {'; '.join(case.server.left_out)}. An entry for a swap disk in /etc/fstab finds nothing: "
        "take it out, or make a swap file."
    )


def resources(case: Case) -> Verdict:
    """Judge whether it is recorded how large the server was.

    :param case: the export.
    :returns: unknown where it is not.
    """
    server = case.server
    if server.vcpus is None or server.memory_mib is None:
        return unknown("The record does not say how many CPUs or how much memory the server had: set both by hand.")
    return fits(f"{server.vcpus} vCPUs and {server.memory_mib} MiB of memory.")


def listed_system(table: Mapping[str, Sequence[str]], *, also: str, otherwise: str) -> Judge:
    """Judge whether the target names the operating system among those that it takes.

    :param table: releases by the ID of os-release, the oldest first.
    :param also: what the target looks at besides.
    :param otherwise: what to do where it does not.
    :returns: fails where it does not; unknown where the release is newer than all that are named.
    """

    def judged(case: Case) -> Verdict:
        system = case.server.system
        guess = "" if system.read else " (by the account, which knows of no upgrade since: level L3 tells)"
        if not system.id or not system.version:
            return unknown(f"Not known which system it is{f': {system.words}' if system.words else ''}. {PROVE_DEEPER}")
        if system.bits == 32:
            return fails(f"{system.words} is a 32-bit system, which is not taken.")
        named = table.get(system.id, ())
        if system.version in named:
            return fits(f"{system.words} is named{guess}. {also}".rstrip())
        if named and _number(system.version) > max(_number(one) for one in named):
            return unknown(
                f"{system.words} is newer than all that were named when the rule was written{guess}: look at the "
                f"source. {otherwise}"
            )
        return fails(f"{system.words} is not named{guess}. {otherwise}")

    return judged


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", version))


def common(
    target: Target, *, mends: bool, refuses_encrypted: Source | None, mends_source: Source = EXPERIENCE
) -> tuple[Rule, ...]:
    """Make the rules that every target has.

    :param target: the target.
    :param mends: its import configures disks and network inside the system.
    :param refuses_encrypted: who says that it refuses encrypted volumes, if it does.
    :param mends_source: who says what becomes of disks and network.
    :returns: the rules.
    """
    return (
        Rule(
            id="fstab",
            target=target,
            checks="The system names its disks in a way that holds there",
            source=mends_source,
            judge=by_device(mended=mends),
        ),
        Rule(
            id="dhcp",
            target=target,
            checks="The system takes its address from the network there",
            source=mends_source,
            judge=by_dhcp(mended=mends),
        ),
        Rule(
            id="encrypted",
            target=target,
            checks="The system starts without a passphrase",
            source=refuses_encrypted or EXPERIENCE,
            judge=unencrypted(refused=refuses_encrypted is not None),
        ),
        Rule(
            id="network-storage",
            target=target,
            checks="Nothing of the server lies on network storage",
            source=MANIFEST,
            judge=storage,
        ),
        Rule(
            id="devices",
            target=target,
            checks="All devices of the server are in the images",
            source=MANIFEST,
            judge=devices_left_out,
        ),
        Rule(
            id="resources",
            target=target,
            checks="CPUs and memory are recorded",
            source=RECORD,
            judge=resources,
        ),
    )


def best_hardware(case: Case, choices: Sequence[tuple[str, Sequence[str]]]) -> tuple[str, bool | None]:
    """Choose among hardware by the drivers that the kernel has at boot.

    :param case: the export.
    :param choices: hardware, the best first, each with the drivers that it needs.
    :returns: the first for which all drivers are at hand, else the first for which that is not known, else the first;
        and whether the drivers are at hand.
    """
    found: dict[str, bool | None] = {}
    for name, drivers in choices:
        places = [case.server.at_boot(driver) for driver in drivers]
        found[name] = False if False in places else None if None in places else True
    for state in (True, None):
        for name, there in found.items():
            if there is state:
                return name, state
    return choices[0][0], False
