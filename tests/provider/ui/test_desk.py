"""What routes share: made once however many ask, and a plan is found whichever place it is in."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException

from sealift.cos.errors import CosError
from sealift.provider.ui import desk as desks
from sealift.provider.ui.desk import Desk
from sealift.provider.ui.places import Place, Places


@pytest.fixture
def desk() -> Desk:
    return Desk(Places({one: Place(name=one) for one in ("default", "weekly", "monthly")}))


def test_what_many_ask_for_at_once_is_made_once(desk: Desk) -> None:
    made: list[int] = []
    everybody_asks = threading.Barrier(8)
    begun, go_on = threading.Event(), threading.Event()

    def make() -> str:
        made.append(1)
        begun.set()
        go_on.wait(10)
        return "it"

    def ask() -> str:
        everybody_asks.wait(10)
        return desk.once(("plan", 1), make)

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask) for _ in range(8)]
        assert begun.wait(10)
        go_on.set()
        assert {one.result(10) for one in asked} == {"it"}
    assert made == [1]


def test_what_could_not_be_made_is_tried_again(desk: Desk) -> None:
    def fail() -> str:
        raise HTTPException(404, "not yet")

    with pytest.raises(HTTPException):
        desk.once(("plan", 1), fail)
    assert desk.once(("plan", 1), lambda: "there") == "there"


def test_each_kind_has_room_of_its_own(desk: Desk) -> None:
    desk.once(("plan", 1), lambda: "kept")
    for number in range(3 * desks.KEPT):
        desk.once(("charts", number), lambda: "many")
    assert desk.once(("plan", 1), lambda: "made again") == "kept"
    assert desk.once(("charts", 0), lambda: "made again") == "made again"


def places_with(desk: Desk, monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
    monkeypatch.setattr(desk, "open", lambda name: SimpleNamespace(place=SimpleNamespace(name=name)))

    def plan(place: Any, plan_id: str) -> Any:
        there = found.get(place.place.name)
        if isinstance(there, Exception):
            raise there
        if there != plan_id:
            raise HTTPException(404, "There is no such plan.")
        return there

    monkeypatch.setattr(desk, "plan", plan)


def test_a_plan_is_found_in_the_first_place_that_has_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    places_with(desk, monkeypatch, weekly="p", monthly="p")
    opened, plan = desk.find_plan("", "p")
    assert (opened.place.name, plan) == ("weekly", "p")
    opened, _ = desk.find_plan("monthly", "p")
    assert opened.place.name == "monthly"
    with pytest.raises(HTTPException, match="no such plan"):
        desk.find_plan("default", "p")


def test_a_place_that_cannot_be_read_hides_no_plan_of_another(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    places_with(desk, monkeypatch, default=CosError("the bucket is gone"), weekly="p")
    assert desk.find_plan("", "p")[0].place.name == "weekly"
    with pytest.raises(CosError, match="the bucket is gone"):
        desk.find_plan("", "another")


def test_a_plan_that_is_nowhere_is_said_to_be_in_no_place(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    places_with(desk, monkeypatch)
    with pytest.raises(HTTPException) as refused:
        desk.find_plan("", "p")
    assert refused.value.status_code == 404
    assert "default, weekly, monthly" in refused.value.detail
