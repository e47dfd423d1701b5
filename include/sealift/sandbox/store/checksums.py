"""The digests that S3 clients send with a body, computed while it streams past and compared at its end.

MD5, SHA-1, SHA-256 and CRC-32 come from the standard library, CRC-32C and CRC-64/NVME from awscrt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from awscrt.checksums import crc32c, crc64nvme

from sealift.sandbox.store.errors import S3Error

ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
HEADER = "x-amz-checksum-"
# The length of each digest in bytes, to tell a malformed header from a wrong one.
_LENGTHS = {"crc32": 4, "crc32c": 4, "crc64nvme": 8, "sha1": 20, "sha256": 32}


class Digest(Protocol):
    """What hashlib's objects and the CRCs here have in common."""

    def update(self, data: memoryview, /) -> None:
        """Take in more bytes."""
        ...

    def digest(self) -> bytes:
        """Give the digest of all bytes so far."""
        ...


class _Crc:
    def __init__(self, compute: Callable[[memoryview, int], int], *, length: int) -> None:
        self._compute, self._length, self._crc = compute, length, 0

    def update(self, data: memoryview, /) -> None:
        self._crc = self._compute(data, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(self._length, "big")


def new_digest(algorithm: str) -> Digest:
    """Start a digest.

    :param algorithm: one of ``ALGORITHMS`` or ``md5``.
    """
    compute = {"crc32": zlib.crc32, "crc32c": crc32c, "crc64nvme": crc64nvme}.get(algorithm)
    if compute is not None:
        return _Crc(compute, length=_LENGTHS[algorithm])
    return hashlib.new(algorithm, usedforsecurity=False)


class Digests:
    """All digests of one body."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._digests = {name: new_digest(name) for name in algorithms}

    def update(self, data: memoryview) -> None:
        """Take in more bytes."""
        for digest in self._digests.values():
            digest.update(data)

    def hex(self, algorithm: str) -> str:
        """Give a digest in lower-case hex."""
        return self._digests[algorithm].digest().hex()

    def base64(self, algorithm: str) -> str:
        """Give a digest as S3's headers carry it."""
        return base64.b64encode(self._digests[algorithm].digest()).decode("ascii")


def wanted_algorithms(headers: Mapping[str, str]) -> set[str]:
    """Find which checksums a request announces: by header, by trailer, or by the SDK's name for the algorithm.

    :raises S3Error: InvalidRequest for an algorithm that S3 does not know.
    """
    names = [name.removeprefix(HEADER) for name in headers if name.startswith(HEADER)]
    names += [
        name.strip().lower().removeprefix(HEADER)
        for name in headers.get("x-amz-trailer", "").split(",")
        if name.strip().lower().startswith(HEADER)
    ]
    wanted = set(names) - {"type", "mode", "algorithm"}
    if unknown := wanted - set(ALGORITHMS):
        raise S3Error("InvalidRequest", f"The checksum algorithm {sorted(unknown)[0]!r} is not supported.")
    return wanted


def check_digests(digests: Digests, headers: Mapping[str, str]) -> dict[str, str]:
    """Compare the digests with what the request's headers and trailers say.

    :returns: the checksums that the client sent, base64 by algorithm.
    :raises S3Error: BadDigest, InvalidDigest, InvalidRequest.
    """
    if content_md5 := headers.get("content-md5"):
        _decode(content_md5, 16, "InvalidDigest", "Content-MD5")
        if digests.base64("md5") != content_md5.strip():
            raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")
    sent = {}
    for algorithm in ALGORITHMS:
        if claimed := headers.get(HEADER + algorithm):
            _decode(claimed, _LENGTHS[algorithm], "InvalidRequest", HEADER + algorithm)
            if digests.base64(algorithm) != claimed.strip():
                raise S3Error(
                    "BadDigest", f"The {algorithm.upper()} you specified did not match the calculated checksum."
                )
            sent[algorithm] = claimed.strip()
    return sent


def _decode(value: str, length: int, code: str, header: str) -> None:
    try:
        decoded = base64.b64decode(value.strip(), validate=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != length:
        raise S3Error(code, f"Value for {header} header is invalid.")


def composite(algorithm: str, parts: Iterable[str]) -> str:
    """Combine the parts' checksums as S3 does: the digest of the digests, then the number of parts.

    :param parts: base64 checksums of the parts in order.
    """
    digest, count = new_digest(algorithm), 0
    for part in parts:
        digest.update(memoryview(base64.b64decode(part)))
        count += 1
    return f"{base64.b64encode(digest.digest()).decode('ascii')}-{count}"
