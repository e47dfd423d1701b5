"""The proof that an image starts, level L4: it is started in an emulated machine until it asks for a login.

Servers mostly show their login prompt on a screen that a program cannot read. So there are two tries, and the proof
says what each of them showed:

1. **As it is**: firmware, boot loader, kernel. Watched are the serial console, the screen while it is in text mode, and
   whether a processor executes kernel code. Ends at a login prompt, at words that a server says when it cannot start,
   or when its time is over.
2. **With a serial console**: the kernel and initial RAM disk that the boot loader would take, handed over by QEMU with
   the same command line and ``console=ttyS0``, on which systemd and others then offer a login. This passes over the
   boot loader, and is only made where the first try did not get to a login but ran a kernel, or where there is none.

An image is proven at L4 if a login prompt showed and nothing said that it cannot start. What it cannot see: whether the
services that the server is for come up, and anything that needs a network, which the machine does not have.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from sealift.images.emulator import Bus, DirectKernel, Emulator, EmulatorError, Firmware, Machine
from sealift.images.nbd import NbdServer
from sealift.images.source import RangeSource
from sealift.images.verdict import Check, Checks, ProofLevel

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the machine."""

SECONDS: Final = 300.0
"""A try that shows no login after so long has not got there; emulation is ten to twenty times slower than a server."""

_TAIL: Final = 4000
_LOGIN: Final = re.compile(rb"(?:^|[\r\n])[^\r\n]{0,80}\blogin: ?(?:\x1b\[[0-9;?]*[a-zA-Z])*$", re.IGNORECASE)
_LOGIN_ON_SCREEN: Final = re.compile(r"\S+ login:\s*$", re.MULTILINE)
_CANNOT_START: Final = (
    (b"Kernel panic", "the kernel panicked"),
    (b"No bootable device", "the firmware found nothing to start from"),
    (b"grub rescue>", "the boot loader did not find its files"),
    (b"Entering emergency mode", "the initial RAM disk, or systemd, gave up"),
    (b"You are in emergency mode", "systemd gave up"),
    (b"dracut:/#", "the initial RAM disk did not find the root file system"),
    (b"(initramfs)", "the initial RAM disk did not find the root file system"),
    (b"ALERT!", "the initial RAM disk did not find the root file system"),
    (b"Give root password for maintenance", "systemd gave up"),
)


class Try(BaseModel):
    """One start of the machine.

    :param how: ``boot loader``, or ``kernel`` where QEMU handed it over.
    :param bus: how the disks were attached.
    :param login: a login prompt showed.
    :param kernel: a processor was seen executing kernel code.
    :param said: why the server cannot start, where it said so.
    :param seconds: from switching on to the end of the try.
    :param serial: the end of what it wrote to its serial console.
    :param screenshot: file of what it showed at the end.
    """

    model_config = ConfigDict(frozen=True)

    how: str
    bus: Bus
    login: bool
    kernel: bool
    said: str
    seconds: float
    serial: str
    screenshot: Path | None


class BootProof(BaseModel):
    """What starting an image showed."""

    model_config = ConfigDict(frozen=True)

    level: ProofLevel = ProofLevel.L4
    tries: list[Try]
    checks: list[Check]


def prove_boot(
    disks: Sequence[RangeSource],
    *,
    folder: Path,
    buses: Sequence[Bus] = ("virtio", "ide"),
    firmware: Firmware = "bios",
    direct: Callable[[Path], DirectKernel | None] | None = None,
    seconds: float = SECONDS,
    memory_mib: int = 1024,
    told: Callable[[str], None] | None = None,
) -> BootProof:
    """Start a server's disks in an emulated machine.

    :param disks: the virtual disks, the one that the server starts from first. Nothing is written to them.
    :param folder: a folder of its own, for screenshots, which stay, and for what the machine writes meanwhile.
    :param buses: how to attach the disks; the next is tried where a kernel ran but did not get to a login.
    :param firmware: what starts the boot loader.
    :param direct: writes the kernel that the boot loader would take, and its initial RAM disk, into a folder; returns
        None where there is none. Not given: no second kind of try.
    :param seconds: how long each try may take.
    :param memory_mib: the machine's memory.
    :param told: told in words how it goes on.
    :returns: the proof.
    :raises ProofFailed: it did not get to a login, with what it said.
    :raises EmulatorError: the machine could not be started at all.
    """
    told = told or (lambda _words: None)
    tries: list[Try] = []
    kernel = direct(folder) if direct is not None else None
    ways = [(bus, None) for bus in buses] + ([(bus, kernel) for bus in buses] if kernel is not None else [])
    for bus, handed_over in ways:
        if tries and not (tries[-1].kernel or handed_over is not None):
            continue  # without any kernel another bus changes nothing that the boot loader reads by the firmware
        number = len(tries) + 1
        made = _try(
            disks,
            machine=Machine(disks=(), bus=bus, firmware=firmware, memory_mib=memory_mib, direct=handed_over),
            folder=folder / f"try-{number}",
            seconds=seconds,
            told=told,
        )
        tries.append(made)
        if made.login and not made.said:
            break
    checks = Checks()
    for made in tries[:-1]:
        checks.record(f"boot.{made.how.replace(' ', '_')}.{made.bus}", True, in_words(made))
    last = tries[-1]
    checks.record("boot.login", last.login and not last.said, in_words(last))
    checks.raise_if_failed()
    return BootProof(tries=tries, checks=list(checks.made))


def in_words(made: Try) -> str:
    """Say what a try showed.

    :param made: the try.
    """
    how = "started by its own boot loader" if made.how == "boot loader" else "with its kernel handed over"
    words = f"{how}, disks on {made.bus}: "
    if made.said:
        return f"{words}{made.said} after {made.seconds:.0f} s"
    if made.login:
        return f"{words}a login prompt after {made.seconds:.0f} s"
    kernel = "a kernel ran, but" if made.kernel else "no kernel was seen, and"
    return f"{words}{kernel} no login prompt showed within {made.seconds:.0f} s"


def _try(
    disks: Sequence[RangeSource],
    *,
    machine: Machine,
    folder: Path,
    seconds: float,
    told: Callable[[str], None],
) -> Try:
    folder.mkdir(parents=True)
    broken: list[Exception] = []
    with ExitStack() as stack:
        paths = [folder / f"disk-{number}" for number in range(len(disks))]
        for disk, path in zip(disks, paths, strict=True):
            stack.enter_context(NbdServer(disk=disk, path=path, failed=broken.append))
        running = stack.enter_context(Emulator(machine=replace(machine, disks=paths), folder=folder))
        how = "boot loader" if machine.direct is None else "kernel"
        told(f"started ({how}, {machine.bus})")
        began = time.monotonic()
        watched = _watch(running, until=began + seconds)
        taken = time.monotonic() - began
        screenshot: Path | None = folder / "screen.png"
        if running.running:
            assert screenshot is not None
            running.screenshot(screenshot)
        else:
            screenshot = None
        serial = running.serial
    if broken:
        raise EmulatorError(
            f"The image could not be read while it was started: {broken[0]}. What showed says nothing of the image."
        ) from broken[0]
    made = Try(
        how=how,
        bus=machine.bus,
        login=watched.login,
        kernel=watched.kernel,
        said=watched.said,
        seconds=round(taken, 1),
        serial=serial[-_TAIL:].decode("utf-8", "replace"),
        screenshot=screenshot,
    )
    told(in_words(made))
    return made


class _Watched:
    def __init__(self) -> None:
        self.login = self.kernel = False
        self.said = ""


def _watch(running: Emulator, *, until: float) -> _Watched:
    seen = _Watched()
    while True:
        serial = running.serial
        alive = running.running
        screen = running.text_screen() if alive else ""
        if alive and not seen.kernel:
            seen.kernel = running.in_kernel()
        shown = serial[-_TAIL:] + b"\n" + screen.encode()
        seen.said = next((words for mark, words in _CANNOT_START if mark in shown), "")
        seen.login = bool(_LOGIN.search(serial[-_TAIL:]) or _LOGIN_ON_SCREEN.search(screen))
        if not alive and not seen.said and not seen.login:
            seen.said = "the machine switched itself off, or started again"
        if seen.said or seen.login or time.monotonic() >= until:
            return seen
        time.sleep(LOOK_EVERY)
