"""What Airflow makes of the provider: its listing, its connection forms, its settings."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk.module_loading import import_string

from sealift.provider.get_provider_info import get_provider_info
from sealift.provider.settings import settings

pytestmark = pytest.mark.airflow


def test_it_is_what_airflow_s_schema_asks_for() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_every_module_and_class_that_it_names_exists() -> None:
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    for path in [*info["hook-class-names"], *info["extra-links"], *info["notifications"]]:
        import_string(path)


def test_every_operator_sensor_and_trigger_is_named() -> None:
    info = get_provider_info()
    for kind in ("operators", "sensors", "triggers"):
        package = importlib.import_module(f"sealift.provider.{kind}")
        there = {f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)}
        named = {module for entry in info[kind] for module in entry["python-modules"]}
        bases = {f"{package.__name__}.base", "sealift.provider.sensors.server"}
        assert named == there - bases


@pytest.mark.parametrize(
    ("conn_type", "hidden", "fields", "secret"),
    [
        (
            "ibm_classic",
            {"schema"},
            {"transport", "network", "timeout", "requests_per_second", "verify"},
            set(),
        ),
        (
            "ibm_cos",
            {"schema", "login"},
            {
                "region",
                "endpoint_kind",
                "bucket",
                "service_instance_id",
                "iam_endpoint",
                "access_key_id",
                "secret_access_key",
                "export_api_key",
                "timeout",
                "verify",
            },
            {"secret_access_key", "export_api_key"},
        ),
    ],
)
def test_the_connection_form(conn_type: str, hidden: set[str], fields: set[str], secret: set[str]) -> None:
    manager = ProvidersManager()
    hook = manager.hooks[conn_type]
    assert hook is not None
    assert (
        hook.hook_class_name
        == import_string(hook.hook_class_name).__module__ + "." + hook.hook_class_name.split(".")[-1]
    )
    widgets = {
        name.removeprefix(f"extra__{conn_type}__"): widget
        for name, widget in manager.connection_form_widgets.items()
        if name.startswith(f"extra__{conn_type}__")
    }
    assert set(widgets) == fields
    assert {name for name, widget in widgets.items() if widget.is_sensitive} == secret
    behaviour = manager.field_behaviours[conn_type]
    assert set(behaviour["hidden_fields"]) == hidden
    assert "host" in behaviour["placeholders"]


def test_airflow_lists_the_provider() -> None:
    listed = subprocess.run(
        [str(Path(sys.executable).with_name("airflow")), "providers", "list", "--output", "json"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ),
    ).stdout
    providers = json.loads(listed[listed.index("[") :])
    assert [one for one in providers if one["package_name"] == "sealift"]


def test_settings_have_defaults_and_say_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().schedule is None
    assert settings().default_params == {}
    monkeypatch.setenv("AIRFLOW__SEALIFT__DEFAULT_PARAMS", '{"all": true')
    with pytest.raises(ValueError, match="not JSON"):
        settings()
    monkeypatch.setenv("AIRFLOW__SEALIFT__DEFAULT_PARAMS", "[]")
    with pytest.raises(ValueError, match="JSON object"):
        settings()


@pytest.mark.parametrize("name", ["poll_interval", "max_offline", "active_waves"])
def test_a_pace_that_would_spin_or_stand_still_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"AIRFLOW__SEALIFT__{name.upper()}", "0")
    with pytest.raises(ValueError, match=rf"\[sealift\] {name} is 0"):
        settings()
