"""The linters' own checks: one that finds a fault fails, and one that looked at nothing fails as well."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import lint
from tools.lint import LintFailedError

GOOD = '"""A module."""\n\nfrom __future__ import annotations\n\nNUMBER: int = 1\n'


@pytest.fixture
def root(tmp_path: Path, project_root: Path) -> Path:
    """A small project with the real configuration."""
    shutil.copy(project_root / "pyproject.toml", tmp_path)
    for name in ("include/sealift/__init__.py", "tools/__init__.py", "tests/test_a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(GOOD)
    return tmp_path


def test_a_clean_project_passes_and_is_counted(root: Path) -> None:
    assert lint.check_style(root) == "3 files"
    assert lint.check_format(root) == "3 files"
    assert lint.check_types(root) == "2 files"


@pytest.mark.parametrize(
    ("check", "text", "words"),
    [
        (lint.check_style, GOOD + "import os\n", "F401"),
        (lint.check_format, GOOD + "x = {  }\n", "would be reformatted"),
        (lint.check_types, GOOD + "\n\ndef untyped(x):\n    return x\n", "no-untyped-def"),
    ],
)
def test_a_fault_is_found(root: Path, check, text: str, words: str) -> None:
    (root / "include/sealift/bad.py").write_text(text)
    with pytest.raises(LintFailedError, match=words):
        check(root)


@pytest.mark.parametrize("check", [lint.check_style, lint.check_format])
def test_a_file_that_is_left_out_is_noticed(root: Path, check) -> None:
    project = root / "pyproject.toml"
    project.write_text(project.read_text().replace("[tool.ruff]\n", '[tool.ruff]\nextend-exclude = ["include"]\n'))
    with pytest.raises(LintFailedError, match="looked at 2 of 3"):
        check(root)


def test_types_that_are_left_out_are_noticed(root: Path) -> None:
    project = root / "pyproject.toml"
    project.write_text(project.read_text().replace("[tool.mypy]\n", '[tool.mypy]\nexclude = ["other"]\n'))
    (root / "tools/other.py").write_text(GOOD)
    with pytest.raises(LintFailedError, match="looked at 2 of 3"):
        lint.check_types(root)


@pytest.mark.parametrize("check", [lint.check_style, lint.check_format, lint.check_types])
def test_a_check_of_nothing_is_no_check(tmp_path: Path, project_root: Path, check) -> None:
    shutil.copy(project_root / "pyproject.toml", tmp_path)
    (tmp_path / "include/sealift").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    with pytest.raises(LintFailedError):
        check(tmp_path)


def test_the_borders_need_every_contract(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = "Analyzed 500 files, 900 dependencies.\n\nContracts: 1 kept, 0 broken.\n"
    monkeypatch.setattr(lint, "tool", lambda *args: lint.Ran(0, passed))
    with pytest.raises(LintFailedError, match="contracts"):
        lint.check_borders(root)
