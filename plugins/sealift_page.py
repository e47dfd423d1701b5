"""The page in Airflow's navigation, its JSON API under ``/sealift``, and the buttons of tasks that lead there.

docs/page.md describes the page, docs/watch.md the API.
"""

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


class _Links:
    """The same for the buttons: who shows none need not import the operators that they belong to."""

    def __get__(self, _instance: object, _owner: type) -> list[Any]:
        from sealift.provider.page_links import LINKS

        return list(LINKS)


class SealiftPagePlugin(AirflowPlugin):
    """Registers the application, the page, and the buttons of tasks."""

    name = "sealift_page"
    fastapi_apps: Any = _Apps()
    react_apps: Any = _ReactApps()
    operator_extra_links: Any = _Links()
