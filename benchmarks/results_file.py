"""Reads and writes ``results/<name>.json``: what one command measured is merged into what is there, never over it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
_EMPTY: dict[str, Any] = {"figures": {}, "settings": {}, "runs": []}


def read(path: Path) -> dict[str, Any]:
    """Read a results file.

    :param path: the file.
    :returns: ``figures``, ``settings`` and ``runs``, empty where there is no file yet.
    """
    if not path.exists():
        return json.loads(json.dumps(_EMPTY))  # type: ignore[no-any-return]
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def put_run(path: Path, run: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Put one run's raw figures into a file, in place of the run with the same ``name``.

    The settings that a run was made with stand in the run itself, since those of another may differ; the file's
    ``settings`` are those of the latest.

    :param path: the file.
    :param run: raw figures, with ``name``.
    :param settings: what the run was made with.
    :returns: the file's content.
    """
    content = read(path)
    content["runs"] = [one for one in content["runs"] if one["name"] != run["name"]]
    content["runs"].append({**run, "settings": dict(settings)})
    content["settings"] = dict(settings)
    write(path, content)
    return content


def put_figures(path: Path, figures: Mapping[str, float | None]) -> dict[str, Any]:
    """Put figures into a file, in place of those with the same names; None takes one out, as its runs have gone.

    :param path: the file.
    :param figures: by name.
    :returns: the file's content.
    """
    content = read(path)
    merged = {**content["figures"], **figures}
    content["figures"] = {name: _rounded(value) for name, value in sorted(merged.items()) if value is not None}
    write(path, content)
    return content


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, 4)


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a results file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(fresh, path)


def machine() -> dict[str, Any]:
    """Say on what and when something was measured."""
    return {
        "cpus": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
