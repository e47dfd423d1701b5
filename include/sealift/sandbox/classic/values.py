"""Plain values as the Classic API writes them."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta, timezone

CENTRAL = timezone(timedelta(hours=-6))
"""The time zone of dates that carry none, and of all dates that the API sends by default: US Central."""

_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)


def whole(value: object) -> int | None:
    """:returns: a whole number from 0 up, given as one or as its digits; None for anything else."""
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if _WHOLE.fullmatch(text) else None


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
