"""qemu-img for what Sealift does not convert itself: from a local file into a local file.

An image can name other files: a backing file, extents, a data file. qemu-img would open them, whoever made the image.
So images that do are refused here, and the format is always said, never guessed by qemu-img from how the image begins.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sealift.images import qcow2, vmdk
from sealift.images.convert.errors import QemuImgError
from sealift.images.convert.formats import TargetFormat
from sealift.images.source import FileSource
from sealift.images.virtual_disk import ImageKind

INSTALL: Final = "apt-get install --no-install-recommends qemu-utils"

_SOURCES: Final[Mapping[ImageKind, str]] = {
    ImageKind.VHD: "vpc",
    ImageKind.VHD_FIXED: "vpc",
    ImageKind.VMDK: "vmdk",
    ImageKind.VMDK_SPARSE: "vmdk",
    ImageKind.VMDK_DESCRIPTOR: "vmdk",
    ImageKind.QCOW2: "qcow2",
    ImageKind.VHDX: "vhdx",
    ImageKind.VDI: "vdi",
    ImageKind.RAW: "raw",
}
_TARGETS: Final[Mapping[TargetFormat, tuple[str, ...]]] = {
    TargetFormat.VHD: ("-O", "vpc", "-o", "subformat=dynamic,force_size=on"),
    TargetFormat.VHD_FIXED: ("-O", "vpc", "-o", "subformat=fixed,force_size=on"),
    TargetFormat.VMDK: ("-O", "vmdk", "-o", "subformat=streamOptimized"),
    TargetFormat.VMDK_SPARSE: ("-O", "vmdk", "-o", "subformat=monolithicSparse"),
    TargetFormat.QCOW2: ("-O", "qcow2", "-c"),
    TargetFormat.QCOW2_PLAIN: ("-O", "qcow2"),
    TargetFormat.RAW: ("-O", "raw"),
    TargetFormat.VHDX: ("-O", "vhdx"),
    TargetFormat.VDI: ("-O", "vdi"),
}
_PERCENT: Final = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")
_EXTENT: Final = re.compile(r'^(?:RW|RDONLY|NOACCESS)\s+\d+\s+\S+\s+"([^"]*)"')
_ERRORS_AT_MOST: Final = 4000


@dataclasses.dataclass(frozen=True, kw_only=True)
class QemuConverted:
    """What qemu-img wrote.

    :param path: the file.
    :param size: its bytes.
    """

    path: Path
    size: int


class QemuImg:
    """Runs qemu-img.

    :param program: the program; None to look for it.
    :raises QemuImgError: it is not installed.
    """

    def __init__(self, program: str | None = None) -> None:
        found = shutil.which(program or "qemu-img")
        if found is None:
            raise QemuImgError(
                f"{program or 'qemu-img'} is not installed, and this conversion needs it. On Debian and Ubuntu: "
                f"{INSTALL}"
            )
        self._program = found

    def convert(
        self,
        *,
        source: Path,
        kind: ImageKind,
        target: Path,
        into: TargetFormat,
        progress: Callable[[float], None] | None = None,
    ) -> QemuConverted:
        """Convert a file. The target gets its name once it is whole.

        :param source: the image.
        :param kind: what it is.
        :param target: the file to make; one that is there is replaced.
        :param into: its format.
        :param progress: told how much is done, from 0 to 1; what it raises ends the conversion.
        :returns: the file.
        :raises QemuImgError: qemu-img failed, in its own words; or the image names other files.
        """
        refuse_other_files(source, kind)
        unfinished = target.with_name(f"{target.name}.part")
        command = ["convert", "-p", "-f", _SOURCES[kind], *_TARGETS[into], _plain(source), _plain(unfinished)]
        try:
            self._run(command, progress=progress)
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, target)
        except OSError as error:
            raise QemuImgError(f"{unfinished} cannot be written: {error.strerror or error}.") from error
        finally:
            unfinished.unlink(missing_ok=True)
        return QemuConverted(path=target, size=target.stat().st_size)

    def same(self, one: Path, kind: ImageKind, other: Path, other_kind: ImageKind) -> bool:
        """Compare the disks in two images; zeros that only one of them has at its end do not matter.

        :param one: an image.
        :param kind: what it is.
        :param other: an image.
        :param other_kind: what that is.
        :returns: whether qemu-img finds them identical.
        :raises QemuImgError: one of them cannot be read.
        """
        for path, its_kind in ((one, kind), (other, other_kind)):
            refuse_other_files(path, its_kind)
        command = ["compare", "-f", _SOURCES[kind], "-F", _SOURCES[other_kind], _plain(one), _plain(other)]
        return self._run(command, accepted=(0, 1)) == 0

    def _run(
        self,
        arguments: Sequence[str],
        *,
        accepted: Sequence[int] = (0,),
        progress: Callable[[float], None] | None = None,
    ) -> int:
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "LC_ALL": "C"},
            )
            assert process.stdout is not None
            with process, process.stdout as output:
                try:
                    last = b""
                    while piece := os.read(output.fileno(), 4096):
                        last = (last + piece)[-64:]
                        if progress is not None and (told := _PERCENT.findall(last)):
                            progress(float(told[-1]) / 100)
                except BaseException:
                    process.kill()
                    raise
            if process.returncode not in accepted:
                errors.seek(0)
                words = " ".join(errors.read(_ERRORS_AT_MOST).decode("utf-8", "replace").split())
                raise QemuImgError(
                    f"qemu-img {arguments[0]} failed with status {process.returncode}: {words or 'it said nothing'}"
                )
            return process.returncode


def refuse_other_files(path: Path, kind: ImageKind) -> None:
    """Refuse an image that leads qemu-img to files other than itself and its neighbours.

    :param path: the image.
    :param kind: what it is.
    :raises QemuImgError: it names a backing file, a data file, a parent, or an extent in another folder.
    """
    if kind is ImageKind.QCOW2:
        with FileSource(path) as source:
            header = qcow2.Header.unpack(source.read(0, min(104, source.size)).ljust(104, b"\0"))
        if header.backing_at or (header.version >= 3 and header.incompatible & qcow2.EXTERNAL_DATA):
            raise QemuImgError(
                f"{path} names another file that its disk lies in. Only images that are whole are converted."
            )
    elif kind in (ImageKind.VMDK, ImageKind.VMDK_SPARSE, ImageKind.VMDK_DESCRIPTOR):
        for name in _names_in_vmdk(path, kind):
            if name != Path(name).name or name in ("", ".", ".."):
                raise QemuImgError(f"{path} names the file {name!r}, which does not lie beside it.")


def _names_in_vmdk(path: Path, kind: ImageKind) -> list[str]:
    with FileSource(path) as source:
        if kind is ImageKind.VMDK_DESCRIPTOR:
            data = source.read(0, min(source.size, vmdk.LARGEST_DESCRIPTOR))
        else:
            header = vmdk.SparseHeader.unpack(source.read(0, min(vmdk.SECTOR, source.size)).ljust(vmdk.SECTOR, b"\0"))
            at = min(header.descriptor_at * vmdk.SECTOR, source.size)
            length = min(header.descriptor_size * vmdk.SECTOR, vmdk.LARGEST_DESCRIPTOR, source.size - at)
            data = source.read(at, length)
    if vmdk.parse_descriptor(data).get("parentCID", vmdk.NO_PARENT).lower() != vmdk.NO_PARENT:
        raise QemuImgError(f"{path} names a parent. Only images that are whole are converted.")
    text = data.split(b"\0", 1)[0].decode("utf-8", "replace")
    if kind is not ImageKind.VMDK_DESCRIPTOR:  # of a single file, QEMU does not open what the descriptor names
        return []
    return [match[1] for line in text.splitlines() if (match := _EXTENT.match(line.strip()))]


def _plain(path: Path) -> str:
    """Give a path that QEMU takes for nothing but a path: it reads ``nbd:…`` and ``json:…`` as something else."""
    return str(path.absolute())
