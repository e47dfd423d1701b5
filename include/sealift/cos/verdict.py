"""Turns the SDK's exceptions into the errors that a caller can act on, without any secret in them."""

from __future__ import annotations

import contextlib
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from xml.parsers.expat import errors as expat

from sealift.cos.errors import (
    CosAuthError,
    CosConflictError,
    CosError,
    CosNotFoundError,
    CosPermissionError,
    CosPreconditionError,
    CosRegionError,
    CosTransientError,
    CosUnreachableError,
)
from sealift.cos.redact import Redactor

_BY_CODE: dict[str, type[CosError]] = {
    # To a HEAD, which has no body, the SDK takes the status for the code: so an expired token looks.
    "400": CosAuthError,
    "AccessDenied": CosPermissionError,
    "AllAccessDisabled": CosPermissionError,
    "AuthorizationHeaderMalformed": CosRegionError,
    "BucketAlreadyExists": CosConflictError,
    "BucketAlreadyOwnedByYou": CosConflictError,
    "BucketNotEmpty": CosConflictError,
    "ConditionalRequestConflict": CosConflictError,
    "ExpiredToken": CosAuthError,
    "IllegalLocationConstraintException": CosRegionError,
    "InternalError": CosTransientError,
    "InvalidAccessKeyId": CosAuthError,
    "InvalidLocationConstraint": CosRegionError,
    "InvalidToken": CosAuthError,
    "NoSuchBucket": CosNotFoundError,
    "NoSuchKey": CosNotFoundError,
    "NoSuchUpload": CosNotFoundError,
    "NoSuchVersion": CosNotFoundError,
    "OperationAborted": CosConflictError,
    "PermanentRedirect": CosRegionError,
    "PreconditionFailed": CosPreconditionError,
    "RequestTimeout": CosTransientError,
    "RequestTimeTooSkewed": CosAuthError,
    "ServiceUnavailable": CosTransientError,
    "SignatureDoesNotMatch": CosAuthError,
    "SlowDown": CosTransientError,
}

# Where the reply has no body, as to a HEAD, the status is all there is.
_BY_STATUS: dict[int, type[CosError]] = {
    301: CosRegionError,
    307: CosRegionError,
    401: CosAuthError,
    403: CosPermissionError,
    404: CosNotFoundError,
    408: CosTransientError,
    409: CosConflictError,
    412: CosPreconditionError,
    429: CosTransientError,
    501: CosError,
}

_SENTENCES: dict[type[CosError], str] = {
    CosAuthError: "the object store refused the key ({words}): check it",
    CosPermissionError: "the key may not {doing} ({words}): give it a role on this bucket that allows it",
    CosRegionError: "the object store says that this is the wrong region to {doing} ({words})",
    CosTransientError: "the object store failed for now to {doing} ({words})",
    CosUnreachableError: "the object store at {endpoint} cannot be reached: {words}",
}
_CUT_SHORT = frozenset(
    expat.codes[one]
    for one in (expat.XML_ERROR_NO_ELEMENTS, expat.XML_ERROR_UNCLOSED_TOKEN, expat.XML_ERROR_UNCLOSED_CDATA_SECTION)
)
_ANY_SENTENCE = "the object store could not {doing} ({words})"
_LONGEST_QUOTE = 300


@dataclass(frozen=True, kw_only=True)
class Doing:
    """What was being done, for messages.

    :param what: an infinitive, as ``read object a in bucket b``.
    """

    what: str
    endpoint: str
    bucket: str | None = None
    key: str | None = None


def error_for(error: BaseException, *, doing: Doing, redact: Redactor) -> CosError:
    """The error to raise for a failure in the SDK.

    :param error: what the SDK raised.
    :param doing: what was being done.
    :param redact: takes the secrets out of the store's words.
    :returns: the error, ready to raise outside of the handler, so that it carries no context.
    """
    import ibm_botocore.exceptions as sdk

    code: str | None = None
    kind: type[CosError]
    if isinstance(error, sdk.ClientError):
        kind, code, words = _answered(error.response)
    elif isinstance(error, sdk.SSLError):
        kind, words = CosUnreachableError, "no trusted TLS connection could be made"
    elif isinstance(error, (sdk.ConnectTimeoutError, sdk.ProxyConnectionError)):
        kind, words = CosUnreachableError, "the connection was not accepted"
    elif isinstance(error, sdk.EndpointConnectionError):
        kind, words = CosUnreachableError, "no connection could be made"
    elif isinstance(error, sdk.ReadTimeoutError):
        kind, words = CosTransientError, "no reply came in time"
    elif isinstance(error, (sdk.HTTPClientError, sdk.IncompleteReadError, sdk.ConnectionError, OSError)):
        kind, words = CosTransientError, "the connection broke before the whole reply had come"
    elif isinstance(error, (sdk.CredentialRetrievalError, sdk.NoCredentialsError)):
        kind, words = CosAuthError, "no token could be had for it"
    elif _ends_early(error):
        kind, words = CosTransientError, "the reply ended before it was whole"
    elif isinstance(error, sdk.ParamValidationError):
        kind, words = CosError, str(error)
    else:
        kind, words = CosError, f"the reply is not what an object store sends: {type(error).__name__}"
    return _error(kind, code, words, doing=doing, redact=redact)


def error_of_reply(status: int, body: bytes, *, doing: Doing, redact: Redactor) -> CosError:
    """The error to raise for a reply that came without the SDK.

    :param status: its HTTP status, of 300 or more.
    :param body: what came with it: an XML ``Error``, or anything; nothing to a HEAD.
    :param doing: what was being done.
    :param redact: takes the secrets out of the store's words.
    :returns: the same error as :func:`error_for` gives for the SDK's exception.
    """
    fault: dict[str, str] = {}
    with contextlib.suppress(ET.ParseError):  # no object store's words: the status is all there is
        fault = {one.tag.rpartition("}")[2]: one.text or "" for one in ET.fromstring(body)} if body else {}  # noqa: S314
    # The SDK takes the status for the code where there is none.
    found = {"Code": fault.get("Code") or str(status), "Message": fault.get("Message", "")}
    kind, code, words = _answered({"Error": found, "ResponseMetadata": {"HTTPStatusCode": status}})
    return _error(kind, code, words, doing=doing, redact=redact)


def error_on_the_way(error: OSError | HTTPException, *, connected: bool, doing: Doing, redact: Redactor) -> CosError:
    """The error to raise where a connection that was made without the SDK fails.

    :param error: what the socket, TLS or ``http.client`` raised.
    :param connected: whether the connection had been made.
    :param doing: what was being done.
    :param redact: takes the secrets out of messages.
    :returns: the same error as :func:`error_for` gives for the SDK's exception.
    """
    kind: type[CosError] = CosTransientError if connected else CosUnreachableError
    if connected:
        late = isinstance(error, TimeoutError)
        words = "no reply came in time" if late else "the connection broke before the whole reply had come"
    elif isinstance(error, ssl.SSLError):
        words = "no trusted TLS connection could be made"
    elif isinstance(error, TimeoutError):
        words = "the connection was not accepted"
    else:
        words = "no connection could be made"
    return _error(kind, None, words, doing=doing, redact=redact)


def _error(kind: type[CosError], code: str | None, words: str, *, doing: Doing, redact: Redactor) -> CosError:
    words = " ".join(redact(words).split())[:_LONGEST_QUOTE]
    message = _SENTENCES.get(kind, _ANY_SENTENCE).format(doing=doing.what, words=words, endpoint=doing.endpoint)
    return kind(message, code=code, bucket=doing.bucket, key=doing.key)


def _ends_early(error: BaseException) -> bool:
    """Whether a reply is empty, or its XML just stops: it was cut short on its way, although its length is right."""
    found = (error, error.__context__)
    return any(isinstance(one, ET.ParseError) and one.code in _CUT_SHORT for one in found)


def _answered(response: Mapping[str, Any]) -> tuple[type[CosError], str | None, str]:
    fault = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(fault.get("Code") or "")
    words = str(fault.get("Message") or "") or f"HTTP {status}"
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        # A copy answers 200 before it is done; of an error that follows, the SDK keeps no more than that it was one.
        kind = CosTransientError if status >= 500 or (status == 200 and not code) else CosError
    if status == 200 and not fault:
        words = "it failed after it had begun to answer"
    return kind, None if code.isdigit() else code or None, words
