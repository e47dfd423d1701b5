"""Which operation a request asks for: by method, by whether it names a bucket or an object, and by the query."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from sealift.sandbox.store import (
    bucket_operations,
    configuration_operations,
    lock_operations,
    object_operations,
    upload_operations,
)
from sealift.sandbox.store.call import Call
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.http import Response

Operation = Callable[[Call], Response]

# By method: the query argument that names a subresource → the operation. "" stands for none of them.
_SERVICE: Mapping[str, Mapping[str, Operation]] = {
    "GET": {"extended": bucket_operations.list_buckets_extended, "": bucket_operations.list_buckets},
}
_BUCKET: Mapping[str, Mapping[str, Operation]] = {
    "GET": {
        "location": bucket_operations.location,
        "versions": bucket_operations.list_versions,
        "uploads": upload_operations.list_uploads,
        "faspConnectionInfo": bucket_operations.fasp_connection_info,
        "protection": lock_operations.get_policy,
        **configuration_operations.GET,
        "": bucket_operations.list_objects,
    },
    "HEAD": {"": bucket_operations.head},
    "PUT": {
        "object-lock": lock_operations.put_lock,
        "protection": lock_operations.put_policy,
        **configuration_operations.PUT,
        "": bucket_operations.create,
    },
    "DELETE": {**configuration_operations.DELETE, "": bucket_operations.delete},
    "POST": {"delete": object_operations.delete_many},
}
_OBJECT: Mapping[str, Mapping[str, Operation]] = {
    "GET": {
        "uploadId": upload_operations.list_parts,
        "tagging": object_operations.get_tags,
        "acl": configuration_operations.get_acl,
        "retention": lock_operations.get_retention,
        "legal-hold": lock_operations.get_legal_hold,
        "legalHold": configuration_operations.unsupported,
        "torrent": configuration_operations.unsupported,
        "": object_operations.get,
    },
    "HEAD": {"": object_operations.head},
    "PUT": {
        "partNumber": upload_operations.put_part,
        "tagging": object_operations.put_tags,
        "acl": configuration_operations.put_acl,
        "retention": lock_operations.put_retention,
        "legal-hold": lock_operations.put_legal_hold,
        "": object_operations.put,
    },
    "DELETE": {
        "uploadId": upload_operations.abort,
        "tagging": object_operations.delete_tags,
        "": object_operations.delete,
    },
    "POST": {
        "uploads": upload_operations.create,
        "uploadId": upload_operations.complete,
        "legalHold": lock_operations.change_legal_holds,
        "extendRetention": configuration_operations.unsupported,
    },
}


# S3's names of the operations, where they do not follow from verb, level and subresource as GetObjectTagging does.
_NAMES: Mapping[tuple[str, str, str], str] = {
    ("service", "GET", ""): "ListBuckets",
    ("service", "GET", "extended"): "ListBucketsExtended",
    ("bucket", "GET", ""): "ListObjects",
    ("bucket", "GET", "versions"): "ListObjectVersions",
    ("bucket", "GET", "uploads"): "ListMultipartUploads",
    ("bucket", "PUT", ""): "CreateBucket",
    ("bucket", "POST", "delete"): "DeleteObjects",
    ("object", "GET", "uploadId"): "ListParts",
    ("object", "PUT", "partNumber"): "UploadPart",
    ("object", "DELETE", "uploadId"): "AbortMultipartUpload",
    ("object", "POST", "uploads"): "CreateMultipartUpload",
    ("object", "POST", "uploadId"): "CompleteMultipartUpload",
}


def operation_name(method: str, *, bucket: str, key: str, query: Collection[str], headers: Collection[str]) -> str:
    """Say by S3's name what a request asks for, for the history.

    :param query: the query's names.
    :param headers: the headers' names, in lower case.
    :returns: as ``PutObject``; the method alone where there is no such operation.
    """
    level, table = ("object", _OBJECT) if key else ("bucket", _BUCKET) if bucket else ("service", _SERVICE)
    operations = table.get(method, {})
    sub = next((name for name in operations if name and name in query), "")
    if sub not in operations:
        return method
    if (level, method) == ("object", "PUT") and "x-amz-copy-source" in headers and sub in {"", "partNumber"}:
        return "UploadPartCopy" if sub else "CopyObject"
    name = _NAMES.get((level, method, sub))
    if name == "ListObjects" and "list-type" in query:
        return "ListObjectsV2"
    return name or f"{method.title()}{level.title()}{sub[:1].upper()}{sub[1:]}"


def find_operation(call: Call) -> Operation:
    """Find the operation for a request.

    :raises S3Error: MethodNotAllowed.
    """
    level = _OBJECT if call.key else _BUCKET if call.bucket else _SERVICE
    operations = level.get(call.request.method, {})
    for name, operation in operations.items():
        if name and name in call.query:
            return operation
    plain = operations.get("")
    if plain is None:
        raise S3Error("MethodNotAllowed")
    return plain
