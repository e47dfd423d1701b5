"""An initramfs is read whole, whatever it is compressed with; damage is found, and no bytes make it read for ever."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import shutil
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images.content import initramfs
from sealift.images.content.decompression import name_compression, open_compressed
from sealift.images.content.initramfs import module_name, read_initramfs
from sealift.images.source import ImageFormatError
from tests.images.servers import newc

CHANCE = random.Random(8)
FILES = {
    "init": b"#!/bin/sh\n",
    "usr/lib/modules/6.1/kernel/drivers/block/virtio_blk.ko": CHANCE.randbytes(300_000),
    "usr/lib/modules/6.1/kernel/drivers/net/xen-netfront.ko.zst": b"x" * 1000,
    "usr/lib/modules/6.1/kernel/drivers/nvme/host/nvme.ko.xz": bytes(2_000_000),
    "etc/not-a-module.conf": b"ko",
}
ARCHIVE = newc(FILES)
FOUND = frozenset(("virtio_blk", "xen_netfront", "nvme"))
MICROCODE = newc({"kernel/x86/microcode/AuthenticAMD.bin": CHANCE.randbytes(5000)})


class File:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.given = 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        data = self.data[offset : offset + length]
        self.given += len(data)
        return data


def program(*command: str) -> Callable[[bytes], bytes]:
    def compress(data: bytes) -> bytes:
        path = shutil.which(command[0])
        if path is None:
            pytest.skip(f"{command[0]} is not installed")
        return subprocess.run([path, *command[1:]], input=data, capture_output=True, check=True).stdout

    return compress


def in_frames(data: bytes) -> bytes:
    """Return several frames one after the other, as pzstd makes them."""
    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    return b"".join(pack(data[at : at + 500_000]) for at in range(0, len(data), 500_000))


COMPRESSORS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": ("none", lambda data: data),
    "gzip": ("gzip", gzip.compress),
    "bzip2": ("bzip2", bz2.compress),
    "xz": ("xz", lambda data: lzma.compress(data, check=lzma.CHECK_CRC32)),
    "lzma": ("lzma", lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE)),
    "zstd": ("zstd", zstandard.ZstdCompressor(level=3).compress),
    "zstd with a checksum": ("zstd", zstandard.ZstdCompressor(write_checksum=True).compress),
    "zstd without a length": (
        "zstd",
        zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress,
    ),
    "zstd in frames": ("zstd", in_frames),
    "gzip's program": ("gzip", program("gzip", "-9", "-n")),
    "xz's program": ("xz", program("xz", "--check=crc32", "-2")),
    "lz4's program": ("lz4", program("lz4", "-l", "-9", "-c")),
    "zstd's program": ("zstd", program("zstd", "-q", "-19", "-c")),
}


@pytest.fixture(params=COMPRESSORS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def read(data: bytes) -> initramfs.Initramfs:
    return read_initramfs(File(data), len(data))


@pytest.mark.parametrize("early", [b"", MICROCODE, MICROCODE + bytes(1024), MICROCODE + MICROCODE])
@pytest.mark.parametrize("late", [b"", bytes(3), bytes(1000)])
def test_modules_are_found(way: str, early: bytes, late: bytes) -> None:
    compression, pack = COMPRESSORS[way]
    found = read(early + pack(ARCHIVE) + late)
    assert (found.modules, found.compression, found.unread) == (FOUND, compression, "")
    assert found.files == len(FILES) + (1 if early else 0) + (1 if early == MICROCODE * 2 else 0)


def test_modules_in_a_plain_archive_before_a_compressed_one_are_found() -> None:
    data = MICROCODE + newc({"kernel/drivers/ena.ko.zst": b"e" * 5000}) + gzip.compress(ARCHIVE)
    assert read(data).modules == FOUND | {"ena"}


def test_what_plain_archives_hold_is_not_read() -> None:
    big = newc({"kernel/x86/microcode/GenuineIntel.bin": bytes(8_000_000)}) + gzip.compress(ARCHIVE, 1)
    file = File(big)
    assert read_initramfs(file, len(big)).modules == FOUND
    assert file.given < 2_500_000


def test_a_cut_is_found(way: str) -> None:
    data = MICROCODE + COMPRESSORS[way][1](ARCHIVE)
    for cut in (len(data) - 600, len(data) // 2, len(MICROCODE) + 700, len(MICROCODE) + 2, len(MICROCODE) - 100):
        with pytest.raises(ImageFormatError):
            read(data[:cut])


@pytest.mark.parametrize(
    "way", ["gzip", "bzip2", "xz", "zstd with a checksum", "zstd in frames", "zstd without a length"]
)
def test_every_flipped_bit_is_found_where_there_is_a_checksum(way: str) -> None:
    data = COMPRESSORS[way][1](ARCHIVE)
    chance = random.Random(9)
    # The first bytes say how it is compressed, when and under which name it was made: what is not guarded.
    for _ in range(15):
        damaged = bytearray(data)
        damaged[chance.randrange(24, len(data))] ^= 1 << chance.randrange(8)
        with pytest.raises(ImageFormatError):
            read(bytes(damaged))


def test_another_beginning_is_no_initramfs() -> None:
    with pytest.raises(ImageFormatError, match="begins neither an archive nor a compressed one"):
        read(MICROCODE + b"\x1f\x00" + gzip.compress(ARCHIVE)[2:])
    with pytest.raises(ImageFormatError, match="holds no archive"):
        read(bytes(5000))
    with pytest.raises(ImageFormatError, match="holds no archive"):
        read(b"")


def test_what_is_not_read_is_said() -> None:
    assert "lzo, which Sealift does not read" in read(MICROCODE + b"\x89LZO\0\r\n\x1a\n" + bytes(100)).unread
    junk = read(gzip.compress(ARCHIVE) + b"junk")
    assert (junk.modules, junk.unread[:10]) == (FOUND, "at byte 30")
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    )
    stream = wide.compressobj()
    assert "window of 134217728 bytes" in read(stream.compress(ARCHIVE) + stream.flush()).unread
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 * 2**20}]
    assert "emory" in read(lzma.compress(ARCHIVE, filters=filters)).unread


def test_microcode_alone_starts_no_server() -> None:
    for rest in (b"", bytes(200_000)):
        with pytest.raises(ImageFormatError, match="1 files are without init"):
            read(MICROCODE + rest)


def test_an_archive_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "LARGEST_ARCHIVE", 100)
    assert "more than are read" in read(ARCHIVE).unread


@pytest.mark.parametrize("way", ["gzip", "xz", "zstd", "lz4's program"])
def test_bombs_go_off_in_small_memory_and_short_time(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "LARGEST_CONTENT", 12 * 2**20)
    bombs = [
        COMPRESSORS[way][1](bytes(16 * 2**20)),
        COMPRESSORS[way][1](newc({"large": bytes(16 * 2**20)})),
        COMPRESSORS[way][1](newc({})[:-388] * 2000),
    ]
    for bomb in bombs:
        tracemalloc.start()
        started = time.process_time()
        with pytest.raises(ImageFormatError, match=r"give more than|more than 1000 archives"):
            read(bomb)
        assert time.process_time() - started < 5
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40 * 2**20


def test_headers_that_lead_back_are_refused() -> None:
    header = bytearray(newc({"name": b"content"}))
    header[6 + 6 * 8 : 6 + 7 * 8] = b"-0000100"
    with pytest.raises(ImageFormatError, match="hexadecimal"):
        read(bytes(header))


@settings(max_examples=150, deadline=None)
@given(
    way=st.sampled_from(["plain", "gzip", "bzip2", "xz", "lzma", "zstd", "zstd in frames", "lz4"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_no_bytes_do_more_than_raise_the_formats_error(way: str, changes: list[tuple[float, int]]) -> None:
    small = newc({"init": b"#!/bin/sh\n", "kernel/ena.ko": bytes(range(256)) * 20})
    if way == "lz4":
        import lz4.block

        block = lz4.block.compress(small, store_size=False)
        data = bytearray(MICROCODE + struct.pack("<II", 0x184C2102, len(block)) + block)
    else:
        data = bytearray(MICROCODE + COMPRESSORS[way][1](small))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    try:
        found = read(bytes(data))
    except ImageFormatError:
        return
    assert found.files <= 100


def test_names_of_modules() -> None:
    assert module_name("kernel/drivers/block/xen-blkfront.ko") == "xen_blkfront"
    assert module_name("virtio_net.ko.xz") == "virtio_net"
    assert module_name("modules.dep") == ""
    assert module_name("a.ko.old") == ""


def test_compressions_are_named() -> None:
    for way, (name, pack) in COMPRESSORS.items():
        if way != "plain":
            assert name_compression(pack(b"abc" * 100)[:16]) == name
    assert name_compression(b"070701") == ""
    assert open_compressed("lzo", File(b""), 0, 0, most=1) is None
