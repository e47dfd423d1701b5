"""What Airflow reads to know the provider. No heavy import may happen here: every Airflow process loads it."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the provider.

    :returns: a dictionary after Airflow's ``provider_info.schema.json``.
    """
    return {"package-name": "sealift", "name": "Sealift", "description": "Exports of IBM Cloud Classic virtual servers."}
