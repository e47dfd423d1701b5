"""The wire: the SoftLayer package's two transports over an HTTP session of our own.

The package's own session would resend requests (urllib3 Retry(3) on https), follow redirects and read ``~/.netrc``; its
REST transport drops the error body's ``code`` and trips over a 5xx without ``error``. This session sends a request
exactly once, and turns everything that is not a whole, good HTTP reply into a :class:`WireProblem` before the package
sees it. The package's configuration (``/etc/softlayer.conf``, ``~/.softlayer``, ``SL_*``) is never consulted.
"""

from __future__ import annotations

import http.cookiejar
import json
import math
import os
import re
import socket
import ssl
import xml.parsers.expat
import xmlrpc.client
from collections.abc import Mapping
from typing import Any

import requests
import SoftLayer
import SoftLayer.auth
import SoftLayer.consts
import SoftLayer.exceptions
import SoftLayer.transports
import urllib3.connection
import urllib3.exceptions
from requests.adapters import HTTPAdapter

import sealift
from sealift.classic.endpoints import Endpoint
from sealift.classic.wire import Call, ProblemKind, Reply, WireProblem


class Wire:
    """Sends calls, each exactly once. May be used by many threads.

    :param endpoint: where to.
    :param username: the user name, or ``apikey`` with an IBM Cloud API key.
    :param api_key: the key.
    :param timeout: seconds to wait for the connection, and then for each piece of the reply.
    :param verify: False, True, or the path of a CA bundle.
    :param caller: who calls, for the other side's logs; empty for nobody in particular.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        username: str,
        api_key: str,
        timeout: float,
        verify: bool | str,
        caller: str = "",
    ) -> None:
        user_agent = _user_agent(caller)
        self._session = _OnceSession(endpoint=endpoint, timeout=timeout, user_agent=user_agent)
        told: dict[str, Any] = {"timeout": timeout, "verify": verify, "user_agent": user_agent}
        if endpoint.transport == "rest":
            transport = SoftLayer.transports.RestTransport(endpoint_url=endpoint.url, **told)
            # Only this one keeps the key out of the URL, where the other driver's headers would end up.
            auth = SoftLayer.auth.BasicHTTPAuthentication(username, api_key)
        else:
            transport = SoftLayer.transports.XmlRpcTransport(endpoint_url=endpoint.url, **told)
            auth = SoftLayer.auth.BasicAuthentication(username, api_key)
        transport._client = self._session
        self._client = SoftLayer.BaseClient(auth=auth, transport=transport, config_file=os.devnull)

    def send(self, call: Call) -> Reply:
        """Send one call, once.

        :param call: what to call.
        :returns: the reply.
        :raises WireProblem: where there is no good one; without a cause or context, which could hold the request.
        """
        problem: WireProblem
        try:
            value = self._client.call(
                call.service,
                call.method,
                *call.args,
                id=call.identifier,
                mask=call.mask,
                filter=dict(call.object_filter) if call.object_filter else None,
                limit=call.limit,
                offset=call.offset,
            )
        except WireProblem as caught:
            problem = caught
        except SoftLayer.exceptions.SoftLayerAPIError as caught:
            problem = WireProblem(ProblemKind.REFUSED, str(caught.faultString), code=str(caught.faultCode))
        except (xmlrpc.client.Error, xml.parsers.expat.ExpatError, ValueError, LookupError) as caught:
            # LookupError: a reply without any parameter in it, or in an encoding that nobody knows.
            problem = WireProblem(ProblemKind.UNREADABLE, type(caught).__name__)
        else:
            if not _is_error_body(value):
                # The package says 0 where the reply has no total.
                return Reply(value=_plain(value), total=getattr(value, "total_count", None) or None)
            problem = _refusal(value, status=200)
        raise problem.with_traceback(None)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _user_agent(caller: str) -> str:
    """Say who calls, as the header ``User-Agent`` has it."""
    return f"sealift/{sealift.__version__}{f' ({caller})' if caller else ''} {SoftLayer.consts.USER_AGENT}"


class _OnceSession(requests.Session):
    """An HTTP session that sends every request exactly once."""

    def __init__(self, *, endpoint: Endpoint, timeout: float, user_agent: str) -> None:
        super().__init__()
        self._transport = endpoint.transport
        self.headers.update({"Content-Type": "application/json", "User-Agent": user_agent})
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self.trust_env = not endpoint.loopback
        # An explicit choice of "no further authentication" keeps ~/.netrc out.
        self.auth = _unchanged
        adapter = _PunctualAdapter(timeout=timeout)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; everything but a good reply is a problem.

        :raises WireProblem: see :class:`ProblemKind`.
        """
        kwargs["allow_redirects"] = False
        if kwargs.get("auth") is None:
            kwargs["auth"] = _unchanged
        if self._transport == "xmlrpc" and isinstance(kwargs.get("data"), bytes):
            # The package declares ISO 8859-1 and sends UTF-8; character references are the same in both.
            kwargs["data"] = kwargs["data"].decode("utf-8").encode("ascii", "xmlcharrefreplace")
        problem: WireProblem | None = None
        response = requests.Response()
        try:
            response = super().request(method, url, *args, **kwargs)
        except requests.RequestException as caught:
            problem = _network_problem(caught)
        if problem is None:
            problem = self._reply_problem(response)
        if problem is not None:
            raise problem
        return response

    def _reply_problem(self, response: requests.Response) -> WireProblem | None:
        status = response.status_code
        if 300 <= status < 400:
            return WireProblem(ProblemKind.REDIRECT, response.headers.get("Location", ""), status=status)
        if status >= 400:
            return _refusal(_body_of(response), status=status, retry_after=_seconds(response.headers))
        if not response.content.strip():
            return WireProblem(ProblemKind.EMPTY, "", status=status)
        if self._transport == "rest" and not _is_json(response):
            return WireProblem(ProblemKind.UNREADABLE, response.headers.get("Content-Type", ""), status=status)
        total = response.headers.get("SoftLayer-Total-Items")
        if total is not None and not total.strip().isdigit():
            del response.headers["SoftLayer-Total-Items"]  # the package would fail on it
        return None


class _PunctualAdapter(HTTPAdapter):
    """Connections on which nothing arrives late: what was not received within the timeout is not sent any more.

    Else the kernel goes on for minutes with a request that nobody waits for, and a capture that was given up for good
    could begin when the network comes back.

    :param timeout: seconds.
    """

    def __init__(self, *, timeout: float) -> None:
        self._options = list(urllib3.connection.HTTPConnection.default_socket_options)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            self._options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(timeout * 1000)))
        super().__init__(max_retries=0, pool_maxsize=16)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> Any:
        """Called by the base class for connections to the service itself."""
        return super().init_poolmanager(*args, **kwargs, socket_options=self._options)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        """Called by requests for connections by way of a proxy."""
        return super().proxy_manager_for(proxy, **kwargs, socket_options=self._options)


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "").strip()
    return float(text) if text.isdigit() else None


def _is_json(response: requests.Response) -> bool:
    try:
        response.json()
    except ValueError:
        return False
    return True


def _body_of(response: requests.Response) -> Any:
    """The error that a reply's body holds, as ``{"error", "code"}``, or None where it holds none."""
    text = response.content
    if text.lstrip().startswith(b"<?xml") and b"<fault>" in text:
        try:
            xmlrpc.client.loads(text)
        except xmlrpc.client.Fault as fault:
            return {"error": fault.faultString, "code": fault.faultCode}
        except (xmlrpc.client.Error, xml.parsers.expat.ExpatError, ValueError, LookupError):
            return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_error_body(value: Any) -> bool:
    """Whether a reply with status 200 is an error all the same (softlayer-go looks for this as well)."""
    return isinstance(value, Mapping) and "error" in value and set(value) <= {"error", "code"}


def _refusal(body: Any, *, status: int, retry_after: float | None = None) -> WireProblem:
    text, code = "", None
    if isinstance(body, Mapping):
        text = str(body.get("error") or "")
        code = str(body["code"]) if body.get("code") else None
    return WireProblem(ProblemKind.REFUSED, text, status=status, code=code, retry_after=retry_after)


# What the TLS library says where the other side never got as far as reading a request.
_TLS_NEVER_MET = re.compile(
    "WRONG_VERSION_NUMBER|HANDSHAKE_FAILURE|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS_AVAILABLE|HTTP_REQUEST|UNKNOWN_PROTOCOL"
)


# What proves that nothing was sent, and how to say so. Anything else counts as a lost reply.
_NEVER_SENT: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (urllib3.exceptions.NameResolutionError, "no such host"),
    (urllib3.exceptions.ProxyError, "the proxy did not let the connection through"),
    (requests.ConnectTimeout, "the connection was not accepted in time"),
    (ConnectionRefusedError, "the connection was refused"),
    (urllib3.exceptions.NewConnectionError, "no connection could be made"),
    ((requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema), "its address is not valid"),
)


def _network_problem(error: requests.RequestException) -> WireProblem:
    """What a failed exchange means. Where it is not certain that nothing was sent, the reply counts as lost."""
    causes = _chain(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return WireProblem(ProblemKind.NEVER_SENT, f"its certificate is not trusted ({cause.verify_message})")
        if isinstance(cause, ssl.SSLError) and _TLS_NEVER_MET.search(str(cause.reason)):
            return WireProblem(ProblemKind.NEVER_SENT, f"no TLS connection could be made ({cause.reason})")
    for kinds, words in _NEVER_SENT:
        if any(isinstance(cause, kinds) for cause in causes):
            return WireProblem(ProblemKind.NEVER_SENT, words)
    if any(isinstance(cause, (requests.Timeout, TimeoutError)) for cause in causes):
        return WireProblem(ProblemKind.LOST_REPLY, "no reply came in time")
    return WireProblem(ProblemKind.LOST_REPLY, "the connection broke before the whole reply had come")


def _chain(error: BaseException) -> list[BaseException]:
    """The exceptions inside an exception: requests and urllib3 hand them on as arguments, reasons and contexts."""
    found: list[BaseException] = []
    left: list[BaseException] = [error]
    while left:
        one = left.pop(0)
        if any(one is seen for seen in found):
            continue
        found.append(one)
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        left.extend(candidate for candidate in inner if isinstance(candidate, BaseException))
    return found


def _plain(value: Any) -> Any:
    """XML-RPC's own types as the plain ones that REST has."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, xmlrpc.client.DateTime):
        return str(value)
    if isinstance(value, xmlrpc.client.Binary):
        return value.data.decode("utf-8", "replace")
    return value
