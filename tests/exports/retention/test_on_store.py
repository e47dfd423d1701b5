"""Retention over the sandbox's object store: versions, Object Lock, retention policies, and a store that fails."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealift.cos.client import CosClient
from sealift.exports import ledger, names
from sealift.exports.retention.applying import apply_dry_run
from sealift.exports.retention.dry_run import keep_dry_run, make_dry_run
from sealift.exports.retention.models import Done, DryRun, Result
from sealift.sandbox.faults import Faults
from sealift.sandbox.iam import Identity
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.server import serve_store
from tests.exports.retention.world import BUCKET, NOW, PREFIX, World, keep

LOCK = (
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
    "<Mode>COMPLIANCE</Mode><Days>10</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
)
POLICY = (
    "<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>0</Days></MinimumRetention>"
    "<DefaultRetention><Days>10</Days></DefaultRetention><MaximumRetention><Days>20</Days></MaximumRetention>"
    "</ProtectionConfiguration>"
)


class Shore:
    """A server with two exports in a real store, whose clock a test turns."""

    def __init__(self, root: Path) -> None:
        self.now = NOW
        self.world = World()
        self.old, self.new = self.world.export(101, 30, extras=True), self.world.export(101, 1)
        self.objects = ObjectStore(root=root / "store", clock=lambda: self.now)
        self.objects.create_bucket(BUCKET)
        self.faults = Faults()
        identity = Identity(path=root / "iam.json", faults=self.faults)
        identity.add_hmac(access_key_id="RETENTION", secret_access_key="secret", roles={"*": "Manager"})
        self.server = serve_store(store=self.objects, identity=identity, faults=self.faults)
        self.cos = CosClient(
            region="us-south",
            endpoint_url=self.server.url,
            access_key_id="RETENTION",
            secret_access_key="secret",
            sleep=lambda _seconds: None,
            rng=random.Random(3),
        )

    def fill(self) -> None:
        for key, (body, at) in self.world.cos.objects.items():
            self.now = at
            self.cos.put(BUCKET, key, body)
        self.now = NOW

    def close(self) -> None:
        self.cos.close()
        self.server.close()
        self.objects.close()

    def dry_run(self, name: str, **common: Any) -> DryRun:
        rules = keep(keep_last=1).model_copy(update=common)
        made = make_dry_run(
            cos=self.cos, classic=self.world.classic, bucket=BUCKET, prefix=PREFIX, rules=rules, retention_id=name,
            now=self.now,
        )  # fmt: skip
        return keep_dry_run(self.cos, made)

    def apply(self, dry_run: DryRun) -> Result:
        return apply_dry_run(dry_run, cos=self.cos, classic=self.world.classic, clock=lambda: self.now)

    def keys_of(self, export: str) -> list[str]:
        guest_id, period = names.parse_export_id(export)
        listed = (one.key for one in self.cos.list(BUCKET, ""))
        return [one for one in listed if export in one or f"/{guest_id}/{period}" in one]

    def versions_of(self, export: str) -> int:
        guest_id, period = names.parse_export_id(export)
        found = self.cos.removing.versions(BUCKET, "")
        return sum(export in one.key or f"/{guest_id}/{period}" in one.key for one in found if not one.marker)

    def counts(self, export: str) -> bool:
        guest_id, period = names.parse_export_id(export)
        return ledger.is_exported(self.cos, bucket=BUCKET, prefix=PREFIX, guest_id=guest_id, period=period)


@pytest.fixture
def shore(tmp_path: Path) -> Iterator[Shore]:
    made = Shore(tmp_path)
    yield made
    made.close()


def test_a_plain_bucket_is_free_of_what_went(shore: Shore) -> None:
    shore.fill()
    result = shore.apply(shore.dry_run("r-1"))

    assert [one.done for one in result.outcomes] == [Done.REMOVED]
    assert (shore.keys_of(shore.old), shore.counts(shore.new)) == ([], True)


@pytest.mark.parametrize("versions", ["keep", "delete"])
def test_versions_stay_or_go_as_the_rules_say(shore: Shore, versions: str) -> None:
    shore.objects.set_versioning(BUCKET, "Enabled")
    shore.fill()
    dry_run = shore.dry_run("r-1", versions=versions)
    assert (dry_run.bytes_freed > 0) is (versions == "delete")

    result = shore.apply(dry_run)

    assert [one.done for one in result.outcomes] == [Done.REMOVED]
    assert shore.keys_of(shore.old) == []
    assert (shore.versions_of(shore.old) == 0) is (versions == "delete")
    assert (result.bytes > 0) is (versions == "delete")
    assert shore.counts(shore.new)


@pytest.mark.parametrize("versions", ["keep", "delete"])
def test_what_is_locked_is_listed_with_its_date_and_goes_after_it(shore: Shore, versions: str) -> None:
    shore.objects.set_versioning(BUCKET, "Enabled")
    shore.objects.set_document(BUCKET, "object-lock", LOCK)
    shore.fill()
    (disk,) = [one for one in shore.keys_of(shore.old) if one.endswith("/disk-1.vhd")]
    stored = shore.objects.head(BUCKET, disk)
    assert stored is not None
    until = NOW + timedelta(days=5)
    shore.objects.set_lock(stored, {"retain_until": until.isoformat()})

    first = shore.dry_run("r-1", versions=versions)

    assert (first.exports, [(one.key, one.until) for one in first.protected]) == ([], [(disk, until)])
    assert shore.apply(first).outcomes == []
    assert (shore.counts(shore.old), 1_010_300 in shore.world.classic.templates) == (True, True)
    shore.now = until + timedelta(minutes=1)
    second = shore.dry_run("r-2", versions=versions)
    result = shore.apply(second)
    assert shore.keys_of(shore.old) == [] if versions == "keep" else not shore.counts(shore.old)
    if versions == "delete":
        # The version that the mark made is itself locked by the bucket's default, until its own time is over.
        assert [one.done for one in result.outcomes] == [Done.PROTECTED]
        shore.now += timedelta(days=11)
        assert [one.done for one in shore.apply(shore.dry_run("r-3", versions=versions)).outcomes] == [Done.REMOVED]
        assert shore.versions_of(shore.old) == 0


def test_a_legal_hold_has_no_end(shore: Shore) -> None:
    shore.objects.set_versioning(BUCKET, "Enabled")
    shore.objects.set_document(BUCKET, "object-lock", LOCK)
    shore.fill()
    (record,) = [one for one in shore.keys_of(shore.old) if one.endswith("/server.json")]
    stored = shore.objects.head(BUCKET, record)
    assert stored is not None
    shore.objects.set_lock(stored, {"legal_hold": "ON"})
    shore.now = NOW + timedelta(days=4000)

    (found,) = shore.dry_run("r-1").protected

    assert (found.key, found.legal_hold, found.until) == (record, True, None)


def test_under_a_retention_policy_the_marked_manifest_stays_until_its_own_time(shore: Shore) -> None:
    shore.objects.set_document(BUCKET, "protection", POLICY)
    shore.fill()

    result = shore.apply(shore.dry_run("r-1"))

    assert [one.done for one in result.outcomes] == [Done.PROTECTED]
    assert "stays marked" in result.outcomes[0].words
    assert not shore.counts(shore.old)
    assert [one for one in shore.keys_of(shore.old) if "/images/" in one or "/proofs/" in one] == []
    shore.now = NOW + timedelta(days=1)
    waiting = shore.dry_run("r-2")
    assert (waiting.exports, len(waiting.protected)) == ([], 1), "and it is not tried again before"
    shore.now = NOW + timedelta(days=11)
    assert [one.done for one in shore.apply(shore.dry_run("r-3")).outcomes] == [Done.REMOVED]
    assert shore.keys_of(shore.old) == []


def test_a_young_export_under_a_policy_is_protected_from_the_start(shore: Shore) -> None:
    shore.objects.set_document(BUCKET, "protection", POLICY)
    shore.world.export(101, 3)
    shore.fill()

    dry_run = shore.dry_run("r-1")

    assert [one.export_id for one in dry_run.exports] == [shore.old]
    (young,) = dry_run.protected
    assert isinstance(young.until, datetime)
    assert NOW < young.until < NOW + timedelta(days=8)


def test_a_store_that_fails_now_and_then_hurts_nothing(shore: Shore) -> None:
    shore.fill()
    shore.faults.set("cos_slow_down", rate=0.2)
    dry_run = shore.dry_run("r-1")
    for _ in range(6):
        result = shore.apply(dry_run)
        if not result.left:
            break

    assert {one.done for one in result.outcomes} <= {Done.REMOVED, Done.GONE}
    assert (shore.keys_of(shore.old), shore.counts(shore.new)) == ([], True)
