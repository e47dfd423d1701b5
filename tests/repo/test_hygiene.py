"""The repository's own rules: nothing of one machine in it, every module says what it is for and fits one reading."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

# Written in pieces, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a package registry's host": "|".join(
        re.escape(".".join(parts))
        for parts in (("pypi", "org"), ("python" + "hosted", "org"), ("registry", "npmjs"), ("proxy", "golang", "org"))
    ),
    "a folder of one machine": r"(?<![\w.-])/(?:"
    + "|".join(("wo" + "rk", "fa" + "rm", "Users", r"home/(?!airflow/)\w+"))
    + ")/",
    "a private key": "-----BEGIN " + r"(?:RSA |EC |OPENSSH )?PRIVATE KEY-----\n[A-Za-z0-9+/]{40}",
}
LONGEST_MODULE = 600


def files_of(root: Path) -> list[Path]:
    """What belongs to the repository, whether or not it has been committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # an unpacked archive, without git's own folder
        skip = {".venv", ".tools", ".state", ".git"}
        paths = (path for path in root.rglob("*") if not skip & set(path.relative_to(root).parts))
    else:
        paths = (root / name for name in listed.stdout.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


@pytest.fixture(scope="module")
def files(project_root: Path) -> list[Path]:
    found = files_of(project_root)
    assert project_root / "pyproject.toml" in found
    return found


@pytest.fixture(scope="module")
def modules(files: list[Path]) -> list[Path]:
    found = [path for path in files if path.suffix == ".py"]
    assert len(found) > 20
    return found


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_names(what: str, files: list[Path], project_root: Path) -> None:
    pattern = re.compile(FORBIDDEN[what])
    hits = []
    for path in files:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            hits.append(f"{path.relative_to(project_root)}:{line}: {match.group()}")
    assert not hits, f"{what} is named in:\n" + "\n".join(hits)


def test_the_patterns_find_what_they_are_for() -> None:
    machine = FORBIDDEN["a folder of one machine"]
    assert re.search(machine, "see /ho" + "me/ann/sealift")
    assert re.search(machine, "in /wo" + "rk/main")
    assert not re.search(machine, "https://example.com/x-wo" + "rk/y and net/wo" + "rk/ed")
    assert re.search(FORBIDDEN["a package registry's host"], "https://py" + "pi.org/simple")


def test_every_module_says_what_it_is_for(modules: list[Path], project_root: Path) -> None:
    silent = [
        str(path.relative_to(project_root)) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, f"no docstring at the top of: {', '.join(silent)}"


def test_every_module_fits_one_reading(modules: list[Path], project_root: Path) -> None:
    lengths = {str(path.relative_to(project_root)): len(path.read_text().splitlines()) for path in modules}
    long = {name: length for name, length in lengths.items() if length > LONGEST_MODULE}
    assert not long, f"more than {LONGEST_MODULE} lines; split by meaning: {long}"


def test_tests_mirror_the_package(modules: list[Path], project_root: Path) -> None:
    """A folder of tests is a room of the package, or one of the kinds of test that cross rooms."""
    rooms = {path.name for path in (project_root / "include/sealift").iterdir() if path.is_dir()}
    crossing = {"repo", "dags", "e2e", "chaos", "conformance", "plugins", "benchmarks"}
    tests = project_root / "tests"
    folders = {path.relative_to(tests).parts[0] for path in modules if tests in path.parents}
    strangers = {name for name in folders if not name.endswith(".py")} - rooms - crossing
    assert not strangers


@pytest.mark.parametrize(
    "path", ["README.md", "LICENSE", "Makefile", ".ci/run", "requirements.txt", "requirements.lock", "Dockerfile"]
)
def test_what_a_fresh_clone_must_have(path: str, files: list[Path], project_root: Path) -> None:
    assert project_root / path in files


def test_the_licence_is_apache(project_root: Path) -> None:
    text = (project_root / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
