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


@dataclass(frozen=True, kw_only=True)
class BucketGuards:
    """What keeps objects of a bucket from being deleted.

    :param versions: it keeps versions (or kept them): a deletion leaves a marker, and what was there is still billed.
    :param object_lock: single versions may be locked.
    :param retention_policy: it has a retention policy (Immutable Object Storage).
    """

    versions: bool = False
    object_lock: bool = False
    retention_policy: bool = False


@dataclass(frozen=True, kw_only=True)
class Protection:
    """What keeps an object from being deleted.

    :param until: no deletion before this moment, where there is one.
    :param legal_hold: none as long as a legal hold lasts.
    :param endless: none until somebody gives it another retention, or ever.
    """

    until: datetime | None = None
    legal_hold: bool = False
    endless: bool = False

    def holds_at(self, now: datetime) -> bool:
        """Say whether the object is protected at a moment.

        :param now: the moment, with a time zone.
        :returns: False where the time is over.
        """
        return self.legal_hold or self.endless or (self.until is not None and self.until > now)


@dataclass(frozen=True, kw_only=True)
class ObjectVersion:
    """A version of an object, or a delete marker.

    :param latest: what a reader sees who names no version.
    :param marker: a delete marker: it has no bytes.
    """

    key: str
    version_id: str
    latest: bool
    marker: bool
    size: int = 0


def unquoted(etag: str) -> str:
    """Take the quotes off an ETag.

    :param etag: as a reply holds it.
    :returns: the ETag alone.
    """
    return etag.removeprefix("W/").strip('"')
