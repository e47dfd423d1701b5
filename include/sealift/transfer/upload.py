"""Uploads an object that is only being made: part by part, several at a time, the first part last where it has to be.

Bytes come in their order and become parts of equal size. Each part is sent with a digest by which the store checks it.
What the whole must look like follows from the parts, and is compared at the end. A part is in memory until the store
has it, so that it can be sent again. Where anything fails, the upload is aborted: an object is whole or not there.

Where an object can become too large for its parts to stay small, those that come late are gathered in intermediate
objects, beside it under a hidden key, each of which is copied into it within the store and then deleted; see
:mod:`sealift.transfer.upload_layout`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from sealift.transfer.errors import TransferError
from sealift.transfer.upload_layout import PART_SIZE, S3_LIMITS, STREAMS, Limits, layout_for
from sealift.transfer.upload_parts import Intermediate, PartsOf
from sealift.transfer.upload_targets import UploadTarget

_ZEROS: Final = bytes(256 * 1024)


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """An object that is whole.

    :param size: its size in bytes.
    :param etag: its ETag, without quotes.
    :param part_size: bytes of each part but the last; None where the parts are of several sizes.
    :param parts: how many parts it came in.
    :param sha256: its SHA-256 in hexadecimal digits; None where its first bytes came last.
    :param checked_by: by what the store checked each part: ``SHA-256 of its parts`` or ``MD5 of its parts``.
    """

    size: int
    etag: str
    part_size: int | None
    parts: int
    sha256: str | None
    checked_by: str


class Upload:
    """An object that is uploaded while it is made. It is a :class:`~sealift.images.convert.pieces.PieceSink`.

    :param target: the object; one that is there is replaced once the new one is whole.
    :param streams: parts that are sent at a time.
    :param part_size: bytes of each part, at least; more where there could be too many parts.
    :param limits: what the store takes; those of S3 if not given.
    :raises ValueError: streams or part size are not above 0.
    """

    def __init__(
        self,
        *,
        target: UploadTarget,
        streams: int = STREAMS,
        part_size: int = PART_SIZE,
        limits: Limits | None = None,
    ) -> None:
        if streams < 1 or part_size < 1:
            raise ValueError(f"an upload has a stream or more, and parts of a byte or more: {streams}, {part_size}")
        self._target = target
        self._most_streams = streams
        self._least_part = part_size
        self._limits = limits or S3_LIMITS
        self._object: PartsOf | None = None
        self._head = 0
        self._first: bytearray | None = None
        self._number = 1
        self._part = bytearray()
        self._filled = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._sending: deque[Future[None]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._names = ""
        self._gathering: Intermediate | None = None
        self._closing: tuple[Intermediate, Future[None]] | None = None
        self._closer: ThreadPoolExecutor | None = None
        self._by_sha256 = True
        self.result: Uploaded | None = None
        """What is there, once :meth:`finish` has returned."""

    def begin(self, *, head: int, largest: int) -> None:
        """Begin. Unfinished uploads of the same object, and its intermediate ones, which earlier tries left, go.

        :param head: bytes of the beginning that come last; not more than a part holds.
        :param largest: bytes that the object can have at the most.
        :raises TransferError: the store refused, or takes no object of this size.
        :raises sealift.cos.errors.CosError: the object store refused.
        """
        self._layout = layout_for(
            largest=largest,
            head=head,
            streams=self._most_streams,
            part_size=self._least_part,
            limits=self._limits,
        )
        if head > self._layout.part_size:
            raise ValueError(f"{head} bytes come last, but a part has {self._layout.part_size}")
        self._object = PartsOf(target=self._target)
        for left in self._target.others(self._object.upload_id):
            self._target.abort(left)
        if self._layout.gathered:
            self._target.sweep()
            self._names = secrets.token_hex(4)
            self._closer = ThreadPoolExecutor(1, thread_name_prefix="sealift-upload-copy")
        self._pool = ThreadPoolExecutor(self._layout.streams, thread_name_prefix="sealift-upload")
        self._head = self._size = self._filled = head
        self._part = bytearray(self._layout.part_size)

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
            take = min(len(view), self._layout.part_size - self._filled)
            with memoryview(self._part) as part:  # a slice of a bytearray would copy what it is given first
                part[self._filled : self._filled + take] = view[:take]
            self._filled += take
            view = view[take:]
            if self._filled == self._layout.part_size:
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
        assert self._object is not None
        if self._filled or self._number == 1:
            del self._part[self._filled :]
            self._end_part()
        if self._first is not None:
            self._first[: self._head] = head
            first, self._first = self._first, None
            self._send(self._object, 1, first)
        if self._gathering is not None:
            self._close()
        self._sent()
        self._closed()
        self._shut()
        parts = len(self._object.parts)
        done = self._object.complete(self._size)
        told = self._by_sha256 and self._object.by_sha256
        self.result = Uploaded(
            size=self._size,
            etag=done.etag,
            part_size=self._layout.part_size if self._number - 1 <= self._layout.direct else None,
            parts=parts,
            sha256=None if self._head else self._digest.hexdigest(),
            checked_by="SHA-256 of its parts" if told else "MD5 of its parts",
        )

    def abort(self) -> str:
        """Abort the upload. Never fails.

        :returns: what is left in the bucket all the same, in words; empty where nothing is.
        """
        self._shut()
        left = []
        if self._gathering is not None:
            left.append(self._gathering.remove())
            self._gathering = None
        if self._closing is not None:
            left.append(self._closing[0].remove())
            self._closing = None
        if self._object is not None:
            left.append(self._object.abort())
        return " ".join(one for one in left if one)

    def _end_part(self) -> None:
        part, number = self._part, self._number
        self._part, self._filled = bytearray(self._layout.part_size), 0
        self._number += 1
        assert self._object is not None
        if number == 1 and self._head:
            self._first = part
        elif number <= self._layout.direct:
            self._send(self._object, number, part)
        else:
            self._gather(number, part)

    def _gather(self, number: int, part: bytearray) -> None:
        """Send a part to an intermediate object."""
        if self._gathering is None:
            self._gathering = Intermediate(target=self._target, name=f"{self._names}-{self._copy_of(number):05d}")
        self._send(self._gathering, self._gathering.add(part), part)
        if self._gathering.count == self._layout.gathered:
            self._close()

    def _copy_of(self, number: int) -> int:
        """Say as which part of the object a part gets into it that was gathered."""
        found = self._layout.direct + 1 + (number - self._layout.direct - 1) // max(1, self._layout.gathered)
        if not self._layout.gathered or found > self._limits.parts:
            raise TransferError(
                f"{self._target.label} becomes larger than was announced: a store takes {self._limits.parts} parts. "
                "Report this."
            )
        return found

    def _close(self) -> None:
        """Copy an intermediate object into the object, while the next one is filled."""
        full, self._gathering = self._gathering, None
        assert full is not None
        assert self._object is not None
        assert self._closer is not None
        try:
            self._sent()
            self._closed()
        except BaseException:
            self._gathering = full
            raise
        number = self._copy_of(self._number - 1)
        self._closing = (full, self._closer.submit(self._object.take, number, full))

    def _closed(self) -> None:
        """Wait for the copy that is under way."""
        if self._closing is not None:
            done, future = self._closing
            future.result()
            self._by_sha256 = self._by_sha256 and done.by_sha256
            self._closing = None

    def _send(self, to: PartsOf, number: int, part: bytearray) -> None:
        while len(self._sending) >= self._layout.streams:
            self._sending.popleft().result()
        assert self._pool is not None
        self._sending.append(self._pool.submit(to.send, number, part))

    def _sent(self) -> None:
        """Wait for all parts that are on their way."""
        while self._sending:
            self._sending.popleft().result()

    def _shut(self) -> None:
        for pool in (self._pool, self._closer):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._closer = None
