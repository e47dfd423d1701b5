"""What every test may use: where the project is, an Airflow home of its own, and how files spread over workers."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent

# Importing Airflow writes into its home, so each test process gets one of its own before anything can import it. What a
# person has configured for an Airflow of theirs must not reach the tests either.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "SEALIFT_"))]:
    del os.environ[_name]
_HOME = Path(tempfile.mkdtemp(prefix="sealift-tests-"))
os.environ.update(
    AIRFLOW_HOME=str(_HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME}/airflow.db",
)


# The same examples each time, so that a failure can be had again; `HYPOTHESIS_PROFILE=explore` draws new ones. How long
# one takes says more of the machine than of what is tested.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


WITH_AN_AIRFLOW_OF_THEIR_OWN = (
    "tests/e2e/test_cluster.py",
    "tests/e2e/test_retention_year.py",
    "tests/e2e/test_story.py",
)


class ByFile(LoadScopeScheduling):
    """Keeps the tests of one file on one worker, and all that share one running Airflow as well."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        shares = path.startswith("tests/e2e/") and path not in WITH_AN_AIRFLOW_OF_THEIR_OWN
        return "tests/e2e" if shares else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Tell xdist how to share out the tests: in the order of :func:`pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left with one of them at the end."""
    weights: dict[Path, int] = {}
    for item in items:
        weight = 2 if item.get_closest_marker("e2e") else 1 if item.get_closest_marker("slow") else 0
        weights[item.path] = max(weight, weights.get(item.path, 0))
    items.sort(key=lambda item: -weights[item.path])


def pytest_unconfigure() -> None:
    """Remove this process's Airflow home."""
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT
