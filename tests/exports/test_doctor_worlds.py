"""The doctor: what one run left behind, random worlds against a naive reference, and a year of exports by listings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.exports import names
from sealift.exports.doctor import Finding, examine_run
from sealift.exports.jsontext import canonical_json
from sealift.exports.plan import Plan
from sealift.exports.report import TaskFailure, make_run_report, make_wave_report
from tests.exports.doctor_world import (
    NOW,
    OLD,
    PREFIX,
    YOUNG,
    World,
    export_of,
    images_of,
    note_of,
)


@pytest.fixture
def world() -> World:
    return World()


# One run


def test_what_a_run_left_behind(
    world: World,
    plan_of: Callable[..., Plan],
    make_classic: Any,
    make_guest: Callable[..., Any],
    cos: Any,
    now: datetime,
) -> None:
    guests = [make_guest(one, data_disks=1) for one in range(1, 7)]
    plan = plan_of(make_classic(guests=guests), prefix=PREFIX)
    items = {item.guest_id: item for item in plan.items}
    failures = {
        1: TaskFailure(task="wait_for_template", words="no"),
        2: TaskFailure(task="wait_for_template", words="no"),
        3: TaskFailure(task="wait_for_export", words="no"),
        4: TaskFailure(task="capture", words="no"),
        5: TaskFailure(task="wait_for_export", words="no"),
        6: TaskFailure(task="capture", words="busy", rule="active-transaction"),
    }
    waves = {0: make_wave_report(cos=cos, wave=plan.slice(0), failures=failures, run_id="w", now=now)}
    report = make_run_report(cos=cos, plan=plan, waves=waves, now=now)
    world.classic.add(501, items[1].export_id, at=now)
    world.classic.add(502, items[2].export_id, at=now, sizes=())
    world.classic.add(503, items[3].export_id, at=now, busy=True)
    world.classic.add(504, items[4].export_id, at=now)
    world.classic.add(505, items[4].export_id, at=now)
    world.classic.add(506, export_of(99), at=OLD)
    world.classic.add(507, "", name="sealift-x")
    world.cos.put(items[5].disk_keys[0], 7, at=now)
    world.cos.put(items[3].disk_keys[0], 7, at=now)
    world.upload(items[5].disk_keys[1], at=now)
    world.upload(items[3].disk_keys[1], at=now, id_="u3")
    world.upload(f"{images_of(99)}/disk-0.vhd", id_="u99")

    findings = examine_run(classic=world.classic, cos=world.cos, plan=plan, report=report, now=now)

    assert [(one.kind.value, one.guest_id) for one in findings] == [
        ("orphan-template", 1),
        ("broken-template", 2),
        ("duplicate-templates", 4),
        ("half-export", 5),
        ("unfinished-upload", 5),
    ]
    assert findings[3].missing == [items[5].disk_keys[1]]
    assert world.cos.pages == 4, "one list for each server that failed after its capture"
    assert world.cos.reads == []


def test_a_run_without_failures_costs_the_templates_only(
    world: World,
    plan_of: Callable[..., Plan],
    make_classic: Any,
    make_guest: Callable[..., Any],
    cos: Any,
    now: datetime,
) -> None:
    plan = plan_of(make_classic(guests=[make_guest(1)]), prefix=PREFIX)
    world.done(1, period=plan.period)
    cos.objects |= world.cos.objects
    cos.objects = {key: value for key, value in cos.objects.items() if isinstance(value[0], bytes)}
    waves = {0: make_wave_report(cos=cos, wave=plan.slice(0), failures={}, run_id="w", now=now)}
    report = make_run_report(cos=cos, plan=plan, waves=waves, now=now)
    assert report.summary.startswith("1 exported")
    world.classic.add(500, plan.items[0].export_id, at=now)
    assert examine_run(classic=world.classic, cos=world.cos, plan=plan, report=report, now=now) == []
    assert (world.cos.pages, world.cos.reads, world.classic.asked) == (0, [], [])


# Whole worlds

GUESTS = range(1, 5)
PERIODS = ("20261110T0200Z", "manual-20261111T101500Z-0123abcd")
MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

states = st.fixed_dictionaries(
    {
        "template": st.sampled_from(["none", "none", "whole", "empty", "unsized", "busy", "two"]),
        "template_at": st.sampled_from([OLD, OLD, YOUNG]),
        "note": st.sampled_from(["here", "here", "weekly", "changed"]),
        "disks": st.sampled_from([(), (), (0,), (1,), (0, 1)]),
        "disks_at": st.sampled_from([OLD, OLD, YOUNG]),
        "record": st.booleans(),
        "manifest": st.sampled_from(["none", "right", "right", "torn"]),
        "replaced": st.booleans(),
        "plan": st.sampled_from(["none", "at work", "stale", "reported", "dry run"]),
        "claim": st.sampled_from([None, None, OLD, YOUNG]),
        "slot": st.sampled_from([None, None, OLD, YOUNG]),
        "upload": st.sampled_from([None, None, OLD, YOUNG]),
        "server_busy": st.booleans(),
    }
)
worlds = st.dictionaries(st.tuples(st.sampled_from(GUESTS), st.sampled_from(PERIODS)), states, max_size=6)


def build(drawn: dict[tuple[int, str], dict[str, Any]]) -> World:
    world = World()
    for number, ((guest, period), state) in enumerate(sorted(drawn.items())):
        export, at = export_of(guest, period), state["template_at"]
        note = {
            "here": note_of(guest, period=period),
            "weekly": note_of(guest, period=period, prefix="weekly"),
            "changed": "x",
        }[state["note"]]
        sizes: Any = {"empty": (), "unsized": (None, 5e9)}.get(state["template"], (5e9,))
        for copy in range({"none": 0, "two": 2}.get(state["template"], 1)):
            world.classic.add(
                100 * (number + 1) + copy, export, at=at, busy=state["template"] == "busy", sizes=sizes, note=note
            )
        world.disks(guest, *state["disks"], at=state["disks_at"], period=period)
        if state["record"]:
            world.record(guest, at=state["disks_at"], period=period)
        if state["manifest"] != "none":
            world.manifest(guest, period=period)
        if state["manifest"] == "torn":
            world.cos.put(world.manifest_key(guest, period), b"{")
        if state["replaced"] and 1 in state["disks"]:
            world.cos.put(f"{images_of(guest, period=period)}/disk-1.vhd", 1001, at=YOUNG, etag="other")
        plan_id = f"plan-{number}"
        if state["plan"] != "none":
            begun = NOW - timedelta(days=15 if state["plan"] == "stale" else 1)
            world.plan(plan_id, [guest], at=begun, dry_run=state["plan"] == "dry run", period=period)
        if state["plan"] == "reported":
            kind = "exported" if state["manifest"] == "right" else "failed"
            world.wave_report(plan_id, 0, world.outcome(guest, kind, period=period))
            world.report(plan_id, world.outcome(guest, kind, period=period))
        if state["claim"]:
            world.claim(guest, at=state["claim"], period=period)
        if state["slot"]:
            world.slot(number, guest, at=state["slot"], period=period)
        if state["upload"]:
            world.upload(f"{images_of(guest, period=period)}/disk-1.vhd", at=state["upload"], id_=f"u{number}")
        if state["server_busy"]:
            world.classic.busy.add(guest)
    return world


def expected(drawn: dict[tuple[int, str], dict[str, Any]]) -> Counter[tuple[str, str]]:
    """What the doctor is to find, from each export's state alone: slow, obvious, and none of the doctor's code."""
    busy_guests = {guest for (guest, _), state in drawn.items() if state["server_busy"]}
    found: Counter[tuple[str, str]] = Counter()
    for (guest, period), state in drawn.items():
        export = f"{guest}-{period}"

        def tell(kind: str, export: str = export) -> None:
            found[kind, export] += 1

        has_manifest = state["manifest"] != "none"
        has_template = state["template"] != "none"
        transaction = state["template"] == "busy"
        capturing = state["slot"] == YOUNG and not has_template
        at_work = state["plan"] == "at work" or state["claim"] == YOUNG or capturing
        here = state["note"] != "weekly"
        objects = bool(state["disks"]) or state["record"]
        replaced = state["replaced"] and 1 in state["disks"]
        last_object = YOUNG if replaced and state["disks_at"] == OLD else state["disks_at"]

        if state["template"] == "two" and here:
            tell("duplicate-templates")
        lone = has_template and state["template"] != "two" and not transaction and guest not in busy_guests
        if lone and here and not has_manifest and not at_work and state["template_at"] == OLD:
            tell("orphan-template" if state["template"] == "whole" else "broken-template")
        if objects and not has_manifest and not transaction and not at_work and last_object == OLD:
            tell("half-export")
        if state["manifest"] == "torn":
            tell("unreadable")
        if state["manifest"] == "right":
            if state["disks"] != (0, 1) or not state["record"]:
                tell("manifest-without-objects")
            if replaced:
                tell("objects-changed")
        if state["upload"] == OLD and not transaction and not at_work:
            tell("unfinished-upload")
        if state["slot"] == OLD and not has_manifest and not has_template and not at_work and guest not in busy_guests:
            tell("stale-slot")
    for (guest, period), state in drawn.items():
        export = f"{guest}-{period}"
        others = {kind for kind, named in found if named == export} - {"unfinished-upload", "stale-slot"}
        capturing = state["slot"] == YOUNG and state["template"] == "none"
        at_work = state["plan"] == "at work" or capturing
        over = not at_work and state["template"] != "busy"
        alone = not others and state["template"] == "none"
        if state["claim"] == OLD and over and (state["manifest"] != "none" or alone):
            found["stale-claim", export] += 1
    return found


@MANY
@given(drawn=worlds)
def test_the_findings_are_those_of_a_naive_reference(drawn: dict[tuple[int, str], dict[str, Any]]) -> None:
    world = build(drawn)
    found = world.examine()
    assert Counter((one.kind.value, one.export_id or "") for one in found.findings) == expected(drawn)
    again = build(drawn).examine(thorough=True)
    assert [one.what for one in again.findings] == [one.what for one in found.findings]
    for finding in found.findings:
        assert finding.what.endswith(".")
        assert finding.do.endswith(".")
        assert Finding.model_validate_json(canonical_json(finding)) == finding


# Scale


def test_a_year_of_exports_is_examined_by_listings(world: World) -> None:
    """400 servers, 52 slots: as many calls as there are pages and runs, and no manifest is read."""
    servers, slots = range(1, 401), [f"2026{week:04d}T0200Z" for week in range(52)]
    manifest = b"{}"
    for period in slots:
        outcomes = []
        for server in servers:
            world.disks(server, 0, 1, period=period)
            world.cos.put(names.record_key(images_of(server, period=period)), 200)
            world.cos.put(world.manifest_key(server, period), manifest)
            outcomes.append(world.outcome(server, period=period))
        world.plan(period, list(servers)[:100], period=period)
        world.wave_report(period, 0)
        world.report(period, *outcomes)
    exports = len(servers) * len(slots)

    found = world.examine()

    assert found.findings == []
    assert (found.looked.manifests, found.looked.manifests_read) == (exports, 0)
    objects, manifests, plans, rest = 3 * exports, exports, 4 * 52, 7
    assert world.cos.pages == sum(math.ceil(one / 1000) for one in (objects, manifests, plans)) + rest
    assert len(world.cos.reads) == 52, "one report for each run"
    assert world.classic.asked == []
