"""The contracts between the rooms bite: a small tree that breaks one of them is refused, by that contract."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
LAYERS = "Rooms: provider over exports over the four that do not know each other"
SANDBOX = "Nobody but the command line imports the sandbox"
DISKS = "The sandbox knows of the product only how to make disks"
CLASSIC = "Images and transfer read objects through cos and know nothing of the Classic API"
AIRFLOW = "Only the provider imports Airflow"


@pytest.fixture
def tree(tmp_path: Path, project_root: Path) -> Path:
    """The real rooms, each empty but for the imports that are allowed."""
    package = tmp_path / "sealift"
    package.mkdir()
    (package / "__init__.py").touch()
    real = project_root / "include/sealift"
    rooms = [path.name for path in real.iterdir() if (path / "__init__.py").exists()]
    modules = [path.name for path in real.glob("*.py") if path.name != "__init__.py"]
    assert {"classic", "cli", "cos", "exports", "images", "provider", "sandbox", "transfer"} <= set(rooms)
    for room in rooms:
        (package / room).mkdir()
        (package / room / "__init__.py").touch()
    for module in modules:
        (package / module).touch()
    allowed = {
        "cli/a.py": "import sealift.sandbox, sealift.exports, sealift.connections",
        "connections.py": "import sealift.classic, sealift.cos",
        "provider/a.py": "import airflow\nimport sealift.exports, sealift.connections, sealift.classic, sealift.cos",
        "exports/a.py": "import sealift.classic, sealift.cos, sealift.images, sealift.transfer",
        "images/a.py": "import sealift.cos",
        "transfer/a.py": "import sealift.cos",
        "sandbox/a.py": "import sealift.images.a",
    }
    for name, text in allowed.items():
        (package / name).write_text(text + "\n")
    return tmp_path


def lint(tree: Path, root: Path) -> str:
    command = [LINT_IMPORTS, "--no-logo", "--no-cache", "--config", root / "pyproject.toml"]
    done = subprocess.run(
        command, cwd=tree, env={"PYTHONPATH": str(tree), "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == ("0 broken" in output), output
    return output


def broken(output: str) -> set[str]:
    return set(re.findall(r"^(.+?) BROKEN", output, re.MULTILINE))


def test_the_allowed_imports_are_allowed(tree: Path, project_root: Path) -> None:
    contracts = tomllib.loads((project_root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken" in lint(tree, project_root)


@pytest.mark.parametrize(
    ("module", "line", "contracts"),
    [
        ("cos/x.py", "import sealift.classic", {LAYERS}),
        ("classic/x.py", "import sealift.cos", {LAYERS}),
        ("images/x.py", "import sealift.transfer", {LAYERS}),
        ("transfer/x.py", "from sealift.images import a", {LAYERS}),
        ("images/x.py", "import sealift.classic", {CLASSIC}),
        ("transfer/x.py", "import sealift.classic", {CLASSIC}),
        ("classic/x.py", "import sealift.exports", {LAYERS}),
        ("exports/x.py", "import sealift.provider.a", {LAYERS, AIRFLOW}),
        ("exports/x.py", "import airflow.sdk", {AIRFLOW}),
        ("sandbox/x.py", "from airflow.sdk import BaseHook", {AIRFLOW}),
        ("cli/x.py", "import airflow", {AIRFLOW}),
        ("connections.py", "import airflow", {AIRFLOW}),
        ("connections.py", "import sealift.exports", {LAYERS}),
        ("connections.py", "import sealift.sandbox", {LAYERS, SANDBOX}),
        ("exports/x.py", "from sealift.sandbox import a", {LAYERS, SANDBOX}),
        ("provider/x.py", "import sealift.sandbox.a", {SANDBOX}),
        ("images/x.py", "import sealift.sandbox", {LAYERS, SANDBOX}),
        ("sandbox/x.py", "import sealift.cos", {DISKS}),
        ("sandbox/x.py", "import sealift.classic", {DISKS}),
        ("sandbox/x.py", "import sealift.exports", {LAYERS, DISKS}),
        ("provider/x.py", "import sealift.cli.a", {LAYERS, SANDBOX}),
        ("extra/__init__.py", "", set()),
    ],
)
def test_a_forbidden_import_is_refused(
    tree: Path, project_root: Path, module: str, line: str, contracts: set[str]
) -> None:
    target = tree / "sealift" / module
    target.parent.mkdir(exist_ok=True)
    target.write_text(line + "\n")
    output = lint(tree, project_root)
    if contracts:
        assert contracts <= broken(output), output
    else:  # a room that no contract names is itself an error
        assert "0 broken" not in output
        assert "extra" in output
