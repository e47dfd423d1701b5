"""The admin endpoint."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def client(make_sandbox: Any, rest: Any) -> Any:
    return rest(make_sandbox(speed=3000.0))


def ask(client: Any, verb: str, path: str, body: Any = None) -> Any:
    return client.session.request(verb, f"{client.box.api_url}/sandbox/{path}", json=body, timeout=10)


def test_state_and_lists(client: Any) -> None:
    number = client.capture("web-01")["id"]
    client.box.wait_until(lambda: client.box.templates()[0]["finished"], what="the capture")
    client.export(number, f"cos://us-south/{client.box.bucket}/disk.vhd")
    client.box.wait_until(lambda: client.admin("state")["objects"] == {"sealift-exports": 1}, what="the export")
    state = client.admin("state")
    assert (state["guests"], state["templates"], state["seed"], state["failures"]) == (6, 1, 1, {})
    writes = client.admin("writes")
    assert [(one["method"], one["error"]) for one in writes] == [("createArchiveTemplate", None), ("copyToIcos", None)]
    assert writes[0]["resultId"] == number
    assert writes[1]["args"][0] == {"uri": f"cos://us-south/{client.box.bucket}/disk.vhd", "ibmApiKey": "***"}
    assert client.box.cos_api_key not in str(writes)
    (template,) = client.admin("templates")
    assert (template["guestId"], template["finished"]) == (client.guest("web-01")["id"], True)
    assert client.admin("counts")["calls"]["SoftLayer_Virtual_Guest::createArchiveTemplate"] == 1
    ended = [one for one in client.admin("transactions") if one["kind"] in {"capture", "export"}]
    assert [one["kind"] for one in ended] == ["capture", "export"]
    assert all(one["ended"] for one in ended)


def test_faults(client: Any) -> None:
    client.admin("faults", {"empty_200": 0.5, "lost_reply": {"times": 2, "methods": ["copyToIcos"]}})
    faults = client.admin("faults")
    assert faults["empty_200"]["rate"] == 0.5
    assert faults["lost_reply"] == {"rate": 0.0, "times": 2, "methods": ["copyToIcos"], "asked": 0, "hits": 0}
    assert ask(client, "DELETE", "faults").json()["empty_200"]["rate"] == 0.0
    for body in ({"nosuch": 1}, {"empty_200": 2}, {"empty_200": {"nosuch": 1}}, [1], {"empty_200": "often"}):
        reply = ask(client, "POST", "faults", body)
        assert reply.status_code == 400, body
        assert reply.json()["error"]


def test_switches(client: Any) -> None:
    assert client.admin("switches", {"xmlrpc_nil": "nil"})["xmlrpc_nil"] == "nil"
    reply = ask(client, "POST", "switches", {"nosuch": 1})
    assert (reply.status_code, "nosuch" in reply.json()["error"]) == (400, True)


def test_transactions_are_begun_and_ended(client: Any) -> None:
    guest = client.guest("web-01")["id"]
    held = client.admin(f"guests/{guest}/hold", {})["id"]
    assert client.capture("web-01")["error"] == "There is currently an active transaction."
    client.admin(f"transactions/{held}/end", {})
    assert client.capture("web-01")["id"]
    assert ask(client, "POST", f"transactions/{held}/end", {}).status_code == 404
    assert ask(client, "POST", "guests/1/hold", {}).status_code == 404


def test_what_is_not_there(client: Any) -> None:
    assert ask(client, "GET", "nosuch").status_code == 404
    assert ask(client, "POST", "nosuch", {}).status_code == 404
    assert ask(client, "DELETE", "state").status_code == 404


def test_shutdown_is_asked_for(client: Any) -> None:
    assert ask(client, "POST", "shutdown", {}).status_code == 202
    client.box.wait_to_stop()


def test_others_on_the_network_are_turned_away(client: Any) -> None:
    from sealift.sandbox.admin import answer_admin
    from sealift.sandbox.web import Request

    request = Request(
        method="GET", path="/sandbox/state", query={}, headers=client.session.get(client.box.api_url).raw.headers,
        body=b"", local=False,
    )  # fmt: skip
    assert answer_admin(client.box, request).status == 403
    page = {"Origin": "http://example.com"}
    assert client.session.get(f"{client.box.api_url}/sandbox/state", headers=page).status_code == 403
