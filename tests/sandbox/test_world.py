"""The world in memory and in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox.clock import ManualClock
from sealift.sandbox.seeding import seed_world, transaction
from sealift.sandbox.state import State
from sealift.sandbox.switches import Switches
from sealift.sandbox.world import World


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(path=tmp_path / "world.sqlite")
    yield state
    state.close()


def open_world(state: State) -> World:
    return World(state=state, clock=ManualClock(), switches=Switches())


def group(number: int, parent: int | None) -> dict[str, Any]:
    return {
        "id": number, "parentId": parent, "accountId": 307608, "publicFlag": 0, "globalIdentifier": f"guid-{number}",
    }  # fmt: skip


def test_what_is_saved_is_loaded(state: State) -> None:
    world = open_world(state)
    seed_world(world, seed=1, servers=10, scenario=None)
    number = world.new_id("group")
    world.save("group", group(number, None), group(number + 1, number))
    again = open_world(state)
    again.load()
    assert again.guests == world.guests
    assert [one["id"] for one in again.children(number)] == [number + 1]
    assert again.running == world.running
    assert again.last_of_guest == world.last_of_guest
    assert again.by_uuid[f"guid-{number}"] == number
    assert again.new_id("group") == number + 1, "ids go on where they were"


def test_removing_a_parent_removes_its_children(state: State) -> None:
    world = open_world(state)
    seed_world(world, seed=1, servers=0, scenario=None)
    world.save("group", group(1, None), group(2, 1), group(3, 1))
    world.remove_group(2)
    assert [one["id"] for one in world.children(1)] == [3]
    world.remove_group(1)
    assert world.own_groups() == []
    world.remove_group(1)
    again = open_world(state)
    again.load()
    assert again.own_groups() == []


def test_a_transaction_that_ends_runs_no_more(state: State) -> None:
    world = open_world(state)
    seed_world(world, seed=1, servers=3, scenario=None)
    number = next(iter(world.guests))
    entry = transaction(world.new_id("transaction"), "capture", started=1.0, guest=number)
    world.save("transaction", entry)
    assert world.running_on_guest(number) == [entry]
    assert world.last_of_guest[number] == entry["id"]
    entry["guestFree"] = True
    assert world.running_on_guest(number) == []
    entry["ended"] = 2.0
    world.save("transaction", entry)
    assert entry["id"] not in world.running


@pytest.mark.parametrize("speed", [0, -1])
def test_time_does_not_stand_still_or_run_back(state: State, speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        World(state=state, clock=ManualClock(), switches=Switches(), speed=speed)
