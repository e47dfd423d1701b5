"""Set-up: it happens once, again when a lock changes, and says in words what is missing."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import bootstrap
from tools.bootstrap import Environment, SetupError, UvFinder, locked_block, make_locks, pinned_version

INPUTS = ("requirements.lock", "requirements-dev.lock", "requirements.txt", "requirements-dev.txt")
INPUTS = (*INPUTS, "pyproject.toml", "build_metadata.py")


def program(path: Path, body: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def root(tmp_path: Path, project_root: Path) -> Path:
    for name in INPUTS:
        shutil.copy(project_root / name, tmp_path)
    return tmp_path


@pytest.fixture
def uv(tmp_path: Path) -> Path:
    """A uv that writes down what it is told, and makes an environment whose Python is this one."""
    return program(
        tmp_path / "fake/uv",
        f"""echo "$@" >> {tmp_path}/calls
if [ "$1" = venv ]; then mkdir -p {tmp_path}/.venv/bin && ln -sf {sys.executable} {tmp_path}/.venv/bin/python; fi
if [ "$1" = --version ]; then echo "uv 0.13.9"; fi""",
    )


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    def read() -> list[str]:
        path = tmp_path / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return read


def set_up(root: Path, kind: str, uv: Path) -> bool:
    """Do what `main` does; tells whether there was anything to do."""
    environment = Environment(root=root, python=sys.executable)
    if environment.ready(kind):
        return False
    environment.make(kind, uv)
    return True


def test_it_happens_once_and_again_when_the_lock_changes(root: Path, uv: Path, calls: Callable[[], list[str]]) -> None:
    assert set_up(root, "run", uv)
    made, synced, installed = calls()
    assert made.startswith("venv ")
    assert "--require-hashes requirements.lock" in synced
    assert "--no-deps --editable ." in installed
    assert not set_up(root, "run", uv)
    assert calls() == []
    with (root / "requirements.lock").open("a") as lock:
        lock.write("# another state\n")
    assert set_up(root, "run", uv)
    assert len(calls()) == 2, "the environment itself is used again"


def test_the_demo_runs_in_the_environment_of_the_tests(root: Path, uv: Path, calls: Callable[[], list[str]]) -> None:
    set_up(root, "run", uv)
    assert set_up(root, "dev", uv), "the demo's environment lacks what the tests need"
    assert any("requirements-dev.lock" in call for call in calls())
    assert not set_up(root, "run", uv)
    assert not set_up(root, "dev", uv)


def test_a_set_up_that_broke_off_is_done_again(root: Path, uv: Path, calls: Callable[[], list[str]]) -> None:
    set_up(root, "dev", uv)
    failing = program(root / "fake/failing", 'case "$2" in sync) echo "no space left" >&2; exit 1;; esac')
    (root / "requirements-dev.lock").write_text((root / "requirements-dev.lock").read_text() + "# changed\n")
    with pytest.raises(SetupError, match="no space left"):
        set_up(root, "dev", failing)
    calls()
    assert set_up(root, "dev", uv)


def test_the_formatters_settings_do_not_count(root: Path, uv: Path, calls: Callable[[], list[str]]) -> None:
    set_up(root, "dev", uv)
    project = root / "pyproject.toml"
    project.write_text(project.read_text().replace("line-length = 120", "line-length = 100"))
    assert not set_up(root, "dev", uv)
    project.write_text(
        project.read_text().replace("[project.scripts]", '[project.scripts]\nother = "sealift.cli:main"')
    )
    assert set_up(root, "dev", uv)


def test_an_old_uv_is_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = program(root / "old/uv", 'echo "uv 0.4.30"')
    own = program(root / ".tools/bin/uv", 'echo "uv 0.13.9 (x86_64)"')
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    assert UvFinder(root=root, python=sys.executable).find() == own


def test_without_any_way_to_uv_the_apt_line_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = program(root / "bare/python3", 'echo "/usr/bin/python3: No module named pip" >&2; exit 1')
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(bootstrap, "INSTALLER", "http://127.0.0.1:9/{version}/install.sh")
    with pytest.raises(SetupError) as caught:
        UvFinder(root=root, python=str(python)).find()
    message = str(caught.value)
    assert "apt-get install -y python3-pip python3-venv" in message
    assert "No module named pip" in message
    assert "refused" in message


@pytest.mark.slow
def test_uv_comes_by_pip_with_its_hash_checked(root: Path) -> None:
    finder = UvFinder(root=root, python=sys._base_executable)
    assert finder.usable(finder.by_pip())
    lock = root / "requirements-dev.lock"
    lock.write_text(re.sub(r"(?<=--hash=sha256:)\w+", "0" * 64, locked_block(lock, "uv")))
    shutil.rmtree(root / ".tools")
    with pytest.raises(SetupError, match="HASH"):
        finder.by_pip()


def test_a_package_is_cut_out_of_the_lock(project_root: Path) -> None:
    block = locked_block(project_root / "requirements-dev.lock", "uv")
    assert block.startswith("uv==")
    assert block.count("==") == 1
    assert "--hash=sha256:" in block
    assert pinned_version(project_root / "requirements-dev.lock", "uv") in block
    with pytest.raises(SetupError, match="make lock"):
        locked_block(project_root / "requirements.lock", "nothing-of-the-sort")


def test_the_second_lock_follows_the_first(root: Path, uv: Path, calls: Callable[[], list[str]]) -> None:
    make_locks(root, uv)
    first, second = calls()
    for call in (first, second):
        assert "--universal --python-version 3.11 --no-emit-index-url --generate-hashes" in call
    assert first.endswith("--output-file requirements.lock requirements.txt")
    assert second.endswith("--constraints requirements.lock --output-file requirements-dev.lock requirements-dev.txt")


def test_a_shim_without_a_python_behind_it_is_passed_over(tmp_path: Path, project_root: Path) -> None:
    program(tmp_path / "python3.13", "echo 'command not found' >&2; exit 127")
    program(tmp_path / "python3.12", f'exec {sys.executable} "$@"')
    done = subprocess.run(
        ["/bin/sh", project_root / "tools/find-python"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "python3.12")


def test_an_old_python_is_refused_in_words(tmp_path: Path, project_root: Path) -> None:
    program(tmp_path / "python3", 'if [ "$1" = --version ]; then echo "Python 3.9.2"; else exit 1; fi')
    for name in ("cat",):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    done = subprocess.run(
        ["/bin/sh", project_root / "tools/find-python"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "needs Python 3.11" in done.stderr
    assert "found: Python 3.9.2" in done.stderr
    assert "apt-get install -y python3" in done.stderr
