"""Reading a disk in few requests: pages that are kept, a budget that ends, and windows onto parts of it.

File systems ask for many small pieces near each other. Over HTTP each request costs more than 64 KiB do, so that pages
of that size are fetched and the last ones kept. What is fetched is counted against a budget, which ends a reading that
damaged metadata lead in circles.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from sealift.images.source import ImageFormatError, RangeSource, check_range

PAGE: Final = 64 * 1024
"""Bytes that are fetched at least."""
AHEAD_PAGES: Final = 4
"""Pages that are fetched at once where the reading goes on from page to page: 256 KiB."""
LARGEST_FETCH: Final = 1024 * 1024
CACHE_SIZE: Final = 8 * 1024 * 1024
"""Bytes of pages that are kept, of all disks of a server together."""
MOST_READS: Final = 2_000_000
"""Reads that one reading may make, from kept pages too: a bound on time, where the budget bounds what is fetched."""


class BudgetError(ImageFormatError):
    """More had to be read than a reading may read."""


class Region(Protocol):
    """A part of a disk: a :class:`sealift.images.source.RangeSource` that also reads without keeping."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``, through the kept pages."""
        ...

    def read_once(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``, and fetch no more than these."""
        ...


class Reading:
    """The pages and the budget that all disks of a server share.

    :param budget: bytes that may be fetched.
    """

    def __init__(self, *, budget: int) -> None:
        self.budget = budget
        self.allowed = 0
        self.bytes_read = 0
        self.requests = 0
        self._reads = 0
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._disks = 0

    def allow(self, more: int) -> None:
        """Raise the budget.

        :param more: bytes.
        """
        self.budget += more
        self.allowed += more

    def number_disk(self) -> int:
        """Give the next disk its number."""
        self._disks += 1
        return self._disks - 1

    def count_read(self) -> None:
        """Count a read.

        :raises BudgetError: there were too many.
        """
        self._reads += 1
        if self._reads > MOST_READS:
            raise BudgetError(
                f"more than {MOST_READS} reads were made: what lies on the disk leads in circles", offset=0
            )

    def fetch(self, source: RangeSource, offset: int, length: int) -> bytes:
        """Fetch bytes and count them.

        :param source: the disk.
        :param offset: first byte.
        :param length: number of bytes.
        :raises BudgetError: they are more than the rest of the budget.
        """
        if self.bytes_read + length > self.budget:
            raise BudgetError(
                f"{self.bytes_read} bytes were read, and {length} more at byte {offset} are more than the "
                f"{self.budget} that a proof reads of a server",
                offset=offset,
            )
        self.bytes_read += length
        self.requests += 1
        return source.read(offset, length)

    def kept(self, disk: int, page: int) -> bytes | None:
        """Give a page that is kept.

        :param disk: number of the disk.
        :param page: number of the page.
        """
        found = self._kept.get((disk, page))
        if found is not None:
            self._kept.move_to_end((disk, page))
        return found

    def keep(self, disk: int, page: int, data: bytes) -> None:
        """Keep a page, and let the oldest go.

        :param disk: number of the disk.
        :param page: number of the page.
        :param data: its bytes.
        """
        old = self._kept.pop((disk, page), b"")
        self._kept[disk, page] = data
        self._kept_bytes += len(data) - len(old)
        while self._kept_bytes > CACHE_SIZE:
            _, gone = self._kept.popitem(last=False)
            self._kept_bytes -= len(gone)


class CachedDisk:
    """A whole disk, read page by page.

    :param source: the virtual disk.
    :param reading: whose pages and budget it shares.
    :param name: what it is called in messages.
    """

    def __init__(self, source: RangeSource, *, reading: Reading, name: str) -> None:
        self._source = source
        self._reading = reading
        self.name = name
        self.size = source.size
        self._number = reading.number_disk()
        self._pages = -(-self.size // PAGE)
        self._next_page = -1

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :raises ShortReadError: if the disk has fewer.
        :raises BudgetError: if the budget is spent.
        """
        check_range(name=self.name, size=self.size, offset=offset, length=length)
        self._reading.count_read()
        if length == 0:
            return b""
        pieces: list[bytes] = []
        page = offset // PAGE
        last = (offset + length - 1) // PAGE
        while page <= last:
            data = self._reading.kept(self._number, page)
            if data is not None:
                pieces.append(data)
                page += 1
                continue
            fetched = self._fetch_pages(page, last)
            wanted = last - page + 1
            pieces += fetched[:wanted]
            page += len(fetched)
        start = offset % PAGE
        joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return joined[start : start + length]

    def _fetch_pages(self, first: int, last: int) -> list[bytes]:
        """Fetch missing pages from the first on, in one request."""
        sequential = first == self._next_page
        end = max(last + 1, first + AHEAD_PAGES) if sequential else last + 1
        end = min(end, first + LARGEST_FETCH // PAGE, self._pages)
        known = next((page for page in range(first + 1, end) if self._reading.kept(self._number, page)), end)
        at = first * PAGE
        data = self._reading.fetch(self._source, at, min(known * PAGE, self.size) - at)
        pages = [data[place : place + PAGE] for place in range(0, len(data), PAGE)]
        for number, page in enumerate(pages, first):
            self._reading.keep(self._number, number, page)
        self._next_page = known
        return pages

    def read_once(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``, and fetch no more than these where they are not kept.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :raises ShortReadError: if the disk has fewer.
        :raises BudgetError: if the budget is spent.
        """
        check_range(name=self.name, size=self.size, offset=offset, length=length)
        self._reading.count_read()
        page, start = divmod(offset, PAGE)
        kept = self._reading.kept(self._number, page) if start + length <= PAGE else None
        if kept is not None:
            return kept[start : start + length]
        return self._reading.fetch(self._source, offset, length)


class Window:
    """A part of a region: a partition.

    :param region: what it is a part of.
    :param start: its first byte there.
    :param size: its length in bytes.
    :param name: what it is called in messages.
    :raises ShortReadError: if it reaches beyond the region.
    """

    def __init__(self, region: Region, *, start: int, size: int, name: str) -> None:
        check_range(name=name, size=region.size, offset=start, length=size)
        self._region = region
        self._start = start
        self.size = size
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset`` of the window.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :raises ShortReadError: if the window has fewer.
        """
        check_range(name=self.name, size=self.size, offset=offset, length=length)
        return self._region.read(self._start + offset, length)

    def read_once(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset`` of the window, without keeping what was fetched.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        :raises ShortReadError: if the window has fewer.
        """
        check_range(name=self.name, size=self.size, offset=offset, length=length)
        return self._region.read_once(self._start + offset, length)
