"""The node API of ATS: one call, which grants the download of one object and says how ascp does it.

Form of the call: ``ibm_s3transfer.aspera.manager`` and the command line of IBM Cloud for COS (its ``aspera`` package)
agree on ``POST <endpoint>/files/download_setup``, basic authentication by the bucket's access key, and the delegated
token in the header ``X-Aspera-Storage-Credentials`` and in the request's tags. Form of an answer: a recorded one in
issue 31 of IBM/aspera-connect-sdk-js. Form of an error: the same command line reads ``code``, ``reason`` and
``user_message``.
"""

from __future__ import annotations

import json
from typing import Any, Final

import httpx
from pydantic import SecretStr

from sealift.cos.connection import is_loopback
from sealift.cos.fasp import FaspConnection
from sealift.cos.redact import Redactor
from sealift.transfer.aspera.errors import AsperaError, one_line
from sealift.transfer.aspera.spec import TransferSpec

LARGEST_REPLY: Final = 1024 * 1024
"""Bytes; a spec has a few thousand."""


class NodeClient:
    """Asks ATS. Each call is made once: whoever calls knows when to try again.

    :param connection: the bucket's door at ATS.
    :param timeout: seconds to wait for the connection, and then for each piece of a reply.
    """

    def __init__(self, *, connection: FaspConnection, timeout: float = 60.0) -> None:
        self._connection = connection
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"NodeClient({self._connection.endpoint})"

    def download_spec(self, *, key: str, token: SecretStr) -> TransferSpec:
        """Ask for the download of one object.

        :param key: the object.
        :param token: lets ATS read the bucket.
        :returns: the transfer spec.
        :raises AsperaError: ATS refused, or did not answer.
        """
        credentials = {"type": "token", "token": {"delegated_refresh_token": token.get_secret_value()}}
        request = {
            # What we call the file, and where it is, is none of the server's business.
            "paths": [{"source": key, "destination": key.rpartition("/")[2] or "object"}],
            "tags": {"aspera": {"node": {"storage_credentials": credentials}}},
        }
        secret = self._connection.access_key_secret.get_secret_value()
        redact = Redactor([token.get_secret_value(), secret])
        failure: AsperaError
        try:
            status, body = self._post(request, credentials, secret)
        except httpx.ConnectError:
            words = "cannot be reached, or shows no certificate that is trusted: allow HTTPS to it outward"
            failure = self._failed(words, retryable=True)
        except httpx.TimeoutException:
            failure = self._failed("did not answer in time", retryable=True)
        except (httpx.HTTPError, OSError) as error:
            failure = self._failed(f"did not answer in full ({type(error).__name__})", retryable=True)
        except httpx.InvalidURL:
            failure = self._failed("is no address")
        else:
            return self._spec_in(status, body, redact)
        # Outside of the handlers, so that it has no context, which could hold the request.
        raise failure

    def _post(self, request: dict[str, Any], credentials: dict[str, Any], secret: str) -> tuple[int, bytes]:
        endpoint = self._connection.endpoint
        headers = {"Accept": "application/json", "X-Aspera-Storage-Credentials": json.dumps(credentials)}
        with (
            httpx.Client(
                timeout=self._timeout,
                verify=_trust(self._connection.verify),
                trust_env=not is_loopback(httpx.URL(endpoint).host),
                follow_redirects=False,
            ) as client,
            client.stream(
                "POST",
                f"{endpoint}/files/download_setup",
                auth=(self._connection.access_key_id, secret),
                headers=headers,
                json={"transfer_requests": [{"transfer_request": request}]},
            ) as response,
        ):
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > LARGEST_REPLY:
                    break
            return response.status_code, bytes(body)

    def _spec_in(self, status: int, body: bytes, redact: Redactor) -> TransferSpec:
        try:
            document = json.loads(body) if len(body) <= LARGEST_REPLY else None
        except (ValueError, RecursionError):
            document = None
        specs = document.get("transfer_specs") if isinstance(document, dict) else None
        first = specs[0] if isinstance(specs, list) and specs else None
        told = _error_in(document) or _error_in(first)
        if told is not None or status != 200:
            raise self._refused(told[0] if told and status == 200 else status, redact(told[1] if told else ""))
        if not isinstance(first, dict) or "transfer_spec" not in first:
            # An empty or broken reply, or that of something else.
            raise self._failed("sent no transfer spec", retryable=document is None)
        return TransferSpec.read(first["transfer_spec"])

    def _refused(self, status: int, words: str) -> AsperaError:
        said = f'"{one_line(words)}"' if words else "no words"
        if status in (401, 403):
            return self._failed(
                f"refused the bucket's access key or the token ({said}, {status}): the key must be allowed to read the "
                "bucket, and neither a firewall nor a retention policy of the bucket may shut Aspera out",
                refused=True,
            )
        if status == 404:
            return self._failed(f"does not find the object ({said}, 404)")
        if status in (408, 429) or status >= 500:
            return self._failed(f"failed for now ({said}, {status})", retryable=True)
        return self._failed(f"refused the request ({said}, {status})")

    def _failed(self, what: str, *, retryable: bool = False, refused: bool = False) -> AsperaError:
        return AsperaError(f"ATS at {self._connection.endpoint} {what}.", retryable=retryable, refused=refused)


def _trust(verify: bool | str) -> Any:
    """Say what certificates are checked by: httpx takes a path no more in some versions, and a context in all."""
    if isinstance(verify, str):
        import ssl

        return ssl.create_default_context(cafile=verify)
    return verify


def _error_in(document: object) -> tuple[int, str] | None:
    """Read the node API's error out of a reply: its code, which is like an HTTP status, and its words."""
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return None
    code = error.get("code")
    words = [str(error[name]) for name in ("user_message", "reason") if error.get(name)]
    return (code if type(code) is int and 400 <= code <= 599 else 400), "; ".join(words)
