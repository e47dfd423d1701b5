"""Copies into an S3 bucket: real boto3 against the sandbox's store, and stores that lie."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sealift.cos.errors import CosTransientError
from sealift.sandbox.faults import Faults
from sealift.sandbox.iam import Identity
from sealift.sandbox.store import multipart
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.server import serve_store
from sealift.transfer import s3 as module
from sealift.transfer.errors import DigestError, ReplacedError, Stopped, TransferError
from sealift.transfer.reading import Remote
from sealift.transfer.s3 import CopyToS3
from sealift.transfer.s3_bucket import S3Bucket, S3Source

HMAC = {"access_key_id": "PLANTEDACCESSKEYID", "secret_access_key": "PLANTED-hmac-secret"}
PART = 100_000
KEY = "images/disk-0.vhd"


class Target:
    """A bucket on a server, and what is asked of it."""

    def __init__(self, client: Any, objects: ObjectStore) -> None:
        self.client = client
        self.objects = objects
        self.calls: list[str] = []
        client.meta.events.register("before-call.s3", lambda model, **_: self.calls.append(model.name))

    @property
    def place(self) -> S3Bucket:
        return S3Bucket(client=self.client, bucket="copies")

    def body(self, key: str = KEY) -> bytes:
        return bytes(self.client.get_object(Bucket="copies", Key=key)["Body"].read())

    def there(self) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket="copies").get("Contents") or []]

    def uploads(self) -> list[str]:
        return [one["Key"] for one in self.client.list_multipart_uploads(Bucket="copies").get("Uploads") or []]


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A store that takes small parts, so that a test needs few bytes for many of them."""
    monkeypatch.setattr(multipart, "MIN_PART_SIZE", 1)
    monkeypatch.setattr(module, "SMALLEST_PART", 1)
    monkeypatch.setattr(module, "MIB", 1)
    objects = ObjectStore(root=tmp_path / "store")
    faults = Faults()
    identity = Identity(path=tmp_path / "iam.json", faults=faults)
    identity.add_hmac(**HMAC, roles={"*": "Manager"})
    objects.create_bucket("copies", location_constraint="us-south-standard", service_instance="crn")
    server = serve_store(store=objects, identity=identity, faults=faults)
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.url,
        region_name="us-south",
        aws_access_key_id=HMAC["access_key_id"],
        aws_secret_access_key=HMAC["secret_access_key"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
    )
    yield Target(client, objects)
    client.close()
    server.close()
    objects.close()


def copy(store: Any, target: Target, **more: Any) -> CopyToS3:
    given: dict[str, Any] = {"remote": store.remote, "place": target.place, "part_size": PART}
    return CopyToS3(client=store, key=KEY, **(given | more))


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 7 * PART - 3])
@pytest.mark.parametrize("streams", [1, 4])
def test_an_object_arrives_whole(make_store: Any, target: Target, size: int, streams: int) -> None:
    store = make_store(size)
    arrived: list[int] = []
    done = copy(store, target, streams=streams, arrived=arrived.append).run()
    assert target.body() == store.data
    assert done.sha256 == hashlib.sha256(store.data).hexdigest()
    assert (done.size, done.resumed, sum(arrived)) == (size, 0, size)
    assert done.checked_by == "SHA-256 of its parts"
    head = target.client.head_object(Bucket="copies", Key=KEY)
    assert head["ETag"].strip('"') == done.etag
    assert head["Metadata"]["sealift-source-etag"] == store.etag
    assert target.uploads() == []


def test_parts_that_an_earlier_try_sent_are_not_sent_again(make_store: Any, target: Target, retries: Any) -> None:
    store = make_store(5 * PART)

    def breaks(at: int, count: int) -> None:
        if at >= 3 * PART:
            raise CosTransientError("the connection broke", bucket="b", key="k")

    store.before_read = breaks
    with pytest.raises(CosTransientError):
        copy(store, target, streams=1, retries=retries).run()
    assert (target.there(), target.uploads()) == ([], [KEY])
    store.before_read = lambda _at, _count: None
    target.calls.clear()
    done = copy(store, target).run()
    assert done.resumed == 3 * PART
    assert target.calls.count("UploadPart") == 2
    assert target.body() == store.data
    assert target.uploads() == []


def test_parts_of_other_bytes_are_sent_again(make_store: Any, target: Target) -> None:
    store = make_store(3 * PART)
    upload = target.client.create_multipart_upload(Bucket="copies", Key=KEY, ChecksumAlgorithm="SHA256")
    target.client.upload_part(
        Bucket="copies",
        Key=KEY,
        UploadId=upload["UploadId"],
        PartNumber=2,
        Body=bytes(PART),
        ChecksumAlgorithm="SHA256",
    )
    done = copy(store, target).run()
    assert done.resumed == 0
    assert target.body() == store.data


def test_an_upload_in_other_parts_is_left_alone(make_store: Any, target: Target) -> None:
    store = make_store(3 * PART)
    upload = target.client.create_multipart_upload(Bucket="copies", Key=KEY, ChecksumAlgorithm="SHA256")
    target.client.upload_part(
        Bucket="copies", Key=KEY, UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * 5, ChecksumAlgorithm="SHA256"
    )
    copy(store, target).run()
    assert target.body() == store.data
    assert target.uploads() == [KEY], "whose it is, is not known"


def test_an_object_that_is_replaced_meanwhile_is_never_delivered(make_store: Any, target: Target) -> None:
    store = make_store(4 * PART)
    remote = store.remote

    def replaced(at: int, count: int) -> None:
        store.etag = "e2"

    store.before_read = replaced
    with pytest.raises(ReplacedError):
        copy(store, target, remote=remote, streams=1).run()
    assert target.there() == []


def test_other_bytes_than_the_manifest_says_are_not_delivered(make_store: Any, target: Target) -> None:
    store = make_store(2 * PART)
    remote = Remote(bucket="b", key="k", size=2 * PART, etag="e1", sha256="0" * 64)
    with pytest.raises(DigestError, match="Nothing was delivered"):
        copy(store, target, remote=remote).run()
    assert (target.there(), target.uploads()) == ([], [])


class Lying:
    """A client of a store that gives no digests, or keeps other bytes than it was sent."""

    def __init__(self, client: Any, *, digests: bool = False, flips: bool = False) -> None:
        self._client = client
        self._digests = digests
        self._flips = flips

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _told(self, reply: Any) -> Any:
        return reply if self._digests else {name: one for name, one in reply.items() if "Checksum" not in name}

    def create_multipart_upload(self, **given: Any) -> Any:
        given.pop("ChecksumAlgorithm")
        return self._client.create_multipart_upload(**given)

    def upload_part(self, **given: Any) -> Any:
        sent = given.pop("ChecksumSHA256")
        if self._flips:
            given["Body"] = bytes([given["Body"][0] ^ 1]) + bytes(given["Body"][1:])
        reply = self._told(self._client.upload_part(**given))
        if self._flips:  # and it says what it was told to say
            reply["ETag"] = '"' + hashlib.md5(given["Body"]).hexdigest() + '"'
        return reply | ({"ChecksumSHA256": sent} if self._digests else {})

    def complete_multipart_upload(self, **given: Any) -> Any:
        for part in given["MultipartUpload"]["Parts"]:
            part.pop("ChecksumSHA256", None)
        return self._client.complete_multipart_upload(**given)

    def head_object(self, **given: Any) -> Any:
        return self._told(self._client.head_object(**given))


def test_a_store_without_digests_is_held_to_its_etags(make_store: Any, target: Target) -> None:
    store = make_store(3 * PART + 1)
    place = S3Bucket(client=Lying(target.client), bucket="copies")
    done = copy(store, target, place=place).run()
    assert done.checked_by == "MD5 of its parts"
    assert target.body() == store.data


def test_a_store_that_keeps_other_bytes_is_found_out(make_store: Any, target: Target) -> None:
    store = make_store(3 * PART)
    place = S3Bucket(client=Lying(target.client, flips=True), bucket="copies")
    with pytest.raises(DigestError, match="is not what was sent: the store's ETag"):
        copy(store, target, place=place).run()
    assert target.there() == []


def test_a_refusal_is_said_in_the_stores_words_without_a_secret(make_store: Any, target: Target) -> None:
    store = make_store(10)
    with pytest.raises(TransferError, match="NoSuchBucket") as caught:
        copy(store, target, place=S3Bucket(client=target.client, bucket="nowhere")).run()
    assert "PLANTED" not in str(caught.value)
    assert "s3://nowhere/images/disk-0.vhd" in str(caught.value)


def test_a_store_that_goes_away_is_said_in_words(make_store: Any, target: Target) -> None:
    class Gone:
        def __getattr__(self, name: str) -> Any:
            def call(**_: Any) -> Any:
                raise ConnectionResetError(104, "Connection reset by peer")

            return call

        def get_paginator(self, _name: str) -> Any:
            raise AssertionError("not reached")

    place = S3Bucket(client=Gone(), bucket="copies")
    with pytest.raises(TransferError, match="ConnectionResetError"):
        place.call("upload_part", key=KEY)


def test_a_copy_that_is_stopped_goes_on_later(make_store: Any, target: Target) -> None:
    store = make_store(6 * PART)
    reached, go_on = threading.Event(), threading.Event()

    def waits(at: int, count: int) -> None:
        if at >= 4 * PART:
            reached.set()
            assert go_on.wait(30)

    store.before_read = waits
    work = copy(store, target, streams=1)

    def stop() -> None:
        assert reached.wait(30)
        work.stop()
        go_on.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped, match="goes on with it"):
        work.run()
    stopper.join()
    store.before_read = lambda _at, _count: None
    assert copy(store, target).run().resumed == 4 * PART
    assert target.body() == store.data


def test_very_large_objects_have_larger_parts_and_fewer_streams(
    make_store: Any, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = Remote(bucket="b", key="k", size=2 * 2**40, etag="e")
    work = copy(make_store(1), target, remote=huge, part_size=16 * 2**20)
    assert huge.parts(work._part_size) <= 10_000
    assert work._part_size * work._streams <= 256 * 2**20
    monkeypatch.setattr(module, "PARTS_AT_MOST", 3)
    store = make_store(10 * PART)
    copy(store, target).run()
    assert target.body() == store.data
    assert target.calls.count("UploadPart") == 3


def test_a_source_reads_just_what_is_asked_for(make_store: Any, target: Target) -> None:
    store = make_store(3 * PART)
    done = copy(store, target).run()
    source = S3Source(place=target.place, key=KEY, size=done.size, etag=done.etag)
    assert source.read(PART - 7, 20) == store.data[PART - 7 : PART + 13]
    assert source.read(0, 0) == b""
    with pytest.raises(TransferError, match="gave 5 bytes"):
        source.read(3 * PART - 5, 10)
    with pytest.raises(TransferError, match="PreconditionFailed"):
        S3Source(place=target.place, key=KEY, size=done.size, etag="other").read(0, 1)


def test_an_object_is_asked_for_before_it_is_read(target: Target) -> None:
    assert target.place.read("nothing") is None
    target.client.put_object(Bucket="copies", Key="small", Body=b"{}")
    assert target.place.read("small") == b"{}"


@pytest.mark.parametrize("bad", [{"streams": 0}, {"part_size": 0}])
def test_settings_that_cannot_be_are_refused(make_store: Any, target: Target, bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a stream or more"):
        copy(make_store(1), target, **bad)


def test_other_errors_of_a_head_are_not_taken_for_absence(target: Target) -> None:
    class Refusing:
        def head_object(self, **_: Any) -> Any:
            raise ClientError(
                {"Error": {"Code": "403", "Message": "Forbidden"}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item]
                "HeadObject",
            )

    with pytest.raises(TransferError, match="Forbidden"):
        S3Bucket(client=Refusing(), bucket="copies").head(KEY)
