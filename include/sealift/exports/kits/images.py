"""Which image of a disk a target takes, and the script that makes it where there is none yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sealift.exports.kits.models import ConvertedImage, KitError
from sealift.exports.kits.server import Disk, Server, is_key
from sealift.exports.kits.text import lines, shell, up

MIB: Final = 1024 * 1024

VHD: Final = ("vhd-dynamic", "vhd-fixed")
VHD_MAX: Final = 2040 * 2**30
"""Largest disk in a VHD: the format's tables hold no more (VHD specification 1.0; qemu refuses 2041 GiB)."""

_EXTENSIONS: Final = {
    "vhd-dynamic": "vhd",
    "vhd-fixed": "fixed.vhd",
    "vmdk-stream": "vmdk",
    "vmdk-sparse": "vmdk",
    "qcow2": "qcow2",
    "raw": "raw",
}
_DRIVERS: Final = {
    "vhd-dynamic": "driver=vpc,force_size_calc=current_size",
    "vhd-fixed": "driver=vpc,force_size_calc=current_size",
    "vmdk-stream": "driver=vmdk",
    "vmdk-sparse": "driver=vmdk",
    "qcow2": "driver=qcow2",
    "raw": "driver=raw",
}
"""How qemu is told what to read. A fixed VHD would pass for a raw disk (its footer is at its end), and the size of one
by some makers would be rounded to whole cylinders: block/vpc.c of qemu."""

_OUTPUTS: Final = {
    "qcow2": "-O qcow2",
    "raw": "-O raw",
    "vhd-dynamic": "-O vpc -o subformat=dynamic,force_size=on",
    "vhd-fixed": "-O vpc -o subformat=fixed,force_size=on",
    "vmdk-stream": "-O vmdk -o subformat=streamOptimized,adapter_type=lsilogic",
}
"""``force_size`` keeps the size as it is; without it qemu rounds it to whole cylinders, which targets refuse."""


@dataclass(frozen=True, kw_only=True)
class KitImage:
    """The image of a disk that a kit works with.

    :param disk: the disk.
    :param format: the image's format.
    :param file: its name in the folder of a delivery.
    :param virtual_size: bytes of the disk in it.
    :param key: its key in the bucket, or None where ``convert.sh`` makes it.
    :param size: bytes of the file, where there is one.
    :param sha256: of the file, where it was read.
    """

    disk: Disk
    format: str
    file: str
    virtual_size: int
    key: str | None
    size: int | None = None
    sha256: str | None = None

    @property
    def there(self) -> bool:
        """It exists; otherwise it is to be made."""
        return self.key is not None


def choose(
    server: Server,
    converted: Sequence[ConvertedImage],
    wanted: Sequence[str],
    *,
    align: int = 1,
) -> list[KitImage]:
    """Choose an image for each disk.

    :param server: the server.
    :param converted: images in other formats.
    :param wanted: the formats that the target takes, the best first; one that is missing is made in the first of them.
    :param align: a virtual size must be whole multiples of so many bytes.
    :returns: one image for each disk, in the order of the disks: that of the boot disk first.
    """
    return [_choose(disk, converted, wanted, align) for disk in server.disks]


def _choose(disk: Disk, converted: Sequence[ConvertedImage], wanted: Sequence[str], align: int) -> KitImage:
    for format_ in wanted:
        for one in converted:
            if (one.of_device, one.format) == (disk.device, format_) and one.virtual_size % align == 0:
                return KitImage(
                    disk=disk,
                    format=format_,
                    file=one.key.rpartition("/")[2],
                    virtual_size=one.virtual_size,
                    key=one.key,
                    size=one.size,
                    sha256=one.sha256,
                )
        if disk.format == format_ and disk.virtual_size % align == 0:
            return KitImage(
                disk=disk,
                format=format_,
                file=disk.file,
                virtual_size=disk.virtual_size,
                key=disk.key,
                size=disk.size,
                sha256=disk.sha256,
            )
    stem, extension = disk.file.partition(".")[0], _EXTENSIONS[wanted[0]]
    file = f"{stem}.{extension}"
    return KitImage(
        disk=disk,
        format=wanted[0],
        file=file if file != disk.file else f"{stem}.converted.{extension}",
        virtual_size=up(disk.virtual_size, align) * align,
        key=None,
    )


def check_converted(server: Server, converted: Sequence[ConvertedImage]) -> None:
    """Refuse converted images that cannot be what they are said to be.

    :param server: the server.
    :param converted: images in other formats.
    :raises KitError: one is of no disk of the export, holds a smaller disk, or has a key that Sealift does not write.
    """
    disks = {disk.device: disk for disk in server.disks}
    for one in converted:
        disk = disks.get(one.of_device)
        if disk is None or not is_key(one.key) or one.virtual_size < disk.virtual_size:
            raise KitError(
                f"An image that was converted to {one.format} is not of this export: device {one.of_device!r} with "
                f"{one.virtual_size} bytes at {one.key!r}. Convert the exported disk again."
            )


def conversion(server: Server, images: Sequence[KitImage]) -> dict[str, bytes]:
    """Write the script that makes the images that are missing.

    :param server: the server.
    :param images: see :func:`choose`.
    :returns: ``convert.sh``, or nothing where no image is missing.
    """
    missing = [image for image in images if not image.there]
    if not missing:
        return {}
    steps = [line for image in missing for line in _step(image)]
    return {
        "convert.sh": lines(
            *script_head(f"Makes the images of {server.title} that this target needs.", "qemu-img", folder=True),
            _CONVERT,
            *steps,
        )
    }


def qemu_source(disk: Disk) -> str:
    """Say how qemu opens an exported image, for `--image-opts`.

    :param disk: the disk.
    :returns: options, with the file's name as in a delivery.
    """
    return f"{_DRIVERS[disk.format]},file.driver=file,file.filename={disk.file}"


def script_head(about: str, *tools: str, folder: bool = False) -> list[str]:
    """Begin a script.

    :param about: what it does; one line of printable characters.
    :param tools: programs that it needs.
    :param folder: it works on the disks' files, in the folder ``$images``.
    :returns: its first lines.
    """
    return [
        "#!/usr/bin/env bash",
        f"# {about}",
        "# Written by Sealift. It holds no secrets: log in with the target's own command line first. See README.md.",
        "set -euo pipefail",
        "",
        *(_NEEDS.format(tool=tool) for tool in tools),
        *(_FOLDER if folder else ()),
        "",
    ]


_NEEDS: Final = "command -v {tool} >/dev/null || {{ echo '{tool} is not installed: see README.md.' >&2; exit 69; }}"

_FOLDER: Final = (
    'here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"',
    "# The folder with the disks, as `sealift download` makes it; the kit lies two folders below it.",
    'images="${IMAGES:-$(cd -- "$here/../.." && pwd)}"',
)

_CONVERT: Final = """\
# Each file gets its name when it is whole and was compared with the exported image, byte by byte.
# qemu reads a comma as the end of a file's name, unless it is doubled.
folder="${images//,/,,}"

convert() {
  local from="$1" source="$2" to="$3" target="$4"
  shift 4
  if [ -e "$images/$target" ]; then
    echo "$target is there already; delete it to have it made again."
    return
  fi
  rm -f -- "$images/$target.part"
  qemu-img convert -p --image-opts "$@" "$from,file.driver=file,file.filename=$folder/$source" "$images/$target.part"
  qemu-img compare --image-opts \\
    "$from,file.driver=file,file.filename=$folder/$source" "$to,file.driver=file,file.filename=$folder/$target.part"
  mv -- "$images/$target.part" "$images/$target"
  (cd -- "$images" && sha256sum -- "$target")
}
"""


def _step(image: KitImage) -> list[str]:
    source, read, write = image.disk, _DRIVERS[image.disk.format], _OUTPUTS[image.format]
    to = _DRIVERS[image.format]
    if image.virtual_size == source.virtual_size:
        return [f"convert {shell(read)} {shell(source.file)} {shell(to)} {shell(image.file)} {write}"]
    raw = f"{image.file}.raw"
    return [
        f"# The disk has {source.virtual_size} bytes; the target takes whole MiB, which makes {image.virtual_size}.",
        f'if [ ! -e "$images"/{shell(image.file)} ]; then',
        f"  convert {shell(read)} {shell(source.file)} {shell(_DRIVERS['raw'])} {shell(raw)} {_OUTPUTS['raw']}",
        f'  truncate --size={image.virtual_size} -- "$images"/{shell(raw)}',
        f"  convert {shell(_DRIVERS['raw'])} {shell(raw)} {shell(to)} {shell(image.file)} {write}",
        f'  rm -f -- "$images"/{shell(raw)}',
        "fi",
    ]
