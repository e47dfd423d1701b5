"""Why a conversion stops. Each message says what happened, to which file, and what to do."""

from __future__ import annotations


class ConversionError(Exception):
    """An image cannot be converted."""


class ResultError(ConversionError):
    """What was written is not the disk that was read."""


class QemuImgError(ConversionError):
    """qemu-img failed, or is not there."""
