"""Reading parts of an object, over as many streams as it takes, and never of two versions of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from sealift.cos.errors import CosError, CosNotFoundError, CosPreconditionError
from sealift.cos.retrying import Retries
from sealift.cos.streams import RangeStream
from sealift.transfer.errors import ReplacedError, Stopped
from sealift.transfer.hashing import ReadDigests
from sealift.transfer.pace import Pace

PIECE: Final = 256 * 1024
"""Bytes read and written at once. Larger buffered writes take up to seven times as long on some kernels."""

TRIES: Final = 8
"""So often in a row a stream may break without bringing a single byte."""


class OpensRanges(Protocol):
    """The one call of the object store that is needed here."""

    def open_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str) -> RangeStream:
        """See :meth:`sealift.cos.client.CosClient.open_range`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Remote:
    """An object as it must be: one that was replaced is not read.

    :param bucket: the bucket.
    :param key: the object.
    :param size: its size in bytes.
    :param etag: its ETag, without quotes.
    :param sha256: its SHA-256 in hexadecimal digits, where it is known.
    :param crc64nvme: its CRC-64/NVME as S3's headers carry it, where the store computed it or it was read before.
    """

    bucket: str
    key: str
    size: int
    etag: str
    sha256: str | None = None
    crc64nvme: str | None = None

    def difference(self, read: ReadDigests) -> str:
        """Say how the bytes that were read differ from those that the object should hold.

        :param read: the digests of what was read.
        :returns: a sentence, or nothing where all that is known agrees.
        """
        if self.sha256 not in (None, read.sha256):
            return (
                f"{self.bucket}/{self.key} was read with the SHA-256 {read.sha256}, but {self.sha256} was read before: "
                "the bytes changed on their way, or in the bucket."
            )
        if self.crc64nvme not in (None, read.crc64nvme):
            return (
                f"{self.bucket}/{self.key} was read with the CRC-64/NVME {read.crc64nvme}, but its manifest says "
                f"{self.crc64nvme}: the bytes changed on their way, or in the bucket."
            )
        return ""

    def parts(self, part_size: int) -> int:
        """Count its parts.

        :param part_size: bytes of each part but the last.
        """
        return -(-self.size // part_size)

    def span(self, part: int, part_size: int) -> tuple[int, int]:
        """Say where a part begins and ends.

        :param part: its number, from 0.
        :param part_size: bytes of each part but the last.
        :returns: its first byte, and the first byte after it.
        """
        return part * part_size, min((part + 1) * part_size, self.size)

    def length(self, part: int, part_size: int) -> int:
        """Say how many bytes a part has; parameters as for :meth:`span`."""
        start, end = self.span(part, part_size)
        return end - start


class PartReader:
    """Reads parts of one object. May be used by many threads.

    :param client: the object store.
    :param remote: the object.
    :param pace: how fast bytes may come.
    :param retries: how a stream that breaks is taken up again.
    :param stop: ends all reading.
    """

    def __init__(
        self,
        *,
        client: OpensRanges,
        remote: Remote,
        pace: Pace | None,
        retries: Retries | None,
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._remote = remote
        self._pace = pace or Pace(bytes_per_second=None)
        self._retries = retries or Retries(max_attempts=TRIES)
        self._stop = stop
        self.most = PIECE if self._pace.bytes_per_second is not None else None
        """Bytes that may come at once where a rate is kept; None where as many as there are."""

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Read a part piece by piece.

        :param start: its first byte.
        :param end: the first byte after it.
        :returns: where each piece begins, and its bytes.
        :raises ReplacedError: the object was replaced or deleted.
        :raises Stopped: reading was ended.
        :raises CosError: the object store refused, or gave nothing for too long.
        """
        with self.part(start, end) as part:
            while part.at < end:
                at = part.at
                yield at, part.read(PIECE)

    def part(self, start: int, end: int) -> OpenPart:
        """Begin to read a part.

        :param start: its first byte.
        :param end: the first byte after it.
        :returns: the part; use it in a ``with`` statement.
        """
        return OpenPart(reader=self, start=start, end=end)

    def open(self, start: int, end: int) -> RangeStream:
        """Ask the object store for bytes, once; parameters as for :meth:`part`, errors those of the client."""
        remote = self._remote
        return self._client.open_range(remote.bucket, remote.key, start=start, length=end - start, if_match=remote.etag)

    def passed(self, count: int) -> None:
        """Take note of bytes that came, and wait until more may.

        :param count: how many.
        :raises Stopped: reading was ended.
        """
        if self._stop.is_set():
            raise Stopped
        self._pace.passed(count)

    def failed(self, error: CosError, failures: int) -> None:
        """Wait before a stream that broke is taken up again.

        :param error: what broke it.
        :param failures: how often in a row it broke without bringing a single byte.
        :raises ReplacedError: the object was replaced or deleted.
        :raises Stopped: reading was ended.
        :raises CosError: no other try may help.
        """
        if isinstance(error, CosPreconditionError | CosNotFoundError):
            raise ReplacedError(
                f"{self._remote.bucket}/{self._remote.key} was replaced or deleted since it was proven (its ETag "
                f"was {self._remote.etag}). What has arrived of it is of no use: look at what wrote to the bucket, "
                f"then export the server again. ({error})"
            ) from error
        if not error.retryable or failures >= self._retries.max_attempts:
            raise error
        if self._stop.wait(self._retries.wait_before(failures + 1)):
            raise Stopped from error


class OpenPart:
    """A part as it arrives, over as many streams as it takes. For one thread.

    :param reader: opens them.
    :param start: its first byte.
    :param end: the first byte after it.
    """

    def __init__(self, *, reader: PartReader, start: int, end: int) -> None:
        self.at = start
        """Where the next byte begins."""
        self._reader = reader
        self._end = end
        self._stream: RangeStream | None = None
        self._failures = 0

    def read(self, most: int) -> bytes:
        """Return the next bytes.

        :param most: how many at most.
        :returns: at least one byte; none only at the part's end.
        :raises ReplacedError: the object was replaced or deleted.
        :raises Stopped: reading was ended.
        :raises CosError: the object store refused, or gave nothing for too long.
        """
        while self.at < self._end:
            try:
                data = self._opened().read(most)
            except CosError as error:
                self._broke(error)
            else:
                self._came(len(data))
                return data
        return b""

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes into memory, as many as there are; errors as for :meth:`read`.

        :param view: where they go.
        :returns: how many came: at least one; 0 only at the part's end.
        """
        while self.at < self._end:
            try:
                count = self._opened().readinto(view[: self._reader.most])
            except CosError as error:
                self._broke(error)
            else:
                self._came(count)
                return count
        return 0

    def close(self) -> None:
        """Close the stream that is open."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> RangeStream:
        if self._stream is None:
            self._stream = self._reader.open(self.at, self._end).__enter__()
        return self._stream

    def _came(self, count: int) -> None:
        self._reader.passed(count)
        self.at += count
        self._failures = 0

    def _broke(self, error: CosError) -> None:
        self.close()
        self._failures += 1
        self._reader.failed(error, self._failures)
