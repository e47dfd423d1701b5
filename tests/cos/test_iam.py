"""Tokens are asked for once, kept, renewed in time, and asked for again only where that can help."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import parse_qs

import pytest

from sealift.cos.errors import CosAuthError, CosError, CosTransientError, CosUnreachableError
from sealift.cos.iam import IamTokens
from sealift.cos.retrying import Retries

Fake, Store = Any, Any  # tests/cos/conftest.py's

KEY = "PLANTED+api/key="


class Time:
    now = 1000.0


def tokens(fake: Fake, time: Time, **settings: Any) -> IamTokens:
    retries = Retries(max_attempts=3, sleep=fake.sleeps.append, rng=random.Random(3))
    given: dict[str, Any] = {"endpoint": fake.url, "api_key": KEY, "timeout": 10.0, "verify": True, "retries": retries}
    return IamTokens(**(given | {"clock": lambda: time.now} | settings))


def issue(fake: Fake, *, lifetime: float = 3600) -> None:
    def respond(_: Any) -> Any:
        token = {"access_token": f"token-{len(fake.seen)}", "expires_in": lifetime, "token_type": "Bearer"}
        return fake.Reply(body=json.dumps(token).encode())

    fake.respond = respond


def test_a_token_is_kept_until_a_fifth_of_its_life_is_left(fake: Fake) -> None:
    issue(fake)
    time = Time()
    mine = tokens(fake, time)
    assert [mine.get_token() for _ in range(3)] == ["token-1"] * 3
    time.now += 2879
    assert mine.get_token() == "token-1"
    time.now += 2
    assert mine.get_token() == "token-2"
    (request, _) = fake.seen
    assert request.path == "/identity/token"
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["urn:ibm:params:oauth:grant-type:apikey"],
        "response_type": ["cloud_iam"],
        "apikey": [KEY],
    }
    assert request.headers["Authorization"] == "Basic Yng6Yng="
    assert KEY not in repr(mine)


def test_an_old_token_serves_while_iam_is_away(fake: Fake) -> None:
    issue(fake)
    time = Time()
    mine = tokens(fake, time)
    mine.get_token()
    fake.respond = lambda _: fake.Reply(status=503)
    time.now += 3000
    assert mine.get_token() == "token-1"
    time.now += 700
    with pytest.raises(CosTransientError, match="failed for now"):
        mine.get_token()


def test_dropping_makes_room_for_a_new_one(fake: Fake) -> None:
    issue(fake)
    mine = tokens(fake, Time())
    token = mine.get_token()
    assert mine.current == token
    mine.drop(token)
    assert mine.current == ""
    assert mine.get_token() == "token-2"
    mine.drop(token)
    assert mine.get_token() == "token-2", "somebody else has renewed it meanwhile"


@pytest.mark.parametrize(
    ("status", "body", "kind", "asked"),
    [
        (
            400,
            {"errorCode": "BXNIM0415E", "errorMessage": f"Provided API key {KEY} could not be found."},
            CosAuthError,
            1,
        ),
        (401, {}, CosAuthError, 1),
        (403, {"errorCode": "BXNIM0513E", "errorMessage": "locked"}, CosAuthError, 1),
        (429, {}, CosTransientError, 3),
        (500, {"errorMessage": "oops"}, CosTransientError, 3),
        (404, {}, CosError, 1),
        (302, {}, CosError, 1),
        (200, {"message": "hello"}, CosError, 1),
        (200, {"access_token": "t", "expires_in": 0}, CosError, 1),
        (200, [1], CosError, 1),
    ],
)
def test_refusals(fake: Fake, status: int, body: Any, kind: type[CosError], asked: int) -> None:
    fake.respond = lambda _: fake.Reply(status=status, body=json.dumps(body).encode())
    with pytest.raises(CosError) as caught:
        tokens(fake, Time()).get_token()
    assert type(caught.value) is kind
    assert len(fake.seen) == asked
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None


def test_broken_connections(fake: Fake) -> None:
    for broken in (fake.Reply(close=True), fake.Reply(body=b"{" * 100, truncate=True)):
        fake.seen.clear()
        fake.respond = lambda _, reply=broken: reply
        with pytest.raises(CosTransientError, match="did not answer in full") as caught:
            tokens(fake, Time()).get_token()
        assert type(caught.value) is CosTransientError
        assert len(fake.seen) == 3
    with pytest.raises(CosUnreachableError, match="cannot be reached"):
        tokens(fake, Time(), endpoint="http://127.0.0.1:1").get_token()


def test_the_endpoint_may_be_a_bare_host(fake: Fake) -> None:
    assert tokens(fake, Time(), endpoint="https://iam.example/").endpoint == "https://iam.example/identity/token"
    assert tokens(fake, Time(), endpoint="https://iam.example/x/token").endpoint == "https://iam.example/x/token"
    with pytest.raises(ValueError, match="IAM endpoint"):
        tokens(fake, Time(), endpoint="iam.example")


def test_a_proxy_and_a_bundle_of_requests_are_heeded(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    token = json.dumps({"access_token": "t", "expires_in": 3600}).encode()
    fake.respond = lambda request: fake.Reply(body=token)
    monkeypatch.setenv("http_proxy", fake.url)
    assert tokens(fake, Time(), endpoint="http://iam.example").get_token() == "t"
    assert fake.seen[-1].path == "http://iam.example/identity/token", "the proxy was asked"
    assert tokens(fake, Time()).get_token() == "t"
    assert fake.seen[-1].path == "/identity/token", "nothing on this machine is behind a proxy"


def test_a_token_is_got_over_tls_only_where_the_certificate_is_trusted(tls_store: Store) -> None:
    client = tls_store.client("manager")
    assert client._connection._tokens.get_token()
    with pytest.raises(CosUnreachableError, match="no trusted TLS connection"):
        tls_store.client("manager", verify=True, max_attempts=1)._connection._tokens.get_token()
