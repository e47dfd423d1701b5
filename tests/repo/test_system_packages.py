"""Debian packages for the tests: installed where that is allowed, named exactly where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import system_packages


@pytest.fixture
def nothing_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(system_packages, "PLACES", (str(tmp_path),))
    monkeypatch.setenv("PATH", str(tmp_path))


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


def test_what_is_there_is_not_missing(tmp_path: Path) -> None:
    put(tmp_path, "qemu-img")
    assert system_packages.missing(system_packages.NEEDED, path=str(tmp_path)) == ["chromium", "e2fsprogs"]


def test_with_everything_there_nothing_is_said(
    nothing_there: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, *(name for name, _ in system_packages.NEEDED.values()))
    assert system_packages.main() == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("nothing_there")
def test_the_exact_line_is_named_where_nothing_may_be_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system_packages, "apt_prefix", lambda: None)
    assert system_packages.main() == 1
    assert "apt-get install -y --no-install-recommends chromium e2fsprogs qemu-utils" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_there")
def test_what_is_missing_is_installed_where_it_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[list[str], list[str]]] = []

    def install(packages: list[str], prefix: list[str]) -> str:
        asked.append((packages, prefix))
        put(tmp_path, "qemu-img", "mke2fs", "chromium")
        return ""

    monkeypatch.setattr(system_packages, "apt_prefix", lambda: ["sudo", "-n"])
    monkeypatch.setattr(system_packages, "install", install)
    assert system_packages.main() == 0
    assert asked == [(["chromium", "e2fsprogs", "qemu-utils"], ["sudo", "-n"])]


@pytest.mark.usefixtures("nothing_there")
def test_an_install_that_fails_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system_packages, "apt_prefix", list)
    monkeypatch.setattr(system_packages, "install", lambda packages, prefix: "E: Unable to locate package")
    assert system_packages.main() == 1
    assert "Unable to locate package" in capsys.readouterr().err
