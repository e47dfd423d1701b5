"""Routes that tell of plans: what would be done, what it costs, and how far its waves are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from sealift.exports.plan_models import Outcome
from sealift.exports.status import planned, waves
from sealift.exports.status.rows import State
from sealift.provider.ui.answers import PROBLEMS
from sealift.provider.ui.desk import Desk, wave_of
from sealift.provider.ui.places import DEFAULT
from sealift.provider.ui.routes import Offset, PlaceName, told
from sealift.provider.ui.security import EXPORT_DAG, may_see

PlaceOfPlan = Annotated[
    str,
    Query(
        description="Name of the plan's place, one of /places; empty: the first that has it, which the header "
        "Sealift-Place names",
        max_length=200,
    ),
]
PlanId = Annotated[str, Path(description="The plan's id", min_length=1, max_length=100)]
Number = Annotated[int, Path(description="The wave's number, from 0", ge=0, le=100_000)]


def plan_routes(desk: Desk) -> APIRouter:
    """Make the routes.

    :param desk: what routes share.
    :returns: the routes, each of which demands the right to see runs of plan_exports.
    """
    router = APIRouter(prefix="/plans", dependencies=[may_see()], responses=PROBLEMS, tags=["plans"])

    @router.get("", response_model=planned.PlanList, summary="Plans, newest first")
    def plans(
        request: Request,
        place: PlaceName = DEFAULT,
        offset: Offset = 0,
        limit: Annotated[int, Query(description="Most plans to list", ge=1, le=planned.LIMIT_AT_MOST)] = 50,
        dry_run: Annotated[bool | None, Query(description="Only dry runs, or only others")] = None,
    ) -> Response:
        snapshot = desk.open(place).books.snapshot()
        return told(
            request,
            snapshot,
            lambda: planned.plan_list(snapshot.plans, offset=offset, limit=limit, dry_run=dry_run),
        )

    @router.get(
        "/{plan_id}",
        response_model=planned.PlanView,
        summary="A plan: what is done, why not for the rest, how long, and what it costs",
    )
    def plan(
        request: Request,
        plan_id: PlanId,
        place: PlaceOfPlan = "",
        name: Annotated[str, Query(description="Part of a server's name, or its id", max_length=255)] = "",
        outcome: Annotated[Outcome | None, Query(description="Only servers with this outcome")] = None,
        rule: Annotated[str, Query(description="Only servers of which this rule spoke", max_length=100)] = "",
        state: Annotated[
            list[State] | None, Query(description="Only servers that are in one of these states by now")
        ] = None,
        offset: Offset = 0,
        limit: Annotated[int, Query(description="Most servers to show", ge=1, le=planned.LIMIT_AT_MOST)] = 100,
    ) -> Response:
        opened, found = desk.find_plan(place, plan_id)
        snapshot = opened.books.snapshot()
        return told(
            request,
            snapshot,
            lambda: planned.plan_view(
                desk.figures(opened, found, snapshot),
                snapshot,
                prices=desk.prices(),
                name=name,
                outcome=outcome,
                rule=rule,
                state=state or (),
                offset=offset,
                limit=limit,
            ),
            place=opened.place.name,
        )

    @router.get("/{plan_id}/waves", response_model=waves.WaveList, summary="How far a plan's waves are")
    def wave_list(request: Request, plan_id: PlanId, place: PlaceOfPlan = "") -> Response:
        opened, found = desk.find_plan(place, plan_id)
        snapshot = opened.books.snapshot()
        key = ("waves", snapshot.version, plan_id)

        def make() -> waves.WaveList:
            return desk.once(key, lambda: waves.wave_list(found, snapshot))

        return told(request, snapshot, make, place=opened.place.name)

    @router.get(
        "/{plan_id}/waves/{number}",
        response_model=waves.WaveView,
        summary="A wave's servers: what is done, and how long it should take",
        description="Put it beside Airflow's own task instances of the wave's run: a server's map_index is the same.",
    )
    def wave(request: Request, plan_id: PlanId, number: Number, place: PlaceOfPlan = "") -> Response:
        opened, found = desk.find_plan(place, plan_id)
        wave = wave_of(found, number)
        snapshot = opened.books.snapshot()
        return told(request, snapshot, lambda: waves.wave_view(wave, snapshot), place=opened.place.name)

    @router.get(
        "/{plan_id}/waves/{number}/transactions",
        response_model=waves.Transactions,
        summary="What the account says of a wave's servers at this moment",
        dependencies=[may_see(EXPORT_DAG)],
        description="Asks the account, at most every ten seconds, whoever asks; it takes as long as the account does.",
    )
    def transactions(plan_id: PlanId, number: Number, place: PlaceOfPlan = "") -> waves.Transactions:
        return desk.transactions(*desk.find_plan(place, plan_id), number)

    return router
