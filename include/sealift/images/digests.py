"""The digests that a proof of every byte computes, and those that it compares them with.

- **SHA-256** is what people and other platforms compare with. Nobody keeps it for an export before it was read once.
- **CRC-64/NVME** of the whole object is what the object store itself computes, where it does (COS API reference,
  ``x-amz-checksum-crc64nvme``, type ``FULL_OBJECT``). Whether objects that ``copyToIcos`` writes have one is not
  confirmed.
- The **ETag** of an object that came in parts is the MD5 of the parts' MD5s, and of one that came in one piece its MD5.
  With a customer's key in each request (SSE-C) it is random, by IBM's page on it; an export cannot be written so. With
  Key Protect it is said to be the MD5 of what was sent, which is not confirmed. So it is a digest that the store keeps
  of every object; MD5 is slow, and only computed where there is no CRC.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sealift.images.verdict import Checks

_CHUNK: Final = 256 * 1024
"""Bytes that one digest takes in after the other while they are in the processor's cache."""

_MD5_ETAG: Final = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]*)?")


@dataclass(frozen=True, kw_only=True)
class KnownDigests:
    """What is known of a file's bytes before they are read.

    :param sha256: its SHA-256 in hexadecimal digits.
    :param crc64nvme: its CRC-64/NVME as S3's headers carry it: base64 of eight bytes, the highest first.
    :param etag: the object's ETag without quotes; None where it is not to be compared.
    :param part_size: bytes of each part but the last, where the object came in parts and the store tells.
    """

    sha256: str | None = None
    crc64nvme: str | None = None
    etag: str | None = None
    part_size: int | None = None

    def parts_of(self, size: int) -> int | None:
        """Say how many parts an ETag was made of, where it can be computed again.

        :param size: the object's size in bytes.
        :returns: the number of parts, 0 for a plain MD5; None where the ETag is none that can be computed.
        """
        if self.etag is None or not _MD5_ETAG.fullmatch(self.etag):
            return None
        _, dash, count = self.etag.partition("-")
        if not dash:
            return 0
        if self.part_size is None or -(-size // self.part_size) != int(count):
            return None
        return int(count)


class Digesting:
    """Computes the digests of bytes that come in their order.

    :param size: how many bytes come.
    :param known: what they are compared with; decides whether MD5 is computed.
    """

    def __init__(self, *, size: int, known: KnownDigests) -> None:
        from awscrt.checksums import crc64nvme  # brings a library of 12 MB, and only this level needs it

        self._known = known
        self._sha256 = hashlib.sha256()
        self._crc64nvme: Callable[[memoryview, int], int] = crc64nvme
        self._crc = 0
        self._parts = known.parts_of(size) if known.crc64nvme is None else None
        """How many parts the ETag was made of, 0 for a plain MD5; None where it is not computed."""
        self._part_size = (known.part_size if self._parts else None) or max(size, 1)
        self._part_md5s: list[bytes] = []
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._in_part = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take in the next bytes.

        :param data: any number of bytes.
        """
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK):
            chunk = view[start : start + _CHUNK]
            self._sha256.update(chunk)
            self._crc = self._crc64nvme(chunk, self._crc)
        if self._parts is not None:
            self._update_md5(view)

    def _update_md5(self, data: memoryview) -> None:
        while data:
            piece = data[: self._part_size - self._in_part]
            self._md5.update(piece)
            self._in_part += len(piece)
            data = data[len(piece) :]
            if self._in_part == self._part_size:
                self._end_part()

    def _end_part(self) -> None:
        self._part_md5s.append(self._md5.digest())
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._in_part = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes so far, in hexadecimal digits."""
        return self._sha256.hexdigest()

    @property
    def crc64nvme(self) -> str:
        """The CRC-64/NVME of the bytes so far, as S3's headers carry it."""
        return base64.b64encode(self._crc.to_bytes(8, "big")).decode("ascii")

    def _etag(self) -> str:
        if self._in_part or not self._part_md5s:
            self._end_part()
        if not self._parts:
            return self._part_md5s[0].hex()
        return f"{hashlib.md5(b''.join(self._part_md5s), usedforsecurity=False).hexdigest()}-{len(self._part_md5s)}"

    def compare(self, checks: Checks) -> None:
        """Compare what was computed with what was known; all bytes have been taken in.

        :param checks: where the findings go: one for each digest that was known, or one that says that none was.
        """
        known = self._known
        found = [("sha256", "SHA-256", self.sha256, known.sha256, "was read before")]
        found.append(("crc64nvme", "CRC-64/NVME", self.crc64nvme, known.crc64nvme, "is what the object store computed"))
        if self._parts is not None:
            found.append(("etag", "ETag", self._etag(), known.etag, "is what the object store computed"))
        compared = 0
        for id_, name, computed, expected, whose in found:
            if expected is None:
                continue
            compared += 1
            checks.record(
                id_,
                computed == expected,
                f"{name} {computed}"
                + (f", as {whose.removeprefix('is ')}" if computed == expected else f", but {expected} {whose}"),
            )
        if not compared:
            checks.record("sha256", True, f"SHA-256 {self.sha256}: read for the first time, nothing to compare with")
