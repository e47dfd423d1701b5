"""What the domain needs of the Classic API and of the object store, as protocols.

``classic.ClassicClient`` and ``cos.CosClient`` fit them; tests use small fakes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from sealift.classic.models import BareMetalServer, Guest, GuestState, NetworkStorage, Template
from sealift.cos.models import ObjectInfo, PutOutcome

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.cos.client import CosClient


class ClassicApi(Protocol):
    """The calls of the Classic API that exports make. Errors are those of :mod:`sealift.classic.errors`."""

    @property
    def timeout(self) -> float: ...

    def list_guests(self, *, object_filter: dict[str, Any] | None = None) -> list[Guest]: ...

    def get_guests(self, ids: Collection[int]) -> dict[int, Guest]: ...

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]: ...

    def list_bare_metal(self, *, object_filter: dict[str, Any] | None = None) -> list[BareMetalServer]: ...

    def datacenter_names(self) -> set[str]: ...

    def templates_named(self, name: str) -> list[Template]: ...

    def template_states(self, ids: Collection[int]) -> dict[int, Template]: ...

    def templates_with_prefix(self, prefix: str) -> list[Template]: ...

    def newest_templates(self, prefix: str, *, back_to: datetime) -> list[Template]: ...

    def templates_ending(self, suffix: str) -> list[Template]: ...

    def capture(self, guest_id: int, *, name: str, block_device_ids: Sequence[int], note: str) -> Template: ...

    def export_template(self, template_id: int, *, uri: str, ibm_api_key: str) -> None: ...

    def block_devices(self, guest_id: int) -> list[dict[str, Any]]: ...

    def attached_storage(self, guest_id: int) -> list[NetworkStorage]: ...

    def attributes(self, guest_id: int) -> list[dict[str, Any]]: ...

    def guest_detail(self, guest_id: int) -> dict[str, Any]: ...


class CosApi(Protocol):
    """The calls of the object store that exports make. Errors are those of :mod:`sealift.cos.errors`."""

    def preflight(self, *, bucket: str, region: str, prefix: str = "", create: bool = False) -> None: ...

    def head(self, bucket: str, key: str, *, with_part_size: bool = False) -> ObjectInfo | None: ...

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]: ...

    def read(self, bucket: str, key: str) -> bytes | None: ...

    def read_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str | None = None) -> bytes: ...

    def put_if_absent(
        self, bucket: str, key: str, body: bytes, *, content_type: str = "application/json"
    ) -> PutOutcome: ...

    def put(self, bucket: str, key: str, body: bytes, *, content_type: str = "application/json") -> None: ...

    def delete(self, bucket: str, key: str) -> None: ...


class Clock(Protocol):
    """Tells the time, in UTC. Steps that take long ask it when they need it, so that recorded times are true."""

    def __call__(self) -> datetime: ...


class Sleep(Protocol):
    """Waits a number of seconds; injected so that tests need not."""

    def __call__(self, seconds: float, /) -> None: ...


if TYPE_CHECKING:

    def _fits(classic: ClassicClient, cos: CosClient) -> tuple[ClassicApi, CosApi]:
        """Have the type checker hold the real clients against the protocols."""
        return classic, cos
