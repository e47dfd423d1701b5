"""What a proof checks of the virtual disk, whatever format it is in: its size, and how it begins."""

from __future__ import annotations

from collections.abc import Callable

from sealift.images.partitions import PROBE_LENGTH, PartitionTable, read_partition_table
from sealift.images.source import ImageFormatError
from sealift.images.verdict import Checks

CHS_ROUNDING = 16 * 255 * 512
"""Largest cylinder in bytes: how much a producer may round a disk up so that its geometry expresses the size."""


def capacity_range(capacity: int) -> tuple[int, int]:
    """Return the smallest and largest virtual size that a disk of this capacity may have, in bytes.

    Nobody says whether a Classic disk of "25 GB" has 25 x 10^9 or 25 x 2^30 bytes, so the number of gigabytes is taken
    from the capacity, whichever it was made with, and both are allowed. On top comes one cylinder, up to which tools
    round a disk so that its geometry expresses the size (QEMU without force_size does). A capacity that is neither
    stands for itself.

    :param capacity: of the captured disk, in bytes.
    :returns: both sizes are allowed themselves.
    """
    if capacity % 2**30 == 0:
        low, high = capacity // 2**30 * 10**9, capacity
    elif capacity % 10**9 == 0:
        low, high = capacity, capacity // 10**9 * 2**30
    else:
        low = high = capacity
    return low, high + CHS_ROUNDING


def check_capacity(checks: Checks, size: int, expected: int | None) -> None:
    """Check that a disk has the size of the captured one.

    :param checks: where the finding goes.
    :param size: of the virtual disk, in bytes.
    :param expected: capacity of the captured disk, in bytes; None if it is not known.
    """
    if expected is None:
        return
    low, high = capacity_range(expected)
    fits = low <= size <= high
    checks.record(
        "capacity",
        fits,
        f"a disk of {size} bytes for a captured disk of {expected}" + ("" if fits else f", expected {low} to {high}"),
    )


def check_start(checks: Checks, table: PartitionTable, *, boot_disk: bool) -> None:
    """Check what the start of a disk says.

    :param checks: where the finding goes.
    :param table: what was read there.
    :param boot_disk: the server starts from this disk: a blank or unknown first sector is then a failure.
    """
    if table.damage:
        checks.record("partition_table", False, f"{table.kind} partition table: {table.damage}")
    elif boot_disk and not table.partitions and not table.content:
        checks.record(
            "partition_table",
            False,
            f"the server starts from this disk, but its partition table is {table.summary}",
        )
    else:
        checks.record("partition_table", True, table.summary)


def check_disk(
    checks: Checks, *, read: Callable[[int, int], bytes], size: int, expected: int | None, boot_disk: bool
) -> PartitionTable:
    """Check a virtual disk that a reader gives: its size, then how it begins.

    A file whose structure is broken does not lead to the right first sector, so nothing is said about it.

    :param checks: where findings go; none of them may have failed.
    :param read: reads (offset, length) of the virtual disk.
    :param size: of the virtual disk, in bytes.
    :param expected: as for :func:`check_capacity`.
    :param boot_disk: as for :func:`check_start`.
    :returns: the partition table.
    :raises ProofFailed: if any check has failed.
    """
    check_capacity(checks, size, expected)
    checks.raise_if_failed()
    try:
        start = read(0, min(PROBE_LENGTH, size))
    except ImageFormatError as error:
        raise checks.fail("partition_table", f"the start of the disk cannot be read: {error}") from error
    table = read_partition_table(start, disk_size=size)
    check_start(checks, table, boot_disk=boot_disk)
    checks.raise_if_failed()
    return table
