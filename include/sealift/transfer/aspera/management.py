"""What ascp tells while it works: frames of lines on a TCP connection that it makes to us (option ``-M``).

A frame begins with the line ``FASPMGR 2``, goes on with lines ``Name: value``, and ends with an empty line. Its
``Type`` is ``INIT``, ``SESSION``, ``STATS``, ``STOP``, ``FILEERROR``, ``DONE``, ``ERROR`` or another one. Sources: the
description of these events in IBM's package cos_aspera, IBM/aspera-cli's ``ascp/management.rb``, and the tests of IBM's
SDK for Java.

Any process of this machine can connect here, so nothing that comes is believed: it is bounded, what is no frame is
passed over, and the file that arrives is checked whatever was told of it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HEADER: Final = b"FASPMGR 2"
LONGEST_LINE: Final = 64 * 1024
"""Bytes; a frame's tags are one line, in base64."""

MOST_FIELDS: Final = 256
LARGEST_FRAME: Final = 256 * 1024
"""Bytes of one frame."""

_READ = 64 * 1024
_MOST_READS = 64
_LONGEST_NUMBER = 19


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One message of ascp.

    :param fields: by name, as ascp writes them (``TransferBytes``).
    """

    fields: Mapping[str, str]

    @property
    def type(self) -> str:
        """As ``STATS``; empty where the frame names none."""
        return self.fields.get("Type", "")

    def number(self, name: str) -> int | None:
        """Read a number that is not negative.

        :param name: the field.
        :returns: None where there is no such field, or it holds something else.
        """
        text = self.fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else None

    def text(self, name: str) -> str:
        """Read a text.

        :param name: the field.
        :returns: empty where there is no such field.
        """
        return self.fields.get(name, "")


class FrameReader:
    """Reads frames out of bytes that come in pieces of any length. Holds no more than one frame and one line."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._too_long = False
        self._fields: dict[str, str] | None = None
        self._size = 0
        self.dropped = 0
        """Lines and frames that were passed over: none of ours, or too long."""

    def feed(self, data: bytes) -> list[Frame]:
        """Take in some bytes.

        :param data: the next ones.
        :returns: the frames that they complete.
        """
        frames: list[Frame] = []
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._extend(end)
            line, too_long = bytes(self._line), self._too_long
            self._line.clear()
            self._too_long = False
            if too_long:
                self._drop_frame()
                continue
            frame = self._take(line.removesuffix(b"\r"))
            if frame is not None:
                frames.append(frame)
        self._extend(rest)
        return frames

    def _extend(self, data: bytes) -> None:
        room = LONGEST_LINE - len(self._line)
        if len(data) > room:
            self._too_long = True
        if not self._too_long:
            self._line += data

    def _take(self, line: bytes) -> Frame | None:
        if line == HEADER:
            if self._fields is not None:  # the one before it has no end
                self.dropped += 1
            self._fields, self._size = {}, 0
            return None
        if self._fields is None:
            self.dropped += bool(line)
            return None
        if not line:
            fields, self._fields = self._fields, None
            return Frame(fields=fields)
        name, colon, value = line.partition(b":")
        self._size += len(line)
        if not colon or len(self._fields) >= MOST_FIELDS or self._size > LARGEST_FRAME:
            self._drop_frame()
            return None
        self._fields[name.decode("utf-8", "replace")] = value.removeprefix(b" ").decode("utf-8", "replace")
        return None

    def _drop_frame(self) -> None:
        self.dropped += 1
        self._fields = None


class ManagementPort:
    """Listens on loopback for the one connection that ascp makes, and reads its frames. For one thread."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0), backlog=1)
        self.port: int = self._listener.getsockname()[1]
        self._connection: socket.socket | None = None
        self._reader = FrameReader()
        self.connected = False
        """Whether ascp has connected."""

    def read(self, timeout: float) -> list[Frame]:
        """Wait for frames.

        :param timeout: seconds at most.
        :returns: those that came; none at the latest when the time is over.
        """
        if self._connection is None and self._listener is None:
            time.sleep(timeout)
            return []
        return self._read(timeout) or []

    def rest(self) -> list[Frame]:
        """Read what has come and was not read yet, without waiting.

        :returns: the frames, as many as a program that ends can have left unread.
        """
        frames: list[Frame] = []
        for _ in range(_MOST_READS):
            more = self._read(0)
            if more is None:
                break
            frames += more
        return frames

    def close(self) -> None:
        """Close what is open."""
        for one in (self._connection, self._listener):
            if one is not None:
                one.close()
        self._connection = self._listener = None

    def _read(self, timeout: float) -> list[Frame] | None:
        """Accept the connection, or read from it once; None where nothing came."""
        try:
            if self._connection is not None:
                self._connection.settimeout(timeout)
                return self._receive(self._connection)
            if self._listener is not None:
                self._listener.settimeout(timeout)
                self._accept(self._listener)
                return []
        except (TimeoutError, BlockingIOError):
            pass
        return None

    def _accept(self, listener: socket.socket) -> None:
        self._connection, _ = listener.accept()
        self.connected = True
        # Whoever comes later is refused.
        listener.close()
        self._listener = None

    def _receive(self, connection: socket.socket) -> list[Frame]:
        try:
            data = connection.recv(_READ)
        except ConnectionError:
            data = b""
        if not data:
            connection.close()
            self._connection = None
            return []
        return self._reader.feed(data)
