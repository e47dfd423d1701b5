"""Where messages lead: the run in Airflow, and the page of its plan. Without a base URL they lead nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from airflow.configuration import conf

from sealift.provider.settings import settings

if TYPE_CHECKING:
    from sealift.exports.messages.message import MessageLink
    from sealift.exports.settings import PlanSettings


def run_links(dag_id: str, run_id: str) -> list[MessageLink]:
    """Give the page of a run in Airflow.

    :param dag_id: the DAG.
    :param run_id: the run.
    :returns: one link, or none where ``[api] base_url`` is not set.
    """
    from sealift.exports.messages.message import MessageLink

    base = _base()
    url = f"{base}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
    return [MessageLink(label="Run", url=url)] if base else []


def plan_links(plan_id: str, plan_settings: PlanSettings, *, wave: int | None = None) -> list[MessageLink]:
    """Give the page of a plan, or of one of its waves.

    :param plan_id: the plan.
    :param plan_settings: where it is.
    :param wave: the wave's number, from 0.
    :returns: one link, or none where the page does not show the place of the plan.
    """
    from sealift.exports.messages.message import MessageLink

    base, place = _base(), _place_of(plan_settings)
    if not base or place is None:
        return []
    view = {"view": "plan", "plan": plan_id} if wave is None else {"view": "wave", "plan": plan_id, "wave": str(wave)}
    query = urlencode(({"place": place} if place else {}) | view)
    return [MessageLink(label="Plan" if wave is None else "Wave", url=f"{base}/plugin/sealift?{query}")]


def _place_of(plan_settings: PlanSettings) -> str | None:
    """Name the place of the page that shows a plan: empty for the default one, None where none does."""
    from sealift.provider.ui.places import DEFAULT, places_of

    deployment = settings()
    for place in places_of(deployment.default_params, deployment.ui_places).values():
        same = place.cos_conn_id == plan_settings.cos_conn_id and place.prefix == plan_settings.prefix
        if same and place.bucket in ("", plan_settings.bucket):
            return "" if place.name == DEFAULT else place.name
    return None


def _base() -> str:
    base: str = conf.get("api", "base_url", fallback="") or ""
    return base.rstrip("/") if base.startswith(("http://", "https://")) else ""
