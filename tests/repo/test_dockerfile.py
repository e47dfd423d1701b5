"""The Dockerfile, as far as it can be judged without a container engine: read, and carried out in a folder.

The dry run does what the RUN lines say, with the image's own paths moved below a temporary folder and a clean virtual
environment in the place of the image's Python.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SECRETS = re.compile(r"(?i)(api[_-]?key|password|passwd|secret|token|fernet)\s*[=:]")


@dataclass(frozen=True)
class Step:
    """One instruction, continuation lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    @property
    def operands(self) -> list[str]:
        return [word for word in self.words if not word.startswith("--")]


@pytest.fixture(scope="module")
def steps(project_root: Path) -> list[Step]:
    text = (project_root / "Dockerfile").read_text()
    text = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    lines = text.replace("\\\n", " ").splitlines()
    found = [Step(*line.split(None, 1)) for line in lines]
    known = {"FROM", "COPY", "RUN", "ENV", "USER", "ARG", "LABEL", "WORKDIR"}
    assert {step.name for step in found} <= known
    return found


def of(steps: list[Step], name: str) -> list[Step]:
    return [step for step in steps if step.name == name]


def test_the_base_is_the_official_image_of_the_locked_airflow(steps: list[Step], project_root: Path) -> None:
    (base,) = of(steps, "FROM")
    assert steps[0] == base
    lock = (project_root / "requirements.lock").read_text()
    (airflow,) = re.findall(r"^apache-airflow==(\S+)", lock, re.MULTILINE)
    assert base.operands == [f"apache/airflow:{airflow}-python3.11"]


def test_it_runs_as_airflow_and_never_as_root(steps: list[Step]) -> None:
    assert [step.operands for step in of(steps, "USER")] == [["airflow"]]
    assert steps[-1].name == "USER"
    assert not any("sudo" in step.words or "apt-get" in step.words for step in of(steps, "RUN"))


def test_every_source_exists_and_passes_the_ignore_file(steps: list[Step], project_root: Path) -> None:
    ignore = [line for line in (project_root / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignore[0] == "*", "everything stays out that is not let in"
    let_in = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied: set[str] = set()
    for step in of(steps, "COPY"):
        assert "--chown=airflow:0" in step.words
        *sources, target = step.operands
        assert target.startswith("/opt/airflow")
        assert all((project_root / source).exists() for source in sources), sources
        copied.update(sources)
    assert copied == let_in
    assert {"requirements.lock", "pyproject.toml", "include", "dags", "plugins"} <= copied


def test_the_lock_is_installed_with_hashes_before_the_code_is_copied(steps: list[Step]) -> None:
    run = next(index for index, step in enumerate(steps) if "--require-hashes" in step.words)
    code = next(index for index, step in enumerate(steps) if step.name == "COPY" and "include" in step.words)
    assert run < code, "a change of the code must not install the lock again"
    assert all("--no-cache-dir" in step.words for step in of(steps, "RUN"))


def test_no_secret_is_in_it(steps: list[Step]) -> None:
    assert not [step.text for step in steps if SECRETS.search(step.text)]


@pytest.fixture(scope="module")
def laid_out(
    steps: list[Step], project_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """Carry out COPY, RUN and ENV below a temporary folder; returns that folder and the environment of the image."""
    root = tmp_path_factory.mktemp("image")
    uv = Path(sys.executable).with_name("uv")
    venv = root / "venv"
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, venv], check=True)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "VIRTUAL_ENV"))
    }
    env = {**kept, "PATH": f"{venv}/bin:{os.environ['PATH']}", "AIRFLOW_HOME": f"{root}/opt/airflow"}

    def moved(word: str) -> str:
        return re.sub(r"(?<![\w.])/opt/airflow", f"{root}/opt/airflow", word)

    for step in steps:
        if step.name == "COPY":
            *sources, target = [moved(word) for word in step.operands]
            for source in sources:
                path = project_root / source
                if path.is_dir():  # Docker copies what is in the folder
                    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                    shutil.copytree(path, target, dirs_exist_ok=True, ignore=ignored)
                else:
                    Path(target).mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, target)
        elif step.name == "RUN":
            command = [moved(word) for word in step.words]
            done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        elif step.name == "ENV":
            for word in step.words:
                name, value = word.split("=", 1)
                env[name] = moved(value)
    return root, env


def answer(laid_out: tuple[Path, dict[str, str]], *command: str) -> str:
    root, env = laid_out
    done = subprocess.run(
        [root / "venv/bin" / command[0], *command[1:]], env=env, cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestDryRun:
    """What a person would look at first in a container of the image."""

    def test_airflow_shows_the_provider(self, laid_out: tuple[Path, dict[str, str]]) -> None:
        rows = json.loads(answer(laid_out, "airflow", "providers", "list", "--output", "json"))
        (row,) = [row for row in rows if row["package_name"] == "sealift"]
        assert row["version"] == "0.1.0"

    def test_the_connection_types_are_registered(self, laid_out: tuple[Path, dict[str, str]]) -> None:
        rows = json.loads(answer(laid_out, "airflow", "providers", "hooks", "--output", "json"))
        assert {"ibm_classic", "ibm_cos"} <= {row["connection_type"] for row in rows}

    def test_the_package_comes_from_the_image_and_has_what_it_needs(
        self, laid_out: tuple[Path, dict[str, str]]
    ) -> None:
        root, _ = laid_out
        code = "import sealift, sealift.provider.hooks.classic, sealift.provider.hooks.cos; print(sealift.__file__)"
        assert Path(answer(laid_out, "python", "-c", code).strip()).is_relative_to(root / "opt/airflow/include")

    def test_the_installed_set_is_consistent(self, laid_out: tuple[Path, dict[str, str]]) -> None:
        answer(laid_out, "python", "-m", "pip", "check")

    def test_the_dags_import(self, laid_out: tuple[Path, dict[str, str]]) -> None:
        code = (
            "import json; from airflow.dag_processing.dagbag import DagBag; bag = DagBag();"
            "print(json.dumps([bag.import_errors, sorted(bag.dag_ids)]))"
        )
        errors, dags = json.loads(answer(laid_out, "python", "-c", code).splitlines()[-1])
        assert errors == {}
        assert {"plan_exports", "export_servers"} <= set(dags)
