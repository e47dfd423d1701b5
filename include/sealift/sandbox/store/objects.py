"""The object store: buckets and objects over an index and plain files, for the HTTP side and for direct use in-process.

Order of every write: bytes into ``incoming/``, rename into place, one commit in the index. A process killed anywhere
leaves either the old state or the new one; what it leaves in files goes at the next start.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sealift.sandbox.history import OFF, By
from sealift.sandbox.store import listing, locks
from sealift.sandbox.store.blobs import BUFFER, Blobs, Incoming
from sealift.sandbox.store.checksums import Digests
from sealift.sandbox.store.conditions import Preconditions
from sealift.sandbox.store.database import Database
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.lifecycle import Expired, expire
from sealift.sandbox.store.models import Attributes, Bucket, StoredObject, region_of
from sealift.sandbox.store.multipart import Uploads, upload_ended
from sealift.sandbox.store.records import (
    BUCKET_COLUMNS,
    OBJECT_COLUMNS,
    attributes_from_text,
    attributes_to_text,
    bucket_from_row,
    key_bytes,
    object_from_row,
)

_BUCKET_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9][a-z0-9.-]*[a-z0-9]")
_MAX_KEY = 1024  # bytes of UTF-8, as in S3
# ``list`` is a method of the store, so its signatures cannot name the type.
_Names = list[str]
_Expirations = list[Expired]
_Buckets = list[Bucket]
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of two files, where the file system can


class ObjectStore:
    """A persistent, thread-safe store in one folder.

    :param root: the store's folder; made if missing.
    :param clock: gives the present time; tests and lifecycle rules turn it.
    :raises StoreInUseError: when another process or object has the folder open. :meth:`close` gives it free.
    """

    def __init__(self, *, root: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = Path(root)
        self.clock = clock
        self.history = OFF
        """Where every change of an object is recorded; whoever opens the store sets it."""
        self.blobs = Blobs(self.root)
        self.database = Database(self.root / "index.sqlite")
        self.uploads = Uploads(self)
        self.blobs.clean(
            object_names={row[0] for row in self.database.query("SELECT blob FROM objects WHERE blob IS NOT NULL")},
            part_names={row[0] for row in self.database.query("SELECT blob FROM parts")},
        )

    def close(self) -> None:
        """Close the index and give the folder free."""
        self.database.close()
        self.blobs.close()

    # Buckets

    def create_bucket(
        self, name: str, *, location_constraint: str = "us-south-standard", service_instance: str = ""
    ) -> None:
        """Make a bucket.

        :param location_constraint: a COS provisioning code, ``<region>-<storage class>``.
        :param service_instance: id (or CRN) of the service instance that the bucket belongs to.
        :raises S3Error: BucketAlreadyExists, BucketAlreadyOwnedByYou, InvalidBucketName, InvalidLocationConstraint.
        """
        if not _BUCKET_NAME.fullmatch(name) or ".." in name:
            raise S3Error("InvalidBucketName")
        if region_of(location_constraint) is None:
            raise S3Error("InvalidLocationConstraint")
        with self.database.transaction() as tx:
            known = tx.execute("SELECT service_instance FROM buckets WHERE name = ?", (name,)).fetchone()
            if known:
                raise S3Error("BucketAlreadyOwnedByYou" if known[0] == service_instance else "BucketAlreadyExists")
            tx.execute(
                "INSERT INTO buckets (name, created, location_constraint, service_instance) VALUES (?, ?, ?, ?)",
                (name, self.clock().timestamp(), location_constraint, service_instance),
            )

    def bucket(self, name: str) -> Bucket | None:
        """Find a bucket."""
        row = self.database.one(f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name = ?", (name,))  # noqa: S608 - own columns
        return bucket_from_row(row) if row else None

    def buckets(self) -> _Buckets:
        """List all buckets by name."""
        return [bucket_from_row(r) for r in self.database.query(f"SELECT {BUCKET_COLUMNS} FROM buckets ORDER BY name")]  # noqa: S608 - own columns

    def need_bucket(self, name: str) -> Bucket:
        """Find a bucket or raise NoSuchBucket."""
        bucket = self.bucket(name)
        if bucket is None:
            raise S3Error("NoSuchBucket")
        return bucket

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket.

        :raises S3Error: NoSuchBucket; BucketNotEmpty while any version, delete marker or upload is left.
        """
        with self.database.transaction() as tx:
            if not tx.execute("SELECT 1 FROM buckets WHERE name = ?", (name,)).fetchone():
                raise S3Error("NoSuchBucket")
            for table in ("objects", "uploads"):
                if tx.execute(f"SELECT 1 FROM {table} WHERE bucket = ? LIMIT 1", (name,)).fetchone():  # noqa: S608 - two constants
                    raise S3Error("BucketNotEmpty")
            tx.execute("DELETE FROM buckets WHERE name = ?", (name,))
            tx.execute("DELETE FROM bucket_documents WHERE bucket = ?", (name,))

    def set_versioning(self, name: str, status: str) -> None:
        """Set a bucket's versioning to ``Enabled`` or ``Suspended``.

        :raises S3Error: NoSuchBucket; InvalidBucketState where Object Lock needs the versions, or a retention policy
            does not go with them.
        """
        if self.document(name, locks.LOCK) is not None and status != "Enabled":
            raise S3Error("InvalidBucketState", "An Object Lock configuration is present on this bucket.")
        if self.document(name, locks.POLICY) is not None:
            raise S3Error("InvalidBucketState", "A retention policy is not compatible with versioning.")
        with self.database.transaction() as tx:
            if not tx.execute("UPDATE buckets SET versioning = ? WHERE name = ?", (status, name)).rowcount:
                raise S3Error("NoSuchBucket")

    def document(self, bucket: str, kind: str) -> str | None:
        """Read a configuration document of a bucket (lifecycle, tagging, …) as it was put."""
        row = self.database.one("SELECT document FROM bucket_documents WHERE bucket = ? AND kind = ?", (bucket, kind))
        return str(row[0]) if row else None

    def set_document(self, bucket: str, kind: str, document: str | None) -> None:
        """Write or (``None``) delete a configuration document of a bucket."""
        self.need_bucket(bucket)
        with self.database.transaction() as tx:
            if document is None:
                tx.execute("DELETE FROM bucket_documents WHERE bucket = ? AND kind = ?", (bucket, kind))
            else:
                tx.execute("REPLACE INTO bucket_documents VALUES (?, ?, ?)", (bucket, kind, document))

    # Objects

    def head(self, bucket: str, key: str, version_id: str | None = None) -> StoredObject | None:
        """Find an object (its latest version, if that is no delete marker) or one version (delete markers included)."""
        which, more = (
            ("latest = 1 AND delete_marker = 0", ()) if version_id is None else ("version_id = ?", (version_id,))
        )
        row = self.database.one(
            f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket = ? AND key = ? AND {which}",  # noqa: S608 - own columns
            (bucket, key_bytes(key), *more),
        )
        return object_from_row(self.root, row) if row else None

    def latest(self, bucket: str, key: str) -> StoredObject | None:
        """Find the latest version of a key, be it a delete marker."""
        row = self.database.one(
            f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket = ? AND key = ? AND latest = 1",  # noqa: S608 - own columns
            (bucket, key_bytes(key)),
        )
        return object_from_row(self.root, row) if row else None

    def path_of(self, bucket: str, key: str) -> Path | None:
        """Give the plain file that holds an object's bytes, for qemu-img and the like: read it, never write it."""
        found = self.head(bucket, key)
        return found.path if found else None

    def list(self, bucket: str, prefix: str = "") -> Iterator[StoredObject]:
        """List the latest versions under a prefix in the order of their keys; reads in pages."""
        after = ""
        while True:
            page = listing.list_objects(self, bucket, prefix=prefix, after=after, limit=1000)
            yield from page.entries
            if not page.truncated:
                return
            after = page.next_after

    def incoming(self) -> Incoming:
        """Start to receive bytes; hand the result to :meth:`commit`."""
        return self.blobs.incoming()

    def commit(
        self,
        incoming: Incoming,
        *,
        bucket: str,
        key: str,
        etag: str,
        attributes: Attributes,
        part_sizes: Iterable[int] = (),
        preconditions: Preconditions | None = None,
        with_upload: str | None = None,
        by: By = "client",
    ) -> StoredObject:
        """Make received bytes an object: visible at once and wholly, or not at all.

        :param preconditions: checked in the same transaction, so that of two writers only one meets "absent".
        :param with_upload: the multipart upload that ends with this commit.
        :param by: who writes, for the history.
        :raises S3Error: NoSuchBucket, PreconditionFailed, NoSuchUpload, KeyTooLong.
        """
        check_key(key)
        attributes = locks.with_defaults(
            attributes,
            lock=self.document(bucket, locks.LOCK),
            policy=self.document(bucket, locks.POLICY),
            now=self.clock(),
        )
        size, name = incoming.size, self.blobs.new_object_name(bucket, key)
        incoming.keep(self.blobs.path(name))
        with self.database.alone():  # who sees the object finds it in the history
            try:
                with self.database.transaction() as tx:
                    versioning = self._versioning(tx, bucket)
                    if preconditions:
                        current = tx.execute(
                            "SELECT etag, delete_marker FROM objects WHERE bucket = ? AND key = ? AND latest = 1",
                            (bucket, key_bytes(key)),
                        ).fetchone()
                        preconditions.check_write(current[0] if current and not current[1] else None)
                    if with_upload:
                        if not tx.execute("DELETE FROM uploads WHERE upload_id = ?", (with_upload,)).rowcount:
                            raise S3Error("NoSuchUpload")
                        tx.execute("DELETE FROM parts WHERE upload_id = ?", (with_upload,))
                    replaced = self._make_room(tx, bucket, key, versioning)
                    version_id = _new_version_id() if versioning == "Enabled" else "null"
                    self._insert(tx, bucket, key, version_id, name, size, etag, attributes, tuple(part_sizes))
            except BaseException:
                self.blobs.remove([name])
                raise
            put = {"what": "object-put", "bucket": bucket, "key": key, "size": size, "etag": etag, "by": by}
            ended = upload_ended(bucket, key, with_upload, "completed") if with_upload else None
            self.history.effects([put] if ended is None else [put, ended])
        self.blobs.remove(replaced)
        if with_upload:
            self.blobs.remove_parts(with_upload)
        stored = self.head(bucket, key, version_id)
        # Another writer may have replaced it within this instant: then what was stored still has to be answered for.
        return stored or StoredObject(
            row=-1, bucket=bucket, key=key, version_id=version_id, size=size, etag=etag, last_modified=self.clock(),
            attributes=attributes, part_sizes=tuple(part_sizes), delete_marker=False, latest=False, path=None,
        )  # fmt: skip

    def delete(
        self, bucket: str, key: str, version_id: str | None = None, *, by: By = "service"
    ) -> tuple[str | None, bool]:
        """Delete an object as S3 does: a version for good, or by the bucket's versioning.

        :param by: who deletes, for the history.
        :returns: the version id that went or the delete marker that came (``None`` without versioning), and whether a
            delete marker is concerned.
        """
        gone: _Names = []
        with self._recorded(bucket, key, by), self.database.transaction() as tx:
            versioning = self._versioning(tx, bucket)
            if version_id is not None:
                result = self._delete_version(tx, bucket, key, version_id, gone)
            elif not versioning:
                self._delete_version(tx, bucket, key, "null", gone)
                result = (None, False)
            else:
                gone += self._make_room(tx, bucket, key, versioning)
                marker = _new_version_id() if versioning == "Enabled" else "null"
                self._insert(tx, bucket, key, marker, None, 0, "", Attributes(), ())
                result = (marker, True)
        self.blobs.remove(gone)
        return result

    @contextmanager
    def _recorded(self, bucket: str, key: str, by: By) -> Iterator[None]:
        """Put into the history what a deletion changes: with versions, an older one may come to light again."""
        if not self.history.on:
            yield
            return
        with self.database.alone():
            before = self.head(bucket, key)
            yield
            after = self.head(bucket, key)
            if before and not after:
                self.history.effect("object-deleted", bucket=bucket, key=key, by=by)
            elif after and (not before or before.row != after.row):
                self.history.effect("object-put", bucket=bucket, key=key, size=after.size, etag=after.etag, by=by)

    def set_lock(self, stored: StoredObject, lock: Mapping[str, str]) -> None:
        """Replace what keeps a version from being deleted."""
        self._update_attributes(stored, dataclasses.replace(stored.attributes, lock=lock))

    def set_tags(self, stored: StoredObject, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        self._update_attributes(stored, dataclasses.replace(stored.attributes, tags=tags))

    def crc64nvme(self, stored: StoredObject) -> str:
        """Give the CRC-64/NVME over the whole object, base64.

        A put computes it; for an object of parts the first request does, and it is kept.
        """
        if stored.attributes.crc64nvme is None:
            value = self.digest_of(stored.file, "crc64nvme")
            self._update_attributes(stored, dataclasses.replace(stored.attributes, crc64nvme=value))
            return value
        return stored.attributes.crc64nvme

    def digest_of(self, path: Path, algorithm: str) -> str:
        """Compute a checksum over a whole file, reading it in small pieces.

        :param algorithm: one of checksums.ALGORITHMS.
        :returns: base64, as S3's headers carry it.
        """
        return _digests_of(path, algorithm).base64(algorithm)

    def md5_of(self, path: Path) -> str:
        """Compute the MD5 of a whole file in hex, as ETags hold it."""
        return _digests_of(path, "md5").hex("md5")

    def expire(self, now: datetime) -> _Expirations:
        """Carry out all lifecycle rules that are due at ``now``."""
        return expire(self, now)

    # Direct use by the sandbox

    def put_bytes(
        self,
        *,
        bucket: str,
        key: str,
        data: bytes,
        content_type: str = "application/octet-stream",
        metadata: dict[str, str] | None = None,
        by: By = "service",
    ) -> StoredObject:
        """Store a small object as a plain put would."""
        with self.incoming() as incoming:
            incoming.write(data)
            etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
            attributes = Attributes(content_type=content_type, metadata=metadata or {})
            return self.commit(incoming, bucket=bucket, key=key, etag=etag, attributes=attributes, by=by)

    def put_file(
        self,
        *,
        bucket: str,
        key: str,
        source: Path,
        part_size: int = 128 * 2**20,
        move: bool = False,
        link: bool = False,
        content_type: str = "application/octet-stream",
        metadata: dict[str, str] | None = None,
        by: By = "service",
    ) -> StoredObject:
        """Store a file as a multipart upload would leave it: the ETag is the MD5 of the parts' MD5s, then ``-<parts>``.

        :param part_size: bytes per part; the last one may be shorter.
        :param move: take the file itself (a copy, across file systems); its old name goes after the commit.
        :param link: share the file by a hard link; nobody may ever write to it again.
        :param by: who writes, for the history.
        """
        self.need_bucket(bucket)
        size = source.stat().st_size
        sizes = [part_size] * (size // part_size) + ([size % part_size] if size % part_size or not size else [])
        with self.incoming() as incoming:
            if (move or link) and _link(source, incoming.path):
                incoming.size = size
            else:
                _copy(source, incoming, size)
            etag = _multipart_etag(incoming.path, sizes)
            attributes = Attributes(content_type=content_type, metadata=metadata or {})
            stored = self.commit(
                incoming, bucket=bucket, key=key, etag=etag, attributes=attributes, part_sizes=sizes, by=by
            )
        if move:
            source.unlink(missing_ok=True)
        return stored

    # Inside a transaction

    def _versioning(self, tx: sqlite3.Connection, bucket: str) -> str:
        row = tx.execute("SELECT versioning FROM buckets WHERE name = ?", (bucket,)).fetchone()
        if row is None:
            raise S3Error("NoSuchBucket")
        return str(row[0])

    def _make_room(self, tx: sqlite3.Connection, bucket: str, key: str, versioning: str) -> _Names:
        """Take the "latest" mark off a key and, unless versions are kept, its ``null`` version.

        :returns: names of files that nothing names after the commit.
        """
        gone: _Names = []
        if versioning != "Enabled":
            self._remove_row(tx, bucket, key, "null", gone)
        tx.execute(
            "UPDATE objects SET latest = 0 WHERE bucket = ? AND key = ? AND latest = 1", (bucket, key_bytes(key))
        )
        return gone

    def _remove_row(self, tx: sqlite3.Connection, bucket: str, key: str, version_id: str, gone: _Names) -> bool | None:
        """Remove a version's row.

        :returns: whether it was a delete marker; ``None`` if there was no such version.
        :raises S3Error: AccessDenied where it is protected.
        """
        where = "FROM objects WHERE bucket = ? AND key = ? AND version_id = ?"
        row = tx.execute(
            f"SELECT blob, delete_marker, attributes {where}",
            (bucket, key_bytes(key), version_id),
        ).fetchone()
        if row is None:
            return None
        locks.check_removable(attributes_from_text(row[2]).lock, self.clock())
        tx.execute(f"DELETE {where}", (bucket, key_bytes(key), version_id))
        if row[0] is not None:
            gone.append(row[0])
        return bool(row[1])

    def _delete_version(
        self, tx: sqlite3.Connection, bucket: str, key: str, version_id: str, gone: _Names
    ) -> tuple[str | None, bool]:
        was_marker = self._remove_row(tx, bucket, key, version_id, gone)
        tx.execute(
            "UPDATE objects SET latest = 1 WHERE row = (SELECT MAX(row) FROM objects WHERE bucket = ? AND key = ?)",
            (bucket, key_bytes(key)),
        )
        return version_id, bool(was_marker)

    def _insert(
        self, tx: sqlite3.Connection, bucket: str, key: str, version_id: str, name: str | None, size: int, etag: str,
        attributes: Attributes, part_sizes: tuple[int, ...],
    ) -> None:  # fmt: skip
        tx.execute(
            "INSERT INTO objects (bucket, key, version_id, latest, delete_marker, blob, size, etag, modified,"
            " attributes, part_sizes) VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
            (bucket, key_bytes(key), version_id, name is None, name, size, etag, self.clock().timestamp(),
             attributes_to_text(attributes), json.dumps(part_sizes)),
        )  # fmt: skip

    def _update_attributes(self, stored: StoredObject, attributes: Attributes) -> None:
        with self.database.transaction() as tx:
            tx.execute("UPDATE objects SET attributes = ? WHERE row = ?", (attributes_to_text(attributes), stored.row))


def check_key(key: str) -> None:
    """Refuse keys that S3 refuses.

    :raises S3Error: KeyTooLong beyond 1,024 bytes of UTF-8.
    """
    if len(key_bytes(key)) > _MAX_KEY:
        raise S3Error("KeyTooLong")


def _new_version_id() -> str:
    return secrets.token_hex(16)


def _digests_of(path: Path, algorithm: str) -> Digests:
    digests, buffer = Digests([algorithm]), memoryview(bytearray(BUFFER))
    with path.open("rb", buffering=0) as reader:
        while count := reader.readinto(buffer):
            digests.update(buffer[:count])
    return digests


def _link(source: Path, target: Path) -> bool:
    """Give a file a second name in place of ``target``; tells whether the file system allowed it."""
    target.unlink()
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links: the caller copies
        target.touch()
        return False
    return True


def _copy(source: Path, incoming: Incoming, size: int) -> None:
    with source.open("rb") as reader:
        try:
            with incoming.path.open("r+b") as writer:
                fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            incoming.size = size
        except OSError:  # the file system cannot share blocks
            incoming.append_file(source, size)


def _multipart_etag(path: Path, sizes: Sequence[int]) -> str:
    digests = hashlib.md5(usedforsecurity=False)
    buffer = memoryview(bytearray(BUFFER))
    with path.open("rb", buffering=0) as reader:
        for size in sizes:
            part, left = hashlib.md5(usedforsecurity=False), size
            while left:
                count = reader.readinto(buffer[: min(left, BUFFER)])
                if not count:
                    raise EOFError(f"{path.name} became shorter while it was read")
                part.update(buffer[:count])
                left -= count
            digests.update(part.digest())
    return f"{digests.hexdigest()}-{len(sizes)}"
