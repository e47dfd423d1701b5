"""Faults that the sandbox injects on request: seeded, named and counted."""

from __future__ import annotations

from typing import Protocol


class FaultSource(Protocol):
    """Decides whether a named fault happens now."""

    def hit(self, name: str) -> bool:
        """Tell whether the fault ``name`` happens at this call, and count it if so."""
        ...
