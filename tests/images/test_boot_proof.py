"""Level L4 over real machines that QEMU emulates: what is on the serial console or the screen decides, and is kept."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sealift.images import emulator
from sealift.images.boot_proof import BootProof, prove_boot
from sealift.images.content.handover import take_kernel
from sealift.images.emulator import EmulatorError, Machine
from sealift.images.source import BytesSource, FileSource, ShortReadError
from sealift.images.verdict import ProofFailed, ProofLevel
from sealift.images.virtual_disk import open_disk
from tests.images.servers import (
    GRUB,
    ROOT_UUID,
    VERSION,
    kernel,
    make_ext,
    mbr_disk,
    newc,
    server_files,
    write_tree,
)

needs_qemu = pytest.mark.skipif(
    shutil.which(emulator.PROGRAM) is None, reason=f"{emulator.PROGRAM} is not installed (qemu-system-x86)"
)
MIB = 2**20
_SAYS = bytes.fromhex("31c0 8ed8 be167c baf803 fc ac 84c0 7403 ee ebf8 f4 ebfd")
"""Writes the text behind it to the serial port, byte for byte, then stops the processor."""


def disk(text: str, *, code: bytes = _SAYS, signature: bytes = b"\x55\xaa") -> bytes:
    """A disk whose boot sector is a program of 22 bytes, and the text that it says."""
    assert len(_SAYS) == 22
    sector = (code + text.encode() + b"\0").ljust(446, b"\0")
    entry = struct.pack("<B3xB3xII", 0x80, 0x83, 2048, 2048)
    return (sector + entry).ljust(510, b"\0") + signature + bytes(8 * MIB - 512)


@needs_qemu
def test_a_login_prompt_is_the_proof_and_a_picture_of_it_is_kept(tmp_path: Path) -> None:
    told: list[str] = []
    proof = prove_boot(
        [BytesSource(disk("Debian GNU/Linux 12 web01 ttyS0\r\n\r\nweb01 login: "))],
        folder=tmp_path,
        seconds=60,
        told=told.append,
    )
    assert proof.level is ProofLevel.L4
    assert proof.proves == "the server"
    (only,) = proof.tries
    assert (only.how, only.bus, only.login, only.said) == ("boot loader", "virtio", True, "")
    assert "web01 login:" in only.serial
    assert [check.id for check in proof.checks] == ["boot.login"]
    assert told[0] == "started (boot loader, virtio)"
    assert only.screenshot is not None
    picture = only.screenshot.read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) > 500


@needs_qemu
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs", "the kernel panicked"),
        ("grub rescue> ", "the boot loader did not find its files"),
        ("Gave up waiting for root file system device.\r\n(initramfs) ", "did not find the root file system"),
        ("You are in emergency mode.\r\nweb01 login: ", "systemd gave up"),
    ],
)
def test_what_a_server_says_that_cannot_start_is_believed(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ProofFailed) as failure:
        prove_boot([BytesSource(disk(text))], folder=tmp_path, seconds=60)
    assert failure.value.check_id == "boot.login"
    assert words in failure.value.detail


@needs_qemu
def test_a_disk_without_a_boot_sector_is_named_as_the_firmware_names_it(tmp_path: Path) -> None:
    with pytest.raises(ProofFailed, match="the firmware found nothing to start from"):
        prove_boot([BytesSource(disk("", signature=b"\0\0"))], folder=tmp_path, seconds=60)


@needs_qemu
def test_a_server_that_shows_nothing_is_not_proven_and_time_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(ProofFailed, match="no kernel was seen, and no login prompt showed within 3 s"):
        prove_boot([BytesSource(disk(""))], folder=tmp_path, seconds=3)
    assert [one.name for one in tmp_path.iterdir()] == ["try-1"], "another bus makes no boot loader load more"


@needs_qemu
def test_a_disk_that_cannot_be_read_says_nothing_of_the_image(tmp_path: Path) -> None:
    class Broken(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            raise ShortReadError("the bucket is gone")

    with pytest.raises(EmulatorError, match=r"could not be read while it was started: the bucket is gone"):
        prove_boot([Broken(disk("web01 login: "))], folder=tmp_path, seconds=30)


@needs_qemu
def test_the_guest_changes_nothing(tmp_path: Path) -> None:
    """The boot sector writes itself over the second sector by the firmware, and says so; the image stays."""
    # mov ax,0x0301; mov bx,0x7c00; mov cx,2; mov dx,0x0080; int 13h; then what the others do
    code = bytes.fromhex(
        "31c0 8ed8 8ec0 b80103 bb007c b90200 ba8000 cd13 be267c baf803 fc ac 84c0 7403 ee ebf8 f4 ebfd"
    )
    data = disk("web01 login: ", code=code)
    before = data
    proof = prove_boot([BytesSource(data)], folder=tmp_path, seconds=60)
    assert proof.tries[0].login
    assert data == before


# A kernel that is handed over


def server(folder: Path, code: bytes, *, says: str) -> tuple[bytes, Path]:
    """A server that has a kernel of its own, behind some boot code; and a folder to work in."""
    files = server_files()
    files[f"boot/vmlinuz-{VERSION}"] = kernel(says=says)
    root = make_ext(folder / "root.img", size=12 * MIB, tree=write_tree(folder / "tree", files)).read_bytes()
    work = folder / "work"
    return mbr_disk([(0x83, root)], size=14 * MIB, code=code), work


def boot(data: bytes, work: Path, **more: Any) -> BootProof:
    disks = [BytesSource(data)]
    return prove_boot(
        disks,
        folder=work,
        buses=["virtio"],
        direct=lambda folder: take_kernel(disks, folder=folder),
        **{"seconds": 8, **more},
    )


def silent() -> bytes:
    return (_SAYS + b"GRUB loading.\0").ljust(440, b"\0")


@needs_qemu
def test_a_kernel_is_handed_over_where_the_boot_loader_shows_nothing(tmp_path: Path) -> None:
    data, work = server(tmp_path, silent(), says="\r\nweb01 login: ")
    told: list[str] = []
    proof = boot(data, work, told=told.append)
    first, second = proof.tries
    assert (first.how, first.login, first.said) == ("boot loader", False, "")
    assert (second.how, second.login, second.said) == ("kernel", True, "")
    assert second.serial.startswith(f"root=UUID={ROOT_UUID} ro console=ttyS0,115200n8+"), "with its initramfs"
    assert proof.proves == "its kernel and root file system"
    loader, login = (check for check in proof.checks if check.id in ("boot.loader", "boot.login"))
    assert loader.detail == "nothing was seen of the boot loader: it is not proven"
    assert login.detail.startswith("with its kernel handed over, disks on virtio: a login prompt after")
    assert login.detail.endswith("which proves the kernel and the root file system, but not the boot loader")
    assert told[2:] == ["started (kernel, virtio)", told[-1]]
    assert sorted(str(one.relative_to(work)) for one in work.rglob("*") if one.is_file()) == [
        "try-1/screen.png",
        "try-2/screen.png",
    ], "nothing else stays"


@needs_qemu
def test_a_boot_loader_that_gives_up_is_not_proven_by_the_kernel(tmp_path: Path) -> None:
    code = (_SAYS + b"error: no such device.\r\ngrub rescue> \0").ljust(440, b"\0")
    data, work = server(tmp_path, code, says="\r\nweb01 login: ")
    with pytest.raises(ProofFailed) as failure:
        boot(data, work, seconds=20)
    assert failure.value.check_id == "boot.loader"
    assert "the server does not start by itself: the boot loader did not find its files" in failure.value.detail
    login = next(check for check in failure.value.checks if check.id == "boot.login")
    assert login.passed, "what is left of the server is said: its system starts"


@needs_qemu
def test_a_server_that_needs_no_boot_loader_is_proven_by_its_kernel(tmp_path: Path) -> None:
    data, work = server(tmp_path, b"", says="\r\nweb01 login: ")
    # int 18h: back to the firmware, which looks for another disk to start from
    disks = [BytesSource(bytes.fromhex("cd18") + data[2:])]
    proof = prove_boot(
        disks,
        folder=work,
        buses=["virtio"],
        direct=lambda folder: take_kernel(disks, folder=folder),
        loader_needed=False,
        seconds=20,
    )
    assert "there is no boot loader to prove: the firmware found nothing to start from" in [
        check.detail for check in proof.checks
    ]
    assert proof.proves == "its kernel and root file system"


@needs_qemu
def test_a_handed_over_kernel_that_panics_is_a_failure(tmp_path: Path) -> None:
    data, work = server(tmp_path, silent(), says="\r\nKernel panic - not syncing: VFS")
    with pytest.raises(ProofFailed, match="with its kernel handed over, disks on virtio: the kernel panicked"):
        boot(data, work)


@needs_qemu
def test_where_there_is_no_kernel_the_reason_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProofFailed, match="no kernel could be handed over: no root file system was found that is read"):
        boot(disk("GRUB loading."), tmp_path / "work", seconds=2)


KERNEL_FOLDER = os.environ.get("KERNEL_FOR_TESTS", "")


@needs_qemu
@pytest.mark.skipif(
    not KERNEL_FOLDER,
    reason="KERNEL_FOR_TESTS names no folder with what linux-image-cloud-amd64 and busybox-static hold",
)
@pytest.mark.parametrize("form", ["vpc", "qcow2"])
def test_a_real_linux_mounts_its_root_from_an_image(tmp_path: Path, form: str) -> None:
    """Debian's kernel and initramfs out of the image's file system; the login is written by a file of its root."""
    data = real_server(tmp_path, Path(KERNEL_FOLDER))
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.image"
    raw.write_bytes(data)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, raw, image], check=True, timeout=120)
    with FileSource(image) as source:
        disks = [open_disk(source)]
        proof = prove_boot(
            disks,
            folder=tmp_path / "work",
            buses=["virtio"],
            direct=lambda folder: take_kernel(disks, folder=folder),
            seconds=40,
        )
    assert proof.proves == "its kernel and root file system"
    assert proof.tries[-1].kernel
    assert "from-its-root login:" in proof.tries[-1].serial
    assert raw.read_bytes() == data


def real_server(folder: Path, packages: Path) -> bytes:
    """A server of Debian's kernel and busybox, whose boot loader says nothing."""
    (built,) = (packages / "boot").glob("vmlinuz-*")
    version = built.name.removeprefix("vmlinuz-")
    busybox = (packages / "bin/busybox").read_bytes()
    drivers = packages / "lib/modules" / version / "kernel/drivers"
    modules = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"]
    found = [next(drivers.rglob(f"{name}.ko"), None) for name in [*modules, "virtio_blk"]]
    loaded = [one for one in found if one]
    start = "#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\n"
    start += "".join(f"/bin/busybox insmod /{one.name}\n" for one in loaded)
    start += "/bin/busybox mount -t ext4 -o ro /dev/vda1 /root && exec /bin/busybox switch_root /root /sbin/init\n"
    archive = newc(
        {"init": start.encode(), "bin/busybox": busybox, **{one.name: one.read_bytes() for one in loaded}},
        folders=["bin", "dev", "root"],
    )
    files = server_files(boot=False) | {
        f"boot/vmlinuz-{version}": built.read_bytes(),
        f"boot/initrd.img-{version}": gzip.compress(archive, 1),
        "boot/grub/grub.cfg": GRUB.format(boot=ROOT_UUID, root=ROOT_UUID, version=version, prefix="/boot"),
        "etc/issue": "\r\nfrom-its-root login: ",
        "bin/busybox": busybox,
        "sbin/init": "#!/bin/busybox sh\n/bin/busybox cat /etc/issue\nwhile :; do /bin/busybox sleep 9; done\n",
        "dev/.keep": "",
    }
    tree = write_tree(folder / "tree", files)
    for name in ("bin/busybox", "sbin/init"):
        (tree / name).chmod(0o755)
    root = make_ext(folder / "root.img", size=96 * MIB, tree=tree).read_bytes()
    return mbr_disk([(0x83, root)], size=98 * MIB, code=silent())


def test_without_an_emulator_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulatorError, match="apt-get install qemu-system-x86"):
        prove_boot([BytesSource(disk(""))], folder=tmp_path / "work", seconds=3)


def test_the_command_line_reads_disks_only_and_has_no_network(tmp_path: Path) -> None:
    machine = Machine(disks=(tmp_path / "a,b", tmp_path / "c"), bus="ide")
    words = machine.command("qemu", serial=tmp_path / "serial", control=tmp_path / "control")
    assert "-snapshot" in words
    assert words[words.index("-nic") + 1] == "none"
    assert words[words.index("-accel") + 1] == "tcg"
    drives = [words[at + 1] for at, word in enumerate(words) if word == "-drive"]
    assert [one.partition("server.path=")[2] for one in drives] == [f"{tmp_path}/a,,b", f"{tmp_path}/c"]
    devices = [words[at + 1] for at, word in enumerate(words) if word == "-device"]
    assert devices == ["ide-hd,drive=disk0,bootindex=0", "ide-hd,drive=disk1"]
