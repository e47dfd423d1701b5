"""A call of the Classic API and its outcome, whatever the transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sealift.sandbox.classic.errors import ApiError, bad_request

Doc = dict[str, Any]


@dataclass(kw_only=True)
class Call:
    """What a client asks.

    :param service: with its prefix, as ``SoftLayer_Account``.
    :param init_id: the object's id or global identifier, or None.
    :param mask: as it was sent.
    :param filter: as it was sent; None where it could not be read.
    """

    service: str
    method: str
    init_id: str | int | None = None
    args: list[Any] = field(default_factory=list)
    mask: Any = None
    filter: Any = None
    limit: int | None = None
    offset: int = 0
    user: Doc = field(default_factory=dict)

    def arg(self, position: int, name: str) -> Any:
        """:returns: a parameter by its position.

        :raises ApiError: where it was not sent.
        """
        if position >= len(self.args):
            raise bad_request(f"The parameter {name} of {self.service}::{self.method} is missing.")
        return self.args[position]


@dataclass(kw_only=True)
class Reply:
    """What goes back.

    :param total: for a list, how many there are in all pages; None sends no total.
    :param error: set instead of a value.
    :param wire: how the transport shall misbehave: "", "empty", "error_in_200" or "drop".
    """

    value: Any = None
    total: int | None = None
    error: ApiError | None = None
    wire: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
