"""Multipart uploads: parts in any order, sent again, of any size; the object appears at the end or never.

Every part is a file of its own until the end, and the parts are joined by the kernel in the order of their numbers.
Writing a part straight to the place where it seems to belong fails where the short last part arrives first or where a
part is sent again and the connection breaks: no size is known before the client names the parts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sealift.sandbox.store.blobs import Incoming
from sealift.sandbox.store.checksums import composite
from sealift.sandbox.store.conditions import Preconditions
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.models import Attributes, Part, StoredObject, Upload
from sealift.sandbox.store.records import (
    PART_COLUMNS,
    UPLOAD_COLUMNS,
    attributes_to_text,
    key_bytes,
    part_from_row,
    upload_from_row,
)

if TYPE_CHECKING:
    from sealift.sandbox.store.objects import ObjectStore

MAX_PARTS = 10_000
MAX_COPY = 5 * 2**30  # bytes that one part may be copied from: AWS, S3 API reference, UploadPartCopy
MIN_PART_SIZE = 5 * 2**20  # all parts but the last: IBM docs, cloud-object-storage, "Store large objects"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPart:
    """A part as CompleteMultipartUpload names it."""

    number: int
    etag: str
    checksums: dict[str, str]


def upload_ended(bucket: str, key: str, upload_id: str, how: str) -> dict[str, str]:
    """:returns: the history's event of an upload's end, ``completed`` or ``aborted``."""
    return {"what": "upload-ended", "bucket": bucket, "key": key, "upload": upload_id, "how": how}


class Uploads:
    """The multipart side of an :class:`~sealift.sandbox.store.objects.ObjectStore`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(self, *, bucket: str, key: str, attributes: Attributes, checksum_algorithm: str = "") -> Upload:
        """Start an upload.

        :param checksum_algorithm: one of checksums.ALGORITHMS, or empty.
        """
        upload = Upload(
            upload_id=secrets.token_hex(24),
            bucket=bucket,
            key=key,
            initiated=self._store.clock(),
            attributes=attributes,
            checksum_algorithm=checksum_algorithm,
        )
        with self._store.database.alone():
            with self._store.database.transaction() as tx:
                if not tx.execute("SELECT 1 FROM buckets WHERE name = ?", (bucket,)).fetchone():
                    raise S3Error("NoSuchBucket")
                tx.execute(
                    f"INSERT INTO uploads ({UPLOAD_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - own columns
                    (upload.upload_id, bucket, key_bytes(key), upload.initiated.timestamp(),
                     attributes_to_text(attributes), checksum_algorithm),
                )  # fmt: skip
            self._store.history.effect("upload-started", bucket=bucket, key=key, upload=upload.upload_id)
        return upload

    def get(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Find an upload.

        :raises S3Error: NoSuchUpload.
        """
        row = self._store.database.one(
            f"SELECT {UPLOAD_COLUMNS} FROM uploads WHERE upload_id = ? AND bucket = ? AND key = ?",  # noqa: S608 - own columns
            (upload_id, bucket, key_bytes(key)),
        )
        if row is None:
            raise S3Error("NoSuchUpload")
        return upload_from_row(row)

    def put_part(
        self, upload: Upload, incoming: Incoming, *, number: int, etag: str, checksums: dict[str, str]
    ) -> Part:
        """Make received bytes a part; it replaces an earlier one of the same number."""
        if not 1 <= number <= MAX_PARTS:
            raise S3Error("InvalidArgument", f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive.")
        name, modified = self._store.blobs.new_part_name(upload.upload_id, number), self._store.clock()
        size = incoming.size
        incoming.keep(self._store.blobs.path(name))
        try:
            with self._store.database.transaction() as tx:
                if not tx.execute("SELECT 1 FROM uploads WHERE upload_id = ?", (upload.upload_id,)).fetchone():
                    raise S3Error("NoSuchUpload")
                known = (upload.upload_id, number)
                old = tx.execute("SELECT blob FROM parts WHERE upload_id = ? AND number = ?", known).fetchone()
                tx.execute(
                    "REPLACE INTO parts (upload_id, number, blob, size, etag, modified, checksums)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*known, name, size, etag, modified.timestamp(), json.dumps(checksums)),
                )
        except BaseException:
            self._store.blobs.remove([name])
            raise
        if old:
            self._store.blobs.remove([old[0]])
        return Part(
            number=number, size=size, etag=etag, last_modified=modified, checksums=checksums,
            path=self._store.blobs.path(name),
        )  # fmt: skip

    def parts(self, upload: Upload, *, after: int = 0, limit: int = MAX_PARTS + 1) -> list[Part]:
        """List received parts by number, from the one after ``after`` on."""
        rows = self._store.database.query(
            f"SELECT {PART_COLUMNS} FROM parts WHERE upload_id = ? AND number > ? ORDER BY number LIMIT ?",  # noqa: S608 - own columns
            (upload.upload_id, after, limit),
        )
        return [part_from_row(self._store.root, row) for row in rows]

    def abort(self, upload: Upload) -> None:
        """Forget an upload and its parts."""
        with self._store.database.alone():
            with self._store.database.transaction() as tx:
                if not tx.execute("DELETE FROM uploads WHERE upload_id = ?", (upload.upload_id,)).rowcount:
                    raise S3Error("NoSuchUpload")
                tx.execute("DELETE FROM parts WHERE upload_id = ?", (upload.upload_id,))
            self._store.history.effects([upload_ended(upload.bucket, upload.key, upload.upload_id, "aborted")])
        self._store.blobs.remove_parts(upload.upload_id)

    def complete(
        self, upload: Upload, named: Sequence[NamedPart], *, preconditions: Preconditions | None = None,
        checksum_type: str = "", expected: dict[str, str] | None = None,
    ) -> StoredObject:  # fmt: skip
        """Join the named parts into the object.

        :param checksum_type: ``FULL_OBJECT``, ``COMPOSITE`` or empty, as the client sent it.
        :param expected: whole-object checksums that the client sent, base64 by algorithm.
        :raises S3Error: InvalidPart, InvalidPartOrder, EntityTooSmall, PreconditionFailed, BadDigest, NoSuchUpload.
        """
        parts = self._chosen(upload, named)
        etags = hashlib.md5(usedforsecurity=False)
        with self._store.incoming() as incoming:
            for part in parts:
                etags.update(bytes.fromhex(part.etag))
                try:
                    incoming.append_file(part.path, part.size)
                except FileNotFoundError as error:  # completed, aborted or sent again by another request just now
                    raise S3Error("InvalidPart") from error
            attributes = self._with_checksums(upload, parts, incoming, checksum_type, expected or {})
            return self._store.commit(
                incoming,
                bucket=upload.bucket,
                key=upload.key,
                etag=f"{etags.hexdigest()}-{len(parts)}",
                attributes=attributes,
                part_sizes=[part.size for part in parts],
                preconditions=preconditions,
                with_upload=upload.upload_id,
            )

    def _chosen(self, upload: Upload, named: Sequence[NamedPart]) -> list[Part]:
        if not named:
            raise S3Error("MalformedXML")
        if any(after.number <= before.number for before, after in itertools.pairwise(named)):
            raise S3Error("InvalidPartOrder")
        known, chosen = {part.number: part for part in self.parts(upload)}, []
        for one in named:
            part = known.get(one.number)
            if part is None or part.etag != one.etag:
                raise S3Error("InvalidPart", f"Part {one.number} was not received with the entity tag {one.etag!r}.")
            for algorithm, value in one.checksums.items():
                if part.checksums.get(algorithm, value) != value:
                    raise S3Error("InvalidPart", f"Part {one.number} was received with another {algorithm} checksum.")
            chosen.append(part)
        for part in chosen[:-1]:
            if part.size < MIN_PART_SIZE:
                raise S3Error("EntityTooSmall", f"Part {part.number} has {part.size} bytes, less than {MIN_PART_SIZE}.")
        return chosen

    def _with_checksums(
        self, upload: Upload, parts: list[Part], incoming: Incoming, checksum_type: str, expected: dict[str, str]
    ) -> Attributes:
        algorithm = upload.checksum_algorithm
        kind = checksum_type or ("FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE")
        full = {name: self._store.digest_of(incoming.path, name) for name in expected if kind == "FULL_OBJECT"}
        for name, value in full.items():
            if expected[name] != value:
                raise S3Error("BadDigest", f"The {name} you specified did not match the calculated checksum.")
        if kind == "FULL_OBJECT":
            if algorithm and algorithm != "crc64nvme" and algorithm not in full:
                full[algorithm] = self._store.digest_of(incoming.path, algorithm)
            return replace(upload.attributes, checksums=full, checksum_type="FULL_OBJECT")
        if not algorithm or any(algorithm not in part.checksums for part in parts):
            return upload.attributes
        value = composite(algorithm, (part.checksums[algorithm] for part in parts))
        if expected.get(algorithm, value).partition("-")[0] != value.partition("-")[0]:
            raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
        return replace(upload.attributes, checksums={algorithm: value}, checksum_type="COMPOSITE")
