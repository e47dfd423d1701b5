"""One request on its way through an operation: who asks, for what, with which body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealift.sandbox.iam import Action, Identity, Principal
from sealift.sandbox.store.bodies import AwsChunkedBody, Body
from sealift.sandbox.store.checksums import Digests, check_digests, wanted_algorithms
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.http import Request
from sealift.sandbox.store.objects import ObjectStore

if TYPE_CHECKING:
    from sealift.sandbox.aspera.ats import Ats

_MAX_DOCUMENT = 8 * 2**20


@dataclass(slots=True, kw_only=True)
class Call:
    """A request that is known to be from somebody, with all that operations need."""

    store: ObjectStore
    identity: Identity
    request: Request
    principal: Principal
    body: Body
    bucket: str
    key: str
    ats: Ats | None = None

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded query."""
        return self.request.query

    @property
    def headers(self) -> Mapping[str, str]:
        """Request headers by lower-case name."""
        return self.request.headers

    def claims(self) -> dict[str, str]:
        """Give headers and, once the body is read, trailers: checksums may come in either."""
        trailers = self.body.trailers if isinstance(self.body, AwsChunkedBody) else {}
        return {**self.request.headers, **trailers}

    def allow(self, action: Action, bucket: str | None = None) -> None:
        """Refuse what the caller may not do.

        :raises S3Error: AccessDenied.
        """
        if not self.identity.may(self.principal, action, self.bucket if bucket is None else bucket):
            raise S3Error("AccessDenied")

    def document(self) -> bytes:
        """Read a small body whole, with its checksums verified.

        :raises S3Error: EntityTooLarge, BadDigest and whatever reading a body may raise.
        """
        digests = Digests(wanted_algorithms(self.headers) | {"md5"})
        data, buffer = bytearray(), memoryview(bytearray(64 * 1024))
        while count := self.body.readinto(buffer):
            digests.update(buffer[:count])
            data += buffer[:count]
            if len(data) > _MAX_DOCUMENT:
                raise S3Error("EntityTooLarge")
        check_digests(digests, self.claims())
        return bytes(data)
