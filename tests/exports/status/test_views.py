"""One server, one export, a plan, its waves, figures over time and prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sealift.classic.models import GuestState, Template
from sealift.exports import names
from sealift.exports.errors import LedgerError, SettingsError
from sealift.exports.plan_models import Outcome
from sealift.exports.record import ConfigurationRecord
from sealift.exports.status.charts import charts
from sealift.exports.status.differences import differences
from sealift.exports.status.planned import Expectation, PlanFigures, plan_list, plan_view
from sealift.exports.status.prices import costs_of, read_prices
from sealift.exports.status.rows import State
from sealift.exports.status.server import Links, export_detail, server_view
from sealift.exports.status.waves import transactions_of, wave_list, wave_view

FIRST, SECOND = "20261116T0200Z", "20261123T0200Z"
LINKS = Links(
    object_url=lambda key: f"https://console/{key}",
    template_url=lambda one: f"https://console/t/{one}",
    options=("--bucket", "sealift-exports", "--prefix", "it's"),
)


def record(**detail: Any) -> ConfigurationRecord:
    return ConfigurationRecord(
        guest_id=101,
        detail={"hostname": "web1", **detail},
        block_devices=[],
        attached_network_storage=[],
        attributes=[],
    )


def finish(world: Any, plan: Any, guest_id: int, kept: ConfigurationRecord) -> Any:
    """A finished export with its configuration record."""
    item = next(one for one in plan.items if one.guest_id == guest_id)
    key = names.record_key(item.images)
    world.cos.store(key, kept.body)
    return world.finish(plan, guest_id, record={"key": key, "size": len(kept.body), "digest": kept.digest})


def detail(world: Any, period: str, previous: str | None = None) -> Any:
    return export_detail(
        world.cos, bucket="sealift-exports", prefix="nightly", number=101, period=period, previous=previous, links=LINKS
    )


def test_a_server_tells_of_every_slot_that_knows_it(world: Any) -> None:
    plan = world.plan(FIRST, ids=[101])
    world.report(plan, {101: "no"})
    world.later(hours=1)
    again = world.plan(FIRST, run_id="again", ids=[101])
    world.finish(again, 101)
    world.later(days=7)
    world.plan(SECOND, ids=[101])
    books = world.books()
    snapshot = books.refresh()
    books.fill_all([FIRST], at_most=9)
    view = server_view(snapshot, 101)
    assert view is not None
    assert (view.hostname, view.datacenter, view.tags, view.total) == ("web1", "dal13", ["prod"], 2)
    newest, oldest = view.exports
    assert (newest.state, newest.wave, newest.wave_run_id) == (State.RUNNING, 0, f"{newest.plan_id}.wave-0000")
    assert (oldest.state, oldest.level, oldest.capture_seconds, oldest.export_seconds) == ("exported", "L1", 600, 900)
    assert oldest.failed_at is not None
    assert oldest.plan_id == again.plan_id
    assert [one.period for one in server_view(snapshot, 101, offset=1, limit=1).exports] == [FIRST]  # type: ignore[union-attr]
    assert server_view(snapshot, 999) is None


def test_an_export_tells_what_changed_since_the_one_before(world: Any) -> None:
    finish(world, world.plan(FIRST, ids=[101]), 101, record(maxMemory=4096, maxCpu=2))
    world.later(days=7)
    manifest = finish(world, world.plan(SECOND, ids=[101]), 101, record(maxMemory=8192, domain="<script>"))
    world.prove(manifest, "L3")
    found = detail(world, SECOND, FIRST)
    assert {one.path: (one.before, one.after) for one in found.changes} == {
        "detail.maxMemory": ("4096", "8192"),
        "detail.maxCpu": ("2", None),
        "detail.domain": (None, "<script>"),
    }
    assert (found.level, found.previous_period, len(found.later_proofs)) == ("L3", FIRST, 1)
    assert found.manifest == manifest
    assert found.template_url == "https://console/t/1001"
    assert found.disk_objects[0].url == f"https://console/{manifest.disks[0].key}"
    assert found.download_command == (
        "sealift download 101-20261123T0200Z --bucket sealift-exports --prefix 'it'\"'\"'s'"
    )
    assert found.problems == []


def test_what_cannot_be_read_of_an_export_is_named(world: Any) -> None:
    plan = world.plan(FIRST, ids=[101])
    manifest = finish(world, plan, 101, record())
    world.cos.store(manifest.record.key, b"{}")
    world.cos.store(names.proof_key(prefix="nightly", guest_id=101, period=FIRST, number=1), b"[]")
    found = detail(world, FIRST)
    assert found.record is None
    assert found.later_proofs == []
    assert ["was changed" in found.problems[1], "not a proof" in found.problems[0]] == [True, True]
    assert detail(world, SECOND) is None
    world.cos.store(names.manifest_key(prefix="nightly", guest_id=101, period=FIRST), b"{}")
    with pytest.raises(LedgerError, match="not a manifest"):
        detail(world, FIRST)


def test_elements_of_lists_are_told_apart_by_their_ids() -> None:
    before = record(networkComponents=[{"id": 1, "speed": 100}, {"id": 2, "speed": 100}], modifyDate="a")
    after = record(networkComponents=[{"id": 2, "speed": 1000}], modifyDate="b")
    assert {one.path: (one.before, one.after) for one in differences(before, after)} == {
        "detail.networkComponents[1].id": ("1", None),
        "detail.networkComponents[1].speed": ("100", None),
        "detail.networkComponents[2].speed": ("100", "1000"),
    }
    assert differences(before, before) == []


def test_a_plan_says_what_it_does_and_what_it_costs(world: Any) -> None:
    earlier = world.plan(FIRST, ids=[101, 102])
    world.finish(earlier, 101)
    world.report(earlier, {102: "no"})
    books = world.books()
    books.refresh()
    books.fill_all([FIRST], at_most=9)
    world.later(days=7)
    plan = world.plan(SECOND)
    snapshot = books.refresh()
    view = plan_view(PlanFigures(plan, Expectation(snapshot)), snapshot, prices=read_prices())
    totals = view.totals
    assert (totals.servers, totals.export, totals.not_exportable, totals.offline) == (6, 4, 2, 4)
    assert totals.capacity_bytes == 5 * 10**9
    # web1's image had 0.4 of its disk, and nothing else is known of the others.
    assert totals.expected_bytes == 2 * 10**9
    assert totals.offline_seconds_total == pytest.approx(500)
    assert totals.duration_seconds == pytest.approx(200 + 200)
    assert [(one.rule, one.severity, one.servers) for one in view.rules if one.severity == "refuse"] == [
        ("bare-metal", "refuse", 1),
        ("no-disk", "refuse", 1),
    ]
    assert view.costs.bytes == 2 * 10**9
    assert [one.amount for one in view.costs.storage_per_month] == [0.05, 0.02]
    assert [one.amount for one in view.costs.egress] == [0.0, 0.18, 0.16]
    refused = plan_view(
        PlanFigures(plan, Expectation(snapshot)), snapshot, prices=read_prices(), outcome=Outcome.NOT_EXPORTABLE
    )
    assert [one.hostname for one in refused.servers] == ["bare", "metal555"]
    assert refused.totals == totals
    only = plan_view(
        PlanFigures(plan, Expectation(snapshot)), snapshot, prices=read_prices(), rule="no-disk", name="BAR"
    )
    assert (only.total, only.servers[0].id) == (1, 105)


def test_nothing_is_expected_of_an_image_as_long_as_none_was_read(world: Any) -> None:
    plan = world.plan(FIRST, ids=[103])
    snapshot = world.books().refresh()
    view = plan_view(PlanFigures(plan, Expectation(snapshot)), snapshot, prices=read_prices())
    assert view.totals.expected_bytes == view.totals.capacity_bytes == 2 * 10**9
    assert "as large as the disks" in view.totals.basis[1]


def test_plans_are_listed_newest_first(world: Any) -> None:
    first = world.plan(FIRST)
    world.report(first)
    world.later(days=7)
    second = world.plan(SECOND)
    found = plan_list(world.books().refresh().plans, offset=0, limit=9)
    assert [(one.plan_id, one.reported, one.at_work) for one in found.plans] == [
        (second.plan_id, False, True),
        (first.plan_id, True, False),
    ]
    assert plan_list(world.books().refresh().plans, offset=1, limit=9).plans[0].plan_id == first.plan_id


def test_dry_runs_are_told_apart_from_plans_that_are_carried_out(world: Any) -> None:
    looked_at = world.plan(FIRST, run_id="dry", dry_run=True)
    world.later(hours=1)
    done = world.plan(FIRST, run_id="done")
    world.report(done)
    world.later(hours=1)
    at_work = world.plan(SECOND, run_id="at-work")
    plans = world.books().refresh().plans
    found = plan_list(plans, offset=0, limit=9)
    assert [(one.plan_id, one.dry_run, one.at_work) for one in found.plans] == [
        (at_work.plan_id, False, True),
        (done.plan_id, False, False),
        (looked_at.plan_id, True, False),
    ]
    only = plan_list(plans, offset=0, limit=9, dry_run=True)
    assert (only.total, only.plans[0].plan_id) == (1, looked_at.plan_id)
    assert plan_list(plans, offset=0, limit=9, dry_run=False).total == 2


def test_the_servers_of_a_plan_can_be_chosen_by_what_became_of_them(world: Any) -> None:
    plan = world.plan(FIRST)
    world.finish(plan, 101)
    world.report(plan, {102: "The account said no."})
    snapshot = world.books().refresh()
    figures = PlanFigures(plan, Expectation(snapshot))
    failed = plan_view(figures, snapshot, prices=read_prices(), state=[State.FAILED])
    (one,) = [server for server in failed.servers if server.id == 102]
    assert (one.state, one.task, one.words) == (State.FAILED, "capture", "The account said no.")
    everything = {server.id: server.state for server in plan_view(figures, snapshot, prices=read_prices()).servers}
    assert everything[101] is State.EXPORTED
    assert {number for number, state in everything.items() if state is State.FAILED} == {
        server.id for server in failed.servers
    }
    assert everything[105] is None, "what the plan does not export becomes nothing by it"
    dry = world.plan(SECOND, run_id="dry", dry_run=True)
    waves = wave_list(dry, snapshot)
    assert (waves.counts, waves.waves[0].counts, waves.waves[0].servers) == ({}, {}, len(dry.waves[0].guest_ids))
    looked_at = plan_view(PlanFigures(dry, Expectation(snapshot)), snapshot, prices=read_prices())
    assert {server.state for server in looked_at.servers} == {None}


def test_waves_tell_how_far_they_are_and_how_long_each_server_may_take(world: Any, make_settings: Any) -> None:
    world.settings = lambda **more: make_settings(wave_size=2, max_offline=1, stuck_minutes=7, **more)
    plan = world.plan(FIRST, ids=[101, 102, 103])
    world.finish(plan, 102)
    snapshot = world.books().refresh()
    found = wave_list(plan, snapshot)
    assert found.counts == {State.EXPORTED: 1, State.RUNNING: 2}
    assert [(one.run_id, one.servers, one.done_capacity_bytes) for one in found.waves] == [
        (f"{plan.plan_id}.wave-0000", 2, 10**9),
        (f"{plan.plan_id}.wave-0001", 1, 0),
    ]
    view = wave_view(plan.slice(0), snapshot)
    assert [(one.map_index, one.id, one.state) for one in view.servers] == [(0, 101, "running"), (1, 102, "exported")]
    assert view.servers[0].capture_stuck_seconds == 420
    assert view.servers[0].capture_deadline_seconds >= 3600


def test_the_account_s_words_stand_beside_each_server(world: Any, make_template: Any, make_transaction: Any) -> None:
    plan = world.plan(FIRST, ids=[101, 102, 103])
    guests = {
        101: GuestState.model_validate({"id": 101, "activeTransaction": make_transaction(7, status="CLOUD_CAPTURE")}),
        102: GuestState.model_validate({"id": 102, "powerState": {"keyName": "RUNNING"}}),
    }
    template: Template = make_template(900, f"sealift-102-{FIRST}", busy=True)
    asked_at = datetime(2026, 11, 23, tzinfo=UTC)
    found = transactions_of(plan.slice(0), guests, {str(template.name): template}, asked_at=asked_at)
    assert [(one.id, one.on, one.transaction_id, one.template_id) for one in found.servers] == [
        (101, "server", 7, None),
        (102, "template", 70, 900),
        (103, None, None, None),
    ]
    assert found.servers[0].status == "Cloud_Capture"


def test_figures_over_time(world: Any) -> None:
    first = world.plan(FIRST, ids=[101, 102, 103])
    world.finish(first, 101)
    world.finish(first, 103)
    world.report(first, {102: "no"})
    failed_at = world.now
    world.later(days=7)
    second = world.plan(SECOND, ids=[101, 102, 103])
    world.finish(second, 102)
    recovered = (world.now - failed_at).total_seconds()
    world.report(second, {101: "no", 103: "no"})
    books = world.books()
    snapshot = books.refresh()
    books.fill_all([FIRST, SECOND], at_most=9)
    found = charts(snapshot)
    assert [one.period for one in found.slots] == [FIRST, SECOND]
    assert [one.covered for one in found.slots] == [0.6667, 0.3333]
    assert found.slots[0].levels == {"L1": 2}
    assert [one.bytes for one in found.slots] == [12 * 10**8, 4 * 10**8]
    assert {(one.datacenter, one.up_to_gb, one.captures, one.capture_median) for one in found.durations} == {
        ("dal13", 25, 2, 600.0),
        ("fra02", 25, 1, 600.0),
    }
    recovery = found.recovery
    assert (recovery.failures, recovery.recovered, recovery.open, recovery.median_seconds) == (3, 1, 2, recovered)
    week = 7 * 24 * 3600
    assert [(one.up_to_seconds, one.failures) for one in recovery.within if one.failures] == [(week, 1)]
    assert [one.up_to_seconds for one in recovery.within] == [3600, 14400, 43200, 86400, 259200, week, None]
    assert [(one.period, one.failures, one.open, one.median_seconds) for one in recovery.by_slot] == [
        (FIRST, 1, 0, recovered),
        (SECOND, 2, 2, None),
    ]


def test_prices_have_sources_and_may_be_replaced(tmp_path: Path) -> None:
    prices = read_prices()
    assert prices.currency == "USD"
    for one in (*prices.storage, *prices.egress):
        assert one.source
        # What no page of the seller says is marked so.
        assert one.confirmed is (one.source.startswith("IBM Cloud docs"))
    own = json.loads(prices.model_dump_json())
    own["storage"] = [{"id": "ours", "title": "t", "per_gb_month": 0.5, "confirmed": True, "source": "contract"}]
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(own))
    assert costs_of(3 * 10**9, read_prices(path)).storage_per_month[0].amount == 1.5
    path.write_text('{"dated": "soon"}')
    with pytest.raises(SettingsError, match="is no file of prices: dated"):
        read_prices(path)
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_prices(tmp_path / "nowhere.json")
