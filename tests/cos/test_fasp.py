"""How Aspera reaches a bucket: asked for, kept secret, and refused in words that name what works."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from sealift.cos.errors import (
    CosAuthError,
    CosError,
    CosNotFoundError,
    CosNotOfferedError,
    CosPermissionError,
    CosTransientError,
)
from sealift.cos.fasp import FaspConnection

Fake = Any  # tests/cos/conftest.py's Fake
Store = Any  # tests/cos/conftest.py's Store

RETENTION = b"<ProtectionConfiguration><Status>Retention</Status></ProtectionConfiguration>"


def info(endpoint: str = "https://ats.example.com:443/", *, secret: str = "PLANTED-ats-secret") -> bytes:
    key = f"<AccessKey><Id>key-id</Id><Secret>{secret}</Secret></AccessKey>"
    return f"<FASPConnectionInfo>{key}<ATSEndpoint>{endpoint}</ATSEndpoint></FASPConnectionInfo>".encode()


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()


class Service:
    """A fake object store and IAM, by the query of a request."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        self.protection: Any = fake.Reply(body=b"<ProtectionConfiguration/>")
        self.fasp: Any = fake.Reply(body=info())
        self.token: Any = {"delegated_refresh_token": "PLANTED-delegated"}
        fake.respond = self.respond

    def respond(self, request: Any) -> Any:
        if request.path == "/identity/token":
            delegated = b"delegated_refresh_token" in request.body
            usual = {"access_token": "PLANTED-access", "expires_in": 3600}
            return self.fake.Reply(body=json.dumps(self.token if delegated else usual).encode())
        return self.protection if "protection" in request.path else self.fasp

    def client(self, **settings: Any) -> Any:
        return self.fake.client(api_key="PLANTED-key", iam_endpoint=self.fake.url, **settings)

    def refusal(self, bucket: str = "b") -> CosError:
        with pytest.raises(CosError) as caught:
            self.client().fasp_connection(bucket)
        assert "PLANTED" not in str(caught.value)
        return caught.value


@pytest.fixture
def service(fake: Fake) -> Service:
    return Service(fake)


def test_a_bucket_names_its_door_and_the_secret_is_in_no_text(service: Service) -> None:
    found = service.client().fasp_connection("b")
    assert (found.access_key_id, found.endpoint, found.verify) == ("key-id", "https://ats.example.com:443", True)
    assert found.access_key_secret.get_secret_value() == "PLANTED-ats-secret"
    assert "PLANTED" not in f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"
    asked = [one.path for one in service.fake.seen if one.path.startswith("/b?")]
    assert asked == ["/b?protection", "/b?faspConnectionInfo"]


def test_certificates_are_checked_as_the_object_store_s_are(service: Service) -> None:
    assert service.client(verify=False).fasp_connection("b").verify is False


def test_an_immutable_bucket_is_refused_before_anything_is_asked_of_aspera(service: Service) -> None:
    service.protection = service.fake.Reply(body=RETENTION)
    found = service.refusal()
    assert type(found) is CosNotOfferedError
    assert "Immutable Object Storage policy" in str(found)
    assert "HTTPS" in str(found)
    assert not any("faspConnectionInfo" in one.path for one in service.fake.seen)


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented"), (404, "NoSuchThing")])
def test_a_store_that_does_not_tell_whether_a_bucket_is_immutable_is_asked_on(
    service: Service, status: int, code: str
) -> None:
    service.protection = service.fake.Reply(status=status, body=error(code))
    assert service.client().fasp_connection("b").access_key_id == "key-id"


@pytest.mark.parametrize(
    ("status", "code"),
    [(405, "MethodNotAllowed"), (404, "NoSuchFaspConnectionInfo"), (501, "NotImplemented"), (400, "InvalidRequest")],
)
def test_whatever_else_refuses_says_that_aspera_is_not_offered(service: Service, status: int, code: str) -> None:
    service.fasp = service.fake.Reply(status=status, body=error(code))
    found = service.refusal()
    assert type(found) is CosNotOfferedError
    assert found.code == code
    assert f"{code} it is" in str(found)
    assert "certain regions" in str(found)


@pytest.mark.parametrize(
    "body",
    [
        b"<FASPConnectionInfo/>",
        b"<FASPConnectionInfo><AccessKey/></FASPConnectionInfo>",
        info(secret=""),
        info(""),
    ],
)
def test_an_answer_that_names_nothing_offers_nothing(service: Service, body: bytes) -> None:
    service.fasp = service.fake.Reply(body=body)
    assert type(service.refusal()) is CosNotOfferedError


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchBucket", CosNotFoundError),
        (403, "AccessDenied", CosPermissionError),
        (403, "InvalidAccessKeyId", CosAuthError),
        (503, "SlowDown", CosTransientError),
    ],
)
def test_what_is_about_the_key_or_the_moment_stays_so(
    service: Service, status: int, code: str, kind: type[CosError]
) -> None:
    service.fasp = service.fake.Reply(status=status, body=error(code))
    assert type(service.refusal()) is kind


def test_a_bucket_that_is_not_there_is_not_taken_for_one_without_a_policy(service: Service) -> None:
    service.protection = service.fake.Reply(status=404, body=error("NoSuchBucket"))
    assert type(service.refusal()) is CosNotFoundError


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://ats.example.com",
        "https://",
        "ftp://ats.example.com",
        "https://u:p@ats.example.com",
        "https://a:b:c",
        "https://a?x",
    ],
)
def test_an_address_that_no_secret_can_be_sent_to_is_refused(service: Service, endpoint: str) -> None:
    service.fasp = service.fake.Reply(body=info(endpoint))
    assert "no secret can be sent to" in str(service.refusal())


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8080", "http://localhost:1", "ats.example.com"])
def test_this_machine_and_a_bare_host_are_taken(service: Service, endpoint: str) -> None:
    service.fasp = service.fake.Reply(body=info(endpoint))
    found = service.client().fasp_connection("b").endpoint
    assert found == (endpoint if "://" in endpoint else f"https://{endpoint}")


def test_the_delegated_token_is_asked_for_as_the_sdk_does(service: Service) -> None:
    token = service.client().delegated_token()
    assert token.get_secret_value() == "PLANTED-delegated"
    assert "PLANTED" not in f"{token!r} {token}"
    (request,) = service.fake.seen
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["urn:ibm:params:oauth:grant-type:apikey"],
        "response_type": ["delegated_refresh_token"],
        "receiver_client_ids": ["aspera_ats"],
        "apikey": ["PLANTED-key"],
    }
    assert request.headers["Authorization"] == "Basic Yng6Yng="


@pytest.mark.parametrize("reply", [{}, {"delegated_refresh_token": ""}, {"delegated_refresh_token": 1}, []])
def test_a_reply_without_a_token_is_none(service: Service, reply: Any) -> None:
    service.token = reply
    with pytest.raises(CosError, match="sent no token"):
        service.client().delegated_token()


def test_a_token_is_asked_for_anew_each_time_and_again_where_iam_fails(store: Store) -> None:
    client = store.client()
    tokens = {client.delegated_token().get_secret_value() for _ in range(2)}
    assert len(tokens) == 2
    store.faults.set("iam_unavailable", times=1)
    assert client.delegated_token().get_secret_value() not in tokens
    with pytest.raises(CosAuthError):
        store.client("unknown").delegated_token()


def test_an_hmac_key_cannot_make_tokens(store: Store) -> None:
    client = store.client("hmac")
    for ask in (lambda: client.fasp_connection("exports"), client.delegated_token):
        with pytest.raises(CosAuthError, match=r"IBM Cloud API key.*HTTPS"):
            ask()


def test_a_reader_may_ask(any_store: Store) -> None:
    found = any_store.client("reader").fasp_connection("exports")
    assert isinstance(found, FaspConnection)
    assert found.verify == (any_store.ca or True)
    with pytest.raises(CosPermissionError):
        any_store.client("stranger").fasp_connection("exports")
