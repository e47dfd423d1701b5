"""Moving images out of the bucket: whole, hashed on the way, and taken up again where they stopped."""

from __future__ import annotations
