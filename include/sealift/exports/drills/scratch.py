"""The scratch folder of a rehearsal: its own while it runs, gone afterwards, also after a crash.

Each rehearsal has a folder below ``sealift-drills`` and, beside it, a file that it holds locked (flock(2)) while it
runs. The lock ends with the process, however that ends: a folder whose lock nobody holds was left behind, and the next
rehearsal on this machine deletes it. Images hold what the server holds, so that nobody else may read the folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sealift.exports import names
from sealift.transfer.errors import InUseError, TransferError

ROOM: Final = "sealift-drills"
"""The one folder that all rehearsals on a machine are in."""

_OURS: Final = re.compile(r"([1-9]\d*-[A-Za-z0-9._-]+\.[0-9a-f]{8}\.drill)(?:\.lock)?", re.ASCII)


def scratch_root(under: Path | None) -> Path:
    """Say where rehearsals keep their files.

    :param under: the folder that somebody named, or None for the machine's temporary folder.
    :returns: ``<folder>/sealift-drills``.
    """
    return (under or Path(tempfile.gettempdir())) / ROOM


def folder_name(*, export_id: str, drill_id: str) -> str:
    """Name the folder of a rehearsal: another try of the same drill finds what this one left.

    :param export_id: the export.
    :param drill_id: the drill.
    :returns: as ``12345678-20261123T0200Z.1b9f0c3d.drill``.
    :raises SettingsError: it is no export id, and could lead anywhere.
    """
    names.parse_export_id(export_id)
    return f"{export_id}.{hashlib.sha256(drill_id.encode()).hexdigest()[:8]}.drill"


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """Give a rehearsal its folder, and delete it with everything in it afterwards.

    :param root: see :func:`scratch_root`; it is made where there is none.
    :param name: see :func:`folder_name`.
    :returns: the folder. It is empty, unless a crash of the same rehearsal left something.
    :raises InUseError: another process is at this very rehearsal.
    :raises TransferError: the folder of all rehearsals is somebody else's, or others may write to it.
    :raises OSError: the folder cannot be made.
    """
    root.mkdir(parents=True, mode=0o700, exist_ok=True)
    _check_owner(root)
    clear_left(root, but=name)
    lock = _locked(root / f"{name}.lock")
    if lock is None:
        raise InUseError(f"Another process rehearses the same export in {root / name}. Wait for its end.")
    folder = root / name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        yield folder
    finally:
        _remove(folder, lock)


def clear_left(root: Path, *, but: str = "") -> list[str]:
    """Delete the folders that crashed rehearsals left behind; those of running ones stay.

    :param root: see :func:`scratch_root`.
    :param but: this one stays.
    :returns: the names of those that were deleted.
    """
    found = sorted({match[1] for path in root.glob("*.drill*") if (match := _OURS.fullmatch(path.name))} - {but})
    cleared = []
    for name in found:
        lock = _locked(root / f"{name}.lock")
        if lock is not None:
            _remove(root / name, lock)
            cleared.append(name)
    return cleared


def _check_owner(root: Path) -> None:
    """In a temporary folder that all share, somebody else may have made it first, to read what is written there."""
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise TransferError(
            f"{root} is another user's, or others may write to it: images are not brought there. Delete it, or name "
            "another scratch folder (--scratch, or [sealift] drill_folder)."
        )


def _locked(path: Path) -> int | None:
    """Lock a file; None where somebody else holds it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:
            pass
        # It was deleted by whoever held it, between the opening and the lock.
        os.close(fd)


def _remove(folder: Path, lock: int) -> None:
    """Delete a folder, then the file that was locked for it: a crash in between leaves the lock file to be found."""
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
    finally:
        os.close(lock)
