"""Routes that tell what the bucket says of servers and slots."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sealift.exports import names
from sealift.exports.errors import SettingsError
from sealift.exports.status import charts as charting
from sealift.exports.status import coverage as covering
from sealift.exports.status import filters as filtering
from sealift.exports.status import server as serving
from sealift.exports.status.prices import Prices
from sealift.exports.status.snapshot import Snapshot
from sealift.provider.links import template_url
from sealift.provider.ui.answers import PROBLEMS, answer
from sealift.provider.ui.desk import Desk
from sealift.provider.ui.places import DEFAULT, OpenPlace
from sealift.provider.ui.security import may_see

FILLED_AT_ONCE = 32
"""So many manifests are read while somebody waits for a page; the rest follows in the background."""

PlaceName = Annotated[str, Query(description="Name of the place, one of /places", max_length=200)]
ServerId = Annotated[int, Path(description="The server's id", ge=1, le=2**53)]
Kind = Annotated[
    Literal["virtual", "bare metal"], Query(description="Virtual and bare metal servers are numbered apart")
]
Period = Annotated[str, Path(description="The slot, or the manual run's period", max_length=names.PERIOD_MAX)]
Offset = Annotated[int, Query(description="How many to pass over", ge=0)]


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


class CoverageQuery(covering.Query):
    """What is asked of /coverage."""

    place: str = Field(default=DEFAULT, max_length=200, description="Name of the place, one of /places")


def told(request: Request, snapshot: Snapshot, make: Callable[[], BaseModel], *, place: str = "") -> Response:
    """Answer with what follows from the books.

    :param request: the request.
    :param snapshot: the books' state.
    :param make: makes the answer.
    :param place: name of the place that it is about; empty where the question named one.
    :returns: the answer, or 304.
    """
    return answer(
        request,
        version=snapshot.version,
        checked_at=snapshot.checked_at,
        make=make,
        final=lambda: snapshot.version,
        place=place,
    )


def bucket_routes(desk: Desk) -> APIRouter:
    """Make the routes.

    :param desk: what routes share.
    :returns: the routes, each of which demands the right to see runs of plan_exports.
    """
    router = APIRouter(dependencies=[may_see()], responses=PROBLEMS)

    @router.get("/places", response_model=PlaceList, summary="Where exports are", tags=["about"])
    def list_places() -> PlaceList:
        return PlaceList(
            places=[
                PlaceLine(name=one.name, bucket=one.bucket, prefix=one.prefix) for one in desk.places.places.values()
            ]
        )

    @router.get(
        "/filters",
        response_model=filtering.Filters,
        summary="What servers and slots can be chosen by",
        tags=["exports"],
    )
    def filters(request: Request, place: PlaceName = DEFAULT) -> Response:
        snapshot = desk.open(place).books.snapshot()
        key = ("filters", snapshot.version)
        return told(request, snapshot, lambda: desk.once(key, lambda: filtering.filters(snapshot)))

    @router.get(
        "/coverage",
        response_model=covering.Coverage,
        summary="Servers by slots",
        tags=["exports"],
        description="A page of servers, with a word for each slot. Filters, order and paging are done here.",
    )
    def coverage(request: Request, query: Annotated[CoverageQuery, Query()]) -> Response:
        books = desk.open(query.place).books
        snapshot = books.snapshot()
        asked = covering.Query.model_validate(query.model_dump(exclude={"place"}))

        def make() -> covering.Coverage:
            books.fill(covering.page_of(snapshot, asked), at_most=FILLED_AT_ONCE)
            return covering.coverage(snapshot, asked)

        return told(request, snapshot, make)

    @router.get(
        "/servers/{server_id}", response_model=serving.ServerView, summary="One server, slot by slot", tags=["exports"]
    )
    def server(
        request: Request,
        server_id: ServerId,
        place: PlaceName = DEFAULT,
        kind: Kind = "virtual",
        offset: Offset = 0,
        limit: Annotated[int, Query(description="Most slots to show", ge=1, le=serving.LIMIT_AT_MOST)] = 52,
    ) -> Response:
        books = desk.open(place).books
        snapshot = books.snapshot()
        number = server_id if kind == "virtual" else -server_id
        if number not in snapshot.servers:
            raise HTTPException(404, f"Nothing in the bucket speaks of a {kind} server {server_id}.")

        def make() -> BaseModel:
            books.fill(((number, slot.period) for slot, _ in snapshot.history(number)), at_most=FILLED_AT_ONCE)
            view = serving.server_view(snapshot, number, offset=offset, limit=limit)
            assert view is not None
            return view

        return told(request, snapshot, make)

    @router.get(
        "/servers/{server_id}/exports/{period}",
        response_model=serving.ExportDetail,
        summary="One export: proofs, disks, record and what changed, links and commands",
        tags=["exports"],
        description="Reads the manifest, the record and the later proofs, and those of the export before, once for as "
        "long as none of them changes.",
    )
    def export(request: Request, server_id: ServerId, period: Period, place: PlaceName = DEFAULT) -> Response:
        try:
            names.check_period(period)
        except SettingsError as error:
            raise HTTPException(404, error.message) from error
        opened = desk.open(place)
        snapshot = opened.books.snapshot()
        previous = snapshot.previous_export(server_id, period)

        def read() -> serving.ExportDetail:
            found = serving.export_detail(
                opened.books.cos,
                bucket=opened.bucket,
                prefix=opened.books.prefix,
                number=server_id,
                period=period,
                previous=previous,
                links=links_of(opened),
            )
            if found is None:
                raise HTTPException(404, f"There is no manifest of server {server_id} in {period}: it is not exported.")
            return found

        # What it follows from, as the listing shows it: two manifests by their ETags, and how many proofs came later.
        mark = opened.books.export_mark(server_id, period, previous)
        if mark is None:
            return JSONResponse(read().model_dump(mode="json"))
        key = ("export", opened.place.name, opened.bucket, opened.books.prefix, server_id, mark)
        version = hashlib.sha256(repr(key).encode()).hexdigest()
        return answer(
            request,
            version=version,
            checked_at=snapshot.checked_at,
            make=lambda: desk.once(key, read),
            final=lambda: version,
        )

    @router.get("/charts", response_model=charting.Charts, summary="Figures over time", tags=["exports"])
    def charts(
        request: Request,
        place: PlaceName = DEFAULT,
        slots: Annotated[int, Query(description="The newest slots, so many", ge=1, le=covering.SLOTS_AT_MOST)] = 52,
    ) -> Response:
        opened = desk.open(place)
        snapshot = opened.books.snapshot()
        key = ("charts", snapshot.version, slots)
        return told(request, snapshot, lambda: desk.once(key, lambda: charting.charts(snapshot, slots=slots)))

    @router.get(
        "/prices",
        response_model=Prices,
        summary="What storing and fetching costs",
        tags=["about"],
        description="The prices that costs are worked out by, each with its source.",
    )
    def prices() -> Prices:
        return desk.prices()

    return router


def links_of(opened: OpenPlace) -> serving.Links:
    """Say how addresses and commands of a place are made.

    :param opened: the place.
    :returns: what makes them.
    """
    options = ["--bucket", opened.bucket, "--prefix", opened.books.prefix, "--region", opened.region]
    if opened.place.cos_conn_id != opened.hook.default_conn_name:
        options += ["--cos-conn-id", opened.place.cos_conn_id]
    return serving.Links(
        object_url=lambda key: opened.hook.url_of(opened.bucket, key),
        template_url=template_url,
        options=tuple(options),
    )
