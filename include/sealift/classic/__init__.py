"""The Classic (SoftLayer) API: a typed client with timeouts, retries for reads only, and masks that hold no secret."""

from __future__ import annotations
