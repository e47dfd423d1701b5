"""The page's built file is what its sources give: built again from the lock file, it comes out the same."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = "include/sealift/provider/ui/web"
BUILT = "include/sealift/provider/ui/static/main.umd.cjs"
OLDEST_NODE = (20, 19)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """A copy of the sources with what the lock file pins; skips where there is no node."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed: the built file cannot be compared")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(part) for part in said.strip().lstrip("v").split(".")[:2]) < OLDEST_NODE:
        pytest.skip(f"node {said.strip()} is older than {'.'.join(map(str, OLDEST_NODE))}")
    copy = tmp_path_factory.mktemp("page") / "web"
    shutil.copytree(project_root / WEB, copy, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run([npm, "ci", "--ignore-scripts"], cwd=copy, check=True, capture_output=True, timeout=300)
    return copy


@pytest.mark.timeout(600)
def test_the_built_file_is_up_to_date(web: Path, project_root: Path) -> None:
    subprocess.run(["npm", "run", "build"], cwd=web, check=True, capture_output=True, timeout=120)
    built = (web.parent / "static" / "main.umd.cjs").read_bytes()
    assert built == (project_root / BUILT).read_bytes(), f"build the page again: npm run build in {WEB}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", ["check", "test"])
def test_the_sources_pass_their_own_checks_and_tests(web: Path, script: str) -> None:
    done = subprocess.run(["npm", "run", script], cwd=web, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.airflow
@pytest.mark.timeout(600)
def test_the_types_are_those_of_the_api(web: Path, tmp_path: Path, project_root: Path) -> None:
    from sealift.provider.ui.app import make_app

    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(make_app().openapi()))
    types = tmp_path / "api.gen.d.ts"
    subprocess.run(
        ["npm", "run", "types", "--", str(described), "-o", str(types)],
        cwd=web,
        check=True,
        capture_output=True,
        timeout=120,
    )
    ours = project_root / WEB / "src" / "api.gen.d.ts"
    assert ours.read_text() == types.read_text(), "the API has changed: write the page's types again (docs/page.md)"


def test_everything_of_the_page_has_an_exact_version(project_root: Path) -> None:
    wanted = json.loads((project_root / WEB / "package.json").read_text())
    assert "dependencies" not in wanted, "the page takes what it runs on from Airflow"
    lock = json.loads((project_root / WEB / "package-lock.json").read_text())
    for name, version in wanted["devDependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
