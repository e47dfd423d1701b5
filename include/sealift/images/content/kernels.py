"""Checks a server's kernels and their initramfs, and says on which platforms they would find their disks."""

from __future__ import annotations

from typing import Final

from sealift.images.content import drivers
from sealift.images.content.boot_loader import Configuration
from sealift.images.content.facts import KernelFacts
from sealift.images.content.initramfs import Initramfs, read_initramfs
from sealift.images.content.kernel import KernelHeader, check_kernel_whole, read_kernel_header
from sealift.images.content.kernel_files import KERNEL_NAME, booted_path, initramfs_beside, kernels_in_boot
from sealift.images.file_systems.file_system import Place, Tree
from sealift.images.file_systems.window import Reading
from sealift.images.findings import Findings, some
from sealift.images.source import ImageFormatError, ShortReadError

LARGEST_TOGETHER: Final = 768 * 1024 * 1024
"""Bytes of kernels and their initramfs that are read."""

_OTHER_FORMS: Final = (b"\x7fELF", b"\x1f\x8b")
"""How kernels begin that only Xen starts: as programs, which may be compressed."""


class KernelReader:
    """Reads the kernels of one server.

    :param findings: where checks and remarks go.
    :param tree: the root file system with those that are mounted in it.
    :param reading: whose budget is raised by what they have.
    :param configuration: of the boot loader; None where there is none.
    """

    def __init__(self, findings: Findings, tree: Tree, reading: Reading, configuration: Configuration | None) -> None:
        self._findings = findings
        self._tree = tree
        self._reading = reading
        self._default = configuration.default if configuration else None
        self._where = configuration.path if configuration else ""

    def read(self) -> list[KernelFacts]:
        """Check the kernels: all by their headers; the default and the newest whole, with their initramfs.

        :returns: what was found, the newest first.
        """
        try:
            return self._read()
        except (ImageFormatError, ShortReadError) as error:
            self._findings.damaged("boot.kernel", error)
            return []

    def _read(self) -> list[KernelFacts]:
        default = self._default_kernel()
        paths = kernels_in_boot(self._tree)
        if default and default.path not in paths:
            paths.append(default.path)
        if not paths:
            self._findings.record("boot.kernel", False, "no kernel was found in /boot: the server cannot start")
            return []
        found = []
        newest = True
        for path in paths:
            place = self._tree.file(path)
            if place is None:
                continue
            is_default = default is not None and (place.path, place.file_system) == (default.path, default.file_system)
            facts = self._kernel(place, path, default=is_default, whole=is_default or newest)
            newest = False
            if facts:
                found.append(facts)
        return found

    def _default_kernel(self) -> Place | None:
        """Find the kernel that starts if nobody chooses another."""
        if self._default is None:
            return None
        place = booted_path(self._tree, self._default.kernel)
        if place is None:
            self._findings.record(
                "boot.kernel",
                False,
                f"{self._where}: {self._default.title!r} starts {self._default.kernel}, which is not there",
            )
        return place

    def _kernel(self, place: Place, path: str, *, default: bool, whole: bool) -> KernelFacts | None:
        try:
            header = read_kernel_header(place)
        except (ImageFormatError, ShortReadError) as error:
            if place.read(0, 4).startswith(_OTHER_FORMS):
                self._findings.remark(
                    "boot.kernel", f"{path} is a kernel for Xen or another loader, in a form that is not read"
                )
            else:
                self._findings.damaged("boot.kernel", error)
            return None
        named = KERNEL_NAME.match(path.rsplit("/", 1)[-1])
        if named and header.version and named.group(1) != header.version:
            self._findings.remark("boot.kernel", f"{path} says that it is version {header.version}")
        version = header.version or (named.group(1) if named else "")
        if not whole:
            self._findings.record("boot.kernel", True, f"{path}: Linux {version}")
            return KernelFacts(path=path, version=version, default=default, initramfs="", compression="", drivers={})
        self._check_whole(place, header, path, version)
        initramfs_path, initramfs = self._initramfs(path, version, default=default)
        without = initramfs is None and not initramfs_path
        modules: frozenset[str] | None = frozenset() if without else None
        if initramfs and not initramfs.unread:
            modules = initramfs.modules
        where = drivers.find_drivers(self._tree, version, initramfs=modules)
        if default or self._default is None:
            self._say_platforms(path, where)
        return KernelFacts(
            path=path,
            version=version,
            default=default,
            initramfs=initramfs_path,
            compression=initramfs.compression if initramfs else "",
            drivers=where,
        )

    def _check_whole(self, place: Place, header: KernelHeader, path: str, version: str) -> None:
        self._allow(place)
        try:
            how = check_kernel_whole(place, header)
        except (ImageFormatError, ShortReadError) as error:
            self._findings.damaged("boot.kernel", error)
            return
        if how.startswith("unread: "):
            self._findings.remark("boot.kernel", f"{path} was not read whole: {how.removeprefix('unread: ')}")
        else:
            self._findings.record("boot.kernel", True, f"{path}: Linux {version}; {how}")

    def _initramfs(self, path: str, version: str, *, default: bool) -> tuple[str, Initramfs | None]:
        """Find and read a kernel's initramfs; an empty path where it has none."""
        place = None
        if default and self._default and self._default.initrds:
            for name in self._default.initrds:
                place = booted_path(self._tree, name)
                if place is None:
                    self._findings.record(
                        "boot.initramfs",
                        False,
                        f"{self._where}: {self._default.title!r} starts with {name}, which is not there",
                    )
                    return name, None
        else:
            place = initramfs_beside(self._tree, path, version)
        if place is None:
            self._findings.remark(
                "boot.initramfs", f"{path} has no initramfs: it starts only with what is built into it"
            )
            return "", None
        self._allow(place)
        where = f"{place.file_system.name}: {place.path}"
        try:
            found = read_initramfs(place, place.node.size)
        except (ImageFormatError, ShortReadError) as error:
            self._findings.damaged("boot.initramfs", error, doing=where)
            return place.path, None
        if found.unread:
            self._findings.remark("boot.initramfs", f"{where} was not read whole: {found.unread}")
        else:
            self._findings.record(
                "boot.initramfs",
                True,
                f"{where}: {found.files} files, {len(found.modules)} modules, compressed with {found.compression}",
            )
        return place.path, found

    def _allow(self, place: Place) -> None:
        """Raise the budget by a file's size, within what may be read of such files together."""
        self._reading.allow(min(place.node.size, max(0, LARGEST_TOGETHER - self._reading.allowed)))

    def _say_platforms(self, path: str, where: dict[str, str]) -> None:
        for platform, why in drivers.cannot_start_on(where).items():
            self._findings.remark(
                "boot.drivers", f"{path} does not find its disk on {platform} before its initramfs is made again: {why}"
            )
        without = drivers.no_network_on(where)
        if without:
            self._findings.remark("boot.drivers", f"{path} has no driver for the network of {some(without)}")
