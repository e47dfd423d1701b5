"""Uploads of one object in parts: begun, sent part by part in any order, completed or aborted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sealift.cos.errors import CosError, CosNotFoundError
from sealift.cos.models import MultipartUpload, ObjectInfo, UploadedPart


class Calls(Protocol):
    """Makes a call that may be repeated; see :class:`sealift.cos.client.CosClient`."""

    def __call__(
        self, operation: str, *, what: str, bucket: str | None = None, key: str | None = None, **params: Any
    ) -> dict[str, Any]: ...


class Multipart:
    """The client's calls for uploads in parts. May be used by many threads.

    :param call: makes a call that may be repeated.
    :param head: says what the store tells of an object, or None where there is none.
    """

    def __init__(self, *, call: Calls, head: Callable[[str, str], ObjectInfo | None]) -> None:
        self._call = call
        self._head = head

    def begin(
        self,
        bucket: str,
        key: str,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> MultipartUpload:
        """Begin an upload. An object of this key that is there stays until the upload is completed.

        Where a reply is lost, an upload that nobody knows of may be left; a list of the key's uploads shows it.

        :param bucket: the bucket.
        :param key: the object.
        :param content_type: the object's media type.
        :param metadata: kept with the object.
        :returns: the upload.
        :raises CosNotFoundError: where there is no such bucket.
        :raises CosPermissionError: where the key may not write.
        """
        reply = self._call(
            "create_multipart_upload",
            what=f"begin an upload of object {key} in bucket {bucket}",
            bucket=bucket,
            key=key,
            ChecksumAlgorithm="SHA256",
            ContentType=content_type,
            Metadata=dict(metadata or {}),
        )
        return MultipartUpload(key=key, upload_id=str(reply["UploadId"]))

    def send(
        self,
        bucket: str,
        upload: MultipartUpload,
        number: int,
        body: bytes | bytearray,
        *,
        digest: Mapping[str, str],
    ) -> UploadedPart:
        """Send a part; one of the same number that was sent before is replaced.

        :param bucket: the bucket.
        :param upload: the upload.
        :param number: of the part, 1 to 10,000.
        :param body: its bytes: 5 MiB or more, but for the last part.
        :param digest: in base64, by which the store checks the bytes, under the SDK's name: ``ContentMD5``, or
            ``ChecksumSHA256``, which a store that does not know it passes over; then it does not give it back.
        :returns: what the store says of the part.
        :raises CosNotFoundError: where the upload was completed or aborted.
        :raises CosError: where the store has received other bytes.
        """
        reply = self._call(
            "upload_part",
            what=f"send part {number} of object {upload.key} to bucket {bucket}",
            bucket=bucket,
            key=upload.key,
            UploadId=upload.upload_id,
            PartNumber=number,
            Body=body,
            **digest,
        )
        return UploadedPart(
            number=number,
            size=len(body),
            etag=str(reply["ETag"]).removeprefix("W/").strip('"'),
            sha256=reply.get("ChecksumSHA256"),
        )

    def copy(
        self,
        bucket: str,
        upload: MultipartUpload,
        number: int,
        *,
        source: str,
        size: int,
        etag: str,
        start: int | None = None,
    ) -> UploadedPart:
        """Make an object of the same bucket, or a range of it, a part; no byte leaves the store.

        IBM lists the operation as "Upload Part (Copy)" (ibm-cloud-docs/cloud-object-storage, "About the IBM Cloud
        Object Storage S3 API", 2019-03-19). That COS honours the condition, what it says of the part, and how long it
        may take are unconfirmed; AWS documents 5 GiB at the most (S3 API reference, UploadPartCopy).

        :param bucket: the bucket.
        :param upload: the upload.
        :param number: of the part, 1 to 10,000.
        :param source: key of the other object.
        :param size: bytes of the part.
        :param etag: the ETag that the other object must have, without quotes.
        :param start: byte of the other object where the part begins; None where it is all of it.
        :returns: what the store says of the part.
        :raises CosPreconditionError: where the other object has another ETag.
        :raises CosNotFoundError: where the other object is not there, or the upload was completed or aborted.
        """
        span = {} if start is None else {"CopySourceRange": f"bytes={start}-{start + size - 1}"}
        reply = self._call(
            "upload_part_copy",
            what=f"copy object {source} into part {number} of object {upload.key} in bucket {bucket}",
            bucket=bucket,
            key=upload.key,
            UploadId=upload.upload_id,
            PartNumber=number,
            CopySource={"Bucket": bucket, "Key": source},
            CopySourceIfMatch=f'"{etag}"',
            **span,
        )
        told = reply["CopyPartResult"]
        return UploadedPart(
            number=number,
            size=size,
            etag=str(told["ETag"]).removeprefix("W/").strip('"'),
            sha256=told.get("ChecksumSHA256"),
        )

    def complete(self, bucket: str, upload: MultipartUpload, parts: Sequence[UploadedPart]) -> ObjectInfo:
        """Put the parts together: only then is there an object.

        Where the reply is lost, what is there decides: an object that is made of just these parts is ours.

        :param bucket: the bucket.
        :param upload: the upload.
        :param parts: in the order of their numbers.
        :returns: what the store says of the object.
        :raises CosNotFoundError: where the upload was aborted.
        :raises CosError: where the object is not there afterwards.
        """
        named = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
            | ({"ChecksumSHA256": part.sha256} if part.sha256 else {})
            for part in parts
        ]
        lost: CosNotFoundError | None = None
        try:
            self._call(
                "complete_multipart_upload",
                what=f"complete the upload of object {upload.key} in bucket {bucket}",
                bucket=bucket,
                key=upload.key,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": named},
            )
        except CosNotFoundError as error:  # an earlier try, whose reply was lost, may have completed it
            lost = error
        found = self._head(bucket, upload.key)
        if lost is not None and (found is None or found.etag != etag_of(parts)):
            raise lost
        if found is None:
            raise CosError(
                f"object {upload.key} is not in bucket {bucket}, though the store took all of it",
                bucket=bucket,
                key=upload.key,
            )
        return found

    def abort(self, bucket: str, upload: MultipartUpload) -> None:
        """Abort an upload: its parts are deleted. One that is not there is aborted already.

        :param bucket: the bucket.
        :param upload: the upload.
        :raises CosPermissionError: where the key may not.
        """
        try:
            self._call(
                "abort_multipart_upload",
                what=f"abort an upload of object {upload.key} in bucket {bucket}",
                bucket=bucket,
                key=upload.key,
                UploadId=upload.upload_id,
            )
        except CosNotFoundError:
            return


def etag_of(parts: Sequence[UploadedPart]) -> str | None:
    """Say which ETag an object has that is made of parts: the MD5 of their MD5s, and how many there are.

    :param parts: in the order of their numbers.
    :returns: the ETag without quotes; None where the store's ETags of parts are no MD5s.
    """
    try:
        digests = [bytes.fromhex(part.etag) for part in parts]
    except ValueError:
        return None
    if any(len(digest) != 16 for digest in digests):
        return None
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"
