"""The kernel that a boot loader would start is taken out of the disks, with its initramfs and its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealift.images.content.handover import take_kernel
from sealift.images.emulator import DirectKernel
from sealift.images.source import BytesSource, ImageFormatError
from tests.images.content.world import Change, Workshop
from tests.images.server_corpus import KERNEL, KINDS, Server, build, spread_initramfs
from tests.images.servers import ROOT_UUID, VERSION, initramfs, kernel

WORDS = f"root=UUID={ROOT_UUID} ro console=ttyS0,115200n8"


def taken(server: Server | bytes, folder: Path) -> DirectKernel:
    disks = (server,) if isinstance(server, bytes) else server.disks
    return take_kernel([BytesSource(disk) for disk in disks], folder=folder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_of_each_kind_of_server_is_taken(tmp_path: Path, kind: str) -> None:
    (tmp_path / "server").mkdir()
    found = taken(build(kind, tmp_path / "server"), tmp_path)
    assert found.kernel.read_bytes() == kernel()
    assert found.initrd is not None
    assert found.initrd.read_bytes() == spread_initramfs()
    assert found.command_line == WORDS


def change_grub(old: str, new: str) -> Change:
    def change(files: dict[str, bytes | str]) -> None:
        text = files["boot/grub/grub.cfg"]
        assert isinstance(text, str)
        assert old in text
        files["boot/grub/grub.cfg"] = text.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ro quiet console=ttyS0", "ro quiet splash rhgb console=tty0 vga=791 net.ifnames=0", "ro net.ifnames=0"),
        ("ro quiet", "ro rd.luks.key=/k netroot=iscsi:me:word@1.2.3.4::3260 ip=dhcp", "ro"),
        ("ro quiet", 'ro "systemd.unit=multi-user.target" $extra ${more}', "ro systemd.unit=multi-user.target"),
    ],
)
def test_words_that_hide_the_login_or_are_secret_are_left_out(
    workshop: Workshop, tmp_path: Path, old: str, new: str, words: str
) -> None:
    found = taken(workshop.server(change_grub(old, new)), tmp_path)
    assert found.command_line == f"root=UUID={ROOT_UUID} {words} console=ttyS0,115200n8"


def test_a_root_that_only_the_boot_loader_knows_is_named(workshop: Workshop, tmp_path: Path) -> None:
    found = taken(workshop.server(change_grub(f"root=UUID={ROOT_UUID}", "root=$root")), tmp_path)
    assert found.command_line == WORDS
    long = taken(workshop.server(change_grub("quiet", "a=" + "b" * 3000)), tmp_path)
    assert len(long.command_line) <= 2000
    assert long.command_line.endswith("console=ttyS0,115200n8")


def test_several_archives_are_loaded_one_after_the_other(workshop: Workshop, tmp_path: Path) -> None:
    def change(files: dict[str, bytes | str]) -> None:
        change_grub(f"initrd\t/boot/initrd.img-{VERSION}", f"initrd\t/boot/early /boot/initrd.img-{VERSION}")(files)
        files["boot/early"] = b"070701early"

    found = taken(workshop.server(change), tmp_path)
    assert found.initrd is not None
    assert found.initrd.read_bytes() == b"070701early\0" + initramfs()


def test_without_a_configuration_the_newest_kernel_is_taken(workshop: Workshop, tmp_path: Path) -> None:
    def change(files: dict[str, bytes | str]) -> None:
        del files["boot/grub/grub.cfg"]
        files["boot/vmlinuz-5.10.0"] = kernel("5.10.0")

    found = taken(workshop.server(change), tmp_path)
    assert found.kernel.read_bytes() == kernel()
    assert found.initrd is not None
    assert found.initrd.read_bytes() == initramfs()
    assert found.command_line == WORDS


def drop(name: str) -> Change:
    def change(files: dict[str, bytes | str]) -> None:
        del files[name]

    return change


def test_a_kernel_that_is_named_but_not_there_is_replaced_by_another(workshop: Workshop, tmp_path: Path) -> None:
    def change(files: dict[str, bytes | str]) -> None:
        files["boot/vmlinuz-5.10.0"] = kernel("5.10.0")
        del files[KERNEL]

    found = taken(workshop.server(change), tmp_path)
    assert found.kernel.read_bytes() == kernel("5.10.0")
    assert found.initrd is None


def test_what_cannot_be_taken_says_why(workshop: Workshop, tmp_path: Path) -> None:
    for disk, words in (
        (workshop.server(drop(KERNEL)), "no kernel was found"),
        (bytes(2**20), "no root file system was found"),
        (workshop.server(lambda files: files.update({KERNEL: b"\x7fELF" + bytes(5000)})), "is no Linux kernel"),
    ):
        with pytest.raises(ImageFormatError, match=words):
            taken(disk, tmp_path)
