"""Parses the text in which LVM keeps a volume group's metadata: sections in braces, numbers, strings and lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from sealift.images.source import ImageFormatError

Scalar: TypeAlias = int | float | str
Section: TypeAlias = "dict[str, Scalar | list[Scalar] | Section]"

DEEPEST: Final = 8
MOST_TOKENS: Final = 200_000

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<number>-?\d+(?:\.\d+)?)(?![\w.+-])
    | (?P<name>[\w.+-]+)
    | (?P<mark>[{}\[\]=,])""",
    re.VERBOSE | re.DOTALL,
)


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._tokens = self._split(text)
        self._next: tuple[str, str] = next(self._tokens, ("end", ""))

    def _split(self, text: str) -> Iterator[tuple[str, str]]:
        at = 0
        for _ in range(MOST_TOKENS):
            if at >= len(text):
                return
            match = _TOKEN.match(text, at)
            if match is None:
                raise ImageFormatError(f"{self._where} cannot be understood at character {at}", offset=at)
            at = match.end()
            kind = match.lastgroup or ""
            if kind != "space":
                yield kind, match.group()
        raise ImageFormatError(f"{self._where} have more than {MOST_TOKENS} words", offset=at)

    def _take(self) -> tuple[str, str]:
        taken = self._next
        self._next = next(self._tokens, ("end", ""))
        return taken

    def _expect(self, mark: str) -> None:
        kind, text = self._take()
        if text != mark or kind not in ("mark", "end"):
            raise ImageFormatError(f"{self._where} have {text!r} where {mark!r} is expected", offset=0)

    def _scalar(self) -> Scalar:
        kind, text = self._take()
        if kind == "string":
            return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
        if kind == "number":
            return float(text) if "." in text else int(text[:40])
        raise ImageFormatError(f"{self._where} have {text!r} where a value is expected", offset=0)

    def section(self, depth: int) -> Section:
        if depth > DEEPEST:
            raise ImageFormatError(f"{self._where} are nested more than {DEEPEST} times", offset=0)
        found: Section = {}
        while self._next[0] in ("name", "number", "string"):
            kind, key = self._take()
            key = key.strip('"') if kind == "string" else key
            if self._next[1] == "{" and self._next[0] == "mark":
                self._take()
                found[key] = self.section(depth + 1)
                self._expect("}")
                continue
            self._expect("=")
            if self._next == ("mark", "["):
                self._take()
                found[key] = self._list()
            else:
                found[key] = self._scalar()
        return found

    def _list(self) -> list[Scalar]:
        found: list[Scalar] = []
        while self._next != ("mark", "]"):
            found.append(self._scalar())
            if self._next != ("mark", ","):
                break
            self._take()
        self._expect("]")
        return found

    def whole(self) -> Section:
        found = self.section(0)
        self._expect("")
        return found


def parse_text(text: str, *, where: str) -> Section:
    """Parse the metadata's text.

    :param text: all of it.
    :param where: what it is called in messages.
    :returns: sections as dictionaries, values by their kinds.
    :raises ImageFormatError: it is not in LVM's syntax.
    """
    return _Parser(text, where).whole()
