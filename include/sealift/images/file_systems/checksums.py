"""The checksums of file systems and volume managers: CRC-32C as ext4 and XFS use it, CRC-16 of ext4, CRC-32 of LVM."""

from __future__ import annotations

import functools
import zlib

from awscrt.checksums import crc32c

_ALL = 0xFFFF_FFFF
_LVM_START = 0xF597_A6CF


def ext4_crc(seed: int, data: bytes) -> int:
    """Go on with ext4's CRC-32C, which is kept without the final inversion.

    :param seed: what came out so far; ``0xffffffff`` at the beginning.
    :param data: the next bytes.
    """
    found: int = crc32c(data, seed ^ _ALL) ^ _ALL
    return found


def xfs_crc(data: bytes, at: int) -> int:
    """Return XFS's checksum of a structure: CRC-32C with the checksum's own four bytes taken as zeros.

    :param data: the whole structure.
    :param at: place of the checksum in it, where it is stored little-endian.
    """
    found: int = crc32c(data[at + 4 :], crc32c(bytes(4), crc32c(data[:at])))
    return found


@functools.cache
def _crc16_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc16(seed: int, data: bytes) -> int:
    """Go on with the CRC-16 (polynomial 0x8005, reflected) that guards ext4's group descriptors without metadata_csum.

    :param seed: what came out so far; ``0xffff`` at the beginning.
    :param data: the next bytes.
    """
    table = _crc16_table()
    for byte in data:
        seed = (seed >> 8) ^ table[(seed ^ byte) & 0xFF]
    return seed


def lvm_crc(data: bytes) -> int:
    """Return LVM's checksum: CRC-32 with a start value of its own and without the final inversion.

    :param data: the bytes.
    """
    return zlib.crc32(data, _LVM_START ^ _ALL) ^ _ALL


def raw_crc32(seed: int, data: bytes) -> int:
    """Go on with a CRC-32 without the final inversion, as the Linux kernel's image ends with.

    :param seed: what came out so far; ``0xffffffff`` at the beginning.
    :param data: the next bytes.
    """
    return zlib.crc32(data, seed ^ _ALL) ^ _ALL
