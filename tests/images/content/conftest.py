"""Disks that many tests of level L3 begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images.content.world import Workshop
from tests.images.servers import (
    DATA_UUID,
    MIB,
)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A boot disk that is whole."""
    return Workshop(tmp_path_factory.mktemp("good")).server()


@pytest.fixture(scope="session")
def data_disk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A disk with a file system of data and no partitions."""
    return Workshop(tmp_path_factory.mktemp("data")).ext({"data/file": "x"}, size=4 * MIB, uuid=DATA_UUID, label="data")
