"""Checksums as clients send them."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest

from sealift.sandbox.store.checksums import ALGORITHMS, Digests, check_digests, composite, wanted_algorithms
from sealift.sandbox.store.errors import S3Error

DATA = b"The quick brown fox jumps over the lazy dog"
# Computed by other means: zlib, hashlib, and for the two CRCs published values of this sentence / awscrt.
KNOWN = {
    "crc32": base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode(),
    "crc32c": base64.b64encode((0x22620404).to_bytes(4, "big")).decode(),
    "sha1": base64.b64encode(hashlib.sha1(DATA).digest()).decode(),
    "sha256": base64.b64encode(hashlib.sha256(DATA).digest()).decode(),
}


def digests_of(data: bytes, *algorithms: str) -> Digests:
    digests = Digests({"md5", *algorithms})
    digests.update(memoryview(data))
    return digests


@pytest.mark.parametrize("algorithm", sorted(KNOWN))
def test_each_algorithm_gives_its_known_value(algorithm: str) -> None:
    assert digests_of(DATA, algorithm).base64(algorithm) == KNOWN[algorithm]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_right_checksum_is_kept_and_a_wrong_one_refused(algorithm: str) -> None:
    digests = digests_of(DATA, algorithm)
    right = digests.base64(algorithm)
    header = f"x-amz-checksum-{algorithm}"
    assert check_digests(digests, {header: right}) == {algorithm: right}
    wrong = base64.b64encode(bytes(len(base64.b64decode(right)))).decode()
    with pytest.raises(S3Error) as refused:
        check_digests(digests, {header: wrong})
    assert refused.value.code == "BadDigest"
    with pytest.raises(S3Error) as refused:
        check_digests(digests, {header: "no base64!"})
    assert refused.value.code == "InvalidRequest"


@pytest.mark.parametrize(
    ("content_md5", "code"),
    [
        (base64.b64encode(hashlib.md5(b"other").digest()).decode(), "BadDigest"),
        ("AAAA", "InvalidDigest"),
        ("*", "InvalidDigest"),
    ],
)
def test_content_md5_is_verified(content_md5: str, code: str) -> None:
    with pytest.raises(S3Error) as refused:
        check_digests(digests_of(DATA), {"content-md5": content_md5})
    assert refused.value.code == code


def test_the_right_content_md5_passes() -> None:
    right = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    assert check_digests(digests_of(DATA), {"content-md5": right}) == {}


def test_announced_algorithms_come_from_headers_and_trailers() -> None:
    headers = {
        "x-amz-checksum-sha1": "x",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    assert wanted_algorithms(headers) == {"sha1", "crc32"}
    with pytest.raises(S3Error):
        wanted_algorithms({"x-amz-checksum-crc128": "x"})


def test_a_composite_is_the_digest_of_the_digests() -> None:
    parts = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (b"one", b"two")]
    joined = hashlib.sha256(hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest()).digest()
    assert composite("sha256", parts) == base64.b64encode(joined).decode() + "-2"
