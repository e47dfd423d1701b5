"""Moving image bytes out of the bucket: a room that the borders already know; nothing stands in it yet."""

from __future__ import annotations
