"""The Classic API over REST, in both styles of URL: softlayer-python's and softlayer-go's."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from sealift.sandbox.classic.api import ClassicApi, Credentials
from sealift.sandbox.classic.calls import Call, Reply
from sealift.sandbox.classic.errors import ApiError, bad_request
from sealift.sandbox.classic.values import whole
from sealift.sandbox.web import Request, Response

PREFIXES = ("/rest/v3.1/", "/rest/v3/")
_OBJECT_ID = re.compile(r"^(\d+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$")
_BY_VERB = {"GET": "getObject", "POST": "createObject", "PUT": "editObject", "DELETE": "deleteObject"}
_JSON = {"Content-Type": "application/json"}


def answer_rest(api: ClassicApi, request: Request) -> Response:
    """Answer one REST request."""
    try:
        call = _call(request)
    except ApiError as error:
        return _response(Reply(error=error))
    return _response(api.handle(call, credentials_of(request)))


def credentials_of(request: Request) -> Credentials | None:
    """:returns: what the Authorization header says, or None where it is missing or unreadable."""
    scheme, _, rest = (request.headers.get("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return Credentials(token=rest.strip())
    if scheme.lower() == "basic":
        try:
            user, _, key = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return Credentials(username=user, key=key)
    return None


def _call(request: Request) -> Call:
    prefix = next(one for one in PREFIXES if request.path.startswith(one))
    path, dot, extension = request.path.removeprefix(prefix).rpartition(".")
    if not dot or extension != "json":
        raise ApiError("Only .json is served here.", code="SoftLayer_Exception_WebService_BadRequest", status=404)
    parts = path.split("/")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise ApiError("The path is not valid.", code="SoftLayer_Exception_WebService_BadRequest", status=404)
    service, rest = parts[0], parts[1:]
    init_id = rest.pop(0) if rest and (len(rest) == 2 or _OBJECT_ID.match(rest[0])) else None
    method = rest[0] if rest else _BY_VERB.get(request.method, "getObject")
    limit, offset = _result_limit(request.first("resultLimit"))
    return Call(
        service=service,
        method=method,
        init_id=init_id,
        args=_parameters(request),
        mask=request.first("objectMask"),
        filter=_filter(request.first("objectFilter")),
        limit=limit,
        offset=offset,
    )


def _parameters(request: Request) -> list[Any]:
    if request.method not in {"POST", "PUT"} or not request.body.strip():
        return []
    try:
        body = json.loads(request.body)
    except ValueError:
        raise bad_request("The body is no JSON.") from None
    parameters = body.get("parameters", []) if isinstance(body, dict) else None
    if not isinstance(parameters, list):
        raise bad_request('The body must have the form {"parameters": [...]}.')
    return parameters


def _filter(text: str | None) -> Any:
    """A filter that is no JSON is ignored without a word, like any malformed one."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _result_limit(text: str | None) -> tuple[int | None, int]:
    """``offset,limit``, or a limit alone."""
    numbers = [whole(part) for part in (text or "").split(",")]
    first, last = numbers[0], numbers[-1]
    if first is None or last is None or len(numbers) > 2:
        return None, 0
    return (last or None, 0) if len(numbers) == 1 else (last or None, first)


def _response(reply: Reply) -> Response:
    if reply.wire == "drop":
        return Response(drop=True)
    if reply.wire == "empty":
        return Response(headers=dict(_JSON))
    headers = {**_JSON, **reply.headers}
    if reply.error is not None:
        status = 200 if reply.wire == "error_in_200" else reply.error.status
        document = {"error": reply.error.message, "code": reply.error.code}
        return Response(status=status, headers=headers, body=json.dumps(document).encode())
    if reply.total is not None:
        headers["SoftLayer-Total-Items"] = str(reply.total)
    return Response(headers=headers, body=json.dumps(reply.value).encode())
