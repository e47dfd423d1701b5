"""Orphans go by the same two steps: older than the grace period, unchanged, and nothing that became an export."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sealift.cos.models import BucketGuards, MultipartUpload, Protection
from sealift.exports import names
from sealift.exports.errors import SettingsError
from sealift.exports.retention.models import DryRun
from sealift.exports.retention.rules import RetentionRules, read_rules
from tests.exports.retention.world import NOW, PREFIX, World, outcomes, period_of


def rules(*, after_days: float = 14, **more: object) -> RetentionRules:
    rule = {"name": "all", "servers": {"all": True}, "keep_last": 5}
    return read_rules({"rules": [rule], "orphans": {"after_days": after_days, **more}})


class Attic(World):
    """A server with an export, and one of every kind of orphan beside it."""

    def __init__(self, *, days: float = 30) -> None:
        super().__init__()
        self.done = self.export(101, 1)
        at = NOW - timedelta(days=days)
        self.half = names.export_id(guest_id=102, period=period_of(at))
        self.images = names.image_prefix(prefix=PREFIX, hostname="web102", guest_id=102, export=self.half)
        self.cos.store(names.disk_key(images=self.images, index=0), b"half", at=at)
        self.alone = names.export_id(guest_id=103, period=period_of(at))
        self.template(5000, self.alone, at)
        self.template(6000, self.done, at)  # the second of its name
        key = names.disk_key(images=self.images, index=1)
        self.cos.uploads = [MultipartUpload(key=key, upload_id="u-1", initiated=at)]


def kinds(dry_run: DryRun) -> list[str]:
    return sorted(one.kind for one in dry_run.orphans)


def test_old_orphans_go_with_their_objects_and_the_export_beside_them_stays() -> None:
    attic = Attic()
    dry_run = attic.dry_run(rules())

    assert kinds(dry_run) == ["duplicate-templates", "half-export", "orphan-template", "unfinished-upload"]
    assert dry_run.size == 4
    assert dry_run.bytes_freed == 4 + 5000
    assert dry_run.template_bytes_freed == int(1e10)
    assert dry_run.summary.endswith("and 4 orphans")

    result = attic.apply(dry_run)

    assert {done for _, done in outcomes(result)} == {"removed"}
    assert list(attic.classic.templates) == [1_010_010], "of two of one name, the one that the manifest names stays"
    assert attic.cos.uploads == []
    assert [key for key in attic.cos.objects if "web102" in key] == []
    assert len(attic.keys_of(attic.done)) == 4
    assert outcomes(attic.apply(dry_run)) == outcomes(result)
    assert attic.dry_run(rules(), name="r-2").orphans == []


def test_what_is_younger_than_the_grace_period_stays() -> None:
    assert Attic(days=13).dry_run(rules()).orphans == []
    assert len(Attic(days=13).dry_run(rules(after_days=12)).orphans) == 4


def test_without_a_rule_no_orphan_goes() -> None:
    attic = Attic()
    assert attic.dry_run(keep_last=5).orphans == []


def test_only_the_kinds_that_are_named_go() -> None:
    assert kinds(Attic().dry_run(rules(kinds=["half-export"]))) == ["half-export"]


def test_what_became_an_export_or_changed_since_stays() -> None:
    attic = Attic()
    dry_run = attic.dry_run(rules())
    attic.export(103, 30, template=False)  # somebody took the orphan's template up, and it is proven
    attic.classic.templates[5000] = attic.classic.templates[5000]
    attic.cos.store(names.disk_key(images=attic.images, index=1), b"another disk", at=NOW - timedelta(days=29))

    result = attic.apply(dry_run)

    found = {one.export_id: one.done.value for one in result.outcomes if one.upload_id is None}
    assert found == {attic.done: "removed", attic.half: "changed", attic.alone: "gone"}
    assert 5000 in attic.classic.templates
    assert len([key for key in attic.cos.objects if "web102" in key]) == 2


def test_of_two_templates_of_an_export_without_a_manifest_none_goes() -> None:
    attic = Attic()
    attic.template(7000, attic.alone, NOW - timedelta(days=30))

    assert "duplicate-templates" not in [
        one.kind for one in attic.dry_run(rules()).orphans if one.export_id == attic.alone
    ]


def test_a_grace_period_below_a_day_is_refused() -> None:
    with pytest.raises(SettingsError, match="after_days"):
        rules(after_days=0.5)


def test_what_is_left_of_an_export_and_protected_is_told_with_its_date_and_not_tried() -> None:
    attic = Attic()
    disk = names.disk_key(images=attic.images, index=0)
    until = NOW + timedelta(days=60)
    attic.cos.protected[disk] = Protection(until=until)
    attic.cos.found_guards = BucketGuards(object_lock=True)

    dry_run = attic.dry_run(rules())

    assert "half-export" not in kinds(dry_run)
    (found,) = dry_run.protected
    assert (found.export_id, found.key, found.until, found.guest_id) == (attic.half, disk, until, 102)
    assert {done for _, done in outcomes(attic.apply(dry_run))} == {"removed"}
    assert disk in attic.cos.objects
    attic.now = until + timedelta(minutes=1)
    del attic.cos.protected[disk]
    later = attic.dry_run(rules(), name="r-2")
    assert (kinds(later), later.protected) == (["half-export"], [])
