"""Level L4 over real machines that QEMU emulates: what is on the serial console or the screen decides, and is kept."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from sealift.images import emulator
from sealift.images.boot_proof import prove_boot
from sealift.images.emulator import EmulatorError, Machine
from sealift.images.source import BytesSource, ShortReadError
from sealift.images.verdict import ProofFailed, ProofLevel

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
