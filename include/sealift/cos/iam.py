"""Access tokens from IBM Cloud IAM, for the SDK.

The SDK's own token manager asks a refused key three times with a second between, keeps a thread and an exit handler per
client for ever, and logs tracebacks. This one asks once for a refused key, retries what may pass, renews a token in the
call that finds it old, and keeps using the old one as long as it is valid.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from sealift.cos.errors import CosAuthError, CosError, CosTransientError, CosUnreachableError
from sealift.cos.network import proxy_demanded, trusting
from sealift.cos.redact import Redactor
from sealift.cos.retrying import Retries

DEFAULT_ENDPOINT = "https://iam.cloud.ibm.com/identity/token"
_GRANT = "urn:ibm:params:oauth:grant-type:apikey"
# The authorization that IBM's own clients send with the api-key grant; it identifies nobody.
_CLIENT = ("bx", "bx")
# A token is renewed when this part of its life is left; IAM's live for an hour.
_RENEW_AT = 0.2
_LONGEST_REPLY = 1024 * 1024


class IamTokens:
    """Gets, keeps and renews the access token of one API key. May be used by many threads.

    It has the two methods that the SDK calls on a token manager.

    :param endpoint: the token endpoint; a bare host gets ``/identity/token`` appended.
    :param api_key: the IBM Cloud API key.
    :param timeout: seconds to wait for the connection, and then for the reply.
    :param verify: False, True, or the path of a CA bundle.
    :param retries: how passing failures are tried again.
    :param clock: seconds, never going back.
    :raises ValueError: where the endpoint is no URL.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        api_key: str,
        timeout: float,
        verify: bool | str,
        retries: Retries,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        endpoint = endpoint.rstrip("/")
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the IAM endpoint must be like {DEFAULT_ENDPOINT}, not {endpoint!r}")
        self.endpoint = endpoint if parts.path else f"{endpoint}/identity/token"
        self._loopback = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
        self._api_key = api_key
        self._timeout = timeout
        self._verify = verify
        self._retries = retries
        self._clock = clock
        self._redact = Redactor([api_key])
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = self._expires_at = clock()

    def __repr__(self) -> str:
        return f"IamTokens({self.endpoint})"

    def set_from_config(self, config: Any) -> None:
        """Called by the SDK with its configuration, of which nothing is needed here.

        :param config: the SDK's; not used.
        """

    def get_token(self) -> str:
        """A valid access token.

        :returns: the token, without ``Bearer``. Where renewing it fails for now, the old one is given as long as it is
            valid.
        :raises CosAuthError: where IAM refuses the key.
        :raises CosUnreachableError: where IAM does not answer.
        :raises CosTransientError: where IAM failed on every attempt.
        """
        failure: CosError
        with self._lock:
            now = self._clock()
            if self._token and now < self._renew_at:
                return self._token
            try:
                token, lifetime = self._retries.run(self._ask)
            except CosError as error:
                if error.retryable and self._token and now < self._expires_at:
                    return self._token
                failure = error
            else:
                self._token = token
                self._expires_at = now + lifetime
                self._renew_at = now + lifetime * (1 - _RENEW_AT)
                return token
        raise failure

    @property
    def current(self) -> str:
        """The token that is held now, or an empty text."""
        with self._lock:
            return self._token

    def drop(self, token: str) -> None:
        """Forget a token that the store has refused, unless somebody else has renewed it meanwhile.

        :param token: the token that was refused.
        """
        with self._lock:
            if token == self._token:
                self._token = ""

    def delegated_token(self, receiver: str) -> str:
        """Make a refresh token that only another service can use. It is not kept: every call asks IAM.

        The SDK's ``DelegatedTokenManager`` and IBM/aspera-cli ask the same way. How long such a token lives is in no
        reply; the SDK makes a new one every six days.

        :param receiver: the client id by which IAM knows the service, as ``aspera_ats``.
        :returns: the token.
        :raises CosAuthError: where IAM refuses the key.
        :raises CosUnreachableError: where IAM does not answer.
        :raises CosTransientError: where IAM failed on every attempt.
        """
        failure: CosError
        try:
            return self._retries.run(lambda: self._ask_delegated(receiver))
        except CosError as error:
            failure = error
        raise failure

    def _ask(self) -> tuple[str, float]:
        fields = self._post(response_type="cloud_iam")
        token, lifetime = fields.get("access_token"), fields.get("expires_in")
        if isinstance(token, str) and token and isinstance(lifetime, (int, float)) and lifetime > 0:
            return token, float(lifetime)
        raise self._no_token()

    def _ask_delegated(self, receiver: str) -> str:
        fields = self._post(response_type="delegated_refresh_token", receiver_client_ids=receiver)
        token = fields.get("delegated_refresh_token")
        if isinstance(token, str) and token:
            return token
        raise self._no_token()

    def _no_token(self) -> CosError:
        return CosError(f"IAM at {self.endpoint} sent no token: is this the token endpoint?")

    def _post(self, **form: str) -> Mapping[str, Any]:
        """Ask the token endpoint, once, and return the fields of a reply that grants something."""
        sent = {"grant_type": _GRANT, "apikey": self._api_key, **form}
        # Where a proxy is set, or a CA bundle that only requests reads, it asks; to load it takes a tenth of a second.
        demanded = proxy_demanded() or any(os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
        status, text = self._by_requests(sent) if demanded and not self._loopback else self._directly(sent)
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        return self._granted(status, body)

    def _directly(self, form: Mapping[str, str]) -> tuple[int, bytes]:
        parts = urlsplit(self.endpoint)
        host, https = parts.hostname or "", parts.scheme == "https"
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        basic = base64.b64encode(":".join(_CLIENT).encode()).decode()
        headers = {
            "Accept": "application/json",
            "Authorization": f"Basic {basic}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        failure: CosError
        connected = False
        connection: http.client.HTTPConnection | None = None
        try:
            if https:
                context = trusting(self._verify)
                connection = http.client.HTTPSConnection(host, parts.port, timeout=self._timeout, context=context)
            else:
                connection = http.client.HTTPConnection(host, parts.port, timeout=self._timeout)
            connection.connect()
            connected = True
            connection.request("POST", path, body=urlencode(form), headers=headers)
            response = connection.getresponse()
            text = response.read(_LONGEST_REPLY)
            if response.length:
                raise http.client.IncompleteRead(text, response.length)
            return response.status, text
        except (OSError, http.client.HTTPException) as error:
            failure = self._not_reached(isinstance(error, ssl.SSLError)) if not connected else self._cut_short(error)
        finally:
            if connection is not None:
                connection.close()
        raise failure

    def _by_requests(self, form: Mapping[str, str]) -> tuple[int, bytes]:
        import requests
        import urllib3.exceptions

        failure: CosError
        try:
            with requests.Session() as session:
                response = session.post(
                    self.endpoint,
                    data=form,
                    headers={"Accept": "application/json"},
                    auth=_CLIENT,
                    timeout=self._timeout,
                    verify=self._verify,
                    allow_redirects=False,
                )
                return response.status_code, response.content
        except requests.RequestException as error:
            # What comes after a connection was made says the same in requests' words, and something else in urllib3's.
            broke = any(isinstance(one, urllib3.exceptions.ProtocolError) for one in error.args)
            if isinstance(error, requests.ConnectionError) and not broke:
                failure = self._not_reached(isinstance(error, requests.exceptions.SSLError))
            else:
                failure = self._cut_short(error)
        raise failure

    def _not_reached(self, no_tls: bool) -> CosError:
        why = "no trusted TLS connection could be made" if no_tls else "no connection could be made"
        return CosUnreachableError(f"IAM at {self.endpoint} cannot be reached: {why}")

    def _cut_short(self, error: Exception) -> CosError:
        return CosTransientError(f"IAM at {self.endpoint} did not answer in full ({type(error).__name__})")

    def _granted(self, status: int, body: Any) -> Mapping[str, Any]:
        fields: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
        code = str(fields.get("errorCode") or "") or None
        words = self._redact(str(fields.get("errorMessage") or "no reason given"))
        if status == 200:
            if body is None:
                raise CosTransientError(f"IAM at {self.endpoint} sent an empty or broken reply")
            return fields
        if status in (400, 401, 403):
            raise CosAuthError(f"IAM refused the API key ({words}): check the key and that it is not locked", code=code)
        if status in (408, 429) or status >= 500:
            raise CosTransientError(f"IAM at {self.endpoint} failed for now (HTTP {status}, {words})", code=code)
        raise CosError(f"IAM at {self.endpoint} answered with HTTP {status}: is this the token endpoint?", code=code)
