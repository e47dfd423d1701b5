"""Objects that are uploaded while they are made: into COS and S3, whole or not at all, the first part last."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sealift.cos.errors import CosPermissionError, CosTransientError
from sealift.cos.models import UploadedPart
from sealift.sandbox.store import multipart
from sealift.transfer import upload as module
from sealift.transfer.errors import DigestError, TransferError
from sealift.transfer.s3_bucket import S3Bucket
from sealift.transfer.upload import Upload
from sealift.transfer.upload_layout import Limits
from sealift.transfer.upload_targets import CosTarget, Finished, S3Target, UploadTarget
from tests.transfer.upload_bucket import KEY, Bucket

PART = 10_000
DATA = random.Random(11).randbytes(7 * PART + 123)
SMALL = Limits(smallest_part=1, round_to=1)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few bytes be many parts."""
    monkeypatch.setattr(multipart, "MIN_PART_SIZE", 1)
    monkeypatch.setattr(module, "S3_LIMITS", SMALL)


def upload(target: UploadTarget, data: bytes, *, head: int = 0, piece: int = 3333, **more: Any) -> Upload:
    """Upload in pieces, with the first bytes last."""
    work = Upload(target=target, **({"part_size": PART} | more))
    work.begin(head=head, largest=len(data))
    for at in range(head, len(data), piece):
        work.write(memoryview(data)[at : at + piece])
    work.finish(data[:head])
    return work


@pytest.mark.parametrize("head", [0, 5000, PART])
@pytest.mark.parametrize("size", [PART, PART + 1, len(DATA)])
def test_an_object_arrives_whole(bucket: Bucket, size: int, head: int) -> None:
    data = DATA[:size]
    done = upload(bucket.target(), data, head=head).result
    assert done is not None
    assert bucket.cos.read("exports", KEY) == data
    assert (done.size, done.parts, done.part_size) == (size, -(-size // PART), PART)
    assert done.sha256 == (None if head else hashlib.sha256(data).hexdigest())
    assert done.checked_by == "SHA-256 of its parts"
    info = bucket.cos.head("exports", KEY)
    assert info is not None
    assert info.etag == done.etag
    assert bucket.s3.head_object(Bucket="exports", Key=KEY)["Metadata"] == {"sealift-source": "a"}
    assert bucket.uploads() == []


@pytest.mark.parametrize(("size", "head"), [(0, 0), (1, 0), (300, 300), (300, 20)])
def test_small_objects_are_one_part(bucket: Bucket, size: int, head: int) -> None:
    done = upload(bucket.target(), DATA[:size], head=head).result
    assert done is not None
    assert (done.size, done.parts) == (size, 1)
    assert bucket.cos.read("exports", KEY) == DATA[:size]


def test_zeros_are_sent(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ZEROS", bytes(700))
    work = Upload(target=bucket.target(), part_size=PART)
    work.begin(head=0, largest=10 * PART)
    work.write(b"x")
    work.zeros(2 * PART + 5)
    work.write(b"y")
    work.finish(b"")
    assert bucket.cos.read("exports", KEY) == b"x" + bytes(2 * PART + 5) + b"y"


def test_an_upload_that_is_aborted_leaves_the_object_that_was_there(bucket: Bucket) -> None:
    bucket.cos.put("exports", KEY, b"older")
    work = Upload(target=bucket.target(), part_size=PART)
    work.begin(head=10, largest=10 * PART)
    work.write(DATA[: 3 * PART])
    assert len(bucket.uploads()) == 1
    assert work.abort() == ""
    assert work.abort() == ""
    assert bucket.uploads() == []
    assert bucket.cos.read("exports", KEY) == b"older"
    assert work.result is None


def test_what_earlier_tries_left_of_this_object_is_aborted(bucket: Bucket) -> None:
    first = Upload(target=bucket.target(), part_size=PART)
    first.begin(head=0, largest=10 * PART)
    first.write(DATA[: 2 * PART])
    other = bucket.cos.multipart.begin("exports", f"{KEY}.other")
    upload(bucket.target(), DATA)
    assert bucket.uploads() == [other.upload_id]
    with pytest.raises((TransferError, Exception), match="NoSuchUpload"):
        first.finish(b"")
    first.abort()
    assert bucket.cos.read("exports", KEY) == DATA


def test_a_store_that_fails_ends_the_upload(bucket: Bucket) -> None:
    work = Upload(target=bucket.target(), part_size=PART, streams=2)
    work.begin(head=0, largest=10 * PART)
    bucket.faults.set("cos_internal_error", rate=1.0)
    with pytest.raises((CosTransientError, TransferError), match="InternalError"):
        work.write(DATA * 4)
    left = work.abort()
    assert "stays in the bucket" in left
    assert KEY in left
    bucket.faults.clear()
    upload(bucket.target(), DATA)
    assert bucket.uploads() == []


class Scripted:
    """A target in memory that behaves as a test says."""

    label = "a bucket/an object"

    def __init__(self) -> None:
        self.parts: dict[int, bytes] = {}
        self.numbers: list[int] = []
        self.under_way = self.most_under_way = 0
        self.deleted = False
        self.tell: Callable[[int, bytes], UploadedPart] = lambda number, data: UploadedPart(
            number=number, size=len(data), etag=hashlib.md5(data).hexdigest()
        )
        self.finished: Callable[[Finished], Finished] = lambda done: done
        self._lock = threading.Lock()

    def begin(self) -> str:
        return "u"

    def others(self, upload_id: str) -> list[str]:
        return []

    def send(self, upload_id: str, number: int, data: bytearray, sha256: str) -> UploadedPart:
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.numbers.append(number)
        self.parts[number] = bytes(data)
        with self._lock:
            self.under_way -= 1
        return self.tell(number, bytes(data))

    def complete(self, upload_id: str, parts: Sequence[UploadedPart]) -> Finished:
        digests = b"".join(hashlib.md5(self.parts[part.number]).digest() for part in parts)
        etag = f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"
        return self.finished(Finished(size=sum(len(one) for one in self.parts.values()), etag=etag))

    def abort(self, upload_id: str) -> None:
        raise TransferError("the store is gone")

    def delete(self) -> None:
        self.deleted = True


def test_the_first_part_comes_last_where_its_bytes_do() -> None:
    target = Scripted()
    upload(target, DATA, head=100, streams=1)
    assert target.numbers == [2, 3, 4, 5, 6, 7, 8, 1]
    assert b"".join(target.parts[number] for number in sorted(target.parts)) == DATA
    target = Scripted()
    upload(target, DATA, streams=3)
    assert sorted(target.numbers) == list(range(1, 9))
    assert target.most_under_way <= 3


def test_a_store_that_keeps_other_bytes_is_found_out() -> None:
    for wrong, words in (
        (Finished(size=len(DATA) - 1, etag=""), "it has 70122 bytes, where 70123 were sent"),
        (Finished(size=len(DATA), etag="other-8"), "the store's ETag is other-8"),
    ):
        target = Scripted()
        target.finished = lambda _done, wrong=wrong: wrong  # type: ignore[misc]
        with pytest.raises(DigestError, match=words):
            upload(target, DATA)
        assert target.deleted
    target = Scripted()
    target.tell = lambda number, data: UploadedPart(number=number, size=len(data), etag="e", sha256="another")
    with pytest.raises(DigestError, match="keeps other bytes of part"):
        upload(target, DATA)


def test_etags_that_are_no_digests_are_not_held_against_a_store() -> None:
    """As of a bucket that encrypts with the user's own keys."""
    target = Scripted()
    target.tell = lambda number, data: UploadedPart(number=number, size=len(data), etag="0" * 32)
    target.finished = lambda done: Finished(size=done.size, etag="opaque")
    done = upload(target, DATA).result
    assert done is not None
    assert (done.etag, done.checked_by) == ("opaque", "MD5 of its parts")


class WithoutDigests:
    """A client of boto3 for a store that knows nothing of SHA-256, and whose network may flip a bit."""

    def __init__(self, client: Any, *, flips: bool = False) -> None:
        self._client = client
        self._flips = flips
        self.asked: list[set[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_multipart_upload(self, **given: Any) -> Any:
        given.pop("ChecksumAlgorithm")
        return self._client.create_multipart_upload(**given)

    def upload_part(self, **given: Any) -> Any:
        self.asked.append({name for name in given if name in ("ChecksumSHA256", "ContentMD5")})
        given.pop("ChecksumSHA256", None)
        if self._flips:
            given["Body"] = bytes([given["Body"][0] ^ 1]) + bytes(given["Body"][1:])
        reply = self._client.upload_part(**given)
        return {name: one for name, one in reply.items() if "Checksum" not in name}


def test_a_store_without_sha256_checks_by_md5(bucket: Bucket) -> None:
    client = WithoutDigests(bucket.s3)
    target = S3Target(place=S3Bucket(client=client, bucket="exports"), key=KEY)
    done = upload(target, DATA, streams=1).result
    assert done is not None
    assert done.checked_by == "MD5 of its parts"
    assert client.asked == [{"ChecksumSHA256"}] + [{"ContentMD5"}] * 8
    assert bucket.cos.read("exports", KEY) == DATA
    flipping = S3Target(place=S3Bucket(client=WithoutDigests(bucket.s3, flips=True), bucket="exports"), key=KEY)
    with pytest.raises(TransferError, match="BadDigest"):
        upload(flipping, DATA, streams=1)


def test_a_key_that_may_not_list_uploads_may_upload(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise CosPermissionError("no")

    monkeypatch.setattr(bucket.cos, "list_multipart_uploads", refuse)
    assert CosTarget(client=bucket.cos, bucket="exports", key=KEY).others("u") == []


def test_an_object_that_vanishes_is_an_error(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    place = S3Bucket(client=bucket.s3, bucket="exports")
    monkeypatch.setattr(place, "head", lambda _key: None)
    with pytest.raises(TransferError, match="though the store took all of it"):
        upload(S3Target(place=place, key=KEY), DATA)


def test_settings_that_cannot_be_are_refused() -> None:
    for bad in ({"streams": 0}, {"part_size": 0}):
        with pytest.raises(ValueError, match="a stream or more"):
            Upload(target=Scripted(), **bad)
    with pytest.raises(ValueError, match="come last, but a part has"):
        Upload(target=Scripted(), part_size=PART).begin(head=PART + 1, largest=0)
    work = Upload(target=Scripted(), part_size=PART)
    work.begin(head=10, largest=100)
    with pytest.raises(ValueError, match="10 were announced"):
        work.finish(b"")
    assert "the store is gone" in work.abort()
