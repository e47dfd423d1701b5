"""A part of an object as it arrives, for readers that take it piece by piece."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from sealift.cos.errors import CosError, CosPreconditionError, CosTransientError
from sealift.cos.verdict import Doing

T = TypeVar("T")

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)", re.ASCII)


class Guarded(Protocol):
    """Does something with the SDK, or with a connection; see :meth:`sealift.cos.connection.Connection.guarded`."""

    def __call__(self, doing: Doing, action: Callable[[], T]) -> T: ...


class Body(Protocol):
    """The bytes of a reply."""

    def read(self, most: int) -> bytes:
        """Return the next bytes: as many as asked for, but where the reply ends before; none at its end."""
        ...

    def readinto(self, view: memoryview) -> int:
        """Read what is there, at least one byte, into memory; returns how many, 0 at the end of the reply."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class SdkBody:
    """The SDK's stream as a :class:`Body`.

    :param stream: the SDK's.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, most: int) -> bytes:
        """See :class:`Body`."""
        data: bytes = self._stream.read(most)
        return data

    def readinto(self, view: memoryview) -> int:
        """See :class:`Body`; the SDK's stream returns only what has come in full."""
        data = self.read(min(len(view), 256 * 1024))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """See :class:`Body`."""
        self._stream.close()


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The head of a reply to a range read, and its body to come.

    :param status: its HTTP status.
    :param length: its Content-Length.
    :param content_range: its Content-Range, which says what part of the object it is.
    :param etag: its ETag, without quotes.
    :param body: its bytes.
    :param guarded: turns the errors of reading them into ours.
    """

    status: int
    length: int | None
    content_range: str | None
    etag: str
    body: Body
    guarded: Guarded


def range_stream(opened: Opened, doing: Doing, *, start: int, length: int, if_match: str | None) -> RangeStream:
    """Take a reply to a range read for what was asked for, if it is that.

    :param opened: the reply; it is closed where it is something else.
    :param doing: what the bytes are read for, for messages.
    :param start: the first byte that was asked for.
    :param length: how many were asked for.
    :param if_match: the ETag that was demanded, without quotes.
    :returns: the stream of these bytes.
    :raises CosPreconditionError: the store did not look at the ETag, and the object has another one.
    :raises CosError: it is another part of the object, or the whole.
    """
    about = {"bucket": doing.bucket, "key": doing.key}
    told = _CONTENT_RANGE.fullmatch(opened.content_range or "")
    failure: CosError | None = None
    if opened.status != 206:
        failure = CosError(f"the object store ignored the range when asked to {doing.what}", **about)
    elif if_match is not None and opened.etag != if_match:
        failure = CosPreconditionError(
            f"object {doing.key} in bucket {doing.bucket} has the ETag {opened.etag}, where {if_match} was demanded",
            **about,
        )
    elif opened.length != length:
        failure = CosError(
            f"object {doing.key} in bucket {doing.bucket} gave {opened.length} bytes at {start} where {length} were "
            "asked for",
            **about,
        )
    elif told is None or (int(told[1]), int(told[2])) != (start, start + length - 1):
        failure = CosError(
            f"the object store gave {opened.content_range or 'no one knows which bytes'} where bytes {start}-"
            f"{start + length - 1} were asked for, to {doing.what}",
            **about,
        )
    if failure is None:
        return RangeStream(body=opened.body, guarded=opened.guarded, doing=doing, length=length)
    opened.body.close()
    raise failure


class RangeStream:
    """The body of a reply to a range read. For one thread.

    :param body: its bytes.
    :param guarded: turns the errors of reading them into ours.
    :param doing: what the bytes are read for, for messages.
    :param length: how many bytes come.
    """

    def __init__(self, *, body: Body, guarded: Guarded, doing: Doing, length: int) -> None:
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
        wanted = min(most, self.left)
        if not wanted:
            return b""
        data = self._guarded(self._doing, lambda: self._body.read(wanted))
        self._passed(len(data))
        return data

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes into memory, as many as there are, without waiting until it is full.

        :param view: where they go.
        :returns: how many came: at least one; 0 only where all have been read, or the memory is empty.
        :raises CosTransientError: the stream ends before its end, or breaks.
        """
        wanted = min(len(view), self.left)
        if not wanted:
            return 0
        count = self._guarded(self._doing, lambda: self._body.readinto(view[:wanted]))
        self._passed(count)
        return count

    def fill(self, view: memoryview) -> None:
        """Read until memory is full.

        :param view: where the bytes go; no more of them than are left.
        :raises CosTransientError: the stream ends before its end, or breaks.
        """
        while view:
            view = view[self.readinto(view) :]

    def _passed(self, count: int) -> None:
        if not count:
            raise CosTransientError(
                f"the object store failed for now to {self._doing.what} (the connection broke before the whole reply "
                f"had come: {self.left} bytes are missing)",
                bucket=self._doing.bucket,
                key=self._doing.key,
            )
        self.left -= count

    def close(self) -> None:
        """Close the stream; a connection is kept for the next request only where all bytes have been read."""
        self._body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
