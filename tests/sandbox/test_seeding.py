"""Worlds: the demo's six servers, the crowd, the same for the same seed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox.clock import ManualClock
from sealift.sandbox.seeding import seed_world
from sealift.sandbox.state import State
from sealift.sandbox.switches import Switches
from sealift.sandbox.world import World

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(*, seed: int = 1, servers: int = 6, scenario: str | None = None) -> World:
        state = State(path=tmp_path / f"{time.monotonic_ns()}.sqlite")
        world = World(state=state, clock=ManualClock(), switches=Switches())
        seed_world(world, seed=seed, servers=servers, scenario=scenario)
        state.close()
        return world

    return build


def everything(world: World) -> list[dict[int, dict[str, Any]]]:
    return [world.guests, world.dedicated_hosts, world.hardware, world.volumes, world.groups, world.transactions]


def test_the_demo_has_exactly_its_six_servers(make: Make) -> None:
    world = make(scenario="demo", servers=99)
    guests = {one["hostname"]: one for one in world.guests.values()}
    assert list(guests) == ["web-01", "db-01", "win-01", "batch-01", "files-01", "legacy-01"]
    assert guests["web-01"]["_host"] in world.dedicated_hosts
    assert [disk["device"] for disk in guests["db-01"]["_disks"]] == ["0", "2", "4", "5"]
    assert [disk["kind"] for disk in guests["win-01"]["_disks"]] == ["ntfs"]
    assert (guests["batch-01"]["_power"], guests["batch-01"]["_status"]) == ("HALTED", "ACTIVE")
    kinds = [world.volumes[number]["nasType"] for number in guests["files-01"]["_volumes"]]
    assert kinds == ["ISCSI", "NAS"]
    assert [one["guestId"] for one in world.running.values()] == [guests["legacy-01"]["id"]]
    exportable = [one for name, one in guests.items() if name != "legacy-01"]
    assert sum(len(one["_disks"]) for one in exportable) == 8
    assert all(one["_status"] == "ACTIVE" and not one["_software"] for one in guests.values())


def test_the_same_seed_makes_the_same_world(make: Make) -> None:
    assert everything(make(servers=300, seed=5)) == everything(make(servers=300, seed=5))
    assert make(servers=300, seed=5).guests != make(servers=300, seed=6).guests


def test_fewer_and_more_servers(make: Make) -> None:
    assert make(servers=0).guests == {}
    assert len(make(servers=3).guests) == 3
    small, large = make(servers=50).guests, make(servers=51).guests
    assert list(small) == list(large)[:50]


def test_five_thousand_servers_take_a_moment_and_few_disks(make: Make) -> None:
    started = time.monotonic()
    world = make(servers=5000)
    assert time.monotonic() - started < 30
    assert len(world.guests) == 5000
    assert len({one["globalIdentifier"] for one in world.guests.values()}) == 5000
    assert len({one["fullyQualifiedDomainName"] for one in world.guests.values()}) == 5000
    assert len({one["primaryBackendIpAddress"] for one in world.guests.values()}) == 5000
    crowd = list(world.guests.values())[6:]
    disks = {(disk["kind"], disk["hostname"], disk["seed"]) for one in crowd for disk in one["_disks"]}
    assert len(disks) == 2, "the crowd shares its disks"
    for name, values in (
        ("_status", {"ACTIVE", "DISCONNECTED"}),
        ("_power", {"RUNNING", "HALTED"}),
        ("privateNetworkOnlyFlag", {True, False}),
        ("localDiskFlag", {True, False}),
    ):
        assert {one[name] for one in crowd} == values
    assert any(one["_software"] for one in crowd)
    assert any(one["_volumes"] for one in crowd)
    assert max(one["id"] for one in crowd) * 1 < 2**31, "ids fit XML-RPC's whole numbers"


@pytest.mark.parametrize("settings", [{"scenario": "nosuch"}, {"servers": -1}])
def test_nonsense_is_refused(make: Make, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"nosuch|-1"):
        make(**settings)
