"""Who may ask: an Airflow user with the right on the DAG that an answer is about. Every route demands one of these."""

from __future__ import annotations

from typing import Any, Final, Literal

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends

PLAN_DAG: Final = "plan_exports"
EXPORT_DAG: Final = "export_servers"
DELIVER_DAG: Final = "deliver_images"
PROVE_DAG: Final = "prove_exports"


def may_see(dag_id: str = PLAN_DAG) -> Any:
    """Demand the right to see a DAG's runs.

    :param dag_id: the DAG.
    :returns: a dependency of a route: 401 without a user, 403 without the right.
    """
    return _demand("GET", dag_id)


def may_start(dag_id: str) -> Any:
    """Demand the right to start a DAG's runs.

    :param dag_id: the DAG.
    :returns: a dependency of a route: 401 without a user, 403 without the right.
    """
    return _demand("POST", dag_id)


def _demand(method: Literal["GET", "POST", "PUT"], dag_id: str) -> Any:
    return Depends(requires_access_dag(method=method, access_entity=DagAccessEntity.RUN, param_dag_id=dag_id))
