"""Checks kernels in /boot: that each is a Linux kernel for x86, whole, and which version it says it is.

After the Linux kernel's description of the boot protocol (Documentation/arch/x86/boot.rst). Numbers are little-endian.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from typing import Final

from sealift.images.content.decompression import WindowError, name_compression, open_compressed
from sealift.images.content.kernel_signature import find_signature, signature_is_for
from sealift.images.file_systems.checksums import raw_crc32
from sealift.images.file_systems.file_system import Place
from sealift.images.source import ImageFormatError

LARGEST_KERNEL: Final = 64 * 1024 * 1024
"""Bytes of a kernel that are read."""
LARGEST_CONTENT: Final = 512 * 1024 * 1024
"""Bytes that it may have once it is decompressed."""
CHUNK: Final = 1024 * 1024

_HEADER_SIZE: Final = 1024
_MAGIC: Final = b"HdrS"
_SECTOR: Final = 512
_LONGEST_VERSION: Final = 256
_ALL: Final = 0xFFFF_FFFF
_SEALED_SINCE, _SEALED_UNTIL = 0x208, "6.15"
"""The boot protocol with which kernels began to end with a checksum, and the version of Linux that ended it."""
_CHECKED: Final = ("gzip", "bzip2", "xz", "zstd")
"""Compressions that kernels are made with and that have checksums of their own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelHeader:
    """What a kernel says of itself. Places are bytes of the file.

    :param version: ``6.1.0-18-amd64``: the first word of what it says.
    :param end: where the file must not end before.
    :param payload_at: where the compressed kernel begins; 0 in old ones, which do not say.
    """

    version: str
    protocol: int
    end: int
    payload_at: int
    payload_size: int


def read_kernel_header(place: Place) -> KernelHeader:
    """Read a kernel's header.

    :param place: the file.
    :raises ImageFormatError: it is no Linux kernel for x86, or the file is shorter than the kernel.
    """
    where = _name(place)
    head = place.read(0, _HEADER_SIZE)
    if len(head) < _HEADER_SIZE or head[0x202:0x206] != _MAGIC or head[0x1FE:0x200] != b"\x55\xaa":
        raise ImageFormatError(
            f"{where} is no Linux kernel: it has {place.node.size} bytes, and {head[0x202:0x206].hex(' ')} at byte 514 "
            f"where {_MAGIC.hex(' ')} (HdrS) is expected",
            offset=0x202,
        )
    sectors = head[0x1F1] or 4
    (units,) = struct.unpack_from("<I", head, 0x1F4)
    (protocol,) = struct.unpack_from("<H", head, 0x206)
    (version_at,) = struct.unpack_from("<H", head, 0x20E)
    start = (sectors + 1) * _SECTOR
    end = start + units * 16
    if end > place.node.size + 15:  # the length is rounded to 16 bytes
        raise ImageFormatError(
            f"{where} has {place.node.size} bytes, but its header says that the kernel has {end}",
            offset=place.node.size,
        )
    version = ""
    if version_at and version_at + _SECTOR < start:
        text = place.read(version_at + _SECTOR, _LONGEST_VERSION).split(b"\0", 1)[0]
        version = text.decode("ascii", "backslashreplace").split(" ", 1)[0]
    payload_at, payload_size = struct.unpack_from("<II", head, 0x248) if protocol >= 0x208 else (0, 0)
    return KernelHeader(
        version=version,
        protocol=protocol,
        end=end,
        payload_at=start + payload_at if payload_at else 0,
        payload_size=payload_size,
    )


def check_kernel_whole(place: Place, header: KernelHeader) -> str:
    """Read a whole kernel and check that nothing in it changed.

    A signed one is compared with its signature. Of others the bytes up to the end that the header names have a CRC-32
    of zero, unless they were made by Linux 6.15 or later. Where neither is there, what is compressed may have a
    checksum.

    :param place: the file.
    :param header: what was read of it.
    :returns: how it is known to be whole, in words; or, after ``unread:``, why it was not read.
    :raises ImageFormatError: it is damaged.
    """
    if header.end > LARGEST_KERNEL:
        return f"unread: it has {header.end} bytes, more than are read"
    signed = find_signature(place.read(0, _HEADER_SIZE), min(place.node.size, LARGEST_KERNEL))
    right = signature_is_for(place, signed) if signed else None
    if right:
        return "its bytes are those that its signature is for"
    if right is False:
        raise ImageFormatError(
            f"{_name(place)} was changed after it was signed: its signature is for other bytes", offset=0
        )
    crc = _ALL
    for at in range(0, header.end, CHUNK):
        crc = raw_crc32(crc, place.read(at, min(CHUNK, header.end - at)))
    if crc == 0 and header.protocol >= _SEALED_SINCE:
        return "its checksum is right"
    if not header.payload_at:
        return "unread: it is too old to say where its compressed part is"
    return _check_payload(place, header, crc)


def _name(place: Place) -> str:
    return f"{place.file_system.name}: {place.path}"


def _check_payload(place: Place, header: KernelHeader, crc: int) -> str:
    """Decompress what is compressed in a kernel.

    :param crc: what its bytes gave in place of 0.
    """
    where, at = _name(place), header.payload_at
    end = at + header.payload_size
    if end > header.end or header.payload_size < 16:
        raise ImageFormatError(
            f"{where}: the compressed kernel reaches from byte {at} to {end}, but the kernel to {header.end}", offset=at
        )
    begins = place.read(at, 16)
    compression = name_compression(begins)
    if not compression:
        raise ImageFormatError(
            f"{where}: the compressed kernel at byte {at} begins with {begins[:6].hex(' ')}, which is no compression "
            "that is known",
            offset=at,
        )
    has_own = header.protocol >= _SEALED_SINCE and version_key(header.version) < version_key(_SEALED_UNTIL)
    if has_own and compression not in _CHECKED:
        raise ImageFormatError(
            f"{where}: its first {header.end} bytes have the checksum {crc:08x}, expected 0, and it is not signed",
            offset=0,
        )
    # The last four bytes say how long the content is; with gzip they are its own.
    body = end if compression == "gzip" else end - 4
    stream = open_compressed(compression, place, at, body, most=LARGEST_CONTENT)
    if stream is None:
        return f"unread: it is compressed with {compression}, which Sealift does not read"
    try:
        stream.finish()
    except WindowError as error:
        return f"unread: {error}"
    except ImageFormatError as error:
        raise ImageFormatError(f"{where}: {error}", offset=error.offset) from None
    (expected,) = struct.unpack("<I", place.read(end - 4, 4))
    if stream.given & _ALL != expected:
        raise ImageFormatError(
            f"{where}: the compressed kernel at byte {at} gives {stream.given} bytes, expected {expected}", offset=at
        )
    return f"its compressed part ({compression}) is whole"


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """Return a key by which versions of kernels sort as people and boot loaders do: numbers as numbers.

    :param version: ``6.1.0-18-amd64``.
    """
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in re.findall(r"\d+|[A-Za-z]+", version))
