"""A year of slots through a real Airflow, with retention while they go on: then bucket and account hold what is due.

It takes minutes, and is no part of ``make test``: ``make retention-year`` plays it. There is a shorter sample in
:mod:`tests.e2e.test_schedule`, and a year without Airflow in :mod:`tests.exports.retention.test_a_year`.

The account's clock begins a year ago and is turned on from slot to slot, so that each slot has image templates of its
own time. Then it shows the present, and backfills export slot by slot what was captured then, as for a user who began
to keep image templates long before Sealift. What has to be left is worked out here, slowly, of what was captured: none
of Sealift's own code decides with it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sealift.classic.client import ClassicClient
from sealift.cos.client import CosClient
from sealift.exports import names
from sealift.exports.retention import keys
from sealift.exports.retention.holds import hold_export
from sealift.sandbox import Sandbox
from tools.local_airflow import LocalAirflow

SLOTS = int(os.environ.get("RETENTION_YEAR") or 0)
PREFIX = "year"
DAYS = (1, 15)
QUARTERS = 4
BERLIN = ZoneInfo("Europe/Berlin")

pytestmark = pytest.mark.skipif(not SLOTS, reason="takes minutes: make retention-year")


class Turned:
    """A clock that a test turns on, and that goes on from there."""

    def __init__(self, start: datetime) -> None:
        self._ahead = start.timestamp() - time.time()

    def now(self) -> float:
        return time.time() + self._ahead

    def turn(self, moment: datetime) -> None:
        self._ahead = max(self._ahead, moment.timestamp() - time.time())


def slots_before(now: datetime, count: int) -> list[datetime]:
    """The newest slots of the schedule ``0 0 1,15 * *`` but for the last, which its own scheduled run is for."""
    found, day = [], now.replace(hour=0, minute=0, second=0, microsecond=0)
    while len(found) <= count:
        if day.day in DAYS:
            found.append(day)
        day -= timedelta(days=1)
    return found[1:][::-1]


@dataclass
class Year:
    """The running programs, and what was captured when."""

    sandbox: Sandbox
    airflow: LocalAirflow
    cos: CosClient
    slots: list[datetime]
    captured: dict[int, dict[str, datetime]]
    held: set[str] = field(default_factory=set)

    def manifests(self) -> dict[str, dict[str, Any]]:
        """What the store holds, without Sealift's own client in between."""
        found = {}
        for one in self.sandbox.store.list(self.sandbox.bucket, f"{PREFIX}/manifests/"):
            path = self.sandbox.store.path_of(self.sandbox.bucket, one.key)
            assert path is not None
            manifest = json.loads(path.read_text())
            found[manifest["export_id"]] = manifest
        return found

    def objects(self, room: str) -> list[str]:
        return [one.key for one in self.sandbox.store.list(self.sandbox.bucket, f"{PREFIX}/{room}/")]

    def templates(self) -> set[str]:
        """Names of the account's templates of these slots."""
        periods = {names.period_of_slot(one) for one in self.slots}
        found = {str(one["name"]) for one in self.sandbox.templates()}
        return {one for one in found if one.rpartition("-")[2] in periods}

    def run(self, dag_id: str, **conf: Any) -> str:
        run_id = self.airflow.api.trigger(dag_id, conf)
        state = self.airflow.api.wait(dag_id, run_id, seconds=300)
        assert state == "success", f"{dag_id} {run_id}: {state}"
        return run_id


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Iterator[Year]:
    root = tmp_path_factory.mktemp("year")
    slots = slots_before(datetime.now(UTC), SLOTS)
    clock = Turned(slots[0] - timedelta(days=2))
    with Sandbox(root=root / "sandbox", servers=12, seed=3, speed=400, clock=clock) as sandbox:
        good = [
            one
            for one in sandbox.world.guests.values()
            if (one["_status"], one["_power"], one["_software"]) == ("ACTIVE", "RUNNING", [])
        ]
        chosen = {int(one["id"]): str(one["hostname"]) for one in good[:3]}
        assert len(chosen) == 3
        captured = capture_all(sandbox, clock, list(chosen), slots)
        clock.turn(datetime.now(UTC))
        params = {"hostnames": list(chosen.values()), "bucket": sandbox.bucket, "prefix": "present"}
        airflow = LocalAirflow(
            home=root / "airflow",
            project_root=project_root,
            settings={
                "AIRFLOW__SEALIFT__POLL_INTERVAL": "1",
                "AIRFLOW__SEALIFT__RETRIES": "2",
                "AIRFLOW__SEALIFT__RETRY_DELAY": "2",
                "AIRFLOW__SEALIFT__SCHEDULE": "0 0 1,15 * *",
                "AIRFLOW__SEALIFT__DEFAULT_PARAMS": json.dumps(params),
            },
        )
        with airflow:
            airflow.wait_until_ready(dags=("plan_exports", "export_servers", "apply_retention"))
            for connection_id, fields in sandbox.connections().items():
                airflow.add_connection(connection_id, **fields)
            cos = CosClient(
                region=sandbox.region,
                endpoint_url=sandbox.cos_url,
                api_key=sandbox.cos_api_key,
                service_instance_id=sandbox.cos_service_instance_id,
                iam_endpoint=sandbox.iam_url,
            )
            yield Year(sandbox, airflow, cos, slots, captured)
            cos.close()
        assert airflow.running() == [], "Airflow left processes behind"


def capture_all(
    sandbox: Sandbox, clock: Turned, guests: Sequence[int], slots: Sequence[datetime]
) -> dict[int, dict[str, datetime]]:
    """Capture every server in every slot, at its time; returns by server and export when."""
    client = ClassicClient(username=sandbox.username, api_key=sandbox.api_key, endpoint_url=sandbox.api_url)
    captured: dict[int, dict[str, datetime]] = {guest: {} for guest in guests}
    devices = {
        id_: [one.id for one in guest.block_devices if not one.left_out_because]
        for id_, guest in client.get_guests(list(guests)).items()
    }
    for slot in slots:
        clock.turn(slot)
        for guest in guests:
            export = names.export_id(guest_id=guest, period=names.period_of_slot(slot))
            made = client.capture(
                guest, name=names.template_name(export), block_device_ids=devices[guest], note="of that time"
            )
            assert made.create_date is not None
            captured[guest][export] = made.create_date
        clock.turn(slot + timedelta(hours=2))
        deadline = time.monotonic() + 120
        while not all(one["finished"] for one in sandbox.templates()):
            assert time.monotonic() < deadline, "the captures of a slot do not end"
            time.sleep(0.05)
    client.close()
    return captured


# What has to be left: worked out of the captures alone


def due(year: Year, exported: Sequence[str], rule: dict[str, Any]) -> set[str]:
    """Say which of a server's exports stay, question by question."""
    when = {one: moment for its in year.captured.values() for one, moment in its.items()}
    newest_first = sorted(exported, key=lambda one: when[one], reverse=True)
    stay = set(newest_first[:1]) | set(newest_first[: rule.get("keep_last", 0)]) | (year.held & set(exported))
    for name, form in (("keep_monthly", "%Y-%m"), ("keep_yearly", "%Y")):
        places: dict[str, str] = {}
        for one in newest_first:
            places.setdefault(when[one].astimezone(BERLIN).strftime(form), one)
        stay |= {places[place] for place in sorted(places, reverse=True)[: rule.get(name, 0)]}
    return stay


def check(year: Year, rules: dict[int, dict[str, Any]]) -> set[str]:
    """Hold bucket and account against what is due; returns the exports that are left."""
    left: set[str] = set()
    newest: set[str] = set()
    for guest, its in year.captured.items():
        left |= due(year, list(its), rules[guest])
        newest.add(max(its, key=lambda one: its[one]))
    manifests = year.manifests()
    assert set(manifests) == left
    for export, manifest in manifests.items():
        its_capture = year.captured[manifest["guest"]["id"]][export]
        assert datetime.fromisoformat(manifest["captured_at"]) == its_capture, "by the account, not by the slot"
        assert manifest.get("removal") is None
    images = year.objects("images")
    assert {key.split("/")[3] for key in images} == left, "no object is left of what went, and none is missing"
    assert len(images) == sum(len(one["disks"]) + 1 for one in manifests.values()), "disks and records"
    assert year.objects("retention/removing") == []
    expected = {names.template_name(one) for one in newest | year.held}
    deadline = time.monotonic() + 60  # the account deletes in transactions of its own
    while year.templates() != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    assert year.templates() == expected
    return left


@pytest.mark.timeout(3600)
def test_after_a_year_of_slots_bucket_and_account_hold_exactly_what_the_rules_say(year: Year) -> None:
    first, *others = year.captured
    by_guest: dict[int, dict[str, Any]] = {
        first: {"keep_last": 2, "keep_monthly": 6},
        **{other: {"keep_last": 3, "keep_yearly": 2} for other in others},
    }
    rules = {
        "timezone": "Europe/Berlin",
        "rules": [
            {"name": "the first", "servers": {"ids": [first]}, **by_guest[first]},
            {"name": "the rest", "servers": {"all": True}, **by_guest[others[0]]},
        ],
    }
    given = {"rules": rules, "bucket": year.sandbox.bucket, "region": year.sandbox.region, "prefix": PREFIX}
    api = year.airflow.api
    wait_for_runs(year, "scheduled", 1)
    # Where SQLite is busy, Airflow takes back the runs that it has begun to make. Its scheduler must not have begun
    # them by then: it ends with a StaleDataError (Airflow 3.3).
    api.pause("plan_exports")
    api.backfill(
        "plan_exports",
        start=(year.slots[0] - timedelta(hours=1)).isoformat(),
        end=(year.slots[-1] + timedelta(hours=1)).isoformat(),
        conf={"prefix": PREFIX},
        seconds=180,
    )
    api.pause("plan_exports", paused=False)
    ended, gone = 0, set[str]()
    while ended < len(year.slots):
        ended = wait_for_runs(year, "backfill", min(len(year.slots), ended + -(-len(year.slots) // QUARTERS)))
        if not year.held:
            # Held before retention ever ran: its template stays as well.
            held = min(one for one in year.manifests() if one.startswith(f"{others[0]}-"))
            where = {"bucket": year.sandbox.bucket, "prefix": PREFIX}
            hold_export(year.cos, **where, export=held, reason="an audit", now=datetime.now(UTC))
            year.held.add(held)
        # While the exports of later slots go on.
        gone |= removed_by(year, year.run("apply_retention", **given, approve_above=None))

    left = check(year, by_guest)
    assert gone == {one for its in year.captured.values() for one in its} - left
    assert len(gone) > (len(left) if len(year.slots) >= 12 else 0), "most of a year goes"
    once_more = year.run("apply_retention", **given, approve_above=0)
    planned = read(year, keys.dry_run_key(prefix=PREFIX, retention_id=keys.retention_id_for(once_more)))
    assert (planned["exports"], planned["templates"], planned["unreadable"]) == ([], [], [])
    assert check(year, by_guest) == left


def removed_by(year: Year, run_id: str) -> set[str]:
    """Name the exports that a run of retention removed; nothing may have stood in its way."""
    result = read(year, keys.result_key(prefix=PREFIX, retention_id=keys.retention_id_for(run_id)))
    assert {one["done"] for one in result["outcomes"]} <= {"removed"}
    return {one["export_id"] for one in result["outcomes"] if one["template_id"] is None}


def wait_for_runs(year: Year, kind: str, count: int) -> int:
    """Wait until so many runs of a kind have ended well; returns how many have."""
    deadline = time.monotonic() + 1800
    while True:
        runs = [one for one in year.airflow.api.runs("plan_exports") if one["run_type"] == kind]
        ended = [one for one in runs if one["state"] in ("success", "failed")]
        if len(ended) >= count:
            # The schedule's own run may have begun before its connections were there; nothing here is about it.
            assert kind == "scheduled" or {one["state"] for one in ended} == {"success"}
            return len(ended)
        assert time.monotonic() < deadline, [(one["dag_run_id"], one["state"]) for one in runs]
        time.sleep(1)


def read(year: Year, key: str) -> dict[str, Any]:
    path = year.sandbox.store.path_of(year.sandbox.bucket, key)
    assert path is not None, key
    found: dict[str, Any] = json.loads(path.read_text())
    return found
