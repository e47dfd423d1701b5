"""The page's own files: one script, which Airflow's page imports, its icon, and the pictures of the DAGs' flows.

They hold code and no data. They are guarded all the same: the import of a module and the load of an image of the same
origin carry the user's cookie, so that nothing under ``/sealift`` answers somebody without the right.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from sealift.provider.ui.answers import PROBLEMS
from sealift.provider.ui.flows import FLOWS, picture
from sealift.provider.ui.security import may_see

STATIC: Final = Path(__file__).with_name("static")

SVG: Final = "image/svg+xml"

FILES: Final = {
    "main.umd.cjs": "text/javascript",
    "icon.svg": SVG,
    **{f"{dag_id}.svg": SVG for dag_id in FLOWS},
}
"""What is served, with the types: a browser imports no script of another one."""

REACT_APP: Final = {
    "name": "Sealift",
    "url_route": "sealift",
    "destination": "nav",
    "nav_top_level": True,
    # Without a slash in front: Airflow's page resolves them against its base address, which may have a path.
    "bundle_url": "sealift/static/main.umd.cjs",
    "icon": "sealift/static/icon.svg",
}
"""The entry in Airflow's navigation."""


def page_routes() -> APIRouter:
    """Make the routes.

    :returns: one for each file; each demands the right to see runs of plan_exports.
    """
    router = APIRouter(prefix="/static", dependencies=[may_see()], responses=PROBLEMS, tags=["page"])
    for name, media_type in FILES.items():
        flow = FLOWS.get(name.removesuffix(".svg"))
        router.add_api_route(
            f"/{name}",
            _answer(STATIC / name, media_type) if flow is None else _drawn(picture(flow)),
            methods=["GET"],
            response_class=FileResponse if flow is None else Response,
            summary=f"The page's file {name}" if flow is None else f"The flow of {name.removesuffix('.svg')}",
        )
    return router


def _answer(path: Path, media_type: str) -> Callable[[], FileResponse]:
    def file() -> FileResponse:
        return FileResponse(path, media_type=media_type)

    return file


def _drawn(body: str) -> Callable[[], Response]:
    def drawing() -> Response:
        return Response(body, media_type=SVG)

    return drawing
