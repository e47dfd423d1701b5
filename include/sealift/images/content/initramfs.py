"""Reads which files an initramfs holds: archives one after the other, the last one compressed.

After the Linux kernel's description (Documentation/driver-api/early-userspace/buffer-format.rst): any number of cpio
archives in the "new ASCII" format, each plain or compressed, with zeros between them. Processors' microcode comes first
and plain; some distributions put modules into a plain one as well. The files of plain archives are skipped unread. A
compressed archive is read to its end, so that the checksums of gzip, bzip2, xz and zstd find damage.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Final, Protocol

from sealift.images.content.decompression import Decompressed, WindowError, name_compression, open_compressed
from sealift.images.source import ImageFormatError

LARGEST_ARCHIVE: Final = 512 * 1024 * 1024
"""Bytes of an initramfs that are read."""
LARGEST_CONTENT: Final = 2 * 1024 * 1024 * 1024
"""Bytes that it may have once it is decompressed."""
MOST_FILES: Final = 200_000
MOST_ARCHIVES: Final = 1000

_HEADER: Final = 110
_MAGICS: Final = (b"070701", b"070702")
_NUMBERS: Final = re.compile(rb"[0-9A-Fa-f]{104}")
_TRAILER: Final = "TRAILER!!!"
_LONGEST_NAME: Final = 4096
_SKIP: Final = 256 * 1024


class ReadableFile(Protocol):
    """A file that can be read at any place: :class:`sealift.images.file_system.Place` is one."""

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from ``offset``; fewer only at the file's end."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Initramfs:
    """What an initramfs holds.

    :param modules: names of kernel modules in it, with underscores.
    :param compression: of the last archive: ``none``, ``gzip`` ….
    :param files: how many files there are in all archives.
    :param unread: why a part was not read; empty if all was.
    """

    modules: frozenset[str]
    compression: str
    files: int
    unread: str = ""


class _Stream(Protocol):
    """Bytes that come one after the other."""

    def take(self, length: int) -> bytes: ...

    def skip(self, length: int) -> None: ...


class _Plain:
    """The file itself as a stream: what is skipped is not read."""

    def __init__(self, file: ReadableFile, at: int, size: int) -> None:
        self._file = file
        self._size = size
        self.at = at

    def take(self, length: int) -> bytes:
        data = self._file.read(self.at, min(length, self._size - self.at))
        self.at += len(data)
        return data

    def skip(self, length: int) -> None:
        if self.at + length > self._size:
            raise ImageFormatError(f"a file in it ends at byte {self.at + length} of {self._size}", offset=self.at)
        self.at += length


def module_name(path: str) -> str:
    """Return the name of a kernel module, as it is when loaded; empty for another file.

    :param path: of the file: ``kernel/drivers/block/virtio_blk.ko.xz``.
    """
    name = path.rsplit("/", 1)[-1]
    for end in (".ko", ".ko.xz", ".ko.zst", ".ko.gz"):
        if name.endswith(end):
            return name.removesuffix(end).replace("-", "_")
    return ""


def read_initramfs(file: ReadableFile, size: int) -> Initramfs:
    """Read which files an initramfs holds.

    :param file: the initramfs.
    :param size: its length in bytes.
    :returns: the modules in it.
    :raises ImageFormatError: it is damaged, so that a kernel could not unpack it.
    """
    if size > LARGEST_ARCHIVE:
        return Initramfs(
            modules=frozenset(), compression="", files=0, unread=f"it has {size} bytes, more than are read"
        )
    modules: set[str] = set()
    count = 0
    has_init = False
    compression = "none"
    at = 0

    def seen(name: str) -> None:
        nonlocal count, has_init
        count += 1
        has_init = has_init or name.removeprefix("./") == "init"
        if count > MOST_FILES:
            raise ImageFormatError(f"it holds more than {MOST_FILES} files", offset=0)
        if module := module_name(name):
            modules.add(module)

    for _ in range(MOST_ARCHIVES):
        at, begins = _next_archive(file, at, size)
        if not begins:
            break
        if begins[:6] in _MAGICS:
            plain = _Plain(file, at, size)
            _read_cpio(plain, seen)
            at = plain.at
            continue
        named = name_compression(begins)
        if not named and compression != "none":
            # A kernel says that it found junk, and goes on with what it has.
            return Initramfs(
                modules=frozenset(modules),
                compression=compression,
                files=count,
                unread=f"at byte {at} it has {begins[:6].hex(' ')}, which begins no archive",
            )
        if not named:
            raise ImageFormatError(
                f"at byte {at} it has {begins[:6].hex(' ')}, which begins neither an archive nor a compressed one",
                offset=at,
            )
        compression = named
        stream = open_compressed(compression, file, at, size, most=LARGEST_CONTENT)
        if stream is None:
            return Initramfs(
                modules=frozenset(modules),
                compression=compression,
                files=count,
                unread=f"it is compressed with {compression}, which Sealift does not read",
            )
        try:
            at = _read_compressed(stream, seen)
        except WindowError as error:
            return Initramfs(modules=frozenset(modules), compression=compression, files=count, unread=str(error))
    else:
        raise ImageFormatError(f"it holds more than {MOST_ARCHIVES} archives", offset=0)
    if not count:
        raise ImageFormatError("it holds no archive", offset=0)
    if not has_init:
        # Microcode alone is what is left where the rest was cut off, or is zeros.
        raise ImageFormatError(f"its {count} files are without init, by which it would start the server", offset=0)
    return Initramfs(modules=frozenset(modules), compression=compression, files=count)


def _next_archive(file: ReadableFile, at: int, size: int) -> tuple[int, bytes]:
    """Return where the next archive begins, and its first bytes; none of them at the end."""
    while at < size:
        data = file.read(at, min(_SKIP, size - at))
        if not data:
            raise ImageFormatError(f"it ends at byte {at} of {size}", offset=at)
        rest = data.lstrip(b"\0")
        if rest:
            at += len(data) - len(rest)
            return at, file.read(at, min(16, size - at))
        at += len(data)
    return size, b""


def _read_compressed(stream: Decompressed, seen: Callable[[str], None]) -> int:
    """Read the archives in a compressed stream to its end, and return where it ends in the file."""
    archives = 0
    while stream.skip_zeros():
        archives += 1
        if archives > MOST_ARCHIVES:
            raise ImageFormatError(f"it holds more than {MOST_ARCHIVES} archives", offset=0)
        _read_cpio(stream, seen)
    return stream.finish()


def _read_cpio(stream: _Stream, seen: Callable[[str], None]) -> None:
    """Read one archive up to its end."""
    while True:
        header = stream.take(_HEADER)
        if len(header) < _HEADER or header[:6] not in _MAGICS:
            raise ImageFormatError(
                f"a header in it begins with {header[:6]!r} and has {len(header)} bytes, expected {_MAGICS[0]!r} and "
                f"{_HEADER}",
                offset=0,
            )
        if not _NUMBERS.fullmatch(header, 6):
            raise ImageFormatError("a header in it has something else than hexadecimal numbers", offset=0)
        fields = [int(header[place : place + 8], 16) for place in range(6, _HEADER, 8)]
        file_size, name_size = fields[6], fields[11]
        if not 0 < name_size <= _LONGEST_NAME:
            raise ImageFormatError(f"a name in it has {name_size} bytes", offset=0)
        padded = name_size + (-(_HEADER + name_size) % 4)
        data = stream.take(padded)
        if len(data) < name_size:
            raise ImageFormatError("it ends in the middle of a name", offset=0)
        name = data[: name_size - 1].decode("utf-8", "backslashreplace")
        if name == _TRAILER:
            return
        seen(name)
        stream.skip(file_size + -file_size % 4)
