"""Trees of several file systems: paths cross mount points and links as Linux lets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from sealift.images.file_systems.file_system import Node, NodeKind, Tree
from sealift.images.source import ImageFormatError


class Memory:
    """A file system of directories (dict), files (bytes) and links (str)."""

    def __init__(self, content: dict[str, object], *, type: str = "ext4", name: str = "memory") -> None:
        self.type = type
        self.name = name
        self.verified: Counter[str] = Counter()
        self._things: list[object] = [content]

    def _thing(self, key: int) -> object:
        return self._things[key]

    def root(self) -> Node:
        return self.node(0)

    def node(self, key: int) -> Node:
        thing = self._thing(key)
        kinds = {dict: NodeKind.DIRECTORY, bytes: NodeKind.FILE, str: NodeKind.LINK}
        size = len(thing) if isinstance(thing, bytes) else 0
        return Node(kind=kinds.get(type(thing), NodeKind.OTHER), size=size, key=key)

    def entries(self, directory: Node) -> Iterator[tuple[str, int]]:
        things = self._thing(directory.key)
        assert isinstance(things, dict)
        for name, thing in things.items():
            self._things.append(thing)
            yield name, len(self._things) - 1

    def read(self, file: Node, offset: int, length: int) -> bytes:
        data = self._thing(file.key)
        assert isinstance(data, bytes)
        return data[offset : offset + length]

    def target(self, link: Node) -> str:
        target = self._thing(link.key)
        assert isinstance(target, str)
        return target


def tree() -> Tree:
    root = Memory(
        {
            "etc": {"hostname": b"web\n", "up": "../../../etc/hostname", "null": 7},
            "lib": "usr/lib",
            "usr": {"lib": {"old": b"hidden by the mount"}},
            "boot": {"efi": {}},
            "loop": "loop",
            "long": "x/" * 3000,
            "both": "boot/efi/EFI",
        },
        name="root",
    )
    made = Tree(root)
    made.mount("/usr", Memory({"lib": {"os": b"12\n"}, "out": "/etc/hostname", "above": "../etc"}, name="usr"))
    made.mount("/boot/efi", Memory({"EFI": {"Debian": {"GRUB.cfg": b"cfg"}}}, type="vfat", name="esp"))
    return made


def test_mounts_hide_what_is_below_them() -> None:
    assert tree().names("/usr/lib") == ["os"]
    assert tree().names("/boot/efi") == ["EFI"]
    assert set(tree().mounts) == {"/", "/usr", "/boot/efi"}


def test_links_cross_mount_points() -> None:
    made = tree()
    assert made.text("/lib/os") == "12\n"
    assert made.text("/usr/out") == "web\n"
    assert made.names("/usr/above") == ["hostname", "null", "up"]
    assert made.names("/both") == ["Debian"]
    place = made.find("/lib/os")
    assert place is not None
    assert (place.path, place.file_system.name) == ("/usr/lib/os", "usr")


def test_the_root_has_nothing_above_it() -> None:
    assert tree().text("/etc/up") == "web\n"
    assert tree().text("/../../etc/./hostname") == "web\n"


def test_fat_finds_names_in_every_case() -> None:
    assert tree().text("/boot/efi/efi/DEBIAN/grub.CFG") == "cfg"
    assert tree().text("/ETC/hostname") is None


def test_what_is_no_file_is_none() -> None:
    made = tree()
    assert made.file("/etc") is None
    assert made.file("/etc/null") is None
    assert made.text("/etc/hostname/below") is None
    assert made.names("/etc/hostname") == []
    assert made.find("/long") is None


def test_only_so_much_of_a_text_is_read() -> None:
    assert tree().text("/etc/hostname", most=2) == "we"


def test_circles_are_found() -> None:
    with pytest.raises(ImageFormatError, match="root: /loop leads through more than 40 symbolic links"):
        tree().find("/loop")
