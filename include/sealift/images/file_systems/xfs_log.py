"""Says whether the log of an XFS file system is empty, as it is after an unmount.

Only the log's end is looked for: its sectors carry the number of the round in which they were written, so that the
end is where the numbers change. An unmount leaves a record of its own there. After the kernel's description of the
log (XFS Algorithms & Data Structures, "Journaling Log"; fs/xfs/libxfs/xfs_log_format.h). Numbers are big-endian.
"""

from __future__ import annotations

import struct
from typing import Final

from sealift.images.file_systems.window import Region
from sealift.images.file_systems.xfs_structures import Superblock

_SECTOR: Final = 512
_MAGIC: Final = 0xFEED_BABE
_HEADER_DATA: Final = 32 * 1024
"""Bytes of a record for which one header sector suffices."""
_UNMOUNT: Final = 0x20
_FURTHEST: Final = 2048
"""Sectors back from the end in which the last record's header is looked for. No record is larger than 256 KiB."""


def log_is_empty(region: Region, superblock: Superblock) -> bool | None:
    """Say whether a file system's log has nothing to be replayed.

    :param region: the partition.
    :param superblock: of the file system.
    :returns: None where the log is on another device, or is none that can be understood.
    """
    start = superblock.block_place(superblock.log_start) if superblock.log_start else None
    sectors = superblock.log_blocks * superblock.block // _SECTOR
    if start is None or sectors < 2 or start + sectors * _SECTOR > region.size:
        return None
    return _Log(region, start, sectors).is_empty()


class _Log:
    def __init__(self, region: Region, start: int, sectors: int) -> None:
        self._region = region
        self._start = start
        self._sectors = sectors

    def _read(self, sector: int) -> bytes:
        return self._region.read(self._start + sector * _SECTOR, _SECTOR)

    def _round(self, sector: int) -> int:
        """Return the number of the round in which a sector was written."""
        first, second = struct.unpack_from(">II", self._read(sector))
        return int(second if first == _MAGIC else first)

    def is_empty(self) -> bool | None:
        end = self._end()
        record = self._last_record(end)
        if record is None:
            return None
        header = self._read(record)
        (version,) = struct.unpack_from(">I", header, 8)
        (length,) = struct.unpack_from(">I", header, 12)
        (operations,) = struct.unpack_from(">I", header, 40)
        (size,) = struct.unpack_from(">I", header, 320)
        headers = max(1, -(-size // _HEADER_DATA)) if version & 2 else 1
        after = record + headers + -(-length // _SECTOR)
        if operations != 1 or after % self._sectors != end % self._sectors:
            return False
        return bool(self._read((record + headers) % self._sectors)[9] & _UNMOUNT)

    def _end(self) -> int:
        """Return the first sector that the last record does not cover."""
        first, last = self._round(0), self._round(self._sectors - 1)
        if first == last:
            return self._sectors
        # Sectors of the first round of all that were never written have the number 0; else the old round follows.
        low, high = 0, self._sectors - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self._round(middle) == first:
                low = middle
            else:
                high = middle
        return high

    def _last_record(self, end: int) -> int | None:
        """Return where the last record's header is."""
        for back in range(1, min(self._sectors, _FURTHEST) + 1):
            sector = (end - back) % self._sectors
            if struct.unpack_from(">I", self._read(sector))[0] == _MAGIC:
                return sector
        return None
