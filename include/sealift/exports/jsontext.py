"""One way to write JSON, so that equal things have equal bytes and equal digests."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from pydantic import BaseModel


def canonical_json(value: Any) -> bytes:
    """Write a value (or a pydantic model) as canonical JSON.

    Keys are sorted, text is UTF-8 and not escaped, two spaces indent, one line end ends it. A float without a
    fraction is written as an integer, because the API's two transports disagree about which it is.

    :param value: made of what JSON knows, or a model.
    :returns: the text in UTF-8.
    :raises ValueError: the value holds NaN or an infinity.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(_plain(value), ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False)
    return text.encode() + b"\n"


def compact_json(value: Any) -> bytes:
    """Write a value as JSON on one line: for what is large and read by programs.

    :param value: made of what JSON knows; keys keep their order.
    :returns: the text in UTF-8, with a line end.
    :raises ValueError: the value holds NaN or an infinity.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def digest(body: bytes) -> str:
    """Return ``sha256:<64 hexadecimal digits>`` of some bytes.

    :param body: the bytes.
    :returns: 71 characters.
    """
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value
