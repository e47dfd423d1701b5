"""What tasks need is imported in the process that they are forked from, and nowhere else."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sealift.provider.preload import MODULES, modules_for, preload

pytestmark = pytest.mark.airflow

# In the triggerer, which forks no tasks, or on the way of an error only.
ELSEWHERE = {"sealift.provider.triggers.waits"}

_PRELOADED = """
import gc, json, runpy, sys
from pathlib import Path
import airflow.settings
from sealift.provider.preload import preload
assert preload(["airflow", "scheduler"])
frozen = gc.get_freeze_count()
before = set(sys.modules)
for file in Path(sys.argv[1]).glob("*.py"):
    runpy.run_path(str(file))
from sealift.classic.client import ClassicClient
from sealift.cos.client import CosClient
ClassicClient(username="u", api_key="none", endpoint_url="http://127.0.0.1:9")._opened()
CosClient(
    region="us-south", api_key="none", service_instance_id="crn", endpoint_url="http://127.0.0.1:9"
)._connection._opened()
print(json.dumps({"before": sorted(before), "late": sorted(set(sys.modules) - before), "frozen": frozen}))
"""

_PARSED = """
import json, sys
from pathlib import Path
import structlog
from airflow.dag_processing import manager, processor
from sealift.provider.preload import preload
assert preload(["airflow", "dag-processor"])
before = set(sys.modules)
dags = Path(sys.argv[1])
for file in dags.glob("*.py"):
    asked = processor.DagFileParseRequest(file=str(file), bundle_path=dags, bundle_name="dags-folder")
    answer = processor._parse_file(asked, structlog.get_logger())
    assert answer.serialized_dags and not answer.import_errors
print(json.dumps({"before": sorted(before), "late": sorted(set(sys.modules) - before)}))
"""


def imported(program: str, dags: Path) -> dict[str, list[str]]:
    """Run a program in a process of its own, which says what it has imported before and late."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(dags)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def found(project_root: Path) -> dict[str, list[str]]:
    return imported(_PRELOADED, project_root / "dags")


def test_parsing_the_dags_and_opening_both_clients_imports_nothing_more(found: dict[str, list[str]]) -> None:
    assert found["late"] == []
    assert found["frozen"] > 0


def test_what_tasks_import_while_they_run_is_there(found: dict[str, list[str]], project_root: Path) -> None:
    """Steps import the heavy modules late, so that DAG files stay light: each such import must have been made."""
    package = project_root / "include" / "sealift"
    late: set[str] = set()
    for file in [*(package / "provider").rglob("*.py"), *(package / "exports").glob("*.py")]:
        if "triggers" in file.parts or file.stem in {"schemas", "preload", "get_provider_info"}:
            continue
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                late |= {
                    node.module
                    for node in ast.walk(function)
                    if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sealift.")
                }
    assert len(late) > 10
    assert late - ELSEWHERE - set(found["before"]) == set()


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("airflow scheduler", "all"),
        ("/usr/bin/airflow scheduler --skip-serve-logs", "all"),
        ("airflow celery worker --celery-hostname w", "all"),
        ("airflow dag-processor", "the DAG files'"),
        ("airflow celery flower", "nothing"),
        ("airflow triggerer", "nothing"),
        ("airflow api-server", "nothing"),
        ("airflow dags list", "nothing"),
        ("airflow", "nothing"),
    ],
)
def test_only_where_something_is_forked(command: str, what: str) -> None:
    modules = modules_for(command.split())
    if what == "all":
        assert modules == MODULES
    elif what == "nothing":
        assert modules == ()
        assert preload(command.split()) is False
    else:
        assert modules
        assert modules != MODULES


def test_the_dag_processor_has_what_dag_files_import_and_no_sdk(project_root: Path) -> None:
    answer = imported(_PARSED, project_root / "dags")
    assert [one for one in answer["late"] if not one.startswith(("asgiref", "unusual_prefix"))] == []
    assert {"SoftLayer", "ibm_boto3"} & set(answer["before"]) == set()


def test_a_module_that_is_missing_keeps_no_scheduler_from_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sealift.provider.preload.MODULES", (*MODULES[:1], "sealift.no_such_module"))
    assert preload(["airflow", "scheduler"]) is True
    assert "sealift.no_such_module" in caplog.text
