"""Keys of what lies beside an export's images: target kits, and images in other formats."""

from __future__ import annotations

import re

from sealift.exports.names import PERIOD_PATTERN

_KIT_FILE = re.compile(
    rf"[A-Za-z0-9._-]+-(?P<guest>[1-9]\d*)/(?P=guest)-{PERIOD_PATTERN}/kits/[a-z][a-z-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
)
_CONVERTED_FILE = re.compile(
    rf"[A-Za-z0-9._-]+-(?P<guest>[1-9]\d*)/(?P=guest)-{PERIOD_PATTERN}/converted/[a-z][a-z0-9-]*/"
    r"(?:disk-(?:0|[1-9]\d*)\.[a-z0-9]+|conversion\.json)"
)

_PIECE = re.compile(r"(?:.*/)?converted/[a-z][a-z0-9-]*/\.disk-(?:0|[1-9]\d*)\.[a-z0-9]+\.parts/[0-9a-f]+-\d+")


def kit_key(*, images: str, target: str, name: str) -> str:
    """Return the key of a file of a target kit.

    :param images: the export's :func:`sealift.exports.names.image_prefix`.
    :param target: the target, as ``aws``.
    :param name: the file.
    :returns: as ``images/…/kits/aws/import.sh``.
    """
    return f"{images}/kits/{target}/{name}"


def converted_key(*, images: str, format_: str, index: int, suffix: str) -> str:
    """Return the key of a disk that was converted.

    :param images: the export's :func:`sealift.exports.names.image_prefix`.
    :param format_: the format, as ``vhd-fixed``.
    :param index: the disk's number.
    :param suffix: what such files end with, without the dot.
    :returns: as ``images/…/converted/vhd-fixed/disk-0.vhd``.
    """
    return f"{images}/converted/{format_}/disk-{index}.{suffix}"


def conversion_key(*, images: str, format_: str) -> str:
    """Return the key of the record of a conversion; parameters as for :func:`converted_key`.

    :returns: as ``images/…/converted/vhd-fixed/conversion.json``.
    """
    return f"{images}/converted/{format_}/conversion.json"


def is_kit_file(rest: str) -> bool:
    """Say whether a file of a target kit lies at a key below ``images/``.

    :param rest: the key behind :func:`sealift.exports.names.room_prefix`.
    :returns: False where nothing of ours would be written there.
    """
    return _KIT_FILE.fullmatch(rest) is not None


def is_converted_file(rest: str) -> bool:
    """Say whether a converted disk, or the record of a conversion, lies at a key below ``images/``.

    :param rest: the key behind :func:`sealift.exports.names.room_prefix`.
    :returns: False where nothing of ours would be written there.
    """
    return _CONVERTED_FILE.fullmatch(rest) is not None


def is_piece_of_conversion(key: str) -> bool:
    """Say whether an intermediate object of a conversion lies at a key: it is there while one runs.

    :param key: the key.
    :returns: False where it is something else; see :mod:`sealift.transfer.upload_layout`.
    """
    return _PIECE.fullmatch(key) is not None
