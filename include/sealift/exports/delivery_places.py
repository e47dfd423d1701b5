"""Where an export can be delivered to: a folder on this machine, or a bucket of anything that speaks S3.

Both keep the same files, and the same notes of what is whole. They differ in how bytes come there and how it is found
out what is there already: a folder is read, a bucket is asked for what it keeps.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from sealift.images.convert.pieces import FileSink, PieceSink
from sealift.images.source import FileSource, RangeSource
from sealift.transfer.aspera.download import begun
from sealift.transfer.download import PART_SIZE, STREAMS
from sealift.transfer.engines import Engines
from sealift.transfer.errors import NoSpaceError
from sealift.transfer.hashing import digests_of_file
from sealift.transfer.pace import Pace
from sealift.transfer.reading import OpensRanges, Remote
from sealift.transfer.s3 import CopyToS3
from sealift.transfer.s3_bucket import S3Bucket, S3Source, unquoted
from sealift.transfer.upload import Upload
from sealift.transfer.upload_targets import S3Target

NOTES: Final = "delivery.json"
"""In a bucket: what was delivered there, so that a HEAD tells whether it is still the same."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How bytes are brought.

    :param streams: range reads at a time.
    :param part_size: bytes of each range read.
    :param pace: how fast bytes may come.
    """

    streams: int = STREAMS
    part_size: int = PART_SIZE
    pace: Pace | None = None


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A file that is whole at its place.

    :param sha256: its SHA-256 in hexadecimal digits.
    :param crc64nvme: its CRC-64/NVME, as S3's headers carry it.
    :param resumed: bytes that an earlier try had brought.
    :param checked: what else was compared, in words.
    """

    sha256: str
    crc64nvme: str
    resumed: int
    checked: str


class Place(Protocol):
    """Where the files of one export go. Names are those of files in it."""

    @property
    def label(self) -> str:
        """What people find it by."""
        ...

    def read(self, name: str) -> bytes | None:
        """Read a small file, or None where there is none."""
        ...

    def write(self, name: str, body: bytes) -> None:
        """Write a small file whole."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        ...

    def is_whole(self, name: str, *, size: int, sha256: str, checked: Callable[[int], None]) -> bool:
        """Say whether a file is there with this digest."""
        ...

    def check_room(self, sizes: Mapping[str, int]) -> None:
        """Refuse before the first byte where files of these sizes do not fit."""
        ...

    def bring(
        self, name: str, remote: Remote, *, client: OpensRanges, how: How, arrived: Callable[[int], None]
    ) -> Brought:
        """Bring an object into a file."""
        ...

    def make(self, name: str, fill: Callable[[PieceSink], None]) -> str:
        """Make a file, which is filled piece by piece, and return its SHA-256. Where that fails, nothing is left."""
        ...

    def open(self, name: str, *, size: int) -> AbstractContextManager[RangeSource]:
        """Open a file for range reads."""
        ...


class FolderPlace:
    """A folder on this machine.

    :param folder: the folder; it is made where there is none.
    :param engines: how objects are brought; over HTTPS if not given.
    """

    def __init__(self, folder: Path, *, engines: Engines | None = None) -> None:
        self.folder = folder
        self._engines = engines or Engines()

    @property
    def label(self) -> str:
        """The folder."""
        return str(self.folder)

    def read(self, name: str) -> bytes | None:
        """See :class:`Place`."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, body: bytes) -> None:
        """See :class:`Place`. The file is flushed to disk before it gets its name; scripts may be run."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.new")
        with unfinished.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if path.suffix == ".sh":
            unfinished.chmod(0o755)
        os.replace(unfinished, path)

    def remove(self, name: str) -> None:
        """See :class:`Place`."""
        (self.folder / name).unlink(missing_ok=True)

    def is_whole(self, name: str, *, size: int, sha256: str, checked: Callable[[int], None]) -> bool:
        """See :class:`Place`. The file is read in full."""
        path = self.folder / name
        return path.is_file() and path.stat().st_size == size and digests_of_file(path, passed=checked).sha256 == sha256

    def check_room(self, sizes: Mapping[str, int]) -> None:
        """See :class:`Place`.

        :raises NoSpaceError: the disk has no room for all of them together.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        needed = sum(max(0, size - self._begun(name)) for name, size in sizes.items())
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise NoSpaceError(
                f"{needed} bytes more are needed in {self.folder}, but only {free} are free there. Make room, or name "
                "a folder on another disk."
            )

    def bring(
        self, name: str, remote: Remote, *, client: OpensRanges, how: How, arrived: Callable[[int], None]
    ) -> Brought:
        """See :class:`Place` and :class:`sealift.transfer.engines.Engines`."""
        done = self._engines.bring(
            client=client,
            remote=remote,
            target=self.folder / name,
            streams=how.streams,
            part_size=how.part_size,
            pace=how.pace,
            arrived=arrived,
        )
        return Brought(sha256=done.sha256, crc64nvme=done.crc64nvme, resumed=done.resumed, checked="")

    def make(self, name: str, fill: Callable[[PieceSink], None]) -> str:
        """See :class:`Place`. The file gets its name once it is whole and flushed to disk."""
        path = self.folder / name
        # Not as a download of the same name is called, which may have been interrupted and whose journal is there.
        fill(FileSink(path, unfinished=path.with_name(f"{name}.made.part")))
        return digests_of_file(path).sha256

    def open(self, name: str, *, size: int) -> AbstractContextManager[RangeSource]:  # noqa: ARG002
        """See :class:`Place`."""
        return FileSource(self.folder / name)

    def _begun(self, name: str) -> int:
        """Bytes on disk that an earlier try, by whichever engine, has allocated already."""
        return _allocated(self.folder / f"{name}.part") + begun(self.folder / name)


class S3Place:
    """Keys below a prefix of a bucket.

    :param bucket: the bucket.
    :param prefix: what the keys begin with, without a slash at its end; may be empty.
    """

    def __init__(self, *, bucket: S3Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._known: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """As ``s3://bucket/prefix``."""
        return f"s3://{self._bucket.bucket}/{self._prefix}"

    def key(self, name: str) -> str:
        """Give a file's key.

        :param name: the file.
        """
        return f"{self._prefix}/{name}" if self._prefix else name

    def read(self, name: str) -> bytes | None:
        """See :class:`Place`."""
        return self._bucket.read(self.key(name))

    def write(self, name: str, body: bytes) -> None:
        """See :class:`Place`."""
        self._bucket.call("put_object", key=self.key(name), Body=body)

    def remove(self, name: str) -> None:
        """See :class:`Place`."""
        self._bucket.call("delete_object", key=self.key(name))

    def is_whole(self, name: str, *, size: int, sha256: str, checked: Callable[[int], None]) -> bool:
        """See :class:`Place`. Nothing is read: what was delivered is there as long as its ETag is the same."""
        noted = self._notes().get(name)
        found = self._bucket.head(self.key(name))
        if found is None or not isinstance(noted, dict):
            return False
        same = (noted.get("sha256"), noted.get("etag"), size) == (
            sha256,
            unquoted(found["ETag"]),
            found["ContentLength"],
        )
        if same:
            checked(size)
        return same

    def check_room(self, sizes: Mapping[str, int]) -> None:
        """See :class:`Place`. A bucket has room."""

    def bring(
        self, name: str, remote: Remote, *, client: OpensRanges, how: How, arrived: Callable[[int], None]
    ) -> Brought:
        """See :class:`Place` and :class:`sealift.transfer.s3.CopyToS3`."""
        done = CopyToS3(
            client=client,
            remote=remote,
            place=self._bucket,
            key=self.key(name),
            streams=how.streams,
            part_size=how.part_size,
            pace=how.pace,
            arrived=arrived,
        ).run()
        self._notes()[name] = {"sha256": done.sha256, "etag": done.etag, "checked_by": done.checked_by}
        self.write(NOTES, json.dumps(self._notes(), indent=2, sort_keys=True).encode())
        return Brought(
            sha256=done.sha256,
            crc64nvme=done.crc64nvme,
            resumed=done.resumed,
            checked=f"compared there by {done.checked_by}",
        )

    def make(self, name: str, fill: Callable[[PieceSink], None]) -> str:
        """See :class:`Place` and :class:`sealift.transfer.upload.Upload`. Nothing touches this machine's disk."""
        upload = Upload(target=S3Target(place=self._bucket, key=self.key(name)))
        fill(upload)
        done = upload.result
        assert done is not None
        sha256 = done.sha256 or self._read(name, size=done.size, etag=done.etag)
        self._notes()[name] = {"sha256": sha256, "etag": done.etag, "checked_by": done.checked_by}
        self.write(NOTES, json.dumps(self._notes(), indent=2, sort_keys=True).encode())
        return sha256

    def _read(self, name: str, *, size: int, etag: str) -> str:
        """Compute the digest of a file whose first bytes came last."""
        source, digest = S3Source(place=self._bucket, key=self.key(name), size=size, etag=etag), hashlib.sha256()
        for at in range(0, size, PART_SIZE):
            digest.update(source.read(at, min(PART_SIZE, size - at)))
        return digest.hexdigest()

    def open(self, name: str, *, size: int) -> AbstractContextManager[RangeSource]:
        """See :class:`Place`."""
        etag = str(self._notes()[name]["etag"])
        return nullcontext(S3Source(place=self._bucket, key=self.key(name), size=size, etag=etag))

    def _notes(self) -> dict[str, Any]:
        if self._known is None:
            try:
                known = json.loads(self.read(NOTES) or b"{}")
            except ValueError:
                known = {}
            self._known = known if isinstance(known, dict) else {}
        return self._known


def _allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
