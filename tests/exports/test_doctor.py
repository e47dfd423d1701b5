"""The doctor: templates and plans. Each kind of mess is found and named, and what is at work is left alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from sealift.exports import names
from sealift.exports.doctor import Kind, Rules
from sealift.exports.doctor_models import line_of
from sealift.exports.errors import SettingsError
from sealift.exports.plan import Plan, write_plan
from sealift.exports.report import TaskFailure, make_run_report, make_wave_report, write_run_report, write_wave_report
from tests.exports.doctor_world import (
    BUCKET,
    NOW,
    OLD,
    PREFIX,
    YOUNG,
    World,
    export_of,
    kinds,
    note_of,
    one,
)


@pytest.fixture
def world() -> World:
    return World()


# Nothing to say


def test_an_empty_place_has_no_findings(world: World) -> None:
    found = world.examine()
    assert found.findings == found.at_work == found.elsewhere == []
    assert found.summary == "no findings"
    assert world.examine(prefix="").findings == []


def test_finished_exports_are_no_findings_and_are_not_read_where_a_report_tells(world: World) -> None:
    world.done(1)
    world.done(2, disks=1)
    world.classic.add(500, export_of(1), note=note_of(1))
    world.plan("p", [1, 2])
    world.wave_report("p", 0, world.outcome(1), world.outcome(2, disks=1))
    world.report("p", world.outcome(1), world.outcome(2, disks=1))
    found = world.examine()
    assert found.findings == []
    assert found.looked.manifests_read == 0
    assert world.cos.reads == [names.report_key(prefix=PREFIX, plan_id="p")]
    assert (found.looked.manifests, found.looked.plans, found.looked.templates) == (2, 1, 1)


def test_a_finished_export_without_a_report_is_settled_by_its_manifest(world: World) -> None:
    world.done(1)
    found = world.examine()
    assert found.findings == []
    assert world.cos.reads == [world.manifest_key(1)]


def test_the_time_needs_a_zone_and_the_prefix_must_be_one() -> None:
    with pytest.raises(SettingsError, match="time zone"):
        World().examine(now=NOW.replace(tzinfo=None))
    with pytest.raises(SettingsError, match="prefix"):
        World().examine(prefix="a b")


# Templates


def test_an_orphan_template_is_named_with_age_size_and_what_became_of_its_run(world: World) -> None:
    world.classic.add(500, export_of(1), note=note_of(1), sizes=(3e9, 2e9))
    world.plan("p", [1])
    world.wave_report("p", 0, world.outcome(1, "failed"))
    world.report("p", world.outcome(1, "failed"))
    finding = one(world.examine())
    assert finding.kind is Kind.ORPHAN_TEMPLATE
    assert (finding.export_id, finding.guest_id, finding.hostname) == (export_of(1), 1, "web1")
    assert (finding.template_ids, finding.bytes, finding.since) == ([500], 5_000_000_000, OLD)
    assert finding.age_seconds == 20 * 86400
    assert "plan p reported it as failed at wait_for_export" in finding.what
    assert "Clear the server's failed task" in finding.do
    assert line_of(finding).startswith("orphan-template: web1 (virtual server 1): Image template 500")


@pytest.mark.parametrize(
    "spared",
    ["busy template", "busy server", "young", "plan at work", "young claim", "elsewhere", "manifest"],
)
def test_a_template_that_belongs_to_something_is_no_orphan(world: World, spared: str) -> None:
    world.classic.add(
        500,
        export_of(1),
        busy=spared == "busy template",
        at=YOUNG if spared == "young" else OLD,
        note=note_of(1, prefix="weekly") if spared == "elsewhere" else note_of(1),
    )
    if spared == "busy server":
        world.classic.busy.add(1)
    if spared == "plan at work":
        world.plan("p", [1], at=NOW - timedelta(days=13))
    if spared == "young claim":
        world.claim(1, at=YOUNG)
    if spared == "manifest":
        world.done(1)
    found = world.examine()
    assert found.findings == []
    assert [(place.place, place.templates) for place in found.elsewhere] == (
        [(f"{BUCKET}/weekly", 1)] if spared == "elsewhere" else []
    )
    if spared == "plan at work":
        assert [(plan.plan_id, plan.exports) for plan in found.at_work] == [("p", 1)]
        assert found.at_work[0].last_sign == NOW - timedelta(days=13)


def test_a_note_that_somebody_changed_hides_nothing(world: World) -> None:
    world.classic.add(500, export_of(1), note="my note")
    assert kinds(world.examine()) == [("orphan-template", export_of(1))]


@pytest.mark.parametrize(("sizes", "words"), [((), "no copy in any data center"), ((5e9, None), "has no size")])
def test_a_broken_template(world: World, sizes: Any, words: str) -> None:
    world.classic.add(500, export_of(1), sizes=sizes)
    finding = one(world.examine())
    assert finding.kind is Kind.BROKEN_TEMPLATE
    assert words in finding.what


def test_duplicates_are_reported_in_every_state_and_the_manifest_s_one_is_named(world: World) -> None:
    for guest in (1, 2, 3):
        world.classic.add(500 + guest, export_of(guest), busy=guest == 2, at=YOUNG if guest == 2 else OLD)
        world.classic.add(600 + guest, export_of(guest))
    world.done(1, template=601)
    world.plan("p", [2], at=YOUNG)
    first, second, third = world.examine().findings
    assert {one.kind for one in (first, second, third)} == {Kind.DUPLICATE_TEMPLATES}
    assert "The manifest names 601" in first.what
    assert "delete 501 " in first.do
    assert second.template_ids == [502, 602]
    assert "the server's task fails while there are two" in third.do


def test_duplicates_whose_manifest_does_not_help(world: World) -> None:
    for id_ in (501, 502, 503, 504):
        world.classic.add(id_, export_of(1 if id_ < 503 else 2))
    world.done(1, template=999)
    world.done(2)
    world.cos.put(world.manifest_key(2), b"{")
    found = [one for one in world.examine().findings if one.kind is Kind.DUPLICATE_TEMPLATES]
    assert "names none of them" in found[0].what
    assert "cannot be read" in found[1].what


def test_duplicates_of_another_place_only_are_that_place_s(world: World) -> None:
    for id_ in (501, 502):
        world.classic.add(id_, export_of(1), note=note_of(1, prefix="weekly"))
    assert world.examine().findings == []
    world.classic.add(503, export_of(1), note=note_of(1))
    assert one(world.examine()).template_ids == [501, 502, 503]


def test_a_template_with_a_name_that_is_none_of_ours(world: World) -> None:
    world.classic.add(500, "", name="sealift-golden-image", at=YOUNG)
    finding = one(world.examine())
    assert (finding.kind, finding.template_ids) == (Kind.STRANGE_TEMPLATE, [500])
    assert "'sealift-golden-image'" in finding.what


# Plans


def test_only_waves_without_report_are_at_work(world: World) -> None:
    world.plan("p", [1], [2], at=YOUNG)
    world.wave_report("p", 0, world.outcome(1, "failed"), at=YOUNG)
    world.classic.add(500, export_of(1))
    world.classic.add(501, export_of(2))
    found = world.examine()
    assert kinds(found) == [("orphan-template", export_of(1))]
    assert [plan.exports for plan in found.at_work] == [1]


@pytest.mark.parametrize("case", ["dry run", "stale", "over", "limit"])
def test_a_plan_that_is_not_at_work(world: World, case: str) -> None:
    sign = NOW - timedelta(days=14) if case == "stale" else NOW - timedelta(days=2)
    world.plan("p", [1], at=sign, dry_run=case == "dry run")
    made = YOUNG if case == "over" else OLD
    world.classic.add(500, export_of(1), at=made)
    rules = {
        "over": Rules(over=["p"]),
        "limit": Rules(plan_at_work=timedelta(days=2)),
    }.get(case)
    found = world.examine(rules=rules)
    assert kinds(found) == [("orphan-template", export_of(1))]
    assert found.at_work == []


def test_a_late_wave_report_keeps_a_long_plan_at_work(world: World) -> None:
    world.plan("p", [1], [2], at=OLD)
    world.wave_report("p", 0, world.outcome(1), at=YOUNG)
    world.done(1)
    world.classic.add(501, export_of(2))
    assert world.examine().findings == []


def test_a_plan_that_cannot_be_read_is_told_once_and_its_waves_still_tell_what_is_at_work(world: World) -> None:
    world.plan("p", [1], at=YOUNG)
    key = names.plan_key(prefix=PREFIX, plan_id="p")
    world.cos.put(key, b'{"schema_version": 99}', at=YOUNG)
    world.classic.add(500, export_of(1))
    world.disks(2, 0)
    found = world.examine()
    assert kinds(found) == [("half-export", export_of(2)), ("unreadable", None)]
    assert found.findings[1].keys == [key]
    assert "written by a newer Sealift" in found.findings[1].what
    assert found.findings[1].do == "Upgrade Sealift here."
    assert [plan.exports for plan in found.at_work] == [1]


def test_waves_without_their_plan(world: World) -> None:
    world.plan("p", [1], at=YOUNG)
    del world.cos.objects[names.plan_key(prefix=PREFIX, plan_id="p")]
    world.classic.add(500, export_of(1))
    finding = one(world.examine())
    assert (finding.kind, finding.missing) == (Kind.UNREADABLE, [names.plan_key(prefix=PREFIX, plan_id="p")])


def test_a_report_that_cannot_be_read(world: World) -> None:
    world.done(1)
    world.plan("p", [1])
    world.wave_report("p", 0, world.outcome(1))
    world.cos.put(names.report_key(prefix=PREFIX, plan_id="p"), b"[]")
    finding = one(world.examine())
    assert (finding.kind, finding.keys) == (Kind.UNREADABLE, [names.report_key(prefix=PREFIX, plan_id="p")])
    assert "writes it anew" in finding.do


def test_what_make_plan_and_the_reports_write_can_be_read(
    world: World,
    plan_of: Callable[..., Plan],
    make_classic: Any,
    make_guest: Callable[..., Any],
    cos: Any,
    now: datetime,
) -> None:
    plan = plan_of(make_classic(guests=[make_guest(1, data_disks=1), make_guest(2)]), prefix=PREFIX, wave_size=1)
    write_plan(cos, plan)
    failures = {1: TaskFailure(task="wait_for_template", words="no"), 2: TaskFailure(task="capture", words="no")}
    waves = {n: make_wave_report(cos=cos, wave=plan.slice(n), failures=failures, run_id="w", now=now) for n in range(2)}
    write_wave_report(cos, waves[0], bucket=BUCKET, prefix=PREFIX)
    world.cos.objects = dict(cos.objects)
    first, second = plan.items
    world.classic.add(500, first.export_id)
    world.classic.add(501, second.export_id)
    world.cos.put(first.disk_keys[1], 7)
    found = world.examine(rules=Rules(settled=timedelta(0)), now=now + timedelta(days=1))
    assert [(plan.plan_id, plan.exports) for plan in found.at_work] == [("plan-1", 1)]
    assert kinds(found) == [("orphan-template", first.export_id), ("half-export", first.export_id)]
    assert "reported it as failed at wait_for_template" in found.findings[0].what
    assert found.findings[1].missing == [first.disk_keys[0]]
    assert "1 of 2 disks" in found.findings[1].what

    write_run_report(cos, make_run_report(cos=cos, plan=plan, waves=waves, now=now), prefix=PREFIX)
    world.cos.objects |= cos.objects
    assert world.examine(now=now + timedelta(days=1)).findings[0].what == found.findings[0].what


# What the account taught


def test_learned_caps_are_told_and_are_no_findings(world: World) -> None:
    def taught(root: str, kind: str, datacenter: str, cap: int, at: datetime) -> None:
        name = f"{kind}-in-{datacenter}" if datacenter else f"{kind}-account"
        said = {
            "kind": kind,
            "datacenter": datacenter,
            "cap": cap,
            "learned_at": at.isoformat(),
            "words": "Only so many.",
        }
        world.cos.json(f"{root}/caps/{name}.json", said)

    taught("offline-slots/307608", "capture", "dal13", 3, NOW - timedelta(minutes=80))
    taught(f"{PREFIX}/claims", "export", "", 1, NOW)
    taught(f"{PREFIX}/claims", "export", "fra02", 2, NOW - timedelta(days=2))
    found = world.examine()
    assert found.findings == []
    assert [(one.kind, one.datacenter, one.cap) for one in found.learned_caps] == [
        ("capture", "dal13", 5),
        ("export", None, 1),
    ]
    assert [one.sentence.partition(", since")[0] for one in found.learned_caps] == [
        "Learned: at most 5 captures at once in the data center dal13",
        "Learned: at most 1 export at once in the account",
    ]
    world.cos.json(f"{PREFIX}/claims/caps/export-account.json", {"cap": 0})
    assert len(world.examine().learned_caps) == 1
