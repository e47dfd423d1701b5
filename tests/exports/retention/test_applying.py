"""A dry run is carried out as it was written, in an order in which a kill at any step loses nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicOutcomeUnknownError,
    ClassicPermissionError,
    ClassicTransientError,
)
from sealift.classic.models import Guest, GuestState, Template
from sealift.cos.models import BucketGuards, MultipartUpload, ObjectInfo, Protection
from sealift.exports import ledger, names
from sealift.exports.delivery import find_manifest
from sealift.exports.doctor import examine
from sealift.exports.doctor_models import Finding, Kind
from sealift.exports.drills.keys import Outcome, Rehearsed, rehearsal_key
from sealift.exports.errors import LedgerError, NoSuchExportError
from sealift.exports.manifest import read_manifest
from sealift.exports.retention import keys
from sealift.exports.retention.applying import read_result
from sealift.exports.retention.dry_run import keep_dry_run, read_dry_run
from sealift.exports.retention.models import Done
from tests.exports.retention.world import BUCKET, NOW, PREFIX, Killed, World, keep, outcomes


@pytest.fixture
def world() -> World:
    return World()


def test_what_the_rules_do_not_keep_goes_with_all_that_belongs_to_it(world: World) -> None:
    old = world.export(101, 30, extras=True)
    kept = [world.export(101, days) for days in (2, 1)]
    other = world.export(102, 90)

    dry_run = world.dry_run()
    (going,) = dry_run.exports
    assert (going.export_id, going.why, going.rule) == (old, ["not-kept"], "all")
    assert len(going.objects) == 2 + 1 + 3 + 1, "disks, record, kit, conversion, proof"
    assert going.template_id == 1_010_300
    assert [one.export_id for one in dry_run.templates] == [kept[0]]
    assert dry_run.summary == "1 of 4 exports and 2 of 4 image templates of 2 servers go"
    assert (dry_run.kept, dry_run.kept_templates) == ({"last-proven": 2, "last": 1}, {"newest-template": 2})
    before = dict(world.cos.objects)

    result = world.apply(dry_run)

    assert outcomes(result) == [(old, "removed"), (kept[0], "removed")]
    assert result.outcomes[0].objects == 7
    assert result.bytes == going.bytes == dry_run.bytes_freed
    assert world.keys_of(old) == []
    assert sorted(world.classic.templates) == [1_010_010, 1_020_900]
    for export in (*kept, other):
        assert world.keys_of(export)
        for key in world.keys_of(export):
            assert world.cos.objects[key] == before[key]
    assert read_result(world.cos, bucket=BUCKET, prefix=PREFIX, retention_id="r-1") == result
    assert outcomes(world.apply(dry_run)) == outcomes(result), "once more, and nothing is left to do"
    assert world.dry_run(name="r-2").size == 0


def test_an_export_that_did_not_come_back_in_a_drill_displaces_no_good_one(world: World) -> None:
    old, new = world.export(101, 30), world.export(101, 1)
    guest_id, period = names.parse_export_id(new)

    def rehearsed(outcome: Outcome, hours: int) -> None:
        at = NOW - timedelta(hours=hours)
        one = Rehearsed(guest_id=guest_id, period=period, ended_at=at, outcome=outcome, drill_id="d")
        world.cos.store(rehearsal_key(prefix=PREFIX, one=one), b"{}", at=at)

    def goes(name: str) -> list[str]:
        return [one.export_id for one in world.dry_run(name=name, keep_last=1).exports]

    assert goes("r-1") == [old]
    rehearsed(Outcome.PASSED, 9)
    rehearsed(Outcome.FAILED, 8)
    rehearsed(Outcome.UNFINISHED, 7)
    assert goes("r-2") == []
    rehearsed(Outcome.PASSED, 6)
    assert goes("r-3") == [old]


def test_the_order_is_note_mark_template_objects_manifest_note(world: World) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.switch.calm()

    world.apply(dry_run)

    guest_id, period = names.parse_export_id(old)
    note = keys.removing_key(prefix=PREFIX, guest_id=guest_id, period=period)
    manifest = world.manifest_key(old)
    first, second, third, *rest = world.switch.steps
    assert (first, second, third) == (f"put {note}", f"replace {manifest}", "delete template 1010300")
    assert rest[-3:-1] == [f"delete {manifest}", f"delete {note}"]
    assert {one.partition(" ")[0] for one in rest[:-3]} == {"delete"}


def steps_of_a_removal() -> int:
    world = World()
    world.export(101, 30, extras=True)
    world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.switch.calm()
    world.apply(dry_run)
    return world.switch.count


STEPS = steps_of_a_removal()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("again", ["same", "new"])
def test_killed_at_any_step_the_next_run_finishes(step: int, after: bool, again: str) -> None:
    world = World()
    old, new = world.export(101, 30, extras=True), world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.switch.kill_at(step, after=after)
    with pytest.raises(Killed):
        world.apply(dry_run)
    world.switch.calm()

    # What a reader sees in between: a whole export, or none.
    listed = ledger.manifests(world.cos, bucket=BUCKET, prefix=PREFIX)
    exported = {names.export_id(guest_id=guest_id, period=period) for guest_id, period in listed}
    assert new in exported
    if old in exported:
        manifest = read_manifest(world.cos, bucket=BUCKET, key=world.manifest_key(old))
        assert manifest is not None
        assert all(disk.key in world.cos.objects for disk in manifest.disks)
        assert manifest.template.id in world.classic.templates
    elif any("/images/" in key for key in world.keys_of(old)):
        assert world.manifest(old)["removal"]["retention_id"] == "r-1", "objects never lie there without a manifest"

    if again == "new":
        dry_run = world.dry_run(name="r-2", keep_last=1)
        assert {one.export_id for one in dry_run.exports} <= {old}
    result = world.apply(dry_run)

    assert {one.done for one in result.outcomes} <= {Done.REMOVED, Done.GONE}
    assert world.keys_of(old) == []
    assert len(world.keys_of(new)) == 4
    assert list(world.classic.templates) == [1_010_010]
    assert [key for key in world.cos.objects if "/removing/" in key] == []


def test_a_marked_export_is_no_export_for_anybody(world: World) -> None:
    old, new = world.export(101, 30), world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.switch.kill_at(3, after=False)  # before the image template
    with pytest.raises(Killed):
        world.apply(dry_run)
    guest_id, period = names.parse_export_id(old)
    where: dict[str, Any] = {"bucket": BUCKET, "prefix": PREFIX}

    assert not ledger.is_exported(world.cos, **where, guest_id=guest_id, period=period)
    assert ledger.exported_guests(world.cos, **where, period=period, guest_ids=[guest_id]) == set()
    assert list(ledger.exported_periods(world.cos, **where, guest_ids=[guest_id])[guest_id]) == [new.partition("-")[2]]
    assert read_manifest(world.cos, bucket=BUCKET, key=world.manifest_key(old)) is None
    assert find_manifest(world.cos, **where, wanted="101")[0].export_id == new
    with pytest.raises(NoSuchExportError):
        find_manifest(world.cos, **where, wanted=old)
    (taken,) = world.dry_run(name="r-2", keep_last=50).exports
    assert (taken.export_id, taken.why, taken.taken_up) == (old, ["being-removed"], True)


def test_what_changed_since_the_dry_run_is_left_alone(world: World) -> None:
    exports = [world.export(guest, days) for guest in range(101, 107) for days in (30, 1)]
    old = exports[::2]
    dry_run = world.dry_run(keep_last=1)
    changed, added, proven, held, replaced, plain = old
    world.cos.store(world.manifest_key(changed), world.cos.objects[world.manifest_key(changed)][0] + b" ")
    images = names.image_prefix(prefix=PREFIX, hostname="web102", guest_id=102, export=added)
    world.cos.store(f"{images}/kits/aws/import.sh", b"somebody needs it")
    world.proof(proven, NOW)
    guest_id, period = names.parse_export_id(held)
    world.cos.store(keys.hold_key(prefix=PREFIX, guest_id=guest_id, period=period), b"{}")
    images = names.image_prefix(prefix=PREFIX, hostname="web105", guest_id=105, export=replaced)
    world.cos.store(names.disk_key(images=images, index=0), b"another image")
    before = {key: body for key, body in world.cos.objects.items() if plain not in key}

    result = world.apply(dry_run)

    assert [one.done for one in result.outcomes] == [
        Done.CHANGED, Done.CHANGED, Done.CHANGED, Done.KEPT_NOW, Done.KEPT_NOW, Done.REMOVED,
    ]  # fmt: skip
    for export in (changed, added, proven, held, replaced):
        assert all(world.cos.objects[key] == before[key] for key in before if export in key)
        assert "removal" not in world.manifest(export)
    assert world.keys_of(plain) == []
    assert len(world.classic.templates) == 11


def test_the_last_proven_export_stays_even_if_the_newer_one_is_lost_after_the_dry_run(world: World) -> None:
    old, new = world.export(101, 30), world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    del world.cos.objects[world.manifest(new)["disks"][0]["key"]]

    assert outcomes(world.apply(dry_run)) == [(old, "kept-now")]
    assert len(world.keys_of(old)) == 4


def test_two_runs_never_remove_each_other_s_survivor(world: World) -> None:
    old, new = world.export(101, 30, template=False), world.export(101, 1, template=False)
    dry_run = world.dry_run(keep_last=1)
    guest_id, period = names.parse_export_id(new)
    mark = {"retention_id": "other", "marked_at": NOW.isoformat(), "etag": "e", "template": False}

    original = world.cos.put_if_match

    def put_if_match(bucket: str, key: str, body: bytes, *, etag: str) -> bool:
        """In this very moment another run marks the export that is to stay."""
        if key == world.manifest_key(old) and b'"removal": {' in body:
            world.cos.store(world.manifest_key(new), json.dumps(world.manifest(new) | {"removal": mark}).encode())
        return original(bucket, key, body, etag=etag)

    world.cos.put_if_match = put_if_match  # type: ignore[method-assign]
    result = world.apply(dry_run)

    assert outcomes(result) == [(old, "kept-now")]
    assert len(world.keys_of(old)) == 4
    assert world.manifest(old)["removal"] is None
    assert ledger.is_exported(world.cos, bucket=BUCKET, prefix=PREFIX, guest_id=guest_id, period=period) is False


def test_what_the_store_protects_is_named_with_its_date_and_not_tried(world: World) -> None:
    old, _ = world.export(101, 30), world.export(101, 1)
    disk = world.manifest(old)["disks"][1]["key"]
    until = NOW + timedelta(days=60)
    world.cos.protected[disk] = Protection(until=until)
    world.cos.found_guards = BucketGuards(versions=True, object_lock=True)

    dry_run = world.dry_run(keep_last=1)

    assert dry_run.exports == []
    (found,) = dry_run.protected
    assert (found.export_id, found.key, found.until) == (old, disk, until)
    assert dry_run.kept["protected"] == 1
    assert 1_010_300 in world.classic.templates, "its image template waits with it"
    assert world.dry_run(name="r-2", keep_last=1).templates == []
    world.now = until + timedelta(seconds=1)
    assert [one.export_id for one in world.dry_run(name="r-3", keep_last=1).exports] == [old]


def test_a_legal_hold_that_came_after_the_dry_run_takes_the_mark_back(world: World) -> None:
    old = world.export(101, 30, template=False)
    world.export(101, 1, template=False)
    dry_run = world.dry_run(keep_last=1)
    first = min(key for key in world.cos.objects if old in key)
    world.cos.protected[first] = Protection(legal_hold=True)

    result = world.apply(dry_run)

    assert [one.done for one in result.outcomes] == [Done.PROTECTED]
    assert first in result.outcomes[0].words
    guest_id, period = names.parse_export_id(old)
    assert ledger.is_exported(world.cos, bucket=BUCKET, prefix=PREFIX, guest_id=guest_id, period=period)
    assert [key for key in world.cos.objects if "/removing/" in key] == []
    assert world.dry_run(name="r-2", keep_last=1).exports[0].taken_up is False


def test_a_hold_in_the_middle_leaves_a_mark_that_the_next_run_takes_up(world: World) -> None:
    old = world.export(101, 30, disks=3)
    world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    last = world.manifest(old)["disks"][2]["key"]
    world.cos.protected[last] = Protection(legal_hold=True)

    result = world.apply(dry_run)

    assert [one.done for one in result.outcomes] == [Done.PROTECTED]
    assert "stays marked" in result.outcomes[0].words
    assert world.manifest(old)["removal"]["retention_id"] == "r-1"
    del world.cos.protected[last]
    again = world.dry_run(name="r-2", keep_last=1)
    assert [one.taken_up for one in again.exports] == [True]
    assert outcomes(world.apply(again)) == [(old, "removed")]
    assert world.keys_of(old) == []


@pytest.mark.parametrize(
    ("error", "done"),
    [
        (ClassicActiveTransactionError("There is currently an active transaction."), Done.REFUSED),
        (ClassicPermissionError("You do not have permission."), Done.REFUSED),
        (ClassicTransientError("Internal Error"), Done.UNFINISHED),
        (ClassicOutcomeUnknownError("the reply was lost"), Done.UNFINISHED),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else one.value,
)
def test_what_the_account_says_decides_whether_the_mark_stays(world: World, error: Exception, done: Done) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.classic.refusals[1_010_300] = error

    result = world.apply(dry_run)

    assert [one.done for one in result.outcomes] == [done]
    assert len([key for key in world.keys_of(old) if "/images/" in key]) == 3, "no object goes before its template"
    assert bool(world.manifest(old)["removal"]) is (done is Done.UNFINISHED)
    world.classic.refusals.clear()
    again = world.dry_run(name="r-2", keep_last=1)
    assert outcomes(world.apply(again)) == [(old, "removed")]
    assert (world.keys_of(old), list(world.classic.templates)) == ([], [1_010_010])


def test_a_template_whose_deletion_takes_long_is_waited_for_by_the_next_run(world: World) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.classic.slow = True
    world.switch.kill_at(3, after=True)
    with pytest.raises(Killed):
        world.apply(dry_run)
    world.switch.calm()

    assert outcomes(world.apply(dry_run)) == [(old, "unfinished")]
    again = world.dry_run(name="r-2", keep_last=1)
    assert again.exports[0].template_id == 1_010_300, "a template that is busy is not forgotten"
    world.classic.over()
    assert outcomes(world.apply(dry_run)) == [(old, "removed")]
    assert world.keys_of(old) == []


def test_a_template_that_got_another_name_is_not_deleted(world: World) -> None:
    for days in (30, 2, 1):
        world.export(101, days)
    dry_run = world.dry_run(keep_last=2)
    for id_ in (1_010_300, 1_010_020):
        world.classic.templates[id_] = world.classic.templates[id_].model_copy(update={"name": "golden image"})

    result = world.apply(dry_run)

    assert [one.done for one in result.outcomes] == [Done.CHANGED, Done.GONE]
    assert len(world.classic.templates) == 3


def test_a_template_goes_alone_only_while_its_export_is_whole(world: World) -> None:
    for days in (2, 1):
        world.export(101, days)
    dry_run = world.dry_run(keep_last=2)
    assert [one.template_id for one in dry_run.templates] == [1_010_020]
    (old,) = {one.export_id for one in dry_run.templates}
    del world.cos.objects[world.manifest(old)["disks"][0]["key"]]

    result = world.apply(dry_run)

    assert [(one.done, one.words) for one in result.outcomes] == [
        (Done.KEPT_NOW, "It is kept by now: objects-changed.")
    ]
    assert 1_010_020 in world.classic.templates


def test_a_dry_run_is_written_once_and_read_by_its_id(world: World) -> None:
    world.export(101, 30)
    world.export(101, 1)
    first = world.dry_run(keep_last=1)
    world.export(101, 40)

    assert world.dry_run(keep_last=1) == first, "a later try goes by what the first one wrote"
    assert read_dry_run(world.cos, bucket=BUCKET, prefix=PREFIX, retention_id="r-1") == first
    with pytest.raises(NoSuchExportError):
        read_dry_run(world.cos, bucket=BUCKET, prefix=PREFIX, retention_id="r-9")
    world.cos.store(keys.dry_run_key(prefix=PREFIX, retention_id="r-9"), b"{}")
    with pytest.raises(LedgerError):
        read_dry_run(world.cos, bucket=BUCKET, prefix=PREFIX, retention_id="r-9")
    with pytest.raises(LedgerError):
        keep_dry_run(world.cos, first.model_copy(update={"retention_id": "r-9"}))


def test_a_manifest_that_cannot_be_read_keeps_what_belongs_to_it(world: World) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    world.cos.store(world.manifest_key(old), b'{"not": "a manifest"}')

    dry_run = world.dry_run(keep_last=1)

    assert (dry_run.size, len(dry_run.unreadable)) == (0, 1)
    assert old.partition("-")[2] in dry_run.unreadable[0]
    assert dry_run.kept_templates == {"newest-template": 1, "no-manifest": 1}


def test_tags_are_the_account_s_and_of_a_server_that_is_gone_its_record_s(world: World) -> None:
    for guest in (101, 102, 103):
        for days in (30, 1):
            world.export(guest, days)
    world.classic.guests = [
        Guest.model_validate({"id": 101, "hostname": "web101", "tagReferences": [{"tag": {"name": "keep"}}]})
    ]
    newest = next(one for one in world.cos.objects if "/images/web102-102/" in one and one.endswith("server.json"))
    period = world.dry_run(name="r-0", keep_last=1).exports[0]
    assert period.guest_id == 101
    for key in [one for one in world.cos.objects if "/images/web102-102/" in one and one.endswith("server.json")]:
        newest = max(newest, key)
    record = {
        "guest_id": 102,
        "detail": {"tagReferences": [{"tag": {"name": "KEEP"}}]},
        "block_devices": [],
        "attached_network_storage": [],
        "attributes": [],
    }
    world.cos.store(newest, json.dumps(record).encode())
    assert world.classic.listed == 0, "nobody asks for tags that no rule names"

    dry_run = world.dry_run(keep(keep_last=1, hold_tags=["keep"]), name="r-1")

    assert dry_run.exports == []
    assert dry_run.kept == {"held-by-tag": 4, "tags-unknown": 2}


def test_the_doctor_tells_of_a_removal_that_nobody_goes_on_with_and_of_nothing_else(world: World) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.switch.kill_at(5, after=True)  # the first of its objects
    with pytest.raises(Killed):
        world.apply(dry_run)
    doctor = Doctored(world)

    assert doctor.findings(world.now + timedelta(minutes=59)) == []
    (found,) = doctor.findings(world.now + timedelta(hours=2))
    assert (found.kind, found.export_id, found.hostname) == (Kind.BEING_REMOVED, old, "web101")
    assert "r-1" in found.what
    world.apply(dry_run)
    assert doctor.findings(world.now + timedelta(hours=2)) == []


def test_a_mark_whose_objects_are_all_there_is_found_by_its_note(world: World) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.switch.kill_at(2, after=True)
    with pytest.raises(Killed):
        world.apply(dry_run)

    (found,) = Doctored(world).findings(world.now + timedelta(hours=2))
    assert (found.kind, found.export_id) == (Kind.BEING_REMOVED, old)


class Doctored:
    """The doctor over a world that it can only read."""

    def __init__(self, world: World) -> None:
        self._world = world

    def templates_with_prefix(self, prefix: str) -> list[Template]:
        return self._world.classic.templates_with_prefix(prefix)

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]:
        return {}

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        return self._world.cos.list(bucket, prefix)

    def read(self, bucket: str, key: str) -> bytes | None:
        return self._world.cos.read(bucket, key)

    def list_multipart_uploads(self, bucket: str, prefix: str) -> Sequence[MultipartUpload]:
        return []

    def upload_size(self, bucket: str, upload: MultipartUpload) -> tuple[int, int]:
        return 0, 0

    def findings(self, now: datetime) -> Sequence[Finding]:
        return examine(classic=self, cos=self, bucket=BUCKET, prefix=PREFIX, now=now).findings


def test_a_dry_run_names_so_many_and_the_next_one_the_rest(world: World) -> None:
    for days in range(1, 10):
        world.export(101, days)
    rules = keep(keep_last=2).model_copy(update={"at_most": 3})
    left = []
    for number in range(1, 5):
        dry_run = world.dry_run(rules, name=f"r-{number}")
        left.append((len(dry_run.exports), dry_run.kept.get("later", 0), dry_run.kept_templates.get("later", 0)))
        world.apply(dry_run)

    assert left == [(3, 4, 4), (3, 1, 1), (1, 0, 0), (0, 0, 0)]
    assert len(world.classic.templates) == 1
    assert len(list(ledger.manifests(world.cos, bucket=BUCKET, prefix=PREFIX))) == 2


# Marks that nobody goes on with


def killed_after_the_mark(world: World, **rule: Any) -> None:
    dry_run = world.dry_run(name=f"killed-{world.switch.count}", **rule)
    world.switch.kill_at(2, after=True)
    with pytest.raises(Killed):
        world.apply(dry_run)
    world.switch.calm()


def test_a_marked_export_that_is_held_by_now_is_taken_back_and_not_deleted(world: World) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    killed_after_the_mark(world, keep_last=1)
    guest_id, period = names.parse_export_id(old)
    world.cos.store(keys.hold_key(prefix=PREFIX, guest_id=guest_id, period=period), b"{}")

    young = world.dry_run(name="young", keep_last=1)
    assert [one.done for one in world.apply(young).outcomes] == [Done.KEPT_NOW], "whoever marked it may be at work"
    world.now += timedelta(hours=2)
    dry_run = world.dry_run(name="later", keep_last=1)
    assert (dry_run.exports, [one.export_id for one in dry_run.taken_back]) == ([], [old])
    assert outcomes(world.apply(dry_run)) == [(old, "taken-back")]

    assert ledger.is_exported(world.cos, bucket=BUCKET, prefix=PREFIX, guest_id=guest_id, period=period)
    assert [key for key in world.cos.objects if "/removing/" in key] == []
    assert len([key for key in world.keys_of(old) if "/images/" in key]) == 3
    assert world.dry_run(name="last", keep_last=1).taken_back == []
    assert outcomes(world.apply(dry_run)) == [(old, "taken-back")]


def test_two_runs_that_die_with_both_exports_marked_lose_neither_for_good(world: World) -> None:
    """Each would have kept the other; whoever comes next keeps the newest."""
    old, new = world.export(101, 30), world.export(101, 1)
    killed_after_the_mark(world, keep_last=1)
    mark = world.manifest(old)["removal"] | {"etag": world.cos.info(world.manifest_key(new)).etag}
    guest_id, period = names.parse_export_id(new)
    world.cos.store(world.manifest_key(new), json.dumps(world.manifest(new) | {"removal": mark}).encode())
    world.cos.store(keys.removing_key(prefix=PREFIX, guest_id=guest_id, period=period), b"{}")
    assert list(ledger.manifests(world.cos, bucket=BUCKET, prefix=PREFIX)) == []

    early = world.dry_run(name="early", keep_last=1)
    assert {one.done for one in world.apply(early).outcomes} == {Done.KEPT_NOW}, "there is no export that would stay"
    world.now += timedelta(hours=2)
    result = world.apply(world.dry_run(name="late", keep_last=1))

    assert outcomes(result) == [(new, "taken-back"), (old, "removed")]
    assert list(ledger.manifests(world.cos, bucket=BUCKET, prefix=PREFIX)) == [(guest_id, period)]
    assert len([key for key in world.keys_of(new) if "/images/" in key]) == 3


def test_a_mark_whose_first_disk_is_gone_is_not_taken_back(world: World) -> None:
    old = world.export(101, 30)
    world.export(101, 1)
    dry_run = world.dry_run(keep_last=1)
    world.switch.kill_at(4, after=True)  # note, mark, image template, first disk
    with pytest.raises(Killed):
        world.apply(dry_run)
    world.switch.calm()
    world.now += timedelta(hours=2)

    again = world.dry_run(name="again", keep_last=50)

    assert (again.taken_back, [one.export_id for one in again.exports]) == ([], [old])
    assert outcomes(world.apply(again)) == [(old, "removed")]


def test_notes_that_are_left_over_are_swept_and_those_of_others_at_work_are_not(world: World) -> None:
    old = world.export(101, 1)
    guest_id, period = names.parse_export_id(old)
    gone = keys.removing_key(prefix=PREFIX, guest_id=999, period="20260101T0200Z")
    given_up = keys.removing_key(prefix=PREFIX, guest_id=guest_id, period=period)
    for key in (gone, given_up):
        world.cos.store(key, b"{}")
    manifest = world.manifest(old) | {"removal": None}
    world.cos.store(world.manifest_key(old), json.dumps(manifest).encode(), at=NOW - timedelta(days=1))
    dry_run = world.dry_run(keep_last=1)

    world.apply(dry_run)
    assert (gone in world.cos.objects, given_up in world.cos.objects) == (False, True)
    world.now += timedelta(days=1, minutes=1)
    world.apply(dry_run)
    assert given_up not in world.cos.objects
