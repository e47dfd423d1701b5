"""Checksums give what their definitions give, bit by bit."""

from __future__ import annotations

import random
import zlib

import pytest

from sealift.images.file_systems.checksums import crc16, ext4_crc, lvm_crc, raw_crc32, xfs_crc

ALL = 0xFFFF_FFFF
CHECK = b"123456789"


def bitwise(data: bytes, *, start: int, polynomial: int) -> int:
    """Return a reflected CRC without the final inversion, as its definition says."""
    for byte in data:
        start ^= byte
        for _ in range(8):
            start = start >> 1 ^ (polynomial if start & 1 else 0)
    return start


def test_known_values() -> None:
    assert ext4_crc(ALL, CHECK) ^ ALL == 0xE306_9283  # CRC-32C
    assert crc16(0, CHECK) == 0xBB3D  # CRC-16/ARC
    assert raw_crc32(ALL, CHECK) ^ ALL == zlib.crc32(CHECK) == 0xCBF4_3926


@pytest.mark.parametrize("length", [0, 1, 3, 64, 257])
def test_they_are_what_their_definitions_say(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert ext4_crc(0x1234_5678, data) == bitwise(data, start=0x1234_5678, polynomial=0x82F6_3B78)
    assert lvm_crc(data) == bitwise(data, start=0xF597_A6CF, polynomial=0xEDB8_8320)
    assert crc16(0xFFFF, data) == bitwise(data, start=0xFFFF, polynomial=0xA001)
    assert raw_crc32(77, data) == bitwise(data, start=77, polynomial=0xEDB8_8320)


def test_they_go_on() -> None:
    assert ext4_crc(ext4_crc(ALL, CHECK[:4]), CHECK[4:]) == ext4_crc(ALL, CHECK)
    assert crc16(crc16(9, CHECK[:4]), CHECK[4:]) == crc16(9, CHECK)


def test_a_structures_own_checksum_counts_as_zeros() -> None:
    data = random.Random(1).randbytes(100)
    expected = bitwise(data[:40] + bytes(4) + data[44:], start=ALL, polynomial=0x82F6_3B78) ^ ALL
    assert xfs_crc(data, 40) == expected
    assert xfs_crc(data[:40] + b"abcd" + data[44:], 40) == expected
