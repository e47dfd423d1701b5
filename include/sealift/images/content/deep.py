"""Walks whole trees of a server's files and reads every inode, directory, map of blocks and link in them."""

from __future__ import annotations

from typing import Final

from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.ext_structures import INLINE_FLAG
from sealift.images.file_systems.file_system import FileSystem, Node, NodeKind, Tree
from sealift.images.file_systems.xfs import XfsFileSystem
from sealift.images.file_systems.xfs_structures import BTREE, EXTENTS
from sealift.images.findings import Findings, some
from sealift.images.source import ImageFormatError, ShortReadError

TREES: Final = ("/etc", "/boot", "/usr/lib/modules", "/lib/modules")
MOST_NODES: Final = 500_000
DEEPEST: Final = 64
MOST_DAMAGED: Final = 100


def check_trees(findings: Findings, tree: Tree) -> None:
    """Check every inode below the directories that a server starts from.

    :param findings: where checks go.
    :param tree: the root file system with those that are mounted in it.
    """
    seen: set[tuple[int, int]] = set()
    for path in TREES:
        walk = _Walk(seen)
        try:
            place = tree.find(path)
            if place is None or place.node.kind is not NodeKind.DIRECTORY:
                continue
            walk.directory(place.file_system, place.node, place.path, 0)
        except (ImageFormatError, ShortReadError) as error:
            walk.damaged.append(str(error))
        if walk.nodes or walk.damaged:
            findings.record(
                "trees",
                not walk.damaged,
                f"{path}: {some(walk.damaged)}"
                if walk.damaged
                else f"{path}: {walk.nodes} files and directories are whole",
            )


class _Walk:
    def __init__(self, seen: set[tuple[int, int]]) -> None:
        self._seen = seen
        self.nodes = 0
        self.damaged: list[str] = []

    def directory(self, file_system: FileSystem, directory: Node, path: str, depth: int) -> None:
        """Walk what is below a directory."""
        if depth > DEEPEST:
            self.damaged.append(f"{file_system.name}: {path} is more than {DEEPEST} directories deep")
            return
        if not self._first_time(file_system, directory):
            return
        entries = file_system.entries(directory)
        while len(self.damaged) <= MOST_DAMAGED and self.nodes <= MOST_NODES:
            try:
                name, key = next(entries, ("", 0))
            except (ImageFormatError, ShortReadError) as error:
                self.damaged.append(f"{path}: {error}")
                return
            if not name:
                return
            below = f"{path}/{name}"
            try:
                node = file_system.node(key)
                self._look(file_system, node)
            except (ImageFormatError, ShortReadError) as error:
                self.damaged.append(f"{below}: {error}")
                continue
            if node.kind is NodeKind.DIRECTORY:
                self.directory(file_system, node, below, depth + 1)

    def _first_time(self, file_system: FileSystem, node: Node) -> bool:
        mark = (id(file_system), node.key)
        if mark in self._seen:
            return False
        self._seen.add(mark)
        return True

    def _look(self, file_system: FileSystem, node: Node) -> None:
        """Read a file's map of blocks, or a link's target."""
        self.nodes += 1
        if node.kind is NodeKind.LINK:
            file_system.target(node)
        elif node.kind is NodeKind.FILE and isinstance(file_system, ExtFileSystem):
            inode = file_system.inode(node.key)
            if not inode.flags & INLINE_FLAG:
                file_system.maps.check(inode)
        elif node.kind is NodeKind.FILE and isinstance(file_system, XfsFileSystem):
            found = file_system.inode(node.key)
            if found.format in (EXTENTS, BTREE):
                file_system.extents(found)
