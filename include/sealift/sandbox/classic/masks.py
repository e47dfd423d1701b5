"""Object masks: which properties a reply holds.

Grammar: SLDN's article on object masks. ``mask[a,b[c,d],e.f]``, a bare list, ``[mask[…],mask[…]]``, casts in round
brackets and whitespace anywhere are read; what cannot be read is refused with an invented text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sealift.sandbox.classic.errors import ApiError

Mask = dict[str, Any]
"""A tree: each property by name, with the mask of what it holds."""

_TOKEN = re.compile(r"\s*(?:([A-Za-z_][A-Za-z0-9_]*)|([\[\](),.]))")
_PREFIXES = ("mask", "filteredMask")


@lru_cache(maxsize=512)
def parse_mask(text: str) -> Mask:
    """Read an object mask.

    :param text: the mask as it was sent. The result is shared: do not change it.
    :returns: the tree of names; empty where the mask names nothing.
    :raises ApiError: where the text is no mask.
    """
    parser = _Parser(text)
    tree: Mask = {}
    parser.read_top(tree)
    return tree


def mask_of(raw: object) -> Mask:
    """Read a mask given as text or as the older nested structure (property names as keys)."""
    if raw is None or raw == "":
        return {}
    if isinstance(raw, str):
        return parse_mask(raw)
    if isinstance(raw, Mapping):
        return {str(name): mask_of(sub) if isinstance(sub, Mapping) else {} for name, sub in raw.items()}
    raise ApiError("The object mask is malformed.")


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ApiError(f"The object mask is malformed near character {position + 1}.")
            self._tokens.append(match.group(1) or match.group(2))
            position = match.end()
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, wanted: str | None = None) -> str:
        token = self._peek()
        if not token or (wanted is not None and token != wanted):
            raise ApiError(f"The object mask is malformed: {wanted or 'a property name'!r} is missing.")
        self._at += 1
        return token

    def read_top(self, tree: Mask) -> None:
        """A whole mask: bare, prefixed, or a bracketed list of prefixed ones."""
        if self._peek() == "[":
            self._take("[")
            self._read_list(tree, "]")
            self._take("]")
        else:
            self._read_list(tree, "")
        if self._peek():
            raise ApiError(f"The object mask is malformed: {self._peek()!r} was not expected.")

    def _read_list(self, tree: Mask, end: str) -> None:
        while self._peek() not in {end, ""}:
            self._read_item(tree)
            if self._peek() == ",":
                self._take(",")
            elif self._peek() != end:
                raise ApiError(f"The object mask is malformed: {self._peek()!r} was not expected.")

    def _cast(self) -> None:
        if self._peek() == "(":
            self._take("(")
            self._take()
            self._take(")")

    def _read_item(self, tree: Mask) -> None:
        name = self._take()
        if name in "[](),.":
            raise ApiError(f"The object mask is malformed: {name!r} was not expected.")
        self._cast()
        is_prefix = name in _PREFIXES and self._peek() in {"[", "."}  # the word 'mask' itself is no property
        target = tree if is_prefix else tree.setdefault(name, {})
        if self._peek() == "[":
            self._take("[")
            self._read_list(target, "]")
            self._take("]")
        elif self._peek() == ".":
            self._take(".")
            self._read_item(target)
