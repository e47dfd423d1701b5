"""How an object is cut into parts, so that what is in memory stays below a bound, however large the object becomes.

S3 takes 10,000 parts for one object. Up to 390 GiB larger parts are enough for that. Beyond, parts stay small. The
first ones are parts of the object itself, so that an image that turns out small is uploaded as any other. What follows
is gathered in intermediate objects, each of which becomes one part of the object by a copy within the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealift.transfer.errors import TransferError

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB

PART_SIZE: Final = 8 * MIB
"""Bytes of each part, at least: a part has to hold what comes last of an image, which is up to 5 MiB."""

STREAMS: Final = 3
MEMORY: Final = 64 * MIB
"""Bytes of parts in memory. An upload that can become large has larger parts and fewer streams for it; it never has
less than a part that is sent and one that is filled meanwhile, and one more where the first comes last."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a store takes, and what Sealift makes of it. Sizes are bytes.

    :param parts: of one object, at the most: 10,000 in S3 and in COS (ibm-cloud-docs/cloud-object-storage, "Storing
        large objects"; AWS, "Amazon S3 multipart upload limits").
    :param smallest_part: of all but the last; same sources.
    :param largest_copy: that one part may be copied from; same sources.
    :param largest_part: that an upload holds in memory; where more would be needed, parts are gathered.
    :param gathered: of an intermediate object, at least: the larger, the fewer, but the longer a client waits for
        the reply to a copy.
    :param round_to: of what larger parts are a multiple.
    """

    parts: int = 10_000
    smallest_part: int = 5 * MIB
    largest_copy: int = 5 * GIB
    largest_part: int = 40 * MIB
    gathered: int = GIB
    round_to: int = MIB


S3_LIMITS: Final = Limits()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The parts of one object.

    :param part_size: bytes of what is sent at once, but the last.
    :param streams: parts that are sent at a time.
    :param direct: how many of them are parts of the object itself.
    :param gathered: how many of those that follow are gathered in one intermediate object; 0 where none follow.
    """

    part_size: int
    streams: int
    direct: int
    gathered: int

    def largest(self, limits: Limits) -> int:
        """Say how many bytes the object can have.

        :param limits: of the store.
        """
        return self.part_size * (self.direct + (limits.parts - self.direct) * self.gathered)


def layout_for(*, largest: int, head: int, streams: int, part_size: int, limits: Limits) -> Layout:
    """Choose the parts of an object.

    :param largest: bytes that it can have at the most.
    :param head: bytes of its beginning that come last; the first part waits for them.
    :param streams: parts that are sent at a time, at the most.
    :param part_size: bytes of each part, at least.
    :param limits: of the store.
    :returns: the layout.
    :raises TransferError: no store takes an object of this size.
    """
    small = max(part_size, limits.smallest_part)
    size = max(small, _padded(-(-largest // limits.parts), limits.round_to))
    direct, gathered = limits.parts, 0
    if size > max(small, limits.largest_part):
        size = small
        direct = limits.parts * 4 // 5
        needed = -(-(largest - direct * size) // ((limits.parts - direct) * size))
        most = min(limits.parts, limits.largest_copy // size)
        if needed > most:
            raise TransferError(
                f"The object could become {largest} bytes large, which are too many for one object of a store of S3."
            )
        gathered = max(needed, min(most, limits.gathered // size))
    # Besides those that are sent, one part is filled, and the first may wait.
    streams = max(1, min(streams, MEMORY // size - (2 if head else 1)))
    return Layout(part_size=size, streams=streams, direct=direct, gathered=gathered)


def _padded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
