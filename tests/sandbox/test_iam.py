"""Identities, tokens and roles."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealift.sandbox.iam import IAM_FAULTS, TOKEN_SECONDS, Identity, TokenError, iam_token_response

GRANT = "urn:ibm:params:oauth:grant-type:apikey"


class Clock:
    now = datetime(2026, 11, 23, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Always:
    """A fault source in which one fault happens always."""

    def __init__(self, name: str) -> None:
        assert name in IAM_FAULTS
        self.name = name

    def hit(self, name: str) -> bool:
        return name == self.name


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def identity(tmp_path: Path, clock: Clock) -> Identity:
    made = Identity(path=tmp_path / "iam" / "identity.json", clock=clock)
    made.add_api_key(key="key-1", name="exporter", roles={"exports": "Writer", "*": "ObjectReader"})
    return made


def ask(identity: Identity, form: Mapping[str, str]) -> tuple[int, dict[str, object]]:
    status, headers, body = iam_token_response(identity, form)
    assert headers["Content-Type"] == "application/json"
    return status, json.loads(body)


def test_an_api_key_gives_a_token_that_names_its_owner(identity: Identity, clock: Clock) -> None:
    status, answer = ask(identity, {"grant_type": GRANT, "apikey": "key-1", "response_type": "cloud_iam"})
    assert status == 200
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == TOKEN_SECONDS
    assert answer["expiration"] == int(clock().timestamp()) + TOKEN_SECONDS
    principal = identity.principal_for_token(str(answer["access_token"]))
    assert principal.name == "exporter"
    assert principal.iam_id == identity.principal_for_api_key("key-1").iam_id
    assert str(answer["access_token"]).count(".") == 2


def test_a_refresh_token_gives_a_new_token_and_is_none_itself(identity: Identity, clock: Clock) -> None:
    _, first = ask(identity, {"grant_type": GRANT, "apikey": "key-1"})
    clock.now += timedelta(hours=2)
    status, second = ask(identity, {"grant_type": "refresh_token", "refresh_token": str(first["refresh_token"])})
    assert status == 200
    assert identity.principal_for_token(str(second["access_token"])).name == "exporter"
    with pytest.raises(TokenError):
        identity.principal_for_token(str(first["refresh_token"]))
    clock.now += timedelta(days=31)
    status, answer = ask(identity, {"grant_type": "refresh_token", "refresh_token": str(first["refresh_token"])})
    assert (status, answer["errorCode"]) == (400, "BXNIM0408E")


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"grant_type": GRANT, "apikey": "wrong"}, "BXNIM0415E"),
        ({"grant_type": GRANT}, "BXNIM0109E"),
        ({"grant_type": "password"}, "BXNIM0119E"),
        ({}, "BXNIM0119E"),
        ({"grant_type": "refresh_token", "refresh_token": "x.y.z"}, "BXNIM0407E"),
    ],
)
def test_refusals_look_like_iams(identity: Identity, form: dict[str, str], code: str) -> None:
    status, answer = ask(identity, form)
    assert (status, answer["errorCode"]) == (400, code)
    assert answer["errorMessage"]
    assert answer["context"]["requestId"]


def test_the_aspera_client_gets_a_delegated_token(identity: Identity) -> None:
    form = {
        "grant_type": GRANT,
        "apikey": "key-1",
        "response_type": "delegated_refresh_token",
        "receiver_client_ids": "aspera_ats",
    }
    status, answer = ask(identity, form)
    assert (status, list(answer)) == (200, ["delegated_refresh_token"])


def test_a_token_expires(identity: Identity, clock: Clock) -> None:
    token = identity.token_for_api_key("key-1", seconds=60)
    clock.now += timedelta(seconds=59)
    assert identity.principal_for_token(token)
    clock.now += timedelta(seconds=1)
    with pytest.raises(TokenError) as refused:
        identity.principal_for_token(token)
    assert refused.value.expired


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-2] + ("AA" if t[-2:] != "AA" else "BB"), lambda t: "a.b", lambda t: ""]
)
def test_a_token_from_elsewhere_is_refused(identity: Identity, spoil: object) -> None:
    with pytest.raises(TokenError) as refused:
        identity.principal_for_token(spoil(identity.token_for_api_key("key-1")))
    assert not refused.value.expired


def test_a_token_of_another_sandbox_is_refused(identity: Identity, tmp_path: Path) -> None:
    other = Identity(path=tmp_path / "other.json")
    other.add_api_key(key="key-1", name="exporter", roles={"*": "Manager"})
    with pytest.raises(TokenError, match="not issued here"):
        identity.principal_for_token(other.token_for_api_key("key-1"))


def test_tokens_and_roles_outlive_a_restart(identity: Identity, tmp_path: Path, clock: Clock) -> None:
    identity.add_hmac(access_key_id="AK", secret_access_key="SK", roles={"*": "Reader"}, service_instance="crn")
    token = identity.token_for_api_key("key-1")
    again = Identity(path=tmp_path / "iam" / "identity.json", clock=clock)
    assert again.principal_for_token(token).roles == {"exports": "Writer", "*": "ObjectReader"}
    secret, owner = again.hmac_secret("AK")
    assert (secret, owner.roles, owner.service_instance) == ("SK", {"*": "Reader"}, "crn")
    assert stat.S_IMODE((tmp_path / "iam" / "identity.json").stat().st_mode) == 0o600


def test_new_roles_count_for_old_tokens(identity: Identity) -> None:
    token = identity.token_for_api_key("key-1")
    identity.add_api_key(key="key-1", name="exporter", roles={"*": "Reader"})
    assert identity.principal_for_token(token).roles == {"*": "Reader"}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("Manager", {"read", "write", "list", "create_bucket", "config", "delete"}),
        ("Writer", {"read", "write", "list", "create_bucket", "delete"}),
        ("Reader", {"read", "list"}),
        ("ObjectReader", {"read"}),
        ("ObjectWriter", {"write"}),
    ],
)
def test_each_role_may_what_its_documentation_says(identity: Identity, role: str, allowed: set[str]) -> None:
    identity.add_api_key(key="k", name="n", roles={"exports": role})
    principal = identity.principal_for_api_key("k")
    actions = ("read", "write", "list", "create_bucket", "config", "delete")
    assert {action for action in actions if identity.may(principal, action, "exports")} == allowed
    assert not any(identity.may(principal, action, "other") for action in actions)


def test_a_role_for_all_buckets_adds_to_one_for_a_bucket(identity: Identity) -> None:
    principal = identity.principal_for_api_key("key-1")
    assert identity.may(principal, "write", "exports")
    assert identity.may(principal, "read", "other")
    assert not identity.may(principal, "write", "other")


def test_an_unknown_role_is_named(identity: Identity) -> None:
    with pytest.raises(ValueError, match="unknown role 'Boss'"):
        identity.add_api_key(key="k", name="n", roles={"*": "Boss"})


def test_an_unknown_key_gives_no_token(identity: Identity) -> None:
    assert identity.principal_for_api_key("nobody") is None
    assert identity.hmac_secret("nobody") is None
    with pytest.raises(TokenError):
        identity.token_for_api_key("nobody")


def test_faults(tmp_path: Path) -> None:
    expired = Identity(path=tmp_path / "a.json", faults=Always("expired_token"))
    expired.add_api_key(key="k", name="n", roles={})
    with pytest.raises(TokenError) as refused:
        expired.principal_for_token(expired.token_for_api_key("k"))
    assert refused.value.expired
    away = Identity(path=tmp_path / "b.json", faults=Always("iam_unavailable"))
    assert ask(away, {"grant_type": GRANT, "apikey": "k"})[0] == 503


def test_nothing_shows_a_secret(identity: Identity) -> None:
    identity.add_hmac(access_key_id="AK", secret_access_key="hush-secret", roles={})
    shown = repr(identity) + repr(identity.principal_for_api_key("key-1")) + repr(identity.hmac_secret("AK")[1])
    assert "hush" not in shown
    assert "key-1" not in shown
