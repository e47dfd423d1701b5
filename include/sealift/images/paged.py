"""A table of numbers inside a file, read page by page: images say how long their tables are, and may say anything."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator
from typing import Final, Literal

from sealift.images.recent import Recent
from sealift.images.source import RangeSource

PAGE: Final = 256 * 1024
"""Bytes of a table that are read at once."""

KEPT: Final = 32
"""Pages that stay in memory: 8 MiB, twice the BAT of the largest VHD in blocks of 2 MiB."""


class PagedTable:
    """Reads entries of a table. May be used by many threads.

    :param source: the file.
    :param at: its byte where the table begins; the whole table must lie inside the file.
    :param count: entries of the table.
    :param kind: ``I`` for entries of four bytes, ``Q`` for eight.
    :param order: which byte of an entry comes first.
    """

    def __init__(
        self, source: RangeSource, *, at: int, count: int, kind: Literal["I", "Q"], order: Literal["big", "little"]
    ) -> None:
        self._source = source
        self._at = at
        self._count = count
        self._kind = kind
        self._swap = order != sys.byteorder
        self._item = array.array(kind).itemsize
        assert self._item == (4 if kind == "I" else 8)
        self._per_page = PAGE // self._item
        self._pages: Recent[array.array[int]] = Recent(most=KEPT)
        if count:  # of most tables that is all, and one that cannot be read is found out at once
            self._page(0)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self._count:
            raise IndexError(f"entry {index} of a table of {self._count}")
        page, within = divmod(index, self._per_page)
        return self._page(page)[within]

    def __iter__(self) -> Iterator[int]:
        for page in range(-(-self._count // self._per_page)):
            yield from self._page(page)

    def _page(self, number: int) -> array.array[int]:
        found = self._pages.get(number)
        if found is None:
            first = number * self._per_page
            length = min(self._per_page, self._count - first) * self._item
            found = array.array(self._kind)
            found.frombytes(self._source.read(self._at + first * self._item, length))
            if self._swap:
                found.byteswap()
            self._pages.put(number, found)
        return found
