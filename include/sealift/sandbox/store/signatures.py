"""AWS Signature Version 4 as S3 uses it: in the header, in the query of a presigned URL, and over chunks of a body.

Source: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)". Any region is taken in the scope:
COS clients sign with whatever their configuration says.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_to_bytes

from sealift.sandbox.store.errors import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_MAX_SKEW = timedelta(minutes=15)
_MAX_EXPIRY = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a request says of the key that signed it."""

    access_key_id: str
    date: str
    region: str
    service: str

    @property
    def scope(self) -> str:
        """The scope as the string to sign holds it."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A request's claim to be signed, not yet checked."""

    credential: Credential
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    presigned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A derived key with what the signatures of a streamed body need."""

    key: bytes
    scope: str
    timestamp: str
    seed: str

    def chunk_signature(self, previous: str, data_sha256: str) -> str:
        """Sign a chunk: each signature covers the one before it."""
        text = "\n".join((f"{ALGORITHM}-PAYLOAD", self.timestamp, self.scope, previous, EMPTY_SHA256, data_sha256))
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()

    def trailer_signature(self, previous: str, trailers: Iterable[tuple[str, str]]) -> str:
        """Sign the trailing headers behind the last chunk."""
        canonical = "".join(f"{name}:{value}\n" for name, value in trailers)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join((f"{ALGORITHM}-TRAILER", self.timestamp, self.scope, previous, digest))
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


def parse_header(authorization: str, headers: Mapping[str, str]) -> Claim:
    """Read an Authorization header.

    :param headers: request headers by lower-case name.
    :raises S3Error: AuthorizationHeaderMalformed, InvalidRequest, AccessDenied.
    """
    scheme, _, rest = authorization.partition(" ")
    if scheme != ALGORITHM:
        raise S3Error("InvalidRequest", f"Please use {ALGORITHM}.")
    fields = {}
    for piece in rest.split(","):
        name, _, value = piece.strip().partition("=")
        fields[name] = value
    try:
        credential = _credential(fields["Credential"])
        signed = tuple(fields["SignedHeaders"].split(";"))
        signature = fields["Signature"]
    except (KeyError, ValueError) as error:
        raise S3Error("AuthorizationHeaderMalformed") from error
    timestamp = headers.get("x-amz-date", "")
    if not timestamp:
        raise S3Error("AccessDenied", "AWS authentication requires a valid x-amz-date header.")
    return Claim(
        credential=credential, signed_headers=signed, signature=signature, timestamp=timestamp, presigned=False
    )


def parse_query(query: Mapping[str, str]) -> Claim:
    """Read the signature of a presigned URL.

    :raises S3Error: AuthorizationQueryParametersError.
    """
    try:
        if query["X-Amz-Algorithm"] != ALGORITHM:
            raise ValueError
        expires = int(query["X-Amz-Expires"])
        if not 1 <= expires <= _MAX_EXPIRY:
            raise S3Error(
                "AuthorizationQueryParametersError", "X-Amz-Expires must lie between 1 second and one week (604800)."
            )
        return Claim(
            credential=_credential(query["X-Amz-Credential"]),
            signed_headers=tuple(query["X-Amz-SignedHeaders"].split(";")),
            signature=query["X-Amz-Signature"],
            timestamp=query["X-Amz-Date"],
            presigned=True,
        )
    except (KeyError, ValueError) as error:
        raise S3Error("AuthorizationQueryParametersError") from error


def check_time(claim: Claim, query: Mapping[str, str], now: datetime) -> None:
    """Refuse what is too old or from the future.

    :raises S3Error: RequestTimeTooSkewed; AccessDenied for an expired presigned URL.
    """
    try:
        signed_at = datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise S3Error("AccessDenied", "The request's date is not valid.") from error
    if not claim.timestamp.startswith(claim.credential.date):
        raise S3Error("SignatureDoesNotMatch", "The credential's date is not the request's.")
    if claim.presigned:
        if now > signed_at + timedelta(seconds=int(query["X-Amz-Expires"])):
            raise S3Error("AccessDenied", "Request has expired")
        if signed_at - now > _MAX_SKEW:
            raise S3Error("AccessDenied", "Request is not yet valid")
    elif abs(now - signed_at) > _MAX_SKEW:
        raise S3Error("RequestTimeTooSkewed")


def check_signature(
    claim: Claim,
    *,
    secret: str,
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    payload_hash: str,
) -> SigningKey:
    """Compute the signature again and compare.

    :param raw_path: the path as it came, percent-encoded.
    :param raw_query: the query as it came, without the question mark.
    :param headers: request headers by lower-case name; several of a name joined by commas.
    :param payload_hash: what the client says of the body: a SHA-256 in hex, or one of S3's words.
    :raises S3Error: SignatureDoesNotMatch; AccessDenied where a header that matters is not signed.
    """
    if "host" not in claim.signed_headers:
        raise S3Error("AccessDenied", "The host header must be signed.")
    unsigned = {name for name in headers if name.startswith("x-amz-")} - set(claim.signed_headers)
    if unsigned - {"x-amz-content-sha256"}:  # that one is part of the canonical request in any case
        raise S3Error("AccessDenied", "There were headers present in the request which were not signed.")
    canonical = "\n".join(
        (
            method,
            quote(unquote_to_bytes(raw_path.encode("latin-1")), safe="/-_.~"),
            _canonical_query(raw_query),
            "".join(f"{name}:{_trim(headers.get(name, ''))}\n" for name in claim.signed_headers),
            ";".join(claim.signed_headers),
            payload_hash,
        )
    )
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    text = "\n".join((ALGORITHM, claim.timestamp, claim.credential.scope, digest))
    key = _signing_key(secret, claim.credential)
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), claim.signature.encode("latin-1", "replace")):
        raise S3Error("SignatureDoesNotMatch")
    return SigningKey(key=key, scope=claim.credential.scope, timestamp=claim.timestamp, seed=expected)


def _credential(value: str) -> Credential:
    # The key id itself may hold slashes, the scope never does.
    parts: Sequence[str] = value.rsplit("/", 4)
    access_key_id, date, region, service, end = parts
    if end != "aws4_request" or service != "s3":
        raise ValueError(value)
    return Credential(access_key_id=access_key_id, date=date, region=region, service=service)


def _signing_key(secret: str, credential: Credential) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (credential.date, credential.region, credential.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_query(raw: str) -> str:
    pairs = []
    for piece in raw.split("&"):
        if not piece:
            continue
        name, _, value = piece.partition("=")
        name, value = (
            quote(unquote_to_bytes(text.replace("+", " ").encode("latin-1")), safe="-_.~") for text in (name, value)
        )
        if name != "X-Amz-Signature":
            pairs.append((name, value))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _trim(value: str) -> str:
    return " ".join(value.split())
