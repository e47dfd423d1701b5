"""Exports of servers in a bucket in memory, which are brought back from it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sealift.images.vhd_writer import write_dynamic_vhd
from sealift.sandbox.disks import DiskKind, DiskSpec, build_raw
from tests.exports.drills.world import World

CAPACITY = 10**9


@pytest.fixture(scope="session")
def server_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The VHDs of a server that starts: its root disk and one with data; and of one with Windows's file system."""
    folder = tmp_path_factory.mktemp("images")
    kinds: dict[str, DiskKind] = {"root": "linux-root", "data": "linux-data", "windows": "ntfs"}
    made = {}
    for number, (name, kind) in enumerate(kinds.items(), 1):
        spec = DiskSpec(kind=kind, capacity_bytes=CAPACITY // 512 * 512, hostname="web101", seed=5, payload_bytes=9000)
        raw, vhd = folder / f"{name}.raw", folder / f"{name}.vhd"
        build_raw(spec, raw)
        write_dynamic_vhd(raw=raw, out=vhd, uuid=UUID(int=number), timestamp=datetime(2026, 11, 23, tzinfo=UTC))
        made[name] = vhd.read_bytes()
    return made


@pytest.fixture
def world(cos: Any, time: Any, tmp_path: Path, server_images: dict[str, bytes]) -> World:
    return World(cos, time, tmp_path / "sealift-drills", server_images)
