"""Objects read without the SDK: the same bytes and the same errors, whatever the store or the network does."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sealift.cos.errors import CosError, CosPreconditionError, CosRegionError, CosTransientError, CosUnreachableError
from sealift.cos.streams import RangeStream

Store, Fake = Any, Any  # tests/cos/conftest.py's

BODY = b"0123456789"
WHOLE = {"ETag": '"e"', "Content-Range": "bytes 0-9/10"}


def by_sdk(client: Any) -> Any:
    """The same client, made to take the SDK's way."""
    client._connection._directly = False
    return client


def read_all(stream: RangeStream) -> bytes:
    with stream:
        data = bytearray(stream.left)
        stream.fill(memoryview(data))
    return bytes(data)


# --- the same bytes ------------------------------------------------------------------------------------------------


def test_neither_looking_nor_reading_loads_the_sdk(store: Store, key_kind: str) -> None:
    store.client("manager").put("exports", "k", BODY)
    keys = (
        {"access_key_id": "PLANTEDACCESSKEYID", "secret_access_key": "PLANTED-hmac-secret"}
        if key_kind == "hmac"
        else {"api_key": "PLANTED-manager-key", "iam_endpoint": f"{store.server.url}/identity/token"}
    )
    code = f"""
        import sys
        from sealift.cos.client import CosClient
        client = CosClient(region="us-south", endpoint_url={store.server.url!r}, **{keys!r})
        info = client.head("exports", "k")
        assert client.read_range("exports", "k", start=2, length=3, if_match=info.etag) == b"234"
        loaded = [one for one in sys.modules if one.partition(".")[0] in ("ibm_boto3", "ibm_botocore")]
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.parametrize(
    "key",
    [
        "a/b c.vhd",
        "ü/日本/ß.vhd",
        "a//b",
        "a+b&c=d;e",
        "100%25",
        "~tilde._-",
        "(x)'!*@:,$",
        "a/../b",
        "./a",
        "?q=1#f",
        " ",
    ],
)
def test_keys_of_any_letters_are_signed_as_they_are_sent(any_store: Store, key_kind: str, key: str) -> None:
    client = any_store.client(key_kind)
    any_store.objects.put_bytes(bucket="exports", key=key, data=BODY)
    info = client.head("exports", key)
    assert info is not None
    assert info.size == 10
    assert client.read_range("exports", key, start=3, length=4, if_match=info.etag) == b"3456"


def test_a_head_says_what_the_sdk_says(any_store: Store, key_kind: str) -> None:
    any_store.objects.put_bytes(bucket="exports", key="k", data=BODY)
    told = any_store.client(key_kind).head("exports", "k")
    assert told == by_sdk(any_store.client(key_kind)).head("exports", "k")
    assert told.crc64nvme


def test_any_ranges_from_many_threads_while_the_store_fails(any_store: Store, key_kind: str) -> None:
    chance = random.Random(11)
    body = chance.randbytes(3_000_000)
    client = any_store.client(key_kind, max_attempts=9)
    client.put("exports", "k", body)
    info = client.head("exports", "k")
    spans = [(start, chance.randint(1, len(body) - start)) for start in chance.sample(range(len(body)), 24)]
    for name in ("cos_slow_down", "cos_internal_error", "cos_lost_request", "cos_lost_reply"):
        any_store.faults.set(name, times=2)
    wrong: list[tuple[int, int]] = []

    def read(own: list[tuple[int, int]]) -> None:
        for start, length in own:
            data = bytearray(length)
            client.read_range_into("exports", "k", memoryview(data), start=start, if_match=info.etag)
            if data != body[start : start + length]:
                wrong.append((start, length))

    threads = [threading.Thread(target=read, args=(spans[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    # A request that is lost loses its reply as well.
    assert len(any_store.sleeps) == 6


# --- connections ---------------------------------------------------------------------------------------------------


def test_a_connection_is_used_again_after_a_whole_reply_and_only_then(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(status=206, body=BODY, headers=WHOLE)
    client = fake.client()
    for _ in range(3):
        assert read_all(client.open_range("exports", "k", start=0, length=10, if_match="e")) == BODY
    with client.open_range("exports", "k", start=0, length=10, if_match="e") as stream:
        assert stream.read(3) == b"012"
    assert read_all(client.open_range("exports", "k", start=0, length=10, if_match="e")) == BODY
    first, *_, last = peers = [request.peer for request in fake.seen]
    assert peers == [first] * 4 + [last]
    assert first != last, "bytes of the reply that was given up would have come first"


def test_who_asks_is_said_and_not_signed(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(status=206, body=BODY, headers=WHOLE)
    read_all(fake.client().open_range("exports", "k", start=0, length=10, if_match="e"))
    sent = fake.seen[-1].headers
    assert sent["User-Agent"].startswith("sealift/")
    signed = sent["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "range", "if-match", "x-amz-date", "x-amz-content-sha256"} == set(signed)


def test_a_small_error_costs_no_connection(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(status=404, body=b"<Error><Code>NoSuchKey</Code></Error>")
    client = fake.client()
    for _ in range(2):
        with pytest.raises(CosError):
            client.open_range("exports", "k", start=0, length=10, if_match="e")
    assert len({request.peer for request in fake.seen}) == 1


def test_a_connection_that_the_store_closed_meanwhile_is_not_used(store: Store) -> None:
    client = store.client("hmac")
    client.put("exports", "k", BODY)
    etag = client.head("exports", "k").etag
    for _ in range(2):
        for kept in list(store.server._connections):
            kept.shutdown(socket.SHUT_RDWR)
        assert client.read_range("exports", "k", start=0, length=10, if_match=etag) == BODY
    assert store.sleeps == []


def test_after_close_new_connections_are_made(store: Store) -> None:
    client = store.client("hmac")
    client.put("exports", "k", BODY)
    for _ in range(2):
        assert client.read_range("exports", "k", start=0, length=10) == BODY
        client.close()


# --- the same errors -----------------------------------------------------------------------------------------------

REFUSALS = {
    "no such key": (404, b"<Error><Code>NoSuchKey</Code><Message>None here.</Message></Error>"),
    "denied": (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
    "another version": (412, b"<Error><Code>PreconditionFailed</Code><Message>At least one.</Message></Error>"),
    "no such range": (416, b"<Error><Code>InvalidRange</Code><Message>Not satisfiable.</Message></Error>"),
    "slow down": (503, b"<Error><Code>SlowDown</Code><Message>Please reduce.</Message></Error>"),
    "echo": (403, b"<Error><Code>X</Code><Message>you sent PLANTED-hmac-secret</Message></Error>"),
    "unknown code": (400, b"<Error><Code>Odd</Code><Message>What?</Message></Error>"),
    "gateway": (502, b"<html><body>Bad gateway</body></html>"),
    "empty 503": (503, b""),
    "empty 401": (401, b""),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_what_the_store_refuses_is_the_same_error(fake: Fake, refusal: tuple[int, bytes]) -> None:
    status, body = refusal
    fake.respond = lambda request: fake.Reply(status=status, body=body, headers={"Content-Type": "application/xml"})
    failures = []
    for client in (fake.client(), by_sdk(fake.client())):
        with pytest.raises(CosError) as caught:
            client.open_range("exports", "k", start=0, length=10, if_match="e")
        assert "PLANTED" not in str(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None, "it could hold a request"
        failures.append((type(caught.value), caught.value.code, caught.value.bucket, caught.value.key))
    assert failures[0] == failures[1]


@pytest.mark.parametrize("status", [301, 307])
def test_a_bucket_that_is_elsewhere_is_said_to_be(fake: Fake, status: int) -> None:
    """The SDK would follow, and ask in circles."""
    body = b"<Error><Code>PermanentRedirect</Code><Message>Elsewhere.</Message></Error>"
    fake.respond = lambda request: fake.Reply(status=status, body=body, headers={"Location": fake.url + "/x"})
    for ask in (
        lambda client: client.open_range("exports", "k", start=0, length=10, if_match="e"),
        lambda client: client.head("exports", "k"),
    ):
        with pytest.raises(CosRegionError, match="wrong region to"):
            ask(fake.client())
    assert len(fake.seen) == 2


def test_a_store_that_is_busy_is_asked_again(fake: Fake) -> None:
    fake.respond = lambda request: (
        fake.Reply(status=206, body=BODY, headers=WHOLE) if len(fake.seen) > 2 else fake.Reply(status=503)
    )
    assert fake.client().read_range("exports", "k", start=0, length=10) == BODY
    assert len(fake.seen) == 3
    assert len(fake.sleeps) == 2


def test_an_error_without_end_is_not_read_to_its_end(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(status=500, body=b"<" + b"x" * 5_000_000)
    with pytest.raises(CosTransientError) as caught:
        fake.client().open_range("exports", "k", start=0, length=10, if_match="e")
    assert len(str(caught.value)) < 1000


ODD = {
    "other bytes": ({"Content-Range": "bytes 10-19/30"}, "gave bytes 10-19/30 where bytes 0-9 were asked for"),
    "no range": ({"Content-Range": ""}, "which bytes where bytes 0-9 were asked for"),
    "nonsense": ({"Content-Range": "bytes */10"}, "where bytes 0-9 were asked for"),
    "fewer": ({"Content-Length": "7"}, "gave 7 bytes at 0 where 10"),
    "another version": ({"ETag": '"f"'}, "has the ETag f, where e was demanded"),
}


@pytest.mark.parametrize("way", [lambda client: client, by_sdk], ids=["directly", "by the SDK"])
@pytest.mark.parametrize(("headers", "words"), ODD.values(), ids=ODD)
def test_a_reply_that_is_another_part_is_not_taken(
    fake: Fake, headers: dict[str, str], words: str, way: Callable[[Any], Any]
) -> None:
    fake.respond = lambda request: fake.Reply(status=206, body=BODY, headers=WHOLE | headers)
    with pytest.raises(CosError, match=words) as caught:
        way(fake.client()).open_range("exports", "k", start=0, length=10, if_match="e")
    assert isinstance(caught.value, CosPreconditionError) == ("ETag" in headers)
    assert not caught.value.retryable


def test_a_reply_that_breaks_off_is_found_out_while_it_is_read(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(status=206, body=BODY, headers=WHOLE, truncate=True)
    stream = fake.client().open_range("exports", "k", start=0, length=10, if_match="e")
    view = memoryview(bytearray(10))
    with pytest.raises(CosTransientError, match="broke before the whole reply had come: 5 bytes are missing") as caught:
        stream.fill(view)
    assert bytes(view) == b"01234\0\0\0\0\0"
    assert caught.value.__cause__ is caught.value.__context__ is None
    stream.close()
    with pytest.raises(CosTransientError):
        fake.client(max_attempts=2).read_range_into("exports", "k", view, start=0)
    assert len(fake.seen) == 3


def test_a_reply_without_a_head_is_lost(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(close=True)
    with pytest.raises(CosTransientError, match="broke before the whole reply"):
        fake.client().open_range("exports", "k", start=0, length=10, if_match="e")
    fake.respond = lambda request: fake.Reply(status=206, body=BODY)
    with pytest.raises(CosTransientError, match="reply was lost"):
        fake.client().open_range("exports", "k", start=0, length=10, if_match="e")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_store_that_says_nothing_is_waited_for_only_so_long(fake: Fake, silent: str) -> None:
    words = set()
    for way in (lambda client: client, by_sdk):
        client = way(fake.client(endpoint_url=silent, timeout=0.3, max_attempts=1))
        with pytest.raises(CosTransientError, match="no reply came in time") as caught:
            client.open_range("exports", "k", start=0, length=10, if_match="e")
        words.add(str(caught.value))
    assert len(words) == 1


def test_who_cannot_be_reached_is_named(fake: Fake) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    words = set()
    for way in (lambda client: client, by_sdk):
        with pytest.raises(CosUnreachableError, match="cannot be reached") as caught:
            way(fake.client(endpoint_url=nobody)).open_range("exports", "k", start=0, length=10, if_match="e")
        words.add(str(caught.value))
    assert len(words) == 1


# --- TLS, tokens, proxies ------------------------------------------------------------------------------------------


def test_only_certificates_of_the_given_bundle_are_trusted(tls_store: Store, tmp_path: Any) -> None:
    tls_store.objects.put_bytes(bucket="exports", key="k", data=BODY)
    for verify in (tls_store.ca, False):
        client = tls_store.client("hmac", verify=verify)
        assert client.read_range("exports", "k", start=0, length=10) == BODY
    words = set()
    for way in (lambda client: client, by_sdk):
        client = way(tls_store.client("hmac", verify=True, max_attempts=1))
        with pytest.raises(CosUnreachableError, match="no trusted TLS connection") as caught:
            client.open_range("exports", "k", start=0, length=10, if_match="e")
        words.add(str(caught.value))
    assert len(words) == 1
    with pytest.raises(CosUnreachableError):
        tls_store.client("hmac", verify=str(tmp_path / "none.pem"), max_attempts=1).head("exports", "k")


def test_a_certificate_for_another_name_is_not_trusted(tls_store: Store) -> None:
    url = tls_store.server.url.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(CosUnreachableError):
        tls_store.client("hmac", endpoint_url=url, max_attempts=1).head("exports", "k")


def test_a_token_that_expires_on_the_way_is_renewed(fake: Fake) -> None:
    issued: list[int] = []

    def respond(request: Any) -> Any:
        if request.path == "/identity/token":
            issued.append(1)
            token = f'{{"access_token": "token-{len(issued)}", "expires_in": 3600}}'
            return fake.Reply(body=token.encode())
        if request.headers["Authorization"] == "Bearer token-1" and len(fake.seen) > 3:
            return fake.Reply(status=400, body=b"<Error><Code>ExpiredToken</Code></Error>")
        return fake.Reply(status=206, body=BODY, headers=WHOLE)

    fake.respond = respond
    client = fake.client(api_key="PLANTED-key", iam_endpoint=fake.url)
    for _ in range(4):
        assert client.read_range("exports", "k", start=0, length=10, if_match="e") == BODY
    assert len(issued) == 2
    assert fake.sleeps == []


def test_where_a_proxy_is_set_the_sdk_decides(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", fake.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    fake.respond = lambda request: fake.Reply(status=206, body=BODY, headers=WHOLE)
    client = fake.client(endpoint_url="http://store.example")
    assert client.read_range("exports", "k", start=0, length=10, if_match="e") == BODY
    assert fake.seen[-1].path == "http://store.example/exports/k", "the proxy was asked"
    # Nothing on this machine is behind a proxy.
    assert fake.client().read_range("exports", "k", start=0, length=10, if_match="e") == BODY
    assert fake.seen[-1].path == "/exports/k"
