"""The Aspera Transfer Service (ATS) as a client meets it: access keys by bucket, and the node API's ``download_setup``.

Confirmed: the request (``ibm_s3transfer.aspera``; IBM/aspera-cli's ``CosNode``), and the fields of a transfer spec (a
recorded answer in issue 31 of IBM/aspera-connect-sdk-js). Invented: every value, all refusals, and what the stand-in
for ascp asks for its bytes (``/sandbox-ats/…``), which in earnest is FASP and cannot be played over HTTP.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sealift.sandbox.faults import FaultSource
from sealift.sandbox.history import OFF, History
from sealift.sandbox.iam import Identity, Principal, TokenError
from sealift.sandbox.store.models import Bucket, StoredObject
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.switches import Switches
from sealift.sandbox.web import Request, Response

Doc = dict[str, Any]

RECEIVER = "aspera_ats"
SETUP = "/files/"
TRANSFER = "/sandbox-ats/"
PREFIXES = (SETUP, TRANSFER)

ATS_FAULTS: Mapping[str, str] = {
    "ats_unavailable": "The node API answers HTTP 503.",
    "ats_expired_token": "The node API refuses a good delegated token as expired (HTTP 401).",
    "ats_transfer_token": "The token of a transfer is refused in its middle, at the switch ascp_fault_at.",
    "ascp_error": "The stand-in for ascp ends with the error ascp_fault_code, at the byte ascp_fault_at.",
    "ascp_dies": "The stand-in for ascp ends without a word, at the byte ascp_fault_at.",
    "ascp_stalls": "The stand-in for ascp brings no more bytes from ascp_fault_at on, and does not end.",
    "ascp_plain": "The stand-in for ascp says that the server does not encrypt.",
    "ascp_wrong_byte": "The stand-in for ascp changes the last byte of an object.",
    "ascp_short": "The stand-in for ascp leaves out the last byte of an object, and says that all went well.",
}
"""Every fault of Aspera by name, with what happens."""

_SCRIPTED = tuple(name for name in ATS_FAULTS if name not in {"ats_unavailable", "ats_expired_token"})
_SESSIONS = 1000
_LARGEST_PIECE = 4 * 2**20
_TOKEN_LIFE = timedelta(hours=24)
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """What the node API answers in the place of a grant."""

    def __init__(self, status: int, reason: str, words: str) -> None:
        self.status = status
        self.reason = reason
        self.words = words
        super().__init__(words)


@dataclass(frozen=True, kw_only=True)
class _Session:
    bucket: str
    key: str
    until: datetime
    script: tuple[str, ...]


class Ats:
    """The service, for all buckets of one store. May be asked from many threads.

    :param store: the store.
    :param identity: who may read what.
    :param switches: the sandbox's.
    :param faults: the sandbox's.
    :param history: where requests are recorded.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        identity: Identity,
        switches: Switches,
        faults: FaultSource,
        history: History = OFF,
    ) -> None:
        self._store = store
        self._identity = identity
        self._switches = switches
        self._faults = faults
        self._history = history
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self.url = ""
        """Where the service is; whoever serves it sets this."""
        self.bytes_served = 0
        """Bytes of objects that the stand-in for ascp was given."""

    # What the store tells of it

    @property
    def offered(self) -> bool:
        """Whether the region has the service (switch)."""
        return self._switches.ats_offered

    @property
    def store_refuses_immutable(self) -> bool:
        """Whether the store itself refuses an immutable bucket (switch); else the node API does."""
        return self._switches.ats_immutable == "store"

    def access_key(self, bucket: str) -> tuple[str, str]:
        """Give a bucket's access key: its id and its secret."""
        return f"ats-{bucket}", self._identity.derived_secret(f"ats:{bucket}")[:40]

    # HTTP

    def answer(self, request: Request) -> Response:
        """Answer a request of a client of the node API, or of the stand-in for ascp."""
        if request.path.startswith(TRANSFER):
            return self._transfer(request)
        self._history.begin()
        refused: _Refused | None = None
        bucket: str | None = None
        key: str | None = None
        document: Doc = {}
        try:
            bucket, key, document = self._setup(request)
        except _Refused as error:
            refused = error
        self._history.request(
            service="ats",
            method=request.path.removeprefix(SETUP),
            status=refused.status if refused else 200,
            outcome="refused" if refused else "ok",
            bucket=bucket,
            key=key,
            error=refused.reason if refused else None,
            reads=True,
        )
        if refused:
            told = {"code": refused.status, "reason": refused.reason, "user_message": refused.words}
            return _json(refused.status, {"error": told})
        return _json(200, document)

    def _setup(self, request: Request) -> tuple[str, str, Doc]:
        if request.path != "/files/download_setup" or request.method != "POST":
            raise _Refused(404, "NotFound", "The sandbox plays downloads only: POST /files/download_setup.")
        if self._faults.hit("ats_unavailable"):
            raise _Refused(503, "ServiceUnavailable", "The service is not available for now.")
        bucket = self._bucket_of(request)
        principal = self._principal_of(request)
        if not self._identity.may(principal, "read", bucket.name):
            raise _Refused(403, "Forbidden", "Insufficient permissions to read from the storage.")
        if self._store.document(bucket.name, "protection") and not self.store_refuses_immutable:
            raise _Refused(403, "Forbidden", "The bucket has a retention policy.")
        paths = _paths_in(request.body)
        key = str(paths[0].get("source", "")).lstrip("/")
        stored = self._store.head(bucket.name, key) if key else None
        if stored is None:
            raise _Refused(404, "NotFound", f"No such file or directory: {key}")
        return bucket.name, key, {"transfer_specs": [{"transfer_spec": self._spec(bucket, stored, paths, request)}]}

    def _bucket_of(self, request: Request) -> Bucket:
        """Find the bucket whose access key the request shows."""
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name = secret = ""
        bucket = self._store.bucket(name.removeprefix("ats-")) if scheme.lower() == "basic" else None
        if bucket is None or not hmac.compare_digest(secret.encode(), self.access_key(bucket.name)[1].encode()):
            raise _Refused(401, "Unauthorized", "The access key is not known, or its secret is wrong.")
        return bucket

    def _principal_of(self, request: Request) -> Principal:
        """Find who the delegated token in the header stands for."""
        try:
            credentials = json.loads(request.headers.get("X-Aspera-Storage-Credentials", ""))
            token = credentials["token"]["delegated_refresh_token"]
        except (ValueError, KeyError, TypeError):
            raise _Refused(401, "Unauthorized", "No storage credentials were given.") from None
        if self._faults.hit("ats_expired_token"):
            raise _Refused(401, "Unauthorized", "Error getting token from delegated refresh token: it has expired.")
        try:
            return self._identity.principal_for_delegated_token(str(token), receiver=RECEIVER)
        except TokenError as error:
            words = f"Error getting token from delegated refresh token: {error}"
            raise _Refused(401, "Unauthorized", words) from None

    def _spec(self, bucket: Bucket, stored: StoredObject, paths: list[Doc], request: Request) -> Doc:
        place = urlsplit(self.url)
        token = f"SANDBOX_{place.scheme}_{secrets.token_hex(24)}"
        script = tuple(one for one in _SCRIPTED if self._faults.hit(one))
        with self._lock:
            self._sessions[token] = _Session(
                bucket=bucket.name, key=stored.key, until=self._identity.now() + _TOKEN_LIFE, script=script
            )
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        wss: Doc = {"wss_enabled": True, "wss_port": place.port} if self._switches.ats_websockets else {}
        return {
            "paths": paths,
            "source_root": "",
            "destination_root": "",
            "token": token,
            "direction": "receive",
            "cipher": self._switches.ats_cipher,
            "tags": _tags_in(request.body),
            "rate_policy_allowed": "fixed",
            "rate_policy": "fair",
            "target_rate_kbps": 1_000_000,
            "min_rate_kbps": 0,
            "remote_host": place.hostname,
            "remote_user": "xfer",
            "sshfp": None,
            "ssh_port": place.port,
            "fasp_port": place.port,
            "http_fallback": False,
            **wss,
        }

    # The stand-in's own questions

    def _transfer(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        with self._lock:
            session = self._sessions.get(token.strip()) if scheme.lower() == "bearer" else None
        if session is None or self._identity.now() >= session.until:
            return _json(401, {"error": "the transfer token is not known, or has expired"})
        if self._switches.ats_needs_tags and not _has_credentials(request.headers.get("X-Sandbox-Tags", "")):
            return _json(403, {"error": "the storage credentials are not in the tags"})
        stored = self._store.head(session.bucket, session.key)
        if stored is None:
            return _json(404, {"error": "the object is gone"})
        if request.path == f"{TRANSFER}session":
            return _json(200, self._session(session, stored))
        if request.path == f"{TRANSFER}bytes":
            return self._bytes(request, stored)
        return _json(404, {"error": f"there is {TRANSFER}session and {TRANSFER}bytes"})

    def _session(self, session: _Session, stored: StoredObject) -> Doc:
        return {
            "source": session.key,
            "size": stored.size,
            "etag": stored.etag,
            "modified": int(stored.last_modified.timestamp()),
            "script": list(session.script),
            "fault_at": self._switches.ascp_fault_at,
            "fault_code": self._switches.ascp_fault_code,
        }

    def _bytes(self, request: Request, stored: StoredObject) -> Response:
        found = _RANGE.fullmatch(request.headers.get("Range", ""))
        first, last = (int(found[1]), int(found[2])) if found else (0, -1)
        if not 0 <= first <= last < stored.size or last - first >= _LARGEST_PIECE:
            return _json(416, {"error": f"a piece has 1 to {_LARGEST_PIECE} bytes of the object's {stored.size}"})
        with stored.file.open("rb") as file:
            file.seek(first)
            data = file.read(last - first + 1)
        with self._lock:
            self.bytes_served += len(data)
        return Response(status=206, headers={"Content-Type": "application/octet-stream"}, body=data)


def _request_in(body: bytes) -> Doc:
    """Read the one transfer request of a body.

    :raises _Refused: there is none.
    """
    try:
        request = json.loads(body)["transfer_requests"][0]["transfer_request"]
    except (ValueError, LookupError, TypeError):
        request = None
    if not isinstance(request, dict):
        raise _Refused(400, "BadRequest", "The request holds no transfer request.")
    return request


def _paths_in(body: bytes) -> list[Doc]:
    paths = _request_in(body).get("paths")
    if not isinstance(paths, list) or len(paths) != 1 or not isinstance(paths[0], dict):
        raise _Refused(400, "BadRequest", "The sandbox takes requests with one path.")
    return paths


def _tags_in(body: bytes) -> Any:
    return _request_in(body).get("tags")


def _has_credentials(encoded: str) -> bool:
    try:
        tags = json.loads(base64.b64decode(encoded, validate=True))
        return bool(tags["aspera"]["node"]["storage_credentials"]["token"]["delegated_refresh_token"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return False


def _json(status: int, document: Mapping[str, Any]) -> Response:
    return Response(
        status=status, headers={"Content-Type": "application/json"}, body=json.dumps(document, indent=1).encode()
    )
