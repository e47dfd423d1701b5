"""docker-compose.yaml, as far as it can be judged without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.processes import Program, free_ports, new_mark, stop

AIRFLOWS = {"init", "api-server", "dag-processor", "scheduler", "triggerer", "worker"}
SECRET = re.compile(r"(?i)password|secret|fernet|jwt|broker_url|result_backend|sql_alchemy_conn|rediscli_auth")
PLACEHOLDER = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@pytest.fixture(scope="module")
def text(project_root: Path) -> str:
    return (project_root / "docker-compose.yaml").read_text()


@pytest.fixture(scope="module")
def compose(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


def test_the_services_are_complete(services: dict[str, Any]) -> None:
    assert services.keys() == AIRFLOWS | {"postgres", "redis"}
    replicas = {name: service.get("deploy", {}).get("replicas", 1) for name, service in services.items()}
    assert {name: count for name, count in replicas.items() if count != 1} == {
        "scheduler": 2,
        "triggerer": 2,
        "worker": "${SEALIFT_WORKERS:-2}",
    }
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"init"}
    needed = {one for service in services.values() for one in service.get("depends_on", {})}
    assert needed <= services.keys()
    for name in AIRFLOWS:
        wanted = services[name]["depends_on"]
        assert wanted.keys() & ({"postgres", "redis"} if name == "init" else {"init"})


def test_all_of_airflow_is_our_image_with_the_settings_that_ship(services: dict[str, Any], project_root: Path) -> None:
    for name in AIRFLOWS:
        assert services[name]["image"] == "${SEALIFT_IMAGE:-sealift}"
        assert services[name]["build"] == "."
        assert services[name]["env_file"] == "deploy/settings/celery.env"
    assert (project_root / "deploy/settings/celery.env").is_file()
    assert (project_root / "Dockerfile").is_file()


@pytest.mark.airflow
def test_airflow_knows_every_setting(services: dict[str, Any], airflow_options: set[tuple[str, str]]) -> None:
    named = {name for one in AIRFLOWS for name in services[one]["environment"] if name.startswith("AIRFLOW__")}
    assert len(named) > 8
    pairs = {tuple(name.lower().removeprefix("airflow__").split("__", 1)) for name in named}
    assert pairs - airflow_options == set()


def test_what_is_set_here_is_not_set_in_the_settings_too(services: dict[str, Any], project_root: Path) -> None:
    shipped = (project_root / "deploy/settings/celery.env").read_text()
    assert not [name for name in services["worker"]["environment"] if f"\n{name}=" in shipped]


def test_no_secret_has_a_default(services: dict[str, Any]) -> None:
    seen = set()
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                placeholders = PLACEHOLDER.findall(str(value))
                assert placeholders, f"{name} is written out"
                assert [sign for _, sign, _ in placeholders] == ["?"] * len(placeholders), f"{name} has a default"
                seen.add(name)
    assert len(seen) >= 8


def test_what_is_required_and_what_the_page_makes_are_the_same(text: str, project_root: Path) -> None:
    required = {name for name, sign, _ in PLACEHOLDER.findall(text) if sign == "?"}
    page = (project_root / "docs/scale.md").read_text()
    assert required == set(re.findall(r"^(\w+)=\$\(", page, re.MULTILINE))


def test_ports_are_published_on_this_machine_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:${AIRFLOW_PORT:-8080}:8080"]


def test_the_parts_of_airflow_share_no_volume(compose: dict[str, Any], services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if service.get("volumes")} == {"postgres"}
    assert compose["volumes"].keys() == {"postgres"}


@pytest.mark.airflow
def test_airflow_takes_every_command(services: dict[str, Any], tmp_path: Path) -> None:
    commands = [services[name]["command"].split() for name in sorted(AIRFLOWS)]
    for service in services.values():
        for word in service.get("healthcheck", {}).get("test", ()):
            if word.startswith("airflow "):
                commands.append(word.replace('"$${HOSTNAME}"', "host").split()[1:])
    assert len(commands) == len(AIRFLOWS) + 3
    code = (
        "import json, sys; from airflow.cli.cli_parser import get_parser\n"
        "for words in json.load(sys.stdin): get_parser().parse_args(words)"
    )
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(commands), env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.airflow
def test_the_workers_health_check_names_an_application_that_exists(services: dict[str, Any]) -> None:
    from celery.bin.celery import celery as command

    words = services["worker"]["healthcheck"]["test"][1].split()
    module, _, attribute = words[words.index("--app") + 1].rpartition(".")
    assert hasattr(__import__(module, fromlist=[attribute]), attribute)
    assert "inspect" in command.commands


def test_redis_wants_its_password(services: dict[str, Any], tmp_path: Path) -> None:
    """The command as it stands, with another port."""
    (port,) = free_ports(1)
    shell, flag, line = services["redis"]["command"]
    line = line.replace("$$", "$").replace("redis-server -", f"redis-server - --port {port} --bind 127.0.0.1")
    mark = new_mark()
    env = {**os.environ, "REDISCLI_AUTH": "planted"}
    program = Program([shell, flag, line], env=env, mark=mark, log=tmp_path / "redis.log", cwd=tmp_path)
    try:
        check = [one.replace("redis-cli", str(shutil.which("redis-cli"))) for one in _check(services)]
        deadline = time.monotonic() + 20
        while _ping(check, port, "planted") != "PONG":
            assert not program.ended()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "NOAUTH" in _ping(check, port, "")
        assert "planted" not in Path(f"/proc/{program.pid}/cmdline").read_text()
    finally:
        stop(mark)


def _check(services: dict[str, Any]) -> list[str]:
    kind, *words = services["redis"]["healthcheck"]["test"]
    assert kind == "CMD"
    return words


def _ping(check: list[str], port: int, password: str) -> str:
    command = [check[0], "-h", "127.0.0.1", "-p", str(port), *check[1:]]
    env = {**os.environ, "REDISCLI_AUTH": password} if password else {**os.environ}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def _validator() -> tuple[list[str], bool] | None:
    """Docker's own judge, if one is here, and whether it is the old one, which knows no ``name``."""
    if shutil.which("docker"):
        done = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if done.returncode == 0:
            return ["docker", "compose"], False
    if shutil.which("docker-compose"):
        done = subprocess.run(["docker-compose", "version", "--short"], capture_output=True, text=True, check=False)
        return ["docker-compose"], done.stdout.startswith("1.")
    return None


def test_docker_compose_takes_it(text: str, tmp_path: Path, project_root: Path) -> None:
    found = _validator()
    if found is None:
        pytest.skip("neither docker compose nor docker-compose is here")
    command, old = found
    (tmp_path / "deploy").mkdir()
    shutil.copytree(project_root / "deploy/settings", tmp_path / "deploy/settings")
    shutil.copy(project_root / "Dockerfile", tmp_path)
    (tmp_path / "docker-compose.yaml").write_text(re.sub(r"^name:.*\n", "", text, flags=re.MULTILINE) if old else text)
    required = sorted({name for name, sign, _ in PLACEHOLDER.findall(text) if sign == "?"})
    env = {name: value for name, value in os.environ.items() if name not in required}
    refused = _config(command, env=env, cwd=tmp_path)
    assert refused.returncode != 0, "it starts without secrets"
    assert "required" in refused.stderr or "see docs/scale.md" in refused.stderr
    taken = _config(command, env={**env, **dict.fromkeys(required, "planted")}, cwd=tmp_path)
    assert taken.returncode == 0, taken.stderr
    shown = yaml.safe_load(taken.stdout)["services"]
    assert shown.keys() == AIRFLOWS | {"postgres", "redis"}
    assert shown["worker"]["environment"]["AIRFLOW__CELERY__BROKER_URL"] == "redis://:planted@redis:6379/0"


def _config(command: list[str], *, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, "config"], env=env, cwd=cwd, capture_output=True, text=True, check=False)
