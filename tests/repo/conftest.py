"""What several tests of the repository's files need to know of Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session")
def airflow_options() -> set[tuple[str, str]]:
    """Every (section, key) that Airflow and the installed providers declare, Sealift's own among them."""
    import airflow
    from airflow.providers_manager import ProvidersManager

    core = yaml.safe_load((Path(airflow.__file__).parent / "config_templates" / "config.yml").read_text())
    manager = ProvidersManager()
    manager.initialize_providers_configuration()
    declared = {**core}
    for _, sections in manager.provider_configs:
        for section, content in sections.items():
            declared.setdefault(section, {"options": {}})["options"] = {
                **declared.get(section, {}).get("options", {}),
                **content["options"],
            }
    return {(section, key) for section, content in declared.items() for key in content["options"]}
