"""The Classic API over XML-RPC: headers in the first parameter, faults in HTTP 200 with text for a code."""

from __future__ import annotations

import xmlrpc.client as wire
from typing import Any
from xml.parsers.expat import ExpatError

from sealift.sandbox.classic.api import ClassicApi, Credentials
from sealift.sandbox.classic.calls import Call, Reply
from sealift.sandbox.classic.errors import ApiError
from sealift.sandbox.classic.rest import credentials_of
from sealift.sandbox.classic.values import whole
from sealift.sandbox.web import Request, Response

PREFIXES = ("/xmlrpc/v3.1/", "/xmlrpc/v3/")
_ENCODING = "iso-8859-1"
_XML = {"Content-Type": "text/xml; charset=iso-8859-1"}


def answer_xmlrpc(api: ClassicApi, request: Request, *, nil: str, bearer: bool) -> Response:
    """Answer one XML-RPC request.

    :param nil: how null travels: "empty" as an empty string, "nil" as ``<nil/>``.
    :param bearer: whether bearer tokens are taken.
    """
    prefix = next(one for one in PREFIXES if request.path.startswith(one))
    service = request.path.removeprefix(prefix).strip("/")
    try:
        params, method = wire.loads(request.body, use_builtin_types=True)
        if method is None:
            raise ValueError("no method")
    except (ExpatError, ValueError, TypeError, wire.Error):
        return _response(Reply(error=ApiError("The request is not well-formed.", code="-32700")), nil)
    first = params[0] if params else None
    headers = first.get("headers") if isinstance(first, dict) else None
    args = list(params[1:] if isinstance(headers, dict) else params)
    call, credentials = _call(service, method, headers if isinstance(headers, dict) else {}, args)
    if credentials is None:
        credentials = credentials_of(request)
        if credentials is not None and credentials.token and not bearer:
            credentials = None
    return _response(api.handle(call, credentials), nil)


def _call(service: str, method: str, headers: dict[str, Any], args: list[Any]) -> tuple[Call, Credentials | None]:
    def structure(name: str) -> dict[str, Any]:
        value = headers.get(name)
        return value if isinstance(value, dict) else {}

    mask = structure("SoftLayer_ObjectMask").get("mask") or structure(f"{service}ObjectMask").get("mask")
    page = structure("resultLimit")
    call = Call(
        service=service,
        method=method,
        init_id=structure(f"{service}InitParameters").get("id"),
        args=args,
        mask=mask,
        filter=headers.get(f"{service}ObjectFilter"),
        limit=whole(page.get("limit")) or None,
        offset=whole(page.get("offset")) or 0,
    )
    login = structure("authenticate")
    known = login.get("username") is not None and login.get("apiKey") is not None
    return call, Credentials(username=str(login["username"]), key=str(login["apiKey"])) if known else None


def _response(reply: Reply, nil: str) -> Response:
    if reply.wire == "drop":
        return Response(drop=True)
    if reply.wire == "empty":
        return Response(headers=dict(_XML))
    headers = {**_XML, **reply.headers}
    if reply.error is not None:
        fault = wire.Fault(0, reply.error.message)
        fault.faultCode = reply.error.code  # type: ignore[assignment]  # the service sends text: softlayer-python relies on it
        body = wire.dumps(fault, encoding=_ENCODING)
        status = 500 if reply.wire == "http_500" else 200
        return Response(status=status, headers=headers, body=body.encode(_ENCODING, "xmlcharrefreplace"))
    if reply.total is not None:
        headers["SoftLayer-Total-Items"] = str(reply.total)
    value = _plain(reply.value, nil)
    body = wire.dumps((value,), methodresponse=True, allow_none=True, encoding=_ENCODING)
    return Response(headers=headers, body=body.encode(_ENCODING, "xmlcharrefreplace"))


def _plain(value: Any, nil: str) -> Any:
    """Make a value fit for XML-RPC: null as switched, whole numbers beyond 32 bits as doubles."""
    if value is None:
        return "" if nil == "empty" else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and not wire.MININT <= value <= wire.MAXINT:
        return float(value)
    if isinstance(value, dict):
        return {name: _plain(sub, nil) for name, sub in value.items()}
    if isinstance(value, list):
        return [_plain(one, nil) for one in value]
    return value
