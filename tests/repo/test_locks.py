"""The lock files: they pin everything with hashes, agree with each other, and hold what the requirements ask for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PIN = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)(?: ; (.+?))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


def pins(path: Path) -> dict[tuple[str, str], str]:
    """Every pin of a lock file, as {(package, version): marker}."""
    return {(canonicalize_name(name), version): marker for name, version, marker, _ in PIN.findall(path.read_text())}


def wanted(path: Path) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_line_is_a_pin_with_hashes(project_root: Path, name: str) -> None:
    text = (project_root / name).read_text()
    starts = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(starts) > 100
    assert len(PIN.findall(text)) == len(starts)


@pytest.mark.parametrize(
    ("asked", "lock"), [("requirements.txt", "requirements.lock"), ("requirements-dev.txt", "requirements-dev.lock")]
)
def test_the_lock_holds_what_is_asked_for(project_root: Path, asked: str, lock: str) -> None:
    held = pins(project_root / lock)
    requirements = wanted(project_root / asked)
    assert len(requirements) > 5
    for requirement in requirements:
        versions = [Version(version) for name, version in held if name == canonicalize_name(requirement.name)]
        assert versions, f"{lock} does not hold {requirement}; run make lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: {versions}"


def test_the_tests_run_on_what_is_delivered(project_root: Path) -> None:
    assert pins(project_root / "requirements.lock").keys() <= pins(project_root / "requirements-dev.lock").keys()


def test_each_direct_dependency_has_a_range(project_root: Path) -> None:
    for requirement in wanted(project_root / "requirements.txt"):
        assert requirement.specifier, f"{requirement.name} has no range"


def test_no_address_is_written_into_a_lock(project_root: Path) -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        assert not re.findall(r"https?://|--(?:extra-)?index-url|--find-links", (project_root / name).read_text())
