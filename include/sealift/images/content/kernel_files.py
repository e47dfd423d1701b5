"""Finds the files of a server's kernels: which are in /boot, and which a boot loader's entry means."""

from __future__ import annotations

import re
from typing import Final

from sealift.images.content.kernel import version_key
from sealift.images.file_systems.file_system import Place, Tree

MOST_KERNELS: Final = 16
KERNEL_NAME: Final = re.compile(r"(?:vmlinuz|bzImage|kernel)-(.+)$")


def kernels_in_boot(tree: Tree) -> list[str]:
    """Return the paths of the kernels in /boot, the newest first, without those for rescue.

    :param tree: the root file system with those that are mounted in it.
    :raises ImageFormatError: damage.
    """
    names = [name for name in tree.names("/boot") if KERNEL_NAME.match(name) and "rescue" not in name]
    names.sort(key=version_key, reverse=True)
    return [f"/boot/{name}" for name in names[:MOST_KERNELS]]


def booted_path(tree: Tree, path: str) -> Place | None:
    """Find a path of the boot loader's, which begins at the root of the partition that holds /boot.

    :param tree: the root file system with those that are mounted in it.
    :param path: as an entry has it.
    :raises ImageFormatError: damage.
    """
    path = re.sub(r"^\([^)]*\)|^\$\{?\w+\}?", "", path)
    if not path.startswith("/"):
        path = f"/{path}"
    return tree.file(f"/boot{path}") or tree.file(path)


def initramfs_beside(tree: Tree, path: str, version: str = "") -> Place | None:
    """Find the initramfs of a kernel by its name.

    :param tree: the root file system with those that are mounted in it.
    :param path: of the kernel.
    :param version: of the kernel, where its path does not tell.
    :raises ImageFormatError: damage.
    """
    folder, _, name = path.rpartition("/")
    suffix = name.partition("-")[2] or version
    names = (f"initrd.img-{suffix}", f"initramfs-{suffix}.img", f"initrd-{suffix}", f"initramfs-{suffix}")
    return next((place for one in names if (place := tree.file(f"{folder}/{one}"))), None)
