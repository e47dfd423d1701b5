"""Operations on buckets: list, create, delete, look, and the listings inside."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import quote

from sealift.sandbox.store import listing, xml
from sealift.sandbox.store.call import Call
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.http import Response
from sealift.sandbox.store.models import Bucket, StoredObject
from sealift.sandbox.store.xml import Element

_MAX_KEYS = 1000


def xml_response(root: str, children: list[Element] | str, **headers: str) -> Response:
    """Answer with a document in S3's namespace."""
    return Response(body=xml.document(root, children), headers={"Content-Type": "application/xml", **headers})


def number(call: Call, name: str, default: int, *, highest: int) -> int:
    """Read a number of the query; more than the highest counts as the highest.

    :raises S3Error: InvalidArgument.
    """
    text = call.query.get(name) or str(default)
    if not text.isdecimal():
        raise S3Error("InvalidArgument", f"Provided {name} not an integer or within integer range")
    return min(int(text), highest)


class Encoder:
    """Writes keys as ``encoding-type`` asks.

    :raises S3Error: InvalidArgument for an encoding that S3 does not know.
    """

    def __init__(self, call: Call) -> None:
        self.kind = call.query.get("encoding-type")
        if self.kind not in (None, "", "url"):
            raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")

    def __call__(self, text: str) -> str:
        return quote(text, safe="/-_.~*") if self.kind else text

    def optional(self, text: str) -> str | None:
        """Write a text that is left out when empty."""
        return self(text) if text else None


def _same_instance(bucket: Bucket, wanted: str) -> bool:
    return _instance_id(bucket.service_instance) == _instance_id(wanted)


def _instance_id(text: str) -> str:
    """Take the id out of a CRN (``crn:v1:…:<id>::``): COS takes either form."""
    pieces = text.split(":")
    return pieces[7] if pieces[0] == "crn" and len(pieces) > 7 else text


def _instance(call: Call) -> str:
    """Find the service instance that a request is for: named by header, or bound to the HMAC credentials.

    IBM docs, cloud-object-storage, "Common headers": the header is required to create or list buckets; HMAC
    credentials imply it.
    """
    named = call.headers.get("ibm-service-instance-id", "")
    if not named and call.principal.by_token:
        raise S3Error("InvalidRequest", "Missing required header for this request: ibm-service-instance-id")
    return named or call.principal.service_instance


def _visible(call: Call) -> list[Bucket]:
    call.allow("list", "*")
    instance = _instance(call)
    return [bucket for bucket in call.store.buckets() if not instance or _same_instance(bucket, instance)]


def _owner(call: Call) -> list[Element]:
    return [("ID", call.principal.iam_id), ("DisplayName", call.principal.name)]


def list_buckets(call: Call) -> Response:
    """GET /."""
    found: list[Element] = [
        ("Bucket", [("Name", bucket.name), ("CreationDate", bucket.created)]) for bucket in _visible(call)
    ]
    return xml_response("ListAllMyBucketsResult", [("Owner", _owner(call)), ("Buckets", found)])


def list_buckets_extended(call: Call) -> Response:
    """GET /?extended: COS adds each bucket's location constraint, with paging by marker."""
    limit, marker = number(call, "max-keys", _MAX_KEYS, highest=_MAX_KEYS), call.query.get("marker", "")
    prefix = call.query.get("prefix", "")
    found = [bucket for bucket in _visible(call) if bucket.name > marker and bucket.name.startswith(prefix)]
    page, more = found[:limit], len(found) > limit
    children: list[Element] = [
        ("Owner", _owner(call)),
        ("IsTruncated", more),
        ("MaxKeys", limit),
        ("Prefix", prefix),
        ("Marker", marker),
        ("NextMarker", page[-1].name if more and page else None),
        (
            "Buckets",
            [
                (
                    "Bucket",
                    [
                        ("Name", bucket.name),
                        ("CreationDate", bucket.created),
                        ("LocationConstraint", bucket.location_constraint),
                    ],
                )
                for bucket in page
            ],
        ),
    ]
    return xml_response("ListAllMyBucketsResult", children)


def create(call: Call) -> Response:
    """PUT /bucket, with or without a CreateBucketConfiguration."""
    call.allow("create_bucket")
    instance = _instance(call)
    data = call.document()
    constraint = "us-south-standard"
    if data.strip():
        constraint = xml.parse(data, "CreateBucketConfiguration").value("LocationConstraint") or constraint
    call.store.create_bucket(call.bucket, location_constraint=constraint, service_instance=instance)
    if call.headers.get("x-amz-bucket-object-lock-enabled", "").lower() == "true":
        call.store.set_versioning(call.bucket, "Enabled")
        enabled = xml.document("ObjectLockConfiguration", [("ObjectLockEnabled", "Enabled")])
        call.store.set_document(call.bucket, "object-lock", enabled.decode())
    return Response(headers={"Location": f"/{call.bucket}"})


def delete(call: Call) -> Response:
    """DELETE /bucket."""
    call.store.need_bucket(call.bucket)
    call.allow("create_bucket")
    call.store.delete_bucket(call.bucket)
    return Response(status=204)


def head(call: Call) -> Response:
    """HEAD /bucket."""
    call.store.need_bucket(call.bucket)
    call.allow("list")
    return Response()


def location(call: Call) -> Response:
    """GET /bucket?location: COS answers with the provisioning code."""
    bucket = call.store.need_bucket(call.bucket)
    call.allow("list")
    return xml_response("LocationConstraint", bucket.location_constraint)


def fasp_connection_info(call: Call) -> Response:
    """GET /bucket?faspConnectionInfo: the shape is the SDK's (GetBucketAspera), every value and refusal is invented."""
    call.store.need_bucket(call.bucket)
    call.allow("list")
    if call.ats is None:
        key, secret, endpoint = f"sandbox-ats-{call.bucket}", "sandbox-ats-secret", "https://ats.sandbox.invalid:443"
    elif not call.ats.offered:
        raise S3Error("MethodNotAllowed", "Aspera is not offered in this location.")
    elif call.ats.store_refuses_immutable and call.store.document(call.bucket, "protection"):
        raise S3Error("InvalidRequest", "Aspera is not offered for a bucket with a retention policy.")
    else:
        (key, secret), endpoint = call.ats.access_key(call.bucket), call.ats.url
    return xml_response(
        "FASPConnectionInfo", [("AccessKey", [("Id", key), ("Secret", secret)]), ("ATSEndpoint", endpoint)]
    )


def _contents(encode: Encoder, stored: StoredObject, owner: list[Element] | None) -> Element:
    return (
        "Contents",
        [
            ("Key", encode(stored.key)),
            ("LastModified", stored.last_modified),
            ("ETag", f'"{stored.etag}"'),
            ("Size", stored.size),
            ("StorageClass", "STANDARD"),
            ("Owner", owner),
        ],
    )


def _common_prefixes(encode: Encoder, prefixes: list[str]) -> list[Element]:
    return [("CommonPrefixes", [("Prefix", encode(prefix))]) for prefix in prefixes]


def list_objects(call: Call) -> Response:
    """GET /bucket, version 1 and 2 of the listing."""
    call.store.need_bucket(call.bucket)
    call.allow("list")
    second = call.query.get("list-type") == "2"
    encode, limit = Encoder(call), number(call, "max-keys", _MAX_KEYS, highest=_MAX_KEYS)
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    token = call.query.get("continuation-token")
    if second:
        after = _from_token(token) if token is not None else call.query.get("start-after", "")
    else:
        after = call.query.get("marker", "")
    page = listing.list_objects(call.store, call.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
    with_owner = not second or call.query.get("fetch-owner") == "true"
    children: list[Element] = [
        ("Name", call.bucket),
        ("Prefix", encode(prefix)),
        ("Delimiter", encode.optional(delimiter)),
        ("MaxKeys", limit),
        ("EncodingType", encode.kind or None),
        ("IsTruncated", page.truncated),
    ]
    if second:
        children += [
            ("KeyCount", len(page.entries) + len(page.prefixes)),
            ("ContinuationToken", token),
            ("NextContinuationToken", _to_token(page.next_after) if page.truncated else None),
            ("StartAfter", encode.optional(call.query.get("start-after", ""))),
        ]
    else:
        # S3 gives NextMarker only with a delimiter: without, the last key is the marker.
        following = encode(page.next_after) if page.truncated and delimiter else None
        children += [("Marker", encode(after)), ("NextMarker", following)]
    owner = _owner(call) if with_owner else None
    children += [_contents(encode, stored, owner) for stored in page.entries]
    children += _common_prefixes(encode, list(page.prefixes))
    return xml_response("ListBucketResult", children)


def _to_token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode("ascii")


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect") from error


def list_versions(call: Call) -> Response:
    """GET /bucket?versions."""
    call.store.need_bucket(call.bucket)
    call.allow("list")
    encode, limit = Encoder(call), number(call, "max-keys", _MAX_KEYS, highest=_MAX_KEYS)
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    key, version_id = call.query.get("key-marker", ""), call.query.get("version-id-marker", "")
    if version_id and not key:
        raise S3Error("InvalidArgument", "A version-id marker cannot be specified without a key marker.")
    page = listing.list_versions(
        call.store,
        call.bucket,
        prefix=prefix,
        delimiter=delimiter,
        after_key=key,
        after_version_id=version_id,
        limit=limit,
    )
    children: list[Element] = [
        ("Name", call.bucket),
        ("Prefix", encode(prefix)),
        ("Delimiter", encode.optional(delimiter)),
        ("KeyMarker", encode(key)),
        ("VersionIdMarker", version_id),
        ("MaxKeys", limit),
        ("EncodingType", encode.kind or None),
        ("IsTruncated", page.truncated),
        ("NextKeyMarker", encode(page.next_after) if page.truncated else None),
        ("NextVersionIdMarker", page.last.version_id if page.truncated and page.last else None),
    ]
    children += [_version(encode, version, _owner(call)) for version in page.entries]
    children += _common_prefixes(encode, list(page.prefixes))
    return xml_response("ListVersionsResult", children)


def _version(encode: Encoder, version: StoredObject, owner: list[Element]) -> Element:
    common: list[Element] = [
        ("Key", encode(version.key)),
        ("VersionId", version.version_id),
        ("IsLatest", version.latest),
        ("LastModified", version.last_modified),
        ("Owner", owner),
    ]
    if version.delete_marker:
        return ("DeleteMarker", common)
    return (
        "Version",
        [*common, ("ETag", f'"{version.etag}"'), ("Size", version.size), ("StorageClass", "STANDARD")],
    )
