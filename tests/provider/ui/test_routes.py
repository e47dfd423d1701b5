"""Every route of the page's API demands a user with the right on the DAG, in Airflow's real API server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from sealift.provider.ui.app import make_app
from sealift.provider.ui.desk import Desk
from sealift.provider.ui.places import DEFAULT, Place, Places

PATHS = {"server_id": 101, "period": "20261123T0200Z", "plan_id": "manual-1", "number": 0}


def routes() -> list[tuple[str, str]]:
    """Every method and path that the application has, whoever added it."""
    app = make_app(Desk(Places({DEFAULT: Place(name=DEFAULT)})))
    found = []
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is not guarded by dependencies: the walk does not know it"
        found += [(method, route.path) for method in sorted(route.methods)]
    return found


ROUTES = routes()


def filled(path: str) -> str:
    return path.format(**PATHS)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_without_a_user_gets_an_answer(server: Any, method: str, path: str) -> None:
    with server.client(None) as client:
        reply = client.request(method, filled(path), json={} if method == "POST" else None)
    assert reply.status_code == 401
    assert set(reply.json()) == {"detail"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_user_without_the_right_is_refused(server: Any, method: str, path: str) -> None:
    with server.client("nix") as client:
        reply = client.request(method, filled(path), json={} if method == "POST" else None)
    assert reply.status_code == 403
    assert set(reply.json()) == {"detail"}


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "GET" and "{" not in path])
def test_a_user_who_may_see_the_dag_gets_an_answer(server: Any, path: str) -> None:
    with server.client("vic") as client:
        assert client.get(path).status_code in (200, 422)


def test_the_session_s_cookie_will_do(server: Any) -> None:
    reply = httpx.get(
        f"{server.url}/sealift/api/places", cookies={"_token": server.token("vic")}, timeout=60, trust_env=False
    )
    assert reply.status_code == 200


def test_a_place_that_the_deployment_does_not_have_is_refused(ann: httpx.Client) -> None:
    reply = ann.get("/api/coverage", params={"place": "ibm_cos_default"})
    assert reply.status_code == 404
    assert "default, empty" in reply.json()["detail"]


def test_what_has_not_changed_is_not_sent_again(ann: httpx.Client) -> None:
    first = ann.get("/api/coverage", params={"place": "empty"})
    assert first.status_code == 200
    assert first.json()["total"] == 0
    again = ann.get("/api/coverage", params={"place": "empty"}, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Sealift-Checked-At"]
    other = ann.get(
        "/api/coverage", params={"place": "empty", "limit": 5}, headers={"If-None-Match": first.headers["ETag"]}
    )
    assert other.status_code == 200
