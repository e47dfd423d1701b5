"""What proofs of every format share: choosing what is read of much, and counting what was."""

from __future__ import annotations

from sealift.images.source import RangeSource


class CountedSource:
    """A source that counts what is read of it.

    :param source: where the bytes come from.
    """

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self.size = source.size
        self.bytes_read = 0
        self.requests = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``, and count them.

        :param offset: first byte, from 0.
        :param length: number of bytes.
        """
        self.note(length)
        return self._source.read(offset, length)

    def note(self, length: int) -> None:
        """Count a read that was made past this source.

        :param length: its bytes.
        """
        self.bytes_read += length
        self.requests += 1


def spread(numbers: list[int], most: int) -> list[int]:
    """Choose some of many evenly, the first and the last among them.

    :param numbers: of which to choose.
    :param most: how many, at least two.
    :returns: all of them, where there are no more.
    """
    if len(numbers) <= most:
        return numbers
    return sorted({numbers[at * (len(numbers) - 1) // (most - 1)] for at in range(most)})
