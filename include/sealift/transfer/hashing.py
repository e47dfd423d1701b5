"""The digests of a file whose pieces arrive out of order: hashed from memory, and from disk what was there before.

A digest needs the bytes in their order, several streams bring them out of order. Pieces that come early wait in memory,
up to a bound; the streams that are ahead wait with theirs. Parts of an earlier try are read back from the file.

Two digests are made: SHA-256, and the CRC-64/NVME that the object store computes itself, which costs a twentieth of it.
"""

from __future__ import annotations

import base64
import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from sealift.transfer.errors import Stopped

READ_BACK: Final = 1024 * 1024
"""Bytes read at once from the file."""

BLOCK: Final = 1024 * 1024
"""Bytes of memory that are lent at once. Smaller ones cost more handovers between threads than hashing takes."""

NEAR: Final = 1024 * 1024
"""A piece that begins so few bytes after what is hashed is taken however much waits: it is what the others wait for."""


Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, kw_only=True)
class ReadDigests:
    """The digests of bytes that were read.

    :param sha256: SHA-256 in hexadecimal digits.
    :param crc64nvme: CRC-64/NVME as S3's headers carry it: base64 of eight bytes, the highest first.
    """

    sha256: str
    crc64nvme: str


class HashInOrder:
    """Hashes a file's bytes in their order, in a thread of its own.

    Bytes come as pieces that :meth:`put` hands over, or in blocks of memory that :meth:`block` lends and
    :meth:`put_block` gives back; not both.

    :param size: the file's size in bytes.
    :param part_size: bytes of each part but the last.
    :param read_back: reads (offset, length) of the file, exactly.
    :param on_disk: numbers of the parts that are in the file already.
    :param budget: bytes that may wait in memory.
    """

    def __init__(
        self,
        *,
        size: int,
        part_size: int,
        read_back: Callable[[int, int], bytes],
        on_disk: Collection[int],
        budget: int,
    ) -> None:
        self._size = size
        self._part_size = part_size
        self._read_back = read_back
        self._on_disk = frozenset(on_disk)
        self._budget = budget
        from awscrt.checksums import crc64nvme  # brings a library of 12 MB, which only transfers need

        self._sha256 = hashlib.sha256()
        self._crc64nvme: Callable[[Bytes, int], int] = crc64nvme
        self._crc = 0
        self._pieces: dict[int, tuple[Bytes, memoryview | None]] = {}
        self._waiting = 0
        self._at = 0
        self._lent: set[int] = set()
        self._free: list[memoryview] = []
        self._stopped = False
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        """Something can be hashed."""
        self._room = threading.Condition(self._lock)
        """Something was hashed; for those who put pieces."""
        self._asking: dict[int, threading.Condition] = {}
        """Those who wait for a block, by where its bytes will begin."""
        self._thread = threading.Thread(target=self._run, name="sealift-hash", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, offset: int, data: bytes | bytearray) -> None:
        """Hand over a piece that is in no part on disk; waits while too much waits in memory.

        :param offset: where it begins in the file.
        :param data: its bytes.
        """
        with self._room:
            self._room.wait_for(
                lambda: self._stopped or self._waiting + len(data) <= self._budget or offset <= self._at + NEAR
            )
            self._keep(offset, data, None)

    def block(self, offset: int) -> memoryview:
        """Lend memory for bytes that are in no part on disk; waits while too much waits to be hashed.

        :param offset: where they will begin in the file: at the beginning of a part, or where the block before ended.
        :returns: :data:`BLOCK` bytes, at the beginning of a page of memory.
        :raises Stopped: hashing has ended.
        """
        with self._lock:
            if not self._may_lend(offset):
                # Each waits by itself: what is hashed makes room for one, and waking all of them costs processor time.
                self._asking[offset] = threading.Condition(self._lock)
                self._asking[offset].wait_for(lambda: self._may_lend(offset))
                del self._asking[offset]
            if self._stopped:
                raise Stopped
            self._lent.add(offset)
            self._let_ask()
            if self._free:
                return self._free.pop()
        return memoryview(mmap.mmap(-1, BLOCK))

    def put_block(self, offset: int, block: memoryview, length: int) -> None:
        """Give a block back, to be hashed.

        :param offset: where its bytes begin in the file.
        :param block: what :meth:`block` lent.
        :param length: how many bytes it holds.
        """
        with self._room:
            self._lent.discard(offset)
            self._keep(offset, block[:length], block)

    def _may_lend(self, offset: int) -> bool:
        return self._stopped or offset == self._at or self._ahead < self._budget

    def _let_ask(self) -> None:
        """Wake the one that waits for memory and can have it: first who brings what the digest waits for."""
        chosen = self._asking.get(self._at) or next(iter(self._asking.values()), None)
        if chosen is not None and (self._at in self._asking or self._ahead < self._budget):
            chosen.notify()

    @property
    def _ahead(self) -> int:
        """Memory that is lent or waits, but that for the bytes that the digest waits for: these always get a block."""
        at = self._at
        return (len(self._lent) + len(self._pieces) - (at in self._lent) - (at in self._pieces)) * BLOCK

    def _keep(self, offset: int, data: Bytes, block: memoryview | None) -> None:
        if self._stopped:
            return
        self._pieces[offset] = (data, block)
        self._waiting += len(data)
        if offset == self._at:
            self._came.notify()

    def stop(self) -> None:
        """End without a digest; whoever waits goes on."""
        with self._room:
            self._end()
        if self._thread.is_alive():
            self._thread.join()

    def _end(self) -> None:
        self._stopped = True
        self._came.notify_all()
        self._room.notify_all()
        for one in self._asking.values():
            one.notify_all()

    @property
    def error(self) -> BaseException | None:
        """What ended the hashing early."""
        return self._error

    def digests(self) -> ReadDigests:
        """Wait until every byte is hashed.

        :returns: the digests.
        :raises OSError: the file could not be read back.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return ReadDigests(sha256=self._sha256.hexdigest(), crc64nvme=_as_header(self._crc))

    def _take(self, data: Bytes) -> None:
        self._sha256.update(data)
        self._crc = self._crc64nvme(data, self._crc)

    def _run(self) -> None:
        try:
            while self._at < self._size:
                part = self._at // self._part_size
                if part in self._on_disk:
                    self._hash_from_disk(min((part + 1) * self._part_size, self._size))
                elif not self._hash_from_memory():
                    return
        except BaseException as error:  # noqa: BLE001 - kept for the thread that asks for the digest
            with self._room:
                self._error = error
                self._end()

    def _hash_from_disk(self, end: int) -> None:
        while self._at < end and not self._stopped:
            data = self._read_back(self._at, min(READ_BACK, end - self._at))
            self._take(data)
            with self._room:
                self._at += len(data)
                self._room.notify_all()
                self._let_ask()
        if self._stopped:
            self._at = self._size

    def _hash_from_memory(self) -> bool:
        with self._came:
            self._came.wait_for(lambda: self._stopped or self._at in self._pieces)
            if self._stopped:
                return False
            data, block = self._pieces.pop(self._at)
        self._take(data)
        with self._room:
            self._at += len(data)
            self._waiting -= len(data)
            if block is not None:
                self._free.append(block)
            self._room.notify_all()
            self._let_ask()
        return True


def digests_of_file(path: str | os.PathLike[str], *, passed: Callable[[int], None] | None = None) -> ReadDigests:
    """Compute a file's digests.

    :param path: the file.
    :param passed: told how many bytes were read, from time to time.
    :returns: its digests.
    :raises OSError: the file cannot be read.
    """
    from awscrt.checksums import crc64nvme

    sha256, crc = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(READ_BACK):
            sha256.update(data)
            crc = crc64nvme(data, crc)
            if passed is not None:
                passed(len(data))
    return ReadDigests(sha256=sha256.hexdigest(), crc64nvme=_as_header(crc))


def _as_header(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode("ascii")
