"""How Aspera reaches a bucket: its access key at the Aspera Transfer Service (ATS), and the token that ATS reads with.

Sources: the SDK's operation ``GetBucketAspera``, its ``ibm_s3transfer.aspera``, and IBM/aspera-cli's class ``CosNode``
agree on both calls. IBM Cloud docs, "Using Aspera high-speed transfer": certain regions only, and no bucket that has an
Immutable Object Storage policy. Which answer the store gives in these two cases is in no source, so every refusal that
is not about the key counts as one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from sealift.cos.connection import is_loopback
from sealift.cos.errors import (
    CosAuthError,
    CosError,
    CosNotFoundError,
    CosNotOfferedError,
    CosPermissionError,
    CosTransientError,
)
from sealift.cos.iam import IamTokens

RECEIVER: Final = "aspera_ats"
"""The client id by which IAM knows ATS."""

_HTTPS_WORKS = "bring the bytes over HTTPS"


class FaspConnection(BaseModel):
    """A bucket's door at ATS. The secret is in no text that is made of this object.

    :param access_key_id: the user name at ATS.
    :param access_key_secret: the password.
    :param endpoint: ATS's address, without a slash at its end.
    :param verify: False, True, or the path of a CA bundle: as the object store's own certificate is checked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_key_id: str
    access_key_secret: SecretStr
    endpoint: str
    verify: bool | str = True


def ask_connection(
    call: Callable[..., dict[str, Any]], *, bucket: str, store: str, by_api_key: bool, verify: bool | str
) -> FaspConnection:
    """Ask the object store how Aspera reaches a bucket.

    :param call: makes a call of the object store: the SDK's name of it, ``what`` it is for, and the ``bucket``.
    :param bucket: the bucket.
    :param store: the object store's address, for messages.
    :param by_api_key: whether the key is an IBM Cloud API key; nothing else can make tokens for ATS.
    :param verify: False, True, or the path of a CA bundle.
    :returns: where ATS is, and the access key there.
    :raises CosNotOfferedError: the bucket is immutable, or its region has no Aspera.
    :raises CosNotFoundError: there is no such bucket.
    :raises CosAuthError: the key is refused, or is an HMAC key.
    :raises CosPermissionError: the key may not ask; the roles Manager, Writer and Reader may.
    """
    if not by_api_key:
        raise _no_api_key(bucket)
    if _is_immutable(call, bucket):
        raise CosNotOfferedError(
            f"bucket {bucket} has an Immutable Object Storage policy, and Aspera refuses such buckets: {_HTTPS_WORKS}",
            bucket=bucket,
        )
    try:
        reply = call("get_bucket_aspera", what=f"tell how Aspera reaches bucket {bucket}", bucket=bucket)
    except (CosTransientError, CosAuthError, CosPermissionError):
        raise
    except CosError as error:
        if error.code == "NoSuchBucket":
            raise
        words, code = error.message, error.code
    else:
        key = reply.get("AccessKey") or {}
        found = (key.get("Id"), key.get("Secret"), reply.get("ATSEndpoint"))
        if all(found):
            return FaspConnection(
                access_key_id=str(found[0]),
                access_key_secret=SecretStr(str(found[1])),
                endpoint=_checked(str(found[2]), bucket),
                verify=verify,
            )
        words, code = "it named no access key", None
    raise CosNotOfferedError(
        f"the object store at {store} offers no Aspera for bucket {bucket} ({words}). Aspera serves certain regions "
        f"only, and a bucket's firewall can shut it out: {_HTTPS_WORKS}",
        code=code,
        bucket=bucket,
    )


def ask_token(tokens: IamTokens | None, receiver: str = RECEIVER) -> SecretStr:
    """Have IAM make a token that only one other service can use.

    :param tokens: IAM, with the API key; None where the client has an HMAC key.
    :param receiver: the client id of the service.
    :returns: the token.
    :raises CosAuthError: there is no API key, or IAM refuses it.
    :raises CosTransientError: IAM failed on every attempt.
    """
    if tokens is None:
        raise _no_api_key(None)
    return SecretStr(tokens.delegated_token(receiver))


def _no_api_key(bucket: str | None) -> CosAuthError:
    return CosAuthError(
        "Aspera needs an IBM Cloud API key, and this connection has an HMAC key, which cannot make tokens for ATS: "
        f"name a connection with an API key, or {_HTTPS_WORKS}",
        bucket=bucket,
    )


def _is_immutable(call: Callable[..., dict[str, Any]], bucket: str) -> bool:
    """Say whether a bucket has a retention policy; a key that may not ask, or a store without policies, says no."""
    what = f"tell whether bucket {bucket} is immutable"
    try:
        reply = call("get_bucket_protection_configuration", what=what, bucket=bucket)
    except (CosTransientError, CosAuthError):
        raise
    except CosNotFoundError as error:
        if error.code == "NoSuchBucket":
            raise
        return False
    except CosError:
        return False
    # A bucket without a policy answers with this status, or with none.
    return (reply.get("ProtectionConfiguration") or {}).get("Status") not in (None, "", "Disabled")


def _checked(endpoint: str, bucket: str) -> str:
    """Refuse an address that a secret must not be sent to."""
    endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
    if not _is_safe(endpoint):
        raise CosError(
            f"the object store names an address of ATS for bucket {bucket} that no secret can be sent to: it must be "
            "like https://ats.example.com:443",
            bucket=bucket,
        )
    return endpoint.rstrip("/")


def _is_safe(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port  # reading a port that is none raises
    except ValueError:
        return False
    if not host or parts.username or parts.password or parts.query or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
