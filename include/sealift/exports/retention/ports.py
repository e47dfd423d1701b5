"""What retention needs of the account and of the object store, as protocols."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from sealift.classic.models import Guest, GuestState, Template
from sealift.cos.models import BucketGuards, MultipartUpload, ObjectVersion, Protection
from sealift.exports.ports import CosApi

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.cos.client import CosClient


class RemovingApi(Protocol):
    """The calls of the object store that remove with care; see :class:`sealift.cos.removing.Removing`."""

    def put_if_match(self, bucket: str, key: str, body: bytes, *, etag: str) -> bool: ...

    def guards(self, bucket: str) -> BucketGuards: ...

    def protection(self, bucket: str, key: str) -> Protection | None: ...

    def versions(self, bucket: str, prefix: str) -> Iterator[ObjectVersion]: ...

    def delete_version(self, bucket: str, key: str, version_id: str) -> None: ...


class UploadsApi(Protocol):
    """The call that aborts an upload; see :class:`sealift.cos.multipart.Multipart`."""

    def abort(self, bucket: str, upload: MultipartUpload) -> None: ...


class Store(CosApi, Protocol):
    """The object store."""

    def list_multipart_uploads(self, bucket: str, prefix: str) -> Iterable[MultipartUpload]: ...

    def upload_size(self, bucket: str, upload: MultipartUpload) -> tuple[int, int]: ...

    @property
    def multipart(self) -> UploadsApi: ...

    @property
    def removing(self) -> RemovingApi: ...


class Account(Protocol):
    """The account."""

    def list_guests(self, *, object_filter: dict[str, Any] | None = None) -> list[Guest]: ...

    def templates_with_prefix(self, prefix: str) -> list[Template]: ...

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]: ...

    def template_states(self, ids: Collection[int]) -> dict[int, Template]: ...

    def delete_template(self, template_id: int) -> None: ...


if TYPE_CHECKING:

    def _fits(classic: ClassicClient, cos: CosClient) -> tuple[Account, Store]:
        """Have the type checker hold the real clients against the protocols."""
        return classic, cos
