"""Retention over an upgrade: what an earlier version began is finished, and what a newer one wrote is left alone."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from sealift.exports import ledger, names
from sealift.exports.retention import keys
from sealift.exports.retention.dry_run import read_dry_run
from sealift.exports.retention.models import Done
from tests.exports.retention.world import BUCKET, NOW, PREFIX, Killed, World, outcomes


@pytest.fixture
def world() -> World:
    return World()


def without_nulls(value: Any) -> Any:
    """What an earlier Sealift would have written, which knew nothing of what is null."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("step", range(2, 9))
@pytest.mark.parametrize("again", ["the same dry run", "another one"])
def test_a_removal_that_an_earlier_version_began_is_finished(step: int, again: str) -> None:
    """The manifest was marked with other bytes than this version would mark it with."""
    world = World()
    old, _ = world.export(101, 30), world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.switch.kill_at(step, after=True)
    with pytest.raises(Killed):
        world.apply(dry_run)
    world.switch.calm()
    key = world.manifest_key(old)
    if key in world.cos.objects:
        marked = json.dumps(without_nulls(world.manifest(old)), indent=4).encode()
        assert marked != world.cos.objects[key][0]
        world.cos.store(key, marked)
    if again == "another one":
        world.now = NOW + timedelta(days=2)
        dry_run = world.dry_run(keep_last=1, name="r-2")
    assert {one.done for one in world.apply(dry_run).outcomes} <= {Done.REMOVED, Done.GONE}
    assert world.keys_of(old) == []
    assert [one for one in world.cos.objects if "/removing/" in one] == []


def test_a_mark_that_an_earlier_version_set_is_taken_back(world: World) -> None:
    old, _ = world.export(101, 30, template=False), world.export(101, 1, template=False)
    dry_run = world.dry_run(keep_last=1)
    world.switch.kill_at(2, after=True)
    with pytest.raises(Killed):
        world.apply(dry_run)
    world.switch.calm()
    world.cos.store(world.manifest_key(old), json.dumps(without_nulls(world.manifest(old))).encode())
    guest_id, period = names.parse_export_id(old)
    world.cos.store(keys.hold_key(prefix=PREFIX, guest_id=guest_id, period=period), b"{}")
    world.now = NOW + timedelta(days=2)
    assert outcomes(world.apply(world.dry_run(keep_last=1, name="r-2"))) == [(old, "taken-back")]
    assert ledger.is_exported(world.cos, bucket=BUCKET, prefix=PREFIX, guest_id=guest_id, period=period)


def test_a_dry_run_of_before_an_upgrade_is_carried_out_after_it(world: World) -> None:
    old, _ = world.export(101, 30), world.export(101, 1)
    raw = world.dry_run(keep_last=1).model_dump(mode="json")
    del raw["template_cost_freed"]
    for one in raw["exports"]:
        del one["template_bytes"]
    world.cos.store(f"{PREFIX}/retention/r-1.json", json.dumps({**raw, "schema_version": 1}).encode())
    read = read_dry_run(world.cos, bucket=BUCKET, prefix=PREFIX, retention_id="r-1")
    assert outcomes(world.apply(read)) == [(old, "removed")]
    assert world.keys_of(old) == []


def test_a_manifest_or_proof_of_a_newer_version_is_left_alone_and_told(world: World) -> None:
    old, _ = world.export(101, 30), world.export(101, 1)
    other, _ = world.export(102, 30), world.export(102, 1)
    key = world.manifest_key(old)
    world.cos.store(key, json.dumps(world.manifest(old) | {"schema_version": 99, "new": 1}).encode())
    world.proof(other, NOW)
    (proof,) = [one for one in world.cos.objects if "/proofs/" in one]
    world.cos.store(proof, json.dumps({**json.loads(world.cos.objects[proof][0]), "schema_version": 99}).encode())

    dry_run = world.dry_run(keep_last=1, proof_level="L2")

    assert dry_run.exports == [], "by rules for L2, neither what cannot be read nor what is not known to be proven goes"
    assert len(dry_run.unreadable) == 2
    assert all("was written by a newer Sealift" in words for words in dry_run.unreadable)
    assert {words.partition(" ")[0] for words in dry_run.unreadable} == {f"{BUCKET}/{key}", f"{BUCKET}/{proof}"}
