"""IBM's own SDK against the store: IAM and HMAC, HTTP and TLS, and what only Cloud Object Storage has."""

from __future__ import annotations

import base64
import hashlib
import io
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import ibm_boto3
import pytest
from ibm_botocore.client import Config
from ibm_botocore.exceptions import ClientError, CredentialRetrievalError

pytestmark = pytest.mark.conformance

INSTANCE = "crn:v1:bluemix:public:cloud-object-storage:global:a/0123:11111111-2222-3333-4444-555555555555::"
MIB = 2**20


def iam_client(endpoint: Any, *, api_key: str | None = None, instance: str = INSTANCE) -> Any:
    return ibm_boto3.session.Session().client(
        "s3",
        ibm_api_key_id=api_key or endpoint.api_key,
        ibm_service_instance_id=instance,
        ibm_auth_endpoint=f"{endpoint.url}/identity/token",
        endpoint_url=endpoint.url,
        verify=str(endpoint.ca) if endpoint.ca else True,
        config=Config(signature_version="oauth", s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def hmac_client(endpoint: Any) -> Any:
    return ibm_boto3.session.Session().client(
        "s3",
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        region_name="us-south",
        endpoint_url=endpoint.url,
        verify=str(endpoint.ca) if endpoint.ca else True,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


@pytest.fixture(params=["store_http", "store_tls"])
def endpoint(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[iam_client, hmac_client], ids=["iam", "hmac"])
def cos(request: pytest.FixtureRequest, endpoint: Any) -> Any:
    return request.param(endpoint)


@pytest.fixture
def bucket(endpoint: Any, bucket_name: str) -> Iterator[str]:
    cos = iam_client(endpoint)
    cos.create_bucket(Bucket=bucket_name, CreateBucketConfiguration={"LocationConstraint": "us-south-standard"})
    yield bucket_name
    listed = cos.list_object_versions(Bucket=bucket_name)
    for entry in listed.get("Versions", []) + listed.get("DeleteMarkers", []):
        cos.delete_object(Bucket=bucket_name, Key=entry["Key"], VersionId=entry["VersionId"])
    cos.delete_bucket(Bucket=bucket_name)


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as refused:
        call()
    return refused.value.response["Error"]["Code"]


def test_objects_both_ways(cos: Any, bucket: str) -> None:
    body = random.Random(1).randbytes(100_000)
    cos.put_object(Bucket=bucket, Key="a b/ü+%.vhd", Body=body, Metadata={"guest": "1"})
    got = cos.get_object(Bucket=bucket, Key="a b/ü+%.vhd")
    assert got["Body"].read() == body
    assert got["Metadata"] == {"guest": "1"}
    assert got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert cos.get_object(Bucket=bucket, Key="a b/ü+%.vhd", Range="bytes=-512")["Body"].read() == body[-512:]
    assert [one["Key"] for one in cos.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/ü+%.vhd"]


def test_a_stream_of_unknown_length_both_ways(cos: Any, bucket: str) -> None:
    data = random.Random(2).randbytes(20 * MIB + 3)
    cos.upload_fileobj(io.BytesIO(data), bucket, "big")
    back = io.BytesIO()
    cos.download_fileobj(bucket, "big", back)
    assert back.getvalue() == data


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums(cos: Any, bucket: str, algorithm: str) -> None:
    cos.put_object(Bucket=bucket, Key="a", Body=b"data", ChecksumAlgorithm=algorithm)
    head = cos.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"]
    assert len(base64.b64decode(head["ResponseMetadata"]["HTTPHeaders"]["x-amz-checksum-crc64nvme"])) == 8
    assert cos.get_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")["Body"].read() == b"data"
    # The SDK sends "=" of this text as it stands; the store compares it with the body.
    wrong = {"ChecksumSHA256": base64.b64encode(bytes(32)).decode()}
    assert code_of(lambda: cos.put_object(Bucket=bucket, Key="b", Body=b"data", **wrong)) == "BadDigest"


def test_a_conditional_put_keeps_what_is_there(cos: Any, bucket: str) -> None:
    # SDK 2.16 has no IfNoneMatch parameter, so the header goes in before the request is signed.
    cos.meta.events.register(
        "before-call.s3.PutObject", lambda params, **_: params["headers"].update({"If-None-Match": "*"})
    )
    cos.put_object(Bucket=bucket, Key="manifest", Body=b"first")
    assert code_of(lambda: cos.put_object(Bucket=bucket, Key="manifest", Body=b"second")) == "PreconditionFailed"
    assert cos.get_object(Bucket=bucket, Key="manifest")["Body"].read() == b"first"


@pytest.mark.parametrize("constraint", ["us-south-standard", "eu-de-smart", "us-vault", "ams03-cold"])
def test_location_constraints(cos: Any, bucket_name: str, constraint: str) -> None:
    cos.create_bucket(Bucket=bucket_name, CreateBucketConfiguration={"LocationConstraint": constraint})
    assert cos.get_bucket_location(Bucket=bucket_name)["LocationConstraint"] == constraint
    listed = cos.list_buckets_extended(IBMServiceInstanceId=INSTANCE)["Buckets"]
    found = {one["Name"]: one["LocationConstraint"] for one in listed}
    assert found.get(bucket_name) in (constraint, None)
    cos.delete_bucket(Bucket=bucket_name)
    assert code_of(lambda: cos.head_bucket(Bucket=bucket_name)) == "404"


def test_a_plain_create_and_a_wrong_location(cos: Any, bucket_name: str) -> None:
    wrong = {"LocationConstraint": "mars-standard"}
    call = lambda: cos.create_bucket(Bucket=bucket_name, CreateBucketConfiguration=wrong)  # noqa: E731
    assert code_of(call) == "InvalidLocationConstraint"
    cos.create_bucket(Bucket=bucket_name)
    assert cos.get_bucket_location(Bucket=bucket_name)["LocationConstraint"] == "us-south-standard"
    cos.delete_bucket(Bucket=bucket_name)


def test_buckets_belong_to_service_instances(endpoint: Any, bucket: str) -> None:
    mine, theirs = iam_client(endpoint), iam_client(endpoint, instance="99999999-0000-0000-0000-000000000000")
    assert bucket in {one["Name"] for one in mine.list_buckets()["Buckets"]}
    assert bucket not in {one["Name"] for one in theirs.list_buckets()["Buckets"]}
    assert code_of(lambda: theirs.create_bucket(Bucket=bucket)) == "BucketAlreadyExists"
    assert code_of(lambda: mine.create_bucket(Bucket=bucket)) == "BucketAlreadyOwnedByYou"
    guid = iam_client(endpoint, instance=INSTANCE.split(":")[7])
    assert bucket in {one["Name"] for one in guid.list_buckets()["Buckets"]}
    page = mine.list_buckets_extended(IBMServiceInstanceId=INSTANCE, Prefix=bucket, MaxKeys=1)
    assert [(one["Name"], one["LocationConstraint"]) for one in page["Buckets"]] == [(bucket, "us-south-standard")]


def test_the_aspera_query(cos: Any, bucket: str) -> None:
    answer = cos.get_bucket_aspera(Bucket=bucket)
    assert answer["AccessKey"]["Id"]
    assert answer["AccessKey"]["Secret"]
    assert answer["ATSEndpoint"].startswith("https://")


def test_bucket_configuration(cos: Any, bucket: str) -> None:
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "images/"}, "Expiration": {"Days": 7}}
    cos.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    assert cos.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [rule]
    cos.delete_bucket_lifecycle(Bucket=bucket)
    assert code_of(lambda: cos.get_bucket_lifecycle_configuration(Bucket=bucket)) == "NoSuchLifecycleConfiguration"
    block = {"BlockPublicAcls": True, "IgnorePublicAcls": True}
    cos.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
    got = cos.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert {name: got[name] for name in block} == block
    cos.delete_public_access_block(Bucket=bucket)
    assert code_of(lambda: cos.get_public_access_block(Bucket=bucket)) == "NoSuchPublicAccessBlockConfiguration"
    policy = cos.get_bucket_protection_configuration(Bucket=bucket)["ProtectionConfiguration"]
    assert policy == {"Status": "Disabled"}
    cos.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert cos.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "a", "Value": "b"}]
    cos.put_bucket_cors(
        Bucket=bucket, CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}
    )
    assert cos.get_bucket_cors(Bucket=bucket)["CORSRules"][0]["AllowedMethods"] == ["GET"]
    assert cos.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"


def test_versions_and_deleting_many(cos: Any, bucket: str) -> None:
    cos.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = cos.put_object(Bucket=bucket, Key="a", Body=b"1")["VersionId"]
    cos.put_object(Bucket=bucket, Key="a", Body=b"2")
    reply = cos.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}]})
    assert reply["Deleted"][0]["DeleteMarker"] is True
    assert cos.get_object(Bucket=bucket, Key="a", VersionId=first)["Body"].read() == b"1"


def test_a_wrong_api_key_is_refused_by_iam(endpoint: Any) -> None:
    with pytest.raises(CredentialRetrievalError, match="Provided API key could not be found"):
        iam_client(endpoint, api_key="wrong").list_buckets()


def test_part_sizes_can_be_read_from_an_export(cos: Any, running: Any, bucket: str, tmp_path: Any) -> None:
    source = tmp_path / "disk.vhd"
    source.write_bytes(random.Random(9).randbytes(2500))
    stored = running.store.put_file(bucket=bucket, key="images/disk-0.vhd", source=source, part_size=1000)
    head = cos.head_object(Bucket=bucket, Key="images/disk-0.vhd", PartNumber=1)
    assert (head["ContentLength"], head["PartsCount"]) == (1000, 3)
    assert head["ETag"] == f'"{stored.etag}"'
    assert cos.get_object(Bucket=bucket, Key="images/disk-0.vhd")["Body"].read() == source.read_bytes()
    full = cos.head_object(Bucket=bucket, Key="images/disk-0.vhd", ChecksumMode="ENABLED")
    assert full["ResponseMetadata"]["HTTPHeaders"]["x-amz-checksum-type"] == "FULL_OBJECT"


def bucket_that_stays(cos: Any) -> str:
    """Nobody can empty it while what is in it is protected."""
    name = f"protected-{random.randrange(10**9)}"
    cos.create_bucket(Bucket=name)
    return name


def test_object_lock_keeps_versions_and_only_versions(cos: Any) -> None:
    bucket = bucket_that_stays(cos)
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}}
    assert code_of(lambda: cos.get_object_lock_configuration(Bucket=bucket)) == "ObjectLockConfigurationNotFoundError"
    refused = code_of(lambda: cos.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock))
    assert refused == "InvalidBucketState"
    cos.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    cos.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    assert cos.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == lock

    version = cos.put_object(Bucket=bucket, Key="image", Body=b"disk")["VersionId"]
    until = cos.get_object_retention(Bucket=bucket, Key="image")["Retention"]["RetainUntilDate"]
    head = cos.head_object(Bucket=bucket, Key="image")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", until)
    named = {"Bucket": bucket, "Key": "image", "VersionId": version}
    assert code_of(lambda: cos.delete_object(**named)) == "AccessDenied"
    assert cos.delete_object(Bucket=bucket, Key="image")["DeleteMarker"] is True, "a plain deletion only hides it"
    assert cos.get_object(**named)["Body"].read() == b"disk"

    shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": until - timedelta(hours=1)}
    assert code_of(lambda: cos.put_object_retention(**named, Retention=shorter)) == "AccessDenied"
    governance = {"Mode": "GOVERNANCE", "RetainUntilDate": until + timedelta(hours=1)}
    assert code_of(lambda: cos.put_object_retention(**named, Retention=governance)) == "MalformedXML"
    cos.put_object_legal_hold(**named, LegalHold={"Status": "ON"})
    assert cos.get_object_legal_hold(**named)["LegalHold"] == {"Status": "ON"}
    assert (
        code_of(lambda: cos.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}))
        == "InvalidBucketState"
    )


def test_a_bucket_may_be_made_with_object_lock(cos: Any) -> None:
    name = f"locked-{random.randrange(10**9)}"
    cos.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    assert cos.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    assert cos.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"] == {"ObjectLockEnabled": "Enabled"}
    version = cos.put_object(Bucket=name, Key="a", Body=b"a", ObjectLockLegalHoldStatus="ON")["VersionId"]
    assert code_of(lambda: cos.delete_object(Bucket=name, Key="a", VersionId=version)) == "AccessDenied"
    cos.put_object_legal_hold(Bucket=name, Key="a", VersionId=version, LegalHold={"Status": "OFF"})
    cos.delete_object(Bucket=name, Key="a", VersionId=version)


def test_a_retention_policy_keeps_objects_from_deletion_and_overwriting(cos: Any) -> None:
    bucket = bucket_that_stays(cos)
    days = {"MinimumRetention": {"Days": 0}, "DefaultRetention": {"Days": 3}, "MaximumRetention": {"Days": 30}}
    policy = {"Status": "Retention", **days}
    cos.put_bucket_protection_configuration(Bucket=bucket, ProtectionConfiguration=policy)
    assert cos.get_bucket_protection_configuration(Bucket=bucket)["ProtectionConfiguration"] == policy

    cos.put_object(Bucket=bucket, Key="image", Body=b"disk")
    head = cos.head_object(Bucket=bucket, Key="image")
    assert head["RetentionPeriod"] == 3 * 86_400
    assert head["RetentionExpirationDate"] - head["LastModified"] == pytest.approx(
        timedelta(days=3), abs=timedelta(seconds=2)
    )
    assert code_of(lambda: cos.delete_object(Bucket=bucket, Key="image")) == "AccessDenied"
    assert code_of(lambda: cos.put_object(Bucket=bucket, Key="image", Body=b"other")) == "AccessDenied"
    assert cos.get_object(Bucket=bucket, Key="image")["Body"].read() == b"disk"

    cos.put_object(Bucket=bucket, Key="short", Body=b"x", RetentionPeriod=0)
    cos.add_legal_hold(Bucket=bucket, Key="short", RetentionLegalHoldId="audit-7")
    assert cos.head_object(Bucket=bucket, Key="short")["RetentionLegalHoldCount"] == 1
    assert code_of(lambda: cos.delete_object(Bucket=bucket, Key="short")) == "AccessDenied"
    cos.delete_legal_hold(Bucket=bucket, Key="short", RetentionLegalHoldId="audit-7")
    cos.put_object(Bucket=bucket, Key="short", Body=b"anew")
    assert code_of(lambda: cos.delete_object(Bucket=bucket, Key="short")) == "AccessDenied", "under retention anew"
    too_long = 31 * 86_400
    assert (
        code_of(lambda: cos.put_object(Bucket=bucket, Key="long", Body=b"x", RetentionPeriod=too_long))
        == "InvalidArgument"
    )
