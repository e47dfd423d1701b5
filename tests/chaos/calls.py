"""What a request asks for, read off the wire: one name for each call of the Classic API, the store, IAM and Airflow."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.chaos.faults import CallInfo

_XML_METHOD = re.compile(rb"<methodName>([^<]+)</methodName>")
_BUCKET = {"GET": "ListObjectsV2", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}
_OBJECT = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
_BY_VERB = {"GET": "getObject", "POST": "createObject", "PUT": "editObject", "DELETE": "deleteObject"}


def call_of(service: str, verb: str, target: str, body: bytes) -> CallInfo:
    """Name a request.

    :param service: where it goes: classic, cos, iam or airflow.
    :param verb: its HTTP method.
    :param target: path and query.
    :param body: its body, as far as it was read.
    """
    parts = urlsplit(target)
    path = unquote(parts.path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if path.rstrip("/").endswith("/identity/token"):
        return CallInfo(service="iam", method="token", target=path)
    if service == "classic":
        return CallInfo(service=service, method=_classic(verb, path, body), target=path)
    if service == "cos":
        bucket, _, key = path.lstrip("/").partition("/")
        return CallInfo(
            service=service, method=_cos(verb, query, bucket, key), target=f"{bucket}/{key or query.get('prefix', '')}"
        )
    return CallInfo(service=service, method=_airflow(verb, path, body), target=path)


def _classic(verb: str, path: str, body: bytes) -> str:
    match = _XML_METHOD.search(body)
    parts = [part.removesuffix(".json").removesuffix(".xml") for part in path.strip("/").split("/")]
    if match is not None:
        return f"{parts[-1]}::{match[1].decode()}"
    service = next((part for part in parts if part.startswith("SoftLayer_")), "")
    last = parts[-1]
    return f"{service}::{_BY_VERB.get(verb, verb) if last == service or last.isdigit() else last}"


def _cos(verb: str, query: dict[str, str], bucket: str, key: str) -> str:
    if not bucket:
        return "ListBuckets"
    if not key:
        if "uploads" in query:
            return "ListMultipartUploads"
        return "GetBucketLocation" if "location" in query else _BUCKET.get(verb, verb)
    if "uploadId" in query:
        return {
            "PUT": "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
            "GET": "ListParts",
        }.get(verb, verb)
    if "uploads" in query:
        return "CreateMultipartUpload"
    return _OBJECT.get(verb, verb)


def _airflow(verb: str, path: str, body: bytes) -> str:
    parts = path.strip("/").split("/")
    write = "get" if verb in ("GET", "HEAD") else "clear" if verb == "DELETE" else "set"
    if parts[-1] == "state" and verb == "PATCH":
        return f"state:{_field(body, 'state')}"
    for mark, name in (("xcoms", "xcoms"), ("store", "store"), ("variables", "variables")):
        if mark in parts:
            return f"{name}:{write}"
    if "connections" in parts:
        return "connections:get"
    if "dag-runs" in parts:
        return "dag-runs:trigger" if verb == "POST" else f"dag-runs:{'state' if parts[-1] == 'state' else 'get'}"
    return parts[-1]


def _field(body: bytes, name: str) -> str:
    try:
        value = json.loads(body)
    except ValueError:
        return "?"
    return str(value.get(name, "?")) if isinstance(value, dict) else "?"
