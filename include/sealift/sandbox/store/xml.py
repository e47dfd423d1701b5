"""XML as S3 speaks it: documents from nested Python values, and reading requests without surprises."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from sealift.sandbox.store.errors import S3Error

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\r]")

Value = str | int | bool | datetime | None
# An element: its name with a value, or with child elements. ``None`` leaves the element out.
Element = tuple[str, "Value | Iterable[Element]"]


def timestamp(moment: datetime) -> str:
    """Write a time as S3's documents do: UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def document(root: str, children: Iterable[Element] | str, *, namespace: str | None = NAMESPACE) -> bytes:
    """Write a document.

    :param children: the root's child elements, or its text.
    """
    attribute = f' xmlns="{namespace}"' if namespace else ""
    pieces = ['<?xml version="1.0" encoding="UTF-8"?>\n', f"<{root}{attribute}>"]
    if isinstance(children, str):
        pieces.append(_text(children))
    else:
        _write(pieces, children)
    pieces.append(f"</{root}>")
    return "".join(pieces).encode("utf-8")


def _write(pieces: list[str], elements: Iterable[Element]) -> None:
    for name, value in elements:
        if value is None:
            continue
        pieces.append(f"<{name}>")
        if isinstance(value, bool):
            pieces.append("true" if value else "false")
        elif isinstance(value, datetime):
            pieces.append(timestamp(value))
        elif isinstance(value, str | int):
            pieces.append(_text(str(value)))
        else:
            _write(pieces, value)
        pieces.append(f"</{name}>")


def _text(value: str) -> str:
    # Keys may hold characters that XML 1.0 cannot; S3 writes them as references all the same.
    return _CONTROL.sub(lambda match: f"&#{ord(match.group())};", escape(value))


class Node:
    """An element of a request's document; names are matched without their namespace."""

    def __init__(self, element: ET.Element) -> None:
        self._element = element

    @property
    def name(self) -> str:
        """The element's name without its namespace."""
        return self._element.tag.rpartition("}")[2]

    @property
    def text(self) -> str:
        """The element's text, ``""`` if it has none."""
        return self._element.text or ""

    def all(self, name: str) -> list[Node]:
        """Find the children of that name."""
        return [node for node in map(Node, self._element) if node.name == name]

    def first(self, name: str) -> Node | None:
        """Find the first child of that name."""
        return next(iter(self.all(name)), None)

    def value(self, name: str) -> str | None:
        """Read the text of the first child of that name, ``None`` if there is no such child."""
        node = self.first(name)
        return None if node is None else node.text

    def need(self, name: str) -> str:
        """Read the text of a child that must be there.

        :raises S3Error: MalformedXML.
        """
        value = self.value(name)
        if value is None:
            raise S3Error("MalformedXML", f"The element {self.name} lacks {name}.")
        return value


def parse(data: bytes, *roots: str) -> Node:
    """Read a request's document.

    :param roots: the names that its root may have.
    :raises S3Error: MalformedXML, MissingRequestBodyError.
    """
    if not data.strip():
        raise S3Error("MissingRequestBodyError")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # entity bombs need a document type
        raise S3Error("MalformedXML")
    try:
        node = Node(ET.fromstring(data))  # noqa: S314 - no document type, hence no entities
    except (ET.ParseError, ValueError) as error:
        raise S3Error("MalformedXML") from error
    if node.name not in roots:
        raise S3Error("MalformedXML", f"Expected {' or '.join(roots)}, got {node.name}.")
    return node
