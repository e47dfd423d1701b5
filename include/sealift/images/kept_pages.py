"""A source whose last pages stay in memory: for a reader of many small pieces, where each read may be a request."""

from __future__ import annotations

from typing import Final

from sealift.images.recent import Recent
from sealift.images.source import RangeSource, check_range

PAGE: Final = 256 * 1024
"""Bytes that are read at once."""
KEPT: Final = 64
"""Pages that stay in memory: 16 MiB."""


class KeptPages:
    """A source that is read in whole pages, of which the last ones are kept. May be used by many threads.

    :param source: where the bytes come from; its ``read`` is called from as many threads.
    :param name: what it is called in messages.
    """

    def __init__(self, source: RangeSource, *, name: str = "the disk") -> None:
        self._source = source
        self._name = name
        self._pages: Recent[bytes] = Recent(most=KEPT)
        self.size = source.size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :raises ShortReadError: if the source has fewer.
        """
        check_range(name=self._name, size=self.size, offset=offset, length=length)
        first, last = offset // PAGE, -(-(offset + length) // PAGE)
        data = b"".join(self._page(number) for number in range(first, last))
        start = offset - first * PAGE
        return data[start : start + length]

    def _page(self, number: int) -> bytes:
        found = self._pages.get(number)
        if found is None:
            start = number * PAGE
            found = self._source.read(start, min(PAGE, self.size - start))
            self._pages.put(number, found)
        return found
