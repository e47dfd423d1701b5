"""What the user may start, so that the page can say beforehand why something is not theirs to do."""

from __future__ import annotations

from typing import Final

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from sealift.provider.ui.answers import PROBLEMS
from sealift.provider.ui.security import DELIVER_DAG, EXPORT_DAG, PLAN_DAG, PROVE_DAG, may_see

DAGS: Final = (PLAN_DAG, EXPORT_DAG, PROVE_DAG, DELIVER_DAG)


class Right(BaseModel):
    """Whether the user may start runs of a DAG."""

    model_config = ConfigDict(extra="forbid")

    dag_id: str = Field(description="The DAG")
    may_start: bool = Field(description="Whether the user may start its runs")
    reason: str = Field(description="Why not, and who can change that; else empty")


class Rights(BaseModel):
    """What the user may start."""

    model_config = ConfigDict(extra="forbid")

    rights: list[Right] = Field(description="One for each DAG that the page starts")


def rights_routes() -> APIRouter:
    """Make the routes.

    :returns: one route, which demands the right to see runs of plan_exports.
    """
    router = APIRouter(dependencies=[may_see()], responses=PROBLEMS, tags=["about"])

    @router.get("/rights", response_model=Rights, summary="What the user may start")
    def rights(request: Request, user: GetUserDep) -> Rights:
        return Rights(rights=[_right(one, may_start=_may_start(one, request, user)) for one in DAGS])

    return router


def _may_start(dag_id: str, request: Request, user: GetUserDep) -> bool:
    # The very check that starting a run has.
    check = requires_access_dag(method="POST", access_entity=DagAccessEntity.RUN, param_dag_id=dag_id)
    try:
        check(request, user)
    except HTTPException:
        return False
    return True


def _right(dag_id: str, *, may_start: bool) -> Right:
    reason = f"You have no right to start runs of {dag_id}. An administrator of Airflow can give it."
    return Right(dag_id=dag_id, may_start=may_start, reason="" if may_start else reason)
