"""What a request asks for, read off the wire: one name for each call of the Classic API, the store, IAM and Airflow.

- classic: ``SoftLayer_Virtual_Guest::createArchiveTemplate``; on the path, over XML-RPC with ``/<id>`` after it;
- cos: S3's name of it, as ``PutObject``; on ``<bucket>/<key or prefix>``;
- iam: ``token``;
- airflow, a task instance: ``state:deferred``, ``state:success``, …, ``run``, ``heartbeat``, ``rtif``, …; on the path,
  which has the instance's id;
- airflow, the rest of the workers' API: ``xcoms:set``, ``store:get``, ``variables:get``, ``connections:get``,
  ``dag-runs:trigger``, …; on the path, an XCom's of a mapped task with ``?map_index=`` after it;
- airflow, the public API: ``api:dagRuns:set``, ``auth:token``, …; on the path.

``get`` stands for GET and HEAD, ``clear`` for DELETE, and ``set`` for the other verbs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.chaos.faults import CallInfo

_XML_METHOD = re.compile(rb"<methodName>\s*([^<\s]+)\s*</methodName>")
_XML_ID = re.compile(
    rb"InitParameters</name>\s*<value>\s*<struct>\s*<member>\s*<name>id</name>\s*<value>\s*<\w+>([^<]+)<"
)
_STATE = re.compile(rb'"state"\s*:\s*"(\w+)"')
_BY_VERB = {"GET": "getObject", "POST": "createObject", "PUT": "editObject", "DELETE": "deleteObject"}
_VERBS = {"GET": "get", "HEAD": "get", "DELETE": "clear"}
_SUBRESOURCES = ("location", "versions", "uploads", "delete", "lifecycle", "versioning", "acl", "tagging", "cors")
_BUCKET = {
    ("GET", ""): "ListObjects",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "versions"): "ListObjectVersions",
    ("HEAD", ""): "HeadBucket",
    ("PUT", ""): "CreateBucket",
    ("DELETE", ""): "DeleteBucket",
    ("POST", "delete"): "DeleteObjects",
}
_OBJECT = {
    ("GET", "uploadId"): "ListParts",
    ("PUT", "uploadId"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("POST", "uploads"): "CreateMultipartUpload",
}
# Words of the public API's paths that say what a request is about; ids stand between them.
_RESOURCES = (
    "dags", "dagRuns", "taskInstances", "xcomEntries", "clearTaskInstances", "clear", "wait", "logs", "listMapped",
    "connections", "pools", "variables", "health", "version", "config", "importErrors", "jobs", "providers", "plugins",
)  # fmt: skip


def call_of(service: str, verb: str, target: str, body: bytes, headers: Collection[str] = ()) -> CallInfo:
    """Name a request.

    :param service: where it goes: classic, cos, iam or airflow.
    :param verb: its HTTP method.
    :param target: path and query.
    :param body: its body, as far as it was read.
    :param headers: the names of its headers, in lower case.
    """
    parts = urlsplit(target)
    path = unquote(parts.path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if path.rstrip("/").endswith("/identity/token"):
        return CallInfo(service="iam", method="token", target=path)
    if service == "classic":
        return _classic(verb, path, body)
    if service == "cos":
        bucket, _, key = path.lstrip("/").partition("/")
        method = _cos(verb, query, bucket, key, copies="x-amz-copy-source" in headers)
        return CallInfo(service=service, method=method, target=f"{bucket}/{key or query.get('prefix', '')}")
    method = _airflow(verb, path, body)
    if method.startswith("xcoms:") and "map_index" in query:
        path += f"?map_index={query['map_index']}"
    return CallInfo(service=service, method=method, target=path)


def _classic(verb: str, path: str, body: bytes) -> CallInfo:
    match = _XML_METHOD.search(body)
    parts = [re.sub(r"\.(json|xml|txt)$", "", part) for part in path.strip("/").split("/")]
    if match is not None:
        number = _XML_ID.search(body)
        target = f"{path}/{number[1].decode().strip()}" if number else path
        return CallInfo(service="classic", method=f"{parts[-1]}::{match[1].decode()}", target=target)
    at = next((place for place, part in enumerate(parts) if part.startswith("SoftLayer_")), len(parts) - 1)
    rest = parts[at + 1 :]
    # An id is a number or a UUID; what follows it, or stands alone and is neither, is a method.
    if rest and (len(rest) > 1 or rest[0].isdigit() or re.fullmatch(r"[0-9a-fA-F-]{36}", rest[0])):
        rest = rest[1:]
    method = rest[-1] if rest else _BY_VERB.get(verb, verb)
    return CallInfo(service="classic", method=f"{parts[at]}::{method}", target=path)


def _cos(verb: str, query: dict[str, str], bucket: str, key: str, *, copies: bool) -> str:
    if not bucket:
        return "ListBucketsExtended" if "extended" in query else "ListBuckets"
    table, level = (_OBJECT, "Object") if key else (_BUCKET, "Bucket")
    sub = "uploadId" if key and "uploadId" in query else next((one for one in _SUBRESOURCES if one in query), "")
    name = table.get((verb, sub), f"{verb.title()}{level}{sub.title()}")
    if name == "ListObjects" and "list-type" in query:
        return "ListObjectsV2"
    if copies:
        return {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}.get(name, name)
    return name


def _airflow(verb: str, path: str, body: bytes) -> str:
    verb_word = _VERBS.get(verb, "set")
    parts = path.strip("/").split("/")
    if parts[0] != "execution":
        if parts[0] == "auth":
            return f"auth:{parts[-1]}"
        word = next((part for part in reversed(parts) if part in _RESOURCES), "other")
        return f"{parts[0]}:{word}:{verb_word}"
    resource, rest = parts[1] if len(parts) > 1 else "", parts[2:]
    if resource == "task-instances" and rest:
        if rest[0] in ("count", "states", "breadcrumbs", "previous"):
            return f"task-instances:{rest[0]}"
        return f"state:{_state(body)}" if rest[-1] == "state" and verb == "PATCH" else rest[-1]
    if resource == "dag-runs":
        if rest[-1:] in (["state"], ["clear"], ["count"], ["previous"]):
            return f"dag-runs:{rest[-1]}"
        return "dag-runs:trigger" if verb == "POST" else "dag-runs:get"
    if resource == "store" and rest[:1] == ["asset"]:
        return f"asset-store:{verb_word}"
    return f"{resource}:{verb_word}"


def _state(body: bytes) -> str:
    """The state that a task instance shall have; where the body was not read whole, the first that it names."""
    try:
        value = json.loads(body)
    except ValueError:
        match = _STATE.search(body)
        return match[1].decode() if match else "?"
    return str(value.get("state", "?")) if isinstance(value, dict) else "?"
