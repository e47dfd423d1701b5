"""XML-RPC on the wire: headers, nil, big numbers, faults."""

from __future__ import annotations

import xmlrpc.client
from typing import Any

import pytest
import requests

from sealift.sandbox import Sandbox

ACCOUNT, GUEST = "SoftLayer_Account", "SoftLayer_Virtual_Guest"


def test_headers_carry_login_id_mask_filter_and_page(make_sandbox: Any, xml: Any) -> None:
    box: Sandbox = make_sandbox(servers=12)
    number = next(iter(box.world.guests))
    found = xml(
        box,
        GUEST,
        "getObject",
        **{f"{GUEST}InitParameters": {"id": number}, "SoftLayer_ObjectMask": {"mask": "mask[id,hostname]"}},
    )
    assert found == {"id": number, "hostname": "web-01"}
    page = xml(
        box,
        ACCOUNT,
        "getVirtualGuests",
        SoftLayer_ObjectMask={"mask": "mask[id]"},
        SoftLayer_AccountObjectFilter={"virtualGuests": {"id": {"operation": f"> {number}"}}},
        resultLimit={"limit": 2, "offset": 3},
    )
    assert [one["id"] for one in page] == sorted(box.world.guests)[4:6]


def test_null_travels_as_switched(make_sandbox: Any, xml: Any) -> None:
    box: Sandbox = make_sandbox()
    number = next(iter(box.world.guests))
    call = {f"{GUEST}InitParameters": {"id": number}}
    assert xml(box, GUEST, "getActiveTransaction", **call) == ""
    assert xml(box, GUEST, "getActiveTransactions", **call) == []
    box.switches.set("xmlrpc_nil", "nil")
    assert xml(box, GUEST, "getActiveTransaction", **call) is None


def test_numbers_beyond_32_bits_travel_as_doubles(make_sandbox: Any, xml: Any) -> None:
    box: Sandbox = make_sandbox()
    box.world.account["city"] = 2**40
    found = xml(box, ACCOUNT, "getObject", SoftLayer_ObjectMask={"mask": "mask[city]"})
    assert found == {"city": float(2**40)}


def test_text_beyond_latin_1_survives(make_sandbox: Any, xml: Any) -> None:
    box: Sandbox = make_sandbox()
    number = next(iter(box.world.guests))
    call = {f"{GUEST}InitParameters": {"id": number}}
    assert xml(box, GUEST, "editObject", {"notes": "Zürich, 東京"}, **call) is True
    found = xml(box, GUEST, "getObject", SoftLayer_ObjectMask={"mask": "notes"}, **call)
    assert found == {"notes": "Zürich, 東京"}


@pytest.mark.parametrize(
    ("service", "method", "headers", "code"),
    [
        (GUEST, "getObject", {f"{GUEST}InitParameters": {"id": 1}}, "SoftLayer_Exception_ObjectNotFound"),
        (ACCOUNT, "noSuch", {}, "-32601"),
        ("SoftLayer_Nothing", "getObject", {}, "SoftLayer_Exception_WebService_BadRequest"),
    ],
)
def test_faults_come_in_http_200_with_text_for_a_code(
    make_sandbox: Any, xml: Any, service: str, method: str, headers: dict[str, Any], code: str
) -> None:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xml(make_sandbox(), service, method, **headers)
    assert caught.value.faultCode == code


def test_no_login_and_bearer_tokens_are_refused(make_sandbox: Any, xml: Any) -> None:
    box: Sandbox = make_sandbox()
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xml(box, ACCOUNT, "getObject", login=False)
    assert caught.value.faultCode == "SoftLayer_Exception_InvalidLegacyToken"
    token = {"Authorization": f"Bearer {box.identity.token_for_api_key(box.cos_api_key)}"}
    body = xmlrpc.client.dumps(({"headers": {}},), methodname="getObject")

    def ask() -> bytes:
        return requests.post(f"{box.xmlrpc_url}{ACCOUNT}", data=body, headers=token).content

    assert b"InvalidLegacyToken" in ask()
    box.switches.set("xmlrpc_bearer", True)
    assert xmlrpc.client.loads(ask())[0][0]["id"] == 307608


@pytest.mark.parametrize("body", [b"", b"<nonsense", b"<a/>", xmlrpc.client.dumps((1,), methodresponse=True).encode()])
def test_what_is_no_call_is_a_fault(make_sandbox: Any, body: bytes) -> None:
    reply = requests.post(f"{make_sandbox().xmlrpc_url}{ACCOUNT}", data=body)
    assert reply.status_code == 200
    with pytest.raises(xmlrpc.client.Fault, match="not well-formed"):
        xmlrpc.client.loads(reply.content)
