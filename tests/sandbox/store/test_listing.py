"""Listings against a model that knows nothing of pages or jumps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.sandbox.store import ObjectStore
from sealift.sandbox.store.listing import list_objects, list_uploads, list_versions
from sealift.sandbox.store.models import Attributes

BUCKET = "exports"
KEYS = st.lists(st.text(alphabet="ab/ü\U0001f4be ", min_size=1, max_size=5), max_size=25)
PREFIX = st.sampled_from(["", "a", "a/", "b/a", "ü", "/", "zz"])
DELIMITER = st.sampled_from(["", "/", "a", "b/"])


def model(keys: list[str], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """Say what a listing holds, from S3's definition."""
    entries, groups = [], []
    for key in sorted(keys, key=lambda key: key.encode()):
        if not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if found:
            group = prefix + head + delimiter
            if group not in groups:
                groups.append(group)
        else:
            entries.append(key)
    return entries, groups


@pytest.fixture(scope="module")
def emptied() -> Iterator[Callable[[], ObjectStore]]:
    """Give a store whose bucket is empty; one for all examples, since opening one takes longer than listing."""
    with tempfile.TemporaryDirectory(prefix="sealift-listing-") as folder:
        store = ObjectStore(root=Path(folder))
        store.create_bucket(BUCKET)

        def empty() -> ObjectStore:
            with store.database.transaction() as tx:
                tx.execute("DELETE FROM objects")
                tx.execute("DELETE FROM uploads")
            return store

        yield empty
        store.close()


def insert(store: ObjectStore, keys: list[str], *, version: str = "null", latest: bool = True) -> None:
    with store.database.transaction() as tx:
        for number, key in enumerate(keys):
            version_id = version if version == "null" else f"{version}{number}"
            if latest:
                tx.execute("UPDATE objects SET latest = 0 WHERE key = ?", (key.encode(),))
            store._insert(tx, BUCKET, key, version_id, "x", 1, "e", Attributes(), ())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(keys=KEYS, prefix=PREFIX, delimiter=DELIMITER, limit=st.integers(1, 7))
def test_objects_page_by_page(
    emptied: Callable[[], ObjectStore], keys: list[str], prefix: str, delimiter: str, limit: int
) -> None:
    store = emptied()
    insert(store, sorted(set(keys)))
    entries, groups, after = [], [], ""
    for _ in range(100):
        page = list_objects(store, BUCKET, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        assert len(page.entries) + len(page.prefixes) <= limit
        entries += [entry.key for entry in page.entries]
        groups += page.prefixes
        if not page.truncated:
            break
        assert len(page.entries) + len(page.prefixes) == limit
        after = page.next_after
    else:
        pytest.fail("the listing never ended")
    assert (entries, groups) == model(list(set(keys)), prefix, delimiter)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(keys=KEYS, prefix=PREFIX, delimiter=DELIMITER, limit=st.integers(1, 7))
def test_versions_page_by_page(
    emptied: Callable[[], ObjectStore], keys: list[str], prefix: str, delimiter: str, limit: int
) -> None:
    store = emptied()
    insert(store, keys, version="v")  # a key that comes twice has two versions
    found, groups, key, version_id = [], [], "", ""
    for _ in range(100):
        page = list_versions(
            store, BUCKET, prefix=prefix, delimiter=delimiter, after_key=key, after_version_id=version_id, limit=limit
        )
        found += [(entry.key, entry.version_id, entry.latest) for entry in page.entries]
        groups += page.prefixes
        if not page.truncated:
            break
        key, version_id = page.next_after, page.last.version_id if page.last else ""
    else:
        pytest.fail("the listing never ended")
    entries, expected_groups = model(list(set(keys)), prefix, delimiter)
    expected = []
    for entry in entries:
        numbers = [number for number, one in enumerate(keys) if one == entry]
        expected += [(entry, f"v{number}", number == numbers[-1]) for number in reversed(numbers)]
    assert (found, groups) == (expected, expected_groups)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(keys=KEYS, prefix=PREFIX, delimiter=DELIMITER, limit=st.integers(1, 7))
def test_uploads_page_by_page(
    emptied: Callable[[], ObjectStore], keys: list[str], prefix: str, delimiter: str, limit: int
) -> None:
    store = emptied()
    made = [store.uploads.create(bucket=BUCKET, key=key, attributes=Attributes()) for key in keys]
    found, groups, key, upload_id = [], [], "", ""
    for _ in range(100):
        page = list_uploads(
            store, BUCKET, prefix=prefix, delimiter=delimiter, after_key=key, after_upload_id=upload_id, limit=limit
        )
        found += [(upload.key, upload.upload_id) for upload in page.entries]
        groups += page.prefixes
        if not page.truncated:
            break
        key, upload_id = page.next_after, page.last.upload_id if page.last else ""
    else:
        pytest.fail("the listing never ended")
    entries, expected_groups = model(list(set(keys)), prefix, delimiter)
    expected = sorted(
        ((upload.key, upload.upload_id) for upload in made if upload.key in entries),
        key=lambda pair: (pair[0].encode(), pair[1]),
    )
    assert (found, groups) == (expected, expected_groups)


def test_a_limit_of_nothing_gives_nothing(store: ObjectStore) -> None:
    store.put_bytes(bucket=BUCKET, key="a", data=b"")
    page = list_objects(store, BUCKET, limit=0)
    assert (page.entries, page.prefixes, page.truncated) == ([], [], False)


def test_delete_markers_are_versions_but_no_objects(store: ObjectStore) -> None:
    store.set_versioning(BUCKET, "Enabled")
    store.put_bytes(bucket=BUCKET, key="a", data=b"")
    store.delete(BUCKET, "a")
    assert list_objects(store, BUCKET).entries == []
    assert [(entry.delete_marker, entry.latest) for entry in list_versions(store, BUCKET).entries] == [
        (True, True),
        (False, False),
    ]


def test_other_buckets_do_not_show(store: ObjectStore) -> None:
    store.create_bucket("other")
    store.put_bytes(bucket="other", key="a", data=b"")
    assert list_objects(store, BUCKET).entries == []
    assert [entry.key for entry in store.list("other")] == ["a"]
