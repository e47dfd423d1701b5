"""Finds a server's root file system, and puts the others where its fstab has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from sealift.images.content.fstab import Line, Meaning, find_device, hiding, parse_fstab
from sealift.images.content.server_settings import OLD_RELEASES, OS_RELEASE
from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.fat import FatFileSystem
from sealift.images.file_systems.file_system import FileSystem, Tree
from sealift.images.file_systems.volumes import Volume
from sealift.images.file_systems.xfs import XfsFileSystem
from sealift.images.findings import Findings
from sealift.images.source import ImageFormatError, ShortReadError

FSTAB: Final = "/etc/fstab"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A volume, and its file system where that is read.

    :param damaged: it holds a file system that is too damaged to be read.
    """

    volume: Volume
    file_system: FileSystem | None = None
    damaged: bool = False

    @property
    def content(self) -> str:
        """What it holds, as fstab names it."""
        return self.file_system.type if self.file_system else self.volume.content.kind

    @property
    def free(self) -> int | None:
        """Bytes that are free, as of the last unmount; None where that is not known."""
        if isinstance(self.file_system, ExtFileSystem | XfsFileSystem):
            return self.file_system.superblock.free_blocks * self.file_system.superblock.block
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mounted:
    """A root file system with the others in it.

    :param lines: of its fstab, each with what it means.
    """

    root: Opened
    tree: Tree
    lines: tuple[tuple[Line, Meaning, Volume | None], ...]


def find_root(findings: Findings, opened: Sequence[Opened], *, boot_index: int) -> Opened | None:
    """Find the root file system: the one with a release file, or with an fstab.

    :param findings: where it is said that there are several.
    :param opened: all volumes.
    :param boot_index: the disk that the server starts from.
    :returns: None where there is none that is read.
    """
    found = []
    for one in opened:
        if one.file_system is None or isinstance(one.file_system, FatFileSystem):
            continue
        tree = Tree(one.file_system)
        try:
            if any(tree.file(path) for path in (*OS_RELEASE, FSTAB, *OLD_RELEASES)):
                found.append(one)
        except (ImageFormatError, ShortReadError) as error:
            findings.damaged("system.root", error)
    # Logical volumes are on no disk alone; a server that has its root in one has nothing else that looks like one.
    found.sort(key=lambda one: one.volume.disk not in (boot_index, None))
    if len(found) > 1:
        others = ", ".join(one.volume.name for one in found[1:])
        findings.remark("system.root", f"{found[0].volume.name} is taken for the root; {others} could be one as well")
    return found[0] if found else None


def mount(findings: Findings, root: Opened, opened: Sequence[Opened], *, letters: Sequence[str]) -> Mounted:
    """Put the other file systems where the root's fstab has them, and check that each is there.

    :param findings: where checks and remarks go.
    :param root: the root file system.
    :param opened: all volumes.
    :param letters: which letter Linux gives each disk; empty where that is not known.
    """
    assert root.file_system is not None
    tree = Tree(root.file_system)
    try:
        text = tree.text(FSTAB)
    except (ImageFormatError, ShortReadError) as error:
        findings.damaged("fstab", error)
        return Mounted(root=root, tree=tree, lines=())
    if text is None:
        findings.remark("fstab", f"{root.volume.name} has no {FSTAB}")
        return Mounted(root=root, tree=tree, lines=())
    volumes = [one.volume for one in opened]
    by_name = {one.volume.name: one for one in opened}
    lines = []
    for line in parse_fstab(text):
        meaning, volume = find_device(line.device, volumes, letters=letters)
        if line.network or line.bind:
            meaning, volume = Meaning.ELSEWHERE, None
        lines.append((line, meaning, volume))
    _check_lines(findings, root, lines, volumes)
    for line, _, volume in sorted(lines, key=lambda one: one[0].mount_point.count("/")):
        file_system = by_name[volume.name].file_system if volume else None
        if file_system and line.mount_point.startswith("/") and line.mount_point != "/":
            tree.mount(line.mount_point, file_system)
    return Mounted(root=root, tree=tree, lines=tuple(lines))


def _check_lines(
    findings: Findings,
    root: Opened,
    lines: Sequence[tuple[Line, Meaning, Volume | None]],
    volumes: Sequence[Volume],
) -> None:
    found = 0
    failed = False
    for line, meaning, volume in lines:
        what = f"{FSTAB} mounts {line.shown_device} on {line.mount_point}"
        if line.swap:
            what = f"{FSTAB} uses {line.shown_device} as swap space"
        if meaning is Meaning.FOUND:
            found += 1
            if line.mount_point == "/" and volume is not root.volume:
                findings.remark(
                    "fstab", f"{what}, which is {volume.name if volume else ''}, but it was read on {root.volume.name}"
                )
        elif meaning is Meaning.MISSING:
            if line.swap or line.optional:
                findings.remark("fstab", f"{what}, which is not on the disks; the server starts without it")
                continue
            failed = True
            findings.record(
                "fstab", False, f"{what}, which is not on the disks: the server would stop for it when it starts"
            )
        elif meaning is Meaning.UNKNOWN and "noauto" not in line.options:
            hidden = hiding(volumes)
            why = f"it may be in {', '.join(hidden)}" if hidden else "its disk cannot be told"
            findings.remark("fstab", f"{what}, which was not found: {why}")
        elif line.network:
            findings.remark("fstab", f"{what}: a network file system, which is not part of an image")
    if not failed:
        findings.record("fstab", True, f"{FSTAB} has {len(lines)} lines; {found} name volumes that are on the disks")
