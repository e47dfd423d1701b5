"""Routes that prepare runs of DAGs. They start nothing; see :mod:`sealift.provider.ui.runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from sealift.provider.ui import runs
from sealift.provider.ui.answers import PROBLEMS
from sealift.provider.ui.desk import Desk
from sealift.provider.ui.places import DEFAULT
from sealift.provider.ui.routes import PlaceName
from sealift.provider.ui.security import DELIVER_DAG, PLAN_DAG, PROVE_DAG, may_see, may_start


def action_routes(desk: Desk, *, defaults: Mapping[str, Any], deliver_to: str) -> APIRouter:
    """Make the routes.

    :param desk: what routes share.
    :param defaults: the deployment's default parameters of plan_exports.
    :param deliver_to: where the deployment delivers to by itself; may be empty.
    :returns: the routes, each of which demands the right to start runs of the DAG that it is about.
    """
    router = APIRouter(prefix="/actions", dependencies=[may_see()], responses=PROBLEMS, tags=["actions"])
    plans, proofs, deliveries = ([may_start(one)] for one in (PLAN_DAG, PROVE_DAG, DELIVER_DAG))

    @router.post("/plan", dependencies=plans, response_model=runs.PreparedRun, summary="A plan, and nothing else")
    def plan(asked: runs.PlanAsked, place: PlaceName = DEFAULT) -> runs.PreparedRun:
        return runs.prepare_plan(asked, desk.open(place), defaults)

    @router.post(
        "/approve", dependencies=plans, response_model=runs.PreparedRun, summary="Carry out what a dry run has shown"
    )
    def approve(asked: runs.ApproveAsked, place: PlaceName = DEFAULT) -> runs.PreparedRun:
        opened = desk.open(place)
        return runs.prepare_approve(asked, desk.plan(opened, asked.plan_id), opened, defaults)

    @router.post("/export", dependencies=plans, response_model=runs.PreparedRun, summary="Export selected servers")
    def export(asked: runs.ExportAsked, place: PlaceName = DEFAULT) -> runs.PreparedRun:
        return runs.prepare_export(asked, desk.open(place), defaults)

    @router.post("/missing", dependencies=plans, response_model=runs.PreparedRun, summary="Export what is missing")
    def missing(asked: runs.MissingAsked, place: PlaceName = DEFAULT) -> runs.PreparedRun:
        return runs.prepare_missing(asked, desk.open(place), defaults)

    @router.post("/retry", dependencies=plans, response_model=runs.PreparedRun, summary="Try the failed again")
    def retry(asked: runs.RetryAsked, place: PlaceName = DEFAULT) -> runs.PreparedRun:
        opened = desk.open(place)
        return runs.prepare_retry(asked, opened.books.snapshot(), opened, defaults)

    @router.post("/prove", dependencies=proofs, response_model=runs.PreparedRun, summary="Prove exports again")
    def prove(asked: runs.ProveAsked, place: PlaceName = DEFAULT) -> runs.PreparedRun:
        opened = desk.open(place)
        return runs.prepare_prove(asked, opened.books.snapshot(), opened)

    @router.post("/deliver", dependencies=deliveries, response_model=runs.PreparedRun, summary="Deliver exports")
    def deliver(asked: runs.DeliverAsked, place: PlaceName = DEFAULT) -> runs.PreparedRun:
        opened = desk.open(place)
        return runs.prepare_deliver(asked, opened.books.snapshot(), opened, to=deliver_to)

    return router
