"""Documents that outlive the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sealift.sandbox.state import State


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "world.sqlite"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    state = State(path=path)
    yield state
    state.close()


def test_everything_is_there_after_opening_again(state: State, path: Path) -> None:
    state.put("guest", {"id": 2, "name": "b"}, {"id": 1, "name": "a"})
    state.put("group", {"id": 1, "name": "other kind"})
    state.put("guest", {"id": 2, "name": "changed"})
    state.set_meta("x", {"y": [1, None]})
    state.add_write({"n": 1})
    state.add_write({"n": 2})
    state.delete("group", 1)
    again = State(path=path)
    assert list(again.load("guest").values()) == [{"id": 1, "name": "a"}, {"id": 2, "name": "changed"}]
    assert again.load("group") == {}
    assert again.meta("x") == {"y": [1, None]}
    assert again.meta("nothing") is None
    assert again.writes() == [{"n": 1}, {"n": 2}]
    again.close()


def test_all_or_none(state: State) -> None:
    with pytest.raises(TypeError):
        state.put_all([("guest", {"id": 1}), ("guest", {"id": 2, "bad": object()})])
    with pytest.raises(KeyError):
        state.put_all([("guest", {"id": 1}), ("guest", {})])
    assert state.load("guest") == {}
    state.put("guest", {"id": 3})
    assert list(state.load("guest")) == [3]
