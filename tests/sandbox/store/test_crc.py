"""The folded CRCs against their definition, bit by bit, and against published check values."""

from __future__ import annotations

import random

import pytest

from sealift.sandbox.store.crc import CRC32C, CRC64NVME, Crc


def slow_crc(crc: Crc, data: bytes) -> int:
    """Divide as the definition says: one bit at a time."""
    reflected = int(f"{crc.polynomial:0{crc.width}b}"[::-1], 2)
    ones = (1 << crc.width) - 1
    state = ones
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (reflected if state & 1 else 0)
    return state ^ ones


def power_of_x(crc: Crc, exponent: int) -> int:
    """Compute x^exponent modulo the polynomial by squaring."""
    modulus = crc.polynomial | 1 << crc.width

    def multiply(a: int, b: int) -> int:
        product = 0
        while b:
            if b & 1:
                product ^= a
            a <<= 1
            if a >> crc.width:
                a ^= modulus
            b >>= 1
        return product

    result, base = 1, 2
    while exponent:
        if exponent & 1:
            result = multiply(result, base)
        base = multiply(base, base)
        exponent >>= 1
    return result


@pytest.mark.parametrize(("crc", "check"), [(CRC64NVME, 0xAE8B14860A799888), (CRC32C, 0xE3069283)])
def test_gives_the_published_check_value(crc: Crc, check: int) -> None:
    assert crc.update(0, b"123456789") == check


@pytest.mark.parametrize("crc", [CRC64NVME, CRC32C], ids=["crc64nvme", "crc32c"])
def test_every_folding_constant_is_the_power_it_claims(crc: Crc) -> None:
    assert [(power, power_of_x(crc, power)) for power, _ in crc.folds] == list(crc.folds)


@pytest.mark.parametrize("crc", [CRC64NVME, CRC32C], ids=["crc64nvme", "crc32c"])
@pytest.mark.parametrize("size", [0, 1, 7, 127, 128, 129, 130, 500, 4099, 70_001])
def test_folding_agrees_with_the_definition(crc: Crc, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert crc.update(0, data) == slow_crc(crc, data)


@pytest.mark.parametrize("crc", [CRC64NVME, CRC32C], ids=["crc64nvme", "crc32c"])
def test_pieces_give_what_the_whole_gives(crc: Crc) -> None:
    choose = random.Random(7)
    data = choose.randbytes(900_001)
    whole = crc.update(0, data)
    for _ in range(5):
        state, position = 0, 0
        while position < len(data):
            size = choose.choice([1, 100, 1000, 50_000, 262_144, 300_000])
            state = crc.update(state, memoryview(data)[position : position + size])
            position += size
        assert state == whole


def test_zeros_and_ones_are_no_special_case() -> None:
    for data in (bytes(3000), b"\xff" * 3000):
        assert CRC64NVME.update(0, data) == slow_crc(CRC64NVME, data)
