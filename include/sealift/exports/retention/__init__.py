"""Retention: which exports and image templates are kept, which go, and how they go without anything being lost."""

from __future__ import annotations
