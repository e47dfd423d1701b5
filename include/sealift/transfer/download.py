"""Downloads one object into one file: several range reads at a time, hashed while written, whole or not at all.

The bytes go into ``<name>.part``, which has its full size from the beginning, so that a disk that is too small is found
out first. Parts that are safe on disk stand in ``<name>.journal``; the next try takes them up. Every read demands the
ETag that the download began with, so that no file is ever made of two versions of an object. Only a file that is whole,
has the right digest and is flushed to disk gets its name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealift.cos.retrying import Retries
from sealift.transfer.crew import Crew
from sealift.transfer.errors import DigestError, InUseError, NoSpaceError, Stopped, TransferError
from sealift.transfer.files import OutFile, make_room
from sealift.transfer.hashing import HashInOrder, ReadDigests
from sealift.transfer.journal import Journal, Subject
from sealift.transfer.pace import Pace
from sealift.transfer.reading import OpensRanges, PartReader, Remote

MIB: Final = 1024 * 1024
PART_SIZE: Final = 16 * MIB
STREAMS: Final = 4

BUDGET: Final = 48 * MIB
"""Bytes that may wait in memory to be hashed in their order."""

FLUSH_EVERY: Final = 5.0
"""Seconds between two notes in the journal: so much work a crash can cost."""


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """A file that is whole.

    :param path: the file.
    :param size: its size in bytes.
    :param sha256: its SHA-256 in hexadecimal digits.
    :param crc64nvme: its CRC-64/NVME, as S3's headers carry it.
    :param resumed: bytes that an earlier try had brought.
    :param seconds: how long this try took.
    """

    path: Path
    size: int
    sha256: str
    crc64nvme: str
    resumed: int
    seconds: float


def nothing(_count: int) -> None:
    """Take note of nothing."""


class Download:
    """One object's way into one file.

    :param client: the object store.
    :param remote: the object.
    :param target: the file to make; one that is there is replaced once the new one is whole.
    :param streams: range reads at a time.
    :param part_size: bytes of each range read.
    :param pace: how fast bytes may come.
    :param arrived: told how many bytes have arrived, those of earlier tries first; from any thread.
    :param retries: how a stream that breaks is taken up again: so often in a row without a single byte.
    :raises ValueError: streams or part size are not above 0.
    """

    def __init__(
        self,
        *,
        client: OpensRanges,
        remote: Remote,
        target: Path,
        streams: int = STREAMS,
        part_size: int = PART_SIZE,
        pace: Pace | None = None,
        arrived: Callable[[int], None] = nothing,
        retries: Retries | None = None,
    ) -> None:
        if streams < 1 or part_size < 1:
            raise ValueError(f"a download has a stream or more, and parts of a byte or more: {streams}, {part_size}")
        self.remote = remote
        self.target = target
        self.unfinished = target.with_name(f"{target.name}.part")
        self._streams = streams
        self._part_size = part_size
        self._arrived = arrived
        self._crew = Crew(name="sealift-download")
        self._reader = PartReader(client=client, remote=remote, pace=pace, retries=retries, stop=self._crew.stopped)
        self._subject = Subject(
            bucket=remote.bucket, key=remote.key, etag=remote.etag, size=remote.size, part_size=part_size
        )

    def run(self) -> Downloaded:
        """Download.

        :returns: the file, whole.
        :raises NoSpaceError: the disk is too small, or full.
        :raises InUseError: another process downloads into this file.
        :raises ReplacedError: the object was replaced or deleted.
        :raises DigestError: what arrived is not what the object should hold; it is thrown away.
        :raises TransferError: the file cannot be written.
        :raises sealift.cos.errors.CosError: the object store refused, or failed for too long. What has arrived stays.
        """
        began, remote = time.monotonic(), self.remote
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._claim(fd)
                journal = self._prepared(fd)
                resumed = sum(remote.length(part, self._part_size) for part in journal.done)
                self._arrived(resumed)
                digests = self._fetched(fd, journal)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._in_words(error) from error
        if difference := remote.difference(digests):
            self.discard()
            raise DigestError(
                f"{difference} What arrived was thrown away. Try once more; if it comes out the same, the object is "
                "damaged, or was when it was read before: export the server again."
            )
        os.replace(self.unfinished, self.target)
        flush_folder(self.target.parent)
        journal.remove()
        return Downloaded(
            path=self.target,
            size=remote.size,
            sha256=digests.sha256,
            crc64nvme=digests.crc64nvme,
            resumed=resumed,
            seconds=time.monotonic() - began,
        )

    def stop(self) -> None:
        """Stop: :meth:`run` raises :class:`~sealift.transfer.errors.Stopped`, and the next try goes on from here."""
        self._crew.fail(Stopped(f"The download of {self.remote.key} was stopped; the same command goes on with it."))

    def discard(self) -> None:
        """Throw away what has arrived."""
        self.unfinished.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    @property
    def _journal_path(self) -> Path:
        return self.target.with_name(f"{self.target.name}.journal")

    # -- before ------------------------------------------------------------------------------------------------------

    def _claim(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(
                f"Another process downloads into {self.unfinished}. Wait for its end, or choose another folder."
            ) from error

    def _prepared(self, fd: int) -> Journal:
        """Make room for the whole file, and read what an earlier try noted."""
        size = self.remote.size
        allocated = os.fstat(fd).st_blocks * 512
        free = shutil.disk_usage(self.target.parent).free
        if size - allocated > free:
            raise NoSpaceError(
                f"{self.target} needs {size - allocated} bytes, but only {free} are free on its disk. Make room, or "
                "choose a folder on another disk."
            )
        if os.fstat(fd).st_size != size:
            # Of another length, it is what another object left; a journal about this one would know nothing of it.
            os.ftruncate(fd, 0)
            self._journal_path.unlink(missing_ok=True)
        if size:
            make_room(fd, size)
        return Journal.open(self._journal_path, self._subject)

    # -- meanwhile ---------------------------------------------------------------------------------------------------

    def _fetched(self, fd: int, journal: Journal) -> ReadDigests:
        """Bring the parts that are missing, and return the digests of all."""
        hashing = HashInOrder(
            size=self.remote.size,
            part_size=self._part_size,
            read_back=lambda offset, length: _pread(fd, length, offset),
            on_disk=journal.done,
            budget=BUDGET,
        )
        noted = time.monotonic()

        file = OutFile(fd, self.unfinished)

        def bring(part: int) -> None:
            start, end = self.remote.span(part, self._part_size)
            with self._reader.part(start, end) as arriving:
                while arriving.at < end:
                    at = arriving.at
                    block = hashing.block(at)
                    filled, whole = 0, min(len(block), end - at)
                    while filled < whole:
                        came = arriving.readinto(block[filled:whole])
                        filled += came
                        self._arrived(came)
                    file.write(block[:whole], at)
                    hashing.put_block(at, block, whole)

        def watch() -> None:
            nonlocal noted
            if hashing.error is not None:
                raise hashing.error
            if time.monotonic() - noted >= FLUSH_EVERY:
                self._keep(fd, journal)
                noted = time.monotonic()

        missing = [part for part in range(self.remote.parts(self._part_size)) if part not in journal.done]
        hashing.start()
        try:
            self._crew.run(missing, bring, threads=self._streams, meanwhile=watch, release=hashing.stop)
        finally:
            self._keep(fd, journal)
            file.close()
        return hashing.digests()

    def _keep(self, fd: int, journal: Journal) -> None:
        """Flush what has been written, then note it."""
        new = self._crew.done - journal.done
        if new:
            os.fdatasync(fd)
            journal.note(new)

    def _in_words(self, error: OSError) -> TransferError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpaceError(
                f"The disk of {self.target} is full. What has arrived is kept: make room, and the same command goes on."
            )
        return TransferError(f"{self.unfinished} cannot be written: {error.strerror or error}.")


def _pread(fd: int, length: int, at: int) -> bytes:
    data = os.pread(fd, length, at)
    if len(data) != length:
        raise OSError(errno.EIO, f"{length} bytes at {at} were written, but {len(data)} can be read")
    return data


def flush_folder(folder: Path) -> None:
    """Make a new name last over a loss of power.

    :param folder: where the name is.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
