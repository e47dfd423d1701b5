"""Operations of multipart uploads."""

from __future__ import annotations

import re

from sealift.sandbox.store import listing, multipart, xml
from sealift.sandbox.store.bucket_operations import Encoder, number, xml_response
from sealift.sandbox.store.call import Call
from sealift.sandbox.store.checksums import ALGORITHMS, HEADER
from sealift.sandbox.store.conditions import Preconditions
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.http import Response
from sealift.sandbox.store.models import Upload
from sealift.sandbox.store.multipart import MAX_PARTS, NamedPart
from sealift.sandbox.store.object_operations import (
    attributes_from,
    checksum_headers,
    copy_source,
    receive,
    version_header,
)
from sealift.sandbox.store.objects import check_key
from sealift.sandbox.store.xml import Element

_COPY_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
# The names of the algorithms in documents, such as ChecksumCRC32.
_ELEMENTS = {f"Checksum{name.upper()}": name for name in ALGORITHMS}


def create(call: Call) -> Response:
    """POST /bucket/key?uploads."""
    call.store.need_bucket(call.bucket)
    call.allow("write")
    check_key(call.key)
    algorithm = call.headers.get("x-amz-checksum-algorithm", "").lower()
    if algorithm and algorithm not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    attributes = attributes_from(call)
    upload = call.store.uploads.create(
        bucket=call.bucket, key=call.key, attributes=attributes, checksum_algorithm=algorithm
    )
    headers = {HEADER + "algorithm": algorithm.upper()} if algorithm else {}
    return xml_response(
        "InitiateMultipartUploadResult",
        [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload.upload_id)],
        **headers,
    )


def _upload(call: Call) -> Upload:
    call.store.need_bucket(call.bucket)
    call.allow("write")
    upload_id = call.query.get("uploadId")
    if upload_id is None:
        raise S3Error("InvalidArgument", "This operation needs an uploadId.")
    return call.store.uploads.get(call.bucket, call.key, upload_id)


def put_part(call: Call) -> Response:
    """PUT /bucket/key?partNumber&uploadId; with x-amz-copy-source the part is a range of an object."""
    upload = _upload(call)
    text = call.query["partNumber"]
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PARTS:
        raise S3Error("InvalidArgument", f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive")
    if "x-amz-copy-source" in call.headers:
        return _copy_part(call, upload, int(text))
    also = frozenset({upload.checksum_algorithm}) if upload.checksum_algorithm else frozenset[str]()
    with call.store.incoming() as incoming:
        digests, sent = receive(call, incoming, also=also)
        known = {**sent, **{name: digests.base64(name) for name in also}}
        part = call.store.uploads.put_part(upload, incoming, number=int(text), etag=digests.hex("md5"), checksums=known)
    return Response(headers={"ETag": f'"{part.etag}"', **{HEADER + name: value for name, value in known.items()}})


def _copy_part(call: Call, upload: Upload, part_number: int) -> Response:
    source = copy_source(call)
    start, length = 0, source.size
    if text := call.headers.get("x-amz-copy-source-range"):
        match = _COPY_RANGE.fullmatch(text)
        if not match or int(match.group(2)) < int(match.group(1)):
            raise S3Error("InvalidArgument", "The x-amz-copy-source-range value must be of the form bytes=first-last")
        start, length = int(match.group(1)), int(match.group(2)) + 1 - int(match.group(1))
        if start + length > source.size:
            raise S3Error("InvalidRange", "Range specified is not valid for the source object's size.")
    if length > multipart.MAX_COPY:
        raise S3Error(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy source: "
            f"{multipart.MAX_COPY}",
        )
    with call.store.incoming() as incoming:
        incoming.append_file(source.file, length, offset=start)
        etag = call.store.md5_of(incoming.path)
        algorithm = upload.checksum_algorithm
        known = {algorithm: call.store.digest_of(incoming.path, algorithm)} if algorithm else {}
        part = call.store.uploads.put_part(upload, incoming, number=part_number, etag=etag, checksums=known)
    children: list[Element] = [("ETag", f'"{part.etag}"'), ("LastModified", part.last_modified)]
    children += [(name, known.get(algorithm)) for name, algorithm in _ELEMENTS.items()]
    return xml_response("CopyPartResult", children)


def complete(call: Call) -> Response:
    """POST /bucket/key?uploadId."""
    preconditions = Preconditions.from_headers(call.headers)
    upload = _upload(call)
    node = xml.parse(call.document(), "CompleteMultipartUpload", "CompleteMultipartUploadRequest")
    named = []
    for one in node.all("Part"):
        text = one.need("PartNumber").strip()
        if not text.isdecimal():
            raise S3Error("MalformedXML")
        checksums = {algorithm: one.value(name) or "" for name, algorithm in _ELEMENTS.items() if one.first(name)}
        named.append(NamedPart(number=int(text), etag=one.need("ETag").strip().strip('"'), checksums=checksums))
    expected = {n: call.headers[HEADER + n] for n in ALGORITHMS if HEADER + n in call.headers}
    stored = call.store.uploads.complete(
        upload,
        named,
        preconditions=preconditions,
        checksum_type=call.headers.get(HEADER + "type", "").upper(),
        expected=expected,
    )
    known = checksum_headers(stored)
    children: list[Element] = [
        ("Location", f"http://{call.headers.get('host', '')}/{call.bucket}/{call.key}"),
        ("Bucket", call.bucket),
        ("Key", call.key),
        ("ETag", f'"{stored.etag}"'),
        *((name, known.get(HEADER + algorithm)) for name, algorithm in _ELEMENTS.items()),
        ("ChecksumType", known.get(HEADER + "type")),
    ]
    return xml_response("CompleteMultipartUploadResult", children, **version_header(call, stored))


def abort(call: Call) -> Response:
    """DELETE /bucket/key?uploadId."""
    call.store.uploads.abort(_upload(call))
    return Response(status=204)


def list_parts(call: Call) -> Response:
    """GET /bucket/key?uploadId."""
    upload = _upload(call)
    encode, limit = Encoder(call), number(call, "max-parts", 1000, highest=1000)
    after = number(call, "part-number-marker", 0, highest=MAX_PARTS)
    found = call.store.uploads.parts(upload, after=after, limit=limit + 1)
    page, more = found[:limit], len(found) > limit
    owner: list[Element] = [("ID", call.principal.iam_id), ("DisplayName", call.principal.name)]
    children: list[Element] = [
        ("Bucket", call.bucket),
        ("Key", encode(call.key)),
        ("UploadId", upload.upload_id),
        ("EncodingType", encode.kind or None),
        ("Initiator", owner),
        ("Owner", owner),
        ("StorageClass", "STANDARD"),
        ("PartNumberMarker", after),
        ("NextPartNumberMarker", page[-1].number if page else None),
        ("MaxParts", limit),
        ("IsTruncated", more),
        ("ChecksumAlgorithm", upload.checksum_algorithm.upper() or None),
    ]
    for part in page:
        elements: list[Element] = [
            ("PartNumber", part.number),
            ("LastModified", part.last_modified),
            ("ETag", f'"{part.etag}"'),
            ("Size", part.size),
            *((name, part.checksums.get(algorithm)) for name, algorithm in _ELEMENTS.items()),
        ]
        children.append(("Part", elements))
    return xml_response("ListPartsResult", children)


def list_uploads(call: Call) -> Response:
    """GET /bucket?uploads."""
    call.store.need_bucket(call.bucket)
    call.allow("list")
    encode, limit = Encoder(call), number(call, "max-uploads", 1000, highest=1000)
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    key, upload_id = call.query.get("key-marker", ""), call.query.get("upload-id-marker", "")
    page = listing.list_uploads(
        call.store,
        call.bucket,
        prefix=prefix,
        delimiter=delimiter,
        after_key=key,
        after_upload_id=upload_id if key else "",
        limit=limit,
    )
    owner: list[Element] = [("ID", call.principal.iam_id), ("DisplayName", call.principal.name)]
    children: list[Element] = [
        ("Bucket", call.bucket),
        ("KeyMarker", encode(key)),
        ("UploadIdMarker", upload_id),
        ("NextKeyMarker", encode(page.next_after) if page.truncated else None),
        ("NextUploadIdMarker", page.last.upload_id if page.truncated and page.last else None),
        ("Prefix", encode(prefix)),
        ("Delimiter", encode.optional(delimiter)),
        ("EncodingType", encode.kind or None),
        ("MaxUploads", limit),
        ("IsTruncated", page.truncated),
    ]
    for upload in page.entries:
        elements: list[Element] = [
            ("Key", encode(upload.key)),
            ("UploadId", upload.upload_id),
            ("Initiator", owner),
            ("Owner", owner),
            ("StorageClass", "STANDARD"),
            ("Initiated", upload.initiated),
            ("ChecksumAlgorithm", upload.checksum_algorithm.upper() or None),
        ]
        children.append(("Upload", elements))
    children += [("CommonPrefixes", [("Prefix", encode(group))]) for group in page.prefixes]
    return xml_response("ListMultipartUploadsResult", children)
