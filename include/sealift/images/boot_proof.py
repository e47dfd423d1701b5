"""The proof that an image starts, level L4: it is started in an emulated machine until it asks for a login.

Servers mostly show their login prompt on a screen that a program cannot read. So there are two tries, and the proof
says what each of them showed:

1. **As it is**: firmware, boot loader, kernel. Watched are the serial console, the screen while it is in text mode, and
   whether a processor executes kernel code. Ends at a login prompt, at words that a server says when it cannot start,
   or when its time is over.
2. **With its kernel handed over**: the kernel and initial RAM disk that the boot loader would take, started by QEMU
   with the same command line and ``console=ttyS0``, on which systemd and others then offer a login. It is made where
   the first try did not get to a login.

A login in the first try proves the server: boot loader, kernel, root file system. A login in the second proves the
kernel and the root file system, and nothing of the boot loader; :attr:`BootProof.proves` and the checks say which it
was, and what was seen of the boot loader. Where the boot loader itself said that it cannot go on, the image is not
proven, whatever the second try shows. What neither sees: whether the services that the server is for come up, and
anything that needs a network, which the machine does not have.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from sealift.images.emulator import Bus, DirectKernel, Emulator, EmulatorError, Firmware, Machine
from sealift.images.kept_pages import KeptPages
from sealift.images.nbd import NbdServer
from sealift.images.source import ImageFormatError, RangeSource, ShortReadError
from sealift.images.verdict import Check, Checks, ProofLevel

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the machine."""

SECONDS: Final = 300.0
"""A try that shows no login after so long has not got there; emulation is ten to twenty times slower than a server."""

_TAIL: Final = 4000
_LOGIN: Final = re.compile(rb"(?:^|[\r\n])[^\r\n]{0,80}\blogin: ?(?:\x1b\[[0-9;?]*[a-zA-Z])*$", re.IGNORECASE)
_LOGIN_ON_SCREEN: Final = re.compile(r"\S+ login:\s*$", re.MULTILINE)
_BEFORE_THE_KERNEL: Final = (
    (b"No bootable device", "the firmware found nothing to start from"),
    (b"grub rescue>", "the boot loader did not find its files"),
    (b"GRUB Error", "the boot loader gave up"),
    (b"error: no such device", "the boot loader did not find the file system that it needs"),
    (b"you need to load the kernel first", "the boot loader could not load the kernel"),
)
_CANNOT_START: Final = (
    *_BEFORE_THE_KERNEL,
    (b"Kernel panic", "the kernel panicked"),
    (b"Entering emergency mode", "the initial RAM disk, or systemd, gave up"),
    (b"You are in emergency mode", "systemd gave up"),
    (b"dracut:/#", "the initial RAM disk did not find the root file system"),
    (b"(initramfs)", "the initial RAM disk did not find the root file system"),
    (b"ALERT!", "the initial RAM disk did not find the root file system"),
    (b"Give root password for maintenance", "systemd gave up"),
)


_Seen = TypeVar("_Seen")
_SAID_BEFORE_THE_KERNEL: Final = tuple(words for _, words in _BEFORE_THE_KERNEL)

How = Literal["boot loader", "kernel"]


class Try(BaseModel):
    """One start of the machine.

    :param how: ``boot loader``, or ``kernel`` where that was handed over by QEMU.
    :param bus: how the disks were attached.
    :param login: a login prompt showed.
    :param kernel: a processor was seen executing kernel code.
    :param said: why the server cannot start, where it said so.
    :param seconds: from switching on to the end of the try.
    :param serial: the end of what it wrote to its serial console.
    :param screenshot: file of what it showed at the end.
    """

    model_config = ConfigDict(frozen=True)

    how: How
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
    proves: Literal["the server", "its kernel and root file system"]
    """What the login is a proof of: with a kernel that was handed over, nothing of the boot loader."""
    tries: list[Try]
    checks: list[Check]


def prove_boot(
    disks: Sequence[RangeSource],
    *,
    folder: Path,
    buses: Sequence[Bus] = ("virtio", "ide"),
    firmware: Firmware = "bios",
    direct: Callable[[Path], DirectKernel | None] | None = None,
    loader_needed: bool = True,
    seconds: float = SECONDS,
    memory_mib: int = 1024,
    told: Callable[[str], None] | None = None,
) -> BootProof:
    """Start a server's disks in an emulated machine.

    :param disks: the virtual disks, the one that the server starts from first. Nothing is written to them.
    :param folder: a folder of its own, for screenshots, which stay, and for what the machine writes meanwhile.
    :param buses: how to attach the disks; the next is tried where a kernel ran but did not get to a login.
    :param firmware: what starts the boot loader.
    :param direct: writes the kernel that the boot loader would take, and its initial RAM disk, into a folder, as
        :func:`sealift.images.content.handover.take_kernel` does; returns None where there is none. It is called where
        the first kind of try showed no login, and what it wrote is removed. Not given: no second kind of try.
    :param loader_needed: the image is to start by its own boot loader. False where it has none, because the platform
        reads GRUB's configuration itself: that the firmware finds nothing to start from is no failure then.
    :param seconds: how long each try may take.
    :param memory_mib: the machine's memory.
    :param told: told in words how it goes on.
    :returns: the proof.
    :raises ProofFailed: it did not get to a login, with what it said.
    :raises EmulatorError: the machine could not be started at all.
    """
    tries = _Tries([KeptPages(disk) for disk in disks], folder, seconds, told or (lambda _words: None))
    machine = Machine(disks=(), firmware=firmware, memory_mib=memory_mib)
    for bus in buses:
        # Without any kernel another bus changes nothing that the boot loader reads by the firmware.
        if not tries.good and (not tries.made or tries.made[-1].kernel):
            tries.make(replace(machine, bus=bus))
    no_kernel = ""
    if not tries.good and direct is not None:
        with TemporaryDirectory(prefix="sealift-kernel-") as place:
            try:
                kernel = direct(Path(place))
            except (ImageFormatError, ShortReadError) as error:
                kernel, no_kernel = None, f"no kernel could be handed over: {error}"
            for bus in buses if kernel is not None else ():
                if not tries.good:
                    tries.make(replace(machine, bus=bus, direct=kernel))
    return _judge(tries.made, no_kernel=no_kernel, loader_needed=loader_needed)


def _judge(tries: Sequence[Try], *, no_kernel: str, loader_needed: bool) -> BootProof:
    checks = Checks()
    last = tries[-1]
    good = last.login and not last.said
    for made in tries[:-1]:
        checks.record(f"boot.{made.how.replace(' ', '_')}.{made.bus}", True, in_words(made))
    words = in_words(last) + (f"; {no_kernel}" if no_kernel else "")
    if last.how == "boot loader":
        checks.record("boot.login", good, words)
        checks.raise_if_failed()
        return BootProof(proves="the server", tries=list(tries), checks=list(checks.made))
    by_loader = [made for made in tries if made.how == "boot loader"]
    ran = any(made.kernel for made in by_loader)
    said = next((made.said for made in by_loader if made.said in _SAID_BEFORE_THE_KERNEL), "")
    if ran:
        checks.record("boot.loader", True, "the boot loader started a kernel, as far as could be seen")
    elif said and loader_needed:
        checks.record("boot.loader", False, f"the server does not start by itself: {said}")
    elif said:
        checks.record("boot.loader", True, f"there is no boot loader to prove: {said}")
    else:
        checks.record("boot.loader", True, "nothing was seen of the boot loader: it is not proven")
    if good:
        words += ", which proves the kernel and the root file system, but not the boot loader"
    checks.record("boot.login", good, words)
    checks.raise_if_failed()
    return BootProof(proves="its kernel and root file system", tries=list(tries), checks=list(checks.made))


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


class _Tries:
    """Makes tries, and keeps what they showed."""

    def __init__(self, disks: Sequence[RangeSource], folder: Path, seconds: float, told: Callable[[str], None]) -> None:
        self._disks = disks
        self._folder = folder
        self._seconds = seconds
        self._told = told
        self.made: list[Try] = []

    @property
    def good(self) -> bool:
        """Whether the last one got to a login."""
        return bool(self.made) and self.made[-1].login and not self.made[-1].said

    def make(self, machine: Machine) -> None:
        """Start a machine and watch it.

        :param machine: which; its disks are put in.
        :raises EmulatorError: it could not be started, or a disk not be read.
        """
        how: How = "boot loader" if machine.direct is None else "kernel"
        folder = self._folder / f"try-{len(self.made) + 1}"
        folder.mkdir(parents=True)
        screenshot: Path | None = None
        broken: list[Exception] = []
        with ExitStack() as stack:
            # A folder of its own with a short name: a socket's path may have 107 characters.
            work = Path(stack.enter_context(TemporaryDirectory(prefix="sealift-boot-")))
            paths = [work / f"disk-{number}" for number in range(len(self._disks))]
            for disk, path in zip(self._disks, paths, strict=True):
                stack.enter_context(NbdServer(disk=disk, path=path, failed=broken.append))
            running = stack.enter_context(Emulator(machine=replace(machine, disks=paths), folder=work))
            self._told(f"started ({how}, {machine.bus})")
            began = time.monotonic()
            watched = _watch(running, until=began + self._seconds)
            taken = time.monotonic() - began
            if running.running:
                screenshot = folder / "screen.png"
                _while_it_runs(running, partial(running.screenshot, screenshot))
                screenshot = screenshot if screenshot.exists() else None
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
        self._told(in_words(made))
        self.made.append(made)


class _Watched:
    def __init__(self) -> None:
        self.login = self.kernel = False
        self.said = ""


def _watch(running: Emulator, *, until: float) -> _Watched:
    seen = _Watched()
    while True:
        screen = _while_it_runs(running, running.text_screen) or ""
        if not seen.kernel:
            seen.kernel = bool(_while_it_runs(running, running.in_kernel))
        alive = running.running
        serial = running.serial  # after the rest: what a machine said last is there when it is gone
        shown = serial[-_TAIL:] + b"\n" + screen.encode()
        seen.said = next((words for mark, words in _CANNOT_START if mark in shown), "")
        seen.login = bool(_LOGIN.search(serial[-_TAIL:]) or _LOGIN_ON_SCREEN.search(screen))
        if not alive and not seen.said and not seen.login:
            seen.said = "the machine switched itself off, or started again"
        if seen.said or seen.login or time.monotonic() >= until:
            return seen
        time.sleep(LOOK_EVERY)


def _while_it_runs(running: Emulator, look: Callable[[], _Seen]) -> _Seen | None:
    """Look at a machine; None where it has ended, also while it was looked at."""
    try:
        return look() if running.running else None
    except EmulatorError:
        if running.running:
            raise
        return None
