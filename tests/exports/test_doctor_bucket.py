"""The doctor: half exports, manifests held against listings, strange keys, uploads, claims and slots."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sealift.cos.errors import CosNotFoundError, CosPermissionError
from sealift.exports import names
from sealift.exports.doctor import Kind
from sealift.exports.doctor_models import KEYS_SHOWN
from sealift.exports.drills.keys import Outcome, Rehearsed, rehearsal_key
from tests.exports.doctor_world import (
    NOW,
    OLD,
    PREFIX,
    RECORD,
    SLOTS,
    YOUNG,
    World,
    export_of,
    images_of,
    kinds,
    one,
)


@pytest.fixture
def world() -> World:
    return World()


# Objects


def test_a_half_export_lists_what_is_there_and_what_is_missing(world: World) -> None:
    world.disks(1, 1)
    world.record(1)
    world.classic.add(500, export_of(1), at=NOW - timedelta(minutes=1))
    world.plan("p", [1])
    world.wave_report("p", 0, world.outcome(1, "failed"))
    world.report("p", world.outcome(1, "failed"))
    finding = one(world.examine())
    assert (finding.kind, finding.guest_id, finding.hostname) == (Kind.HALF_EXPORT, 1, "web1")
    assert finding.keys == [f"{images_of(1)}/disk-1.vhd", f"{images_of(1)}/server.json"]
    assert finding.missing == [f"{images_of(1)}/disk-0.vhd"]
    assert "1 of 2 disks and the configuration record" in finding.what
    assert (finding.template_ids, finding.bytes) == ([500], 1001 + len(RECORD))
    assert "without another capture" in finding.do


def test_half_exports_without_a_plan_or_a_template(world: World) -> None:
    world.disks(1, 0)
    world.record(2)
    first, second = world.examine().findings
    assert "1 disk of" in first.what
    assert first.missing == []
    assert "template is gone" in first.do
    assert "0 disks and the configuration record" in second.what


def test_objects_whose_manifest_was_deleted(world: World) -> None:
    world.done(1)
    del world.cos.objects[world.manifest_key(1)]
    world.plan("p", [1])
    world.wave_report("p", 0, world.outcome(1))
    world.report("p", world.outcome(1))
    finding = one(world.examine())
    assert finding.kind is Kind.HALF_EXPORT
    assert "its manifest has been deleted since" in finding.what
    assert finding.missing == []


@pytest.mark.parametrize("spared", ["young", "busy template", "plan at work", "young slot", "young claim"])
def test_objects_of_an_export_at_work_are_no_half_export(world: World, spared: str) -> None:
    world.disks(1, 0, at=YOUNG if spared == "young" else OLD)
    if spared == "busy template":
        world.classic.add(500, export_of(1), busy=True)
    if spared == "plan at work":
        world.plan("p", [1], at=YOUNG)
    if spared == "young slot":
        world.slot(0, 1, at=NOW - timedelta(minutes=29))
    if spared == "young claim":
        world.claim(1, at=YOUNG)
    assert world.examine().findings == []


def test_a_young_slot_says_nothing_once_the_template_shows(world: World) -> None:
    world.slot(0, 1, at=NOW - timedelta(minutes=29))
    world.classic.add(500, export_of(1))
    assert kinds(world.examine()) == [("orphan-template", export_of(1))]


def test_a_manifest_without_objects(world: World) -> None:
    world.manifest(1)
    finding = one(world.examine())
    assert finding.kind is Kind.MANIFEST_WITHOUT_OBJECTS
    assert len(finding.missing) == 3
    assert finding.bytes == 2001 + len(RECORD)
    assert (finding.hostname, finding.template_ids) == ("web1", [500])


@pytest.mark.parametrize("reported", [True, False])
@pytest.mark.parametrize("lost", ["disk-0.vhd", "disk-1.vhd", "server.json"])
def test_an_object_of_a_finished_export_that_is_gone(world: World, lost: str, reported: bool) -> None:
    world.done(1)
    if reported:
        world.plan("p", [1])
        world.report("p", world.outcome(1))
        world.wave_report("p", 0, world.outcome(1))
    del world.cos.objects[f"{images_of(1)}/{lost}"]
    finding = one(world.examine())
    assert finding.kind is Kind.MANIFEST_WITHOUT_OBJECTS
    assert finding.missing == [f"{images_of(1)}/{lost}"]
    assert "of which 1 is not there" in finding.what


@pytest.mark.parametrize("change", ["size", "etag", "record's size", "record's bytes"])
def test_an_object_that_is_not_what_was_proven(world: World, change: str) -> None:
    world.done(1)
    world.plan("p", [1])
    world.wave_report("p", 0, world.outcome(1))
    world.report("p", world.outcome(1))
    key = f"{images_of(1)}/{'server.json' if 'record' in change else 'disk-1.vhd'}"
    body: dict[str, Any] = {
        "size": 1,
        "etag": 1001,
        "record's size": b"{}",
        "record's bytes": RECORD.replace(b"a", b"b"),
    }
    world.cos.put(key, body[change], at=YOUNG, etag="other" if change == "etag" else None)
    finding = one(world.examine())
    assert (finding.kind, finding.keys) == (Kind.OBJECTS_CHANGED, [key])
    assert finding.since == YOUNG


def test_an_object_that_was_written_again_with_the_same_bytes_is_no_finding(world: World) -> None:
    world.done(1)
    world.disks(1, 0, at=YOUNG)
    world.record(1, at=YOUNG)
    assert world.examine().findings == []


def test_only_a_thorough_look_sees_a_replacement_that_the_store_dates_before_the_manifest(world: World) -> None:
    world.done(1)
    world.plan("p", [1])
    world.wave_report("p", 0, world.outcome(1))
    world.report("p", world.outcome(1))
    world.cos.put(f"{images_of(1)}/disk-1.vhd", 1001, at=OLD - timedelta(hours=1), etag="other")
    assert world.examine().findings == []
    found = world.examine(thorough=True)
    assert kinds(found) == [("objects-changed", export_of(1))]
    assert (found.thorough, found.looked.manifests_read) == (True, 1)


def test_many_manifests_are_read_several_at_a_time_and_each_is_judged(world: World) -> None:
    for guest in range(1, 151):
        world.done(guest, disks=1)
        if guest % 50 == 0:
            del world.cos.objects[f"{images_of(guest)}/disk-0.vhd"]
    found = world.examine(thorough=True)
    assert [finding.guest_id for finding in found.findings] == [50, 100, 150]
    assert sorted(world.cos.reads) == sorted(world.manifest_key(guest) for guest in range(1, 151))


@pytest.mark.parametrize("stray_is", ["before", "after"])
@pytest.mark.parametrize("alike", [True, False])
def test_two_folders_of_one_export(world: World, stray_is: str, alike: bool) -> None:
    """A run for the same slot planned the server again after it was renamed: the manifest names one of the folders."""
    world.done(1, host="mail")
    host = "alpha" if stray_is == "before" else "zulu"
    world.disks(1, *range(2 if alike else 1), host=host)
    world.record(1, host=host)
    world.plan("p", [1])
    world.wave_report("p", 0, world.outcome(1))
    world.report("p", world.outcome(1))
    finding = one(world.examine())
    assert finding.kind is Kind.STRANGE_OBJECTS
    assert all(key.startswith(f"{PREFIX}/images/{host}-1/") for key in finding.keys)
    assert finding.objects == (3 if alike else 2)


def test_a_disk_that_the_manifest_does_not_name(world: World) -> None:
    world.done(1)
    world.disks(1, 2)
    finding = one(world.examine())
    assert (finding.kind, finding.keys) == (Kind.STRANGE_OBJECTS, [f"{images_of(1)}/disk-2.vhd"])


@pytest.mark.parametrize("body", [b"{", b"[]", b"another export's"])
def test_a_manifest_that_cannot_be_read(world: World, body: bytes) -> None:
    world.done(1)
    world.done(2)
    if body.startswith(b"another"):
        body = world.cos.objects[world.manifest_key(2)][0]  # type: ignore[assignment]
    world.cos.put(world.manifest_key(1), body)
    finding = one(world.examine())
    assert (finding.kind, finding.export_id, finding.keys) == (Kind.UNREADABLE, export_of(1), [world.manifest_key(1)])


STRANGE = [
    "images/web1-1/notes.txt",
    "images/web1-1/2-20261110T0200Z/disk-0.vhd",
    "images/web1-1/1-20261110T0200Z/disk-00.vhd",
    "images/web1-1/1-20261110T0200Z/disk-0.qcow2",
    "images/web1-1/",
    "manifests/1/a b.json",
    "manifests/01/20261110T0200Z.json",
    "manifests/1/20261110T0200Z.yaml",
    "manifests/0/20261110T0200Z.json",
    "manifests/deep/1/20261110T0200Z.json",
    "plans/p/wave-1.json",
    "plans/p/notes",
    "claims/1/20261110T0200Z/1.json",
    "captured/p/notes.txt",
    "captured/1-20261110T0200Z.json",
    "reports/summary.csv",
]


@pytest.mark.parametrize("rest", STRANGE)
@pytest.mark.parametrize("prefix", [PREFIX, ""])
def test_a_key_that_nothing_of_ours_would_write(world: World, rest: str, prefix: str) -> None:
    key = f"{prefix}/{rest}" if prefix else rest
    world.cos.put(key, 5, at=YOUNG)
    finding = one(world.examine(prefix=prefix))
    assert (finding.kind, finding.keys, finding.objects, finding.bytes) == (Kind.STRANGE_OBJECTS, [key], 1, 5)


def test_what_lies_beside_our_rooms_is_not_ours(world: World) -> None:
    for key in (f"{PREFIX}/README.txt", f"{PREFIX}2/images/x", "images/x", f"{PREFIX}/other/x"):
        world.cos.put(key, 5)
    world.cos.json(names.examination_key(prefix=PREFIX, run_id="manual__2026-11-23T02:00:00+00:00"), {})
    rehearsed = Rehearsed(guest_id=1, period="p", ended_at=NOW, outcome=Outcome.FAILED, drill_id="d")
    world.cos.json(rehearsal_key(prefix=PREFIX, one=rehearsed), {})
    world.cos.json(names.captured_key(prefix=PREFIX, plan_id="p", export="1-20261110T0200Z"), {"template_id": 9})
    assert world.examine().findings == []


def test_many_strange_objects_make_one_finding_for_a_folder(world: World) -> None:
    for number in range(30):
        world.cos.put(f"{PREFIX}/images/old/disk{number:02d}.img", 10)
    finding = one(world.examine())
    assert (finding.objects, finding.bytes, len(finding.keys)) == (30, 300, KEYS_SHOWN)


def test_what_a_conversion_that_broke_off_left_is_told_of_once_it_cannot_run_any_more(world: World) -> None:
    folder = f"{PREFIX}/images/web-101/101-20261110T0200Z/converted/raw"
    world.cos.put(f"{folder}/.disk-0.raw.parts/0a1b2c3d-08001", 10, at=NOW - timedelta(hours=23))
    assert world.examine().findings == []
    world.cos.put(f"{folder}/.disk-1.raw.parts/0a1b2c3d-08001", 10, at=NOW - timedelta(hours=25))
    finding = one(world.examine())
    assert finding.keys == [f"{folder}/.disk-1.raw.parts/0a1b2c3d-08001"]
    assert "A conversion that broke off has left" in finding.what
    assert "Convert again, which deletes it" in finding.do


def test_a_key_that_would_play_with_a_terminal(world: World) -> None:
    key = f"{PREFIX}/images/\x1b[2Jgone"
    world.cos.put(key, 1)
    world.upload(key)
    strange, upload = sorted(world.examine().findings, key=lambda one: one.kind.value)
    assert strange.keys == upload.keys == [key]
    assert "\x1b" not in strange.what + upload.what


def test_very_many_folders_of_strange_objects_are_counted(world: World) -> None:
    for number in range(1010):
        world.cos.put(f"{PREFIX}/images/f{number:04d}/x", 1)
    findings = world.examine().findings
    assert len(findings) == 1001
    assert sum(finding.objects for finding in findings) == 1010


# Uploads, claims, slots


def test_an_unfinished_upload(world: World) -> None:
    key = f"{images_of(1)}/disk-0.vhd"
    world.upload(key)
    finding = one(world.examine())
    assert (finding.kind, finding.keys, finding.upload_id) == (Kind.UNFINISHED_UPLOAD, [key], "u1")
    assert (finding.export_id, finding.hostname, finding.bytes) == (export_of(1), "web1", 300)
    assert "3 parts, which are billed" in finding.what
    assert finding.age_seconds == 20 * 86400


@pytest.mark.parametrize(
    ("parts", "words", "size"),
    [
        ((0, 0), "It is empty", 0),
        ((1, 9), "1 part, which", 9),
        (CosPermissionError("may not"), "does not tell", None),
        (CosNotFoundError("gone"), None, None),
    ],
)
def test_an_upload_s_size_where_the_store_tells_it(world: World, parts: Any, words: str | None, size: Any) -> None:
    world.upload(f"{PREFIX}/.sealift-preflight-0", parts=parts)
    found = world.examine()
    assert [finding.bytes for finding in found.findings] == ([] if words is None else [size])
    assert words is None or words in found.findings[0].what


@pytest.mark.parametrize("spared", ["young", "no time", "busy template", "plan at work", "not ours"])
def test_an_upload_that_somebody_goes_on_with(world: World, spared: str) -> None:
    at = {"young": YOUNG, "no time": None}.get(spared, OLD)
    world.upload("weekly/images/x" if spared == "not ours" else f"{images_of(1)}/disk-0.vhd", at=at)
    if spared == "busy template":
        world.classic.add(500, export_of(1), busy=True)
    if spared == "plan at work":
        world.plan("p", [1], at=YOUNG)
    found = world.examine()
    assert found.findings == []
    assert found.looked.uploads == (0 if spared == "not ours" else 1)


def test_without_a_prefix_only_uploads_in_our_rooms_are_ours(world: World) -> None:
    world.upload("images/a/x", id_="a")
    world.upload("backups/x", id_="b")
    world.upload(".sealift-preflight-1", id_="c")
    assert [finding.upload_id for finding in world.examine(prefix="").findings] == ["c", "a"]


def test_a_claim_that_is_left_over(world: World) -> None:
    lone, done = world.claim(1), world.claim(2)
    world.done(2)
    first, second = world.examine().findings
    assert [(one.kind, one.keys) for one in (first, second)] == [
        (Kind.STALE_CLAIM, [lone]),
        (Kind.STALE_CLAIM, [done]),
    ]
    assert "is done" in second.what


def test_a_claim_of_what_is_reported_or_at_work_is_not_told_besides(world: World) -> None:
    for guest in (1, 2, 3):
        world.claim(guest)
    world.disks(1, 0)
    world.classic.add(500, export_of(2), busy=True)
    world.plan("p", [3], at=YOUNG)
    assert kinds(world.examine()) == [("half-export", export_of(1))]


def test_slots(world: World) -> None:
    stale = world.slot(0, 1)
    world.slot(1, 2, state="free")
    world.slot(2, 3)
    world.done(3)
    world.slot(3, 4)
    world.classic.busy.add(4)
    world.slot(4, 5)
    world.plan("p", [5], at=YOUNG)
    world.slot(5, 6, at=NOW - timedelta(minutes=29))
    finding = one(world.examine())
    assert (finding.kind, finding.guest_id, finding.keys) == (Kind.STALE_SLOT, 1, [stale])
    assert "Nothing: the next capture takes the slot" in finding.do
    assert world.examine(slots=None).findings == []


def test_a_slot_that_cannot_be_read_and_a_stranger_among_the_slots(world: World) -> None:
    world.cos.put(f"{SLOTS.root}/000/00000001.json", b"{}")
    world.cos.put(f"{SLOTS.root}/readme", 1)
    strange, broken = sorted(world.examine().findings, key=lambda one: one.kind.value)
    assert strange.kind is Kind.STRANGE_OBJECTS
    assert (broken.kind, broken.keys) == (Kind.UNREADABLE, [f"{SLOTS.root}/000/00000001.json"])
    assert "No capture can start" in broken.what
