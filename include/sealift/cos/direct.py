"""Looks at and reads objects without the SDK's client: the bytes of a reply go straight into the caller's memory.

The SDK brings a body in pieces that it allocates, copies and hands on; for an image of gigabytes that, and loading and
making its client, took more processor time than the digest of the same bytes. This makes the two requests of which
there are many and that move all the bytes, GET and HEAD of an object; the SDK's client makes all others.

What it promises is the same: each request is made exactly once, errors are those of :mod:`sealift.cos.verdict`, and the
same certificates are trusted. Where the surroundings demand a proxy, it is not used at all.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from sealift import __version__
from sealift.cos.errors import CosError, CosTransientError
from sealift.cos.network import trusting
from sealift.cos.redact import Redactor
from sealift.cos.signing import Signs
from sealift.cos.verdict import Doing, error_of_reply, error_on_the_way

T = TypeVar("T")

MOST_IDLE: Final = 16
"""Connections that are kept for later requests."""

_USER_AGENT: Final = f"sealift/{__version__}"
_LONGEST_ERROR: Final = 64 * 1024


class Direct:
    """Makes requests of one endpoint with one key, each exactly once. May be used by many threads.

    :param endpoint_url: the endpoint.
    :param sign: gives the headers that make a request one of the key's.
    :param timeout: seconds to wait for the connection, and then for each piece of a reply.
    :param verify: False, True, or the path of a CA bundle.
    :param redact: takes the secrets out of messages.
    """

    def __init__(self, *, endpoint_url: str, sign: Signs, timeout: float, verify: bool | str, redact: Redactor) -> None:
        parts = urlsplit(endpoint_url)
        self._https = parts.scheme == "https"
        self._name = parts.hostname or ""
        self._port = parts.port or (443 if self._https else 80)
        shown = f"[{self._name}]" if ":" in self._name else self._name
        self._host = shown if self._port == (443 if self._https else 80) else f"{shown}:{self._port}"
        self._path = quote(parts.path.rstrip("/"), safe="/~%")
        self._sign = sign
        self._timeout = timeout
        self._verify = verify
        self._redact = redact
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"Direct({self._host})"

    def close(self) -> None:
        """Close the connections that wait for a request; a later one opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()

    def ask(self, method: str, doing: Doing, *, headers: Mapping[str, str], query: str = "") -> Reply:
        """Make a request for the object that is being looked at or read.

        :param method: ``GET`` or ``HEAD``.
        :param doing: which object, and what for.
        :param headers: as ``Range`` and ``If-Match``.
        :param query: as ``partNumber=1``.
        :returns: the reply, of a status below 300; close it, or read it to its end.
        :raises CosError: without a cause or context, which could hold a request.
        """
        path = f"{self._path}/{quote(doing.bucket or '')}/{quote(doing.key or '', safe='/~')}"
        path += f"?{query}" if query else ""
        signed = self._sign(method, path, {"Host": self._host, **headers})
        connection = self._idle_one()
        if connection is None:
            connection = self._connect(doing)
        kept = False
        try:
            response = self.guarded(doing, lambda: _sent(connection, method, path, signed))
            if response.status < 300:
                kept = True
                return Reply(response, give_back=lambda whole: self._give_back(connection, whole=whole))
            body = self.guarded(doing, lambda: response.read(_LONGEST_ERROR))
            kept = response.isclosed()
            if kept:
                self._give_back(connection, whole=True)
        finally:
            if not kept:
                connection.close()
        raise error_of_reply(response.status, body, doing=doing, redact=self._redact)

    def guarded(self, doing: Doing, action: Callable[[], T], *, connected: bool = True) -> T:
        """Do something with a connection, and raise our own errors in the place of its.

        :param doing: what it is for, for messages.
        :param action: what to do.
        :param connected: whether the connection has been made.
        :returns: what the action returns.
        :raises CosError: without a cause or context.
        """
        failure: CosError
        try:
            return action()
        except (OSError, http.client.HTTPException) as error:
            failure = error_on_the_way(error, connected=connected, doing=doing, redact=self._redact)
        # Outside of the handler, so that it has no context.
        raise failure

    # -- connections -------------------------------------------------------------------------------------------------

    def _connect(self, doing: Doing) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._https:
            context = self._trusting(doing)
            connection = http.client.HTTPSConnection(self._name, self._port, timeout=self._timeout, context=context)
        else:
            connection = http.client.HTTPConnection(self._name, self._port, timeout=self._timeout)
        self.guarded(doing, connection.connect, connected=False)
        return connection

    def _trusting(self, doing: Doing) -> ssl.SSLContext:
        """What the SDK would trust, by the same settings."""
        with self._lock:
            if self._tls is None:
                self._tls = self.guarded(doing, lambda: trusting(self._verify), connected=False)
            return self._tls

    def _idle_one(self) -> http.client.HTTPConnection | None:
        """A connection that the store has not closed meanwhile."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not _has_something_to_say(connection):
                return connection
            connection.close()

    def _give_back(self, connection: http.client.HTTPConnection, *, whole: bool) -> None:
        # After "Connection: close" http.client has closed it itself.
        if whole and connection.sock is not None:
            with self._lock:
                if len(self._idle) < MOST_IDLE:
                    self._idle.append(connection)
                    return
        connection.close()


class Reply:
    """A reply whose body has not been read. For one thread.

    :param response: what ``http.client`` made of its head.
    :param give_back: is told, once, whether the body was read to its end, so that the connection is good for another.
    """

    def __init__(self, response: http.client.HTTPResponse, *, give_back: Callable[[bool], None]) -> None:
        self._response = response
        self._give_back: Callable[[bool], None] | None = give_back
        self.status = response.status
        self.headers = response.headers
        """By name, in any case."""
        self._left = response.length or 0
        if not self._left:
            self.close()

    @property
    def length(self) -> int | None:
        """How long the object, or the part of it, is by the reply's head; None where it does not say."""
        told = self.headers.get("Content-Length", "")
        return int(told) if told.isascii() and told.isdecimal() else None

    def read(self, most: int) -> bytes:
        """Return the next bytes: as many as asked for, but where the reply ends or breaks off before.

        :param most: how many.
        """
        data = self._response.fp.read(min(most, self._left)) if self._left else b""
        self._passed(len(data))
        return data

    def readinto(self, view: memoryview) -> int:
        """Read what is there, at least one byte, into memory.

        :param view: where the bytes go.
        :returns: how many came; 0 where the reply is over.
        """
        if not self._left:
            return 0
        count = self._response.fp.readinto1(view[: self._left])
        self._passed(count)
        return count

    def close(self) -> None:
        """Close the reply. A second time does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            self._response.close()
            give_back(not self._left)

    def _passed(self, count: int) -> None:
        self._left -= count
        if not self._left:
            self.close()


def head_fields(reply: Reply, doing: Doing) -> dict[str, Any]:
    """Read what a reply to a HEAD says of an object.

    :param reply: the reply.
    :param doing: what was asked, for messages.
    :returns: by the SDK's names.
    :raises CosTransientError: it does not say how long the object is, or when it was written.
    """
    headers, size = reply.headers, reply.length
    try:
        modified = parsedate_to_datetime(headers.get("Last-Modified", ""))
    except ValueError:
        modified = None
    if size is None or modified is None:
        raise CosTransientError(
            f"the object store's reply lacks the object's length or time when asked to {doing.what}",
            bucket=doing.bucket,
            key=doing.key,
        )
    return {
        "ContentLength": size,
        "ETag": headers["ETag"],
        "LastModified": modified if modified.tzinfo else modified.replace(tzinfo=UTC),
        "ChecksumCRC64NVME": headers.get("x-amz-checksum-crc64nvme"),
        "VersionId": headers.get("x-amz-version-id"),
    }


def _sent(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    # Not among what is signed: whatever stands between may change it.
    connection.request(method, path, headers={"User-Agent": _USER_AGENT, **headers})
    return connection.getresponse()


def _has_something_to_say(connection: http.client.HTTPConnection) -> bool:
    """Whether a connection on which nothing was asked can be read: the store closed it, or it is of no use."""
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        return bool(poll.poll(0))
    return True
