"""Routes that tell what the bucket says."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sealift.exports.status import coverage as covering
from sealift.provider.ui.answers import PROBLEMS, answer
from sealift.provider.ui.places import DEFAULT, OpenPlace, Places
from sealift.provider.ui.security import may_see

FILLED_AT_ONCE = 32
"""So many manifests are read while somebody waits for a page; the rest follows in the background."""


class PlaceLine(BaseModel):
    """A place that may be asked about."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Its name, for the query's place")
    bucket: str = Field(description="The bucket; empty where the connection names it")
    prefix: str = Field(description="What all keys begin with; may be empty")


class PlaceList(BaseModel):
    """The places of the deployment."""

    model_config = ConfigDict(extra="forbid")

    places: list[PlaceLine] = Field(description="The places; the first is asked about where a query names none")


PlaceName = Annotated[str, Query(description="Name of the place, one of /places", max_length=200)]


def bucket_routes(places: Places) -> APIRouter:
    """Make the routes.

    :param places: where exports are.
    :returns: the routes, each of which demands the right to see runs of plan_exports.
    """
    router = APIRouter(dependencies=[may_see()], responses=PROBLEMS)

    def opened(name: str) -> OpenPlace:
        try:
            return places.open(name)
        except KeyError:
            known = ", ".join(places.places)
            raise HTTPException(404, f"There is no place {name!r}. The deployment has: {known}.") from None

    @router.get("/places", response_model=PlaceList, summary="Where exports are", tags=["about"])
    def list_places() -> PlaceList:
        return PlaceList(
            places=[PlaceLine(name=one.name, bucket=one.bucket, prefix=one.prefix) for one in places.places.values()]
        )

    @router.get(
        "/coverage",
        response_model=covering.Coverage,
        summary="Servers by slots",
        tags=["exports"],
        description="A page of servers, with a word for each slot. Filters, order and paging are done here.",
    )
    def coverage(request: Request, query: Annotated[CoverageQuery, Query()]) -> Response:
        books = opened(query.place).books
        snapshot = books.snapshot()
        asked = covering.Query.model_validate(query.model_dump(exclude={"place"}))

        def make() -> covering.Coverage:
            books.fill(covering.page_of(snapshot, asked), at_most=FILLED_AT_ONCE)
            return covering.coverage(snapshot, asked)

        return answer(
            request,
            version=snapshot.version,
            checked_at=snapshot.checked_at,
            make=make,
            final=lambda: snapshot.version,
        )

    return router


class CoverageQuery(covering.Query):
    """What is asked of /coverage."""

    place: str = Field(default=DEFAULT, max_length=200, description="Name of the place, one of /places")
