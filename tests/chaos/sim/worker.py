"""A process that plays scenarios: reads seeds from its standard input, a line each, and writes what became of them.

Simulated time is put in place for the whole process before anything is imported, so that it lives apart from whoever
wants to know.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.chaos.sim import timewarp

ROOT = Path(__file__).resolve().parents[3]


def _prepare(home: Path) -> None:
    """Give Airflow a home of its own, before it is imported."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "SEALIFT"))]:
        del os.environ[name]
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(home / "plugins"),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
    )


def main() -> int:
    """Play until the standard input ends; the first argument is a folder for everything."""
    home = Path(sys.argv[1])
    _prepare(home)
    timewarp.install()
    from tests.chaos.sim.stage import serve

    try:
        return serve(home, sys.argv[2:])
    finally:
        # Whoever started this process does the same; where that one was killed, the input has ended.
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
