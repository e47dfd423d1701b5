"""What every file system reader offers, and a tree of several of them with their mount points.

Paths are resolved here and nowhere else: symbolic links stay inside the tree, and their number is bounded.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, Protocol

from sealift.images.source import ImageFormatError

MOST_LINKS: Final = 40
"""Symbolic links that one path may lead through; Linux allows as many."""
LONGEST_PATH: Final = 4096
MOST_ENTRIES: Final = 100_000
"""Entries that a directory may have."""
LARGEST_DIRECTORY: Final = 16 * 1024 * 1024
LARGEST_TEXT: Final = 1024 * 1024
"""Bytes of a text file that are read."""


class NodeKind(StrEnum):
    """What an inode is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "symbolic link"
    OTHER = "special file"


KIND_OF_MODE: Final = {0x8: NodeKind.FILE, 0x4: NodeKind.DIRECTORY, 0xA: NodeKind.LINK}
"""By the upper four bits of an inode's mode; others are special files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """A file, directory or link of a file system.

    :param key: by which its file system finds it: the inode's number, or the first cluster.
    """

    kind: NodeKind
    size: int
    key: int


class FileSystem(Protocol):
    """A file system that can be read. Every method raises ImageFormatError where it finds damage."""

    @property
    def type(self) -> str:
        """``ext4``, ``xfs``, ``vfat`` …: as fstab names it."""
        ...

    @property
    def name(self) -> str:
        """What it is called in messages: the partition."""
        ...

    @property
    def verified(self) -> Counter[str]:
        """How many structures of which kind were read and had a right checksum."""
        ...

    def root(self) -> Node:
        """Return the root directory."""
        ...

    def entries(self, directory: Node) -> Iterator[tuple[str, int]]:
        """Yield (name, key) of what a directory holds, without ``.`` and ``..``."""
        ...

    def node(self, key: int) -> Node:
        """Return a node by its key."""
        ...

    def read(self, file: Node, offset: int, length: int) -> bytes:
        """Return the bytes of a file from ``offset``: as many as asked for, fewer only at its end."""
        ...

    def target(self, link: Node) -> str:
        """Return where a symbolic link points."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A node in a tree: where it really is."""

    path: str
    file_system: FileSystem
    node: Node

    def read(self, offset: int, length: int) -> bytes:
        """Return the file's bytes from ``offset``; fewer only at its end.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        """
        return self.file_system.read(self.node, offset, length)


class Tree:
    """A root file system and others on its mount points.

    :param root: the root file system.
    """

    def __init__(self, root: FileSystem) -> None:
        self._mounts: dict[str, FileSystem] = {"/": root}

    @property
    def mounts(self) -> dict[str, FileSystem]:
        """File systems by their mount points."""
        return dict(self._mounts)

    def mount(self, path: str, file_system: FileSystem) -> None:
        """Put a file system on a mount point.

        :param path: absolute, without a slash at the end.
        :param file_system: what is found there from now on.
        """
        self._mounts[path] = file_system

    def find(self, path: str, *, follow: bool = True) -> Place | None:
        """Find a path.

        :param path: absolute.
        :param follow: go on if the last part is a symbolic link.
        :returns: None where there is nothing, also where a link leads nowhere.
        :raises ImageFormatError: damage, or links that lead in circles.
        """
        links = 0
        parts = self._split(path)
        way = [self._at_mount("/")]
        while parts:
            part = parts.pop()
            here = way[-1]
            if part == "..":
                if len(way) > 1:
                    way.pop()
                continue
            if here.node.kind is not NodeKind.DIRECTORY:
                return None
            found = self._child(here, part)
            if found is None:
                return None
            if found.node.kind is NodeKind.LINK and (parts or follow):
                links += 1
                if links > MOST_LINKS:
                    raise ImageFormatError(
                        f"{here.file_system.name}: {path} leads through more than {MOST_LINKS} symbolic links", offset=0
                    )
                target = found.file_system.target(found.node)
                if target.startswith("/"):
                    del way[1:]
                parts += self._split(target)
                if len(parts) > LONGEST_PATH:
                    raise ImageFormatError(
                        f"{here.file_system.name}: {path} leads to a path that is too long", offset=0
                    )
                continue
            way.append(found)
        return way[-1]

    def names(self, path: str) -> list[str]:
        """Return what a directory holds, in order; nothing where there is no directory.

        :param path: absolute.
        :raises ImageFormatError: damage.
        """
        place = self.find(path)
        if place is None or place.node.kind is not NodeKind.DIRECTORY:
            return []
        return sorted(name for name, _ in place.file_system.entries(place.node))

    def file(self, path: str) -> Place | None:
        """Find a regular file.

        :param path: absolute.
        :returns: None where there is none.
        :raises ImageFormatError: damage.
        """
        place = self.find(path)
        return place if place is not None and place.node.kind is NodeKind.FILE else None

    def text(self, path: str, *, most: int = LARGEST_TEXT) -> str | None:
        """Return a file's text; bytes that are not UTF-8 are replaced.

        :param path: absolute.
        :param most: bytes that are read of it.
        :returns: None where there is no file.
        :raises ImageFormatError: damage.
        """
        place = self.file(path)
        return None if place is None else place.read(0, most).decode("utf-8", "replace")

    def _at_mount(self, path: str) -> Place:
        file_system = self._mounts[path]
        return Place(path=path, file_system=file_system, node=file_system.root())

    def _child(self, here: Place, name: str) -> Place | None:
        path = f"{here.path.rstrip('/')}/{name}"
        if path in self._mounts:
            return self._at_mount(path)
        # FAT finds a name in whichever case it is written.
        fold = here.file_system.type == "vfat"
        wanted = name.lower() if fold else name
        key = next(
            (key for entry, key in here.file_system.entries(here.node) if (entry.lower() if fold else entry) == wanted),
            None,
        )
        if key is None:
            return None
        return Place(path=path, file_system=here.file_system, node=here.file_system.node(key))

    @staticmethod
    def _split(path: str) -> list[str]:
        """Return the parts of a path, the last one first."""
        return [part for part in path[:LONGEST_PATH].split("/") if part not in ("", ".")][::-1]
