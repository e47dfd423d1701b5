"""Turns of exports: who may be submitted next, by the claims in the bucket."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from sealift.classic.errors import ClassicTransientError
from sealift.exports.registers import Entry
from sealift.exports.turns import GIVEN_COUNTS, Claims, Turn, learn_from_refusal, take_turns

ROOT = "nightly/claims"
PERIOD = "20261123T0200Z"


def turn(guest: int, *, datacenter: str = "dal13", most: int = 40, part: int = 0) -> Turn:
    return Turn(export_id=f"{guest}-{PERIOD}", datacenter=datacenter, max_exports=most, max_in_datacenter=part)


def claim(cos: Any, guest: int, *, number: int = 1, **changes: Any) -> None:
    values: dict[str, Any] = {
        "export_id": f"{guest}-{PERIOD}",
        "guest_id": guest,
        "token": "t",
        "taken_at": cos.clock(),
        "datacenter": "dal13",
        "lasts_seconds": 6 * 3600.0,
    }
    cos.store(f"{ROOT}/{guest}/{PERIOD}/{number:08d}.json", Entry(**(values | changes)).model_dump_json().encode())


def going(cos: Any, now: datetime, *turns: Turn, earlier: Claims | None = None) -> list[int]:
    found, _ = take_turns(cos, bucket="b", root=ROOT, turns=turns, now=now, earlier=earlier)
    return [int(one.export_id.partition("-")[0]) for one in turns if one in found]


def test_the_longest_waiting_go_on_until_the_cap_is_reached(cos: Any, now: datetime) -> None:
    for guest in (1, 2):
        claim(cos, guest)
    assert going(cos, now, *(turn(guest, most=4) for guest in (9, 7, 8))) == [9, 7]
    claim(cos, 3)
    claim(cos, 4)
    assert going(cos, now, turn(9, most=4)) == []


def test_a_full_data_center_holds_up_its_own_only(cos: Any, now: datetime) -> None:
    claim(cos, 1)
    claim(cos, 2, datacenter="fra02")
    turns = [turn(7, part=1), turn(8, part=1, datacenter="dal10"), turn(9, part=1, datacenter="fra02")]
    assert going(cos, now, *turns) == [8]
    claim(cos, 3, datacenter="")
    assert going(cos, now, turn(8, part=1, datacenter="dal10")) == [], "one of unknown place counts everywhere"
    assert going(cos, now, turn(8, part=1, datacenter="")) == [8], "who is nowhere has the account's cap only"


def test_while_there_is_room_no_claim_is_read(cos: Any, now: datetime) -> None:
    for guest in range(1, 30):
        claim(cos, guest)
    assert going(cos, now, turn(50), turn(51)) == [50, 51]
    assert cos.reads == []
    assert going(cos, now, turn(50, most=20)) == []
    assert len(cos.reads) == 29


def test_a_claim_is_read_once(cos: Any, now: datetime) -> None:
    for guest in (1, 2, 3):
        claim(cos, guest)
    _, seen = take_turns(cos, bucket="b", root=ROOT, turns=[turn(9, most=2)], now=now)
    take_turns(cos, bucket="b", root=ROOT, turns=[turn(9, most=2)], now=now, earlier=seen)
    assert len(cos.reads) == 3


def test_claims_that_were_given_back_or_are_older_than_their_export_may_last_do_not_count(
    cos: Any, time: Any, now: datetime
) -> None:
    claim(cos, 1, state="free")
    claim(cos, 2)
    claim(cos, 2, number=2, state="free")
    claim(cos, 3)
    claim(cos, 4, lasts_seconds=0.0)
    cos.store(f"{ROOT}/5/{PERIOD}/00000001.json", b"not ours")
    cos.store(f"{ROOT}/notes.txt", b"mine")
    after = now + timedelta(hours=5)
    assert going(cos, after, turn(9, most=3)) == []
    assert going(cos, after, turn(9, most=4)) == [9]
    assert going(cos, now + timedelta(hours=6), turn(9, most=3)) == [9]
    assert going(cos, now + timedelta(hours=73), turn(9, most=2)) == [9]
    assert going(cos, now + timedelta(days=7), turn(9, most=1)) == [9]


def test_who_holds_a_claim_already_goes_on(cos: Any, now: datetime) -> None:
    claim(cos, 1)
    assert going(cos, now, turn(1, most=1), turn(2, most=1)) == [1]


def test_a_turn_that_was_given_counts_until_its_claim_shows_or_does_not_come(cos: Any, now: datetime) -> None:
    _, seen = take_turns(cos, bucket="b", root=ROOT, turns=[turn(1, most=1)], now=now)
    soon = now + GIVEN_COUNTS / 2
    assert going(cos, soon, turn(2, most=1), earlier=seen) == []
    assert going(cos, soon, turn(1, most=1), earlier=seen) == [1], "asked again by who was given it"
    assert going(cos, now + GIVEN_COUNTS, turn(2, most=1), earlier=seen) == [2]


def test_no_cap_lets_everybody_go(cos: Any, now: datetime) -> None:
    for guest in range(1, 60):
        claim(cos, guest)
    assert going(cos, now, turn(70, most=0), turn(71, most=0)) == [70, 71]


def refused(classic: Any, cos: Any, now: datetime, *, export_id: str = f"9-{PERIOD}", datacenter: str = "dal13") -> Any:
    learn_from_refusal(
        classic,
        cos,
        bucket="b",
        root=ROOT,
        export_id=export_id,
        datacenter=datacenter,
        words="Only 2 image exports may run at once.",
        now=now,
    )
    _, seen = take_turns(cos, bucket="b", root=ROOT, turns=[], now=now)
    return seen.caps


def test_a_refusal_teaches_how_many_templates_are_being_exported(
    cos: Any, now: datetime, make_classic: Any, make_template: Any
) -> None:
    """Others hold claims as well, and are about to be refused: the account tells them apart."""
    classic = make_classic()
    for guest in range(1, 7):
        classic.templates[guest * 100] = make_template(guest * 100, busy=guest <= 3)
        claim(cos, guest, template_id=guest * 100, datacenter="fra02" if guest == 3 else "dal13")
    claim(cos, 9)
    caps = refused(classic, cos, now)
    assert caps.in_force("export", "", 40, now) == 3
    assert caps.in_force("export", "dal13", 0, now) == 2
    assert caps.in_force("export", "fra02", 0, now) == 0
    assert going(cos, now, turn(20, datacenter="fra02")) == [], "the account's cap holds everywhere"
    later = now + timedelta(hours=6)
    assert going(cos, later, turn(20)) == [20]


def test_where_nothing_else_runs_in_the_data_center_it_was_not_for_its_sake(
    cos: Any, now: datetime, make_classic: Any, make_template: Any
) -> None:
    classic = make_classic()
    classic.templates[100] = make_template(100, busy=True)
    claim(cos, 1, template_id=100, datacenter="fra02")
    caps = refused(classic, cos, now, datacenter="dal13")
    assert caps.in_force("export", "dal13", 0, now) == 0
    assert caps.in_force("export", "", 40, now) == 1


def test_an_account_that_cannot_be_asked_teaches_nothing(
    cos: Any, now: datetime, make_classic: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf(make_classic):  # type: ignore[misc]
        def template_states(self, ids: Any) -> Any:
            raise ClassicTransientError("no answer")

    claim(cos, 1, template_id=100)
    assert refused(Deaf(), cos, now).notes == {}
    assert "nothing is learned" in caplog.text
