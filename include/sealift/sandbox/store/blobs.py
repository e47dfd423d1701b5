"""Files that hold objects' bytes: written under a temporary name, renamed when whole, removed when nothing names them.

Layout under the store's folder::

    incoming/                          bytes that are still arriving; emptied at every start
    parts/<upload id>/<number>-<id>    parts of uploads that are neither completed nor aborted
    objects/<bucket>/<2 hex>/<id>-<last part of the key>
                                       one plain file per object, so that qemu-img can open it in place
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

from sealift.sandbox.store.errors import StoreInUseError

BUFFER = 256 * 1024
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Incoming:
    """A file that is being received. Leaving its ``with`` block without :meth:`keep` removes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._kept = False

    def write(self, data: memoryview | bytes) -> None:
        """Append ``data`` wholly."""
        assert self._fd is not None
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.size += written
            view = view[written:]

    def append_file(self, path: Path, length: int, *, offset: int = 0) -> None:
        """Append ``length`` bytes of a file from ``offset`` on, inside the kernel where it can."""
        assert self._fd is not None
        with path.open("rb", buffering=0) as source:
            copy_range(source.fileno(), self._fd, offset=offset, length=length)
        self.size += length

    def keep(self, target: Path) -> None:
        """Rename the whole file to its place, which must not exist yet."""
        self._close()
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.rename(target)
        self._kept = True

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._close()
        if not self._kept:
            self.path.unlink(missing_ok=True)


def copy_range(source: int, target: int, *, offset: int, length: int) -> None:
    """Append a range of one open file to another.

    :raises EOFError: when the source ends before ``length`` bytes.
    """
    position, left, in_kernel = offset, length, True
    while left:
        if in_kernel:
            try:
                done = os.copy_file_range(source, target, min(left, 1 << 30), offset_src=position)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                in_kernel = False
                continue
        else:
            done = _write_all(target, os.pread(source, min(left, BUFFER), position))
        if not done:
            raise EOFError(f"a stored file ended {left} bytes early")
        position += done
        left -= done


def _write_all(target: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return len(data)


class Blobs:
    """The folder of files. Only one :class:`Blobs` may have it open at a time.

    :raises StoreInUseError: when another one has.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming, self._parts, self._objects = root / "incoming", root / "parts", root / "objects"
        for folder in (self._incoming, self._parts, self._objects):
            folder.mkdir(parents=True, exist_ok=True)
        # Cleaning up at start would destroy another server's uploads: hence the lock. The kernel drops it on kill -9.
        self._lock: Any = (root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StoreInUseError(
                f"the object store at {root} is open already: stop the other sandbox, or close() its ObjectStore"
            ) from error

    def close(self) -> None:
        """Let others open the folder."""
        self._lock.close()

    def incoming(self) -> Incoming:
        """Start to receive a file."""
        return Incoming(self._incoming / secrets.token_hex(12))

    def new_object_name(self, bucket: str, key: str) -> str:
        """Choose a place for an object's bytes, relative to the store's folder; its name ends as the key does."""
        identity = secrets.token_hex(10)
        tail = _UNSAFE.sub("_", key.rsplit("/", 1)[-1])[-80:] or "object"
        return f"objects/{bucket}/{identity[:2]}/{identity}-{tail}"

    def new_part_name(self, upload_id: str, number: int) -> str:
        """Choose a place for a part's bytes, relative to the store's folder."""
        return f"parts/{upload_id}/{number:05d}-{secrets.token_hex(6)}"

    def path(self, name: str) -> Path:
        """Give the file of a name that this class chose."""
        return self.root / name

    def remove(self, names: Collection[str]) -> None:
        """Remove files that nothing names any more; open readers keep what they have."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def remove_parts(self, upload_id: str) -> None:
        """Remove all parts of an upload."""
        shutil.rmtree(self._parts / upload_id, ignore_errors=True)

    def clean(self, *, object_names: Collection[str], part_names: Collection[str]) -> int:
        """Remove what a killed process left: half received files, and whole ones whose commit never came.

        :returns: how many files went.
        """
        gone = 0
        for path in self._incoming.iterdir():
            path.unlink()
            gone += 1
        for folder, known in ((self._objects, object_names), (self._parts, part_names)):
            for directory, _, files in os.walk(folder):
                for file in files:
                    path = Path(directory) / file
                    if str(path.relative_to(self.root)) not in known:
                        path.unlink()
                        gone += 1
        return gone
