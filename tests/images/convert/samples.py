"""Disks with mixed data, and images of them by QEMU: as many producers as qemu-img can play."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

KIB, MIB = 2**10, 2**20

MADE_BY_QEMU: Mapping[str, tuple[str, ...]] = {
    "vpc-dynamic": ("-O", "vpc", "-o", "subformat=dynamic,force_size=on"),
    "vpc-fixed": ("-O", "vpc", "-o", "subformat=fixed,force_size=on"),
    "vmdk-sparse": ("-O", "vmdk", "-o", "subformat=monolithicSparse"),
    "vmdk-stream": ("-O", "vmdk", "-o", "subformat=streamOptimized"),
    "qcow2-v3": ("-O", "qcow2"),
    "qcow2-v2": ("-O", "qcow2", "-o", "compat=0.10"),
    "qcow2-compressed": ("-O", "qcow2", "-c"),
    "qcow2-small-clusters": ("-O", "qcow2", "-o", "cluster_size=4096"),
}
QEMU_FORMATS = {
    "vhd": "vpc",
    "vhd-fixed": "vpc",
    "vmdk": "vmdk",
    "qcow2": "qcow2",
    "qcow2-plain": "qcow2",
    "raw": "raw",
}
"""qemu-img's names of the formats that Sealift writes."""

WORDS = [b"error", b"info", b"connected", b"session", b"closed", b"user", b"from", b"port", b"daemon", b"kernel"]


def text(size: int, *, seed: int = 1) -> bytes:
    """Bytes like a log's: they compress to about a fifth."""
    chance = random.Random(seed)
    lines = []
    length = 0
    while length < size:
        line = b"%d %s %d\n" % (chance.randrange(10**9), b" ".join(chance.choices(WORDS, k=6)), chance.randrange(10**5))
        lines.append(line)
        length += len(line)
    return b"".join(lines)[:size]


def mixed_disk() -> dict[int, bytes]:
    """Pieces of a disk of 12 MiB and three sectors: a third random, a third text, a third zeros or not stored."""
    chance = random.Random(20261127)
    return {
        0: chance.randbytes(2 * MIB),
        3 * MIB: text(2 * MIB),
        5 * MIB + 512: b"\1" + bytes(511),
        6 * MIB: text(70_000) + chance.randbytes(70_000) + bytes(200_000) + chance.randbytes(MIB),
        9 * MIB + 7 * 512: bytes(512) + b"x" * 512 * 200,
        12 * MIB: chance.randbytes(3 * 512),
    }


MIXED_SIZE = 12 * MIB + 3 * 512


def write_disk(path: Path, pieces: Mapping[int, bytes], *, size: int) -> Path:
    """Write a sparse raw file."""
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in pieces.items():
            file.seek(at)
            file.write(data)
    return path


def qemu_img(*arguments: str | Path, accepted: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """Run qemu-img, and fail with its words where it fails."""
    if shutil.which("qemu-img") is None:
        pytest.fail("qemu-img is missing; install it with: apt-get install --no-install-recommends qemu-utils")
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in accepted, f"qemu-img {arguments}: {done.stdout} {done.stderr}"
    return done


def assert_same_disk(one: Path, one_format: str, other: Path, other_format: str) -> None:
    """Let QEMU judge."""
    said = qemu_img("compare", "-f", one_format, "-F", other_format, one, other).stdout
    assert "identical" in said, said


class PiecesDisk:
    """A virtual disk of pieces in memory; the rest is not stored."""

    def __init__(self, pieces: Mapping[int, bytes], *, size: int) -> None:
        self.size = size
        self._pieces = sorted(pieces.items())
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= self.size
        self.reads.append((offset, length))
        found = bytearray(length)
        for at, data in self._pieces:
            start, end = max(at, offset), min(at + len(data), offset + length)
            if start < end:
                found[start - offset : end - offset] = data[start - at : end - at]
        return bytes(found)

    def extents(self) -> Iterator[tuple[int, int]]:
        for at, data in self._pieces:
            yield at, at + len(data)
