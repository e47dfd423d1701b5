"""Of each server's capture and step somebody is told once, and of a whole account that stands still not for ever."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.exports.messages.message import MessageKind
from sealift.exports.messages.told import TOLD_AT_MOST, Telling, ToldNote, is_told_file
from sealift.exports.plan import PlanItem


@pytest.fixture
def note(cos: Any, make_settings: Any, period: str) -> Any:
    def make(guest_id: int = 101, **changes: Any) -> ToldNote:
        item = PlanItem.model_construct(guest_id=guest_id, export_id=f"{guest_id}-{period}")
        values = {"template_id": 900, "step": "wait_for_export", "kind": MessageKind.STUCK}
        return ToldNote(cos=cos, item=item, settings=make_settings(), **(values | changes))

    return make


def test_the_same_is_told_once_whoever_looks(note: Any, cos: Any) -> None:
    assert note().take() is Telling.NOW
    assert note().take() is Telling.TOLD
    assert len(cos.writes) == 1


@pytest.mark.parametrize(
    "other", [{"guest_id": 102}, {"template_id": 901}, {"step": "wait_for_template"}, {"kind": MessageKind.SLOW}]
)
def test_what_is_another_thing_is_told_as_well(note: Any, other: dict[str, Any]) -> None:
    note().take()
    assert note(**other).take() is Telling.NOW


def test_of_two_that_look_at_once_one_tells(note: Any, cos: Any) -> None:
    """The other one's note comes between the look and the put."""
    other = note()

    def first(_key: str) -> None:
        cos.before_write = lambda _: None
        assert other.take() is Telling.NOW

    cos.before_write = first
    assert note().take() is Telling.TOLD


def test_what_could_not_be_told_may_be_told_by_the_next_try(note: Any) -> None:
    taken = note()
    taken.take()
    taken.drop()
    assert note().take() is Telling.NOW


def test_after_so_many_servers_of_a_slot_no_more_are_told_of(note: Any, cos: Any) -> None:
    told = [note(guest_id).take() for guest_id in range(1, TOLD_AT_MOST + 6)]
    assert told == [Telling.NOW] * (TOLD_AT_MOST - 1) + [Telling.LAST] + [Telling.TOO_MANY] * 5
    assert len(cos.writes) == TOLD_AT_MOST


def test_the_doctor_knows_the_notes(note: Any, cos: Any) -> None:
    note().take()
    (key,) = cos.writes
    room, _, rest = key.partition("reports/")
    assert room == "nightly/"
    assert is_told_file(rest)
    assert not is_told_file("told/what-somebody-left.txt")
