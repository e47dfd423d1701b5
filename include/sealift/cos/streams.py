"""A part of an object as it arrives, for readers that take it piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from sealift.cos.errors import CosTransientError
from sealift.cos.verdict import Doing

T = TypeVar("T")


class Guarded(Protocol):
    """Does something with the SDK; see :meth:`sealift.cos.connection.Connection.guarded`."""

    def __call__(self, doing: Doing, action: Callable[[], T]) -> T: ...


class RangeStream:
    """The body of a reply to a range read. For one thread.

    :param body: the SDK's stream.
    :param guarded: turns the SDK's errors into ours.
    :param doing: what the bytes are read for, for messages.
    :param length: how many bytes come.
    """

    def __init__(self, *, body: Any, guarded: Guarded, doing: Doing, length: int) -> None:
        self._body = body
        self._guarded = guarded
        self._doing = doing
        self.left = length
        """Bytes that have not been read."""

    def read(self, most: int) -> bytes:
        """Return the next bytes.

        :param most: how many at most.
        :returns: at least one byte; none only where all have been read.
        :raises CosTransientError: the stream ends before its end, or breaks.
        """
        if not self.left:
            return b""
        wanted = min(most, self.left)
        data: bytes = self._guarded(self._doing, lambda: self._body.read(wanted))
        if not data:
            raise CosTransientError(
                f"the reply ended {self.left} bytes early when the object store was asked to {self._doing.what}",
                bucket=self._doing.bucket,
                key=self._doing.key,
            )
        self.left -= len(data)
        return data

    def close(self) -> None:
        """Close the stream; a connection is kept for the next request only where all bytes have been read."""
        self._body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
