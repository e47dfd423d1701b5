"""File systems, volumes and their checksums, read without mounting."""

from __future__ import annotations
