"""Windows read what people write, know nights and daylight saving, and say what is wrong with the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from sealift.exports.errors import WindowError
from sealift.exports.window import Window

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC)


@pytest.mark.parametrize(
    ("window", "moment", "open_"),
    [
        ("22:00-06:00 Europe/Berlin", at("2026-11-23T22:00", BERLIN), True),
        ("22:00-06:00 Europe/Berlin", at("2026-11-24T05:59", BERLIN), True),
        ("22:00-06:00 Europe/Berlin", at("2026-11-24T06:00", BERLIN), False),
        ("22:00-06:00 Europe/Berlin", at("2026-11-23T21:30"), True),
        ("22:00-06:00 Europe/Berlin", at("2026-07-23T20:30"), True),
        ("01:00-03:00", at("2026-11-23T02:00"), True),
        ("Mon-Fri 22:00-06:00", at("2026-11-28T03:00"), True),
        ("Mon-Fri 22:00-06:00", at("2026-11-28T22:30"), False),
        ("Mon-Fri 22:00-06:00; Sat,Sun 00:00-24:00 UTC", at("2026-11-28T22:30"), True),
        ("Fri-Mon 10:00-11:00", at("2026-11-29T10:30"), True),
        ("Fri-Mon 10:00-11:00", at("2026-11-25T10:30"), False),
        ("00:00-24:00", at("2026-11-25T23:59"), True),
    ],
)
def test_a_window_knows_when_it_is_open(window: str, moment: datetime, open_: bool) -> None:
    assert Window.parse(window).contains(moment) is open_


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("22-06", "cannot be read"),
        ("22:00", "cannot be read"),
        ("25:00-06:00", "no time of day"),
        ("22:70-06:00", "no time of day"),
        ("06:00-06:00", "without length"),
        ("24:00-06:00", "without length"),
        ("22:00-06:00 Europe/Nowhere", "time zone"),
        ("Xyz 22:00-06:00", "'Xyz'"),
        ("Mon-Tue-Wed 22:00-06:00", "cannot be read"),
        ("22:00-06:00; ", "cannot be read"),
        ("22:00-06:00 ../../etc/passwd", "cannot be read"),
    ],
)
def test_a_malformed_window_is_refused_with_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(WindowError, match="capture window") as caught:
        Window.parse(text)
    assert says in caught.value.message


spans = st.tuples(
    st.sampled_from(["", "Mon ", "Mon-Fri ", "Sat,Sun ", "Fri-Mon "]), st.integers(0, 1439), st.integers(0, 1440)
).filter(lambda span: span[1] != span[2])


@given(
    spans,
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.datetimes(min_value=datetime(2025, 1, 1), max_value=datetime(2028, 1, 1), timezones=st.just(UTC)),
)
def test_the_next_opening_is_open_and_nothing_before_it_is(
    span: tuple[str, int, int], zone: str, moment: datetime
) -> None:
    days, start, end = span
    window = Window.parse(f"{days}{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d} {zone}")
    opens = window.next_opening(moment)

    assert window.contains(opens)
    assert opens >= moment
    before = opens - timedelta(minutes=1)
    assert opens == moment or before <= moment or not window.contains(before)


def test_a_window_in_the_hour_that_spring_skips_opens_when_the_clock_has_jumped() -> None:
    window = Window.parse("02:30-04:00 Europe/Berlin")

    assert window.next_opening(at("2026-03-29T00:30")) == at("2026-03-29T01:00")


def test_a_window_travels_as_text() -> None:
    class Holder(BaseModel):
        window: Window | None = None

    holder = Holder.model_validate({"window": " 22:00-06:00   Europe/Berlin "})

    assert holder.model_dump(mode="json") == {"window": "22:00-06:00 Europe/Berlin"}
    assert Holder.model_validate_json(holder.model_dump_json()) == holder
    assert Holder.model_json_schema()["$defs"]["Window"]["type"] == "string"
    with pytest.raises(ValidationError, match="cannot be read"):
        Holder.model_validate({"window": "late"})
