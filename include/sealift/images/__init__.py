"""Disk images: reading and writing VHD, and proving that an image is whole."""

from __future__ import annotations
