"""Operations on a bucket's configuration: versioning, lifecycle, tags, protection and what SDKs ask beside them.

Documents are kept as they came once they are understood, and given back so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sealift.sandbox.store import xml
from sealift.sandbox.store.bucket_operations import xml_response
from sealift.sandbox.store.call import Call
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.http import Response
from sealift.sandbox.store.lifecycle import parse_rules
from sealift.sandbox.store.xml import Node

_MAX_TAGS = {"bucket": 50, "object": 10}


def read_tags(node: Node, *, of: str) -> dict[str, str]:
    """Read a Tagging document.

    :param of: ``bucket`` or ``object``: they may have different numbers of tags.
    :raises S3Error: InvalidTag, MalformedXML.
    """
    tag_set = node.first("TagSet")
    if tag_set is None:
        raise S3Error("MalformedXML")
    tags: dict[str, str] = {}
    for tag in tag_set.all("Tag"):
        key, value = tag.need("Key"), tag.need("Value")
        if key in tags:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
        tags[key] = value
    check_tags(tags, of=of)
    return tags


def check_tags(tags: Mapping[str, str], *, of: str) -> None:
    """Refuse tags that S3 refuses.

    :raises S3Error: InvalidTag.
    """
    if len(tags) > _MAX_TAGS[of]:
        raise S3Error("InvalidTag", f"A {of} cannot have more than {_MAX_TAGS[of]} tags")
    if any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in tags.items()):
        raise S3Error("InvalidTag", "The TagKey or the TagValue you have provided is too short or too long")


def unsupported(call: Call) -> Response:
    """Refuse what the sandbox does not do, instead of acting as if."""
    call.store.need_bucket(call.bucket)
    raise S3Error("NotImplemented")


def _get_versioning(call: Call) -> Response:
    bucket = call.store.need_bucket(call.bucket)
    call.allow("list")
    return xml_response("VersioningConfiguration", [("Status", bucket.versioning or None)])


def _put_versioning(call: Call) -> Response:
    call.store.need_bucket(call.bucket)
    call.allow("config")
    status = xml.parse(call.document(), "VersioningConfiguration").need("Status")
    if status not in ("Enabled", "Suspended"):
        raise S3Error("MalformedXML")
    call.store.set_versioning(call.bucket, status)
    return Response()


def _checked_lifecycle(data: bytes) -> None:
    parse_rules(data)


def _checked_tagging(data: bytes) -> None:
    read_tags(xml.parse(data, "Tagging"), of="bucket")


def _checked(*roots: str) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        xml.parse(data, *roots)

    return check


def _getter(kind: str, missing: str) -> Callable[[Call], Response]:
    def get(call: Call) -> Response:
        call.store.need_bucket(call.bucket)
        call.allow("list")
        document = call.store.document(call.bucket, kind)
        if document is None:
            raise S3Error(missing)
        return Response(body=document.encode(), headers={"Content-Type": "application/xml"})

    return get


def _putter(kind: str, check: Callable[[bytes], None]) -> Callable[[Call], Response]:
    def put(call: Call) -> Response:
        call.store.need_bucket(call.bucket)
        call.allow("config")
        data = call.document()
        check(data)
        call.store.set_document(call.bucket, kind, data.decode("utf-8"))
        return Response()

    return put


def _deleter(kind: str) -> Callable[[Call], Response]:
    def delete(call: Call) -> Response:
        call.store.need_bucket(call.bucket)
        call.allow("config")
        call.store.set_document(call.bucket, kind, None)
        return Response(status=204)

    return delete


def _missing(code: str) -> Callable[[Call], Response]:
    def get(call: Call) -> Response:
        call.store.need_bucket(call.bucket)
        call.allow("list")
        raise S3Error(code)

    return get


def get_acl(call: Call) -> Response:
    """GET ?acl of a bucket or object: everything belongs to the caller, as with COS's "private"."""
    call.store.need_bucket(call.bucket)
    call.allow("read" if call.key else "list")
    owner: list[xml.Element] = [("ID", call.principal.iam_id), ("DisplayName", call.principal.name)]
    body = xml.document(
        "AccessControlPolicy",
        [("Owner", owner), ("AccessControlList", [("Grant", [("Permission", "FULL_CONTROL")])])],
    )
    # The grantee's type is an attribute, which only this document has.
    grantee = (
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        f"<ID>{call.principal.iam_id}</ID></Grantee>"
    )
    return Response(body=body.replace(b"<Grant>", grantee.encode()), headers={"Content-Type": "application/xml"})


def put_acl(call: Call) -> Response:
    """PUT ?acl: only "private", which everything is."""
    call.store.need_bucket(call.bucket)
    call.allow("config")
    if call.headers.get("x-amz-acl", "private") != "private" or call.document().strip():
        raise S3Error("NotImplemented", "The sandbox knows no access control list but private: use IAM roles.")
    return Response()


GET: Mapping[str, Callable[[Call], Response]] = {
    "versioning": _get_versioning,
    "lifecycle": _getter("lifecycle", "NoSuchLifecycleConfiguration"),
    "tagging": _getter("tagging", "NoSuchTagSet"),
    "cors": _getter("cors", "NoSuchCORSConfiguration"),
    "publicAccessBlock": _getter("publicAccessBlock", "NoSuchPublicAccessBlockConfiguration"),
    "acl": get_acl,
    "website": _missing("NoSuchWebsiteConfiguration"),
    "replication": _missing("ReplicationConfigurationNotFoundError"),
    "object-lock": _getter("object-lock", "ObjectLockConfigurationNotFoundError"),
    "policy": unsupported,
    "accelerate": unsupported,
    "analytics": unsupported,
    "encryption": unsupported,
    "inventory": unsupported,
    "logging": unsupported,
    "metrics": unsupported,
    "notification": unsupported,
    "ownershipControls": unsupported,
    "requestPayment": unsupported,
}
PUT: Mapping[str, Callable[[Call], Response]] = {
    "versioning": _put_versioning,
    "lifecycle": _putter("lifecycle", _checked_lifecycle),
    "tagging": _putter("tagging", _checked_tagging),
    "cors": _putter("cors", _checked("CORSConfiguration")),
    "publicAccessBlock": _putter("publicAccessBlock", _checked("PublicAccessBlockConfiguration")),
    "acl": put_acl,
    **dict.fromkeys(
        [
            "website",
            "policy",
            "replication",
            "accelerate",
            "analytics",
            "encryption",
            "inventory",
            "logging",
            "metrics",
            "notification",
            "ownershipControls",
            "requestPayment",
        ],
        unsupported,
    ),
}
DELETE: Mapping[str, Callable[[Call], Response]] = {
    "lifecycle": _deleter("lifecycle"),
    "tagging": _deleter("tagging"),
    "cors": _deleter("cors"),
    "publicAccessBlock": _deleter("publicAccessBlock"),
    **dict.fromkeys(
        ["website", "policy", "replication", "analytics", "encryption", "inventory", "metrics", "ownershipControls"],
        unsupported,
    ),
}
