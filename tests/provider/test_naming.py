"""The tasks of a wave carry their servers' names from when Airflow makes them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sealift.provider.naming import task_instance_mutation_hook

pytestmark = pytest.mark.airflow

NAMES = ["web-01", "web-02"]


def named(map_index: int, conf: Any) -> str | None:
    made = SimpleNamespace(map_index=map_index, _rendered_map_index=None)
    task_instance_mutation_hook(made, None if conf is ... else SimpleNamespace(conf=conf))  # type: ignore[arg-type]
    return made._rendered_map_index


def test_each_of_a_group_is_named_after_its_server() -> None:
    conf = {"wave": {"names": NAMES}}
    assert [named(index, conf) for index in (-1, 0, 1, 2)] == [None, "web-01", "web-02", None]
    assert named(0, {"wave": {"names": ["x" * 300]}}) == "x" * 250, "as much as its column holds"


@pytest.mark.parametrize(
    "conf", [..., None, {}, "text", {"wave": None}, {"wave": {"key": "k"}}, {"wave": {"names": "web-01"}}], ids=str
)
def test_other_runs_are_left_alone(conf: Any) -> None:
    assert named(0, conf) is None


def test_airflow_takes_it_from_the_settings_file_that_we_ship(project_root: Path) -> None:
    program = (
        "from airflow import settings;"
        "from types import SimpleNamespace as Made;"
        "made = Made(map_index=1, _rendered_map_index=None);"
        "settings.task_instance_mutation_hook(made, dag_run=Made(conf={'wave': {'names': ['a', 'b']}}));"
        "print([made._rendered_map_index])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=project_root / "deploy" / "airflow",
        env={**os.environ, "PYTHONPATH": str(project_root / "deploy" / "airflow")},
    )
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == ["b"]
