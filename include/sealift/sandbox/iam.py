"""IBM Cloud IAM as far as an object store's client meets it: API keys, tokens that expire, HMAC keys, roles per bucket.

Tokens are JSON Web Tokens signed with a key that lies beside the identities, so they outlive a restart without being
stored. Clients have to treat them as opaque.

Confirmed: the form of the token call and its answer (``ibm_botocore.credentials``; IBM's IAM Identity API reference),
and the answer to an unknown key. Invented: the other error codes' exact sentences.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sealift.sandbox.faults import FaultSource
from sealift.sandbox.history import OFF, History

Action = Literal["read", "write", "list", "create_bucket", "config", "delete"]

IAM_FAULTS: Mapping[str, str] = {
    "expired_token": "A good bearer token is taken for expired, by the store and by whoever else asks IAM.",
    "iam_unavailable": "The token endpoint answers HTTP 503 and issues nothing.",
}
"""Every fault of IAM by name, with what happens."""

TOKEN_SECONDS = 3600
_REFRESH_DAYS = 30
_DELEGATED_DAYS = 7  # invented; the SDK asks for a new one every six days
_GRANT_API_KEY = "urn:ibm:params:oauth:grant-type:apikey"

# IBM docs, cloud-object-storage, "Getting started with IAM": what the service roles and the object roles may do.
# ``list`` covers listing a bucket and reading its configuration.
_ROLES: Mapping[str, frozenset[Action]] = {
    "Manager": frozenset({"read", "write", "list", "create_bucket", "config", "delete"}),
    "Writer": frozenset({"read", "write", "list", "create_bucket", "delete"}),
    "Reader": frozenset({"read", "list"}),
    "ObjectReader": frozenset({"read"}),
    "ObjectWriter": frozenset({"write"}),
}


class TokenError(Exception):
    """A token that IAM did not issue, or that is too old.

    :param expired: whether it was good once.
    """

    def __init__(self, message: str, *, expired: bool) -> None:
        self.expired = expired
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks.

    :param roles: role name by bucket name; ``*`` stands for every bucket.
    :param service_instance: the service instance that HMAC credentials belong to; empty if not bound to one.
    """

    iam_id: str
    name: str
    roles: Mapping[str, str]
    service_instance: str = ""
    by_token: bool = False


@dataclass(slots=True)
class _Stored:
    signing_key: str
    api_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    hmac: dict[str, dict[str, Any]] = field(default_factory=dict)

    def secrets(self) -> tuple[str, ...]:
        return (self.signing_key, *self.api_keys, *(one["secret"] for one in self.hmac.values()))


class Identity:
    """The sandbox's identities, kept in one file.

    :param path: a JSON file; made if missing, readable by its owner only.
    :param faults: may make good tokens look expired (``IAM_FAULTS``).
    :param clock: gives the present time.
    """

    def __init__(
        self,
        *,
        path: Path,
        faults: FaultSource | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path, self._faults, self._clock = Path(path), faults, clock
        self._lock = threading.Lock()
        if self._path.exists():
            self._stored = _Stored(**json.loads(self._path.read_text(encoding="utf-8")))
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stored = _Stored(signing_key=secrets.token_hex(32))
            self._save()
        self._secrets = self._stored.secrets()

    def add_api_key(self, *, key: str, name: str, roles: Mapping[str, str]) -> None:
        """Register an IBM Cloud API key, or give a known one other roles.

        :param roles: bucket name or ``*`` → Reader, Writer, Manager, ObjectReader or ObjectWriter.
        """
        _check_roles(roles)
        with self._lock:
            known = self._stored.api_keys.get(key, {})
            iam_id = known.get("iam_id") or f"iam-ServiceId-{uuid.uuid4()}"
            self._stored.api_keys[key] = {"iam_id": iam_id, "name": name, "roles": dict(roles)}
            self._save()

    def add_hmac(
        self, *, access_key_id: str, secret_access_key: str, roles: Mapping[str, str], service_instance: str = ""
    ) -> None:
        """Register HMAC credentials, or give known ones other roles.

        :param service_instance: id or CRN of the instance they belong to; empty: they see the buckets of all.
        """
        _check_roles(roles)
        with self._lock:
            self._stored.hmac[access_key_id] = {
                "secret": secret_access_key,
                "roles": dict(roles),
                "service_instance": service_instance,
            }
            self._save()

    def principal_for_api_key(self, key: str) -> Principal | None:
        """Find who an API key stands for."""
        with self._lock:
            known = self._stored.api_keys.get(key)
            return _principal(known) if known else None

    def hmac_secret(self, access_key_id: str) -> tuple[str, Principal] | None:
        """Find the secret and the owner of HMAC credentials."""
        with self._lock:
            known = self._stored.hmac.get(access_key_id)
            if known is None:
                return None
            owner = Principal(
                iam_id=access_key_id,
                name=access_key_id,
                roles=known["roles"],
                service_instance=known["service_instance"],
            )
            return known["secret"], owner

    def token_for_api_key(self, key: str, *, seconds: int = TOKEN_SECONDS) -> str:
        """Issue an access token.

        :param seconds: how long it is good.
        :raises TokenError: for an unknown key.
        """
        principal = self.principal_for_api_key(key)
        if principal is None:
            raise TokenError("Provided API key could not be found.", expired=False)
        return self._issue(principal, "access", timedelta(seconds=seconds))

    def refresh_token_for_api_key(self, key: str) -> str:
        """Issue a refresh token, which only the token endpoint takes.

        :raises TokenError: for an unknown key.
        """
        principal = self.principal_for_api_key(key)
        if principal is None:
            raise TokenError("Provided API key could not be found.", expired=False)
        return self._issue(principal, "refresh", timedelta(days=_REFRESH_DAYS))

    def delegated_token_for_api_key(self, key: str, *, receiver: str) -> str:
        """Issue a refresh token that only another service can use.

        :param receiver: the client id of that service.
        :raises TokenError: for an unknown key.
        """
        principal = self.principal_for_api_key(key)
        if principal is None:
            raise TokenError("Provided API key could not be found.", expired=False)
        return self._issue(principal, "delegated", timedelta(days=_DELEGATED_DAYS), receiver=receiver)

    def principal_for_delegated_token(self, token: str, *, receiver: str) -> Principal:
        """Find who a delegated token stands for, on behalf of the service that it was made for.

        :param receiver: the client id of that service.
        :raises TokenError: as :meth:`principal_for_token`, or where it was made for another service.
        """
        if self._claims(token).get("receiver") != receiver:
            raise TokenError("Wrong client id passed to retrieve tokens for a delegated refresh token.", expired=False)
        return self.principal_for_token(token, use="delegated")

    def derived_secret(self, purpose: str) -> str:
        """Derive a secret that is the same after a restart, and another one in every sandbox.

        :param purpose: what it is for.
        """
        return self._sign(f"derived:{purpose}").hex()

    def principal_for_token(
        self, token: str, *, use: Literal["access", "refresh", "delegated"] = "access"
    ) -> Principal:
        """Find who a token stands for, with the roles of today.

        :raises TokenError: for a token that was not issued here, is expired, or whose owner is gone.
        """
        claims = self._claims(token)
        if claims.get("typ") != use:
            raise TokenError("The token is of another kind.", expired=False)
        fault = use == "access" and self.fault("expired_token")
        if fault or self._clock().timestamp() >= claims["exp"]:
            raise TokenError("The token has expired.", expired=True)
        with self._lock:
            owner = next((k for k in self._stored.api_keys.values() if k["iam_id"] == claims["iam_id"]), None)
        if owner is None:
            raise TokenError("The token's owner does not exist any more.", expired=False)
        return _principal(owner, by_token=True)

    def api_key_of(self, principal: Principal) -> str:
        """Find the API key of someone; only the token endpoint needs it.

        :raises TokenError: when there is none any more.
        """
        with self._lock:
            for key, known in self._stored.api_keys.items():
                if known["iam_id"] == principal.iam_id:
                    return key
        raise TokenError("The token's owner does not exist any more.", expired=False)

    def secrets(self) -> tuple[str, ...]:
        """:returns: every key and secret that there is, for whoever has to keep them out of a text."""
        return self._secrets

    def fault(self, name: str) -> bool:
        """Tell whether a fault happens now."""
        return self._faults is not None and self._faults.hit(name)

    def now(self) -> datetime:
        """Give the present time by the clock that tokens go by."""
        return self._clock()

    def may(self, principal: Principal, action: Action, bucket: str) -> bool:
        """Tell whether someone may do something to a bucket."""
        held = {principal.roles.get("*"), principal.roles.get(bucket)} - {None}
        return any(action in _ROLES[role] for role in held if role)

    def _issue(self, principal: Principal, use: str, life: timedelta, **more: str) -> str:
        now = self._clock()
        claims = {
            "iam_id": principal.iam_id,
            "id": principal.iam_id,
            "sub": principal.iam_id,
            "sub_type": "ServiceId",
            "name": principal.name,
            "jti": secrets.token_hex(8),
            "typ": use,
            "iat": int(now.timestamp()),
            "exp": (now + life).timestamp(),
            "iss": "https://iam.cloud.ibm.com/identity",
            "scope": "ibm openid",
            **more,
        }
        head = _encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "sandbox"}).encode())
        body = _encode(json.dumps(claims).encode())
        return f"{head}.{body}.{_encode(self._sign(f'{head}.{body}'))}"

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            head, body, signature = token.split(".")
            if not hmac.compare_digest(_decode(signature), self._sign(f"{head}.{body}")):
                raise TokenError("The token was not issued here.", expired=False)
            claims: dict[str, Any] = json.loads(_decode(body))
            return claims
        except ValueError as error:
            raise TokenError("The token cannot be read.", expired=False) from error

    def _sign(self, text: str) -> bytes:
        return hmac.digest(bytes.fromhex(self._stored.signing_key), text.encode(), "sha256")

    def _save(self) -> None:
        temporary = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(
                {"signing_key": self._stored.signing_key, "api_keys": self._stored.api_keys, "hmac": self._stored.hmac},
                file,
                indent=1,
            )
        temporary.rename(self._path)
        self._secrets = self._stored.secrets()


def iam_token_response(
    identity: Identity, form: Mapping[str, str], *, history: History = OFF
) -> tuple[int, dict[str, str], bytes]:
    """Answer ``POST /identity/token``.

    :param form: the decoded form fields of the request.
    :param history: where the request is recorded; whoever took it has called its ``begin``.
    :returns: status, headers and body of the answer.
    """
    answer = _token_answer(identity, form)
    refused = answer[0] >= 400
    history.request(
        service="iam",
        method="token",
        status=answer[0],
        outcome="refused" if refused else "ok",
        args={name: form[name] for name in ("grant_type", "response_type") if name in form},
        error=json.loads(answer[2])["errorCode"] if refused else None,
        reads=True,
    )
    return answer


def _token_answer(identity: Identity, form: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    if identity.fault("iam_unavailable"):
        return _refusal(503, "BXNIM0513E", "The service is temporarily unavailable.")
    try:
        key = _granted_key(identity, form)
    except _Refused as refused:
        return _refusal(400, refused.code, str(refused))
    if "delegated_refresh_token" in form.get("response_type", ""):
        # What an Aspera client asks for: the receiver (aspera_ats) reads the bucket with it.
        receiver = form.get("receiver_client_ids", "")
        if not receiver:
            return _refusal(400, "BXNIM0109E", "Property missing or empty: receiver_client_ids.")
        return _json(200, {"delegated_refresh_token": identity.delegated_token_for_api_key(key, receiver=receiver)})
    token = identity.token_for_api_key(key)
    return _json(
        200,
        {
            "access_token": token,
            "refresh_token": identity.refresh_token_for_api_key(key),
            "ims_user_id": 0,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "expiration": int(identity.now().timestamp()) + TOKEN_SECONDS,
            "scope": "ibm openid",
        },
    )


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def _granted_key(identity: Identity, form: Mapping[str, str]) -> str:
    """Find the API key that a form proves to hold, by itself or by a refresh token."""
    grant = form.get("grant_type", "")
    if grant == _GRANT_API_KEY:
        key = form.get("apikey", "")
        if not key:
            raise _Refused("BXNIM0109E", "Property missing or empty: apikey.")
        if identity.principal_for_api_key(key) is None:
            raise _Refused("BXNIM0415E", "Provided API key could not be found.")
        return key
    if grant == "refresh_token":
        try:
            return identity.api_key_of(identity.principal_for_token(form.get("refresh_token", ""), use="refresh"))
        except TokenError as error:
            if error.expired:
                raise _Refused("BXNIM0408E", "Provided refresh token is expired.") from error
            raise _Refused("BXNIM0407E", "Provided refresh token is invalid.") from error
    raise _Refused("BXNIM0119E", "The grant type is missing or not supported.")


def _refusal(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    request_id = secrets.token_hex(12)
    return _json(
        status,
        {
            "errorCode": code,
            "errorMessage": message,
            "context": {"requestId": request_id, "requestType": "incoming.Identity_Token"},
        },
    )


def _json(status: int, document: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json", "Cache-Control": "no-store"}, json.dumps(document).encode()


def _principal(known: Mapping[str, Any], *, by_token: bool = False) -> Principal:
    return Principal(iam_id=known["iam_id"], name=known["name"], roles=known["roles"], by_token=by_token)


def _check_roles(roles: Mapping[str, str]) -> None:
    for role in roles.values():
        if role not in _ROLES:
            raise ValueError(f"unknown role {role!r}: use one of {', '.join(_ROLES)}")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
