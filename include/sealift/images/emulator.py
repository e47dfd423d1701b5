"""QEMU as a machine that an image is started in: its command line, its control socket, what it shows.

The machine has no network, writes nothing to the image (what the guest writes goes to a temporary file that QEMU
deletes), and runs by emulation alone (TCG), so that it needs no rights and no hardware.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

PROGRAM: Final = "qemu-system-x86_64"
APT: Final = "apt-get install qemu-system-x86"
UEFI_APT: Final = "apt-get install ovmf"
UEFI_CODE: Final = (
    Path("/usr/share/OVMF/OVMF_CODE.fd"),
    Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
    Path("/usr/share/edk2/ovmf/OVMF_CODE.fd"),
)

Bus = Literal["virtio", "ide"]
Firmware = Literal["bios", "uefi"]

_LARGEST_REPLY: Final = 4 * 1024 * 1024
_ANSWER_WITHIN: Final = 20.0
"""Seconds in which QEMU answers its control socket; a machine that computes all the time still does."""

_TEXT_SCREEN_AT, _TEXT_SCREEN_SIZE = 0xB8000, 80 * 25 * 2
_KERNEL_HALF: Final = 1 << 63


class EmulatorError(Exception):
    """The machine could not be started, or ended by itself. Says nothing of the image."""


@dataclass(frozen=True, kw_only=True)
class DirectKernel:
    """A kernel that is handed to the machine past the image's boot loader.

    :param kernel: file of the kernel, as the image holds it.
    :param initrd: file of its initial RAM disk; None where it needs none.
    :param command_line: what the kernel is told.
    """

    kernel: Path
    initrd: Path | None
    command_line: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What machine to start.

    :param disks: socket of each disk's NBD server, in their order; the machine starts from the first.
    :param bus: how the disks are attached.
    :param firmware: what starts the boot loader.
    :param memory_mib: the machine's memory.
    :param cpus: how many processors.
    :param direct: a kernel to start instead of what is on the disks.
    """

    disks: Sequence[Path]
    bus: Bus = "virtio"
    firmware: Firmware = "bios"
    memory_mib: int = 1024
    cpus: int = 2
    direct: DirectKernel | None = None

    def command(self, program: str, *, serial: Path, control: Path) -> list[str]:
        """Give the command line.

        :param program: QEMU.
        :param serial: file that gets what the guest writes to its serial console.
        :param control: socket that QEMU is to be controlled by.
        :returns: the words. None of them is secret.
        :raises EmulatorError: there is no UEFI firmware on this machine.
        """
        words = [
            program,
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-snapshot",
            # The processor that QEMU takes by itself is too old for RHEL 9 and what is built like it.
            *("-machine", "pc", "-accel", "tcg", "-cpu", "max"),
            *("-m", str(self.memory_mib), "-smp", str(self.cpus)),
            *("-display", "none", "-vga", "std", "-nic", "none"),
            *("-serial", f"file:{_escaped(serial)}"),
            *("-qmp", f"unix:{_escaped(control)},server=on,wait=off"),
        ]
        if self.firmware == "uefi":
            code = next((one for one in UEFI_CODE if one.exists()), None)
            if code is None:
                raise EmulatorError(f"The image starts by UEFI, for which there is no firmware here: {UEFI_APT}.")
            words += ["-drive", f"if=pflash,format=raw,readonly=on,file={_escaped(code)}"]
        for number, path in enumerate(self.disks):
            drive = f"id=disk{number},if=none,format=raw,file.driver=nbd,file.server.type=unix"
            words += ["-drive", f"{drive},file.server.path={_escaped(path)}"]
            device = "virtio-blk-pci" if self.bus == "virtio" else "ide-hd"
            order = ",bootindex=0" if number == 0 and self.direct is None else ""
            words += ["-device", f"{device},drive=disk{number}{order}"]
        if self.direct is not None:
            words += ["-kernel", str(self.direct.kernel), "-append", self.direct.command_line]
            if self.direct.initrd is not None:
                words += ["-initrd", str(self.direct.initrd)]
        return words


def find_emulator() -> str:
    """Find QEMU.

    :returns: its path.
    :raises EmulatorError: naming the apt line, if it is not installed.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise EmulatorError(f"{PROGRAM} is not installed, without which no image can be started here: {APT}.")
    return found


class Emulator:
    """A machine that runs, until it is closed.

    :param machine: what machine.
    :param folder: an empty folder of its own, for its sockets, its serial console and its temporary files.
    :raises EmulatorError: QEMU is not installed.
    """

    def __init__(self, *, machine: Machine, folder: Path) -> None:
        self._folder = folder
        self._serial = folder / "serial"
        self._control = folder / "control"
        self._errors = folder / "errors"
        self._command = machine.command(find_emulator(), serial=self._serial, control=self._control)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._left = b""

    def __enter__(self) -> Self:
        self._serial.touch()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={"PATH": os.defpath, "TMPDIR": str(self._folder), "LC_ALL": "C"},
                start_new_session=True,
            )
        try:
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the machine at once, as by pulling its plug."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def serial(self) -> bytes:
        """What the guest has written to its serial console so far."""
        return self._serial.read_bytes()

    @property
    def running(self) -> bool:
        """Whether the machine still runs; one that switches itself off, or would start again, does not."""
        return self._process is not None and self._process.poll() is None

    def in_kernel(self) -> bool:
        """Say whether a processor is executing in the upper half of addresses, where 64-bit kernels live."""
        for line in self._monitor("info registers -a").splitlines():
            found = re.search(r"\bRIP=([0-9a-f]{16})\b", line)
            if found and int(found[1], 16) & _KERNEL_HALF:
                return True
        return False

    def screenshot(self, path: Path) -> None:
        """Keep what the machine shows.

        :param path: the PNG file to write.
        """
        self._ask("screendump", {"filename": str(path), "format": "png"})

    def text_screen(self) -> str:
        """Read the screen where it is in text mode; in any other mode what is read means nothing."""
        path = self._folder / "screen"
        self._ask("pmemsave", {"val": _TEXT_SCREEN_AT, "size": _TEXT_SCREEN_SIZE, "filename": str(path)})
        cells = path.read_bytes()[::2]
        lines = [cells[start : start + 80].decode("cp437").replace("\0", " ").rstrip() for start in range(0, 2000, 80)]
        return "\n".join(lines)

    # -- the control socket: a line of JSON for each question, each answer and each event ------------------------------

    def _connect(self) -> None:
        deadline = time.monotonic() + _ANSWER_WITHIN
        while self._socket is None:
            if not self.running:
                raise self._ended()
            if time.monotonic() > deadline:
                raise EmulatorError("QEMU was started but does not open its control socket.")
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            found.settimeout(_ANSWER_WITHIN)
            try:
                found.connect(str(self._control))
            except (FileNotFoundError, ConnectionRefusedError):  # not made yet, or made but nobody listens yet
                found.close()
                time.sleep(0.02)
                continue
            self._socket = found
        self._line()
        self._ask("qmp_capabilities")

    def _ended(self) -> EmulatorError:
        words = self._errors.read_text("utf-8", "replace").strip()[-2000:]
        return EmulatorError(f"QEMU ended by itself: {words or 'it gave no reason'}.")

    def _monitor(self, command: str) -> str:
        return str(self._ask("human-monitor-command", {"command-line": command}))

    def _ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        if self._socket is None:
            raise self._ended()
        told: dict[str, Any] = {"execute": command}
        if arguments:
            told["arguments"] = dict(arguments)
        try:
            self._socket.sendall(json.dumps(told).encode() + b"\n")
            while True:
                answer = self._line()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise EmulatorError(f"QEMU refused {command}: {answer['error'].get('desc', 'no reason given')}.")
        except OSError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self._process is not None:
                    self._process.wait(timeout=1)
            if not self.running:
                raise self._ended() from error
            raise EmulatorError(f"QEMU does not answer {command} ({error}).") from error

    def _line(self) -> dict[str, Any]:
        assert self._socket is not None
        while b"\n" not in self._left:
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionResetError("the control socket was closed")
            self._left += piece
            if len(self._left) > _LARGEST_REPLY:
                raise ConnectionResetError("an answer without end")
        line, self._left = self._left.split(b"\n", 1)
        found = json.loads(line)
        return found if isinstance(found, dict) else {}


def _escaped(path: Path) -> str:
    """QEMU doubles a comma in an option's value to tell it from the one before the next option."""
    return str(path).replace(",", ",,")
