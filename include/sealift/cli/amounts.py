"""Amounts of bytes as people type them, for options of commands."""

from __future__ import annotations

import re

import click

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)(?:/s)?", re.IGNORECASE)
_UNITS = ("", "k", "m", "g", "t")


def amount(_ctx: click.Context | None, _param: click.Parameter | None, value: str | None) -> float | None:
    """Read an amount: ``20M``, ``1.5G``, ``500k``; with an i (``20MiB``) by 1,024s; ``/s`` may follow.

    :param value: what was typed, or None.
    :returns: bytes, or None.
    :raises click.BadParameter: it is none, or not above 0.
    """
    if value is None:
        return None
    match = _AMOUNT.fullmatch(value.strip())
    if match is None or float(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is no amount of bytes; one looks like 20M or 1.5G.")
    base = 1024.0 if match[3].lower().startswith("i") else 1000.0
    return float(float(match[1]) * base ** _UNITS.index(match[2].lower()))
