"""The store without HTTP: buckets, objects, versions, files."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

import pytest

from sealift.sandbox.store import ObjectStore, S3Error, StoreInUseError
from sealift.sandbox.store.conditions import Preconditions
from sealift.sandbox.store.models import Attributes

BUCKET = "exports"


def put(store: ObjectStore, key: str, data: bytes, **more: object) -> str:
    return store.put_bytes(bucket=BUCKET, key=key, data=data).version_id


def refused(code: str) -> pytest.RaisesExc[S3Error]:
    return pytest.RaisesExc(S3Error, match=f"^{code}:")


def files_in(store: ObjectStore) -> set[Path]:
    return {path for path in store.root.rglob("*") if path.is_file() and path.parent != store.root}


class TestBuckets:
    def test_a_bucket_knows_its_region_and_instance(self, store: ObjectStore) -> None:
        store.create_bucket("frankfurt", location_constraint="eu-de-smart", service_instance="instance-1")
        bucket = store.bucket("frankfurt")
        assert bucket is not None
        assert (bucket.region, bucket.location_constraint, bucket.service_instance) == (
            "eu-de",
            "eu-de-smart",
            "instance-1",
        )
        assert [one.name for one in store.buckets()] == [BUCKET, "frankfurt"]
        assert store.bucket("nowhere") is None

    @pytest.mark.parametrize("constraint", ["us-south", "mars-standard", "us-south-golden", ""])
    def test_an_unknown_location_is_refused(self, store: ObjectStore, constraint: str) -> None:
        with refused("InvalidLocationConstraint"):
            store.create_bucket("other", location_constraint=constraint)
        assert store.bucket("other") is None

    @pytest.mark.parametrize("name", ["ab", "Upper", "under_score", "-first", "last-", "two..dots", "a" * 64, "../up"])
    def test_a_bad_name_is_refused(self, store: ObjectStore, name: str) -> None:
        with refused("InvalidBucketName"):
            store.create_bucket(name)

    def test_a_name_is_taken_once(self, store: ObjectStore) -> None:
        store.create_bucket("taken", service_instance="one")
        with refused("BucketAlreadyOwnedByYou"):
            store.create_bucket("taken", service_instance="one")
        with refused("BucketAlreadyExists"):
            store.create_bucket("taken", service_instance="two")

    def test_only_an_empty_bucket_goes(self, store: ObjectStore) -> None:
        put(store, "key", b"data")
        with refused("BucketNotEmpty"):
            store.delete_bucket(BUCKET)
        store.delete(BUCKET, "key")
        upload = store.uploads.create(bucket=BUCKET, key="key", attributes=Attributes())
        with refused("BucketNotEmpty"):
            store.delete_bucket(BUCKET)
        store.uploads.abort(upload)
        store.delete_bucket(BUCKET)
        with refused("NoSuchBucket"):
            store.delete_bucket(BUCKET)


class TestObjects:
    def test_what_is_put_comes_back_and_lies_in_one_plain_file(self, store: ObjectStore) -> None:
        stored = store.put_bytes(
            bucket=BUCKET, key="images/web/disk-0.vhd", data=b"bytes", content_type="x/y", metadata={"a": "b"}
        )
        found = store.head(BUCKET, "images/web/disk-0.vhd")
        assert found == stored
        assert (found.size, found.etag, found.content_type, found.metadata) == (
            5,
            hashlib.md5(b"bytes").hexdigest(),
            "x/y",
            {"a": "b"},
        )
        path = store.path_of(BUCKET, "images/web/disk-0.vhd")
        assert path is not None
        assert path.read_bytes() == b"bytes"
        assert path.name.endswith("disk-0.vhd")

    def test_what_is_not_there_is_none(self, store: ObjectStore) -> None:
        assert store.head(BUCKET, "nothing") is None
        assert store.path_of(BUCKET, "nothing") is None
        assert store.head("nowhere", "nothing") is None

    def test_a_missing_bucket_is_named_and_leaves_no_file(self, store: ObjectStore) -> None:
        with refused("NoSuchBucket"):
            store.put_bytes(bucket="nowhere", key="key", data=b"data")
        assert files_in(store) == set()

    def test_overwriting_leaves_one_file_and_open_readers_in_peace(self, store: ObjectStore) -> None:
        put(store, "key", b"old")
        with store.path_of(BUCKET, "key").open("rb") as reader:
            put(store, "key", b"new")
            assert reader.read() == b"old"
        assert [path.read_bytes() for path in files_in(store)] == [b"new"]

    def test_a_key_may_have_1024_bytes(self, store: ObjectStore) -> None:
        put(store, "ü" * 512, b"data")
        with refused("KeyTooLong"):
            put(store, "ü" * 512 + "x", b"data")

    @pytest.mark.parametrize(
        "key", ["../../etc/passwd", "/absolute", "a//b", ".", "..", "a/../b", "new\nline", "\U0001f4be"]
    )
    def test_no_key_reaches_outside_the_folder(self, store: ObjectStore, key: str) -> None:
        put(store, key, b"data")
        path = store.path_of(BUCKET, key)
        assert path is not None
        assert path.resolve().is_relative_to(store.root.resolve())
        assert [found.key for found in store.list(BUCKET)] == [key]

    def test_a_failed_commit_leaves_no_file(self, store: ObjectStore) -> None:
        put(store, "key", b"first")
        before = files_in(store)
        with store.incoming() as incoming, refused("PreconditionFailed"):
            incoming.write(b"second")
            store.commit(
                incoming,
                bucket=BUCKET,
                key="key",
                etag="x",
                attributes=Attributes(),
                preconditions=Preconditions(if_none_match="*"),
            )
        assert files_in(store) == before

    def test_of_many_writers_of_an_absent_key_one_wins(self, store: ObjectStore) -> None:
        won, lost, start = [], [], threading.Barrier(8)

        def write(number: int) -> None:
            with store.incoming() as incoming:
                incoming.write(str(number).encode())
                start.wait()
                try:
                    store.commit(
                        incoming,
                        bucket=BUCKET,
                        key="manifest",
                        etag="x",
                        attributes=Attributes(),
                        preconditions=Preconditions(if_none_match="*"),
                    )
                    won.append(number)
                except S3Error as error:
                    lost.append(error.code)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert lost == ["PreconditionFailed"] * 7
        assert store.path_of(BUCKET, "manifest").read_text() == str(won[0])

    def test_tags_are_kept(self, store: ObjectStore) -> None:
        put(store, "key", b"data")
        store.set_tags(store.head(BUCKET, "key"), {"team": "data"})
        assert store.head(BUCKET, "key").attributes.tags == {"team": "data"}

    def test_the_full_crc64nvme_is_computed_once_and_kept(self, store: ObjectStore) -> None:
        put(store, "key", b"123456789")
        value = store.crc64nvme(store.head(BUCKET, "key"))
        assert value == "rosUhgp5mIg="  # 0xAE8B14860A799888, the check value of the NVM Express specification
        kept = store.head(BUCKET, "key")
        assert kept.attributes.crc64nvme == value
        assert store.crc64nvme(kept) == value


class TestPutFile:
    def test_leaves_what_a_multipart_upload_would(self, store: ObjectStore, tmp_path: Path) -> None:
        data = random.Random(3).randbytes(2500)
        source = tmp_path / "disk.vhd"
        source.write_bytes(data)
        stored = store.put_file(bucket=BUCKET, key="disk.vhd", source=source, part_size=1000)
        parts = b"".join(hashlib.md5(data[at : at + 1000]).digest() for at in (0, 1000, 2000))
        assert stored.etag == f"{hashlib.md5(parts).hexdigest()}-3"
        assert stored.part_sizes == (1000, 1000, 500)
        assert stored.file.read_bytes() == data
        assert source.read_bytes() == data
        source.write_bytes(b"changed")
        assert stored.file.read_bytes() == data

    def test_can_take_the_file_itself(self, store: ObjectStore, tmp_path: Path) -> None:
        source = tmp_path / "disk.vhd"
        source.write_bytes(b"data")
        inode = source.stat().st_ino
        stored = store.put_file(bucket=BUCKET, key="disk.vhd", source=source, move=True)
        assert stored.file.stat().st_ino == inode
        assert not source.exists()

    def test_can_share_the_file(self, store: ObjectStore, tmp_path: Path) -> None:
        source = tmp_path / "disk.vhd"
        source.write_bytes(b"data")
        first = store.put_file(bucket=BUCKET, key="a", source=source, link=True)
        second = store.put_file(bucket=BUCKET, key="b", source=source, link=True)
        assert len({path.stat().st_ino for path in (first.file, second.file, source)}) == 1
        store.delete(BUCKET, "a")
        assert second.file.read_bytes() == b"data"

    def test_an_empty_file_is_one_empty_part(self, store: ObjectStore, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        stored = store.put_file(bucket=BUCKET, key="empty", source=tmp_path / "empty")
        assert (stored.size, stored.part_sizes) == (0, (0,))
        assert stored.etag.endswith("-1")

    def test_a_missing_bucket_leaves_the_source(self, store: ObjectStore, tmp_path: Path) -> None:
        source = tmp_path / "disk.vhd"
        source.write_bytes(b"data")
        with refused("NoSuchBucket"):
            store.put_file(bucket="nowhere", key="disk.vhd", source=source, move=True)
        assert source.read_bytes() == b"data"


class TestVersions:
    @pytest.fixture(autouse=True)
    def _enabled(self, store: ObjectStore) -> None:
        store.set_versioning(BUCKET, "Enabled")

    def test_old_versions_stay(self, store: ObjectStore) -> None:
        first, second = put(store, "key", b"one"), put(store, "key", b"two")
        assert store.head(BUCKET, "key").file.read_bytes() == b"two"
        assert store.head(BUCKET, "key", first).file.read_bytes() == b"one"
        assert not store.head(BUCKET, "key", first).latest
        assert store.head(BUCKET, "key", second).latest

    def test_deleting_hides_and_deleting_the_marker_brings_back(self, store: ObjectStore) -> None:
        put(store, "key", b"one")
        marker, is_marker = store.delete(BUCKET, "key")
        assert is_marker
        assert store.head(BUCKET, "key") is None
        assert store.latest(BUCKET, "key").delete_marker
        assert store.delete(BUCKET, "key", marker) == (marker, True)
        assert store.head(BUCKET, "key").file.read_bytes() == b"one"

    def test_deleting_the_latest_version_makes_the_one_before_latest(self, store: ObjectStore) -> None:
        first, second = put(store, "key", b"one"), put(store, "key", b"two")
        store.delete(BUCKET, "key", second)
        assert store.head(BUCKET, "key").version_id == first
        store.delete(BUCKET, "key", first)
        assert store.latest(BUCKET, "key") is None
        assert files_in(store) == set()

    def test_suspended_keeps_old_versions_and_overwrites_the_null_one(self, store: ObjectStore) -> None:
        kept = put(store, "key", b"one")
        store.set_versioning(BUCKET, "Suspended")
        assert put(store, "key", b"two") == "null"
        assert put(store, "key", b"three") == "null"
        assert store.head(BUCKET, "key").file.read_bytes() == b"three"
        assert store.head(BUCKET, "key", kept).file.read_bytes() == b"one"
        assert len(files_in(store)) == 2
        assert store.delete(BUCKET, "key") == ("null", True)
        assert store.head(BUCKET, "key") is None
        assert len(files_in(store)) == 1

    def test_what_was_there_before_versioning_is_the_null_version(self, store: ObjectStore) -> None:
        store.create_bucket("plain")
        store.put_bytes(bucket="plain", key="key", data=b"old")
        store.set_versioning("plain", "Enabled")
        store.put_bytes(bucket="plain", key="key", data=b"new")
        assert store.head("plain", "key", "null").file.read_bytes() == b"old"


class TestFolder:
    def test_everything_is_there_after_reopening(self, store: ObjectStore, tmp_path: Path) -> None:
        store.set_versioning(BUCKET, "Enabled")
        store.set_document(BUCKET, "lifecycle", "<LifecycleConfiguration/>")
        stored = store.put_bytes(bucket=BUCKET, key="key", data=b"data", metadata={"a": "b"})
        upload = store.uploads.create(bucket=BUCKET, key="big", attributes=Attributes(content_type="x/y"))
        with store.incoming() as incoming:
            incoming.write(b"part")
            store.uploads.put_part(upload, incoming, number=3, etag="e", checksums={})
        store.close()
        again = ObjectStore(root=tmp_path / "store")
        try:
            assert again.head(BUCKET, "key") == stored
            assert again.bucket(BUCKET).versioning == "Enabled"
            assert again.document(BUCKET, "lifecycle") == "<LifecycleConfiguration/>"
            assert again.uploads.get(BUCKET, "big", upload.upload_id) == upload
            assert [part.path.read_bytes() for part in again.uploads.parts(upload)] == [b"part"]
        finally:
            again.close()

    def test_what_a_killed_process_left_goes_at_the_start(self, store: ObjectStore, tmp_path: Path) -> None:
        put(store, "key", b"data")
        store.close()
        keep = files_in(store)
        for orphan in ("incoming/half", f"objects/{BUCKET}/ff/whole-but-never-committed", "parts/gone/00001-x"):
            path = tmp_path / "store" / orphan
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"left")
        again = ObjectStore(root=tmp_path / "store")
        again.close()
        assert files_in(again) == keep

    def test_two_cannot_have_it_open(self, store: ObjectStore, tmp_path: Path) -> None:
        with pytest.raises(StoreInUseError, match="close"):
            ObjectStore(root=tmp_path / "store")

    def test_files_are_not_writable_by_others(self, store: ObjectStore) -> None:
        put(store, "key", b"data")
        assert os.stat(store.path_of(BUCKET, "key")).st_mode & 0o022 == 0
