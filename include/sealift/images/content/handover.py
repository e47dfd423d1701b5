"""Takes the kernel that a server's boot loader would start, and its initramfs, out of the server's disks.

They are for a machine that starts them itself: level L4 does so where the boot loader, or the screen that it and the
kernel write to, shows nothing that a program could read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from sealift.images.content.boot_loader import Configuration, Entry, read_configuration
from sealift.images.content.content_proof import BUDGET, disk_letters, open_volumes
from sealift.images.content.kernel import read_kernel_header
from sealift.images.content.kernel_files import booted_path, initramfs_beside, kernels_in_boot
from sealift.images.content.kernels import LARGEST_TOGETHER
from sealift.images.content.mounts import Mounted, find_root, mount
from sealift.images.emulator import DirectKernel
from sealift.images.file_systems.file_system import Place, Tree
from sealift.images.file_systems.volumes import find_volumes
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.findings import Findings
from sealift.images.source import ImageFormatError, RangeSource, ShortReadError

CONSOLE: Final = "console=ttyS0,115200n8"
LONGEST_COMMAND_LINE: Final = 2000
"""Characters; kernels for x86 take 2,047."""

_PIECE: Final = 1024 * 1024
_LEFT_OUT: Final = re.compile(r"quiet$|splash|rhgb$|console=|vga=|vt\.|loglevel=|systemd\.show_status=|fbcon=")
"""What keeps a kernel and systemd from writing to the serial console, or tells them to write elsewhere."""
_SECRET: Final = re.compile(r"passw|secret|token|credential|netroot=|iscsi|luks\.key|ip=", re.IGNORECASE)
"""What may hold a password, or needs a network: the machine has none, and other users of this one see its words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartFiles:
    """What a boot loader would start.

    :param initrds: in the order in which they are loaded, one after the other.
    :param command_line: what the kernel is told, with the serial console in the place of others.
    """

    kernel: Place
    initrds: tuple[Place, ...]
    command_line: str


def take_kernel(disks: Sequence[RangeSource], *, folder: Path, boot_index: int = 0) -> DirectKernel:
    """Write the kernel that a server's boot loader would start, and its initramfs, into files.

    :param disks: all disks of the server: the virtual disks, not the files that hold them.
    :param folder: where the files go, ``kernel`` and ``initrd``. Who calls removes them.
    :param boot_index: place of the disk that the server starts from.
    :returns: the files, and what the kernel is to be told.
    :raises ImageFormatError: there is none that can be taken: no root file system that is read, no kernel, damage on
        the way to them, or more bytes than are read.
    :raises ShortReadError: a disk has fewer bytes than it says.
    """
    reading = Reading(budget=BUDGET)
    found = _find(disks, reading, boot_index=boot_index)
    size = sum(one.node.size for one in (found.kernel, *found.initrds))
    if size > LARGEST_TOGETHER:
        raise ImageFormatError(
            f"{found.kernel.path} and its initramfs have {size} bytes, more than the {LARGEST_TOGETHER} that are read",
            offset=0,
        )
    read_kernel_header(found.kernel)  # QEMU takes what is no kernel for a program of another kind
    reading.allow(size + len(disks) * _PIECE)
    kernel = folder / "kernel"
    with kernel.open("wb") as file:
        _copy(found.kernel, file)
    initrd = folder / "initrd" if found.initrds else None
    if initrd is not None:
        with initrd.open("wb") as file:
            for place in found.initrds:
                file.write(bytes(-file.tell() % 4))
                _copy(place, file)
    return DirectKernel(kernel=kernel, initrd=initrd, command_line=found.command_line)


def _find(disks: Sequence[RangeSource], reading: Reading, *, boot_index: int) -> StartFiles:
    findings = Findings()  # of damage that is not in the way nothing is said here: level L3 does
    cached = [CachedDisk(disk, reading=reading, name=f"disk {index}") for index, disk in enumerate(disks)]
    letters = disk_letters(len(disks), boot_index, None)
    _, volumes = find_volumes(findings, cached, boot_index=boot_index, letters=letters)
    opened = open_volumes(findings, volumes)
    root = find_root(findings, opened, boot_index=boot_index)
    if root is None:
        raise ImageFormatError("no root file system was found that is read", offset=0)
    mounted = mount(findings, root, opened, letters=letters)
    configuration = _configuration(mounted.tree)
    entry = configuration.default if configuration else None
    kernel, initrds = _files(mounted.tree, entry)
    return StartFiles(kernel=kernel, initrds=initrds, command_line=command_line(entry, mounted))


def _configuration(tree: Tree) -> Configuration | None:
    try:
        return read_configuration(tree)
    except (ImageFormatError, ShortReadError):
        return None  # a boot loader whose configuration is damaged is what this passes over


def _files(tree: Tree, entry: Entry | None) -> tuple[Place, tuple[Place, ...]]:
    """Find the kernel of an entry; where that leads nowhere, the newest in /boot; and what each is loaded with."""
    kernel = booted_path(tree, entry.kernel) if entry else None
    if kernel is not None and entry is not None and entry.initrds:
        named = [booted_path(tree, name) for name in entry.initrds]
        if all(named):
            return kernel, tuple(one for one in named if one)
    for candidate in [kernel] if kernel else [tree.file(path) for path in kernels_in_boot(tree)]:
        if candidate is not None:
            beside = initramfs_beside(tree, candidate.path)
            return candidate, (beside,) if beside else ()
    raise ImageFormatError(
        "no kernel was found: neither the one that the boot loader starts, nor any in /boot", offset=0
    )


def command_line(entry: Entry | None, mounted: Mounted) -> str:
    """Return what a kernel is told: the entry's words, with the serial console in the place of others.

    Left out is what may hold a password, and what only the boot loader knows.

    :param entry: of the boot loader; None where there is none.
    :param mounted: the root, which is named where the entry does not.
    """
    words = []
    for word in entry.command_line.split() if entry else ["ro"]:
        plain = word.strip("\"'")
        if plain and "$" not in plain and not _LEFT_OUT.match(plain) and not _SECRET.search(plain):
            words.append(plain)
    if not any(word.startswith("root=") for word in words):
        uuid = mounted.root.volume.content.uuid
        device = next(iter(mounted.root.volume.devices), "")
        if uuid or device:
            words.insert(0, f"root=UUID={uuid}" if uuid else f"root={device}")
    line = " ".join(words)[: LONGEST_COMMAND_LINE - len(CONSOLE) - 1]
    return f"{line} {CONSOLE}"


def _copy(place: Place, file: BinaryIO) -> None:
    at = 0
    while at < place.node.size:
        piece = place.read(at, min(_PIECE, place.node.size - at))
        if not piece:
            raise ImageFormatError(f"{place.path} ends at byte {at} of {place.node.size}", offset=at)
        file.write(piece)
        at += len(piece)
