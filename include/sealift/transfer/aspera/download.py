"""Downloads one object into one file by Aspera: brought by ascp, checked by us, whole or not at all.

ascp writes into a folder of its own beside the file (``<name>.aspera``), where it also keeps what it resumes by; the
next try goes on there. ascp knows nothing of ETags, so that of the object is looked at before and after. What has
arrived is measured, flushed, hashed and compared before it gets its name: nothing that ascp says is taken for a proof.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from pydantic import SecretStr

from sealift.cos.errors import CosAuthError, CosError, CosNotOfferedError, CosPermissionError
from sealift.cos.fasp import FaspConnection
from sealift.cos.models import ObjectInfo
from sealift.cos.redact import Redactor
from sealift.cos.retrying import Retries
from sealift.transfer.aspera.command import Wishes, ascp_command, pair_list
from sealift.transfer.aspera.errors import NO_SPACE, AsperaError
from sealift.transfer.aspera.finding import Ascp
from sealift.transfer.aspera.management import ManagementPort
from sealift.transfer.aspera.node import NodeClient
from sealift.transfer.aspera.session import Patience, Session
from sealift.transfer.aspera.spec import TransferSpec
from sealift.transfer.download import Downloaded, flush_folder, nothing
from sealift.transfer.errors import (
    DigestError,
    EngineUnavailableError,
    InUseError,
    NoSpaceError,
    ReplacedError,
    Stopped,
    TransferError,
)
from sealift.transfer.hashing import ReadDigests, digests_of_file
from sealift.transfer.pace import Pace
from sealift.transfer.reading import Remote

TRIES: Final = 8
"""So often in a row a session may fail without bringing a single byte."""


class ServesAspera(Protocol):
    """The calls of the object store that are needed here; :class:`sealift.cos.client.CosClient` has them."""

    def head(self, bucket: str, key: str) -> ObjectInfo | None:
        """See :meth:`sealift.cos.client.CosClient.head`."""
        ...

    def fasp_connection(self, bucket: str) -> FaspConnection:
        """See :meth:`sealift.cos.client.CosClient.fasp_connection`."""
        ...

    def delegated_token(self) -> SecretStr:
        """See :meth:`sealift.cos.client.CosClient.delegated_token`."""
        ...


class AsperaDownload:
    """One object's way into one file, by ascp. Has the shape of :class:`sealift.transfer.download.Download`.

    :param client: the object store.
    :param remote: the object.
    :param target: the file to make; one that is there is replaced once the new one is whole.
    :param ascp: the program.
    :param pace: how fast bytes may come.
    :param arrived: told how many bytes have arrived, those of earlier tries first.
    :param retries: how a session that fails is followed by another: so often in a row without a single byte.
    :param patience: how long ascp may take for what.
    :param timeout: seconds for each piece of a reply of ATS.
    :param credentials_in_tags: give ascp the storage's credentials in its tags, which every process of this machine can
        read. Whether ATS needs that is not confirmed; only ATS can use them.
    """

    def __init__(
        self,
        *,
        client: ServesAspera,
        remote: Remote,
        target: Path,
        ascp: Ascp,
        pace: Pace | None = None,
        arrived: Callable[[int], None] = nothing,
        retries: Retries | None = None,
        patience: Patience | None = None,
        timeout: float = 60.0,
        credentials_in_tags: bool = False,
    ) -> None:
        self.remote = remote
        self.target = target.absolute()
        self.unfinished = self.target.with_name(f"{target.name}.aspera")
        """The folder that ascp writes to."""
        self._client = client
        self._ascp = ascp
        self._rate = pace.bytes_per_second if pace is not None else None
        self._tell = arrived
        self._retries = retries or Retries(max_attempts=TRIES)
        self._patience = patience or Patience()
        self._timeout = timeout
        self._credentials_in_tags = credentials_in_tags
        self._stop = threading.Event()
        self._transfer_id = str(uuid.uuid4())
        self._there = self._told = 0
        self._resumed: int | None = None

    def run(self) -> Downloaded:
        """Download.

        :returns: the file, whole.
        :raises EngineUnavailableError: Aspera cannot be used for this object or on this machine.
        :raises AsperaError: it failed for good, or for too long. What has arrived stays.
        :raises NoSpaceError: the disk is too small, or full.
        :raises InUseError: another process downloads into this file.
        :raises ReplacedError: the object was replaced or deleted.
        :raises DigestError: what arrived is not what the object should hold; it is thrown away.
        :raises TransferError: the file cannot be written.
        :raises Stopped: somebody asked for it.
        :raises sealift.cos.errors.CosError: the object store or IAM refused, or failed for too long.
        """
        began = time.monotonic()
        try:
            self.unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.unfinished / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._claim(lock)
                digests = self._fetched(lock)
            finally:
                os.close(lock)
        except OSError as error:
            raise self._in_words(error) from error
        self._moved(0, self.remote.size)
        return Downloaded(
            path=self.target,
            size=self.remote.size,
            sha256=digests.sha256,
            crc64nvme=digests.crc64nvme,
            resumed=self._resumed or 0,
            seconds=time.monotonic() - began,
        )

    def stop(self) -> None:
        """Stop: :meth:`run` raises :class:`~sealift.transfer.errors.Stopped`, and the next try goes on from here."""
        self._stop.set()

    def discard(self) -> None:
        """Throw away what has arrived."""
        shutil.rmtree(self.unfinished, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.unfinished / "data" / self.target.name

    # -- before ------------------------------------------------------------------------------------------------------

    def _claim(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.fstat(lock)
            now = (self.unfinished / "lock").stat()
        except (BlockingIOError, FileNotFoundError):
            pass
        else:
            # Whoever was done a moment ago has taken the folder away, lock and all.
            if (ours.st_dev, ours.st_ino) == (now.st_dev, now.st_ino):
                return
        raise InUseError(
            f"Another process downloads into {self.unfinished}, or an ascp that it left behind still does. Wait for "
            "its end, or choose another folder."
        )

    def _prepare(self) -> None:
        """Throw away what is of another object, and make sure that there is room for this one."""
        remote = self.remote
        subject = json.dumps({"bucket": remote.bucket, "key": remote.key, "etag": remote.etag, "size": remote.size})
        note, folder = self.unfinished / "subject.json", self._data.parent
        if not note.exists() or note.read_text(encoding="utf-8", errors="replace") != subject:
            shutil.rmtree(folder, ignore_errors=True)
            note.write_text(subject, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for left in self.unfinished.glob("pairs-*"):
            left.unlink()
        needed = remote.size - begun(self.target)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise NoSpaceError(
                f"{self.target} needs {needed} bytes more, but only {free} are free on its disk. Make room, or choose "
                "a folder on another disk."
            )

    def _check_object(self) -> None:
        """Make sure that the object is the one that was asked for: nothing of Aspera's demands that."""
        remote = self.remote
        found = self._client.head(remote.bucket, remote.key)
        if found is None or (found.etag, found.size) != (remote.etag, remote.size):
            state = "deleted" if found is None else f"replaced (its ETag is {found.etag} now)"
            self.discard()
            raise ReplacedError(
                f"{remote.bucket}/{remote.key} was {state} since it was proven, when its ETag was {remote.etag}. What "
                "has arrived of it is of no use and was thrown away: look at what wrote to the bucket, then export the "
                "server again."
            )

    def _fetched(self, lock: int) -> ReadDigests:
        """Bring the object and give it its name; return its digest."""
        try:
            self._prepare()
            self._check_object()
            self._bring(lock)
            digest = self._verified()
            os.replace(self._data, self.target)
            flush_folder(self.target.parent)
            self.discard()
        finally:
            if not self._has_data():  # nothing to go on with
                self.discard()
        return digest

    def _has_data(self) -> bool:
        folder = self._data.parent
        return folder.is_dir() and any(one.stat().st_size for one in folder.iterdir())

    # -- meanwhile ---------------------------------------------------------------------------------------------------

    def _bring(self, lock: int) -> None:
        """Run sessions until one ends well."""
        if self.remote.size == 0:
            self._data.touch()
            return
        connection = self._connection()
        node = NodeClient(connection=connection, timeout=self._timeout)
        failures, renewed = 0, False
        while True:
            before = self._there
            try:
                if self._stop.is_set():
                    raise Stopped
                self._session(node, connection, lock)
                return
            except Stopped:
                raise self._stopped() from None
            except AsperaError as error:
                if error.code == NO_SPACE:
                    raise self._disk_full() from error
                moved = self._there > before
                failures = 1 if moved else failures + 1
                again = error.retryable or (error.refused and (moved or not renewed))
                renewed = error.refused
                if not again or failures >= self._retries.max_attempts:
                    with contextlib.suppress(CosError):  # this failure is the one to hear of
                        self._check_object()
                    raise self._final(error, failures) from error
            if self._stop.wait(self._retries.wait_before(failures + 1)):
                raise self._stopped()

    def _connection(self) -> FaspConnection:
        try:
            return self._client.fasp_connection(self.remote.bucket)
        except (CosNotOfferedError, CosAuthError, CosPermissionError) as error:
            raise EngineUnavailableError(f"Aspera cannot be used: {error}.") from error

    def _session(self, node: NodeClient, connection: FaspConnection, lock: int) -> None:
        """Run ascp once, with tokens of its own."""
        token = self._client.delegated_token()
        spec = node.download_spec(key=self.remote.key, token=token)
        port = ManagementPort()
        try:
            # Such a file is readable by its owner only.
            with tempfile.NamedTemporaryFile(dir=self.unfinished, prefix="pairs-") as pairs:
                pairs.write(os.fsencode(pair_list(spec, key=self.remote.key, name=self.target.name)))
                pairs.flush()
                wishes = Wishes(
                    folder=self._data.parent,
                    port=port.port,
                    pairs=Path(pairs.name),
                    transfer_id=self._transfer_id,
                    bytes_per_second=self._rate,
                    verify=connection.verify,
                    credentials_in_tags=self._credentials_in_tags,
                    delegated=token,
                )
                Session(
                    command=ascp_command(spec, self._ascp, wishes),
                    port=port,
                    folder=self.unfinished,
                    kept_open=[lock],
                    progress=self._moved,
                    redact=_redactor(spec, token, connection.access_key_secret),
                    stop=self._stop,
                    patience=self._patience,
                ).run()
        finally:
            port.close()

    def _moved(self, start: int, there: int) -> None:
        if self._resumed is None:
            self._resumed = min(start, self.remote.size)
        self._there = max(self._there, min(there, self.remote.size))
        if self._there > self._told:
            self._tell(self._there - self._told)
            self._told = self._there

    # -- after -------------------------------------------------------------------------------------------------------

    def _verified(self) -> ReadDigests:
        """Check what has arrived, and return its digest."""
        remote, path = self.remote, self._data
        found = path.stat().st_size if path.is_file() and not path.is_symlink() else None
        if found != remote.size:
            self.discard()
            state = "no file is there" if found is None else f"the file has {found}"
            raise AsperaError(
                f"ascp says that it has brought {remote.key} ({remote.size} bytes), but {state}. What is there was "
                "thrown away. Try once more, or take HTTPS."
            )
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._check_object()
        digests = digests_of_file(path, passed=self._hashed)
        if difference := remote.difference(digests):
            self.discard()
            raise DigestError(
                f"{difference} What arrived by Aspera was thrown away. Try once more, over HTTPS; if it comes out the "
                "same, the object is damaged, or was when it was read before: export the server again."
            )
        return digests

    def _hashed(self, _count: int) -> None:
        if self._stop.is_set():
            raise self._stopped()

    def _stopped(self) -> Stopped:
        return Stopped(f"The download of {self.remote.key} was stopped; the same command goes on with it.")

    def _final(self, error: AsperaError, failures: int) -> AsperaError:
        tried = f" {failures} sessions in a row brought nothing." if error.retryable and failures > 1 else ""
        return AsperaError(
            f"{self.remote.bucket}/{self.remote.key} could not be brought by Aspera. {error}{tried} What has arrived "
            "is kept: the same command goes on, or HTTPS begins anew.",
            code=error.code,
            retryable=error.retryable,
            refused=error.refused,
        )

    def _disk_full(self) -> NoSpaceError:
        return NoSpaceError(
            f"The disk of {self.target} is full. What has arrived is kept: make room, and the same command goes on."
        )

    def _in_words(self, error: OSError) -> TransferError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._disk_full()
        return TransferError(f"{self.unfinished} cannot be used: {error.strerror or error}.")


def begun(target: Path) -> int:
    """Say how many bytes on disk an unfinished download by Aspera has, for whoever checks the room beforehand.

    :param target: the file that it makes.
    :returns: bytes that are allocated already.
    """
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for one in (target.with_name(f"{target.name}.aspera") / "data").iterdir():
            total += one.stat().st_blocks * 512
    return total


def _redactor(spec: TransferSpec, *secrets: SecretStr) -> Redactor:
    found = [*secrets, *(one for one in (spec.token, spec.remote_password, spec.cookie) if one is not None)]
    return Redactor([one.get_secret_value() for one in found])
