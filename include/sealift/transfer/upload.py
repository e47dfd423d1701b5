"""Uploads an object that is only being made: part by part, several at a time, the first part last where it has to be.

Bytes come in their order and become parts of equal size. Each part is sent with a digest by which the store checks it.
What the whole must look like follows from the parts, and is compared at the end. A part is in memory until the store
has it, so that it can be sent again. Where anything fails, the upload is aborted: an object is whole or not there.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from sealift.cos.errors import CosError
from sealift.cos.models import UploadedPart
from sealift.cos.multipart import etag_of
from sealift.transfer.errors import DigestError, TransferError
from sealift.transfer.upload_targets import Finished, UploadTarget

MIB: Final = 1024 * 1024
PART_SIZE: Final = 8 * MIB
"""Bytes of each part, at least: a part has to hold what comes last of an image, which is up to 5 MiB."""

SMALLEST_PART: Final = 5 * MIB
"""S3 takes none smaller, but for the last."""

PARTS_AT_MOST: Final = 10_000
"""S3 takes no more parts for one object."""

STREAMS: Final = 3
MEMORY: Final = 64 * MIB
"""Bytes of parts in memory. An upload that can become very large has larger parts and fewer streams for it; it never
has less than a part that is sent and one that is filled meanwhile, and one more where the first comes last."""

_ZEROS: Final = bytes(256 * 1024)


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """An object that is whole.

    :param size: its size in bytes.
    :param etag: its ETag, without quotes.
    :param part_size: bytes of each part but the last.
    :param parts: how many parts it came in.
    :param sha256: its SHA-256 in hexadecimal digits; None where its first bytes came last.
    :param checked_by: by what the store checked each part: ``SHA-256 of its parts`` or ``MD5 of its parts``.
    """

    size: int
    etag: str
    part_size: int
    parts: int
    sha256: str | None
    checked_by: str


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
        self._etags_are_md5s = False
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
        while view:
            take = min(len(view), self._part_size - self._filled)
            with memoryview(self._part) as part:  # a slice of a bytearray would copy what it is given first
                part[self._filled : self._filled + take] = view[:take]
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
                f"The unfinished upload {self._upload_id} of {self._target.label} stays in the bucket ({error}): the "
                "next try aborts it, or a lifecycle rule does."
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
        if sent.sha256 is not None and sent.sha256 != digest:
            raise DigestError(f"{self._target.label} keeps other bytes of part {number} than were sent. Try again.")
        if number == 1:  # where the store encrypts with keys of the user's, an ETag is no MD5 of what was sent
            self._etags_are_md5s = sent.etag == hashlib.md5(part, usedforsecurity=False).hexdigest()
        return sent

    def _compare(self, done: Finished, parts: Sequence[UploadedPart]) -> None:
        """Compare what the store says of the whole with what it said of the parts."""
        due = etag_of(parts) if self._etags_are_md5s else None
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
