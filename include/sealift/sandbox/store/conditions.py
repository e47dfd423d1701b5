"""Conditional requests: If-Match, If-None-Match and the two with dates, for reads and for writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.models import StoredObject


class NotModified(Exception):  # noqa: N818 - an answer of HTTP (304), not an error
    """A conditional read found what the client has already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """The conditions of one request."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str], prefix: str = "") -> Preconditions:
        """Read the conditions from request headers.

        :param prefix: ``x-amz-copy-source-`` for the conditions on a copy's source.
        """
        return cls(
            if_match=headers.get(f"{prefix}if-match"),
            if_none_match=headers.get(f"{prefix}if-none-match"),
            if_modified_since=_date(headers.get(f"{prefix}if-modified-since")),
            if_unmodified_since=_date(headers.get(f"{prefix}if-unmodified-since")),
        )

    def check_read(self, stored: StoredObject) -> None:
        """Judge a read; the entity tags outrank the dates (RFC 9110 §13.2.2).

        :raises S3Error: PreconditionFailed.
        :raises NotModified: where HTTP answers 304.
        """
        modified = stored.last_modified.replace(microsecond=0)
        if self.if_match is not None:
            if not _names(self.if_match, stored.etag):
                raise S3Error("PreconditionFailed")
        elif self.if_unmodified_since is not None and modified > self.if_unmodified_since:
            raise S3Error("PreconditionFailed")
        if self.if_none_match is not None:
            if _names(self.if_none_match, stored.etag):
                raise NotModified
        elif self.if_modified_since is not None and modified <= self.if_modified_since:
            raise NotModified

    def check_write(self, etag: str | None) -> None:
        """Judge a write against the present object.

        :param etag: the present object's, ``None`` where there is none.
        :raises S3Error: PreconditionFailed; NoSuchKey where If-Match meets no object.
        """
        if self.if_none_match is not None and etag is not None and _names(self.if_none_match, etag):
            raise S3Error("PreconditionFailed")
        if self.if_match is not None:
            if etag is None:
                raise S3Error("NoSuchKey")
            if not _names(self.if_match, etag):
                raise S3Error("PreconditionFailed")


def _names(header: str, etag: str) -> bool:
    wanted = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in wanted or etag in wanted


def _date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None  # HTTP says: a date that cannot be read is as good as none
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
