"""Lifecycle rules: read from a bucket's configuration, and carried out when told what time it is.

COS expires and archives; the sandbox carries out expirations (of present, old and unfinished things) and keeps
transitions as configured without doing them: it has no archive tier. Ages are counted as S3 does: a rule of N days is
due at the first midnight UTC that is N whole days after the object was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sealift.sandbox.store import listing
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.models import StoredObject
from sealift.sandbox.store.xml import Node, parse

if TYPE_CHECKING:
    from sealift.sandbox.store.objects import ObjectStore

_ACTIONS = (
    "Expiration",
    "NoncurrentVersionExpiration",
    "AbortIncompleteMultipartUpload",
    "Transition",
    "NoncurrentVersionTransition",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one enabled rule does; days are whole days."""

    prefix: str
    tags: dict[str, str]
    days: int | None
    date: datetime | None
    lone_markers: bool
    noncurrent_days: int | None
    abort_days: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """Something that a rule removed. ``kind``: ``object``, ``version``, ``delete-marker`` or ``upload``."""

    kind: str
    bucket: str
    key: str
    version_id: str | None


def parse_rules(text: bytes) -> list[Rule]:
    """Read a lifecycle configuration.

    :returns: its enabled rules.
    :raises S3Error: MalformedXML, InvalidArgument.
    """
    rules = []
    nodes = parse(text, "LifecycleConfiguration").all("Rule")
    if not nodes or len(nodes) > 1000:
        raise S3Error("MalformedXML")
    for node in nodes:
        status = node.need("Status")
        if status not in ("Enabled", "Disabled") or not any(node.first(action) for action in _ACTIONS):
            raise S3Error("MalformedXML")
        rule = _rule(node)
        if status == "Enabled":
            rules.append(rule)
    return rules


def _rule(node: Node) -> Rule:
    scope = node.first("Filter") or node
    both = scope.first("And") or scope
    expiration = node.first("Expiration")
    noncurrent = node.first("NoncurrentVersionExpiration")
    abort = node.first("AbortIncompleteMultipartUpload")
    date = expiration.value("Date") if expiration else None
    return Rule(
        prefix=both.value("Prefix") or "",
        tags={tag.need("Key"): tag.need("Value") for tag in both.all("Tag")},
        days=_days(expiration, "Days"),
        date=_date(date) if date else None,
        lone_markers=bool(expiration and expiration.value("ExpiredObjectDeleteMarker") == "true"),
        noncurrent_days=_days(noncurrent, "NoncurrentDays"),
        abort_days=_days(abort, "DaysAfterInitiation"),
    )


def _days(node: Node | None, name: str) -> int | None:
    value = node.value(name) if node else None
    if value is None:
        return None
    if not value.strip().isdecimal() or int(value) < 1:
        raise S3Error("InvalidArgument", f"{name} must be a positive integer.")
    return int(value)


def _date(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise S3Error("MalformedXML", "Date must be in ISO 8601.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _due(since: datetime, days: int) -> datetime:
    end = since.astimezone(UTC) + timedelta(days=days)
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if midnight == end else midnight + timedelta(days=1)


def expire(store: ObjectStore, now: datetime) -> list[Expired]:
    """Carry out every rule of every bucket that is due at ``now``.

    :returns: what went, in the order of buckets and keys.
    """
    done: list[Expired] = []
    for bucket in store.buckets():
        text = store.document(bucket.name, "lifecycle")
        for rule in parse_rules(text.encode()) if text else []:
            _expire_versions(store, bucket.name, rule, now, done)
            _expire_uploads(store, bucket.name, rule, now, done)
    return done


def _expire_versions(store: ObjectStore, bucket: str, rule: Rule, now: datetime, done: list[Expired]) -> None:
    key, row = "", None
    newer: StoredObject | None = None  # the version above in the listing, which replaced the present one
    lone: StoredObject | None = None  # a delete marker that may prove to be all that its key has
    while True:
        page = listing.list_versions(store, bucket, prefix=rule.prefix, after_key=key, after_row=row)
        for version in page.entries:
            if newer is None or newer.key != version.key:
                newer = None
                _expire_lone(store, rule, lone, done)
            lone = version if version.latest and version.delete_marker else None
            if version.latest:
                _expire_current(store, rule, version, now, done)
            elif (
                rule.noncurrent_days
                and newer
                and now >= _due(newer.last_modified, rule.noncurrent_days)
                and _gone(store, bucket, version.key, version.version_id)
            ):
                done.append(Expired(kind="version", bucket=bucket, key=version.key, version_id=version.version_id))
            newer = version
        if not page.truncated or page.last is None:
            _expire_lone(store, rule, lone, done)
            return
        key, row = page.last.key, page.last.row


def _expire_current(store: ObjectStore, rule: Rule, version: StoredObject, now: datetime, done: list[Expired]) -> None:
    if version.delete_marker or any(version.attributes.tags.get(k) != v for k, v in rule.tags.items()):
        return
    by_age = rule.days is not None and now >= _due(version.last_modified, rule.days)
    if (by_age or (rule.date is not None and now >= rule.date)) and _gone(store, version.bucket, version.key):
        done.append(Expired(kind="object", bucket=version.bucket, key=version.key, version_id=version.version_id))


def _gone(store: ObjectStore, bucket: str, key: str, version_id: str | None = None) -> bool:
    """Delete, unless the object is protected: lifecycle rules do not expire what is (IBM docs, object-lock)."""
    try:
        store.delete(bucket, key, version_id)
    except S3Error as error:
        if error.code != "AccessDenied":
            raise
        return False
    return True


def _expire_lone(store: ObjectStore, rule: Rule, marker: StoredObject | None, done: list[Expired]) -> None:
    if marker and rule.lone_markers:
        store.delete(marker.bucket, marker.key, marker.version_id)
        done.append(Expired(kind="delete-marker", bucket=marker.bucket, key=marker.key, version_id=marker.version_id))


def _expire_uploads(store: ObjectStore, bucket: str, rule: Rule, now: datetime, done: list[Expired]) -> None:
    if rule.abort_days is None:
        return
    key, upload_id = "", ""
    while True:
        page = listing.list_uploads(store, bucket, prefix=rule.prefix, after_key=key, after_upload_id=upload_id)
        for upload in page.entries:
            if now >= _due(upload.initiated, rule.abort_days):
                store.uploads.abort(upload)
                done.append(Expired(kind="upload", bucket=bucket, key=upload.key, version_id=None))
        if not page.truncated or page.last is None:
            return
        key, upload_id = page.last.key, page.last.upload_id
