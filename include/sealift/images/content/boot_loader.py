"""Finds out how a server's boot loader is set up: code in the first sector, GRUB's configuration, loaders for EFI.

GRUB's configuration is a program. It is not run: menu entries are read as grub-mkconfig and the distributions'
tools write them, with their titles, kernels, command lines and initramfs archives; and entries after the Boot
Loader Specification.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
import struct
from collections.abc import Iterator
from typing import Final

from sealift.images.content.kernel import version_key
from sealift.images.file_systems.file_system import Tree
from sealift.images.file_systems.window import Region

CODE: Final = 440
"""Bytes of the first sector that can hold code."""
MOST_ENTRIES: Final = 500
MOST_LINES: Final = 50_000

CONFIGURATIONS: Final = (
    "/boot/grub2/grub.cfg",
    "/boot/grub/grub.cfg",
    "/boot/grub/grub.conf",
    "/boot/grub/menu.lst",
    "/boot/extlinux/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
)
_BLS_FOLDER: Final = "/boot/loader/entries"
_KERNEL_WORDS: Final = ("linux", "linux16", "linuxefi", "kernel")
_INITRD_WORDS: Final = ("initrd", "initrd16", "initrdefi")
_LEGACY_DEFAULT: Final = re.compile(r"default\s*[=\s]\s*(\S+)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BootCode:
    """The code in a disk's first sector.

    :param kind: ``grub``, ``grub legacy``, ``other`` or ``none``.
    :param next_sector: where its second part begins, in sectors; 0 where that is not known.
    """

    kind: str
    next_sector: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of a boot menu. Paths are as the configuration has them."""

    title: str
    id: str
    kernel: str
    command_line: str
    initrds: tuple[str, ...]
    path: tuple[int, ...]
    """Its place in the menu: number, and numbers in submenus."""

    def options(self, name: str) -> list[str]:
        """Return the values of an option of the command line.

        :param name: ``root``.
        """
        return [word.removeprefix(f"{name}=") for word in self.command_line.split() if word.startswith(f"{name}=")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """A boot loader's configuration.

    :param default: the entry that starts if nobody chooses another; None where there are none.
    """

    path: str
    entries: tuple[Entry, ...]
    default: Entry | None


def read_boot_code(head: bytes) -> BootCode:
    """Say what code a disk's first sector holds.

    :param head: the first bytes of the disk.
    """
    code = head[:CODE]
    if not any(code):
        return BootCode(kind="none")
    if b"GRUB" not in code:
        return BootCode(kind="other")
    # Both versions name the address to which they load what comes next, before they name its sector.
    if struct.unpack_from("<H", code, 0x5A)[0] == 0x8000:
        return BootCode(kind="grub", next_sector=struct.unpack_from("<Q", code, 0x5C)[0])
    if struct.unpack_from("<H", code, 0x42)[0] in (0x8000, 0x2000):
        return BootCode(kind="grub legacy", next_sector=struct.unpack_from("<I", code, 0x44)[0])
    return BootCode(kind="grub")


def second_stage_is_blank(disk: Region, code: BootCode) -> bool | None:
    """Say whether the sector to which the boot code leads is blank.

    :param disk: that it is on.
    :param code: of the disk.
    :returns: None where it does not say which sector, or that is beyond the disk.
    """
    at = code.next_sector * 512
    if not code.next_sector or at + 512 > disk.size:
        return None
    return not any(disk.read(at, 512))


def first_stage_is_lost(disk: Region, code: BootCode) -> bool:
    """Say whether a second stage of GRUB stands where it is put, right behind a first sector without any code.

    :param disk: to look at.
    :param code: of the disk.
    """
    if code.kind != "none" or disk.size < 1024:
        return False
    behind = disk.read(512, 512)
    # How GRUB's diskboot.img begins, and what it says while it loads the rest: "loading"; GRUB Legacy's "Loading".
    return behind[:1] == b"\x52" and b"oading" in behind


def read_configuration(tree: Tree) -> Configuration | None:
    """Read the boot loader's configuration.

    :param tree: the root file system with those that are mounted in it.
    :returns: None where there is none.
    :raises ImageFormatError: damage.
    """
    for path in [*CONFIGURATIONS, *_efi_configurations(tree)]:
        text = tree.text(path)
        if text is None:
            continue
        environment = _environment(tree, path)
        for variable in ("saved_entry", "next_entry"):
            if f'default="${{{variable}}}"' not in text:
                environment.pop(variable, None)  # kept, but not used
        entries, default = _parse(text)
        if "blscfg" in text or not entries:
            entries = list(_specified(tree, environment)) + entries
        found = tuple(entries[:MOST_ENTRIES])
        return Configuration(path=path, entries=found, default=_default(found, default, environment))
    entries = list(_specified(tree, {}))
    if not entries:
        return None
    return Configuration(path=_BLS_FOLDER, entries=tuple(entries), default=entries[0])


def _efi_configurations(tree: Tree) -> list[str]:
    return [f"/boot/efi/EFI/{name}/grub.cfg" for name in tree.names("/boot/efi/EFI")]


def _environment(tree: Tree, path: str) -> dict[str, str]:
    """Return the variables that GRUB keeps beside its configuration."""
    folder = path.rsplit("/", 1)[0]
    for place in (f"{folder}/grubenv", "/boot/grub2/grubenv", "/boot/grub/grubenv"):
        text = tree.text(place, most=4096)
        if text is not None:
            pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
            return {name: value for name, _, value in pairs}
    return {}


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


class _Menu:
    """Collects the entries of a menu: of GRUB 2 in braces, of GRUB legacy and extlinux each up to the next."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.default = ""
        self._counts = [0]  # entries so far in the menu and in each submenu that is open
        self._open: list[str] = []
        self._begun = self._flat = False
        self._title = self._id = self._kernel = self._command_line = ""
        self._initrds: tuple[str, ...] = ()

    def _begin(self, title: str, identifier: str) -> None:
        self._counts[-1] += 1
        self._title, self._id, self._kernel, self._command_line, self._initrds = title, identifier, "", "", ()
        self._begun = True

    def _end(self) -> None:
        """Keep the entry, if it starts a kernel."""
        if self._begun and self._kernel and len(self.entries) < MOST_ENTRIES:
            self.entries.append(
                Entry(
                    title=self._title,
                    id=self._id,
                    kernel=self._kernel,
                    command_line=self._command_line,
                    initrds=self._initrds,
                    path=tuple(count - 1 for count in self._counts),
                )
            )
        self._begun = False

    def read(self, line: str) -> None:
        """Take the next line, which is neither empty nor a comment."""
        words = line.split(None, 1)
        key, rest = words[0].lower(), words[1] if len(words) > 1 else ""
        if key in ("menuentry", "submenu"):
            self._open_block(key, _words(line.rstrip("{ \t")))
        elif line.endswith("{"):
            self._open.append("")
        elif line == "}":
            self._close_block()
        elif key in ("title", "label") and not self._open:
            self._end()
            self._flat = True
            self._begin(rest.strip(), "")
        elif self._begun:
            self._detail(key, rest)
        if not self._open and (setting := _LEGACY_DEFAULT.match(line)):
            self.default = setting.group(1)
        elif key == "set" and rest.startswith("default=") and "${" not in rest:
            self.default = rest.removeprefix("default=").strip("\"'")

    def _open_block(self, kind: str, words: list[str]) -> None:
        self._open.append(kind)
        if kind == "submenu":
            self._counts[-1] += 1
            self._counts.append(0)
            return
        named = (value for name, value in itertools.pairwise(words) if name in ("--id", "$menuentry_id_option"))
        self._begin(words[1] if len(words) > 1 else "", next(named, ""))

    def _close_block(self) -> None:
        closed = self._open.pop() if self._open else ""
        if closed == "menuentry":
            self._end()
        elif closed == "submenu":
            self._counts.pop()

    def _detail(self, key: str, rest: str) -> None:
        if key in _KERNEL_WORDS:
            self._kernel, _, self._command_line = " ".join(rest.split()).partition(" ")
        elif key in _INITRD_WORDS:
            self._initrds = tuple(rest.split())
        elif key == "append":
            self._command_line = rest.strip()

    def finish(self) -> None:
        """Keep the last entry of a menu without braces."""
        if self._flat:
            self._end()


def _parse(text: str) -> tuple[list[Entry], str]:
    """Return the menu entries of a configuration, and what it sets as the default."""
    menu = _Menu()
    for raw in text.splitlines()[:MOST_LINES]:
        line = raw.strip()
        if line and not line.startswith("#"):
            menu.read(line)
    menu.finish()
    return menu.entries, menu.default


def _specified(tree: Tree, environment: dict[str, str]) -> Iterator[Entry]:
    """Yield the entries after the Boot Loader Specification, the newest version first, as GRUB shows them."""
    found = []
    for name in tree.names(_BLS_FOLDER)[:MOST_ENTRIES]:
        if not name.endswith(".conf"):
            continue
        text = tree.text(f"{_BLS_FOLDER}/{name}", most=65536) or ""
        values: dict[str, list[str]] = {}
        for line in text.splitlines():
            key, _, value = line.strip().partition(" ")
            values.setdefault(key, []).append(value.strip())
        kernel = next(iter(values.get("linux", [])), "")
        if kernel:
            found.append((name.removesuffix(".conf"), kernel, values))
    found.sort(key=lambda one: version_key(one[0]), reverse=True)
    for number, (identifier, kernel, values) in enumerate(found):
        command_line = " ".join(values.get("options", []))
        for variable, value in environment.items():
            command_line = command_line.replace(f"${variable}", value)
        initrds = [word for line in values.get("initrd", []) for word in line.split() if not word.startswith("$")]
        yield Entry(
            title=next(iter(values.get("title", [])), identifier),
            id=identifier,
            kernel=kernel,
            command_line=command_line,
            initrds=tuple(initrds),
            path=(number,),
        )


def _default(entries: tuple[Entry, ...], default: str, environment: dict[str, str]) -> Entry | None:
    """Return the entry that starts if nobody chooses: the one that was saved, or set, or the first."""
    if not entries:
        return None
    for wanted in (environment.get("next_entry", ""), environment.get("saved_entry", ""), default):
        if wanted in ("", "saved"):
            continue
        last = wanted.rsplit(">", 1)[-1]
        for entry in entries:
            if wanted in (entry.id, entry.title) or last in (entry.id, entry.title):
                return entry
        parts = wanted.split(">")
        if all(part.isdigit() for part in parts):
            path = tuple(int(part[:6]) for part in parts)
            for entry in entries:
                if entry.path[: len(path)] == path:
                    return entry
    return entries[0]
