"""Boot code and boot menus are understood as their tools write them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sealift.images.content.boot_loader import (
    BootCode,
    Configuration,
    read_boot_code,
    read_configuration,
    second_stage_is_blank,
)
from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.file_system import Tree
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.source import BytesSource
from tests.images.servers import GRUB, MIB, grub_code, make_ext, write_tree

LEGACY = """# grub.conf
default=1
timeout=5
title CentOS (2.6.32-696.el6.x86_64)
\troot (hd0,0)
\tkernel /vmlinuz-2.6.32-696.el6.x86_64 ro root=/dev/xvda2 quiet
\tinitrd /initramfs-2.6.32-696.el6.x86_64.img
title CentOS (2.6.32-642.el6.x86_64)
\troot (hd0,0)
\tkernel /vmlinuz-2.6.32-642.el6.x86_64 ro root=LABEL=root quiet
\tinitrd /initramfs-2.6.32-642.el6.x86_64.img
"""
RHEL = """
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
else
   set default="${saved_entry}"
fi
insmod blscfg
blscfg
"""
EXTLINUX = """DEFAULT one
LABEL one
  LINUX /vmlinuz-lts
  INITRD /initramfs-lts
  APPEND root=UUID=abc modules=ext4
"""


def bls(title: str, version: str) -> str:
    return (
        f"title {title}\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /initramfs-{version}.img $tuned_initrd\n"
        "options root=/dev/mapper/rhel-root ro $kernelopts console=tty0 console=ttyS0,115200\n"
    )


def configuration(tmp_path: Path, files: dict[str, bytes | str]) -> Configuration | None:
    path = make_ext(tmp_path / "fs", size=4 * MIB, tree=write_tree(tmp_path / "tree", files), options=("-b", "1024"))
    disk = CachedDisk(BytesSource(path.read_bytes()), reading=Reading(budget=64 * MIB), name="disk 0")
    return read_configuration(Tree(ExtFileSystem(disk, name="it")))


def test_grub_2(tmp_path: Path) -> None:
    text = GRUB.format(boot="b", root="r", version="6.1", prefix="/boot")
    found = configuration(tmp_path, {"boot/grub/grub.cfg": text, "boot/grub/grubenv": "saved_entry=gone\n"})
    assert found is not None
    assert (found.path, len(found.entries)) == ("/boot/grub/grub.cfg", 2)
    assert [entry.path for entry in found.entries] == [(0,), (1, 0)]
    default = found.default
    assert default is not None
    assert (default.title, default.id, default.kernel) == ("Debian GNU/Linux", "gnulinux-simple-1", "/boot/vmlinuz-6.1")
    assert default.initrds == ("/boot/initrd.img-6.1",)
    assert default.options("root") == ["UUID=r"]
    assert default.options("console") == ["ttyS0"]


@pytest.mark.parametrize(
    ("setting", "environment", "expected"),
    [
        ('set default="1>0"', "", "Debian, with Linux 5.10"),
        ('set default="1"', "", "Debian, with Linux 5.10"),
        ('set default="7"', "", "Debian GNU/Linux"),
        ('set default="Advanced options>Debian, with Linux 5.10"', "", "Debian, with Linux 5.10"),
        ('set default="${saved_entry}"', "saved_entry=Debian, with Linux 5.10\n", "Debian, with Linux 5.10"),
        ('set default="${saved_entry}"', "", "Debian GNU/Linux"),
        ('set default="0"', "saved_entry=Debian, with Linux 5.10\n", "Debian GNU/Linux"),
    ],
)
def test_the_default_of_grub_2(tmp_path: Path, setting: str, environment: str, expected: str) -> None:
    text = GRUB.format(boot="b", root="r", version="6.1", prefix="").replace('set default="0"', setting)
    found = configuration(tmp_path, {"boot/grub/grub.cfg": text, "boot/grub/grubenv": environment})
    assert found is not None
    assert found.default is not None
    assert found.default.title == expected


def test_grub_legacy(tmp_path: Path) -> None:
    found = configuration(tmp_path, {"boot/grub/grub.conf": LEGACY})
    assert found is not None
    assert len(found.entries) == 2
    assert found.default is not None
    assert found.default.kernel == "/vmlinuz-2.6.32-642.el6.x86_64"
    assert found.default.options("root") == ["LABEL=root"]
    assert found.default.initrds == ("/initramfs-2.6.32-642.el6.x86_64.img",)


def test_entries_after_the_boot_loader_specification(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "boot/grub2/grub.cfg": RHEL,
        "boot/grub2/grubenv": "# GRUB Environment Block\nsaved_entry=m-4.18.0-80\nkernelopts=rhgb\n####",
        "boot/loader/entries/m-4.18.0-80.conf": bls("Red Hat 80", "4.18.0-80"),
        "boot/loader/entries/m-4.18.0-553.conf": bls("Red Hat 553", "4.18.0-553"),
    }
    found = configuration(tmp_path, files)
    assert found is not None
    assert [entry.title for entry in found.entries] == ["Red Hat 553", "Red Hat 80"]
    assert found.default is not None
    assert found.default.title == "Red Hat 80"
    assert found.default.initrds == ("/initramfs-4.18.0-80.img",)
    assert found.default.command_line == "root=/dev/mapper/rhel-root ro rhgb console=tty0 console=ttyS0,115200"


def test_without_grub_the_newest_of_the_specification_starts(tmp_path: Path) -> None:
    entries = {f"boot/loader/entries/m-{version}.conf": bls(version, version) for version in ("6.9", "6.10")}
    found = configuration(tmp_path, entries)
    assert found is not None
    assert found.default is not None
    assert (found.path, found.default.title) == ("/boot/loader/entries", "6.10")


def test_extlinux(tmp_path: Path) -> None:
    found = configuration(tmp_path, {"boot/extlinux/extlinux.conf": EXTLINUX})
    assert found is not None
    assert found.default is not None
    assert (found.default.title, found.default.kernel, found.default.initrds) == (
        "one",
        "/vmlinuz-lts",
        ("/initramfs-lts",),
    )
    assert found.default.options("root") == ["UUID=abc"]


def test_nothing(tmp_path: Path) -> None:
    assert configuration(tmp_path, {"etc/hostname": "x"}) is None


def test_a_configuration_without_entries(tmp_path: Path) -> None:
    found = configuration(tmp_path, {"boot/grub/grub.cfg": "set timeout=5\n}\n}\nmenuentry 'a' {\n"})
    assert found is not None
    assert (found.entries, found.default) == ((), None)


def test_boot_code() -> None:
    assert read_boot_code(bytes(512)) == BootCode(kind="none")
    assert read_boot_code(b"\xfa\x33".ljust(512, b"\0")) == BootCode(kind="other")
    assert read_boot_code(grub_code(77).ljust(512, b"\0")) == BootCode(kind="grub", next_sector=77)
    legacy = bytearray(512)
    struct.pack_into("<HI", legacy, 0x42, 0x8000, 1)
    legacy[0x17F:0x183] = b"GRUB"
    assert read_boot_code(bytes(legacy)) == BootCode(kind="grub legacy", next_sector=1)


def test_the_second_stage() -> None:
    disk = bytearray(8192)
    disk[1024] = 1
    cached = CachedDisk(BytesSource(bytes(disk)), reading=Reading(budget=MIB), name="disk 0")
    assert second_stage_is_blank(cached, BootCode(kind="grub", next_sector=1)) is True
    assert second_stage_is_blank(cached, BootCode(kind="grub", next_sector=2)) is False
    assert second_stage_is_blank(cached, BootCode(kind="grub", next_sector=0)) is None
    assert second_stage_is_blank(cached, BootCode(kind="grub", next_sector=99)) is None
