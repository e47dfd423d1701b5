"""What Sealift reads of the object store, as typed records. The client has looked at each value already."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PutOutcome(StrEnum):
    """What a conditional put found."""

    CREATED = "created"
    EXISTS_SAME = "exists, with the same bytes"
    EXISTS_DIFFERENT = "exists, with other bytes"


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """An object as a listing or a HEAD shows it.

    :param size: in bytes.
    :param etag: without quotes; ``<hex>-<n>`` where the object came in n parts.
    :param crc64nvme: the checksum of the whole object, base64, where the store keeps one and was asked by HEAD.
    :param part_size: bytes per part, where it was asked for and the store tells.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime
    crc64nvme: str | None = None
    part_size: int | None = None
    version_id: str | None = None

    @property
    def parts(self) -> int | None:
        """How many parts the object was uploaded in, by its ETag; None where it came in one piece."""
        _, dash, count = self.etag.rpartition("-")
        return int(count) if dash and count.isdigit() else None


@dataclass(frozen=True, kw_only=True)
class MultipartUpload:
    """An upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class UploadedPart:
    """A part of an upload, as the store has it.

    :param number: 1 to 10,000.
    :param size: its bytes.
    :param etag: without quotes.
    :param sha256: its SHA-256 in base64, where the store gives it back.
    """

    number: int
    size: int
    etag: str
    sha256: str | None = None
