"""Operations on objects: get, head, put, copy, delete, tags."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from email.utils import format_datetime
from urllib.parse import parse_qsl, unquote

from sealift.sandbox.store import xml
from sealift.sandbox.store.blobs import BUFFER, Incoming
from sealift.sandbox.store.bucket_operations import xml_response
from sealift.sandbox.store.call import Call
from sealift.sandbox.store.checksums import HEADER, Digests, check_digests, wanted_algorithms
from sealift.sandbox.store.conditions import NotModified, Preconditions
from sealift.sandbox.store.configuration_operations import check_tags, read_tags
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.http import Response, open_file
from sealift.sandbox.store.locks import headers_of, lock_from_headers
from sealift.sandbox.store.models import Attributes, StoredObject
from sealift.sandbox.store.objects import check_key
from sealift.sandbox.store.xml import Element

_MAX_PUT = 5 * 2**30
_MAX_METADATA = 2048
_KEPT_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_buffers = threading.local()


def receive(call: Call, incoming: Incoming, *, also: frozenset[str] = frozenset()) -> tuple[Digests, dict[str, str]]:
    """Write the request's body into a file while its digests are computed.

    :param also: algorithms to compute beside MD5 and those that the request announces.
    :returns: the digests, and the checksums that the client sent.
    """
    if "content-length" not in call.headers and "transfer-encoding" not in call.headers:
        raise S3Error("MissingContentLength")
    length = body_length(call)
    if length is not None and length > _MAX_PUT:
        raise S3Error("EntityTooLarge")
    digests = Digests({"md5"} | wanted_algorithms(call.headers) | also)
    if not hasattr(_buffers, "view"):
        _buffers.view = memoryview(bytearray(BUFFER))
    view: memoryview = _buffers.view
    filled = 0
    while True:
        count = call.body.readinto(view[filled:])
        filled += count
        if filled == BUFFER or not count:
            digests.update(view[:filled])
            incoming.write(view[:filled])
            filled = 0
        if not count:
            return digests, check_digests(digests, call.claims())


def body_length(call: Call) -> int | None:
    """Read the length of the payload as far as the request says it."""
    text = call.headers.get("x-amz-decoded-content-length") or call.headers.get("content-length")
    return int(text) if text and text.isdecimal() else None


def attributes_from(call: Call, *, of: Mapping[str, str] | None = None) -> Attributes:
    """Read the attributes that a request gives an object.

    :raises S3Error: MetadataTooLarge, InvalidTag.
    """
    headers = call.headers if of is None else of
    metadata = {n.removeprefix("x-amz-meta-"): v for n, v in headers.items() if n.startswith("x-amz-meta-")}
    if sum(len(name) + len(value) for name, value in metadata.items()) > _MAX_METADATA:
        raise S3Error("MetadataTooLarge")
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    # aws-chunked names the transport of this request, not the object's encoding.
    codings = [c.strip() for c in kept.pop("content-encoding", "").split(",") if c.strip() not in ("", "aws-chunked")]
    if codings:
        kept["content-encoding"] = ",".join(codings)
    tags = dict(parse_qsl(headers.get("x-amz-tagging", ""), keep_blank_values=True))
    check_tags(tags, of="object")
    return Attributes(
        content_type=headers.get("content-type") or "application/octet-stream",
        metadata=metadata,
        headers=kept,
        tags=tags,
        lock=lock_from_headers(headers),
    )


def put(call: Call) -> Response:
    """PUT /bucket/key; with x-amz-copy-source a copy."""
    call.store.need_bucket(call.bucket)
    call.allow("write")
    check_key(call.key)
    preconditions = Preconditions.from_headers(call.headers)
    if preconditions.if_match or preconditions.if_none_match:
        # Refused here, before the body: a client that waits for 100 Continue sends nothing. The commit checks again.
        present = call.store.head(call.bucket, call.key)
        preconditions.check_write(present.etag if present else None)
    if "x-amz-copy-source" in call.headers:
        return _copy(call, preconditions)
    attributes = attributes_from(call)
    with call.store.incoming() as incoming:
        digests, sent = receive(call, incoming, also=frozenset({"crc64nvme"}))
        stored = call.store.commit(
            incoming,
            bucket=call.bucket,
            key=call.key,
            etag=digests.hex("md5"),
            attributes=replace(attributes, checksums=sent, crc64nvme=digests.base64("crc64nvme")),
            preconditions=preconditions,
        )
    return Response(headers={"ETag": f'"{stored.etag}"', **version_header(call, stored), **checksum_headers(stored)})


def version_header(call: Call, stored: StoredObject) -> dict[str, str]:
    """Name the version, where the bucket keeps versions."""
    bucket = call.store.bucket(call.bucket)
    return {"x-amz-version-id": stored.version_id} if bucket and bucket.versioning else {}


def checksum_headers(stored: StoredObject) -> dict[str, str]:
    """Give the checksums that are known of an object."""
    attributes = stored.attributes
    headers = {HEADER + name: value for name, value in attributes.checksums.items()}
    if attributes.crc64nvme and attributes.checksum_type == "FULL_OBJECT":
        headers[HEADER + "crc64nvme"] = attributes.crc64nvme
    return {**headers, HEADER + "type": attributes.checksum_type} if headers else {}


def find(call: Call) -> StoredObject:
    """Find the object or version that a request names.

    :raises S3Error: NoSuchKey, NoSuchVersion, MethodNotAllowed for a delete marker named by its version.
    """
    version_id = call.query.get("versionId")
    stored = call.store.head(call.bucket, call.key, version_id)
    if stored is None:
        if version_id is not None:
            raise S3Error("NoSuchVersion")
        marker = call.store.latest(call.bucket, call.key)
        headers = {"x-amz-delete-marker": "true", "x-amz-version-id": marker.version_id} if marker else {}
        raise S3Error("NoSuchKey", headers=headers)
    if stored.delete_marker:
        raise S3Error("MethodNotAllowed", headers={"x-amz-delete-marker": "true"})
    return stored


def get(call: Call) -> Response:
    """GET /bucket/key, whole, a range or a part."""
    return _read(call, with_body=True)


def head(call: Call) -> Response:
    """HEAD /bucket/key."""
    return _read(call, with_body=False)


def _read(call: Call, *, with_body: bool) -> Response:
    call.store.need_bucket(call.bucket)
    call.allow("read")
    for _ in range(8):
        stored = find(call)
        try:
            file = open_file(stored.file) if with_body else None
            break
        except FileNotFoundError:
            continue  # replaced between the look and the opening: look again
    else:
        raise S3Error("SlowDown", "The object is being replaced all the time.")
    try:
        response = _describe(call, stored)
    except (S3Error, NotModified):
        if file:
            file.close()
        raise
    response.file = file
    return response


def _describe(call: Call, stored: StoredObject) -> Response:
    Preconditions.from_headers(call.headers).check_read(stored)
    start, length, partial = _range(call, stored)
    headers = {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": format_datetime(stored.last_modified, usegmt=True),
        "Content-Type": stored.content_type,
        **{name.title(): value for name, value in stored.attributes.headers.items()},
        **{f"x-amz-meta-{name}": value for name, value in stored.metadata.items()},
        **version_header(call, stored),
        **headers_of(stored.attributes.lock),
    }
    if stored.attributes.tags:
        headers["x-amz-tagging-count"] = str(len(stored.attributes.tags))
    if "partNumber" in call.query and stored.part_sizes:
        headers["x-amz-mp-parts-count"] = str(len(stored.part_sizes))
    if call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and not partial:
        crc = call.store.crc64nvme(stored)
        stored = replace(stored, attributes=replace(stored.attributes, crc64nvme=crc))
        headers |= checksum_headers(stored)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{stored.size}"
    for name, value in call.query.items():
        if name.startswith("response-") and name.removeprefix("response-") in (*_KEPT_HEADERS, "content-type"):
            headers[name.removeprefix("response-").title()] = value
    return Response(status=206 if partial else 200, headers=headers, offset=start, length=length)


def _range(call: Call, stored: StoredObject) -> tuple[int, int, bool]:
    """Find which bytes are asked for.

    :returns: start, length, and whether the answer is a partial one.
    :raises S3Error: InvalidRange, InvalidArgument.
    """
    if part := call.query.get("partNumber"):
        sizes = stored.part_sizes or (stored.size,)
        if not part.isdecimal() or not 1 <= int(part) <= 10_000:
            raise S3Error("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
        if int(part) > len(sizes):
            raise S3Error("InvalidRange", "The requested partnumber is not satisfiable")
        return sum(sizes[: int(part) - 1]), sizes[int(part) - 1], bool(stored.size)
    return parse_range(call.headers.get("range", ""), stored.size)


def parse_range(header: str, size: int) -> tuple[int, int, bool]:
    """Read a Range header; what cannot be read, and several ranges at once, count as none (RFC 9110 §14.2).

    :returns: start, length, and whether it is a range at all.
    :raises S3Error: InvalidRange where no byte of it exists.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if not match or match.groups() == ("", ""):
        return 0, size, False
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < start:
            return 0, size, False
    else:
        start, stop = max(0, size - int(last)), size
    if start >= size or stop <= start:
        raise S3Error("InvalidRange", headers={"Content-Range": f"bytes */{size}"})
    return start, stop - start, True


def copy_source(call: Call) -> StoredObject:
    """Find the source of a copy, readable by the caller and as its conditions want it.

    :raises S3Error: InvalidArgument, NoSuchBucket, NoSuchKey, AccessDenied, PreconditionFailed.
    """
    path, _, query = call.headers["x-amz-copy-source"].partition("?")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    version_id = dict(parse_qsl(query)).get("versionId")
    if not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    call.store.need_bucket(bucket)
    call.allow("read", bucket)
    stored = call.store.head(bucket, key, version_id)
    if stored is None or stored.delete_marker:
        raise S3Error("NoSuchKey" if version_id is None else "NoSuchVersion")
    try:
        Preconditions.from_headers(call.headers, "x-amz-copy-source-").check_read(stored)
    except NotModified as unchanged:  # for a copy, HTTP's 304 is a failed precondition
        raise S3Error("PreconditionFailed") from unchanged
    return stored


def _copy(call: Call, preconditions: Preconditions) -> Response:
    source = copy_source(call)
    if source.size > _MAX_PUT:
        raise S3Error("EntityTooLarge")
    new_metadata = call.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    new_tags = call.headers.get("x-amz-tagging-directive", "COPY").upper() == "REPLACE"
    if not new_metadata and not new_tags and (source.bucket, source.key) == (call.bucket, call.key) and source.latest:
        raise S3Error("InvalidRequest", "This copy request is illegal because it changes nothing of the object itself.")
    given = attributes_from(call)
    kept = source.attributes
    attributes = Attributes(
        content_type=given.content_type if new_metadata else kept.content_type,
        metadata=given.metadata if new_metadata else kept.metadata,
        headers=given.headers if new_metadata else kept.headers,
        tags=given.tags if new_tags else kept.tags,
        checksums=kept.checksums if kept.checksum_type == "FULL_OBJECT" else {},
        lock=given.lock,
        crc64nvme=kept.crc64nvme,
    )
    with call.store.incoming() as incoming:
        incoming.append_file(source.file, source.size)
        # The copy is one piece, whatever the source was made of: its ETag is the plain MD5.
        etag = source.etag if not source.part_sizes else call.store.md5_of(incoming.path)
        stored = call.store.commit(
            incoming, bucket=call.bucket, key=call.key, etag=etag, attributes=attributes, preconditions=preconditions
        )
    headers = version_header(call, stored)
    if call.store.need_bucket(source.bucket).versioning:
        headers["x-amz-copy-source-version-id"] = source.version_id
    return xml_response(
        "CopyObjectResult", [("ETag", f'"{stored.etag}"'), ("LastModified", stored.last_modified)], **headers
    )


def delete(call: Call) -> Response:
    """DELETE /bucket/key."""
    call.store.need_bucket(call.bucket)
    call.allow("delete")
    if call.headers.get("if-match"):
        present = call.store.head(call.bucket, call.key)
        Preconditions.from_headers(call.headers).check_write(present.etag if present else None)
    version_id, marker = call.store.delete(call.bucket, call.key, call.query.get("versionId"), by="client")
    headers = {}
    if version_id is not None:
        headers["x-amz-version-id"] = version_id
    if marker:
        headers["x-amz-delete-marker"] = "true"
    return Response(status=204, headers=headers)


def delete_many(call: Call) -> Response:
    """POST /bucket?delete: up to 1,000 keys; each has its own outcome."""
    call.store.need_bucket(call.bucket)
    call.allow("delete")
    node = xml.parse(call.document(), "Delete")
    wanted, quiet = node.all("Object"), node.value("Quiet") == "true"
    if not 1 <= len(wanted) <= 1000:
        raise S3Error("MalformedXML")
    outcomes: list[Element] = []
    for one in wanted:
        key, version_id = one.need("Key"), one.value("VersionId")
        try:
            check_key(key)
            done, marker = call.store.delete(call.bucket, key, version_id, by="client")
        except S3Error as error:
            outcomes.append(("Error", [("Key", key), ("Code", error.code), ("Message", error.message)]))
            continue
        if not quiet:
            outcomes.append(
                (
                    "Deleted",
                    [
                        ("Key", key),
                        ("VersionId", version_id),
                        ("DeleteMarker", True if marker else None),
                        ("DeleteMarkerVersionId", done if marker else None),
                    ],
                )
            )
    return xml_response("DeleteResult", outcomes)


def get_tags(call: Call) -> Response:
    """GET /bucket/key?tagging."""
    call.store.need_bucket(call.bucket)
    call.allow("read")
    stored = find(call)
    tags: list[Element] = [("Tag", [("Key", key), ("Value", value)]) for key, value in stored.attributes.tags.items()]
    return xml_response("Tagging", [("TagSet", tags)], **version_header(call, stored))


def put_tags(call: Call) -> Response:
    """PUT /bucket/key?tagging."""
    call.store.need_bucket(call.bucket)
    call.allow("write")
    stored = find(call)
    call.store.set_tags(stored, read_tags(xml.parse(call.document(), "Tagging"), of="object"))
    return Response(headers=version_header(call, stored))


def delete_tags(call: Call) -> Response:
    """DELETE /bucket/key?tagging."""
    call.store.need_bucket(call.bucket)
    call.allow("write")
    stored = find(call)
    call.store.set_tags(stored, {})
    return Response(status=204, headers=version_header(call, stored))
