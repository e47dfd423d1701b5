"""boto3 against the store and, as a check of these tests themselves, against radosgw."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from botocore.exceptions import ClientError

pytestmark = pytest.mark.conformance

MIB = 2**20


def make_client(endpoint: Any, **config: Any) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint.url,
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        region_name="us-east-1",
        verify=str(endpoint.ca) if endpoint.ca else True,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config),
    )


@pytest.fixture
def s3(endpoint: Any) -> Any:
    return make_client(endpoint)


@pytest.fixture
def bucket(s3: Any, bucket_name: str) -> Iterator[str]:
    s3.create_bucket(Bucket=bucket_name)
    yield bucket_name
    for upload in s3.list_multipart_uploads(Bucket=bucket_name).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=bucket_name, Key=upload["Key"], UploadId=upload["UploadId"])
    page = s3.list_object_versions(Bucket=bucket_name)
    for entry in page.get("Versions", []) + page.get("DeleteMarkers", []):
        s3.delete_object(Bucket=bucket_name, Key=entry["Key"], VersionId=entry["VersionId"])
    s3.delete_bucket(Bucket=bucket_name)


def put(s3: Any, bucket: str, *keys: str, body: bytes = b"data") -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=body)


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as refused:
        call()
    return refused.value.response["Error"]["Code"]


def test_buckets(s3: Any, bucket: str) -> None:
    assert bucket in {one["Name"] for one in s3.list_buckets()["Buckets"]}
    s3.head_bucket(Bucket=bucket)
    assert code_of(lambda: s3.head_bucket(Bucket=bucket + "-none")) == "404"
    assert code_of(lambda: s3.list_objects_v2(Bucket=bucket + "-none")) == "NoSuchBucket"
    put(s3, bucket, "a")
    assert code_of(lambda: s3.delete_bucket(Bucket=bucket)) == "BucketNotEmpty"


@pytest.mark.parametrize(
    "key", ["a", "a b+c%20d", "deep/er/est.vhd", "ünïcødé/💾", "a//b", "semi;colon=&?#", "(brackets)!*'"]
)
def test_an_object_comes_back_as_it_went(s3: Any, bucket: str, key: str) -> None:
    body = random.Random(key).randbytes(10_000)
    put_reply = s3.put_object(
        Bucket=bucket,
        Key=key,
        Body=body,
        ContentType="application/x-vhd",
        CacheControl="no-store",
        ContentDisposition="attachment",
        Metadata={"sealift-guest": "124929698", "with-spaces": "a b"},
    )
    assert put_reply["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key=key)
    for reply in (got, head):
        assert reply["ContentLength"] == len(body)
        assert reply["ContentType"] == "application/x-vhd"
        assert reply["CacheControl"] == "no-store"
        assert reply["ContentDisposition"] == "attachment"
        assert reply["Metadata"] == {"sealift-guest": "124929698", "with-spaces": "a b"}
        assert abs(datetime.now(UTC) - reply["LastModified"]) < timedelta(minutes=2)
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key=key)) == "NoSuchKey"
    assert code_of(lambda: s3.head_object(Bucket=bucket, Key=key)) == "404"
    s3.delete_object(Bucket=bucket, Key=key)


def test_an_empty_object(s3: Any, bucket: str) -> None:
    put(s3, bucket, "empty", body=b"")
    assert s3.get_object(Bucket=bucket, Key="empty")["Body"].read() == b""
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="empty", Range="bytes=0-0")) == "InvalidRange"


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=100-", "bytes=-7", "bytes=990-2000", "bytes=999-999"])
def test_ranges(s3: Any, bucket: str, asked: str) -> None:
    body = random.Random(1).randbytes(1000)
    put(s3, bucket, "a", body=body)
    first, last = asked.removeprefix("bytes=").split("-")
    expected = body[int(first) : int(last) + 1 if last else None] if first else body[-int(last) :]
    got = s3.get_object(Bucket=bucket, Key="a", Range=asked)
    start = 1000 - len(expected) if not first else int(first)
    assert got["Body"].read() == expected
    assert got["ContentRange"] == f"bytes {start}-{start + len(expected) - 1}/1000"
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="a", Range="bytes=1000-")) == "InvalidRange"


def test_conditional_reads(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"data")["ETag"]
    assert s3.get_object(Bucket=bucket, Key="a", IfMatch=etag)["Body"].read() == b"data"
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="a", IfMatch='"0"')) == "PreconditionFailed"
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="a", IfNoneMatch=etag)) == "304"
    old, future = datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC) - timedelta(seconds=1)
    assert s3.get_object(Bucket=bucket, Key="a", IfModifiedSince=old)["Body"].read() == b"data"
    assert code_of(lambda: s3.head_object(Bucket=bucket, Key="a", IfUnmodifiedSince=old)) == "412"
    assert future > old


def test_listing_with_prefix_delimiter_and_pages(s3: Any, bucket: str) -> None:
    keys = [f"images/web{n}/disk-{d}.vhd" for n in range(4) for d in range(3)] + ["manifests/1.json", "top"]
    put(s3, bucket, *keys)
    for operation in ("list_objects", "list_objects_v2"):
        paginator = s3.get_paginator(operation)
        for size in (1, 2, 5, 1000):
            pages = list(paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": size}))
            assert [one["Key"] for page in pages for one in page.get("Contents", [])] == sorted(keys)
            assert max(len(page.get("Contents", [])) for page in pages) == min(size, len(keys))
            pages = list(paginator.paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size}))
            assert [one["Key"] for page in pages for one in page.get("Contents", [])] == ["top"]
            groups = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
            assert groups == ["images/", "manifests/"]
        pages = list(paginator.paginate(Bucket=bucket, Prefix="images/", Delimiter="/"))
        assert [one["Prefix"] for page in pages for one in page["CommonPrefixes"]] == [
            f"images/web{n}/" for n in range(4)
        ]
    after = s3.list_objects_v2(Bucket=bucket, StartAfter="images/web3/disk-1.vhd")
    assert [one["Key"] for one in after["Contents"]] == ["images/web3/disk-2.vhd", "manifests/1.json", "top"]
    assert (after["KeyCount"], after["IsTruncated"]) == (3, False)


def test_listing_is_in_the_order_of_bytes(s3: Any, bucket: str) -> None:
    keys = ["b", "B", "a/1", "a-1", "a", "ä", "z", "\U0001f4be", "\uffee", "0"]
    put(s3, bucket, *keys)
    listed = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(keys, key=lambda key: key.encode())


def test_delete_many(s3: Any, bucket: str) -> None:
    put(s3, bucket, "a", "b", "c")
    reply = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}, {"Key": "never"}]})
    assert {one["Key"] for one in reply["Deleted"]} == {"a", "b", "never"}
    assert "Deleted" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "c"}], "Quiet": True})
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_copies(endpoint: Any, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"data", Metadata={"x": "1"}, ContentType="x/y")
    source = {"Bucket": bucket, "Key": "a b/ü"}
    s3.copy_object(Bucket=bucket, Key="same", CopySource=source)
    head = s3.head_object(Bucket=bucket, Key="same")
    assert (head["Metadata"], head["ContentType"]) == ({"x": "1"}, "x/y")
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, MetadataDirective="REPLACE", Metadata={"y": "2"})
    assert s3.head_object(Bucket=bucket, Key="new")["Metadata"] == {"y": "2"}
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"data"
    missing = {"Bucket": bucket, "Key": "none"}
    assert code_of(lambda: s3.copy_object(Bucket=bucket, Key="x", CopySource=missing)) == "NoSuchKey"
    if endpoint.ours:  # radosgw 16 does not look at the condition
        refusal = code_of(lambda: s3.copy_object(Bucket=bucket, Key="x", CopySource=source, CopySourceIfMatch='"0"'))
        assert refusal == "PreconditionFailed"


def test_tags(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data", Tagging="team=data&keep=yes%20please")
    tags = s3.get_object_tagging(Bucket=bucket, Key="a")["TagSet"]
    assert sorted((tag["Key"], tag["Value"]) for tag in tags) == [("keep", "yes please"), ("team", "data")]
    s3.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "only", "Value": "one"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == [{"Key": "only", "Value": "one"}]
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"data"
    s3.delete_object_tagging(Bucket=bucket, Key="a")
    assert s3.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == []


def test_versions(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    ids = [s3.put_object(Bucket=bucket, Key="a", Body=str(n).encode())["VersionId"] for n in range(3)]
    s3.put_object(Bucket=bucket, Key="b", Body=b"b")
    marker = s3.delete_object(Bucket=bucket, Key="a")
    assert marker["DeleteMarker"] is True
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="a")) == "NoSuchKey"
    assert s3.get_object(Bucket=bucket, Key="a", VersionId=ids[1])["Body"].read() == b"1"
    for size in (1, 2, 1000):
        pages = list(
            s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
        )
        versions = [one for page in pages for one in page.get("Versions", [])]
        assert [one["VersionId"] for one in versions if one["Key"] == "a"] == ids[::-1]
        assert [one["IsLatest"] for one in versions] == [False, False, False, True]
        markers = [one for page in pages for one in page.get("DeleteMarkers", [])]
        assert [(one["Key"], one["VersionId"], one["IsLatest"]) for one in markers] == [
            ("a", marker["VersionId"], True)
        ]
    s3.delete_object(Bucket=bucket, Key="a", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"2"


def test_lifecycle(s3: Any, bucket: str) -> None:
    assert code_of(lambda: s3.get_bucket_lifecycle_configuration(Bucket=bucket)) == "NoSuchLifecycleConfiguration"
    rules = [
        {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "images/"}, "Expiration": {"Days": 30}},
        {
            "ID": "half",
            "Status": "Disabled",
            "Filter": {"Prefix": "half/"},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
        },
    ]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    got = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert sorted(got, key=lambda rule: rule["ID"]) == sorted(rules, key=lambda rule: rule["ID"])
    s3.delete_bucket_lifecycle(Bucket=bucket)
    assert code_of(lambda: s3.get_bucket_lifecycle_configuration(Bucket=bucket)) == "NoSuchLifecycleConfiguration"


@pytest.mark.parametrize("seed", range(3))
def test_multipart_in_any_order(s3: Any, bucket: str, seed: int) -> None:
    choose = random.Random(seed)
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="disk.vhd", ContentType="x/y")["UploadId"]
    parts = {n: choose.randbytes(5 * MIB + choose.randint(0, 1000)) for n in (1, 2, 7)}
    parts[9] = choose.randbytes(1234)
    order = [9, 2, 7, 1, 2]
    etags = {}
    for number in order:
        arguments = {"Bucket": bucket, "Key": "disk.vhd", "UploadId": upload_id, "PartNumber": number}
        if number == 2 and 2 not in etags:
            etags[2] = s3.upload_part(**arguments, Body=b"to be replaced" * 400_000)["ETag"]
        else:
            etags[number] = s3.upload_part(**arguments, Body=parts[number])["ETag"]
    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="disk.vhd", UploadId=upload_id, PaginationConfig={"PageSize": 3}
    )
    listed = [(part["PartNumber"], part["Size"], part["ETag"]) for page in pages for part in page["Parts"]]
    assert listed == [(number, len(data), etags[number]) for number, data in parts.items()]
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="disk.vhd")) == "NoSuchKey"
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="disk.vhd",
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etags[number]} for number in parts]},
    )
    digests = b"".join(hashlib.md5(data).digest() for data in parts.values())
    got = s3.get_object(Bucket=bucket, Key="disk.vhd")
    assert got["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-4"'
    assert got["ContentType"] == "x/y"
    assert got["Body"].read() == b"".join(parts.values())


def test_multipart_refusals(endpoint: Any, s3: Any, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    arguments = {"Bucket": bucket, "Key": "a", "UploadId": upload_id}
    etags = [s3.upload_part(**arguments, PartNumber=number, Body=b"small")["ETag"] for number in (1, 2)]

    def complete(*parts: tuple[int, str]) -> str:
        named = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        return code_of(lambda: s3.complete_multipart_upload(**arguments, MultipartUpload={"Parts": named}))

    assert complete((1, etags[0]), (2, etags[1])) == "EntityTooSmall"
    assert complete((1, '"' + "0" * 32 + '"')) == "InvalidPart"
    assert complete((3, etags[0])) == "InvalidPart"
    s3.abort_multipart_upload(**arguments)
    # radosgw 16 answers NoSuchKey here, S3 and COS document NoSuchUpload.
    assert code_of(lambda: s3.list_parts(**arguments)) == ("NoSuchUpload" if endpoint.ours else "NoSuchKey")


def test_listing_uploads(s3: Any, bucket: str) -> None:
    made = [(key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in ("a", "b/1", "b/2", "c")]
    for size in (1, 2, 1000):
        pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
        found = [(one["Key"], one["UploadId"]) for page in pages for one in page.get("Uploads", [])]
        assert found == made
    below = s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [one["Key"] for one in below["Uploads"]] == ["b/1", "b/2"]


def test_parts_copied_from_ranges(s3: Any, bucket: str) -> None:
    data = random.Random(4).randbytes(11 * MIB)
    put(s3, bucket, "source", body=data)
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="copy")["UploadId"]
    parts = []
    for number, (first, last) in enumerate([(0, 6 * MIB - 1), (6 * MIB, 11 * MIB - 1)], 1):
        reply = s3.upload_part_copy(
            Bucket=bucket,
            Key="copy",
            UploadId=upload_id,
            PartNumber=number,
            CopySource={"Bucket": bucket, "Key": "source"},
            CopySourceRange=f"bytes={first}-{last}",
        )
        parts.append({"PartNumber": number, "ETag": reply["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="copy", UploadId=upload_id, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == data


def test_objects_of_parts_become_parts_of_another_object(s3: Any, bucket: str, endpoint: Any) -> None:
    """An object that was gathered of parts is copied whole, on the condition of its ETag, into one part of another."""
    data = random.Random(9).randbytes(17 * MIB)
    gathered = s3.create_multipart_upload(Bucket=bucket, Key=".gathered/1", ChecksumAlgorithm="SHA256")["UploadId"]
    about = {"Bucket": bucket, "Key": ".gathered/1", "UploadId": gathered}
    sent = []
    for number, (start, end) in enumerate([(6, 11), (11, 16)], 1):
        reply = s3.upload_part(
            **about, PartNumber=number, Body=data[start * MIB : end * MIB], ChecksumAlgorithm="SHA256"
        )
        sent.append({"PartNumber": number, "ETag": reply["ETag"], "ChecksumSHA256": reply.get("ChecksumSHA256")})
    named = [{name: one for name, one in part.items() if one is not None} for part in sent]
    etag = s3.complete_multipart_upload(**about, MultipartUpload={"Parts": named})["ETag"]

    whole = s3.create_multipart_upload(Bucket=bucket, Key="whole", ChecksumAlgorithm="SHA256")["UploadId"]
    about = {"Bucket": bucket, "Key": "whole", "UploadId": whole}
    first = s3.upload_part(**about, PartNumber=1, Body=data[: 6 * MIB], ChecksumAlgorithm="SHA256")
    source = {"Bucket": bucket, "Key": ".gathered/1"}
    other = code_of(lambda: s3.upload_part_copy(**about, PartNumber=2, CopySource=source, CopySourceIfMatch='"0"'))
    assert other == "PreconditionFailed"
    told = s3.upload_part_copy(**about, PartNumber=2, CopySource=source, CopySourceIfMatch=etag)["CopyPartResult"]
    last = s3.upload_part(**about, PartNumber=3, Body=data[16 * MIB :], ChecksumAlgorithm="SHA256")
    copied = data[6 * MIB : 16 * MIB]
    assert told["ETag"] == f'"{hashlib.md5(copied).hexdigest()}"'
    if endpoint.ours:
        assert told["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(copied).digest()).decode()
    beyond = code_of(
        lambda: s3.upload_part_copy(
            **about, PartNumber=4, CopySource=source, CopySourceRange=f"bytes=0-{10 * MIB}", CopySourceIfMatch=etag
        )
    )
    assert beyond == "InvalidRange"
    parts = [
        {"PartNumber": number, "ETag": reply["ETag"]}
        | ({"ChecksumSHA256": reply["ChecksumSHA256"]} if "ChecksumSHA256" in reply else {})
        for number, reply in enumerate([first, told, last], 1)
    ]
    s3.complete_multipart_upload(**about, MultipartUpload={"Parts": parts})
    s3.delete_object(**source)
    assert s3.get_object(Bucket=bucket, Key="whole")["Body"].read() == data


def test_transfer_manager_both_ways(s3: Any, bucket: str) -> None:
    data = random.Random(6).randbytes(33 * MIB + 17)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=6)
    s3.upload_fileobj(io.BytesIO(data), bucket, "big", Config=config)
    back = io.BytesIO()
    s3.download_fileobj(bucket, "big", back, Config=config)
    assert back.getvalue() == data
    with ThreadPoolExecutor(6) as pool:
        starts = range(0, len(data), 3 * MIB)
        pieces = pool.map(
            lambda at: s3.get_object(Bucket=bucket, Key="big", Range=f"bytes={at}-{at + 3 * MIB - 1}")["Body"].read(),
            starts,
        )
        assert b"".join(pieces) == data


def test_content_md5(s3: Any, bucket: str) -> None:
    right = base64.b64encode(hashlib.md5(b"data").digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    s3.put_object(Bucket=bucket, Key="a", Body=b"data", ContentMD5=right)
    assert code_of(lambda: s3.put_object(Bucket=bucket, Key="b", Body=b"data", ContentMD5=wrong)) == "BadDigest"
    assert code_of(lambda: s3.head_object(Bucket=bucket, Key="b")) == "404"


def test_wrong_keys_are_refused(endpoint: Any, bucket: str) -> None:
    from dataclasses import replace

    wrong = make_client(replace(endpoint, secret_key="wrong"))
    assert code_of(lambda: wrong.list_objects_v2(Bucket=bucket)) == "SignatureDoesNotMatch"
    unknown = make_client(replace(endpoint, access_key="UNKNOWN"))
    assert code_of(lambda: unknown.list_objects_v2(Bucket=bucket)) == "InvalidAccessKeyId"


def fetch(endpoint: Any, url: str, data: bytes | None = None) -> tuple[int, bytes]:
    import ssl

    context = ssl.create_default_context(cafile=endpoint.ca) if endpoint.ca else None
    try:
        request = urllib.request.Request(url, data=data, method="PUT" if data is not None else "GET")
        with urllib.request.urlopen(request, context=context, timeout=20) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_presigned_urls(endpoint: Any, bucket: str) -> None:
    s3 = make_client(endpoint, signature_version="s3v4")
    put(s3, bucket, "a b")
    where = {"Bucket": bucket, "Key": "a b"}
    assert fetch(endpoint, s3.generate_presigned_url("get_object", Params=where)) == (200, b"data")
    assert fetch(endpoint, s3.generate_presigned_url("get_object", Params=where) + "0")[0] == 403
    assert fetch(endpoint, s3.generate_presigned_url("get_object", Params=where).replace("a%20b", "b"))[0] == 403


def test_writers_and_readers_at_once_see_whole_objects(s3: Any, bucket: str) -> None:
    bodies = [bytes([letter]) * 300_000 for letter in b"abcd"]
    put(s3, bucket, "shared", body=bodies[0])
    done, seen = threading.Event(), set()

    def read() -> None:
        while not done.is_set():
            got = s3.get_object(Bucket=bucket, Key="shared")
            body = got["Body"].read()
            assert got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
            seen.add(body)

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(40):
            put(s3, bucket, "shared", body=bodies[number % 4])
        done.set()
        for reader in readers:
            reader.result()
    assert seen <= set(bodies)
