"""Reads what makes a server start out of its disks: release, fstab, boot loader, kernels, initramfs, cloud-init,
network.

A failed check means that a disk cannot be whole, or that the server could not start where it started before. Everything
else that whoever restores it should know is a remark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from sealift.images.content.boot_loader import (
    BootCode,
    Configuration,
    first_stage_is_lost,
    read_boot_code,
    read_configuration,
    second_stage_is_blank,
)
from sealift.images.content.facts import BootFacts, FstabFacts, KernelFacts, SystemFacts, VolumeFacts
from sealift.images.content.fstab import Meaning, find_device, hiding
from sealift.images.content.kernels import KernelReader
from sealift.images.content.mounts import Mounted, Opened, find_root, mount
from sealift.images.content.server_settings import read_cloud_init, read_hostname, read_network, read_release
from sealift.images.file_systems.fat import FatFileSystem
from sealift.images.file_systems.file_system import FileSystem, NodeKind, Tree
from sealift.images.file_systems.volumes import INCOMPLETE, DiskStart
from sealift.images.file_systems.window import Reading
from sealift.images.findings import Findings, some
from sealift.images.source import ImageFormatError, ShortReadError

MOST_LOADERS: Final = 50

_Read = TypeVar("_Read")
_READ_BY_NOBODY: Final = ("ntfs", "btrfs", "luks", "raid", "unread", "exfat", "iso9660")
_EFI_SYSTEM: Final = "EFI system"
_SYSTEMS_UNREAD: Final = ("FreeBSD",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """What is known of a server's disks before its content is read.

    :param boot_index: the disk that it starts from.
    :param letters: which letter Linux gives each disk; empty where that is not known.
    """

    starts: Sequence[DiskStart]
    opened: Sequence[Opened]
    boot_index: int
    letters: Sequence[str]

    @property
    def boot_start(self) -> DiskStart | None:
        """How the disk begins that the server starts from."""
        return next((one for one in self.starts if one.number == self.boot_index), None)


def read_system(findings: Findings, server: Server, reading: Reading) -> tuple[SystemFacts, Mounted | None]:
    """Read what makes a server start.

    :param findings: where checks and remarks go.
    :param server: its disks and volumes.
    :param reading: whose budget is raised by what kernels and their initramfs have.
    :returns: what was found, and the root with what is mounted in it; None where there is no root that is read.
    """
    root = find_root(findings, server.opened, boot_index=server.boot_index)
    if root is None:
        _say_no_root(findings, server)
        return _facts(server, None, {}, "", None, []), None
    mounted = mount(findings, root, server.opened, letters=server.letters)
    tree = mounted.tree
    release = _try(findings, "system.release", lambda: read_release(tree))
    if release:
        name = release.get("PRETTY_NAME") or release.get("NAME") or release.get("ID", "a release without a name")
        findings.record("system.release", True, f"{root.volume.name}: {name}")
    elif release is not None:
        findings.remark("system.release", f"{root.volume.name} has an fstab, but no file that names its release")
    hostname = _try(findings, "system.hostname", lambda: read_hostname(tree)) or ""
    configuration: Configuration | None = None
    boot: BootFacts | None = None
    kernels: list[KernelFacts] = []
    if _boot_is_read(findings, server, mounted):
        configuration = _try(findings, "boot.configuration", lambda: read_configuration(tree))
        boot = _check_boot(findings, server, configuration)
        kernels = KernelReader(findings, tree, reading, configuration).read()
        _check_default_root(findings, server, configuration)
    facts = _facts(server, mounted, release or {}, hostname, boot, kernels)
    cloud_init = _try(findings, "cloud_init", lambda: read_cloud_init(tree))
    network = _try(findings, "network", lambda: read_network(tree))
    return facts.model_copy(update={"cloud_init": cloud_init, "network": network}), mounted


def _try(findings: Findings, id_: str, read: Callable[[], _Read]) -> _Read | None:
    """Read something, and note it as a failed check if it is damaged."""
    try:
        return read()
    except (ImageFormatError, ShortReadError) as error:
        findings.damaged(id_, error)
        return None


def _say_no_root(findings: Findings, server: Server) -> None:
    if any(one.damaged for one in server.opened):
        return  # said already, and the root may be among them
    unread = [
        f"{one.volume.name} ({one.content})"
        for one in server.opened
        if one.file_system is None
        and (one.content in _READ_BY_NOBODY or one.volume.type_name in _SYSTEMS_UNREAD)
        and one.volume.disk in (server.boot_index, None)
    ]
    windows = [
        one.volume.name for one in server.opened if one.content == "ntfs" and one.volume.disk == server.boot_index
    ]
    incomplete = [one.volume.name for one in server.opened if one.content == INCOMPLETE]
    if windows:
        findings.remark("system.root", f"Windows, or data of it, is on {some(windows)}; its files are not read")
    elif unread:
        findings.remark("system.root", f"the operating system is not read: it may be in {some(unread)}")
    else:
        findings.record(
            "system.root",
            False,
            f"no operating system was found: no file system on disk {server.boot_index} has a release file or an fstab"
            + (f"; {some(incomplete)} lies, in part, on a disk that is not there" if incomplete else ""),
        )


def _boot_is_read(findings: Findings, server: Server, mounted: Mounted) -> bool:
    """Say whether what belongs into /boot can be read; it may be on a volume that is not."""
    for line, meaning, volume in mounted.lines:
        if line.mount_point != "/boot":
            continue
        opened = next((one for one in server.opened if volume and one.volume.name == volume.name), None)
        if opened and opened.damaged:
            return False  # said already
        if meaning is Meaning.UNKNOWN or (opened and opened.file_system is None):
            where = f"{opened.volume.name} ({opened.content})" if opened else line.shown_device
            findings.remark("boot.loader", f"/boot is on {where}, which is not read: nothing is known of the kernels")
            return False
    return True


def _check_boot(findings: Findings, server: Server, configuration: Configuration | None) -> BootFacts | None:
    start = server.boot_start
    code = read_boot_code(start.head) if start else BootCode(kind="none")
    loaders_by_disk = _efi_loaders(findings, server)
    loaders = loaders_by_disk.get(server.boot_index, [])
    if start and second_stage_is_blank(start.disk, code):
        findings.record(
            "boot.loader",
            False,
            f"{start.disk.name}: the first sector holds {code.kind}, but sector {code.next_sector}, to which it leads, "
            "is blank",
        )
    elif code.kind != "none" or loaders:
        found = [f"{code.kind} in the first sector"] if code.kind != "none" else []
        findings.record("boot.loader", True, f"boot loader: {', '.join(found + loaders)}")
    elif start and first_stage_is_lost(start.disk, code):
        findings.record(
            "boot.loader",
            False,
            f"{start.disk.name}: the first sector holds no code, but GRUB's second stage is in the sector behind it: "
            "the code was lost",
        )
    elif others := [
        one.disk.name
        for one in server.starts
        if one.number in loaders_by_disk or (one.head and read_boot_code(one.head).kind != "none")
    ]:
        findings.record(
            "boot.loader",
            False,
            f"disk {server.boot_index} holds no boot loader, but {some(others)} does: the disks were swapped, or the "
            "server starts from another one than was said",
        )
    elif names := [one.volume.name for one in server.opened if _should_hold_loader(one)]:
        findings.record(
            "boot.loader",
            False,
            f"{some(names)} is there to start the server by EFI, but holds no loader, and disk {server.boot_index} has "
            "none in its first sector",
        )
    elif configuration:
        findings.remark(
            "boot.loader",
            f"disk {server.boot_index} holds no boot loader, neither in its first sector nor for EFI: it starts only "
            "where the platform reads GRUB's configuration itself, as Xen can",
        )
    else:
        findings.record(
            "boot.loader",
            False,
            f"disk {server.boot_index} holds no boot loader: nothing in its first sector, none for EFI, and no "
            "configuration of one",
        )
    default = configuration.default if configuration else None
    if configuration and default:
        name = default.title or default.kernel
        findings.record(
            "boot.configuration",
            True,
            f"{configuration.path} has {len(configuration.entries)} entries; {name!r} starts",
        )
    elif configuration:
        findings.record("boot.configuration", False, f"{configuration.path} has no entry that starts a kernel")
    else:
        findings.remark("boot.configuration", "no configuration of GRUB or another known boot loader was found")
    return BootFacts(
        mbr=code.kind,
        configuration=configuration.path if configuration else "",
        entries=len(configuration.entries) if configuration else 0,
        default_entry=default.title if default else "",
        root=next(iter(default.options("root")), "") if default else "",
        consoles=default.options("console")[:8] if default else [],
        efi_loaders=loaders,
    )


def _should_hold_loader(opened: Opened) -> bool:
    return opened.volume.type_name == _EFI_SYSTEM and not opened.damaged


def _efi_loaders(findings: Findings, server: Server) -> dict[int, list[str]]:
    """Return the loaders for EFI on all FAT file systems, by their disks and paths."""
    found: dict[int, list[str]] = {}
    for one in server.opened:
        if isinstance(one.file_system, FatFileSystem) and one.volume.disk is not None:
            loaders = _try(findings, "boot.loader", partial(_loaders_of, one.file_system))
            if loaders:
                found[one.volume.disk] = (found.get(one.volume.disk, []) + loaders)[:MOST_LOADERS]
    return found


def _loaders_of(file_system: FileSystem) -> list[str]:
    tree = Tree(file_system)
    found = []
    for folder in tree.names("/EFI")[:MOST_LOADERS]:
        found += [f"/EFI/{folder}/{name}" for name in tree.names(f"/EFI/{folder}") if name.lower().endswith(".efi")]
    return found[:MOST_LOADERS]


def _check_default_root(findings: Findings, server: Server, configuration: Configuration | None) -> None:
    """Check that what the default entry names as root is there."""
    default = configuration.default if configuration else None
    if configuration is None or default is None:
        return
    volumes = [one.volume for one in server.opened]
    for name in default.options("root")[-1:]:
        what = f"{configuration.path}: {default.title or default.kernel!r} starts with root={name}"
        if "$" in name:
            findings.remark("boot.root", f"{what}, which only the boot loader knows")
            continue
        meaning, volume = find_device(name, volumes, letters=server.letters)
        if meaning is Meaning.FOUND and volume:
            findings.record("boot.root", True, f"{what}, which is {volume.name}")
        elif meaning is Meaning.MISSING:
            findings.record("boot.root", False, f"{what}, which is not on the disks")
        else:
            hidden = hiding(volumes)
            why = f"it may be in {', '.join(hidden)}" if hidden else "its disk cannot be told"
            findings.remark("boot.root", f"{what}, which was not found: {why}")


def _facts(
    server: Server,
    mounted: Mounted | None,
    release: dict[str, str],
    hostname: str,
    boot: BootFacts | None,
    kernels: list[KernelFacts],
) -> SystemFacts:
    lines = mounted.lines if mounted else ()
    places = {volume.name: line.mount_point for line, _, volume in reversed(lines) if volume}
    if mounted:
        places[mounted.root.volume.name] = "/"
    return SystemFacts(
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", "") or release.get("NAME", ""),
        hostname=hostname,
        root_volume=mounted.root.volume.name if mounted else "",
        volumes=[
            VolumeFacts(
                name=one.volume.name,
                disk=one.volume.disk,
                partition=one.volume.number,
                content=one.content,
                size=one.volume.region.size,
                free=one.free,
                uuid=one.volume.content.uuid,
                label=one.volume.content.label,
                part_uuid=one.volume.part_uuid,
                mount_point=places.get(one.volume.name, ""),
                read=one.file_system is not None,
            )
            for one in server.opened
        ],
        fstab=[
            FstabFacts(
                device=line.shown_device,
                mount_point=line.mount_point,
                type=line.type,
                options=line.shown_options,
                volume=volume.name if volume else "",
            )
            for line, _, volume in lines
        ],
        boot=boot,
        kernels=kernels,
        cloud_init=None,
        network=None,
    )


def check_root_directory(findings: Findings, file_system: FileSystem) -> bool:
    """Read the root directory of a file system and every inode in it.

    :param findings: where the check goes.
    :param file_system: which one.
    :returns: whether it is whole.
    """
    try:
        root = file_system.root()
        names = list(file_system.entries(root))
        kinds = [file_system.node(key).kind for _, key in names]
    except (ImageFormatError, ShortReadError) as error:
        findings.damaged("file_system.root", error)
        return False
    folders = sum(kind is NodeKind.DIRECTORY for kind in kinds)
    return findings.record(
        "file_system.root",
        True,
        f"{file_system.name}: the root directory has {len(names)} entries, {folders} of them directories",
    )
