"""Names follow from ids alone, come apart again, and are safe wherever they go."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.exports import names
from sealift.exports.errors import SettingsError

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

slots = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda when: when.replace(microsecond=0)
)
run_ids = st.text(min_size=1, max_size=120)
guest_ids = st.integers(min_value=1, max_value=10**12)


def test_a_period_tells_its_slot() -> None:
    slot = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    for one in (slot, slot.replace(second=7)):
        assert names.slot_of_period(names.period_of_slot(one)) == one
    for other in (names.period_of_run("manual__2026-11-23T02:00:00Z"), "20261323T0200Z", "20261123T02Z", ""):
        assert names.slot_of_period(other) is None


def test_the_runs_before_a_wave_s_own() -> None:
    run = names.wave_run_id(plan_id="a.wave-b", number=3)
    assert names.wave_runs_before(run, most=2) == ["a.wave-b.wave-0001", "a.wave-b.wave-0002"]
    assert names.wave_runs_before(names.wave_run_id(plan_id="p", number=0), most=2) == []
    assert names.wave_runs_before("manual__1", most=2) == []


@given(guest_ids, st.one_of(slots.map(names.period_of_slot), run_ids.map(names.period_of_run)))
def test_export_ids_and_template_names_come_apart_again(guest_id: int, period: str) -> None:
    export = names.export_id(guest_id=guest_id, period=period)

    assert names.parse_export_id(export) == (guest_id, period)
    assert names.parse_template_name(names.template_name(export)) == export
    assert len(names.template_name(export)) <= 61
    key = names.manifest_key(prefix="a/b", guest_id=guest_id, period=period)
    assert names.parse_manifest_key(key) == (guest_id, period)


@given(run_ids)
def test_periods_of_runs_are_safe_and_bounded(run_id: str) -> None:
    period = names.period_of_run(run_id)

    assert SAFE.fullmatch(period)
    assert len(period) <= names.PERIOD_MAX
    assert period == names.period_of_run(run_id)
    assert not re.fullmatch(r"\d{8}T\d{4}(?:\d{2})?Z", period), "it would be taken for a slot's"


@given(run_ids, run_ids)
def test_different_runs_have_different_periods(one: str, other: str) -> None:
    assert (names.period_of_run(one) == names.period_of_run(other)) == (one == other)


@given(slots, slots)
def test_different_slots_have_different_periods(one: datetime, other: datetime) -> None:
    assert (names.period_of_slot(one) == names.period_of_slot(other)) == (one == other)


def test_a_slot_is_named_in_utc_whatever_zone_it_is_given_in() -> None:
    berlin = datetime(2026, 11, 23, 3, 0, tzinfo=timezone(timedelta(hours=1)))

    assert names.period_for(slot=berlin, run_id="scheduled__x") == "20261123T0200Z"
    with pytest.raises(SettingsError, match="no time zone"):
        names.period_of_slot(datetime(2026, 11, 23, 3, 0))


def test_a_manual_run_is_named_readably() -> None:
    period = names.period_for(slot=None, run_id="manual__2026-11-23T02:00:00.123456+00:00")

    assert re.fullmatch(r"manual-20261123T020000Z-[0-9a-f]{8}", period)


@pytest.mark.parametrize(
    "value", ["", "12", "0-x", "-x", "12-", "12- ", "12-a b", "12-" + "a" * 41, "x-20261123T0200Z"]
)
def test_what_is_no_export_id_is_refused(value: str) -> None:
    with pytest.raises(SettingsError):
        names.parse_export_id(value)
    assert names.parse_template_name(names.TEMPLATE_PREFIX + value) is None


def test_foreign_templates_are_not_ours() -> None:
    assert names.parse_template_name(None) is None
    assert names.parse_template_name("my template") is None
    assert names.parse_template_name("SEALIFT-1-20261123T0200Z") is None


def test_keys_lie_where_the_design_puts_them() -> None:
    images = names.image_prefix(prefix="p", hostname="web 1?", guest_id=7, export="7-20261123T0200Z")

    assert images == "p/images/web-1-7/7-20261123T0200Z"
    assert names.disk_uri(region="us-south", bucket="b", images=images) == f"cos://us-south/b/{images}/disk.vhd"
    assert names.disk_key(images=images, index=1) == f"{images}/disk-1.vhd"
    assert names.disk_key(images=images, index=1).startswith(names.disks_prefix(images))
    assert names.record_key(images) == f"{images}/server.json"
    assert names.manifest_key(prefix="", guest_id=7, period="x") == "manifests/7/x.json"
    assert names.plan_key(prefix="p", plan_id="a") == "p/plans/a.json"
    assert names.wave_key(prefix="p", plan_id="a", number=3) == "p/plans/a/wave-0003.json"
    assert names.wave_report_key(prefix="p", plan_id="a", number=3) == "p/plans/a/wave-0003.report.json"
    assert names.report_key(prefix="p", plan_id="a") == "p/plans/a/report.json"


@given(st.text(max_size=300))
def test_host_names_become_safe_parts_of_keys(hostname: str) -> None:
    safe = names.key_safe(hostname)

    assert safe
    assert re.fullmatch(r"[A-Za-z0-9._-]+", safe)
    assert names.key_safe(safe) == safe


@pytest.mark.parametrize("prefix", ["a//b", "a/../b", "ä", "a b", "a?b", "./a"])
def test_prefixes_that_keys_should_not_hold_are_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match="prefix"):
        names.normal_prefix(prefix)


def test_prefixes_lose_the_slashes_at_their_ends() -> None:
    assert names.normal_prefix("/a/b.c/") == "a/b.c"
    assert names.normal_prefix("/") == ""


def test_the_same_run_makes_the_same_plan_and_wave_runs() -> None:
    plan = names.plan_id_for(dag_id="plan_exports", run_id="manual__2026-11-23T02:00:00+00:00")

    assert plan == names.plan_id_for(dag_id="plan_exports", run_id="manual__2026-11-23T02:00:00+00:00")
    assert plan != names.plan_id_for(dag_id="plan_exports", run_id="manual__2026-11-23T02:00:01+00:00")
    assert SAFE.fullmatch(plan)
    assert len(plan) <= 60
    assert names.wave_run_id(plan_id=plan, number=12) == f"{plan}.wave-0012"


@given(
    prefix=st.sampled_from(["", "p", "a/images"]),
    hostname=st.text(max_size=30),
    guest_id=st.integers(1, 10**9),
    period=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", fullmatch=True),
    number=st.integers(0, 20),
)
def test_what_we_write_is_known_by_its_key(prefix: str, hostname: str, guest_id: int, period: str, number: int) -> None:
    def rest(key: str, room: str) -> str:
        root = names.room_prefix(prefix, room)
        assert key.startswith(root)
        return key.removeprefix(root)

    export = names.export_id(guest_id=guest_id, period=period)
    images = names.image_prefix(prefix=prefix, hostname=hostname, guest_id=guest_id, export=export)
    home = f"{names.key_safe(hostname)}-{guest_id}"
    disk = names.parse_image_file(rest(names.disk_key(images=images, index=number), "images"))
    assert disk == names.ImageFile(home, export, number)
    record = names.parse_image_file(rest(names.record_key(images), "images"))
    assert record == names.ImageFile(home, export, None)
    claim = names.claim_root(prefix=prefix, guest_id=guest_id, period=period)
    assert names.parse_claim_file(rest(f"{claim}/00000001.json", "claims")) == export
    note = names.template_note(export=export, bucket="my.bucket-1", key_prefix=images)
    assert names.parse_template_note(note) == ("my.bucket-1", images)
    plan = names.plan_id_for(dag_id="d", run_id=f"{hostname}x")
    where = {"prefix": prefix, "plan_id": plan}
    for key, file in (
        (names.plan_key(**where), names.PlanFile(plan, None, False)),
        (names.report_key(**where), names.PlanFile(plan, None, True)),
        (names.wave_key(**where, number=number), names.PlanFile(plan, number, False)),
        (names.wave_report_key(**where, number=number), names.PlanFile(plan, number, True)),
    ):
        assert names.parse_plan_file(rest(key, "plans")) == file
    kept = names.captured_key(prefix=prefix, plan_id=plan, export=export)
    assert names.is_captured_file(rest(kept, "captured"))
    assert not names.is_captured_file(rest(claim, "claims"))
    proof = names.proof_key(prefix=prefix, guest_id=guest_id, period=period, number=number + 1)
    assert proof.startswith(names.proofs_prefix(prefix=prefix, guest_id=guest_id, period=period))
    assert names.proof_number(rest(proof, "proofs")) == number + 1
    assert names.proof_number(rest(kept, "captured")) is None
    assert names.is_examination_file(rest(names.examination_key(prefix=prefix, run_id=f"{hostname}x"), "reports"))


@pytest.mark.parametrize("note", [None, "", "my note", "Sealift export 1-x to b/", "Sealift export 1-x to b/a b/c/"])
def test_a_note_that_is_none_of_ours_tells_nothing(note: str | None) -> None:
    assert names.parse_template_note(note) is None
