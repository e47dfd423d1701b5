"""The object store client against the sandbox's store, over HTTP and TLS, with IAM and HMAC keys, and under faults."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest

from sealift.cos.client import CosClient
from sealift.cos.connection import _moment
from sealift.cos.errors import (
    CosAuthError,
    CosConflictError,
    CosError,
    CosNotFoundError,
    CosPermissionError,
    CosPreconditionError,
    CosRegionError,
    CosTransientError,
    CosUnreachableError,
)
from sealift.cos.models import PutOutcome

Store = Any  # tests/cos/conftest.py's Store and Fake
Fake = Any


def assert_clean(error: BaseException) -> None:
    """No key in the error, in what it is chained to, or in its traceback."""
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    assert "PLANTED" not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


def test_round_trip(any_store: Store, key_kind: str) -> None:
    client = any_store.client(key_kind)
    body = bytes(range(256)) * 4096
    client.put("exports", "a/b ü.bin", body, content_type="application/octet-stream")
    assert client.read("exports", "a/b ü.bin") == body
    assert client.read_range("exports", "a/b ü.bin", start=255, length=3) == b"\xff\x00\x01"
    assert client.read_range("exports", "a/b ü.bin", start=5, length=0) == b""
    info = client.head("exports", "a/b ü.bin")
    assert info is not None
    assert (info.size, info.etag, info.parts) == (len(body), hashlib.md5(body).hexdigest(), None)
    assert info.last_modified.utcoffset() is not None
    assert info.last_modified.utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    assert [one.key for one in client.list("exports", "a/")] == ["a/b ü.bin"]
    assert client.head("exports", "nope") is None
    assert client.read("exports", "nope") is None
    assert client.read_json("exports", "nope") is None
    assert any_store.sleeps == []


def test_conditional_put(any_store: Store, key_kind: str) -> None:
    client = any_store.client(key_kind)
    assert client.put_if_absent("exports", "m.json", b'{"a":1}') is PutOutcome.CREATED
    assert client.put_if_absent("exports", "m.json", b'{"a":1}') is PutOutcome.EXISTS_SAME
    assert client.put_if_absent("exports", "m.json", b'{"a":2}') is PutOutcome.EXISTS_DIFFERENT
    assert client.read_json("exports", "m.json") == {"a": 1}


def test_of_many_conditional_puts_one_wins(store: Store) -> None:
    clients = [store.client("hmac") for _ in range(8)]
    outcomes: list[PutOutcome] = []
    barrier = threading.Barrier(8)

    def put(number: int) -> None:
        barrier.wait(timeout=20)
        outcomes.append(clients[number].put_if_absent("exports", "one", f"{number}".encode()))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=30)
    assert sorted(outcomes) == [PutOutcome.CREATED] + [PutOutcome.EXISTS_DIFFERENT] * 7


@pytest.mark.parametrize(("times", "fault"), [(1, "cos_lost_reply"), (2, "cos_lost_request"), (2, "cos_slow_down")])
def test_a_lost_reply_of_a_conditional_put_is_looked_into(store: Store, times: int, fault: str) -> None:
    client = store.client("hmac")
    client.put("exports", "warm", b"")
    store.faults.set(fault, times=times)
    assert client.put_if_absent("exports", "m.json", b"ours") is PutOutcome.CREATED
    assert store.faults.counters()[fault]["hits"] == times
    assert client.read("exports", "m.json") == b"ours"
    client.put("exports", "theirs", b"theirs")
    store.faults.set(fault, times=times)
    assert client.put_if_absent("exports", "theirs", b"ours") is PutOutcome.EXISTS_DIFFERENT
    assert client.read("exports", "theirs") == b"theirs"


@pytest.mark.parametrize("before", [b"", b"x"])
def test_a_put_that_was_lost_is_not_taken_for_the_put_before_it(store: Store, before: bytes) -> None:
    """The SDK, waiting for "100 Continue" on a kept connection, takes its end for the status that came before."""
    client = store.client("hmac", max_attempts=1)
    for action in (client.put, client.put_if_absent):
        client.put("exports", "warm", before)
        store.faults.set("cos_lost_request", times=2)
        with pytest.raises(CosTransientError):
            action("exports", "m.json", b"ours")
        store.faults.clear()
        assert client.read("exports", "m.json") is None


def test_puts_do_not_wait_to_be_asked_for_the_body(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(headers={"ETag": '"e"'})
    fake.client().put("exports", "k", b"x" * 100_000)
    (request,) = fake.seen
    assert "Expect" not in request.headers
    assert len(request.body) == 100_000


def test_a_put_whose_reply_does_not_say_what_was_stored_is_not_believed(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply()
    with pytest.raises(CosTransientError, match="reply was lost"):
        fake.client(max_attempts=2).put("exports", "k", b"x")
    assert len(fake.seen) == 2


def test_a_conditional_put_that_never_gets_through(store: Store) -> None:
    client = store.client("hmac", max_attempts=2)
    store.faults.set("cos_internal_error", rate=1.0)
    with pytest.raises(CosTransientError, match=r"m\.json") as caught:
        client.put_if_absent("exports", "m.json", b"x")
    assert_clean(caught.value)


@pytest.mark.parametrize("fault", ["cos_lost_reply", "cos_lost_request", "cos_slow_down", "cos_internal_error"])
def test_reads_are_retried(store: Store, fault: str) -> None:
    client = store.client("hmac")
    client.put("exports", "k", b"value")
    store.sleeps.clear()
    store.faults.set(fault, times=3)
    assert client.read("exports", "k") == b"value"
    assert len(store.sleeps) == 3
    store.faults.set(fault, times=1)
    assert [one.key for one in client.list("exports", "")] == ["k"]
    store.faults.set(fault, rate=1.0)
    with pytest.raises(CosTransientError) as caught:
        client.read("exports", "k")
    assert len(store.sleeps) == 3 + 1 + 4
    assert_clean(caught.value)


def test_a_token_that_the_store_takes_for_expired_is_renewed_once(store: Store) -> None:
    client = store.client()
    client.put("exports", "k", b"v")
    store.faults.set("expired_token", times=1)
    assert client.read("exports", "k") == b"v"
    store.faults.set("expired_token", rate=1.0)
    with pytest.raises(CosAuthError) as caught:
        client.read("exports", "k")
    assert store.sleeps == []
    assert_clean(caught.value)


def test_listing_many_pages(store: Store) -> None:
    for number in range(1203):
        store.objects.put_bytes(bucket="exports", key=f"p/{number:05}", data=b"x")
    store.objects.put_bytes(bucket="exports", key="q", data=b"x")
    keys = [one.key for one in store.client("hmac").list("exports", "p/")]
    assert keys == [f"p/{number:05}" for number in range(1203)]


def test_ranges_are_pinned_and_whole(store: Store) -> None:
    client = store.client("hmac")
    client.put("exports", "k", b"0123456789")
    info = client.head("exports", "k")
    assert info is not None
    assert client.read_range("exports", "k", start=2, length=3, if_match=info.etag) == b"234"
    with pytest.raises(CosError, match="gave 2 bytes at 8 where 5"):
        client.read_range("exports", "k", start=8, length=5)
    with pytest.raises(CosError, match="k"):
        client.read_range("exports", "k", start=50, length=5)
    client.put("exports", "k", b"abcdefghij")
    with pytest.raises(CosPreconditionError) as caught:
        client.read_range("exports", "k", start=2, length=3, if_match=info.etag)
    assert_clean(caught.value)
    with pytest.raises(CosNotFoundError):
        client.read_range("exports", "nope", start=0, length=1)
    with pytest.raises(ValueError, match="range"):
        client.read_range("exports", "k", start=-1, length=1)


def test_head_tells_parts(store: Store, tmp_path: Any) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 2_500_000)
    store.objects.put_file(bucket="exports", key="disk-0.vhd", source=tmp_path / "disk", part_size=2**20)
    client = store.client("hmac")
    info = client.head("exports", "disk-0.vhd")
    assert info is not None
    assert info.parts == 3
    assert info.part_size is None
    asked = client.head("exports", "disk-0.vhd", with_part_size=True)
    assert asked is not None
    assert asked.part_size == 2**20


def test_json_that_is_none(store: Store) -> None:
    client = store.client("hmac")
    client.put("exports", "k", b"{")
    with pytest.raises(CosError, match="is not JSON"):
        client.read_json("exports", "k")
    client.put("exports", "k", json.dumps([1]).encode())
    assert client.read_json("exports", "k") == [1]


def test_no_such_bucket(store: Store) -> None:
    client = store.client("hmac")
    for action in (
        lambda: client.read("nonesuch", "k"),
        lambda: list(client.list("nonesuch", "")),
        lambda: client.put("nonesuch", "k", b""),
        lambda: client.put_if_absent("nonesuch", "k", b""),
        lambda: client.bucket_region("nonesuch"),
    ):
        with pytest.raises(CosNotFoundError) as caught:
            action()
        assert caught.value.code == "NoSuchBucket"
        assert caught.value.bucket == "nonesuch"
    assert store.sleeps == []


def test_many_threads_share_a_client(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client = store.client()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: client.put("exports", f"k{number}", f"{number}".encode()), range(60)))
        assert list(pool.map(lambda number: client.read("exports", f"k{number}"), range(60))) == [
            f"{number}".encode() for number in range(60)
        ]


# --- preflight -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["manager", "writer", "hmac"])
def test_preflight_passes_and_leaves_nothing(any_store: Store, who: str) -> None:
    client = any_store.client(who)
    client.preflight(bucket="exports", region="us-south", prefix="nightly/vms")
    assert list(client.list("exports", "")) == []
    assert client.list_multipart_uploads("exports", "") == []


def test_preflight_names_a_missing_bucket(store: Store, key_kind: str) -> None:
    with pytest.raises(CosNotFoundError, match=r"no bucket 'nonesuch' in us-south.*correct its name"):
        store.client(key_kind).preflight(bucket="nonesuch", region="us-south")


def test_preflight_names_the_right_region(store: Store, key_kind: str) -> None:
    client = store.client(key_kind)
    with pytest.raises(CosRegionError, match="'elsewhere' is in eu-de, but the export names us-south"):
        client.preflight(bucket="elsewhere", region="us-south")
    client.preflight(bucket="elsewhere", region="eu-de")


@pytest.mark.parametrize("region", ["us", "eu", "moon", "US-SOUTH", "us-south/x", ""])
def test_preflight_refuses_what_is_no_region(store: Store, region: str) -> None:
    with pytest.raises(CosRegionError, match="us-south"):
        store.client().preflight(bucket="exports", region=region)


def test_preflight_finds_a_bucket_that_only_another_endpoint_knows(fake: Fake) -> None:
    """A regional endpoint may know its own buckets only; the list of the instance's buckets tells where one is."""

    def respond(request: Any) -> Any:
        if "extended" in request.path:
            assert request.headers["ibm-service-instance-id"] == "crn:x"
            body = (
                b"<ListAllMyBucketsResult><IsTruncated>false</IsTruncated><Buckets>"
                b"<Bucket><Name>exports2</Name><LocationConstraint>us-east-smart</LocationConstraint></Bucket>"
                b"<Bucket><Name>exports</Name><LocationConstraint>jp-tok-smart</LocationConstraint></Bucket>"
                b"</Buckets></ListAllMyBucketsResult>"
            )
            return fake.Reply(body=body)
        return fake.Reply(status=404, body=b"<Error><Code>NoSuchBucket</Code><Message>None.</Message></Error>")

    fake.respond = respond
    client = fake.client(service_instance_id="crn:x")
    with pytest.raises(CosRegionError, match="'exports' is in jp-tok, but the export names us-south"):
        client.preflight(bucket="exports", region="us-south", create=True)
    with pytest.raises(CosRegionError, match=r"'exports' is in jp-tok, but the connection leads to http.*set the conn"):
        client.preflight(bucket="exports", region="jp-tok", create=True)
    assert not any(request.method == "PUT" for request in fake.seen)


def test_preflight_names_a_refused_api_key(store: Store) -> None:
    with pytest.raises(CosAuthError, match="IAM refused the API key") as caught:
        store.client("unknown").preflight(bucket="exports", region="us-south")
    assert caught.value.code == "BXNIM0415E"
    assert store.sleeps == [], "a refused key is not asked about again"
    assert_clean(caught.value)


@pytest.mark.parametrize("wrong", [{"secret_access_key": "PLANTED-no"}, {"access_key_id": "PLANTED-no"}])
def test_preflight_names_a_refused_hmac_key(store: Store, wrong: dict[str, str]) -> None:
    with pytest.raises(CosAuthError, match="the object store refused the key") as caught:
        store.client("hmac", **wrong).preflight(bucket="exports", region="us-south")
    assert_clean(caught.value)


def test_preflight_names_a_key_that_may_not_write(store: Store) -> None:
    with pytest.raises(CosPermissionError, match=r"may not write to bucket 'exports'.*role Writer") as caught:
        store.client("reader").preflight(bucket="exports", region="us-south")
    assert_clean(caught.value)


def test_preflight_names_a_key_without_any_right(store: Store) -> None:
    with pytest.raises(CosPermissionError, match="exports") as caught:
        store.client("stranger").preflight(bucket="exports", region="us-south")
    assert_clean(caught.value)


def test_preflight_names_what_is_down(store: Store) -> None:
    down = {"endpoint_url": "http://127.0.0.1:1", "max_attempts": 2}
    with pytest.raises(CosUnreachableError, match=r"object store at http://127\.0\.0\.1:1 cannot be reached") as caught:
        store.client("hmac", **down).preflight(bucket="exports", region="us-south")
    assert_clean(caught.value)
    assert len(store.sleeps) == 1
    with pytest.raises(
        CosUnreachableError, match=r"IAM at http://127\.0\.0\.1:1/identity/token cannot be reached"
    ) as caught:
        store.client(iam_endpoint="http://127.0.0.1:1", max_attempts=2).preflight(bucket="exports", region="us-south")
    assert_clean(caught.value)


def test_preflight_over_tls_that_is_not_trusted(any_store: Store) -> None:
    if any_store.ca is None:
        url = any_store.server.url.replace("http:", "https:")
        settings = {"endpoint_url": url}
    else:
        settings = {"verify": True}
    with pytest.raises(CosUnreachableError, match="cannot be reached: no trusted TLS connection"):
        any_store.client("hmac", max_attempts=1, **settings).preflight(bucket="exports", region="us-south")


def test_preflight_creates_in_the_region(any_store: Store, key_kind: str) -> None:
    client = any_store.client(key_kind)
    client.preflight(bucket="new-bucket", region="eu-gb", create=True)
    assert client.bucket_region("new-bucket") == "eu-gb"
    assert any_store.objects.bucket("new-bucket").location_constraint == "eu-gb-standard"
    client.preflight(bucket="new-bucket", region="eu-gb", create=True)
    with pytest.raises(CosRegionError, match="is in eu-gb"):
        client.preflight(bucket="new-bucket", region="us-south", create=True)


def test_preflight_says_when_a_name_is_taken(fake: Fake) -> None:
    def respond(request: Any) -> Any:
        code, status = ("BucketAlreadyExists", 409) if request.method == "PUT" else ("NoSuchBucket", 404)
        return fake.Reply(status=status, body=f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode())

    fake.respond = respond
    with pytest.raises(CosConflictError, match="name is taken by somebody else"):
        fake.client().preflight(bucket="exports", region="us-south", create=True)


def test_preflight_cleans_up_an_upload_whose_reply_was_lost(fake: Fake) -> None:
    def respond(request: Any) -> Any:
        path = request.path
        if "location" in path:
            return fake.Reply(body=b"<LocationConstraint>us-south-standard</LocationConstraint>")
        if request.method == "POST":
            return fake.Reply(close=True)
        if request.method == "DELETE":
            return fake.Reply(status=204)
        if "uploads" in path:
            key = next(one for one in fake.seen if one.method == "POST").path.split("?")[0].removeprefix("/exports/")
            found = f"<Upload><Key>{key}</Key><UploadId>u1</UploadId></Upload>"
            return fake.Reply(
                body=f"<ListMultipartUploadsResult><Bucket>exports</Bucket>{found}</ListMultipartUploadsResult>".encode()
            )
        return fake.Reply(body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    fake.respond = respond
    with pytest.raises(CosTransientError):
        fake.client().preflight(bucket="exports", region="us-south")
    assert [request.method for request in fake.seen].count("POST") == 1, "beginning an upload is not repeated blindly"
    assert any(request.method == "DELETE" and "uploadId=u1" in request.path for request in fake.seen)


@pytest.mark.parametrize(
    ("status", "error"), [(403, CosPermissionError), (503, CosTransientError)], ids=["not allowed", "failing"]
)
def test_preflight_names_the_upload_that_it_could_not_abort(fake: Fake, status: int, error: type) -> None:
    def respond(request: Any) -> Any:
        if "location" in request.path:
            return fake.Reply(body=b"<LocationConstraint>us-south-standard</LocationConstraint>")
        if request.method == "POST":
            body = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
            return fake.Reply(body=body)
        if request.method == "DELETE":
            return fake.Reply(status=status, body=b"<Error><Code>X</Code><Message>No.</Message></Error>")
        return fake.Reply(body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    fake.respond = respond
    with pytest.raises(error, match=r"upload u1 of nightly/\.sealift-preflight-.*stays in the bucket"):
        fake.client(max_attempts=2).preflight(bucket="exports", region="us-south", prefix="nightly")


def test_a_lost_reply_is_what_is_told_even_where_uploads_may_not_be_listed(fake: Fake) -> None:
    def respond(request: Any) -> Any:
        if request.method == "POST":
            return fake.Reply(close=True)
        return fake.Reply(status=403, body=b"<Error><Code>AccessDenied</Code><Message>No.</Message></Error>")

    fake.respond = respond
    with pytest.raises(CosTransientError):
        fake.client().check_write("exports")


def test_a_key_that_may_do_nothing_but_write_is_cleaned_up_after(store: Store) -> None:
    store.identity.add_api_key(key="PLANTED-object-writer", name="ow", roles={"exports": "ObjectWriter"})
    manager = store.client("manager")
    store.client("PLANTED-object-writer").check_write("exports", "nightly", clean_up=manager)
    assert manager.list_multipart_uploads("exports", "") == []
    with pytest.raises(CosPermissionError, match="may not write to bucket 'exports'"):
        store.client("reader").check_write("exports", clean_up=manager)


# --- odd stores ----------------------------------------------------------------------------------------------------


def test_a_body_that_breaks_off_is_read_again(fake: Fake) -> None:
    headers = {"ETag": '"e"', "Content-Range": "bytes 0-9/10"}
    fake.respond = lambda request: fake.Reply(
        status=206, body=b"0123456789", headers=headers, truncate=len(fake.seen) < 3
    )
    assert fake.client().read_range("exports", "k", start=0, length=10) == b"0123456789"
    assert len(fake.seen) == 3
    fake.respond = lambda request: fake.Reply(status=206, body=b"0123456789", headers=headers, truncate=True)
    with pytest.raises(CosTransientError, match="broke before the whole reply") as caught:
        fake.client(max_attempts=2).read_range("exports", "k", start=0, length=10)
    assert_clean(caught.value)


LISTING = b"<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


@pytest.mark.parametrize("body", [b"", LISTING[:10], LISTING[:40], LISTING[:-20]])
def test_a_reply_that_ends_early_is_asked_for_again(fake: Fake, body: bytes) -> None:
    fake.respond = lambda request: fake.Reply(body=LISTING if len(fake.seen) > 2 else body)
    assert list(fake.client().list("exports", "")) == []
    assert len(fake.seen) == 3


def test_an_empty_reply_does_not_say_where_a_bucket_is(fake: Fake) -> None:
    where = b"<LocationConstraint>eu-de-smart</LocationConstraint>"
    fake.respond = lambda request: fake.Reply(body=where if len(fake.seen) > 1 else b"")
    assert fake.client().bucket_region("exports") == "eu-de"


@pytest.mark.parametrize("key", [{"api_key": "PLANTED-key"}, {}])
def test_buckets_are_those_of_the_instance(fake: Fake, key: dict[str, str]) -> None:
    token = json.dumps({"access_token": "t", "expires_in": 3600}).encode()
    body = b"<ListAllMyBucketsResult><Buckets><Bucket><Name>exports</Name></Bucket></Buckets></ListAllMyBucketsResult>"
    fake.respond = lambda request: fake.Reply(body=token if request.path == "/identity/token" else body)
    client = fake.client(service_instance_id="crn:instance", iam_endpoint=fake.url, **key)
    assert client.bucket_names() == ["exports"]
    assert fake.seen[-1].headers["ibm-service-instance-id"] == "crn:instance"


def test_a_store_that_ignores_ranges_is_not_believed(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(body=b"0123456789", headers={"ETag": '"e"'})
    with pytest.raises(CosError, match="ignored the range"):
        fake.client().read_range("exports", "k", start=0, length=10)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_web_server_in_the_place_of_the_store(fake: Fake, status: int) -> None:
    fake.respond = lambda request: fake.Reply(status=status, body=b"<html><body>Welcome<br></body></html>")
    with pytest.raises(CosError) as caught:
        fake.client(max_attempts=2).preflight(bucket="exports", region="us-south")
    assert_clean(caught.value)


def test_a_list_that_goes_nowhere_ends(fake: Fake) -> None:
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>"
        b"<Contents><Key>k</Key><Size>1</Size><ETag>e</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        b"</ListBucketResult>"
    )
    fake.respond = lambda request: fake.Reply(body=body)
    with pytest.raises(CosError, match="does not go on"):
        list(fake.client().list("exports", ""))
    assert len(fake.seen) == 2


# --- how it is made ------------------------------------------------------------------------------------------------


def test_settings_are_checked() -> None:
    both = {"api_key": "PLANTED", "access_key_id": "PLANTED", "secret_access_key": "PLANTED"}
    for keys in ({}, both, {"access_key_id": "PLANTED"}, {"secret_access_key": "PLANTED"}):
        with pytest.raises(CosAuthError) as caught:
            CosClient(region="us-south", **keys)  # type: ignore[arg-type]
        assert_clean(caught.value)
    with pytest.raises(CosRegionError, match="us-south"):
        CosClient(region="nowhere", api_key="a")
    for wrong in ({"timeout": 0}, {"max_attempts": 0}, {"endpoint_url": "ftp://x"}, {"iam_endpoint": "nonsense"}):
        with pytest.raises(ValueError):
            CosClient(region="us-south", api_key="a", **wrong)  # type: ignore[arg-type]
    assert CosClient(region="eu-de", endpoint_kind="direct", api_key="a").endpoint_url == (
        "https://s3.direct.eu-de.cloud-object-storage.appdomain.cloud"
    )


def test_no_secret_in_repr_or_log(store: Store, key_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    client = store.client(key_kind)
    client.put("exports", "k", b"v")
    shown = repr(client) + repr(client._connection) + repr(client._connection._tokens) + caplog.text
    assert "PLANTED" not in shown.replace("PLANTEDACCESSKEYID", "")
    token = client._connection._tokens.current if client._connection._tokens else "no token"
    assert token not in shown


def test_each_client_sends_its_own_instance(fake: Fake) -> None:
    """With the SDK's shared session the last client's instance would be sent by all."""
    fake.respond = lambda request: fake.Reply(body=b"<ListAllMyBucketsResult/>")
    first = fake.client(service_instance_id="crn:first")
    second = fake.client(service_instance_id="crn:second")
    third = fake.client()
    for client in (first, second, third, first):
        client._region_elsewhere("b")
    assert [one.headers.get("ibm-service-instance-id") for one in fake.seen] == [
        "crn:first",
        "crn:second",
        None,
        "crn:first",
    ]


def test_nothing_of_another_clouds_tools_gets_in(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "config").write_text("[default]\nregion = intruder\ns3 =\n  addressing_style = virtual\n")
    for name, value in {
        "AWS_PROFILE": "no-such-profile",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_ACCESS_KEY_ID": "intruder",
        "AWS_SECRET_ACCESS_KEY": "intruder",
        "AWS_CA_BUNDLE": "/nonexistent",
        "IBM_API_KEY_ID": "intruder",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    for who in ("manager", "hmac"):
        store.client(who).preflight(bucket="exports", region="us-south")


def test_importing_the_client_is_cheap() -> None:
    code = "import sys, sealift.cos.client as c; c.CosClient(region='us-south', api_key='b'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "sealift.cos.client" in loaded
    assert {"ibm_boto3", "ibm_botocore", "requests", "airflow", "sealift.classic"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    "told",
    ["2026-11-27T10:20:30.125Z", "2026-11-27T10:20:30.125+00:00", "2026-11-27T11:20:30.125+01:00", 1795774830.125],
)
def test_times_are_read_in_every_form_that_the_sdk_knows(told: Any) -> None:
    assert _moment(told) == datetime(2026, 11, 27, 10, 20, 30, 125000, tzinfo=UTC)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="soonZ"):
        _moment("soonZ")
