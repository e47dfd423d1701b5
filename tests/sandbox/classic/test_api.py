"""Faults of the wire and the rate limit."""

from __future__ import annotations

import json
import xmlrpc.client
from typing import Any

import pytest
import requests

ACCOUNT, GUEST = "SoftLayer_Account", "SoftLayer_Virtual_Guest"


@pytest.fixture
def client(make_sandbox: Any, rest: Any) -> Any:
    return rest(make_sandbox())


def guests(client: Any) -> Any:
    return client.get(f"{ACCOUNT}/getVirtualGuests.json", objectMask="id")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("rate_limit", 500, "SoftLayer_Exception_WebService_RateLimitExceeded"),
        ("transient_500", 500, "SoftLayer_Exception"),
        ("error_in_200", 200, "SoftLayer_Exception_Public"),
    ],
)
def test_errors_come_once_and_are_counted(client: Any, fault: str, status: int, code: str) -> None:
    client.box.set_fault(fault, times=1)
    document = guests(client)
    assert (client.reply.status_code, document["code"]) == (status, code)
    assert len(guests(client)) == 6
    counted = client.admin("faults")[fault]
    assert (counted["asked"], counted["hits"], counted["times"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("fault", "done"),
    [
        ("lost_request", False),
        ("lost_reply", True),
        ("empty_200", True),
        ("rate_limit", False),
        ("transient_500", False),
        ("error_in_200", False),
    ],
)
def test_which_faults_come_before_the_deed_and_which_after(client: Any, fault: str, done: bool) -> None:
    client.box.set_fault(f"{fault}@createArchiveTemplate", times=1)
    assert len(guests(client)) == 6, "other methods are spared"
    try:
        reply = client.capture("web-01")
    except requests.ConnectionError:
        assert fault.startswith("lost")
    except requests.JSONDecodeError:
        assert (fault, client.reply.status_code, client.reply.text) == ("empty_200", 200, "")
    else:
        assert "error" in reply
    assert len(client.box.templates()) == int(done)
    assert len(client.box.writes()) == int(done)


def test_lists_lack_their_total_or_their_brackets(client: Any) -> None:
    client.box.set_fault("missing_total", times=1)
    guests(client)
    assert "SoftLayer-Total-Items" not in client.reply.headers
    client.box.set_fault("unwrapped_single", rate=1.0)
    assert len(guests(client)) == 6
    only = json.dumps({"virtualGuests": {"hostname": {"operation": "web-01"}}})
    found = client.get(f"{ACCOUNT}/getVirtualGuests.json", objectMask="hostname", objectFilter=only)
    assert found == {"hostname": "web-01"}


def test_a_guest_that_is_not_found_for_a_while(client: Any) -> None:
    number = client.guest("web-01")["id"]
    client.box.set_fault("guest_404", times=2)
    assert client.get(f"{GUEST}/{number}/getObject.json")["code"] == "SoftLayer_Exception_ObjectNotFound"
    assert len(guests(client)) == 6, "a list that nobody asked by id is whole"
    wanted = {"operation": "in", "options": [{"name": "data", "value": [number]}]}
    text = json.dumps({"virtualGuests": {"id": wanted}})
    assert client.get(f"{ACCOUNT}/getVirtualGuests.json", objectMask="id", objectFilter=text) == []
    assert client.get(f"{GUEST}/{number}/getObject.json", objectMask="id") == {"id": number}


def test_a_token_taken_for_expired(client: Any) -> None:
    token = client.box.identity.token_for_api_key(client.box.cos_api_key)
    client.box.set_fault("expired_iam_token", times=1)
    url = f"{client.box.rest_url}{ACCOUNT}/getObject.json"
    codes = [requests.get(url, headers={"Authorization": f"Bearer {token}"}).status_code for _ in range(2)]
    assert codes == [500, 200]
    assert client.get(f"{ACCOUNT}/getObject.json")["id"], "a key is no token"


def test_the_same_over_xmlrpc(client: Any, xml: Any) -> None:
    box = client.box
    for fault, code in (
        ("rate_limit", "SoftLayer_Exception_WebService_RateLimitExceeded"),
        ("error_in_200", "SoftLayer_Exception_Public"),
    ):
        box.set_fault(fault, times=1)
        with pytest.raises(xmlrpc.client.Fault) as caught:
            xml(box, ACCOUNT, "getObject")
        assert caught.value.faultCode == code
    body = xmlrpc.client.dumps(
        ({"headers": {"authenticate": {"username": box.username, "apiKey": box.api_key}}},), methodname="getObject"
    )
    url = f"{box.xmlrpc_url}{ACCOUNT}"
    box.set_fault("transient_500", times=1)
    assert requests.post(url, data=body).status_code == 500
    box.set_fault("empty_200", times=1)
    assert requests.post(url, data=body).content == b""
    box.set_fault("lost_reply", times=1)
    with pytest.raises(requests.ConnectionError):
        requests.post(url, data=body)


def test_more_than_the_rate_is_refused(make_sandbox: Any, rest: Any) -> None:
    client = rest(make_sandbox(switches={"requests_per_second": 2, "rate_limit_retry_after": True}))
    answers = []
    for _ in range(50):  # however slow the machine, three of fifty come within one second
        guests(client)
        answers.append((client.reply.status_code, client.reply.headers.get("Retry-After")))
        if client.reply.status_code != 200:
            break
    assert len(answers) > 2
    assert answers == [(200, None)] * (len(answers) - 1) + [(500, "1")]
    assert client.reply.json()["error"] == "Rate limit of 2 requests for every 1 second(s) exceeded."
    assert client.admin("counts")["peak_requests_per_second"] == 2
    client.box.wait_until(lambda: isinstance(guests(client), list), timeout=5, what="a request within the rate")


def test_a_rate_is_the_same_for_the_same_seed(make_sandbox: Any, rest: Any, tmp_path: Any) -> None:
    def run(name: str, seed: int) -> list[bool]:
        client = rest(make_sandbox(root=tmp_path / name, seed=seed, faults={"error_in_200": 0.3}))
        return ["error" in guests(client) for _ in range(40)]

    first = run("a", 1)
    assert first == run("b", 1)
    assert first != run("c", 2)
    assert 3 <= sum(first) <= 25
