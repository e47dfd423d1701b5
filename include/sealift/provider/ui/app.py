"""The application that Airflow's API server mounts under ``/sealift``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from sealift import __version__
from sealift.connections import CLASSIC_DEFAULT
from sealift.provider.ui.action_routes import action_routes
from sealift.provider.ui.answers import add_handlers
from sealift.provider.ui.desk import Desk
from sealift.provider.ui.headers import Headers
from sealift.provider.ui.page import page_routes
from sealift.provider.ui.places import Places, places_of
from sealift.provider.ui.plan_routes import plan_routes
from sealift.provider.ui.rights import rights_routes
from sealift.provider.ui.routes import bucket_routes
from sealift.provider.ui.security import may_see

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request, Response

    from sealift.provider.settings import Settings

ABOUT = """What the bucket says of exports. Every route demands an Airflow user with the right on a DAG of Sealift's.

Answers carry an ETag; ask again with If-None-Match and get 304 where nothing has changed. The header
Sealift-Checked-At says when the ledger was looked at last.
"""


def make_app(
    desk: Desk | None = None, *, defaults: Mapping[str, Any] | None = None, deliver_to: str | None = None
) -> FastAPI:
    """Make the application. Nothing is asked of bucket or account yet.

    :param desk: what routes share; the deployment's if None.
    :param defaults: the default parameters of plan_exports; the deployment's if None.
    :param deliver_to: where exports are delivered to where nobody says; the deployment's place if None.
    :returns: the application.
    """
    desk, found = (desk, None) if desk is not None else _desk()
    defaults = defaults if defaults is not None else found.default_params if found else {}
    deliver_to = deliver_to if deliver_to is not None else found.deliver_to if found else ""
    app = FastAPI(
        title="Sealift",
        version=__version__,
        description=ABOUT,
        # Their pages load scripts from another host, and they would ask no user for a right.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        default_response_class=JSONResponse,
    )
    app.add_middleware(Headers)
    add_handlers(app)

    async def unknown(_request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        return JSONResponse({"detail": str(error.detail)}, status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(StarletteHTTPException, unknown)
    actions = action_routes(desk, defaults=defaults, deliver_to=deliver_to)
    for routes in (bucket_routes(desk), plan_routes(desk), rights_routes(), actions):
        app.include_router(routes, prefix="/api")

    @app.get("/api/openapi.json", dependencies=[may_see()], summary="This API, as OpenAPI describes it", tags=["about"])
    def openapi() -> dict[str, Any]:
        return app.openapi()

    app.include_router(page_routes())
    return app


def _desk() -> tuple[Desk, Settings | None]:
    from sealift.provider.settings import settings

    try:
        made = settings()
        desk = Desk(
            Places(places_of(made.default_params, made.ui_places)),
            prices=Path(made.prices) if made.prices else None,
            classic_conn_id=str(made.default_params.get("classic_conn_id") or CLASSIC_DEFAULT),
        )
        return desk, made
    except ValueError as error:
        # A wrong setting of ours must not keep Airflow's API server from starting: each request says what is wrong.
        return Desk(Places({}, problem=f"{error}. Correct it and restart Airflow's API server.")), None
