"""The macros that other DAGs find an export with, rendered as Airflow renders them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sealift.exports import names

pytestmark = pytest.mark.airflow

RENDER = """
from datetime import datetime, UTC
import jinja2
from airflow.sdk.plugins_manager import integrate_macros_plugins
from airflow.sdk.execution_time.context import MacrosAccessor
integrate_macros_plugins()
slot = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
text = "{{ macros.sealift.manifest_key(prefix='weekly', guest_id=7, slot=slot) }} "
text += "{{ macros.sealift.export_id(7, run_id='by hand') }}"
print("RENDERED", jinja2.Environment().from_string(text).render(macros=MacrosAccessor(), slot=slot))
"""


def test_airflow_renders_the_macros(project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "AIRFLOW__CORE__PLUGINS_FOLDER": str(project_root / "plugins")},
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RENDERED")]
    assert line.split()[1:] == [
        "weekly/manifests/7/20261123T0200Z.json",
        names.export_id(guest_id=7, period=names.period_of_run("by hand")),
    ]


def test_the_plugins_folder_holds_plugins_only(project_root: Path) -> None:
    """Airflow runs every file there as a module of its own top-level name."""
    files = sorted((project_root / "plugins").rglob("*.py"))
    assert files
    for path in files:
        assert "AirflowPlugin" in path.read_text()
        assert path.stem.startswith("sealift_"), "a common name would hide somebody else's module"
