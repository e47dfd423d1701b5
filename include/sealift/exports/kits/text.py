"""Putting values that others wrote into the files of a kit, each by the rules of where it goes.

Host names, tags and notes come from an account whose users may write what they like. What stands here keeps them text:
first every character that is not printed goes, line ends among them, then the rest is escaped for its place.
"""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ET
from typing import Final

LIMIT: Final = 200
"""Longest free text that is put into a file, in characters."""

VALUE_LIMIT: Final = 2048
"""Longest value, such as an object's key with its bucket."""

_MARKDOWN = re.compile(r"([\\`*\[\]<>|&~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//))")
"""What would begin something other than text in the middle of a line. A ``_`` between letters does not, and an address
stays text without its colon."""


def plain(value: object, *, limit: int = LIMIT) -> str:
    """Make one line of printable characters.

    :param value: any value.
    :param limit: so many characters at the most.
    :returns: the text, with single blanks for all that is not printed (controls, line ends, marks that turn the
        direction of writing, halves of surrogate pairs).
    """
    text = "".join(one if one.isprintable() else " " for one in str(value)[: 4 * limit])
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def shell(value: object) -> str:
    """Quote a value for a POSIX shell.

    :param value: any value.
    :returns: one word.
    """
    return shlex.quote(plain(value, limit=VALUE_LIMIT))


def quoted(value: object) -> str:
    """Quote a value for a POSIX shell even where it needs no quotes: what is assigned then looks like nothing else.

    :param value: any value.
    :returns: one word in single quotes.
    """
    word = shell(value)
    return word if word.startswith("'") else f"'{word}'"


def hcl(value: object) -> str:
    """Quote a value for Terraform's language, in which ``${`` and ``%{`` would begin a template.

    Source: https://developer.hashicorp.com/terraform/language/expressions/strings

    :param value: any value.
    :returns: a string literal.
    """
    quoted = json.dumps(plain(value, limit=VALUE_LIMIT), ensure_ascii=False)
    return quoted.replace("${", "\\u0024{").replace("%{", "\\u0025{")


def markdown(value: object, *, limit: int = LIMIT) -> str:
    """Escape a value for the middle of a line of Markdown, a cell of a table among it.

    :param value: any value.
    :param limit: so many characters at the most, before they are escaped.
    :returns: text that shows as it is.
    """
    return _MARKDOWN.sub(r"\\\1", plain(value, limit=limit))


def slug(text: str, *, limit: int) -> str:
    """Make a name that every target takes: lower-case letters, digits and ``-``, beginning with a letter.

    :param text: any text.
    :param limit: longest name; of a longer text the end is kept, which holds the ids.
    :returns: a name of at least one character.
    """
    safe = re.sub(r"[^a-z0-9]+", "-", plain(text, limit=VALUE_LIMIT).lower()).strip("-")
    safe = safe[-limit:].strip("-")
    if safe and safe[0].isalpha():
        return safe
    return f"s-{safe[-(limit - 2) :].strip('-')}".rstrip("-")


def lines(*parts: str) -> bytes:
    """Join lines to a file.

    :param parts: lines, or blocks of lines.
    :returns: UTF-8, with one line end at the end.
    """
    return ("\n".join(parts).rstrip("\n") + "\n").encode()


def xml_bytes(element: ET.Element) -> bytes:
    """Write a tree of XML, indented.

    :param element: its root; changed in place.
    :returns: UTF-8, with a declaration and a line end at the end.
    """
    ET.indent(element)
    text: bytes = ET.tostring(element, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def gib(count: int) -> str:
    """Write a size for people.

    :param count: bytes.
    :returns: as ``25 GiB`` or ``25.4 GiB``.
    """
    size = count / 2**30
    return f"{size:.0f} GiB" if size == int(size) else f"{size:.1f} GiB"


def up(count: int, unit: int) -> int:
    """Divide, rounding up.

    :param count: bytes.
    :param unit: bytes of one unit.
    :returns: how many units hold them.
    """
    return -(-count // unit)
