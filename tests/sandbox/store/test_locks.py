"""What protects objects in the store: until when, against what, and over a restart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox.store import ObjectStore
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.locks import lock_from_headers, read_lock, read_policy
from sealift.sandbox.store.models import Attributes

BUCKET = "exports"
LOCK = (
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
    "<Mode>COMPLIANCE</Mode><Days>10</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
)
POLICY = (
    "<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>1</Days></MinimumRetention>"
    "<DefaultRetention><Days>10</Days></DefaultRetention><MaximumRetention><Days>20</Days></MaximumRetention>"
    "</ProtectionConfiguration>"
)


def put(store: ObjectStore, key: str, body: bytes = b"x", **attributes: Any) -> str:
    with store.incoming() as incoming:
        incoming.write(body)
        stored = store.commit(incoming, bucket=BUCKET, key=key, etag=body.hex(), attributes=Attributes(**attributes))
    return stored.version_id


def refused(action: Callable[[], object]) -> str | None:
    try:
        action()
    except S3Error as error:
        return error.code
    return None


@pytest.fixture
def locked(store: ObjectStore) -> ObjectStore:
    store.set_versioning(BUCKET, "Enabled")
    store.set_document(BUCKET, "object-lock", LOCK)
    return store


def test_a_locked_version_goes_when_its_time_is_over(locked: ObjectStore, clock: Any) -> None:
    version = put(locked, "a")
    clock.forward(days=9, hours=23)
    assert refused(lambda: locked.delete(BUCKET, "a", version)) == "AccessDenied"
    assert locked.head(BUCKET, "a", version) is not None
    clock.forward(hours=2)
    locked.delete(BUCKET, "a", version)
    assert locked.head(BUCKET, "a", version) is None


def test_overwriting_a_locked_object_leaves_the_locked_version(locked: ObjectStore) -> None:
    first, second = put(locked, "a", b"one"), put(locked, "a", b"two")
    marker, _ = locked.delete(BUCKET, "a")
    assert locked.head(BUCKET, "a") is None
    assert refused(lambda: locked.delete(BUCKET, "a", first)) == "AccessDenied"
    assert refused(lambda: locked.delete(BUCKET, "a", second)) == "AccessDenied"
    locked.delete(BUCKET, "a", marker)
    assert locked.head(BUCKET, "a") is not None, "a marker is not protected"


def test_lifecycle_rules_expire_nothing_that_is_protected(locked: ObjectStore, clock: Any) -> None:
    rule = "<Rule><Status>Enabled</Status><Filter/><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
    locked.set_document(
        BUCKET,
        "lifecycle",
        f"<LifecycleConfiguration>{rule}</NoncurrentVersionExpiration></Rule></LifecycleConfiguration>",
    )
    first = put(locked, "a", b"one")
    put(locked, "a", b"two")
    clock.forward(days=5)
    assert locked.expire(clock()) == []
    clock.forward(days=6)
    assert [one.version_id for one in locked.expire(clock())] == [first]


def test_a_policy_keeps_objects_until_their_time_and_begins_anew(store: ObjectStore, clock: Any) -> None:
    store.set_document(BUCKET, "protection", POLICY)
    put(store, "a", b"one")
    clock.forward(days=9)
    assert refused(lambda: put(store, "a", b"two")) == "AccessDenied"
    clock.forward(days=2)
    put(store, "a", b"two")
    assert refused(lambda: store.delete(BUCKET, "a")) == "AccessDenied"
    clock.forward(days=11)
    store.delete(BUCKET, "a")
    assert store.head(BUCKET, "a") is None


def test_what_is_protected_survives_a_restart(locked: ObjectStore, clock: Any, tmp_path: Path) -> None:
    version = put(locked, "a")
    stored = locked.head(BUCKET, "a")
    assert stored is not None
    locked.set_lock(stored, {**stored.attributes.lock, "legal_hold": "ON"})
    locked.close()
    again = ObjectStore(root=tmp_path / "store", clock=clock)
    clock.forward(days=1000)
    assert refused(lambda: again.delete(BUCKET, "a", version)) == "AccessDenied"
    again.close()


def test_versions_and_policies_do_not_go_together(store: ObjectStore) -> None:
    store.set_document(BUCKET, "protection", POLICY)
    assert refused(lambda: store.set_versioning(BUCKET, "Enabled")) == "InvalidBucketState"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (LOCK.replace("COMPLIANCE", "GOVERNANCE"), "MalformedXML"),
        (LOCK.replace("Enabled", "Disabled"), "MalformedXML"),
        (LOCK.replace("<Days>10</Days>", ""), "MalformedXML"),
        (LOCK.replace("10", "-3"), "InvalidArgument"),
        (LOCK.replace("10", "40000"), "InvalidArgument"),
    ],
)
def test_lock_configurations_that_ibm_refuses(text: str, code: str) -> None:
    assert refused(lambda: read_lock(text.encode())) == code
    assert read_lock(LOCK.encode()) == 10


def test_policies_and_headers_that_make_no_sense() -> None:
    assert refused(lambda: read_policy(POLICY.replace("20", "5").encode())) == "InvalidArgument"
    assert refused(lambda: read_policy(POLICY.replace("<Days>1</Days>", "").encode())) == "InvalidArgument"
    both = {"retention-period": "5", "retention-expiration-date": "2026-11-28T03:10:01Z"}
    assert refused(lambda: lock_from_headers(both)) == "InvalidRequest"
    assert refused(lambda: lock_from_headers({"x-amz-object-lock-mode": "COMPLIANCE"})) == "InvalidArgument"
    found = lock_from_headers({"retention-expiration-date": "20201128T031001Z"})
    assert found == lock_from_headers({"retention-expiration-date": "2020-11-28T03:10:01Z"})


def test_headers_need_the_configuration_that_they_are_about(store: ObjectStore, clock: Any) -> None:
    until = (clock() + timedelta(days=1)).isoformat()
    assert refused(lambda: put(store, "a", lock={"retain_until": until})) == "InvalidRequest"
    assert refused(lambda: put(store, "a", lock={"period": "5"})) == "InvalidRequest"
    store.set_document(BUCKET, "protection", POLICY)
    assert refused(lambda: put(store, "a", lock={"period": "5"})) == "InvalidArgument", "less than a day"
