"""Removing with care, against the sandbox's store: conditional replacement, protection, versions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sealift.cos.errors import CosNotFoundError, CosPermissionError
from sealift.cos.models import BucketGuards, Protection

LOCK = (
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
    "<Mode>COMPLIANCE</Mode><Days>10</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
)
POLICY = (
    "<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>0</Days></MinimumRetention>"
    "<DefaultRetention><Days>10</Days></DefaultRetention><MaximumRetention><Days>20</Days></MaximumRetention>"
    "</ProtectionConfiguration>"
)


def test_an_object_is_replaced_only_while_it_is_what_was_read(any_store: Any, key_kind: str) -> None:
    client = any_store.client(key_kind)
    client.put("exports", "m", b"one")
    etag = client.head("exports", "m").etag

    assert client.removing.put_if_match("exports", "m", b"two", etag=etag) is True
    assert client.removing.put_if_match("exports", "m", b"three", etag=etag) is False
    assert client.read("exports", "m") == b"two"
    assert client.removing.put_if_match("exports", "none", b"x", etag=etag) is False
    assert client.read("exports", "none") is None
    assert client.removing.put_if_match("exports", "m", b"two", etag=etag) is True, "as after a reply that was lost"


def test_a_plain_bucket_guards_nothing(store: Any) -> None:
    client = store.client()
    client.put("exports", "a", b"x")
    assert client.removing.guards("exports") == BucketGuards()
    assert client.removing.protection("exports", "a") is None
    assert client.removing.protection("exports", "none") is None
    with pytest.raises(CosNotFoundError):
        client.removing.guards("no-such-bucket")


def test_what_object_lock_protects_and_how_versions_go(store: Any) -> None:
    client = store.client()
    client.put("exports", "a", b"before")
    store.objects.set_versioning("exports", "Enabled")
    store.objects.set_document("exports", "object-lock", LOCK)
    client.put("exports", "a", b"x")

    assert client.removing.guards("exports") == BucketGuards(versions=True, object_lock=True)
    found = client.removing.protection("exports", "a")
    now = datetime.now(UTC)
    assert timedelta(days=9) < found.until - now <= timedelta(days=10)
    assert found.holds_at(now) is True
    assert found.holds_at(found.until) is False
    client.delete("exports", "a")
    versions = list(client.removing.versions("exports", "a"))
    assert [(one.marker, one.latest, one.size) for one in versions if one.marker] == [(True, True, 0)]
    assert sorted(one.size for one in versions) == [0, 1, 6]
    for one in versions:
        if one.size == 1:
            with pytest.raises(CosPermissionError):
                client.removing.delete_version("exports", "a", one.version_id)
        else:
            client.removing.delete_version("exports", "a", one.version_id)
            client.removing.delete_version("exports", "a", one.version_id)
    assert client.read("exports", "a") == b"x", "the version that is locked is all that is left"


def test_what_a_retention_policy_protects(store: Any) -> None:
    client = store.client()
    store.objects.set_document("exports", "protection", POLICY)
    client.put("exports", "a", b"x")
    etag = client.head("exports", "a").etag

    assert client.removing.guards("exports") == BucketGuards(retention_policy=True)
    assert client.removing.protection("exports", "a").holds_at(datetime.now(UTC) + timedelta(days=9))
    with pytest.raises(CosPermissionError):
        client.delete("exports", "a")
    with pytest.raises(CosPermissionError):
        client.removing.put_if_match("exports", "a", b"y", etag=etag)
    assert client.read("exports", "a") == b"x"


def test_a_key_that_may_not_ask_takes_protection_for_given(store: Any) -> None:
    assert Protection(legal_hold=True).holds_at(datetime.max.replace(tzinfo=UTC))
    assert Protection(endless=True).holds_at(datetime.max.replace(tzinfo=UTC))
    with pytest.raises(CosPermissionError):
        store.client("stranger").removing.guards("exports")
