"""Every route of the page's API demands a user with the right on the DAG, in Airflow's real API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from sealift.provider.ui.app import make_app
from sealift.provider.ui.desk import Desk
from sealift.provider.ui.page import FILES
from sealift.provider.ui.places import DEFAULT, Place, Places


def filled(server: Any, path: str) -> str:
    """A path with names of things that are there."""
    even = next(100_000_000 + 7 * n for n in range(60) if n % 2 == 0)
    return path.format(server_id=even, period=server.periods[0], plan_id=server.plans[0], number=0)


def routes() -> list[tuple[str, str]]:
    """Every method and path that the application has, whoever added it."""
    app = make_app(Desk(Places({DEFAULT: Place(name=DEFAULT)})))
    found = []
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is not guarded by dependencies: the walk does not know it"
        found += [(method, route.path) for method in sorted(route.methods)]
    return found


ROUTES = routes()


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_without_a_user_gets_an_answer(server: Any, method: str, path: str) -> None:
    with server.client(None) as client:
        reply = client.request(method, filled(server, path), json={} if method == "POST" else None)
    assert reply.status_code == 401
    assert set(reply.json()) == {"detail"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_user_without_the_right_is_refused(server: Any, method: str, path: str) -> None:
    with server.client("nix") as client:
        reply = client.request(method, filled(server, path), json={} if method == "POST" else None)
    assert reply.status_code == 403
    assert set(reply.json()) == {"detail"}


GETS = [path for method, path in ROUTES if method == "GET"]


@pytest.mark.parametrize("path", GETS)
def test_a_user_who_may_see_the_dag_gets_an_answer(server: Any, path: str) -> None:
    with server.client("vic") as client:
        reply = client.get(filled(server, path))
    assert reply.status_code == 200, reply.text
    expected = FILES.get(path.removeprefix("/static/"), "application/json")
    assert reply.headers["Content-Type"].removesuffix("; charset=utf-8") == expected


ACTIONS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "/api/actions/plan": lambda _: {"params": {"tags": ["prod"]}},
    "/api/actions/approve": lambda server: {"plan_id": server.plans[1]},
    "/api/actions/export": lambda _: {"ids": [100_000_000]},
    "/api/actions/missing": lambda _: {},
    "/api/actions/retry": lambda server: {"plan_id": server.plans[1]},
    "/api/actions/prove": lambda server: {"exports": [done(server)]},
    "/api/actions/deliver": lambda server: {"exports": [done(server)], "to": "/srv/images"},
}


def done(server: Any) -> str:
    """An export that is done."""
    return f"{100_000_000}-{server.periods[0]}"


def test_every_action_is_tried() -> None:
    assert set(ACTIONS) == {path for method, path in ROUTES if method == "POST"}


@pytest.mark.parametrize("path", ACTIONS)
def test_who_may_only_see_may_prepare_no_run(server: Any, path: str) -> None:
    with server.client("vic") as client:
        assert client.post(path, json=ACTIONS[path](server)).status_code == 403


@pytest.mark.parametrize("path", [path for path in ACTIONS if not path.endswith("approve")])
def test_who_may_start_runs_gets_one_that_airflow_takes(server: Any, path: str) -> None:
    with server.client("uma") as client:
        reply = client.post(path, json=ACTIONS[path](server))
        assert reply.status_code == 200, reply.text
        prepared = reply.json()
        started = httpx.request(
            prepared["method"],
            server.url + prepared["path"],
            json=prepared["body"],
            headers=client.headers,
            timeout=60,
            trust_env=False,
        )
    assert started.status_code == 200, started.text
    assert started.json()["dag_id"] == prepared["dag_id"]
    assert started.json()["conf"] == prepared["body"]["conf"]
    assert started.json()["triggering_user_name"] == "uma"
    assert prepared["body"]["conf"]["bucket"] == server.sandbox.bucket


def test_a_plan_that_was_no_dry_run_cannot_be_approved(server: Any, ann: httpx.Client) -> None:
    reply = ann.post("/api/actions/approve", json={"plan_id": server.plans[1]})
    assert reply.status_code == 400
    assert "was no dry run" in reply.json()["detail"]


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/api/nowhere"), ("GET", "/"), ("PUT", "/api/coverage")])
@pytest.mark.parametrize("user", ["ann", None])
def test_every_answer_has_the_headers_and_none_holds_a_secret(
    server: Any, method: str, path: str, user: str | None
) -> None:
    with server.client(user) as client:
        reply = client.request(method, filled(server, path), json={"a": 1} if method != "GET" else None)
    headers = reply.headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "private, no-cache"
    assert "Cookie" in headers["Vary"]
    text = reply.text + str(headers)
    assert [one for one in server.secrets if one in text] == []
    if reply.status_code >= 400:
        assert set(reply.json()) == {"detail"}, reply.text


def test_no_log_holds_a_secret(server: Any) -> None:
    text = server.log.read_text()
    assert [one for one in server.secrets if one in text] == []


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


def test_markup_in_names_stays_text_in_json(server: Any, ann: httpx.Client) -> None:
    reply = ann.get("/api/coverage", params={"name": "<script>alert(1)</script>"})
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json()["total"] == 0
    wrong = ann.get("/api/coverage", params={"order": "<script>"})
    assert wrong.status_code == 422
    assert "<script>" not in wrong.text


def test_the_answers_are_about_what_is_in_the_bucket(server: Any, ann: httpx.Client) -> None:
    page = ann.get("/api/coverage", params={"limit": 5}).json()
    assert [one["period"] for one in page["slots"]] == server.periods
    assert page["total"] == 60
    assert page["servers"][0]["hostname"] == "host00000"
    assert page["servers"][0]["cells"][0] == "L1"
    failed = ann.get("/api/coverage", params={"state": "failed", "in_slot": "any"}).json()
    assert 0 < failed["total"] < 60
    one = ann.get("/api/servers/100000000").json()
    assert one["exports"][0]["wave_run_id"] == f"{server.plans[0]}.wave-0000"
    export = ann.get(f"/api/servers/100000000/exports/{server.periods[0]}").json()
    assert export["download_command"].startswith(f"sealift download 100000000-{server.periods[0]} --bucket ")
    assert export["record"]["detail"]["hostname"] == "host00000"
    assert export["problems"] == []
    plan = ann.get(f"/api/plans/{server.plans[0]}", params={"limit": 1}).json()
    assert plan["totals"]["export"] == plan["totals"]["offline"] == 60
    assert plan["costs"]["storage_per_month"][0]["confirmed"] is False
    waves = ann.get(f"/api/plans/{server.plans[0]}/waves").json()
    assert waves["counts"] == {"exported": 30, "running": 30}
    charts = ann.get("/api/charts").json()
    assert charts["recovery"]["failures"] > 0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/servers/12", "Nothing in the bucket speaks of a virtual server 12"),
        ("/api/servers/100000000/exports/20200101T0000Z", "it is not exported"),
        ("/api/servers/100000000/exports/..%2F..", "period"),
        ("/api/plans/no-such-plan", "There is no plan no-such-plan"),
        ("/api/plans/%2e%2e", "plan"),
        ("/api/plans/{plan_id}/waves/99", "and no wave 99"),
    ],
)
def test_what_is_not_there_is_said_in_words(server: Any, ann: httpx.Client, path: str, words: str) -> None:
    reply = ann.get(filled(server, path))
    assert reply.status_code == 404
    assert words in reply.json()["detail"] or reply.json()["detail"] == "Not Found"


def test_the_account_is_asked_about_a_wave(server: Any, ann: httpx.Client) -> None:
    found = ann.get(filled(server, "/api/plans/{plan_id}/waves/0/transactions")).json()
    assert len(found["servers"]) == 20
    assert found["asked_at"]
    again = ann.get(filled(server, "/api/plans/{plan_id}/waves/0/transactions")).json()
    assert again["servers"] == found["servers"]


def test_the_api_describes_itself_and_every_field(ann: httpx.Client) -> None:
    document = ann.get("/api/openapi.json").json()
    assert {path for _, path in ROUTES} == set(document["paths"])
    undescribed = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, about in schema.get("properties", {}).items()
        if "description" not in about and name not in ("HTTPValidationError", "ValidationError")
    ]
    assert undescribed == []
