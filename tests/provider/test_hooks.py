"""The hooks: what a connection's fields become, and what is said about fields that cannot work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from sealift.classic.errors import ClassicAuthError
from sealift.cos.errors import CosPermissionError
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.metrics import count_classic_retry

pytestmark = pytest.mark.airflow


def connect(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    extra = fields.pop("extra", {})
    connection = Connection(conn_id="c", extra=json.dumps(extra), **fields)
    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(lambda _conn_id: connection))


@pytest.fixture
def classic_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    class Client:
        def __init__(self, **kwargs: Any) -> None:
            seen.update(kwargs)

        def account_id(self) -> int:
            if seen["api_key"] == "wrong":
                raise ClassicAuthError("Invalid API token.", call="SoftLayer_Account::getObject", status=401)
            return 307608

    monkeypatch.setattr("sealift.classic.client.ClassicClient", Client)
    return seen


def test_classic_connection_becomes_a_client(
    monkeypatch: pytest.MonkeyPatch, classic_arguments: dict[str, Any]
) -> None:
    connect(
        monkeypatch,
        conn_type="ibm_classic",
        host="http://127.0.0.1:7480",
        login="someone",
        password="right",
        extra={"transport": "rest", "timeout": "5", "verify": "false", "network": ""},
    )
    assert ClassicHook("c").client is not None
    assert classic_arguments == {
        "username": "someone",
        "api_key": "right",
        "endpoint_url": "http://127.0.0.1:7480",
        "transport": "rest",
        "network": "public",
        "timeout": 5.0,
        "requests_per_second": 20.0,
        "verify": False,
        "caller": "",
        "on_retry": count_classic_retry,
    }


def test_an_empty_endpoint_is_ibm_s_own_and_a_bare_host_gets_https(
    monkeypatch: pytest.MonkeyPatch, classic_arguments: dict[str, Any]
) -> None:
    connect(monkeypatch, conn_type="ibm_classic", login="someone", password="right")
    assert ClassicHook("c").client is not None
    assert classic_arguments["endpoint_url"] is None
    connect(monkeypatch, conn_type="ibm_classic", host="api.example.org", login="someone", password="right")
    assert ClassicHook("c").client is not None
    assert classic_arguments["endpoint_url"] == "https://api.example.org"
    connect(
        monkeypatch, conn_type="ibm_classic", host="p.example.org/rest/v3.1", port=8443, login="a", password="right"
    )
    assert ClassicHook("c").client is not None
    assert classic_arguments["endpoint_url"] == "https://p.example.org:8443/rest/v3.1"
    connect(monkeypatch, conn_type="ibm_classic", port=443, login="a", password="right")
    assert ClassicHook("c").client is not None
    assert classic_arguments["endpoint_url"] is None, "a port alone, as Airflow's Test wants one, changes nothing"


@pytest.mark.usefixtures("classic_arguments")
def test_test_connection_tells_good_from_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, conn_type="ibm_classic", login="someone", password="right")
    assert ClassicHook("c").test_connection() == (True, "The Classic API answers for account 307608.")
    connect(monkeypatch, conn_type="ibm_classic", login="someone", password="wrong")
    good, words = ClassicHook("c").test_connection()
    assert not good
    assert "Invalid API token" in words
    assert "wrong" not in words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conn_type": "ibm_classic", "login": "someone"}, "needs a user name"),
        ({"conn_type": "aws", "login": "a", "password": "b"}, "'ibm_classic' is needed"),
        (
            {"conn_type": "ibm_classic", "login": "a", "password": "b", "extra": {"transport": "soap"}},
            "one of xmlrpc, rest",
        ),
        (
            {"conn_type": "ibm_classic", "login": "a", "password": "b", "extra": {"timeout": "soon"}},
            "timeout = 'soon'",
        ),
        (
            {"conn_type": "ibm_classic", "login": "a", "password": "b", "extra": {"requests_per_second": 60}},
            r"'c' cannot be used: requests per second must be .* below 50",
        ),
        (
            {"conn_type": "ibm_classic", "login": "a", "password": "b", "host": "ftp://x"},
            r"'c' cannot be used: the API's address",
        ),
        (
            {"conn_type": "ibm_classic", "login": "a", "password": "b", "extra": {"verify": "/no/such/ca.pem"}},
            r"verify = '/no/such/ca\.pem'",
        ),
    ],
)
def test_what_is_wrong_with_a_classic_connection_is_named(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], words: str
) -> None:
    connect(monkeypatch, **fields)
    with pytest.raises(ConnectionProblem, match=words):
        _ = ClassicHook("c").client


def test_a_missing_connection_is_named_with_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(conn_id: str) -> Connection:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(missing))
    with pytest.raises(ConnectionProblem, match=r"no connection 'nowhere'\. Add one of the type 'ibm_cos'"):
        _ = CosHook("nowhere").client


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "holds no key"),
        ({"extra": {"access_key_id": "a"}}, "half an HMAC pair"),
        ({"password": "k", "extra": {"endpoint_kind": "secret"}}, "one of public, private, direct"),
        ({"password": "k", "host": "http://"}, r"'c' cannot be used: the object store's endpoint"),
        ({"password": "k", "extra": {"iam_endpoint": "iam"}}, r"'c' cannot be used: the IAM endpoint"),
        ({"password": "k", "extra": {"region": "moon"}}, r"'c' cannot be used: 'moon' is no region"),
        ({"password": "k", "extra": {"verify": "/no/such/ca.pem"}}, r"verify = '/no/such/ca\.pem'"),
    ],
)
def test_what_is_wrong_with_a_cos_connection_is_named(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], words: str
) -> None:
    connect(monkeypatch, conn_type="ibm_cos", **fields)
    with pytest.raises(ConnectionProblem, match=words):
        _ = CosHook("c").client


def test_the_key_of_exports_is_its_own_where_given(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, conn_type="ibm_cos", password="general", extra={"export_api_key": "special"})
    assert CosHook("c").export_api_key == "special"
    connect(monkeypatch, conn_type="ibm_cos", password="general")
    assert CosHook("c").export_api_key == "general"
    connect(monkeypatch, conn_type="ibm_cos", extra={"access_key_id": "a", "secret_access_key": "b"})
    with pytest.raises(ConnectionProblem, match="needs one"):
        _ = CosHook("c").export_api_key


class Writer:
    """A client that may write, or is refused."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.tried: list[tuple[str, str, Any]] = []
        self.closed = 0

    def check_write(self, bucket: str, prefix: str, *, clean_up: Any) -> None:
        self.tried.append((bucket, prefix, clean_up))
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1


HMAC = {"access_key_id": "a", "secret_access_key": "b"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": "general"}, None),
        ({"password": "general", "extra": {"export_api_key": "general"}}, None),
        ({"password": "general", "extra": {"export_api_key": "special"}}, "export_api_key"),
        ({"password": "general", "extra": HMAC}, "password"),
    ],
)
def test_the_key_of_exports_is_tried_where_the_preflight_tries_another(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], field: str | None
) -> None:
    connect(monkeypatch, conn_type="ibm_cos", **fields)
    hook = CosHook("c")
    own, writer = object(), Writer(CosPermissionError("the key may not write", bucket="images"))
    keys: list[str | None] = []

    def made(_self: CosHook, _connection: Connection, *, export_key: str | None = None) -> Any:
        keys.append(export_key)
        return own if export_key is None else writer

    monkeypatch.setattr(CosHook, "_client_from", made)
    if field is None:
        hook.check_export_key(bucket="images", prefix="p")
        assert writer.tried == []
        return
    with pytest.raises(ConnectionProblem, match=f"field {field}.*'images'.*may not write.*Object Writer") as raised:
        hook.check_export_key(bucket="images", prefix="p")
    assert hook.export_api_key not in str(raised.value)
    assert writer.tried == [("images", "p", own)]
    assert writer.closed == 1
    assert hook.export_api_key in keys
    writer.error = None
    hook.check_export_key(bucket="images", prefix="p")
