"""Each damage of the corpus fails with the right check and words, and no flipped bit of the metadata goes unseen."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.images.proof import ProofFailed, prove_vhd
from sealift.images.source import BytesSource


def test_damage_is_named(images: Any, damage: Any) -> None:
    data = damage.apply(images)
    assert data != (images.fixed if damage.fixed else images.dynamic).read_bytes()
    source = BytesSource(data)
    capacity = images.raw.stat().st_size
    if damage.check is None:
        proof = prove_vhd(source, expected_capacity_bytes=capacity, boot_disk=True)
        assert all(check.passed for check in proof.checks)
        return
    with pytest.raises(ProofFailed) as failure:
        prove_vhd(source, expected_capacity_bytes=capacity, boot_disk=damage.boot_disk)
    assert failure.value.check_id == damage.check
    for words in damage.says:
        assert words in failure.value.detail
    assert not next(check for check in failure.value.checks if check.id == damage.check).passed


def test_all_failures_are_reported_at_once(images: Any) -> None:
    data = bytearray(images.dynamic.read_bytes())
    data[-512 + 64] ^= 1
    data[1536:1540] = b"\0\0\0\1"
    with pytest.raises(ProofFailed) as failure:
        prove_vhd(BytesSource(bytes(data)), expected_capacity_bytes=10**9)
    failed = [check.id for check in failure.value.checks if not check.passed]
    assert failed == ["footer.checksum", "header_copy", "bat.range", "capacity"]


class _Overlay:
    """A good image with one byte changed, without a copy of the image for each."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.at = 0
        self.value = 0

    def read(self, offset: int, length: int) -> bytes:
        piece = self._data[offset : offset + length]
        if offset <= self.at < offset + length:
            inside = self.at - offset
            piece = piece[:inside] + bytes([self.value]) + piece[inside + 1 :]
        return piece


def _unseen(data: bytes, places: list[int], capacity: int) -> list[tuple[int, int]]:
    overlay = _Overlay(data)
    unseen = []
    for at in places:
        for bit in range(8):
            overlay.at, overlay.value = at, data[at] ^ (1 << bit)
            try:
                prove_vhd(overlay, expected_capacity_bytes=capacity)
            except ProofFailed:
                continue
            unseen.append((at, bit))
    return unseen


def test_every_flipped_bit_of_footer_and_bat_is_seen(images: Any) -> None:
    data = images.dynamic.read_bytes()
    capacity = images.raw.stat().st_size
    bat = range(1536, 1536 + 4 * 32)
    assert _unseen(data, [*range(len(data) - 512, len(data)), *bat], capacity) == []


def test_every_flipped_bit_of_copy_and_header_is_seen(images: Any) -> None:
    data = images.dynamic.read_bytes()
    assert _unseen(data, list(range(1536)), images.raw.stat().st_size) == []


def test_every_flipped_bit_of_a_fixed_footer_is_seen(images: Any) -> None:
    data = images.fixed.read_bytes()
    assert _unseen(data, list(range(len(data) - 512, len(data))), images.raw.stat().st_size) == []
