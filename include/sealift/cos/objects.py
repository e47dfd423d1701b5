"""One object, looked at or read in part, once: by a connection of our own where that may be, by the SDK otherwise."""

from __future__ import annotations

from typing import Any

from sealift.cos.connection import Connection
from sealift.cos.direct import head_fields
from sealift.cos.models import unquoted
from sealift.cos.streams import Opened, RangeStream, SdkBody, range_stream
from sealift.cos.verdict import Doing


class Objects:
    """Looks at and reads objects. May be used by many threads.

    :param connection: makes the requests.
    """

    def __init__(self, *, connection: Connection) -> None:
        self._connection = connection

    def look(self, doing: Doing, *, first_part_of: str | None = None) -> dict[str, Any]:
        """Make a HEAD.

        :param doing: which object, and what for.
        :param first_part_of: only its first part, and only while the object has this ETag.
        :returns: what the store says, by the SDK's names.
        :raises CosError: the store refused or failed.
        """
        part: dict[str, Any] = {} if first_part_of is None else {"PartNumber": 1, "IfMatch": f'"{first_part_of}"'}
        if not self._connection.goes_directly:
            extra = part or {"ChecksumMode": "ENABLED"}
            return self._connection.call("head_object", doing, Bucket=doing.bucket, Key=doing.key, **extra)
        headers = {"If-Match": part["IfMatch"]} if part else {"x-amz-checksum-mode": "ENABLED"}
        reply = self._connection.ask("HEAD", doing, headers=headers, query="partNumber=1" if part else "")
        reply.close()
        return head_fields(reply, doing)

    def open(self, doing: Doing, *, start: int, length: int, if_match: str | None) -> RangeStream:
        """Begin to read a part of an object, and make sure that it is the one asked for.

        :param doing: which object, and what for.
        :param start: the first byte, from 0.
        :param length: how many bytes, at least one.
        :param if_match: the ETag that the object must have, without quotes; empty or None for any.
        :returns: the stream.
        :raises CosPreconditionError: the object has another ETag.
        :raises CosNotFoundError: there is no such object.
        :raises CosError: the store refused or failed, or gives something else.
        """
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        if if_match:
            headers["If-Match"] = f'"{if_match}"'
        opened = self._directly(doing, headers) if self._connection.goes_directly else self._by_sdk(doing, headers)
        return range_stream(opened, doing, start=start, length=length, if_match=if_match or None)

    def read(self, doing: Doing, *, start: int, length: int, if_match: str | None) -> bytes:
        """Read a part of an object. Errors as for :meth:`open`.

        :param doing: which object, and what for.
        :param start: the first byte, from 0.
        :param length: how many bytes, at least one.
        :param if_match: the ETag that the object must have, without quotes; empty or None for any.
        :returns: its bytes: as many as were asked for.
        """
        with self.open(doing, start=start, length=length, if_match=if_match) as stream:
            pieces = [stream.read(length)]
            while stream.left:
                pieces.append(stream.read(stream.left))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, doing: Doing, view: memoryview, *, start: int, if_match: str | None) -> None:
        """Read a part of an object into memory, which it fills. Errors as for :meth:`open`.

        :param doing: which object, and what for.
        :param view: where the bytes go: as many as it is long.
        :param start: the first byte, from 0.
        :param if_match: the ETag that the object must have, without quotes; empty or None for any.
        """
        with self.open(doing, start=start, length=len(view), if_match=if_match) as stream:
            stream.fill(view)

    def _directly(self, doing: Doing, headers: dict[str, str]) -> Opened:
        reply = self._connection.ask("GET", doing, headers=headers)
        return Opened(
            status=reply.status,
            length=reply.length,
            content_range=reply.headers.get("Content-Range"),
            etag=unquoted(reply.headers["ETag"]),
            body=reply,
            guarded=self._connection.guarded_directly,
        )

    def _by_sdk(self, doing: Doing, headers: dict[str, str]) -> Opened:
        named = {name.replace("-", ""): one for name, one in headers.items()}
        told = self._connection.call("get_object", doing, Bucket=doing.bucket, Key=doing.key, **named)
        return Opened(
            status=told.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
            length=told.get("ContentLength"),
            content_range=told.get("ContentRange"),
            etag=unquoted(told["ETag"]),
            body=SdkBody(told["Body"]),
            guarded=self._connection.guarded,
        )
