"""Headers of every answer: nothing is loaded from elsewhere, framed by strangers, or kept by a proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

DATA_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For data: a browser that is made to show it as a page loads and runs nothing."""

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""For the page's own files: everything comes from this host, and only Airflow's own pages may frame it."""

COMMON: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie",
}


def headers_for(path: str) -> dict[str, str]:
    """Give the headers of an answer.

    :param path: the request's path below the app's prefix.
    :returns: names and values.
    """
    policy, frames = (PAGE_POLICY, "SAMEORIGIN") if path.startswith("/page/") else (DATA_POLICY, "DENY")
    return {**COMMON, "Content-Security-Policy": policy, "X-Frame-Options": frames}


class Headers:
    """Adds the headers to every answer; what a route has set itself stays.

    :param app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        :param scope: as ASGI has it.
        :param receive: as ASGI has it.
        :param send: as ASGI has it.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in headers_for(path).items()
                        if name.lower().encode() not in there
                    ),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)
