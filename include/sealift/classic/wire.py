"""What passes between the client and the transports: a call, a reply, and how far a failed call came.

Kept apart from the transports, which load the SoftLayer package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class ProblemKind(Enum):
    """How far a call came."""

    NEVER_SENT = "never sent"
    LOST_REPLY = "sent, but no whole reply came"
    REFUSED = "answered with an error"
    EMPTY = "answered with nothing"
    UNREADABLE = "answered with something else than the API's format"
    REDIRECT = "answered with another address"


class WireProblem(Exception):  # noqa: N818 - it never leaves the package: the client turns it into a ClassicError
    """A call that brought no result.

    :param kind: how far it came.
    :param text: the API's or the network's own words; may still hold a secret that the API echoed.
    :param status: the HTTP status, where there was one.
    :param code: the API's own code, where it gave one.
    :param retry_after: seconds, where the API asked for a pause.
    """

    def __init__(
        self,
        kind: ProblemKind,
        text: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.text = text
        self.status = status
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the API.

    :param service: without ``SoftLayer_``.
    :param write: whether it changes something, so that it must not be sent twice.
    """

    service: str
    method: str
    identifier: int | None = None
    args: tuple[Any, ...] = field(default=(), repr=False)
    mask: str | None = None
    object_filter: Mapping[str, Any] | None = None
    limit: int | None = None
    offset: int = 0
    write: bool = False

    @property
    def name(self) -> str:
        """As people write it: ``SoftLayer_Account::getVirtualGuests``."""
        return f"SoftLayer_{self.service}::{self.method}"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a call returned.

    :param value: plain data.
    :param total: how many objects match in all (``SoftLayer-Total-Items``), or None where the reply does not say.
    """

    value: Any
    total: int | None
