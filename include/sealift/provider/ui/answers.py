"""How answers are made: JSON with an ETag, 304 where nothing has changed, and errors in words."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sealift.classic.errors import ClassicError
from sealift.cos.errors import CosError
from sealift.exports.errors import ExportsError
from sealift.exports.status.books import BooksNotOpen
from sealift.provider.errors import ConnectionProblem
from sealift.provider.ui.headers import HEADERS

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

CHECKED_HEADER: Final = "Sealift-Checked-At"
"""When the ledger was looked at last: an answer that has not changed says it, too."""

PLACE_HEADER: Final = "Sealift-Place"
"""Name of the place that an answer is about, where the question may have left that open."""

RETRY_SECONDS: Final = 3


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="forbid")

    detail: str = Field(description="What happened, and what to do, in words")


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "The request names something that does not go"},
    401: {"model": Problem, "description": "There is no user, or the session has ended"},
    403: {"model": Problem, "description": "The user has no right on the DAG"},
    404: {"model": Problem, "description": "There is nothing of that name"},
    422: {"model": Problem, "description": "A value is out of range or malformed"},
    502: {"model": Problem, "description": "The bucket or the connection does not work"},
    503: {"model": Problem, "description": "The ledger is being read for the first time; Retry-After says when to ask"},
}
"""What a route may answer besides."""


def answer(
    request: Request,
    *,
    version: str,
    checked_at: datetime,
    make: Callable[[], BaseModel],
    final: Callable[[], str],
    place: str = "",
) -> Response:
    """Answer with a model, or with 304 where the asker has it already.

    :param request: the request.
    :param version: what the answer follows from, beside the request.
    :param checked_at: when the ledger was looked at last.
    :param make: makes the model; called only where it is needed.
    :param final: gives the version of what was made, as making it may read more.
    :param place: name of the place that it is about; empty where the question named one.
    :returns: the answer.
    """
    told = {CHECKED_HEADER: checked_at.astimezone(UTC).isoformat(timespec="seconds")}
    if place:
        told[PLACE_HEADER] = quote(place)
    if (tag := _tag(request, version)) in _tags(request):
        return Response(status_code=304, headers={"ETag": tag, **told})
    body = make().model_dump_json()
    return Response(body, media_type="application/json", headers={"ETag": _tag(request, final()), **told})


def _tag(request: Request, version: str) -> str:
    # A weak one: compression on the way must not change what it says.
    asked = hashlib.sha256(f"{version}\n{request.url.path}\n{request.url.query}".encode()).hexdigest()[:24]
    return f'W/"{asked}"'


def _tags(request: Request) -> set[str]:
    return {one.strip() for one in request.headers.get("If-None-Match", "").split(",")}


def add_handlers(app: FastAPI) -> None:
    """Have an app answer every error as a :class:`Problem`.

    :param app: the app.
    """

    def problem(status: int, detail: str, **headers: str) -> JSONResponse:
        return JSONResponse({"detail": detail}, status_code=status, headers={**HEADERS, **headers})

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), **(error.headers or {}))

    async def malformed(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        parts = [
            f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        return problem(422, "; ".join(parts))

    async def input_error(_request: Request, error: Exception) -> Response:
        return problem(400, str(error))

    async def not_open(_request: Request, error: Exception) -> Response:
        return problem(503, str(error), **{"Retry-After": str(RETRY_SECONDS)})

    async def does_not_work(_request: Request, error: Exception) -> Response:
        return problem(502, str(error))

    async def mistake(_request: Request, error: Exception) -> Response:
        log.error("The page's API failed", exc_info=error)
        return problem(500, "This is a mistake in Sealift. The log of Airflow's API server holds it; please report it.")

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(ExportsError, input_error)
    app.add_exception_handler(BooksNotOpen, not_open)
    app.add_exception_handler(CosError, does_not_work)
    app.add_exception_handler(ClassicError, does_not_work)
    app.add_exception_handler(ConnectionProblem, does_not_work)
    app.add_exception_handler(Exception, mistake)
