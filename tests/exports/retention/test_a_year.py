"""Twelve months of slots: exports, proofs, holds, crashes and retention, and then exactly what the rules keep."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from sealift.exports import ledger, names
from sealift.exports.retention import keys
from sealift.exports.retention.applying import apply_dry_run
from sealift.exports.retention.deciding import decide
from sealift.exports.retention.gathering import gather
from sealift.exports.retention.models import Done
from sealift.exports.retention.rules import read_rules
from tests.exports.retention.world import BUCKET, NOW, PREFIX, Killed, World

RULES = read_rules(
    {
        "timezone": "Europe/Berlin",
        "rules": [
            {"name": "databases", "servers": {"ids": [101]}, "keep_daily": 5, "keep_weekly": 4, "keep_monthly": 12},
            {"name": "the rest", "servers": {"all": True}, "keep_last": 3, "keep_monthly": 2, "templates_newest": 2},
        ],
    }
)
SERVERS = (101, 102, 103)


def exported(world: World) -> set[str]:
    listed = ledger.manifests(world.cos, bucket=BUCKET, prefix=PREFIX)
    return {names.export_id(guest_id=guest_id, period=period) for guest_id, period in listed}


def names_of(world: World) -> set[str]:
    return {str(one.name) for one in world.classic.templates.values()}


@pytest.mark.parametrize("seed", range(3))
def test_after_a_year_bucket_and_account_hold_what_the_rules_say(seed: int) -> None:
    """Retention runs every third day, and is killed in every second run."""
    dice, world = random.Random(seed), World()
    made: dict[int, list[str]] = {guest: [] for guest in SERVERS}
    held: set[str] = set()
    kills = 0
    for day in range(365, 0, -1):
        world.now = NOW - timedelta(days=day) + timedelta(hours=1)
        for guest in SERVERS:
            if guest != 103 or day % 7 == 0:
                made[guest].append(world.export(guest, day, disks=1))
        if dice.random() < 0.01:
            held.add(hold := dice.choice(sorted(exported(world))))
            guest_id, period = names.parse_export_id(hold)
            world.cos.store(keys.hold_key(prefix=PREFIX, guest_id=guest_id, period=period), b"{}")
        if day % 3 == 0:
            dry_run = world.dry_run(RULES, name=f"day-{day}")
            if dice.random() < 0.5:
                world.switch.kill_at(dice.randint(1, 12), after=dice.random() < 0.5)
                try:
                    world.apply(dry_run)
                except Killed:
                    kills += 1
                world.switch.calm()
            else:
                world.apply(dry_run)
        for guest in SERVERS:
            assert not made[guest] or made[guest][-1] in exported(world), "the newest always stands"
    world.now = NOW
    last = world.apply(world.dry_run(RULES, name="last"))

    assert kills > 20
    assert {one.done for one in last.outcomes} <= {Done.REMOVED}
    left = exported(world)
    assert world.dry_run(RULES, name="once-more").size == 0
    assert held <= left
    # What a single run at the end would have kept of everything that was ever made is what the many runs kept.
    whole = World()
    for guest in SERVERS:
        for export in made[guest]:
            at = names.slot_of_period(export.partition("-")[2])
            assert at is not None
            whole.export(guest, (NOW - at) / timedelta(days=1), disks=1)
    for hold in held:
        guest_id, period = names.parse_export_id(hold)
        whole.cos.store(keys.hold_key(prefix=PREFIX, guest_id=guest_id, period=period), b"{}")
    apply_dry_run(whole.dry_run(RULES), cos=whole.cos, classic=whole.classic, clock=lambda: NOW)
    assert left == exported(whole)
    # An export may be held after its image template went, as a newer one was proven: nobody brings that back.
    held_names = {names.template_name(export) for export in held}
    assert names_of(world) <= names_of(whole)
    assert names_of(whole) - names_of(world) <= held_names
    # And nothing lies there that belongs to none of them.
    objects = {key for key in world.cos.objects if "/images/" in key or "/proofs/" in key}
    assert len(objects) == 2 * len(left)
    assert all(any(export in key for export in left) for key in objects)
    assert [key for key in world.cos.objects if "/removing/" in key] == []
    facts = gather(cos=world.cos, classic=world.classic, bucket=BUCKET, prefix=PREFIX, rules=RULES, now=NOW)
    for verdict in decide(facts.servers, rules=RULES, now=NOW):
        assert all(one.keep for one in verdict.exports)
