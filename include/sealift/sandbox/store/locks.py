"""What keeps an object from being deleted: Object Lock on versions, and retention policies on whole buckets.

Source: IBM's documentation of Object Storage, pages object-lock and immutable. Object Lock needs versioning, knows only
the mode COMPLIANCE, and protects versions: a plain deletion still leaves a marker. A retention policy protects objects
from deletion and from being overwritten; what is overwritten later comes under retention anew. Invented: the code of a
refused deletion or overwrite (AccessDenied, as S3 has it for locked versions) and all sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sealift.sandbox.store import xml
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.models import Attributes
from sealift.sandbox.store.xml import Node

LOCK, POLICY = "object-lock", "protection"
"""Under these kinds a bucket's documents are kept."""

MOST_LEGAL_HOLDS: Final = 100
_LONGEST_LOCK = 36_500
_LONGEST_POLICY = 365_243
_HOLD_ID = re.compile(r"[A-Za-z0-9!_.*()-]{1,64}")
_COMPACT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A bucket's retention policy: days that objects are kept at least, if nothing is said, and at most."""

    minimum: int
    default: int
    maximum: int


def read_lock(data: bytes) -> int | None:
    """Read an ObjectLockConfiguration.

    :returns: the days of its default retention; None where it has none.
    :raises S3Error: MalformedXML, InvalidArgument.
    """
    node = xml.parse(data, "ObjectLockConfiguration")
    if node.need("ObjectLockEnabled") != "Enabled":
        raise S3Error("MalformedXML", "ObjectLockEnabled must be Enabled.")
    rule = node.first("Rule")
    if rule is None:
        return None
    default = rule.first("DefaultRetention")
    if default is None:
        raise S3Error("MalformedXML", "The element Rule lacks DefaultRetention.")
    check_mode(default.value("Mode"))
    days, years = default.value("Days"), default.value("Years")
    if (days is None) == (years is None):
        raise S3Error("MalformedXML", "Give either Days or Years.")
    count = _number(days, "Days", most=_LONGEST_LOCK) if years is None else _number(years, "Years", most=100) * 365
    return max(1, count)


def read_policy(data: bytes) -> Policy | None:
    """Read a ProtectionConfiguration.

    :returns: the policy; None where its status is Disabled.
    :raises S3Error: MalformedXML, InvalidArgument.
    """
    node = xml.parse(data, "ProtectionConfiguration")
    status = node.need("Status")
    if status == "Disabled":
        return None
    if status not in ("Retention", "COMPLIANCE"):
        raise S3Error("MalformedXML", "Status must be Retention or Disabled.")
    days = {name: _days_of(node, name) for name in ("MinimumRetention", "DefaultRetention", "MaximumRetention")}
    found = Policy(minimum=days["MinimumRetention"], default=days["DefaultRetention"], maximum=days["MaximumRetention"])
    if not found.minimum <= found.default <= found.maximum:
        raise S3Error("InvalidArgument", "Minimum, default and maximum retention must be in this order.")
    return found


def check_mode(mode: str | None) -> None:
    """Refuse a mode that IBM does not offer.

    :raises S3Error: MalformedXML.
    """
    if mode != "COMPLIANCE":
        raise S3Error("MalformedXML", "Only the mode COMPLIANCE is supported.")


def lock_from_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Read what a request to write an object says of its protection.

    :raises S3Error: InvalidArgument, InvalidRequest.
    """
    lock: dict[str, str] = {}
    mode, until = headers.get("x-amz-object-lock-mode"), headers.get("x-amz-object-lock-retain-until-date")
    if (mode is None) != (until is None):
        raise S3Error("InvalidArgument", "A mode and a date until which to retain go together.")
    if until is not None:
        check_mode(mode)
        lock["retain_until"] = read_date(until).isoformat()
    if (hold := headers.get("x-amz-object-lock-legal-hold")) is not None:
        lock["legal_hold"] = check_status(hold)
    period, expires = headers.get("retention-period"), headers.get("retention-expiration-date")
    if period is not None and expires is not None:
        raise S3Error("InvalidRequest", "Give either a retention period or an expiration date.")
    if period is not None:
        lock["period"] = str(_number(period, "Retention-Period", most=_LONGEST_POLICY * 86_400))
    if expires is not None:
        lock["expires"] = read_date(expires).isoformat()
    if (id_ := headers.get("retention-legal-hold-id")) is not None:
        lock["holds"] = check_hold_id(id_)
    return lock


def check_status(value: str) -> str:
    """Refuse a status of a legal hold that is neither ON nor OFF.

    :raises S3Error: MalformedXML.
    """
    if value not in ("ON", "OFF"):
        raise S3Error("MalformedXML", "The status of a legal hold is ON or OFF.")
    return value


def check_hold_id(id_: str) -> str:
    """Refuse an id of a legal hold that IBM refuses.

    :raises S3Error: InvalidArgument.
    """
    if not _HOLD_ID.fullmatch(id_):
        raise S3Error("InvalidArgument", "A legal hold's id has 1 to 64 letters, digits or !_.*()-.")
    return id_


def read_date(value: str) -> datetime:
    """Read a date of ISO 8601, with or without its separators.

    :raises S3Error: InvalidArgument.
    """
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        try:
            moment = datetime.strptime(value.strip(), _COMPACT).replace(tzinfo=UTC)
        except ValueError as error:
            raise S3Error("InvalidArgument", "The date is not in ISO 8601.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def with_defaults(attributes: Attributes, *, lock: str | None, policy: str | None, now: datetime) -> Attributes:
    """Give a new object what its bucket protects it by.

    :param lock: the bucket's ObjectLockConfiguration, where it has one.
    :param policy: its ProtectionConfiguration, where it has one.
    :raises S3Error: InvalidRequest where the bucket has not what the request asks for; InvalidArgument beyond the
        policy's bounds.
    """
    asked = dict(attributes.lock)
    if lock is None and asked.keys() & {"retain_until", "legal_hold"}:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
    rules = read_policy(policy.encode()) if policy else None
    if rules is None and asked.keys() & {"period", "expires", "holds"}:
        raise S3Error("InvalidRequest", "The bucket has no retention policy.")
    if lock is not None and "retain_until" not in asked:
        days = read_lock(lock.encode())
        if days is not None:
            asked["retain_until"] = (now + timedelta(days=days)).isoformat()
    if rules is not None:
        seconds = int(asked.pop("period", rules.default * 86_400))
        if "expires" in asked:
            seconds = int((read_date(asked["expires"]) - now).total_seconds())
        if not rules.minimum * 86_400 <= seconds <= rules.maximum * 86_400:
            raise S3Error("InvalidArgument", "The retention period is not within the bucket's retention policy.")
        asked |= {"expires": (now + timedelta(seconds=seconds)).isoformat(), "period": str(seconds)}
    return replace(attributes, lock=asked) if asked != attributes.lock else attributes


def check_removable(lock: Mapping[str, str], now: datetime) -> None:
    """Refuse to remove what is protected.

    :raises S3Error: AccessDenied.
    """
    if lock.get("legal_hold") == "ON" or lock.get("holds"):
        raise S3Error("AccessDenied", "Access Denied because object protected by a legal hold.")
    for name in ("retain_until", "expires"):
        if name in lock and datetime.fromisoformat(lock[name]) > now:
            raise S3Error("AccessDenied", f"Access Denied because object protected until {lock[name]}.")


def headers_of(lock: Mapping[str, str]) -> dict[str, str]:
    """Say in a reply's headers what protects an object."""
    headers: dict[str, str] = {}
    if "retain_until" in lock:
        headers["x-amz-object-lock-mode"] = "COMPLIANCE"
        headers["x-amz-object-lock-retain-until-date"] = _written(lock["retain_until"])
    if "legal_hold" in lock:
        headers["x-amz-object-lock-legal-hold"] = lock["legal_hold"]
    if "expires" in lock:
        headers["Retention-Expiration-Date"] = _written(lock["expires"])
        headers["Retention-Period"] = lock["period"]
        headers["Retention-Legal-Hold-Count"] = str(len(holds_of(lock)))
    return headers


def holds_of(lock: Mapping[str, str]) -> list[str]:
    """The ids of the legal holds that a bucket with a retention policy has on an object."""
    return [one for one in lock.get("holds", "").split(",") if one]


def _written(value: str) -> str:
    return xml.timestamp(datetime.fromisoformat(value))


def _days_of(node: Node, name: str) -> int:
    found = node.first(name)
    if found is None:
        raise S3Error("MalformedXML", f"The element ProtectionConfiguration lacks {name}.")
    return _number(found.value("Days"), "Days", most=_LONGEST_POLICY)


def _number(value: str | None, name: str, *, most: int) -> int:
    if value is None or not value.strip().isdecimal() or int(value) > most:
        raise S3Error("InvalidArgument", f"{name} must be a whole number from 0 to {most}.")
    return int(value)
