"""REST on the wire: both styles of URL, verbs, paging, errors."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from sealift.sandbox import Sandbox

GUEST = "SoftLayer_Virtual_Guest"


@pytest.fixture
def client(make_sandbox: Any, rest: Any) -> Any:
    return rest(make_sandbox(servers=12))


def test_both_styles_of_url_read_an_object(client: Any) -> None:
    number = client.guest("web-01")["id"]
    long = client.get(f"{GUEST}/{number}/getObject.json", objectMask="id,hostname")
    assert long == client.get(f"{GUEST}/{number}.json", objectMask="mask[id,hostname]")
    assert long == {"id": number, "hostname": "web-01"}


def test_a_global_identifier_stands_for_an_id(client: Any) -> None:
    guest = client.guest("web-01")
    found = client.get(f"{GUEST}/{guest['globalIdentifier']}/getObject.json", objectMask="id")
    assert found == {"id": guest["id"]}


def test_put_edits_and_delete_removes(client: Any) -> None:
    number = client.guest("db-01")["id"]
    url = f"{client.box.rest_url}{GUEST}/{number}.json"
    assert client.session.put(url, json={"parameters": [{"notes": "hello"}]}).json() is True
    assert client.get(f"{GUEST}/{number}/getObject.json", objectMask="notes") == {"notes": "hello"}


def test_arguments_of_a_get_are_not_read(client: Any) -> None:
    number = client.guest("files-01")["id"]
    url = f"{client.box.rest_url}{GUEST}/{number}/getAttachedNetworkStorages.json"
    all_of_them = client.session.request("GET", url, json={"parameters": ["NAS"]}).json()
    assert [one["nasType"] for one in all_of_them] == ["ISCSI", "NAS"]
    assert [one["nasType"] for one in client.session.post(url, json={"parameters": ["NAS"]}).json()] == ["NAS"]


@pytest.mark.parametrize(
    ("limit", "count"), [("0,5", 5), ("5,5", 5), ("10,5", 2), ("20,5", 0), ("4", 4), ("0,0", 12), ("x", 12), ("", 12)]
)
def test_pages_carry_the_total(client: Any, limit: str, count: int) -> None:
    found = client.get("SoftLayer_Account/getVirtualGuests.json", objectMask="id", resultLimit=limit)
    assert len(found) == count
    assert client.reply.headers["SoftLayer-Total-Items"] == "12"


def test_pages_together_hold_everything_once(client: Any) -> None:
    params = {"objectMask": "id", "objectFilter": '{"virtualGuests":{"id":{"operation":"orderBy"}}}'}
    pages = [
        client.get("SoftLayer_Account/getVirtualGuests.json", resultLimit=f"{offset},5", **params)
        for offset in (0, 5, 10)
    ]
    assert [one["id"] for page in pages for one in page] == sorted(client.box.world.guests)


def test_a_filter_that_is_no_json_is_ignored(client: Any) -> None:
    assert len(client.get("SoftLayer_Account/getVirtualGuests.json", objectMask="id", objectFilter="{nonsense")) == 12


def test_what_the_service_cannot_filter_it_ignores(client: Any) -> None:
    for name in ("fullyQualifiedDomainName", "activeTransactionCount", "blockDeviceCount"):
        text = f'{{"virtualGuests":{{"{name}":{{"operation":"web-01.example.com"}}}}}}'
        assert len(client.get("SoftLayer_Account/getVirtualGuests.json", objectMask="id", objectFilter=text)) == 12


@pytest.mark.parametrize(
    ("path", "status", "code", "error"),
    [
        (f"{GUEST}/1/getObject.json", 404, "SoftLayer_Exception_ObjectNotFound", "find object with id of '1'."),
        (f"{GUEST}/120000000/noSuch.json", 500, "-32601", "noSuch"),
        (f"{GUEST}/getObject.json", 400, "SoftLayer_Exception_WebService_BadRequest", "needs the id"),
        ("SoftLayer_Nothing/getObject.json", 404, "SoftLayer_Exception_WebService_BadRequest", "SoftLayer_Nothing"),
        ("SoftLayer_Account/getVirtualGuests.xml", 404, "SoftLayer_Exception_WebService_BadRequest", ".json"),
        ("a/b/c/d.json", 404, "SoftLayer_Exception_WebService_BadRequest", "path"),
    ],
)
def test_errors(client: Any, path: str, status: int, code: str, error: str) -> None:
    document = client.get(path)
    assert (client.reply.status_code, document["code"]) == (status, code)
    assert error in document["error"]


def test_a_mask_with_an_unknown_property_is_refused_unless_switched(client: Any) -> None:
    document = client.get("SoftLayer_Account/getVirtualGuests.json", objectMask="id,nosuch")
    assert (client.reply.status_code, document["code"]) == (500, "SoftLayer_Exception_Public")
    assert "nosuch" in document["error"]
    client.admin("switches", {"unknown_mask_property": "ignore"})
    assert list(client.get("SoftLayer_Account/getVirtualGuests.json", objectMask="id,nosuch")[0]) == ["id"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"parameters": 1}'])
def test_a_body_without_parameters_is_refused(client: Any, body: bytes) -> None:
    number = client.guest("web-01")["id"]
    reply = client.session.post(f"{client.box.rest_url}{GUEST}/{number}/createArchiveTemplate.json", data=body)
    assert reply.status_code == 400
    assert client.box.writes() == []


def test_credentials(make_sandbox: Any) -> None:
    box: Sandbox = make_sandbox()
    url = f"{box.rest_url}SoftLayer_Account/getObject.json"
    token = box.identity.token_for_api_key(box.cos_api_key)
    good: list[dict[str, Any]] = [
        {"auth": (box.username, box.api_key)},
        {"auth": ("apikey", box.cos_api_key)},
        {"headers": {"Authorization": f"Bearer {token}"}},
    ]
    for one in good:
        assert requests.get(url, **one).json()["id"] == 307608
    bad: list[dict[str, Any]] = [
        {},
        {"auth": (box.username, "wrong")},
        {"auth": ("other", box.api_key)},
        {"auth": ("apikey", box.api_key)},
        {"headers": {"Authorization": "Bearer x.y.z"}},
        {"headers": {"Authorization": "Basic %%%"}},
        {"headers": {"Authorization": "Basic /w=="}},
    ]
    for one in bad:
        reply = requests.get(url, **one)
        assert (reply.status_code, reply.json()["code"]) == (401, "SoftLayer_Exception_InvalidLegacyToken")


def with_token(box: Sandbox, token: str) -> requests.Response:
    url = f"{box.rest_url}SoftLayer_Account/getObject.json"
    return requests.get(url, headers={"Authorization": f"Bearer {token}"})


def test_a_token_that_expired_is_told_apart(make_sandbox: Any) -> None:
    box: Sandbox = make_sandbox()
    token = box.identity.token_for_api_key(box.cos_api_key, seconds=-1)
    reply = with_token(box, token)
    assert reply.status_code == 500
    assert reply.json()["code"] == "SoftLayer_Exception_Account_Authentication_AccessTokenValidation"


def test_tokens_come_from_the_same_port(make_sandbox: Any) -> None:
    box: Sandbox = make_sandbox()
    form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": box.cos_api_key}
    token = requests.post(box.iam_url, data=form).json()["access_token"]
    reply = with_token(box, token)
    assert reply.status_code == 200
