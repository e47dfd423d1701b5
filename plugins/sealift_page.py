"""The page in Airflow's navigation, and its JSON API under ``/sealift``. docs/api.md describes the API."""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin


@cache
def _apps() -> list[dict[str, Any]]:
    from sealift.provider.ui.app import make_app

    return [{"app": make_app(), "url_prefix": "/sealift", "name": "Sealift"}]


class _Apps:
    """Makes the application when somebody asks for it: every program of Airflow loads plugins, and one needs this."""

    def __get__(self, _instance: object, _owner: type) -> list[dict[str, Any]]:
        return _apps()


class _ReactApps:
    """The same for the page."""

    def __get__(self, _instance: object, _owner: type) -> list[dict[str, Any]]:
        from sealift.provider.ui.page import REACT_APP

        return [dict(REACT_APP)]


class SealiftPagePlugin(AirflowPlugin):
    """Registers the application and the page."""

    name = "sealift_page"
    fastapi_apps: Any = _Apps()
    react_apps: Any = _ReactApps()
