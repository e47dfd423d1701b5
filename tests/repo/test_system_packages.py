"""Debian packages for the tests: installed where that is allowed, named exactly where it is not."""

from __future__ import annotations

import subprocess
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
    found = system_packages.missing(system_packages.NEEDED, path=str(tmp_path))
    assert found == sorted(set(system_packages.NEEDED) - {"qemu-utils"})
    assert len(found) > 4


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
    line = f"apt-get install -y --no-install-recommends {' '.join(sorted(system_packages.NEEDED))}"
    assert line in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_there")
def test_what_is_missing_is_installed_where_it_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[list[str], list[str]]] = []

    def install(packages: list[str], prefix: list[str]) -> str:
        asked.append((packages, prefix))
        put(tmp_path, *(program for program, _ in system_packages.NEEDED.values()))
        return ""

    monkeypatch.setattr(system_packages, "apt_prefix", lambda: ["sudo", "-n"])
    monkeypatch.setattr(system_packages, "install", install)
    assert system_packages.main() == 0
    assert asked == [(sorted(system_packages.NEEDED), ["sudo", "-n"])]


@pytest.mark.usefixtures("nothing_there")
def test_an_install_that_fails_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system_packages, "apt_prefix", list)
    monkeypatch.setattr(system_packages, "install", lambda packages, prefix: "E: Unable to locate package")
    assert system_packages.main() == 1
    assert "Unable to locate package" in capsys.readouterr().err


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_no_server_is_made_with_postgresql(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: list[list[str]]
) -> None:
    monkeypatch.setattr(system_packages, "POSTGRES_CONF", str(tmp_path / "none"))
    assert system_packages.install(["e2fsprogs", "postgresql"], ["sudo", "-n"]) == ""
    said = [" ".join(command) for command in ran]
    assert [one.startswith("sudo -n ") for one in said] == [True] * 5
    assert said[0].endswith("apt-get -y -q update")
    assert said[1].endswith("install --no-install-recommends postgresql-common")
    assert "create_main_cluster = false" in said[2]
    assert said[3].endswith("install --no-install-recommends e2fsprogs postgresql")
    assert said[4].startswith("sudo -n sh -c sed -i")


def test_a_machine_that_has_postgresql_keeps_its_own_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: list[list[str]]
) -> None:
    monkeypatch.setattr(system_packages, "POSTGRES_CONF", str(tmp_path))
    system_packages.install(["postgresql"], [])
    assert len(ran) == 2


def test_no_server_is_started_by_redis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: list[list[str]]) -> None:
    monkeypatch.setattr(system_packages, "POLICY", str(tmp_path / "none"))
    system_packages.install(["redis-server"], [])
    said = [" ".join(command) for command in ran]
    assert len(said) == 4
    assert "exit 101" in said[1]
    assert said[2].endswith("install --no-install-recommends redis-server")
    assert "rm -f" in said[3]
    assert "update-rc.d redis-server disable" in said[3]


def test_a_machine_that_has_a_policy_for_services_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: list[list[str]]
) -> None:
    monkeypatch.setattr(system_packages, "POLICY", str(tmp_path))
    system_packages.install(["redis-server"], [])
    assert len(ran) == 2


def test_the_policy_forbids_and_is_taken_away(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    command = system_packages._NO_SERVICES.replace(system_packages.POLICY, str(policy))
    subprocess.run(["sh", "-c", command], check=True)
    assert subprocess.run([policy, "redis-server", "start"], check=False).returncode == 101
    after = system_packages._SERVICES_AGAIN.replace(system_packages.POLICY, str(policy)).partition(";")[0]
    subprocess.run(["sh", "-c", after], check=True)
    assert not policy.exists()


def test_what_is_said_is_taken_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    conf = tmp_path / "createcluster.conf"
    conf.write_text("#create_main_cluster = true\n")
    for command in (system_packages._SAY_NO, system_packages._TAKE_BACK):
        subprocess.run(["sh", "-c", command.replace(system_packages.POSTGRES_CONF, str(conf))], check=True)
        lines = conf.read_text().splitlines()
        assert any(line.startswith("create_main_cluster = false") for line in lines) is (len(lines) == 2)
    assert conf.read_text() == "#create_main_cluster = true\n"


def test_debians_folders_of_versions_are_looked_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for version in ("15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
    monkeypatch.setattr(system_packages, "PLACES", (str(tmp_path / "*" / "bin"),))
    assert system_packages.search_path().split(":")[-2:] == [str(tmp_path / one / "bin") for one in ("15", "17")]
