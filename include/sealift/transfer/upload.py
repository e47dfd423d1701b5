"""Uploads an object that is only being made: part by part, several at a time, the first part last where it has to be.

Bytes come in their order and become parts of equal size. Each part is sent with its SHA-256, by which the store checks it;
a store that gives no digest back is held to the MD5 in the part's ETag. What the whole must look like follows from the
parts, and is compared at the end. A part is in memory until the store has it, so that it can be sent again. Where
anything fails, the upload is aborted: an object is whole or not there.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from sealift.cos.client import CosClient
from sealift.cos.errors import CosError
from sealift.cos.models import MultipartUpload, UploadedPart
from sealift.cos.multipart import etag_of
from sealift.transfer.errors import DigestError, TransferError
from sealift.transfer.s3_bucket import S3Bucket, unquoted

MIB: Final = 1024 * 1024
PART_SIZE: Final = 8 * MIB
"""Bytes of each part, at least: a part has to hold what comes last of an image, which is up to 5 MiB."""

SMALLEST_PART: Final = 5 * MIB
"""S3 takes none smaller, but for the last."""

PARTS_AT_MOST: Final = 10_000
"""S3 takes no more parts for one object."""

STREAMS: Final = 4
MEMORY: Final = 64 * MIB
"""Bytes of parts in memory; an upload that can become very large has fewer streams for it, but one and a part that is
filled meanwhile."""

_ZEROS: Final = bytes(256 * 1024)


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """An object that is whole.

    :param size: its size in bytes.
    :param etag: its ETag, without quotes.
    :param part_size: bytes of each part but the last.
    :param parts: how many parts it came in.
    :param sha256: its SHA-256 in hexadecimal digits; None where its first bytes came last.
    :param checked_by: what the store's own digests were compared by: ``SHA-256 of its parts`` or ``MD5 of its parts``.
    """

    size: int
    etag: str
    part_size: int
    parts: int
    sha256: str | None
    checked_by: str


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

    @property
    def label(self) -> str:
        """What the object is called in messages."""
        return f"{self._bucket}/{self._key}"

    def begin(self) -> str:
        """Begin an upload and return its id."""
        return self._client.multipart.begin(self._bucket, self._key, metadata=self._metadata).upload_id

    def others(self, upload_id: str) -> list[str]:
        """List the ids of other unfinished uploads of this object.

        :param upload_id: the one that is left out.
        """
        found = self._client.list_multipart_uploads(self._bucket, self._key)
        return [one.upload_id for one in found if one.key == self._key and one.upload_id != upload_id]

    def send(self, upload_id: str, number: int, data: bytearray, sha256: str) -> UploadedPart:
        """Send a part.

        :param upload_id: the upload.
        :param number: of the part, from 1.
        :param data: its bytes.
        :param sha256: their SHA-256 in base64.
        """
        return self._client.multipart.send(self._bucket, self._upload(upload_id), number, data, sha256=sha256)

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
        """Send a part.

        :param upload_id: the upload.
        :param number: of the part, from 1.
        :param data: its bytes.
        :param sha256: their SHA-256 in base64.
        """
        reply = self._place.call(
            "upload_part", key=self._key, UploadId=upload_id, PartNumber=number, Body=data, ChecksumSHA256=sha256
        )
        return UploadedPart(
            number=number, size=len(data), etag=unquoted(reply["ETag"]), sha256=reply.get("ChecksumSHA256")
        )

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


class Upload:
    """An object that is uploaded while it is made. It is a :class:`~sealift.images.convert.pieces.PieceSink`.

    :param target: the object; one that is there is replaced once the new one is whole.
    :param streams: parts that are sent at a time.
    :param part_size: bytes of each part, at least; more where there could be too many parts.
    :raises ValueError: streams or part size are not above 0.
    """

    def __init__(self, *, target: UploadTarget, streams: int = STREAMS, part_size: int = PART_SIZE) -> None:
        if streams < 1 or part_size < 1:
            raise ValueError(f"an upload has a stream or more, and parts of a byte or more: {streams}, {part_size}")
        self._target = target
        self._most_streams = streams
        self._least_part = part_size
        self._streams = streams
        self._part_size = part_size
        self._upload_id = ""
        self._head = 0
        self._first: bytearray | None = None
        self._number = 1
        self._part = bytearray()
        self._filled = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._sending: deque[Future[UploadedPart]] = deque()
        self._parts: list[UploadedPart] = []
        self._pool: ThreadPoolExecutor | None = None
        self.result: Uploaded | None = None
        """What is there, once :meth:`finish` has returned."""

    def begin(self, *, head: int, largest: int) -> None:
        """Begin. Unfinished uploads of the same object, which earlier tries left, are aborted.

        :param head: bytes of the beginning that come last; not more than a part holds.
        :param largest: bytes that the object can have at the most.
        :raises TransferError: the store refused.
        :raises sealift.cos.errors.CosError: the object store refused.
        """
        least = -(-largest // PARTS_AT_MOST)
        self._part_size = max(self._least_part, SMALLEST_PART, -(-least // MIB) * MIB)
        if head > self._part_size:
            raise ValueError(f"{head} bytes come last, but a part has {self._part_size}")
        # Besides those that are sent, one part is filled, and the first may wait.
        self._streams = max(1, min(self._most_streams, MEMORY // self._part_size - (2 if head else 1)))
        self._upload_id = self._target.begin()
        for left in self._target.others(self._upload_id):
            self._target.abort(left)
        self._pool = ThreadPoolExecutor(self._streams, thread_name_prefix="sealift-upload")
        self._head = self._size = self._filled = head
        self._part = bytearray(self._part_size)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; waits while too many parts are on their way.

        :param data: the bytes.
        :raises TransferError: a part could not be sent.
        :raises sealift.cos.errors.CosError: the object store refused, or failed for too long.
        """
        view = memoryview(data)
        if not self._head:
            self._digest.update(view)
        self._size += len(view)
        while len(view):
            take = min(len(view), self._part_size - self._filled)
            self._part[self._filled : self._filled + take] = view[:take]
            self._filled += take
            view = view[take:]
            if self._filled == self._part_size:
                self._end_part()

    def zeros(self, count: int) -> None:
        """Take so many zeros as the next bytes.

        :param count: how many.
        """
        while count > 0:
            take = min(count, len(_ZEROS))
            self.write(_ZEROS if take == len(_ZEROS) else _ZEROS[:take])
            count -= take

    def finish(self, head: bytes) -> None:
        """Take the bytes of the beginning, send what is left, and put the object together.

        :param head: as many bytes as :meth:`begin` was told.
        :raises DigestError: what is there is not what was sent; it is deleted.
        :raises TransferError: the store refused.
        :raises sealift.cos.errors.CosError: the object store refused, or failed for too long.
        """
        if len(head) != self._head:
            raise ValueError(f"{len(head)} bytes come last, but {self._head} were announced")
        if self._filled or self._number == 1:
            del self._part[self._filled :]
            self._end_part()
        if self._first is not None:
            self._first[: self._head] = head
            first, self._first = self._first, None
            self._send(1, first)
        while self._sending:
            self._parts.append(self._sending.popleft().result())
        self._shut()
        parts = sorted(self._parts, key=lambda part: part.number)
        done = self._target.complete(self._upload_id, parts)
        self._upload_id = ""
        self._compare(done, parts)
        told = all(part.sha256 for part in parts)
        self.result = Uploaded(
            size=self._size,
            etag=done.etag,
            part_size=self._part_size,
            parts=len(parts),
            sha256=None if self._head else self._digest.hexdigest(),
            checked_by="SHA-256 of its parts" if told else "MD5 of its parts",
        )

    def abort(self) -> str:
        """Abort the upload. Never fails.

        :returns: what is left in the bucket all the same, in words; empty where nothing is.
        """
        self._shut()
        if not self._upload_id:
            return ""
        try:
            self._target.abort(self._upload_id)
        except (CosError, TransferError) as error:
            return (
                f"The unfinished upload {self._upload_id} of {self._target.label} stays in the bucket ({error}): the next "
                "try aborts it, or a lifecycle rule does."
            )
        self._upload_id = ""
        return ""

    def _end_part(self) -> None:
        part, number = self._part, self._number
        self._part, self._filled = bytearray(self._part_size), 0
        self._number += 1
        if number == 1 and self._head:
            self._first = part
        else:
            self._send(number, part)

    def _send(self, number: int, part: bytearray) -> None:
        while len(self._sending) >= self._streams:
            self._parts.append(self._sending.popleft().result())
        assert self._pool is not None
        self._sending.append(self._pool.submit(self._send_checked, number, part))

    def _send_checked(self, number: int, part: bytearray) -> UploadedPart:
        """Send a part, and compare what the store says of it."""
        digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
        sent = self._target.send(self._upload_id, number, part, digest)
        if sent.sha256 is not None:
            same = sent.sha256 == digest
        else:
            same = sent.etag == hashlib.md5(part, usedforsecurity=False).hexdigest()
        if not same:
            raise DigestError(f"{self._target.label} keeps other bytes of part {number} than were sent. Try again.")
        return sent

    def _compare(self, done: Finished, parts: Sequence[UploadedPart]) -> None:
        """Compare what the store says of the whole with what it said of the parts."""
        due = etag_of(parts)
        wrong = ""
        if done.size != self._size:
            wrong = f"it has {done.size} bytes, where {self._size} were sent"
        elif due is not None and done.etag != due:
            wrong = f"the store's ETag is {done.etag}, the MD5s of its parts make {due}"
        if wrong:
            self._target.delete()
            raise DigestError(f"{self._target.label} is not what was sent: {wrong}. It was deleted; try once more.")

    def _shut(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
