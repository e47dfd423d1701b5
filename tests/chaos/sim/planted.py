"""Bugs put into the product on purpose, to see that the checker catches them."""

from __future__ import annotations


def plant(name: str) -> None:
    """Put a bug into the product, for the rest of this process."""
    raise ValueError(name)
