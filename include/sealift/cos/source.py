"""An object in a bucket as a source of bytes that is read by ranges, without downloading it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from sealift.cos.errors import CosError
from sealift.cos.models import ObjectInfo


class ReadsRanges(Protocol):
    """The one call of the client that is needed here."""

    def read_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str | None = None) -> bytes:
        """See :meth:`sealift.cos.client.CosClient.read_range`."""
        ...


@runtime_checkable
class ReadsRangesInto(Protocol):
    """A client that reads into memory that is there."""

    def read_range_into(
        self, bucket: str, key: str, view: memoryview, *, start: int, if_match: str | None = None
    ) -> None:
        """See :meth:`sealift.cos.client.CosClient.read_range_into`."""
        ...


class ObjectSource:
    """Reads ranges of one version of an object, and counts what it read.

    :param client: the object store.
    :param bucket: the bucket.
    :param key: the object.
    :param info: what the store said of the object; every read demands that its ETag is still the same.
    """

    def __init__(self, *, client: ReadsRanges, bucket: str, key: str, info: ObjectInfo) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._etag = info.etag
        self._size = info.size
        self.bytes_read = 0
        self.requests = 0

    @property
    def size(self) -> int:
        """Length of the object in bytes."""
        return self._size

    def __repr__(self) -> str:
        return f"ObjectSource({self._bucket}/{self._key}, {self._size} bytes)"

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :returns: the bytes.
        :raises CosError: where the object does not have all of these bytes.
        :raises CosPreconditionError: where the object was replaced since.
        """
        self._check(offset, length)
        if length == 0:
            return b""
        data = self._client.read_range(self._bucket, self._key, start=offset, length=length, if_match=self._etag)
        self._count(len(data))
        return data

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill memory with the bytes from ``offset`` on; errors as for :meth:`read`.

        :param offset: first byte, from 0.
        :param view: where the bytes go: as many as it is long.
        """
        self._check(offset, len(view))
        if not isinstance(self._client, ReadsRangesInto):
            view[:] = self.read(offset, len(view))
        elif view:
            self._client.read_range_into(self._bucket, self._key, view, start=offset, if_match=self._etag)
            self._count(len(view))

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self._size:
            raise CosError(
                f"object {self._key} has {self._size} bytes; bytes {offset} to {offset + length} were asked for",
                bucket=self._bucket,
                key=self._key,
            )

    def _count(self, length: int) -> None:
        self.requests += 1
        self.bytes_read += length
