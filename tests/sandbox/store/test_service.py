"""Requests and answers: who may do what, and what S3's finer points look like on the wire.

The SDKs and command line tools judge the rest in tests/conformance.
"""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sealift.sandbox.iam import Identity
from sealift.sandbox.store import ObjectStore, StoreServer
from sealift.sandbox.store.service import STORE_FAULTS

BUCKET = "exports"


class Reply:
    """A whole answer."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status = reply.status
        self.headers = {name.lower(): value for name, value in reply.getheaders()}
        self.body = reply.read()

    @property
    def code(self) -> str:
        return ET.fromstring(self.body).findtext("Code", "")

    def texts(self, name: str) -> list[str]:
        return [element.text or "" for element in ET.fromstring(self.body).iter() if element.tag.endswith("}" + name)]


Ask = Callable[..., Reply]


@pytest.fixture
def ask(server: StoreServer, identity: Identity) -> Ask:
    def send(method: str, target: str, body: bytes = b"", key: str = "manager-key", **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent.setdefault("Authorization", f"Bearer {identity.token_for_api_key(key)}")
        try:
            connection.request(method, target, body=body, headers=sent)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    return send


class TestWhoMay:
    def test_nobody_without_a_name(self, ask: Ask) -> None:
        assert ask("GET", f"/{BUCKET}", Authorization="").code == "AccessDenied"

    def test_nobody_with_a_made_up_token(self, ask: Ask) -> None:
        reply = ask("GET", f"/{BUCKET}", Authorization="Bearer made.up.token")
        assert (reply.status, reply.code) == (403, "AccessDenied")

    def test_an_expired_token_is_told_so(self, ask: Ask, identity: Identity) -> None:
        old = identity.token_for_api_key("manager-key", seconds=0)
        reply = ask("GET", f"/{BUCKET}", Authorization=f"Bearer {old}")
        assert (reply.status, reply.code) == (400, "ExpiredToken")

    def test_an_unknown_access_key_is_told_so(self, ask: Ask) -> None:
        now = datetime.now(UTC)
        scope = f"{now:%Y%m%d}/us-south/s3/aws4_request"
        authorization = f"AWS4-HMAC-SHA256 Credential=NOBODY/{scope},SignedHeaders=host,Signature=00"
        reply = ask(
            "GET",
            f"/{BUCKET}",
            Authorization=authorization,
            x_amz_date=f"{now:%Y%m%dT%H%M%SZ}",
            x_amz_content_sha256="UNSIGNED-PAYLOAD",
        )
        assert (reply.status, reply.code) == (403, "InvalidAccessKeyId")

    @pytest.mark.parametrize(
        ("role", "statuses"),
        [
            ("Manager", {"list": 200, "get": 200, "put": 200, "config": 200, "delete": 204}),
            ("Writer", {"list": 200, "get": 200, "put": 200, "config": 403, "delete": 204}),
            ("Reader", {"list": 200, "get": 200, "put": 403, "config": 403, "delete": 403}),
            ("ObjectReader", {"list": 403, "get": 200, "put": 403, "config": 403, "delete": 403}),
            ("ObjectWriter", {"list": 403, "get": 403, "put": 200, "config": 403, "delete": 403}),
        ],
    )
    def test_each_role_may_its_own(
        self, ask: Ask, identity: Identity, store: ObjectStore, role: str, statuses: dict[str, int]
    ) -> None:
        identity.add_api_key(key="k", name="n", roles={BUCKET: role})
        store.put_bytes(bucket=BUCKET, key="a", data=b"x")
        versioning = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
        got = {
            "list": ask("GET", f"/{BUCKET}", key="k").status,
            "get": ask("GET", f"/{BUCKET}/a", key="k").status,
            "put": ask("PUT", f"/{BUCKET}/b", b"y", key="k").status,
            "config": ask("PUT", f"/{BUCKET}?versioning", versioning, key="k").status,
            "delete": ask("DELETE", f"/{BUCKET}/a", key="k").status,
        }
        assert got == statuses

    def test_a_copy_needs_the_right_to_read_its_source(self, ask: Ask, identity: Identity, store: ObjectStore) -> None:
        store.create_bucket("secret")
        store.put_bytes(bucket="secret", key="a", data=b"x")
        identity.add_api_key(key="k", name="n", roles={BUCKET: "Writer"})
        assert ask("PUT", f"/{BUCKET}/b", key="k", x_amz_copy_source="/secret/a").code == "AccessDenied"
        assert store.head(BUCKET, "b") is None

    def test_buckets_are_listed_for_a_named_instance_only(self, ask: Ask, store: ObjectStore) -> None:
        store.create_bucket("mine", service_instance="crn:v1:bluemix:public:cloud-object-storage:global:a/1:abc::")
        store.create_bucket("theirs", service_instance="def")
        assert ask("GET", "/", ibm_service_instance_id="abc").texts("Name") == ["mine"]
        assert ask("GET", "/?extended", ibm_service_instance_id="def").texts("LocationConstraint") == [
            "us-south-standard"
        ]
        assert ask("GET", "/").code == "InvalidRequest"

    def test_the_token_endpoint_is_served_too(self, ask: Ask) -> None:
        form = b"grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=manager-key"
        assert ask("POST", "/identity/token", form, Authorization="Basic Yng6Yng=").status == 200
        assert ask("POST", "/identity/token", form + b"x", Authorization="Basic Yng6Yng=").status == 400


class TestBodies:
    @pytest.mark.parametrize(
        ("header", "value", "code"),
        [
            ("Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA==", "BadDigest"),
            ("Content-MD5", "x", "InvalidDigest"),
            ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
            ("x-amz-checksum-crc32c", "AAAAAA==", "BadDigest"),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=", "BadDigest"),
            ("x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "BadDigest"),
            ("x-amz-checksum-sha256", "x", "InvalidRequest"),
            ("x-amz-content-sha256", "0" * 64, "XAmzContentSHA256Mismatch"),
            ("x-amz-content-sha256", "nonsense", "InvalidArgument"),
        ],
    )
    def test_a_wrong_digest_stores_nothing(
        self, ask: Ask, store: ObjectStore, header: str, value: str, code: str
    ) -> None:
        assert ask("PUT", f"/{BUCKET}/a", b"data", **{header: value}).code == code
        assert store.head(BUCKET, "a") is None
        assert list((store.root / "incoming").iterdir()) == []

    def test_a_put_answers_with_the_full_crc64nvme(self, ask: Ask) -> None:
        reply = ask("PUT", f"/{BUCKET}/a", b"123456789")
        assert reply.headers["x-amz-checksum-crc64nvme"] == "rosUhgp5mIg="
        assert reply.headers["x-amz-checksum-type"] == "FULL_OBJECT"
        assert reply.headers["etag"] == f'"{hashlib.md5(b"123456789").hexdigest()}"'

    def test_metadata_has_a_limit(self, ask: Ask) -> None:
        assert ask("PUT", f"/{BUCKET}/a", b"x", x_amz_meta_a="y" * 2048).code == "MetadataTooLarge"

    def test_documents_have_a_limit(self, ask: Ask) -> None:
        assert ask("PUT", f"/{BUCKET}?lifecycle", bytes(9 * 2**20)).code == "EntityTooLarge"


class TestReading:
    @pytest.fixture(autouse=True)
    def _object(self, store: ObjectStore) -> None:
        store.put_bytes(bucket=BUCKET, key="a", data=b"0123456789")
        store.put_bytes(bucket=BUCKET, key="empty", data=b"")

    @pytest.mark.parametrize(
        ("asked", "status", "body", "content_range"),
        [
            ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
            ("bytes=8-", 206, b"89", "bytes 8-9/10"),
            ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=5-500", 206, b"56789", "bytes 5-9/10"),
            ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
            ("bytes=5-2", 200, b"0123456789", None),
            ("bytes=0-1,3-4", 200, b"0123456789", None),
            ("bytes=-", 200, b"0123456789", None),
            ("pages=1-2", 200, b"0123456789", None),
        ],
    )
    def test_ranges(self, ask: Ask, asked: str, status: int, body: bytes, content_range: str | None) -> None:
        reply = ask("GET", f"/{BUCKET}/a", Range=asked)
        assert (reply.status, reply.body, reply.headers.get("content-range")) == (status, body, content_range)

    @pytest.mark.parametrize(("key", "asked"), [("a", "bytes=10-"), ("a", "bytes=-0"), ("empty", "bytes=0-")])
    def test_ranges_of_nothing(self, ask: Ask, key: str, asked: str) -> None:
        reply = ask("GET", f"/{BUCKET}/{key}", Range=asked)
        assert (reply.status, reply.code) == (416, "InvalidRange")
        assert reply.headers["content-range"] == f"bytes */{10 if key == 'a' else 0}"

    def test_conditions(self, ask: Ask) -> None:
        reply = ask("HEAD", f"/{BUCKET}/a")
        etag, modified = reply.headers["etag"], reply.headers["last-modified"]
        statuses = {
            ("If-Match", etag): 200,
            ("If-Match", '"x", ' + etag): 200,
            ("If-Match", "*"): 200,
            ("If-Match", '"other"'): 412,
            ("If-None-Match", etag): 304,
            ("If-None-Match", '"other"'): 200,
            ("If-Modified-Since", modified): 304,
            ("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"): 200,
            ("If-Unmodified-Since", modified): 200,
            ("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"): 412,
            ("If-Modified-Since", "no date"): 200,
        }
        for method in ("GET", "HEAD"):
            got = {pair: ask(method, f"/{BUCKET}/a", **dict([pair])).status for pair in statuses}
            assert got == statuses

    def test_conditional_puts(self, ask: Ask, store: ObjectStore) -> None:
        assert ask("PUT", f"/{BUCKET}/a", b"new", If_None_Match="*").code == "PreconditionFailed"
        assert ask("PUT", f"/{BUCKET}/a", b"new", If_Match='"x"').code == "PreconditionFailed"
        assert ask("PUT", f"/{BUCKET}/b", b"new", If_Match='"x"').code == "NoSuchKey"
        assert ask("PUT", f"/{BUCKET}/b", b"new", If_None_Match="*").status == 200
        etag = store.head(BUCKET, "a").etag
        assert ask("PUT", f"/{BUCKET}/a", b"new", If_Match=f'"{etag}"').status == 200
        assert store.path_of(BUCKET, "a").read_bytes() == b"new"

    def test_answers_can_be_overridden(self, ask: Ask) -> None:
        reply = ask("GET", f"/{BUCKET}/a?response-content-type=x%2Fy&response-content-disposition=attachment")
        assert reply.headers["content-type"] == "x/y"
        assert reply.headers["content-disposition"] == "attachment"

    def test_a_part_can_be_asked_for(self, ask: Ask, store: ObjectStore, tmp_path: Any) -> None:
        (tmp_path / "f").write_bytes(b"aaaabbbbcc")
        store.put_file(bucket=BUCKET, key="parts", source=tmp_path / "f", part_size=4)
        reply = ask("GET", f"/{BUCKET}/parts?partNumber=3")
        assert (reply.status, reply.body, reply.headers["x-amz-mp-parts-count"]) == (206, b"cc", "3")
        head = ask("HEAD", f"/{BUCKET}/parts?partNumber=1")
        assert (head.status, head.headers["content-length"]) == (206, "4")
        assert ask("GET", f"/{BUCKET}/parts?partNumber=4").status == 416

    def test_a_head_computes_the_checksum_that_it_is_asked_for(self, ask: Ask, store: ObjectStore) -> None:
        store.put_bytes(bucket=BUCKET, key="sum", data=b"123456789")
        assert "x-amz-checksum-crc64nvme" not in ask("HEAD", f"/{BUCKET}/sum").headers
        reply = ask("HEAD", f"/{BUCKET}/sum", x_amz_checksum_mode="ENABLED")
        assert reply.headers["x-amz-checksum-crc64nvme"] == "rosUhgp5mIg="

    def test_versions_and_markers(self, ask: Ask, store: ObjectStore) -> None:
        store.set_versioning(BUCKET, "Enabled")
        first = ask("PUT", f"/{BUCKET}/v", b"1").headers["x-amz-version-id"]
        ask("PUT", f"/{BUCKET}/v", b"2")
        marker = ask("DELETE", f"/{BUCKET}/v").headers
        assert marker["x-amz-delete-marker"] == "true"
        gone = ask("GET", f"/{BUCKET}/v")
        assert (gone.status, gone.code, gone.headers["x-amz-delete-marker"]) == (404, "NoSuchKey", "true")
        assert ask("GET", f"/{BUCKET}/v?versionId={first}").body == b"1"
        assert ask("GET", f"/{BUCKET}/v?versionId={marker['x-amz-version-id']}").status == 405
        assert ask("GET", f"/{BUCKET}/v?versionId=none").code == "NoSuchVersion"


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "target", "status", "code"),
        [
            ("GET", "/nowhere", 404, "NoSuchBucket"),
            ("GET", "/nowhere/k", 404, "NoSuchBucket"),
            ("PUT", "/nowhere/k", 404, "NoSuchBucket"),
            ("GET", f"/{BUCKET}/none", 404, "NoSuchKey"),
            ("GET", f"/{BUCKET}?lifecycle", 404, "NoSuchLifecycleConfiguration"),
            ("GET", f"/{BUCKET}?tagging", 404, "NoSuchTagSet"),
            ("GET", f"/{BUCKET}?publicAccessBlock", 404, "NoSuchPublicAccessBlockConfiguration"),
            ("PUT", f"/{BUCKET}?policy", 501, "NotImplemented"),
            ("PUT", f"/{BUCKET}/k?retention", 400, "InvalidRequest"),
            ("POST", f"/{BUCKET}", 405, "MethodNotAllowed"),
            ("PATCH", f"/{BUCKET}/k", 405, "MethodNotAllowed"),
            ("DELETE", "/", 405, "MethodNotAllowed"),
            ("POST", f"/{BUCKET}?delete", 400, "MissingRequestBodyError"),
            ("GET", f"/{BUCKET}?max-keys=x", 400, "InvalidArgument"),
            ("GET", f"/{BUCKET}?encoding-type=base64", 400, "InvalidArgument"),
            ("GET", f"/{BUCKET}?list-type=2&continuation-token=%25", 400, "InvalidArgument"),
            ("GET", f"/{BUCKET}/k?uploadId=none", 404, "NoSuchUpload"),
        ],
    )
    def test_codes(self, ask: Ask, method: str, target: str, status: int, code: str) -> None:
        reply = ask(method, target)
        assert (reply.status, reply.code) == (status, code)
        tree = ET.fromstring(reply.body)
        assert tree.findtext("RequestId") == reply.headers["x-amz-request-id"]
        assert tree.findtext("httpStatusCode") == str(status)
        assert tree.findtext("Resource") == target.partition("?")[0]

    def test_a_name_in_xml_is_escaped(self, ask: Ask, store: ObjectStore) -> None:
        store.put_bytes(bucket=BUCKET, key="a<b>&\"'", data=b"")
        assert ask("GET", f"/{BUCKET}").texts("Key") == ["a<b>&\"'"]

    def test_a_bug_is_an_internal_error_and_not_a_broken_connection(
        self, ask: Ask, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(store, "need_bucket", broken)
        reply = ask("GET", f"/{BUCKET}")
        assert (reply.status, reply.code) == (500, "InternalError")


class TestFaults:
    def test_are_named(self) -> None:
        assert set(STORE_FAULTS) == {
            "cos_slow_down", "cos_internal_error", "cos_lost_request", "cos_lost_reply",
            "object_replaced", "object_uploaded_again",
        }  # fmt: skip

    @pytest.mark.parametrize(("name", "status"), [("cos_slow_down", 503), ("cos_internal_error", 500)])
    def test_refusals_do_nothing(self, ask: Ask, store: ObjectStore, faults: Any, name: str, status: int) -> None:
        faults.left.append(name)
        assert ask("PUT", f"/{BUCKET}/a", b"x").status == status
        assert store.head(BUCKET, "a") is None
        assert ask("PUT", f"/{BUCKET}/a", b"x").status == 200

    @pytest.mark.parametrize(("name", "there"), [("cos_lost_request", False), ("cos_lost_reply", True)])
    def test_a_lost_message(self, ask: Ask, store: ObjectStore, faults: Any, name: str, there: bool) -> None:
        faults.left.append(name)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            ask("PUT", f"/{BUCKET}/a", b"x")
        assert (store.head(BUCKET, "a") is not None) is there

    def test_a_good_token_looks_expired(self, ask: Ask, faults: Any) -> None:
        faults.left.append("expired_token")
        assert ask("GET", f"/{BUCKET}").code == "ExpiredToken"
        assert ask("GET", f"/{BUCKET}").status == 200
