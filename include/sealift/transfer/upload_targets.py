"""Where uploads in parts go: an object in Cloud Object Storage, or in any S3 bucket."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from sealift.cos.client import CosClient
from sealift.cos.errors import CosPermissionError
from sealift.cos.models import MultipartUpload, UploadedPart
from sealift.transfer.errors import TransferError
from sealift.transfer.s3_bucket import S3Bucket, unquoted


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a store says of an object that has just been completed.

    :param size: in bytes.
    :param etag: without quotes.
    """

    size: int
    etag: str


class UploadTarget(Protocol):
    """One object of a store that takes uploads in parts."""

    @property
    def label(self) -> str:
        """What the object is called in messages."""
        ...

    def begin(self) -> str:
        """Begin an upload and return its id."""
        ...

    def others(self, upload_id: str) -> list[str]:
        """List the ids of other uploads of this object that were neither completed nor aborted."""
        ...

    def send(self, upload_id: str, number: int, data: bytearray, sha256: str) -> UploadedPart:
        """Send a part with its SHA-256 in base64."""
        ...

    def complete(self, upload_id: str, parts: Sequence[UploadedPart]) -> Finished:
        """Put the parts together."""
        ...

    def abort(self, upload_id: str) -> None:
        """Abort an upload."""
        ...

    def delete(self) -> None:
        """Delete the object."""
        ...

    def intermediate(self, name: str) -> UploadTarget:
        """Give an intermediate object of this one, which lies beside it under a hidden key."""
        ...

    def copy(self, upload_id: str, number: int, *, name: str, size: int, etag: str) -> UploadedPart:
        """Make an intermediate object, which must have this ETag, a part; no byte leaves the store."""
        ...

    def sweep(self) -> None:
        """Delete the intermediate objects that earlier tries left, and abort their uploads."""
        ...


def intermediate_prefix(key: str) -> str:
    """Say below which prefix the intermediate objects of an object lie while it is uploaded.

    :param key: the object's, as ``images/…/disk-0.vmdk``.
    :returns: as ``images/…/.disk-0.vmdk.parts/``.
    """
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}.{name}.parts/"


class _Checking:
    """By what a store checks the parts of one upload: by SHA-256 if it gives that back, by Content-MD5 otherwise.

    A store that does not know the header with the SHA-256 takes any bytes without a word; Content-MD5 all of them know.
    """

    def __init__(self) -> None:
        self._by_md5 = False

    def send(self, put: Callable[[Mapping[str, str]], UploadedPart], data: bytearray, sha256: str) -> UploadedPart:
        if not self._by_md5:
            sent = put({"ChecksumSHA256": sha256})
            if sent.sha256 is not None:
                return sent
            self._by_md5 = True
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        return put({"ContentMD5": base64.b64encode(md5).decode()})


class CosTarget:
    """An object in Cloud Object Storage.

    :param client: the object store.
    :param bucket: the bucket.
    :param key: the object.
    :param metadata: kept with it.
    """

    def __init__(self, *, client: CosClient, bucket: str, key: str, metadata: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._metadata = dict(metadata or {})
        self._checking = _Checking()

    @property
    def label(self) -> str:
        """What the object is called in messages."""
        return f"{self._bucket}/{self._key}"

    def begin(self) -> str:
        """Begin an upload and return its id."""
        return self._client.multipart.begin(self._bucket, self._key, metadata=self._metadata).upload_id

    def others(self, upload_id: str) -> list[str]:
        """List the ids of other unfinished uploads of this object; none where the key may not list them.

        :param upload_id: the one that is left out.
        """
        try:
            found = self._client.list_multipart_uploads(self._bucket, self._key)
        except CosPermissionError:
            return []
        return [one.upload_id for one in found if one.key == self._key and one.upload_id != upload_id]

    def send(self, upload_id: str, number: int, data: bytearray, sha256: str) -> UploadedPart:
        """Send a part, by a digest that the store checks.

        :param upload_id: the upload.
        :param number: of the part, from 1.
        :param data: its bytes.
        :param sha256: their SHA-256 in base64.
        """
        upload = self._upload(upload_id)
        return self._checking.send(
            lambda digest: self._client.multipart.send(self._bucket, upload, number, data, digest=digest), data, sha256
        )

    def complete(self, upload_id: str, parts: Sequence[UploadedPart]) -> Finished:
        """Put the parts together.

        :param upload_id: the upload.
        :param parts: in their order.
        """
        found = self._client.multipart.complete(self._bucket, self._upload(upload_id), parts)
        return Finished(size=found.size, etag=found.etag)

    def abort(self, upload_id: str) -> None:
        """Abort an upload.

        :param upload_id: the upload.
        """
        self._client.multipart.abort(self._bucket, self._upload(upload_id))

    def delete(self) -> None:
        """Delete the object."""
        self._client.delete(self._bucket, self._key)

    def intermediate(self, name: str) -> CosTarget:
        """Give an intermediate object of this one.

        :param name: its name among them.
        """
        return CosTarget(client=self._client, bucket=self._bucket, key=intermediate_prefix(self._key) + name)

    def copy(self, upload_id: str, number: int, *, name: str, size: int, etag: str) -> UploadedPart:
        """Make an intermediate object a part.

        :param upload_id: the upload.
        :param number: of the part, from 1.
        :param name: of the intermediate object.
        :param size: its bytes.
        :param etag: its ETag, without quotes.
        :raises sealift.cos.errors.CosPreconditionError: it has another one.
        """
        source = intermediate_prefix(self._key) + name
        return self._client.multipart.copy(
            self._bucket, self._upload(upload_id), number, source=source, size=size, etag=etag
        )

    def sweep(self) -> None:
        """Delete what earlier tries left of intermediate objects; nothing where the key may not list."""
        prefix = intermediate_prefix(self._key)
        with suppress(CosPermissionError):
            for upload in self._client.list_multipart_uploads(self._bucket, prefix):
                self._client.multipart.abort(self._bucket, upload)
            for info in list(self._client.list(self._bucket, prefix)):
                self._client.delete(self._bucket, info.key)

    def _upload(self, upload_id: str) -> MultipartUpload:
        return MultipartUpload(key=self._key, upload_id=upload_id)


class S3Target:
    """An object in any S3 bucket.

    :param place: the bucket.
    :param key: the object.
    :param metadata: kept with it.
    """

    def __init__(self, *, place: S3Bucket, key: str, metadata: Mapping[str, str] | None = None) -> None:
        self._place = place
        self._key = key
        self._metadata = dict(metadata or {})
        self._checking = _Checking()

    @property
    def label(self) -> str:
        """What the object is called in messages."""
        return f"s3://{self._place.bucket}/{self._key}"

    def begin(self) -> str:
        """Begin an upload and return its id."""
        begun = self._place.call(
            "create_multipart_upload",
            key=self._key,
            ChecksumAlgorithm="SHA256",
            ContentType="application/octet-stream",
            Metadata=self._metadata,
        )
        return str(begun["UploadId"])

    def others(self, upload_id: str) -> list[str]:
        """List the ids of other unfinished uploads of this object.

        :param upload_id: the one that is left out.
        """
        return [one for one in self._place.uploads(self._key) if one != upload_id]

    def send(self, upload_id: str, number: int, data: bytearray, sha256: str) -> UploadedPart:
        """Send a part, by a digest that the store checks.

        :param upload_id: the upload.
        :param number: of the part, from 1.
        :param data: its bytes.
        :param sha256: their SHA-256 in base64.
        """

        def put(digest: Mapping[str, str]) -> UploadedPart:
            about: dict[str, Any] = {"UploadId": upload_id, "PartNumber": number, "Body": data}
            reply = self._place.call("upload_part", key=self._key, **about, **digest)
            return UploadedPart(
                number=number, size=len(data), etag=unquoted(reply["ETag"]), sha256=reply.get("ChecksumSHA256")
            )

        return self._checking.send(put, data, sha256)

    def complete(self, upload_id: str, parts: Sequence[UploadedPart]) -> Finished:
        """Put the parts together.

        :param upload_id: the upload.
        :param parts: in their order.
        """
        named = [
            {"PartNumber": part.number, "ETag": part.etag} | ({"ChecksumSHA256": part.sha256} if part.sha256 else {})
            for part in parts
        ]
        self._place.call(
            "complete_multipart_upload", key=self._key, UploadId=upload_id, MultipartUpload={"Parts": named}
        )
        found = self._place.head(self._key)
        if found is None:
            raise TransferError(f"{self.label} is not there, though the store took all of it.")
        return Finished(size=int(found["ContentLength"]), etag=unquoted(found["ETag"]))

    def abort(self, upload_id: str) -> None:
        """Abort an upload.

        :param upload_id: the upload.
        """
        self._place.call("abort_multipart_upload", key=self._key, UploadId=upload_id)

    def delete(self) -> None:
        """Delete the object."""
        self._place.call("delete_object", key=self._key)

    def intermediate(self, name: str) -> S3Target:
        """Give an intermediate object of this one.

        :param name: its name among them.
        """
        return S3Target(place=self._place, key=intermediate_prefix(self._key) + name)

    def copy(self, upload_id: str, number: int, *, name: str, size: int, etag: str) -> UploadedPart:
        """Make an intermediate object a part.

        :param upload_id: the upload.
        :param number: of the part, from 1.
        :param name: of the intermediate object.
        :param size: its bytes.
        :param etag: its ETag, without quotes.
        :raises TransferError: it has another one, or the reply says nothing of the part.
        """
        reply = self._place.call(
            "upload_part_copy",
            key=self._key,
            UploadId=upload_id,
            PartNumber=number,
            CopySource={"Bucket": self._place.bucket, "Key": intermediate_prefix(self._key) + name},
            CopySourceIfMatch=f'"{etag}"',
        )
        told = reply.get("CopyPartResult") or {}
        if not told.get("ETag"):
            raise TransferError(f"{self.label}: the store does not say that it copied part {number}. Try once more.")
        return UploadedPart(number=number, size=size, etag=unquoted(told["ETag"]), sha256=told.get("ChecksumSHA256"))

    def sweep(self) -> None:
        """Delete what earlier tries left of intermediate objects."""
        prefix = intermediate_prefix(self._key)
        for key, upload_id in self._place.uploads_below(prefix):
            self._place.call("abort_multipart_upload", key=key, UploadId=upload_id)
        for key in self._place.keys_below(prefix):
            self._place.call("delete_object", key=key)
