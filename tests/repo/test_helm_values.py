"""deploy/helm/values.yaml: the settings that ship, keys that the chart has, and no secret."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.settings_files import settings

CONFIG = "config"


@pytest.fixture(scope="module")
def text(project_root: Path) -> str:
    return (project_root / "deploy/helm/values.yaml").read_text()


@pytest.fixture(scope="module")
def values(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


def leaves(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict) and path != CONFIG:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    else:
        yield path


def test_the_settings_are_those_that_ship_for_celery(values: dict[str, Any]) -> None:
    shipped: dict[str, dict[str, str]] = {}
    for each in settings(engine="celery"):
        shipped.setdefault(each.section, {})[each.key] = each.value
    held = {section: {key: str(value) for key, value in keys.items()} for section, keys in values[CONFIG].items()}
    assert held == shipped


def test_the_chart_has_every_key_or_it_is_marked(values: dict[str, Any], text: str) -> None:
    listed = (Path(__file__).with_name("helm_chart_keys.txt")).read_text().splitlines()
    known = {line for line in listed if line and not line.startswith("#")}
    assert len(known) > 50
    unknown = set(leaves(values)) - known
    assert unknown == {"createUserJob.defaultUser.enabled"}
    marked = re.search(r"^createUserJob:\n  # UNCONFIRMED", text, re.MULTILINE)
    assert marked, "what the list does not hold has to be marked"


def test_airflow_starts_with_what_the_image_starts_it_with(values: dict[str, Any], project_root: Path) -> None:
    ours = ast.parse((project_root / "deploy/airflow/airflow_local_settings.py").read_text()).body[1:]
    theirs = ast.parse(values["airflowLocalSettings"]).body
    assert [ast.unparse(one) for one in theirs] == [ast.unparse(one) for one in ours]


def test_two_of_what_may_not_be_missed_and_workers_by_keda(values: dict[str, Any]) -> None:
    assert values["executor"] == "CeleryExecutor"
    assert (values["scheduler"]["replicas"], values["triggerer"]["replicas"]) == (2, 2)
    keda = values["workers"]["celery"]["keda"]
    assert keda["enabled"] is True
    assert 0 < keda["minReplicaCount"] < keda["maxReplicaCount"]


def test_one_triggerer_can_carry_what_all_workers_may_start(values: dict[str, Any]) -> None:
    config = values[CONFIG]
    slots = values["workers"]["celery"]["keda"]["maxReplicaCount"] * config["celery"]["worker_concurrency"]
    assert config["triggerer"]["capacity"] >= slots


def test_the_airflow_is_the_locked_one(values: dict[str, Any], project_root: Path) -> None:
    lock = (project_root / "requirements.lock").read_text()
    assert re.findall(r"^apache-airflow==(\S+)", lock, re.MULTILINE) == [values["airflowVersion"]]


def test_secrets_are_named_and_never_written(values: dict[str, Any], text: str, project_root: Path) -> None:
    named = set(re.findall(r"SecretName: (\S+)", text))
    assert len(named) == 4
    assert not re.search(r"(?im)^\s*(?!#)\S*(password|secret|fernetkey|connection)\w*:\s+(?!sealift-)\S", text)
    page = (project_root / "docs/scale.md").read_text()
    assert all(re.search(rf"create secret generic {name}\b", page) for name in named)


def test_no_part_has_a_disk(values: dict[str, Any]) -> None:
    for path in ("redis", "triggerer"):
        assert values[path]["persistence"]["enabled"] is False
    assert values["workers"]["celery"]["persistence"]["enabled"] is False
