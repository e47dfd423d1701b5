"""Which process is at the other end of a connection on loopback; read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def process_of(port: int, among: Iterable[int] | None = None) -> int | None:
    """Find the process that holds the end of a connection with a local port.

    :param port: the local port, as a server sees its client's.
    :param among: process ids to look at; all if not given.
    :returns: a process id, or None where nobody holds it any more.
    """
    inodes = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not inodes:
        return None
    pids = among if among is not None else (int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit())
    for pid in pids:
        with suppress(OSError):  # gone in the meantime, or another user's
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if os.readlink(handle) in inodes:
                        return pid
    return None


def _inodes(port: int) -> set[str]:
    """The sockets that are connected from a local port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
                    found.add(fields[9])
    return found
