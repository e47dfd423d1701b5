"""The SDK's client, made the way that keeps accounts, keys and retries apart, and its errors turned into ours."""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from sealift.cos.direct import Direct, Reply
from sealift.cos.errors import CosAuthError, CosError, CosPermissionError, CosTransientError
from sealift.cos.iam import IamTokens
from sealift.cos.network import proxy_demanded
from sealift.cos.redact import Redactor
from sealift.cos.signing import by_hmac, by_token
from sealift.cos.streams import Guarded
from sealift.cos.verdict import Doing, error_for

T = TypeVar("T")


class Connection:
    """Makes calls of one endpoint with one key, each exactly once. May be used by many threads.

    :param region: as ``us-south``.
    :param endpoint_url: the endpoint.
    :param tokens: where tokens come from; None for an HMAC key.
    :param access_key_id: the HMAC key's id.
    :param secret_access_key: the HMAC key's secret.
    :param timeout: seconds to wait for the connection, and then for each piece of a reply.
    :param verify: False, True, or the path of a CA bundle.
    :param redact: takes the secrets out of messages.
    """

    def __init__(
        self,
        *,
        region: str,
        endpoint_url: str,
        tokens: IamTokens | None,
        access_key_id: str | None,
        secret_access_key: str | None,
        timeout: float,
        verify: bool | str,
        redact: Redactor,
    ) -> None:
        self._region = region
        self._endpoint_url = endpoint_url
        self._tokens = tokens
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._timeout = timeout
        self._verify = verify
        self._redact = redact
        self._lock = threading.Lock()
        self._s3: Any = None
        self._direct: Direct | None = None
        self._directly: bool | None = None
        self._new_for_a_permission = ""

    def __repr__(self) -> str:
        return f"Connection({self._endpoint_url}, {self.key_kind} key)"

    @property
    def key_kind(self) -> str:
        """``IAM`` or ``HMAC``."""
        return "IAM" if self._tokens else "HMAC"

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._lock:
            s3, self._s3 = self._s3, None
            direct, self._direct = self._direct, None
        if s3 is not None:
            s3.close()
        if direct is not None:
            direct.close()

    def call(self, operation: str, doing: Doing, **params: Any) -> dict[str, Any]:
        """Make a call, once; a second time, with a new token, where the store refused it for the token's sake.

        :param operation: the SDK's name of it.
        :param doing: what it is for, for messages.
        :param params: as the SDK takes them.
        :returns: the SDK's reply.
        :raises CosError: without a cause or context, which could hold a request.
        """
        s3 = self._opened()
        return self._with_a_good_token(lambda: self._call(s3, operation, doing, params))

    def ask(self, method: str, doing: Doing, *, headers: Mapping[str, str], query: str = "") -> Reply:
        """Look at or read an object without the SDK, once; a second time, with a new token, as :meth:`call` does.

        Only where :attr:`goes_directly`.

        :param method: ``GET`` or ``HEAD``.
        :param doing: which object, and what for.
        :param headers: as ``Range`` and ``If-Match``.
        :param query: as ``partNumber=1``.
        :returns: the reply; it has an ETag.
        :raises CosError: without a cause or context, which could hold a request.
        """
        direct = self._opened_directly()

        def ask() -> Reply:
            reply = direct.ask(method, doing, headers=headers, query=query)
            if reply.headers.get("ETag") is None:
                reply.close()
                raise _reply_lost(doing)
            return reply

        return self._with_a_good_token(ask)

    @property
    def goes_directly(self) -> bool:
        """Whether objects can be read without the SDK: no proxy may have to be asked."""
        if self._directly is None:
            host = urlsplit(self._endpoint_url).hostname or ""
            self._directly = is_loopback(host) or not proxy_demanded()
        return self._directly

    def _with_a_good_token(self, action: Callable[[], T]) -> T:
        failure: CosError
        held = self._tokens.current if self._tokens is not None else ""
        try:
            return action()
        except (CosAuthError, CosPermissionError) as error:
            failure = error.with_traceback(None)
        if self._tokens is None or not self._new_token_may_help(self._tokens, held, failure):
            raise failure
        try:
            return action()
        finally:
            if isinstance(failure, CosPermissionError):
                self._new_for_a_permission = self._tokens.current

    def _new_token_may_help(self, tokens: IamTokens, held: str, failure: CosError) -> bool:
        """Make room for a new token where that may help: a machine that slept, or a clock that is wrong.

        Nothing was done by a call that was refused so. The store calls an old token expired, or says no more than that
        access is denied (ibm-cos-sdk-js issues 7 and 8, stocator issue 259); as this may as well be the truth, only one
        token is renewed for it.
        """
        refused = held or tokens.current
        if not refused:  # IAM gave none
            return False
        if isinstance(failure, CosPermissionError) and refused == self._new_for_a_permission:
            return False
        tokens.drop(refused)
        return True

    def _call(self, s3: Any, operation: str, doing: Doing, params: Mapping[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = self.guarded(doing, lambda: getattr(s3, operation)(**params))
        headers = reply.get("ResponseMetadata", {}).get("HTTPHeaders")
        # A reply without any header is none, and an empty 200 would pass for an empty list or an empty object.
        named = _NAMED.get(operation)
        if not headers or (named is not None and not any(_has(reply, one) for one in named)):
            raise _reply_lost(doing)
        return reply

    def guarded(self, doing: Doing, action: Callable[[], T]) -> T:
        """Do something with the SDK, and raise our own errors in the place of its.

        :param doing: what it is for, for messages.
        :param action: what to do.
        :returns: what the action returns.
        :raises CosError: without a cause or context, which could hold a request.
        """
        import ibm_botocore.exceptions as sdk
        from ibm_botocore.parsers import ResponseParserError

        failure: CosError
        try:
            return action()
        except CosError as error:  # from IAM, in the middle of the SDK
            failure = error.with_traceback(None)
        except (sdk.BotoCoreError, sdk.ClientError, ResponseParserError, OSError, ET.ParseError) as error:
            failure = error_for(error, doing=doing, redact=self._redact)
        # Outside of the handlers, so that it has no context; a context manager could not do this.
        failure.__cause__ = failure.__context__ = None
        raise failure

    def _opened_directly(self) -> Direct:
        with self._lock:
            if self._direct is None:
                if self._tokens is not None:
                    sign = by_token(self._tokens)
                else:
                    sign = by_hmac(
                        access_key_id=self._access_key_id or "",
                        secret_access_key=self._secret_access_key or "",
                        region=self._region,
                    )
                self._direct = Direct(
                    endpoint_url=self._endpoint_url,
                    sign=sign,
                    timeout=self._timeout,
                    verify=self._verify,
                    redact=self._redact,
                )
            return self._direct

    @property
    def guarded_directly(self) -> Guarded:
        """As :meth:`guarded`, for what :meth:`ask` returned."""
        return self._opened_directly().guarded

    def _opened(self) -> Any:
        with self._lock:
            if self._s3 is None:
                self._s3 = self._open()
            return self._s3

    def _open(self) -> Any:
        import ibm_boto3.session
        from ibm_botocore.config import Config
        from ibm_botocore.handlers import add_expect_header

        # The SDK logs whole requests at DEBUG, with the bearer token in them.
        sdk_log = logging.getLogger("ibm_botocore")
        if sdk_log.level == logging.NOTSET:
            sdk_log.setLevel(logging.INFO)
        # A session of its own: ibm_boto3's default session hands the last client's instance id to all clients.
        with _making:
            under = _made_ahead.pop() if _made_ahead else _new_session()
        session = ibm_boto3.session.Session(botocore_session=under)
        host = urlsplit(self._endpoint_url).hostname or ""
        config = Config(
            signature_version="oauth" if self._tokens else "s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=self._timeout,
            read_timeout=self._timeout,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=16,
            response_checksum_validation="when_required",
            proxies={} if is_loopback(host) else None,
        )
        keys: dict[str, Any] = {"token_manager": self._tokens}
        if self._tokens is None:
            keys = {"aws_access_key_id": self._access_key_id, "aws_secret_access_key": self._secret_access_key}
        s3 = session.client(
            "s3",
            region_name=self._region,
            endpoint_url=self._endpoint_url,
            config=config,
            verify=self._verify,
            **keys,
        )
        # Waiting for "100 Continue", the SDK takes a connection that closes for the status of the reply before it.
        s3.meta.events.unregister("before-call.s3", add_expect_header)
        s3.meta.events.register("before-parameter-build.s3.PutObject", _take_condition)
        s3.meta.events.register("before-call.s3.PutObject", _send_condition)
        return s3


def _reply_lost(doing: Doing) -> CosTransientError:
    return CosTransientError(
        f"the object store's reply was lost when asked to {doing.what}", bucket=doing.bucket, key=doing.key
    )


_made_ahead: Final[list[Any]] = []
"""Sessions that no client has used yet."""

_making: Final = threading.Lock()


def _new_session() -> Any:
    """Make a session that reads neither AWS_PROFILE nor the files of another cloud's tools."""
    import ibm_botocore.session

    nowhere = {
        name: (None, None, default, None)
        for name, default in {
            "profile": None,
            "config_file": os.devnull,
            "credentials_file": os.devnull,
            "cos_credentials_file": os.devnull,
        }.items()
    }
    session = ibm_botocore.session.Session(session_vars=nowhere)
    session.register_component("data_loader", service_models())
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    return session


def _moment(value: Any) -> datetime:
    """Read a reply's time. The SDK's own parser takes hundreds of times as long, and a listing has hundreds of them."""
    if isinstance(value, str) and value.endswith("Z"):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    from ibm_botocore.utils import parse_timestamp

    found: datetime = parse_timestamp(value)
    return found


def warm_up() -> None:
    """Do ahead what the SDK does for its first client: load its models, import what it imports late, make a session."""
    first = Connection(
        region="us-south",
        endpoint_url="http://127.0.0.1:9",
        tokens=None,
        access_key_id="none",
        secret_access_key="none",  # noqa: S106 - it opens nothing: no call is made
        timeout=1.0,
        verify=True,
        redact=Redactor([]),
    )
    first._opened()
    first.close()
    _made_ahead.append(_new_session())  # of which each process that is forked has a copy


@functools.cache
def service_models() -> Any:
    """The SDK's descriptions of its services, parsed once in a process and in those that it forks: nothing secret."""
    from ibm_botocore.loaders import Loader

    return Loader()


_NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "put_object": ("ETag",),
    "get_object": ("ETag",),
    "head_object": ("ETag",),
    "list_objects_v2": ("IsTruncated", "KeyCount", "Name"),
    "list_multipart_uploads": ("IsTruncated", "Bucket"),
    "create_multipart_upload": ("UploadId",),
    "upload_part": ("ETag",),
    "upload_part_copy": ("CopyPartResult.ETag",),
    "complete_multipart_upload": ("ETag",),
    "list_buckets": ("Owner", "Buckets"),
}
"""What a true reply to an operation names, at least one of them."""


def _has(reply: Mapping[str, Any], name: str) -> bool:
    """Whether a reply has something by this name, which may lead into one of its parts."""
    found: Any = reply
    for one in name.split("."):
        found = found.get(one) if isinstance(found, Mapping) else None
    return found is not None


_CONDITIONS: Final = (("IfNoneMatch", "If-None-Match"), ("IfMatch", "If-Match"))


def _take_condition(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    """The SDK's model of PutObject lacks both conditions: take them out before they are refused as unknown."""
    found = {header: params.pop(name) for name, header in _CONDITIONS if params.get(name) is not None}
    if found:
        context["sealift_conditions"] = found


def _send_condition(params: Mapping[str, Any], context: Mapping[str, Any], **_: Any) -> None:
    """… and send them as the headers that they are, before the request is signed."""
    params["headers"].update(context.get("sealift_conditions", {}))


def is_loopback(host: str) -> bool:
    """Whether a host is on this machine, where no proxy is of use.

    :param host: a host name or an address, without a port.
    :returns: True for ``localhost`` and for loopback addresses.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
