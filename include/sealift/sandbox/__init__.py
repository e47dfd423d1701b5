"""A local stand-in for the Classic API, Cloud Object Storage and IAM, with real disk images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealift.sandbox.app import Sandbox

__all__ = ["Sandbox"]


def __getattr__(name: str) -> Any:
    """Load the whole sandbox only when somebody wants it: its parts are of use alone."""
    if name == "Sandbox":
        from sealift.sandbox.app import Sandbox

        return Sandbox
    raise AttributeError(name)
