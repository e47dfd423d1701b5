"""Signatures against the worked examples of Amazon's documentation ("Authenticating Requests", S3 API reference)."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime, timedelta

import pytest

from sealift.sandbox.store.bodies import AwsChunkedBody, LengthBody
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.signatures import (
    EMPTY_SHA256,
    UNSIGNED,
    Claim,
    SigningKey,
    check_signature,
    check_time,
    parse_header,
    parse_query,
)

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SCOPE = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
DATE = "20130524T000000Z"
HOST = "examplebucket.s3.amazonaws.com"
NOW = datetime(2013, 5, 24, tzinfo=UTC)


def header(signed: str, signature: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential={SCOPE},SignedHeaders={signed},Signature={signature}"


def check(method: str, target: str, headers: dict[str, str], payload: str, *, secret: str = SECRET) -> SigningKey:
    path, _, query = target.partition("?")
    claim = parse_header(headers["authorization"], headers)
    return check_signature(
        claim, secret=secret, method=method, raw_path=path, raw_query=query, headers=headers, payload_hash=payload
    )


GET = {
    "host": HOST,
    "range": "bytes=0-9",
    "x-amz-content-sha256": EMPTY_SHA256,
    "x-amz-date": DATE,
    "authorization": header(
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
}


def test_the_documented_get() -> None:
    assert check("GET", "/test.txt", GET, EMPTY_SHA256).seed.startswith("f0e8bdb8")


def test_the_documented_put_with_a_dollar_in_the_key() -> None:
    body_hash = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
    headers = {
        "date": "Fri, 24 May 2013 00:00:00 GMT",
        "host": HOST,
        "x-amz-content-sha256": body_hash,
        "x-amz-date": DATE,
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "authorization": header(
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
    }
    for target in ("/test%24file.text", "/test$file.text"):
        assert check("PUT", target, headers, body_hash)


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ("prefix=J&max-keys=2", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_the_documented_queries(query: str, signature: str) -> None:
    signed = header("host;x-amz-content-sha256;x-amz-date", signature)
    headers = {"host": HOST, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": DATE, "authorization": signed}
    assert check("GET", f"/?{query}", headers, EMPTY_SHA256)


PRESIGNED = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
)
PRESIGNED_FIELDS = {
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": SCOPE,
    "X-Amz-Date": DATE,
    "X-Amz-Expires": "86400",
    "X-Amz-SignedHeaders": "host",
    "X-Amz-Signature": "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
}


def test_the_documented_presigned_url() -> None:
    claim = parse_query(PRESIGNED_FIELDS)
    assert check_signature(
        claim,
        secret=SECRET,
        method="GET",
        raw_path="/test.txt",
        raw_query=PRESIGNED,
        headers={"host": HOST},
        payload_hash=UNSIGNED,
    )


def test_a_presigned_url_lasts_as_long_as_it_says() -> None:
    claim = parse_query(PRESIGNED_FIELDS)
    check_time(claim, PRESIGNED_FIELDS, NOW + timedelta(seconds=86400))
    for moment in (NOW + timedelta(seconds=86401), NOW - timedelta(minutes=16)):
        with pytest.raises(S3Error, match="AccessDenied"):
            check_time(claim, PRESIGNED_FIELDS, moment)


@pytest.mark.parametrize(
    "change",
    [
        {"X-Amz-Expires": "604801"},
        {"X-Amz-Expires": "0"},
        {"X-Amz-Expires": "x"},
        {"X-Amz-Algorithm": "AWS4-ECDSA-P256-SHA256"},
        {"X-Amz-Credential": "AKIA/20130524/us-east-1/ec2/aws4_request"},
        {"X-Amz-Credential": "nothing"},
    ],
)
def test_a_presigned_url_that_cannot_be_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(S3Error, match="AuthorizationQueryParametersError"):
        parse_query({**PRESIGNED_FIELDS, **change})


@pytest.mark.parametrize(
    ("method", "target", "change", "secret"),
    [
        ("GET", "/test.txt", {}, "wrong"),
        ("PUT", "/test.txt", {}, SECRET),
        ("GET", "/other.txt", {}, SECRET),
        ("GET", "/test.txt?versionId=1", {}, SECRET),
        ("GET", "/test.txt", {"range": "bytes=0-99"}, SECRET),
        ("GET", "/test.txt", {"host": "elsewhere"}, SECRET),
    ],
)
def test_anything_else_than_what_was_signed_is_refused(
    method: str, target: str, change: dict[str, str], secret: str
) -> None:
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        check(method, target, {**GET, **change}, EMPTY_SHA256, secret=secret)


def test_an_amz_header_that_is_not_signed_is_refused() -> None:
    with pytest.raises(S3Error, match=r"AccessDenied.*not signed"):
        check("GET", "/test.txt", {**GET, "x-amz-meta-sneaked": "in"}, EMPTY_SHA256)


def test_a_clock_may_be_a_quarter_of_an_hour_off() -> None:
    claim = parse_header(GET["authorization"], GET)
    check_time(claim, {}, NOW + timedelta(minutes=14))
    check_time(claim, {}, NOW - timedelta(minutes=14))
    with pytest.raises(S3Error, match="RequestTimeTooSkewed"):
        check_time(claim, {}, NOW + timedelta(minutes=16))


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("AWS AKIA:signature", "InvalidRequest"),
        ("AWS4-HMAC-SHA256 Credential=a/b", "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed"),
        (header("host", "x").replace("/s3/", "/sqs/"), "AuthorizationHeaderMalformed"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(authorization: str, code: str) -> None:
    with pytest.raises(S3Error, match=f"^{code}:"):
        parse_header(authorization, GET)


# The documented upload in chunks: 65 KiB of "a" in chunks of 64 KiB, 1 KiB and 0.
CHUNKED = {
    "content-encoding": "aws-chunked",
    "content-length": "66824",
    "host": "s3.amazonaws.com",
    "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "x-amz-date": DATE,
    "x-amz-decoded-content-length": "66560",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
    "authorization": header(
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
        "x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    ),
}
CHUNKS = [
    (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
]


def chunked_body(chunks: list[tuple[int, str]], *, letter: bytes = b"a") -> bytes:
    return b"".join(
        f"{size:x};chunk-signature={signature}\r\n".encode() + letter * size + b"\r\n" for size, signature in chunks
    )


def read_chunked(body: bytes) -> bytes:
    key = check("PUT", "/examplebucket/chunkObject.txt", CHUNKED, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    reader = AwsChunkedBody(LengthBody(io.BytesIO(body), len(body)), length=66560, signer=key, with_trailer=False)
    data, buffer = bytearray(), memoryview(bytearray(9999))
    while count := reader.readinto(buffer):
        data += buffer[:count]
    return bytes(data)


def test_the_documented_chunked_upload() -> None:
    body = chunked_body(CHUNKS)
    assert len(body) == 66824
    assert read_chunked(body) == b"a" * 66560


def test_a_chunk_that_was_changed_is_refused() -> None:
    for body in (
        chunked_body(CHUNKS, letter=b"b"),
        chunked_body([CHUNKS[0], (1024, "0" * 64), CHUNKS[2]]),
        chunked_body([CHUNKS[0], CHUNKS[1], (0, "0" * 64)]),
    ):
        with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
            read_chunked(body)


def test_a_signed_trailer_is_verified() -> None:
    key = SigningKey(key=b"k", scope="s", timestamp="t", seed="0" * 64)
    last = key.chunk_signature(key.seed, EMPTY_SHA256)
    good = key.trailer_signature(last, [("x-amz-checksum-crc32", "AAAAAA==")])

    def read(signature: str) -> dict[str, str]:
        text = (
            f"0;chunk-signature={last}\r\nx-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:{signature}\r\n\r\n"
        )
        raw = LengthBody(io.BytesIO(text.encode()), len(text))
        body = AwsChunkedBody(raw, length=0, signer=key, with_trailer=True)
        assert body.readinto(memoryview(bytearray(10))) == 0
        return body.trailers

    assert read(good) == {"x-amz-checksum-crc32": "AAAAAA=="}
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        read("0" * 64)


def test_a_claim_is_readable() -> None:
    claim = parse_header(GET["authorization"], GET)
    assert isinstance(claim, Claim)
    assert claim.credential.access_key_id == "AKIAIOSFODNN7EXAMPLE"
    assert claim.credential.scope == "20130524/us-east-1/s3/aws4_request"
