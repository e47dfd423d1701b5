"""Moving image bytes out of the bucket."""

from __future__ import annotations
