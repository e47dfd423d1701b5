"""A local stand-in for the Classic API, Cloud Object Storage and IAM, with real disk images."""

from __future__ import annotations
