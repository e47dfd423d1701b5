"""Uploads in parts with both kinds of key, over HTTP and TLS, and what becomes of them where replies are lost."""

from __future__ import annotations

import base64
import hashlib
import random
from typing import Any

import pytest

from sealift.cos.errors import (
    CosError,
    CosNotFoundError,
    CosPermissionError,
    CosPreconditionError,
    CosTransientError,
)
from sealift.cos.models import MultipartUpload, UploadedPart
from sealift.cos.multipart import etag_of
from sealift.sandbox.store import multipart

KEY = "images/disk-0.vmdk"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few bytes be many parts."""
    monkeypatch.setattr(multipart, "MIN_PART_SIZE", 1)


def sha256(data: bytes) -> dict[str, str]:
    return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}


def md5(data: bytes) -> dict[str, str]:
    return {"ContentMD5": base64.b64encode(hashlib.md5(data).digest()).decode()}


def bodies() -> dict[int, bytes]:
    chance = random.Random(6)
    return {number: chance.randbytes(30_000) for number in (1, 2, 3)} | {4: b"end"}


def sent(client: Any, upload: MultipartUpload, numbers: tuple[int, ...] = (3, 1, 4, 2)) -> list[UploadedPart]:
    parts = bodies()
    found = [
        client.multipart.send("exports", upload, one, bytearray(parts[one]), digest=sha256(parts[one]))
        for one in numbers
    ]
    return sorted(found, key=lambda part: part.number)


def test_parts_may_come_in_any_order(any_store: Any, key_kind: str) -> None:
    client = any_store.client(key_kind)
    upload = client.multipart.begin("exports", KEY, metadata={"sealift-source": "images/disk-0.vhd"})
    parts = sent(client, upload)
    assert [part.number for part in parts] == [1, 2, 3, 4]
    assert [part.sha256 for part in parts] == [sha256(body)["ChecksumSHA256"] for body in bodies().values()]
    assert client.head("exports", KEY) is None
    info = client.multipart.complete("exports", upload, parts)
    whole = b"".join(bodies().values())
    assert (info.size, info.etag) == (len(whole), etag_of(parts))
    assert client.read("exports", KEY) == whole
    assert client.list_multipart_uploads("exports", "") == []


@pytest.mark.parametrize("digest", [sha256, md5])
def test_bytes_that_changed_on_their_way_are_refused(store: Any, digest: Any) -> None:
    client = store.client("hmac")
    upload = client.multipart.begin("exports", KEY)
    with pytest.raises(CosError, match="send part 1 of object") as caught:
        client.multipart.send("exports", upload, 1, b"these", digest=digest(b"those"))
    assert caught.value.code == "BadDigest"
    assert client.multipart.send("exports", upload, 1, b"these", digest=digest(b"these")).size == 5


@pytest.mark.parametrize("fault", ["cos_lost_reply", "cos_lost_request", "cos_slow_down"])
def test_a_lost_reply_is_looked_into_at_every_step(store: Any, fault: str) -> None:
    client = store.client("hmac")
    client.put("exports", "warm", b"")
    store.faults.set(fault, times=1)
    upload = client.multipart.begin("exports", KEY)
    store.faults.set(fault, times=2)
    parts = sent(client, upload)
    store.faults.set(fault, times=1)
    info = client.multipart.complete("exports", upload, parts)
    assert info.etag == etag_of(parts)
    assert client.read("exports", KEY) == b"".join(bodies().values())
    second = client.multipart.begin("exports", KEY)
    store.faults.set(fault, times=1)
    client.multipart.abort("exports", second)
    left = [one.upload_id for one in client.list_multipart_uploads("exports", "")]
    assert len(left) == (1 if fault == "cos_lost_reply" else 0), "the begin whose reply was lost"
    assert second.upload_id not in left


def test_an_upload_that_was_aborted_is_not_taken_for_one_that_was_completed(store: Any) -> None:
    client = store.client("hmac")
    client.put("exports", KEY, b"somebody else's")
    upload = client.multipart.begin("exports", KEY)
    parts = sent(client, upload)
    client.multipart.abort("exports", upload)
    client.multipart.abort("exports", upload)
    with pytest.raises(CosNotFoundError) as caught:
        client.multipart.complete("exports", upload, parts)
    assert caught.value.code == "NoSuchUpload"
    assert client.read("exports", KEY) == b"somebody else's"


def test_keys_that_may_not_and_stores_that_fail_are_said(store: Any) -> None:
    with pytest.raises(CosPermissionError, match="begin an upload of object"):
        store.client("reader").multipart.begin("exports", KEY)
    with pytest.raises(CosNotFoundError):
        store.client("hmac").multipart.begin("nowhere", KEY)
    store.faults.set("cos_internal_error", rate=1.0)
    with pytest.raises(CosTransientError, match="begin an upload"):
        store.client("hmac", max_attempts=2).multipart.begin("exports", KEY)


def test_an_object_that_is_not_there_after_all_is_an_error(fake: Any) -> None:
    def respond(request: Any) -> Any:
        if request.method == "HEAD":
            return fake.Reply(status=404)
        return fake.Reply(body=b"<R><ETag>e</ETag></R>", headers={"x-amz-request-id": "1"})

    fake.respond = respond
    upload = MultipartUpload(key="k", upload_id="u")
    with pytest.raises(CosError, match="though the store took all of it"):
        fake.client().multipart.complete("b", upload, [UploadedPart(number=1, size=1, etag="e")])


def test_a_part_whose_reply_says_nothing_is_not_believed(fake: Any) -> None:
    fake.respond = lambda request: fake.Reply()
    with pytest.raises(CosTransientError, match="reply was lost"):
        fake.client(max_attempts=2).multipart.send(
            "b", MultipartUpload(key="k", upload_id="u"), 1, b"x", digest=sha256(b"x")
        )
    assert len(fake.seen) == 2


def test_the_etag_of_a_whole_follows_from_its_parts() -> None:
    parts = [UploadedPart(number=n, size=1, etag=hashlib.md5(b"%d" % n).hexdigest()) for n in (1, 2)]
    due = hashlib.md5(hashlib.md5(b"1").digest() + hashlib.md5(b"2").digest()).hexdigest()
    assert etag_of(parts) == f"{due}-2"
    assert etag_of([UploadedPart(number=1, size=1, etag="opaque")]) is None
    assert etag_of([UploadedPart(number=1, size=1, etag="abcd")]) is None


def test_a_part_may_be_copied_of_another_object(any_store: Any, key_kind: str) -> None:
    client = any_store.client(key_kind)
    first, second, third = (bodies()[number] for number in (1, 2, 3))
    client.put("exports", "images/.a b+ü/1", second, content_type="application/octet-stream")
    client.put("exports", "images/.a b+ü/2", b"before" + third + b"after", content_type="application/octet-stream")
    upload = client.multipart.begin("exports", KEY)
    parts = [client.multipart.send("exports", upload, 1, first, digest=sha256(first))]
    for number, name, start, body in ((2, "1", None, second), (3, "2", 6, third)):
        info = client.head("exports", f"images/.a b+ü/{name}")
        copied = client.multipart.copy(
            "exports", upload, number, source=info.key, size=len(body), etag=info.etag, start=start
        )
        assert copied.etag == hashlib.md5(body).hexdigest()
        assert {"ChecksumSHA256": copied.sha256} == sha256(body)
        parts.append(copied)
    info = client.multipart.complete("exports", upload, parts)
    assert info.etag == etag_of(parts)
    assert client.read("exports", KEY) == first + second + third


def test_another_object_that_was_replaced_or_deleted_is_not_copied(store: Any) -> None:
    client = store.client("hmac")
    upload = client.multipart.begin("exports", KEY)
    with pytest.raises(CosNotFoundError, match="copy object gone into part 1"):
        client.multipart.copy("exports", upload, 1, source="gone", size=1, etag="e")
    client.put("exports", "other", b"other")
    with pytest.raises(CosPreconditionError):
        client.multipart.copy("exports", upload, 1, source="other", size=5, etag="0" * 32)
    assert client.upload_size("exports", upload) == (0, 0)


def test_a_lost_reply_to_a_copy_is_asked_for_again(store: Any) -> None:
    client = store.client("hmac")
    body = bodies()[1]
    client.put("exports", "other", body)
    upload = client.multipart.begin("exports", KEY)
    for fault in ("cos_lost_reply", "cos_lost_request", "cos_slow_down"):
        store.faults.set(fault, times=1)
        copied = client.multipart.copy(
            "exports", upload, 1, source="other", size=len(body), etag=hashlib.md5(body).hexdigest()
        )
        assert copied.etag == hashlib.md5(body).hexdigest()
    client.multipart.complete("exports", upload, [copied])
    assert client.read("exports", KEY) == body


@pytest.mark.parametrize(
    "body",
    [
        b"<Error><Code>InternalError</Code><Message>We had an error. Try again.</Message></Error>",
        b"<CopyPartResult></CopyPartResult>",
    ],
)
def test_an_error_in_a_copy_that_began_as_a_success_is_an_error(fake: Any, body: bytes) -> None:
    """S3 sends the status before the copy is done (AWS, UploadPartCopy): what went wrong then stands in the body."""
    fake.respond = lambda _request: fake.Reply(body=body, headers={"x-amz-request-id": "1"})
    upload = MultipartUpload(key=KEY, upload_id="u")
    with pytest.raises(CosTransientError):
        fake.client(max_attempts=2).multipart.copy("exports", upload, 1, source="other", size=1, etag="e")
    assert len(fake.seen) == 2
