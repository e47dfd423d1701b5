"""Kernels are known by their headers, read whole, and sorted as people sort versions."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import random
import re
import struct
from collections import Counter
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images.content.kernel import check_kernel_whole, read_kernel_header, version_key
from sealift.images.content.kernel_signature import find_signature
from sealift.images.file_systems.file_system import Node, NodeKind, Place
from sealift.images.source import ImageFormatError
from tests.images.servers import VERSION, kernel

CONTENT = random.Random(4).randbytes(200_000) + bytes(300_000)


class OneFile:
    """A file system with one file."""

    type = "ext4"
    name = "disk 0 partition 1"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.verified: Counter[str] = Counter()

    def root(self) -> Node:
        raise NotImplementedError

    def entries(self, directory: Node) -> Iterator[tuple[str, int]]:
        raise NotImplementedError

    def node(self, key: int) -> Node:
        raise NotImplementedError

    def target(self, link: Node) -> str:
        raise NotImplementedError

    def read(self, file: Node, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        return self.data[offset : offset + length]


def place(data: bytes) -> Place:
    node = Node(kind=NodeKind.FILE, size=len(data), key=1)
    return Place(path=f"/boot/vmlinuz-{VERSION}", file_system=OneFile(data), node=node)


def sized(packed: bytes) -> bytes:
    """Return a payload as the kernel's build makes it where the format does not say the content's length."""
    return packed + struct.pack("<I", len(CONTENT))


PAYLOADS = {
    "gzip": gzip.compress(CONTENT, 1),
    "bzip2": sized(bz2.compress(CONTENT)),
    "xz": sized(
        lzma.compress(
            CONTENT,
            check=lzma.CHECK_CRC32,
            filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 32 * 2**20}],
        )
    ),
    "lzma": sized(lzma.compress(CONTENT, format=lzma.FORMAT_ALONE)),
    "zstd": sized(zstandard.ZstdCompressor().compress(CONTENT)),
}


def test_a_header_is_read() -> None:
    header = read_kernel_header(place(kernel()))
    assert (header.version, header.protocol) == (VERSION, 0x20F)
    assert header.end == len(kernel())
    assert header.payload_at == 4 * 512 + 256


def test_a_kernel_with_its_checksum_is_whole() -> None:
    data = kernel()
    assert check_kernel_whole(place(data), read_kernel_header(place(data))) == "its checksum is right"
    signed = data + b"a signature" * 100
    assert check_kernel_whole(place(signed), read_kernel_header(place(signed))) == "its checksum is right"


def signed(data: bytes, *, digest: bytes | None = None, before: bytes = b"") -> bytes:
    """Return a kernel with a signature behind it, as tools for Secure Boot put it there."""
    out = bytearray(data)
    out[:2] = b"MZ"
    struct.pack_into("<I", out, 0x3C, 0x40)
    out[0x40:0x44] = b"PE\0\0"
    struct.pack_into("<H", out, 0x40 + 24, 0x20B)
    place_of_sum, place_of_entry = 0x40 + 24 + 64, 0x40 + 24 + 112 + 32
    out += bytes(-len(out) % 8)
    if digest is None:
        kept = out[:place_of_sum] + out[place_of_sum + 4 : place_of_entry] + out[place_of_entry + 8 :]
        digest = hashlib.sha256(kept).digest()
    information = bytes.fromhex("3031300d060960864801650304020105000420") + digest
    signature = struct.pack("<IHH", 1000, 0x200, 2) + before + b"somebody" + information + b"and a certificate" * 50
    struct.pack_into("<I", out, place_of_sum, 12345)
    struct.pack_into("<II", out, place_of_entry, len(out), len(signature))
    return bytes(out) + signature


def test_a_signed_kernel_is_whole_by_its_signature() -> None:
    other = bytes.fromhex("3031300d060960864801650304020105000420") + bytes(32)
    for data in (signed(kernel(sealed=False)), signed(kernel(sealed=False), before=other)):
        how = check_kernel_whole(place(data), read_kernel_header(place(data)))
        assert how == "its bytes are those that its signature is for"


def test_every_flipped_bit_of_a_signed_kernel_is_found() -> None:
    data = signed(kernel(payload=PAYLOADS["zstd"], sealed=False))
    header = read_kernel_header(place(data))
    chance = random.Random(14)
    for _ in range(30):
        damaged = bytearray(data)
        damaged[chance.randrange(2048, header.end)] ^= 1 << chance.randrange(8)
        with pytest.raises(ImageFormatError, match="was changed after it was signed"):
            check_kernel_whole(place(bytes(damaged)), header)


def test_a_signature_with_another_digest_leaves_the_other_ways() -> None:
    data = bytearray(signed(kernel(payload=PAYLOADS["xz"], sealed=False)))
    at = data.find(bytes.fromhex("3031300d06096086480165030402"))
    data[at + 14] = 9  # the identifier of another algorithm
    assert check_kernel_whole(place(bytes(data)), read_kernel_header(place(bytes(data)))) == (
        "its compressed part (xz) is whole"
    )
    assert find_signature(bytes(1024), 10**6) is None
    assert find_signature(data[:1024], len(kernel())) is None


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_kernel_without_signature_and_checksum_is_whole_by_what_is_compressed_in_it(name: str) -> None:
    data = kernel("6.16-rc1", payload=PAYLOADS[name], sealed=False, appended=b"something")
    assert check_kernel_whole(place(data), read_kernel_header(place(data))) == f"its compressed part ({name}) is whole"


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_a_flipped_bit_in_what_is_compressed_is_found(name: str) -> None:
    data = kernel(payload=PAYLOADS[name], sealed=False)
    header = read_kernel_header(place(data))
    chance = random.Random(11)
    for _ in range(20):
        damaged = bytearray(data)
        damaged[header.payload_at + chance.randrange(16, header.payload_size)] ^= 1 << chance.randrange(8)
        with pytest.raises(ImageFormatError, match=f"partition 1: /boot/vmlinuz-{re.escape(VERSION)}"):
            check_kernel_whole(place(bytes(damaged)), header)


@pytest.mark.parametrize("name", ["lzma", "zstd"])
def test_another_length_of_what_is_compressed_is_found(name: str) -> None:
    data = kernel("6.15.1", payload=PAYLOADS[name][:-4] + struct.pack("<I", 17), sealed=False)
    with pytest.raises(ImageFormatError, match="gives 500000 bytes, expected 17"):
        check_kernel_whole(place(data), read_kernel_header(place(data)))


def test_a_kernel_whose_checksum_is_wrong_is_damaged_where_nothing_else_tells() -> None:
    data = bytearray(kernel(payload=PAYLOADS["lzma"]))
    data[5000] ^= 1
    with pytest.raises(ImageFormatError, match="expected 0, and it is not signed"):
        check_kernel_whole(place(bytes(data)), read_kernel_header(place(bytes(data))))


def test_what_is_no_kernel_is_named() -> None:
    with pytest.raises(ImageFormatError, match="is no Linux kernel: it has 5000 bytes"):
        read_kernel_header(place(bytes(5000)))
    with pytest.raises(ImageFormatError, match="no Linux kernel"):
        read_kernel_header(place(b"short"))
    data = kernel()
    with pytest.raises(ImageFormatError, match=f"has {len(data) - 2000} bytes, but its header says"):
        read_kernel_header(place(data[:-2000]))
    zeroed = data[:4096] + bytes(len(data) - 4096)
    with pytest.raises(ImageFormatError, match=r"damaged|before they are complete|expected"):
        check_kernel_whole(place(zeroed), read_kernel_header(place(zeroed)))
    zeroed = data[:2048] + bytes(len(data) - 2048)
    with pytest.raises(ImageFormatError, match="begins with 00 00 00 00 00 00, which is no compression"):
        check_kernel_whole(place(zeroed), read_kernel_header(place(zeroed)))


def test_a_payload_outside_is_named() -> None:
    data = bytearray(kernel(sealed=False))
    struct.pack_into("<I", data, 0x24C, 2**31)
    with pytest.raises(ImageFormatError, match="reaches from byte 2304 to"):
        check_kernel_whole(place(bytes(data)), read_kernel_header(place(bytes(data))))


def test_what_is_not_read_is_said() -> None:
    old = bytearray(kernel(sealed=False))
    struct.pack_into("<H", old, 0x206, 0x204)
    assert "too old" in check_kernel_whole(place(bytes(old)), read_kernel_header(place(bytes(old))))
    lzo = kernel("6.15.1", payload=b"\x89LZO\0\r\n\x1a\n" + bytes(100), sealed=False)
    assert "lzo, which Sealift does not read" in check_kernel_whole(place(lzo), read_kernel_header(place(lzo)))


@settings(max_examples=80, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=10))
def test_no_bytes_do_more_than_raise_the_formats_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(kernel(sealed=False))
    for at, value in changes:
        data[at % len(data)] = value
    with contextlib.suppress(ImageFormatError):
        check_kernel_whole(place(bytes(data)), read_kernel_header(place(bytes(data))))


def test_versions_sort_as_people_sort_them() -> None:
    versions = ["5.10.0-9-amd64", "6.1.0-9-amd64", "6.1.0-18-amd64", "6.1.0-18-cloud-amd64", "6.10.1"]
    assert sorted(versions, key=version_key) == versions
    assert max(versions[:3], key=version_key) == "6.1.0-18-amd64"
