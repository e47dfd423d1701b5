"""From a request to its answer: who asks, may they, which operation, and what an error looks like.

The operations themselves are in the modules named ``*_operations``.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from sealift.sandbox.faults import FaultSource
from sealift.sandbox.history import OFF, History
from sealift.sandbox.iam import Identity, Principal, TokenError, iam_token_response
from sealift.sandbox.store import object_operations, signatures, xml
from sealift.sandbox.store.bodies import AwsChunkedBody, Body, HashedBody
from sealift.sandbox.store.call import Call
from sealift.sandbox.store.conditions import NotModified
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.http import Request, Response
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.operations import find_operation, operation_name
from sealift.sandbox.store.replacing import Replacing

if TYPE_CHECKING:
    from sealift.sandbox.aspera.ats import Ats

log = logging.getLogger(__name__)

STORE_FAULTS: Mapping[str, str] = {
    "cos_slow_down": "The store answers 503 SlowDown before it does anything.",
    "cos_internal_error": "The store answers 500 InternalError before it does anything.",
    "cos_lost_request": "The connection closes without a reply, before anything is done.",
    "cos_lost_reply": "The connection closes without a reply, after the request was carried out.",
    "object_replaced": "Between a HEAD of an image and the next GET, one of its bytes and its ETag change.",
    "object_uploaded_again": "Between a HEAD of an image and the next GET, its ETag changes and its bytes do not.",
}
"""Every fault of the object store by name, with what happens."""

# What the history tells of a request beside its query; nothing that signs or authorizes is among them.
_TOLD_HEADERS = ("content-length", "if-match", "if-none-match", "range", "x-amz-copy-source", "x-amz-copy-source-range")

_STREAMING = {
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
}


class StoreService:
    """Answers requests; :meth:`answer` is called from many threads at once."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        identity: Identity,
        faults: FaultSource | None = None,
        history: History = OFF,
        ats: Ats | None = None,
    ) -> None:
        self._store, self._identity, self._faults, self._history = store, identity, faults, history
        self._ats = ats
        self._replacing = Replacing(store=store, faults=faults)

    def answer(self, request: Request) -> Response:
        """Carry out a request; whatever goes wrong becomes an answer too."""
        self._history.begin()
        response, code = self._answer(request)
        if self._history.on and not _asks_token(request):
            self._record(request, response, code)
        return response

    def _answer(self, request: Request) -> tuple[Response, str | None]:
        """:returns: the answer, and the code of the error that it tells."""
        code: str | None = None
        request_id = secrets.token_hex(16)
        request_id = "-".join((request_id[:8], request_id[8:12], request_id[12:16], request_id[16:20], request_id[20:]))
        try:
            if _asks_token(request):
                return self._token(request), None
            response = self._inject() or self._operate(request)
            if self._hit("cos_lost_reply"):
                response.drop = True
        except S3Error as error:
            code = error.code
            response = _error(error, request, request_id)
        except NotModified:
            response = Response(status=304)
        except (OSError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
            log.exception("%s %s failed", request.method, request.raw_path)
            code = type(error).__name__
            response = _error(S3Error("InternalError", f"{type(error).__name__} in the sandbox"), request, request_id)
        response.headers = {
            "Server": "Sealift-sandbox",
            "X-Clv-Request-Id": request_id,
            "x-amz-request-id": request_id,
            "X-Clv-S3-Version": "2.5",
            "Accept-Ranges": "bytes",
            **response.headers,
        }
        return response, code

    def _record(self, request: Request, response: Response, code: str | None) -> None:
        bucket, _, key = unquote(request.raw_path).removeprefix("/").partition("/")
        args = {name: value for name, value in request.query.items() if not name.lower().startswith("x-amz-")}
        args |= {name: request.headers[name] for name in _TOLD_HEADERS if name in request.headers}
        status = None if response.drop else response.status
        self._history.request(
            service="cos",
            method=operation_name(request.method, bucket=bucket, key=key, query=request.query, headers=request.headers),
            bucket=bucket or None,
            key=key or None,
            status=status,
            outcome="dropped" if status is None else "ok" if status < 400 else "refused",
            args=args,
            error=code,
            reads=request.method in {"GET", "HEAD"},
        )

    def _hit(self, name: str) -> bool:
        return self._faults is not None and self._faults.hit(name)

    def _inject(self) -> Response | None:
        if self._hit("cos_lost_request"):
            return Response(drop=True)
        if self._hit("cos_slow_down"):
            raise S3Error("SlowDown")
        if self._hit("cos_internal_error"):
            raise S3Error("InternalError")
        return None

    def _token(self, request: Request) -> Response:
        data, buffer = bytearray(), memoryview(bytearray(16 * 1024))
        while (count := request.body.readinto(buffer)) and len(data) < 256 * 1024:
            data += buffer[:count]
        form = dict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True))
        status, headers, body = iam_token_response(self._identity, form, history=self._history)
        return Response(status=status, headers=headers, body=body)

    def _operate(self, request: Request) -> Response:
        principal, body = self._authenticate(request)
        bucket, _, key = request.path.removeprefix("/").partition("/")
        call = Call(
            store=self._store, identity=self._identity, request=request, principal=principal, body=body,
            bucket=bucket, key=key, ats=self._ats,
        )  # fmt: skip
        operation = find_operation(call)
        if operation is object_operations.get:
            self._replacing.before_get(bucket, key)
        response = operation(call)
        if operation is object_operations.head:
            self._replacing.after_head(bucket, key)
        return response

    def _authenticate(self, request: Request) -> tuple[Principal, Body]:
        """Find out who asks, and how the body proves to be theirs."""
        authorization = request.headers.get("authorization", "")
        payload = request.headers.get("x-amz-content-sha256", "")
        if authorization[:7].lower() == "bearer ":
            if not payload:
                # With a token nothing is signed, so the SDK leaves the header out and only the coding tells.
                chunked = "aws-chunked" in request.headers.get("content-encoding", "").lower()
                payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER" if chunked else signatures.UNSIGNED
            return self._by_token(authorization[7:].strip()), _body(request, payload, None)
        if authorization:
            claim = signatures.parse_header(authorization, request.headers)
            if not payload:
                raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        elif "X-Amz-Signature" in request.query or "X-Amz-Algorithm" in request.query:
            claim = signatures.parse_query(request.query)
            payload = payload or signatures.UNSIGNED
        else:
            raise S3Error("AccessDenied")
        signatures.check_time(claim, request.query, datetime.now(UTC))  # clients sign by the real time
        known = self._identity.hmac_secret(claim.credential.access_key_id)
        if known is None:
            raise S3Error("InvalidAccessKeyId")
        secret, principal = known
        key = signatures.check_signature(
            claim,
            secret=secret,
            method=request.method,
            raw_path=request.raw_path,
            raw_query=request.raw_query,
            headers=request.headers,
            payload_hash=payload,
        )
        return principal, _body(request, payload, key)

    def _by_token(self, token: str) -> Principal:
        try:
            return self._identity.principal_for_token(token)
        except TokenError as error:
            if error.expired:
                raise S3Error("ExpiredToken") from error
            raise S3Error("AccessDenied") from error


def _asks_token(request: Request) -> bool:
    return request.raw_path == "/identity/token" and request.method == "POST"


def _body(request: Request, payload: str, key: signatures.SigningKey | None) -> Body:
    """Wrap the body into whatever checks the client asked for by x-amz-content-sha256."""
    if payload == signatures.UNSIGNED:
        return request.body
    if payload in _STREAMING:
        signed = payload.startswith("STREAMING-AWS4")
        if signed and key is None:
            raise S3Error("InvalidRequest", "A signed stream needs a signed request.")
        length = request.headers.get("x-amz-decoded-content-length")
        if length is None or not length.isdecimal():
            raise S3Error("MissingContentLength")
        return AwsChunkedBody(
            request.body,
            length=int(length),
            signer=key if signed else None,
            with_trailer=payload.endswith("-TRAILER"),
        )
    if len(payload) != 64 or any(c not in "0123456789abcdefABCDEF" for c in payload):
        raise S3Error("InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-… or a SHA-256.")
    return HashedBody(request.body, payload)


def _error(error: S3Error, request: Request, request_id: str) -> Response:
    resource = request.raw_path.encode("latin-1", "replace").decode("utf-8", "replace")
    body = xml.document(
        "Error",
        [
            ("Code", error.code),
            ("Message", error.message),
            ("Resource", resource),
            ("RequestId", request_id),
            ("httpStatusCode", error.status),
        ],
        namespace=None,
    )
    return Response(
        status=error.status,
        headers={"Content-Type": "application/xml", **error.headers},
        body=body,
        length=0 if request.method == "HEAD" else None,
    )
