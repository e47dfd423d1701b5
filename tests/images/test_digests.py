"""The digests of a proof of every byte are those that others compute, and each that is known is compared."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.images.digests import Digesting, KnownDigests
from sealift.images.verdict import Checks

DATA = random.Random(1).randbytes(100_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


def etag_of(data: bytes, part_size: int) -> str:
    """What a store gives an object that came in parts."""
    parts = [hashlib.md5(data[at : at + part_size]).digest() for at in range(0, len(data), part_size)]
    return f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"


def compared(data: bytes, known: KnownDigests, *, pieces: int = 7919) -> dict[str, bool]:
    digesting = Digesting(size=len(data), known=known)
    for at in range(0, len(data), pieces):
        digesting.update(data[at : at + pieces])
    checks = Checks()
    digesting.compare(checks)
    return {check.id: check.passed for check in checks.made}


def test_the_crc_is_the_one_that_s3_names() -> None:
    """The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms is ae8b14860a799888."""
    digesting = Digesting(size=9, known=KnownDigests())
    digesting.update(b"1234")
    digesting.update(b"56789")
    assert base64.b64decode(digesting.crc64nvme).hex() == "ae8b14860a799888"


def test_what_was_never_read_before_has_nothing_to_be_compared_with() -> None:
    digesting = Digesting(size=len(DATA), known=KnownDigests())
    digesting.update(DATA)
    checks = Checks()
    digesting.compare(checks)
    (only,) = checks.made
    assert only.passed
    assert only.detail == f"SHA-256 {SHA256}: read for the first time, nothing to compare with"


def test_each_known_digest_is_compared() -> None:
    digesting = Digesting(size=len(DATA), known=KnownDigests())
    digesting.update(DATA)
    crc = digesting.crc64nvme
    other = base64.b64encode(bytes(8)).decode()
    assert compared(DATA, KnownDigests(sha256=SHA256)) == {"sha256": True}
    assert compared(DATA, KnownDigests(sha256="0" * 64)) == {"sha256": False}
    assert compared(DATA, KnownDigests(crc64nvme=crc)) == {"crc64nvme": True}
    assert compared(DATA, KnownDigests(crc64nvme=other, sha256=SHA256)) == {"sha256": True, "crc64nvme": False}
    md5 = hashlib.md5(DATA).hexdigest()
    assert compared(DATA, KnownDigests(etag=md5)) == {"etag": True}
    assert compared(DATA, KnownDigests(etag="0" * 32)) == {"etag": False}
    assert compared(DATA, KnownDigests(etag=md5, crc64nvme=crc)) == {"crc64nvme": True}, "MD5 is slow"


@given(st.binary(min_size=1, max_size=400), st.integers(1, 120), st.integers(1, 90))
def test_an_etag_of_parts_is_computed_again(data: bytes, part_size: int, pieces: int) -> None:
    etag = etag_of(data, part_size)
    assert compared(data, KnownDigests(etag=etag, part_size=part_size), pieces=pieces) == {"etag": True}
    damaged = bytes([data[0] ^ 1]) + data[1:]
    assert compared(damaged, KnownDigests(etag=etag, part_size=part_size), pieces=pieces) == {"etag": False}


@pytest.mark.parametrize(
    "known",
    [
        KnownDigests(etag="0123456789abcdef0123456789abcdef-8"),
        KnownDigests(etag=etag_of(DATA, 30_000), part_size=20_000),
        KnownDigests(etag="opaque"),
        KnownDigests(etag="0123456789abcdef0123456789abcdef-0", part_size=100_000),
    ],
    ids=["no part size", "another number of parts", "no MD5", "no parts"],
)
def test_an_etag_that_cannot_be_computed_is_left_alone(known: KnownDigests) -> None:
    assert compared(DATA, known) == {"sha256": True}
