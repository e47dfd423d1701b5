"""Plain values as the Classic API writes them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from sealift.sandbox.classic.filters import CENTRAL


def api_time(epoch: float | None) -> str | None:
    """Write a time as the API does by default: ISO 8601 with the offset of US Central.

    :param epoch: seconds since the epoch, or None.
    """
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).astimezone(CENTRAL).isoformat(timespec="seconds")


def stable_uuid(*parts: object) -> str:
    """:returns: a UUID that the same parts always give."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "sealift-sandbox:" + ":".join(str(part) for part in parts)))
