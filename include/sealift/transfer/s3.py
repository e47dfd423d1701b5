"""Copies one object from the bucket into any S3 bucket: by parts, through memory, each part's digest checked there.

Every part is sent with its SHA-256, which S3 compares before it keeps the part. Parts of an upload that an earlier try
left are kept where their digests are those of the source. At the end, the digest that the store gives of the whole is
compared with ours; a store that gives none is held to the MD5s in its ETags.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sealift.cos.retrying import Retries
from sealift.transfer.crew import Crew
from sealift.transfer.errors import DigestError, Stopped, TransferError
from sealift.transfer.hashing import HashInOrder, ReadDigests
from sealift.transfer.pace import Pace
from sealift.transfer.reading import OpensRanges, PartReader, Remote
from sealift.transfer.s3_bucket import S3Bucket, unquoted

MIB: Final = 1024 * 1024
PART_SIZE: Final = 16 * MIB
STREAMS: Final = 4

PARTS_AT_MOST: Final = 10_000
"""S3 takes no more parts for one object."""

SMALLEST_PART: Final = 5 * MIB
"""S3 takes none smaller, but for the last."""

MEMORY: Final = 256 * MIB
"""Bytes of parts that may be in memory; a copy of a very large object has fewer streams for it."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """An object that is whole at its new place.

    :param size: its size in bytes.
    :param sha256: its SHA-256 in hexadecimal digits.
    :param crc64nvme: its CRC-64/NVME, as S3's headers carry it.
    :param etag: its ETag there, without quotes.
    :param checked_by: what the store's own digest was compared by: ``SHA-256 of its parts`` or ``MD5 of its parts``.
    :param resumed: bytes that an earlier try had sent.
    :param seconds: how long this try took.
    """

    size: int
    sha256: str
    crc64nvme: str
    etag: str
    checked_by: str
    resumed: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Part:
    etag: str
    size: int
    sha256: str | None
    md5: str | None = None


class CopyToS3:
    """One object's way into one object of an S3 bucket.

    :param client: the object store that it comes from.
    :param remote: the object.
    :param place: the bucket that it goes into.
    :param key: its key there; an object that is there is replaced once the new one is whole.
    :param streams: parts at a time.
    :param part_size: bytes of each part, at least; more where there would be too many parts.
    :param pace: how fast bytes may come.
    :param arrived: told how many bytes are there, from any thread.
    :param retries: how a stream that breaks is taken up again.
    """

    def __init__(
        self,
        *,
        client: OpensRanges,
        remote: Remote,
        place: S3Bucket,
        key: str,
        streams: int = STREAMS,
        part_size: int = PART_SIZE,
        pace: Pace | None = None,
        arrived: Callable[[int], None] | None = None,
        retries: Retries | None = None,
    ) -> None:
        if streams < 1 or part_size < 1:
            raise ValueError(f"a copy has a stream or more, and parts of a byte or more: {streams}, {part_size}")
        self.remote = remote
        self.key = key
        self._place = place
        needed = -(-remote.size // PARTS_AT_MOST)
        self._part_size = max(part_size, SMALLEST_PART, -(-needed // MIB) * MIB)
        self._streams = max(1, min(streams, MEMORY // self._part_size))
        self._arrived = arrived or (lambda _count: None)
        self._crew = Crew(name="sealift-copy")
        self._reader = PartReader(client=client, remote=remote, pace=pace, retries=retries, stop=self._crew.stopped)
        self._resumed = 0

    def run(self) -> Copied:
        """Copy.

        :returns: what is there, whole.
        :raises DigestError: what is there is not what was read; it is deleted.
        :raises ReplacedError: the object was replaced or deleted meanwhile.
        :raises TransferError: the store that it goes into refused. What it has is kept for the next try.
        :raises sealift.cos.errors.CosError: the store that it comes from refused, or failed for too long.
        """
        began = time.monotonic()
        upload_id, there = self._upload()
        parts: dict[int, _Part] = {}
        hashing = HashInOrder(
            size=self.remote.size,
            part_size=self._part_size,
            read_back=_nothing_to_read_back,
            on_disk=(),
            budget=self._streams * self._part_size,
        )

        def send(part: int) -> None:
            start, end = self.remote.span(part, self._part_size)
            data = bytearray(end - start)
            for at, piece in self._reader.pieces(start, end):
                data[at - start : at - start + len(piece)] = piece
            hashing.put(start, data)
            parts[part] = self._send(upload_id, part + 1, data, there.get(part + 1))
            self._arrived(len(data))

        def watch() -> None:
            if hashing.error is not None:
                raise hashing.error

        hashing.start()
        # An object without a byte is one part without a byte.
        count = max(1, self.remote.parts(self._part_size))
        self._crew.run(range(count), send, threads=self._streams, meanwhile=watch, release=hashing.stop)
        digests = hashing.digests()
        etag, checked_by = self._finish(upload_id, [parts[number] for number in range(count)], digests)
        return Copied(
            size=self.remote.size,
            sha256=digests.sha256,
            crc64nvme=digests.crc64nvme,
            etag=etag,
            checked_by=checked_by,
            resumed=self._resumed,
            seconds=time.monotonic() - began,
        )

    def stop(self) -> None:
        """Stop: :meth:`run` raises :class:`~sealift.transfer.errors.Stopped`, and the next try goes on from here."""
        self._crew.fail(Stopped(f"The copy of {self.remote.key} was stopped; the same command goes on with it."))

    def _upload(self) -> tuple[str, dict[int, _Part]]:
        """Take up the newest upload of an earlier try, if its parts have our sizes, or begin one."""
        for upload_id in self._place.uploads(self.key)[:1]:
            there = {
                int(one["PartNumber"]): _Part(
                    etag=unquoted(one["ETag"]), size=int(one["Size"]), sha256=one.get("ChecksumSHA256")
                )
                for one in self._place.parts(self.key, upload_id)
            }
            if all(self._fits(number, part) for number, part in there.items()):
                return upload_id, there
        begun = self._place.call(
            "create_multipart_upload",
            key=self.key,
            ChecksumAlgorithm="SHA256",
            ContentType="application/octet-stream",
            Metadata={"sealift-source-etag": self.remote.etag},
        )
        return str(begun["UploadId"]), {}

    def _fits(self, number: int, part: _Part) -> bool:
        return number <= self.remote.parts(self._part_size) and part.size == self.remote.length(
            number - 1, self._part_size
        )

    def _send(self, upload_id: str, number: int, data: bytearray, there: _Part | None) -> _Part:
        """Send a part, unless the store has just these bytes of it."""
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        if there is not None and there.sha256 == digest:
            self._resumed += len(data)
            return there
        reply = self._place.call(
            "upload_part", key=self.key, UploadId=upload_id, PartNumber=number, Body=data, ChecksumSHA256=digest
        )
        told = reply.get("ChecksumSHA256")
        if told is not None and told != digest:
            raise DigestError(
                f"s3://{self._place.bucket}/{self.key} keeps other bytes of part {number} than were sent. Try again."
            )
        # Only where the store gives no digest of its own does MD5 have to do.
        md5 = None if told else hashlib.md5(data, usedforsecurity=False).hexdigest()
        return _Part(etag=unquoted(reply["ETag"]), size=len(data), sha256=told, md5=md5)

    def _finish(self, upload_id: str, parts: list[_Part], digests: ReadDigests) -> tuple[str, str]:
        """Put the parts together, and compare what the store says of the whole."""
        if difference := self.remote.difference(digests):
            self._place.call("abort_multipart_upload", key=self.key, UploadId=upload_id)
            raise DigestError(f"{difference} Nothing was delivered.")
        named = [
            {"PartNumber": number, "ETag": part.etag} | ({"ChecksumSHA256": part.sha256} if part.sha256 else {})
            for number, part in enumerate(parts, start=1)
        ]
        self._place.call(
            "complete_multipart_upload", key=self.key, UploadId=upload_id, MultipartUpload={"Parts": named}
        )
        found = self._place.head(self.key)
        if found is None:
            raise TransferError(f"s3://{self._place.bucket}/{self.key} is not there, though the store took all of it.")
        etag, told = unquoted(found["ETag"]), found.get("ChecksumSHA256")
        wrong = ""
        if found["ContentLength"] != self.remote.size:
            wrong = f"it has {found['ContentLength']} bytes, where {self.remote.size} were sent"
        elif told:
            checked_by, due = "SHA-256 of its parts", _whole_sha256([part.sha256 or "" for part in parts])
            wrong = "" if str(told).partition("-")[0] == due else f"the store's digest is {told}, ours is {due}"
        else:
            checked_by, due = "MD5 of its parts", _whole_md5(parts)
            wrong = "" if etag == due else f"the store's ETag is {etag}, the MD5s of what was sent make {due}"
        if wrong:
            self._place.call("delete_object", key=self.key)
            raise DigestError(
                f"s3://{self._place.bucket}/{self.key} is not what was sent: {wrong}. It was deleted; try once more."
            )
        return etag, checked_by


def _whole_sha256(parts: list[str]) -> str:
    """S3's digest of an object in parts: the digest of the parts' digests."""
    together = hashlib.sha256(b"".join(base64.b64decode(one) for one in parts)).digest()
    return base64.b64encode(together).decode()


def _whole_md5(parts: list[_Part]) -> str:
    together = hashlib.md5(b"".join(bytes.fromhex(one.md5 or "") for one in parts), usedforsecurity=False)
    return f"{together.hexdigest()}-{len(parts)}"


def _nothing_to_read_back(_offset: int, _length: int) -> bytes:
    raise AssertionError("every part comes through memory")
