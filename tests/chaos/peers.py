"""Which process is at the other end of a connection on loopback; read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def process_of(port: int, among: Iterable[int] | None = None, *, to: int | None = None) -> int | None:
    """Find the process that holds the end of a connection with a local port.

    Ask while the client waits for its reply (at the phases ``arrived`` and ``forwarded``): afterwards the connection
    may be closed. Where a process was forked with the connection open, the one with the lowest id is named.

    :param port: the local port, as a server sees its client's: :attr:`tests.chaos.proxy.Point.peer_port`.
    :param among: process ids to look at; all if not given.
    :param to: the server's own port, which tells apart connections to several servers that share a local port.
    :returns: a process id, or None where nobody holds it any more.
    """
    inodes = {f"socket:[{inode}]" for inode in _inodes(port, to)}
    if not inodes:
        return None
    pids = among if among is not None else (int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit())
    for pid in sorted(pids):
        with suppress(OSError):  # gone in the meantime, or another user's
            for handle in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(handle.path) in inodes:
                        return pid
    return None


def _inodes(port: int, to: int | None) -> set[str]:
    """The sockets that are connected from a local port; those that nobody holds any more have the inode 0."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                ours, theirs = (int(one.rpartition(":")[2], 16) for one in fields[1:3])
                if ours == port and theirs == (to or theirs) and theirs and fields[9] != "0":
                    found.add(fields[9])
    return found
