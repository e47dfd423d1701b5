"""Signs requests that are made without the SDK's client: a bearer token, or AWS Signature Version 4 by ``awscrt``.

The signature itself is a library's: ``awscrt``, which computes the transfers' checksums too. The SDK's own signer would
do as well, but comes with 160 modules that nothing else here needs, and takes a tenth of a second to load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from sealift.cos.iam import IamTokens

_NO_BODY: Final = hashlib.sha256(b"").hexdigest()
_SECONDS: Final = 10.0
"""How long a signature may take; with a key that is at hand it takes microseconds."""


class Signs(Protocol):
    """Gives the headers that make a request one of the key's."""

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Sign a request without a body.

        :param method: as ``GET``.
        :param path: path and query as they are sent.
        :param headers: those that are to be signed; ``Host`` must be among them.
        :returns: these headers, and those that sign them.
        """
        ...


def by_token(tokens: IamTokens) -> Signs:
    """Sign with an IAM token, a new one where the old one ends.

    :param tokens: where tokens come from.
    :returns: the signer; it raises what :meth:`sealift.cos.iam.IamTokens.get_token` raises.
    """

    def sign(method: str, path: str, headers: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG001
        return {**headers, "Authorization": f"Bearer {tokens.get_token()}"}

    return sign


def by_hmac(*, access_key_id: str, secret_access_key: str, region: str) -> Signs:
    """Sign with an HMAC key, as the SDK's ``S3SigV4Auth`` does: the path as it is sent, encoded once.

    :param access_key_id: the key's id.
    :param secret_access_key: its secret.
    :param region: as ``us-south``.
    :returns: the signer.
    """
    from awscrt import auth, http

    keys = auth.AwsCredentialsProvider.new_static(access_key_id, secret_access_key)

    def sign(method: str, path: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        request = http.HttpRequest(method, path, http.HttpHeaders(list(headers.items())))
        settings = auth.AwsSigningConfig(
            algorithm=auth.AwsSigningAlgorithm.V4,
            signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=keys,
            region=region,
            service="s3",
            date=datetime.now(UTC),
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=_NO_BODY,
            signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        return dict(auth.aws_sign_request(request, settings).result(_SECONDS).headers)

    return sign
