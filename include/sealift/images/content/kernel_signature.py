"""Compares a signed kernel with the digest that its signature is for.

Distributions sign kernels for UEFI's Secure Boot. The signature lies behind the kernel and holds a SHA-256 of all
bytes but itself and the two fields that signing changes: so it shows every changed bit, whoever signed. Whether the
signature is one that a firmware accepts is not asked. After Microsoft's "Windows Authenticode Portable Executable
Signature Format".
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from typing import Final

from sealift.images.content.decompression import Readable

CHUNK: Final = 1024 * 1024
LARGEST_SIGNATURE: Final = 128 * 1024

_PE_AT: Final = 0x3C
_OPTIONAL_AT: Final = 24
_CHECKSUM_AT: Final = 64
_DIRECTORIES: Final = {0x10B: 96, 0x20B: 112}
"""Where the directories are in the optional header, by its magic number."""
_SECURITY: Final = 4
_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""What comes before a SHA-256 in a signature: DigestInfo with the algorithm's identifier, in DER."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signed:
    """Where a signature is, and what it leaves out. Places are bytes of the file."""

    checksum_at: int
    entry_at: int
    start: int
    size: int


def find_signature(head: bytes, size: int) -> Signed | None:
    """Find the signature of a kernel.

    :param head: its first bytes, at least 1024.
    :param size: of the file.
    :returns: None where it has none.
    """
    (pe,) = struct.unpack_from("<I", head, _PE_AT)
    optional = pe + _OPTIONAL_AT
    if head[:2] != b"MZ" or optional + 160 > len(head) or head[pe : pe + 4] != b"PE\0\0":
        return None
    directories = _DIRECTORIES.get(struct.unpack_from("<H", head, optional)[0])
    if directories is None:
        return None
    entry = optional + directories + _SECURITY * 8
    if entry + 8 > len(head):
        return None
    start, length = struct.unpack_from("<II", head, entry)
    if not start or not 0 < length <= LARGEST_SIGNATURE or start + length > size or start <= entry:
        return None
    return Signed(checksum_at=optional + _CHECKSUM_AT, entry_at=entry, start=start, size=length)


def signature_is_for(file: Readable, signed: Signed) -> bool | None:
    """Say whether a kernel's bytes are those that its signature is for.

    :param file: the kernel.
    :param signed: where its signature is.
    :returns: None where the signature holds no SHA-256.
    """
    signature = file.read(signed.start, signed.size)
    wanted = []
    at = signature.find(_DIGEST_INFO)
    while at >= 0:
        at += len(_DIGEST_INFO)
        wanted.append(signature[at : at + 32])
        at = signature.find(_DIGEST_INFO, at)
    if not wanted:
        return None
    digest = hashlib.sha256()
    parts = (
        (0, signed.checksum_at),
        (signed.checksum_at + 4, signed.entry_at),
        (signed.entry_at + 8, signed.start),
    )
    for start, end in parts:
        for place in range(start, end, CHUNK):
            digest.update(file.read(place, min(CHUNK, end - place)))
    return digest.digest() in wanted
