"""Lifecycle rules, carried out at times that the test sets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sealift.sandbox.store import ObjectStore, S3Error
from sealift.sandbox.store.lifecycle import parse_rules
from sealift.sandbox.store.models import Attributes

BUCKET = "exports"


def rule(body: str, *, status: str = "Enabled", prefix: str = "") -> str:
    return f"<Rule><ID>r</ID><Status>{status}</Status><Filter><Prefix>{prefix}</Prefix></Filter>{body}</Rule>"


def configure(store: ObjectStore, *rules: str) -> None:
    text = f"<LifecycleConfiguration>{''.join(rules)}</LifecycleConfiguration>"
    parse_rules(text.encode())
    store.set_document(BUCKET, "lifecycle", text)


def keys(store: ObjectStore) -> list[str]:
    return [entry.key for entry in store.list(BUCKET)]


def test_objects_go_at_the_midnight_after_their_days(store: ObjectStore, clock: Any) -> None:
    configure(store, rule("<Expiration><Days>2</Days></Expiration>", prefix="old/"))
    store.put_bytes(bucket=BUCKET, key="old/a", data=b"x")  # 23 November, 02:00
    store.put_bytes(bucket=BUCKET, key="new/a", data=b"x")
    assert store.expire(datetime(2026, 11, 25, 23, 59, tzinfo=UTC)) == []
    gone = store.expire(datetime(2026, 11, 26, tzinfo=UTC))
    assert [(one.kind, one.key) for one in gone] == [("object", "old/a")]
    assert keys(store) == ["new/a"]
    assert store.expire(datetime(2027, 11, 26, tzinfo=UTC)) == []


def test_a_disabled_rule_does_nothing(store: ObjectStore) -> None:
    configure(store, rule("<Expiration><Days>1</Days></Expiration>", status="Disabled"))
    store.put_bytes(bucket=BUCKET, key="a", data=b"x")
    assert store.expire(datetime(2030, 1, 1, tzinfo=UTC)) == []
    assert keys(store) == ["a"]


def test_a_date_counts_for_all(store: ObjectStore) -> None:
    configure(store, rule("<Expiration><Date>2026-12-01T00:00:00Z</Date></Expiration>"))
    store.put_bytes(bucket=BUCKET, key="a", data=b"x")
    assert store.expire(datetime(2026, 11, 30, tzinfo=UTC)) == []
    assert len(store.expire(datetime(2026, 12, 1, tzinfo=UTC))) == 1


def test_tags_narrow_a_rule(store: ObjectStore) -> None:
    both = "<And><Prefix>a</Prefix><Tag><Key>keep</Key><Value>no</Value></Tag></And>"
    configure(
        store,
        f"<Rule><Status>Enabled</Status><Filter>{both}</Filter><Expiration><Days>1</Days></Expiration></Rule>",
    )
    for key, tags in (("a1", {"keep": "no"}), ("a2", {"keep": "yes"}), ("b1", {"keep": "no"})):
        store.set_tags(store.put_bytes(bucket=BUCKET, key=key, data=b"x"), tags)
    store.expire(datetime(2027, 1, 1, tzinfo=UTC))
    assert keys(store) == ["a2", "b1"]


def test_with_versions_a_marker_comes_and_old_versions_go_later(store: ObjectStore, clock: Any) -> None:
    store.set_versioning(BUCKET, "Enabled")
    configure(
        store,
        rule(
            "<Expiration><Days>1</Days></Expiration>"
            "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration>"
        ),
        rule("<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"),
    )
    store.put_bytes(bucket=BUCKET, key="a", data=b"1")
    clock.forward(hours=1)
    store.put_bytes(bucket=BUCKET, key="a", data=b"2")
    clock.forward(days=2)
    assert [one.kind for one in store.expire(clock())] == ["object"]
    assert keys(store) == []
    assert store.latest(BUCKET, "a").delete_marker
    clock.forward(days=2)  # the first version was replaced four days ago, the second one two
    assert [one.kind for one in store.expire(clock())] == ["version"]
    clock.forward(days=2)
    assert [one.kind for one in store.expire(clock())] == ["version", "delete-marker"]
    assert store.latest(BUCKET, "a") is None


def test_more_than_a_page_of_versions_goes(store: ObjectStore, clock: Any) -> None:
    store.set_versioning(BUCKET, "Enabled")
    body = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>"
    configure(store, rule(body))
    for _ in range(1205):
        store.put_bytes(bucket=BUCKET, key="a", data=b"")
    clock.forward(days=3)
    assert len(store.expire(clock())) == 1204
    assert keys(store) == ["a"]


def test_unfinished_uploads_are_aborted(store: ObjectStore, clock: Any) -> None:
    abort = (
        "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
    )
    configure(store, rule(abort))
    upload = store.uploads.create(bucket=BUCKET, key="a", attributes=Attributes())
    clock.forward(days=1)
    assert store.expire(clock()) == []
    clock.forward(days=1)
    assert [one.kind for one in store.expire(clock())] == ["upload"]
    with pytest.raises(S3Error, match="NoSuchUpload"):
        store.uploads.get(BUCKET, "a", upload.upload_id)


@pytest.mark.parametrize(
    "text",
    [
        "<LifecycleConfiguration/>",
        "<Other/>",
        "<LifecycleConfiguration><Rule><Status>Maybe</Status><Expiration><Days>1</Days></Expiration></Rule>"
        "</LifecycleConfiguration>",
        f"<LifecycleConfiguration>{rule('')}</LifecycleConfiguration>",
        f"<LifecycleConfiguration>{rule('<Expiration><Days>0</Days></Expiration>')}</LifecycleConfiguration>",
        f"<LifecycleConfiguration>{rule('<Expiration><Days>x</Days></Expiration>')}</LifecycleConfiguration>",
        f"<LifecycleConfiguration>{rule('<Expiration><Date>soon</Date></Expiration>')}</LifecycleConfiguration>",
        "no xml",
        '<!DOCTYPE a [<!ENTITY b "c">]><LifecycleConfiguration/>',
    ],
)
def test_a_configuration_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(S3Error):
        parse_rules(text.encode())
