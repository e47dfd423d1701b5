"""Which operation a request asks for: by method, by whether it names a bucket or an object, and by the query."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sealift.sandbox.store import (
    bucket_operations,
    configuration_operations,
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
        **configuration_operations.GET,
        "": bucket_operations.list_objects,
    },
    "HEAD": {"": bucket_operations.head},
    "PUT": {**configuration_operations.PUT, "": bucket_operations.create},
    "DELETE": {**configuration_operations.DELETE, "": bucket_operations.delete},
    "POST": {"delete": object_operations.delete_many},
}
_OBJECT: Mapping[str, Mapping[str, Operation]] = {
    "GET": {
        "uploadId": upload_operations.list_parts,
        "tagging": object_operations.get_tags,
        "acl": configuration_operations.get_acl,
        "retention": configuration_operations.unsupported,
        "legal-hold": configuration_operations.unsupported,
        "legalHold": configuration_operations.unsupported,
        "torrent": configuration_operations.unsupported,
        "": object_operations.get,
    },
    "HEAD": {"": object_operations.head},
    "PUT": {
        "partNumber": upload_operations.put_part,
        "tagging": object_operations.put_tags,
        "acl": configuration_operations.put_acl,
        "retention": configuration_operations.unsupported,
        "legal-hold": configuration_operations.unsupported,
        "": object_operations.put,
    },
    "DELETE": {
        "uploadId": upload_operations.abort,
        "tagging": object_operations.delete_tags,
        "": object_operations.delete,
    },
    "POST": {"uploads": upload_operations.create, "uploadId": upload_operations.complete},
}


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
