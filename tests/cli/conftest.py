"""Finished exports in a sandbox, for the commands that read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealift.sandbox import Sandbox
from tests.cli.steps import Exported


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=3000.0) as sandbox:
        made = Exported(sandbox)
        yield made
        made.close()


@pytest.fixture
def connections(exported: Exported, tmp_path: Path) -> Path:
    """The sandbox's connections, as Airflow exports them."""
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(exported.sandbox.connections()))
    return path
