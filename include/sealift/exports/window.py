"""Capture windows: the times of the week in which a server may be taken offline.

A window is written as ``[days] HH:MM-HH:MM[; …] [time zone]``, for example ``22:00-06:00 Europe/Berlin`` or
``Mon-Fri 22:00-06:00; Sat,Sun 00:00-24:00 America/Chicago``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sealift.exports.errors import WindowError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_SPAN = re.compile(
    r"(?:(?P<days>[A-Za-z]{3}(?:\s*[-,]\s*[A-Za-z]{3})*)\s+)?"
    r"(?P<h1>\d{1,2}):(?P<m1>\d{2})\s*-\s*(?P<h2>\d{1,2}):(?P<m2>\d{2})"
)
_ZONE = re.compile(r"\s+(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*)\s*$")
_HOW = "Write it as '22:00-06:00 Europe/Berlin' or 'Mon-Fri 22:00-06:00; Sat,Sun 00:00-24:00 UTC'."


@dataclass(frozen=True)
class Span:
    """One span of the week: the days on which it begins, and its minutes of the day (``end`` may be the next day's)."""

    days: frozenset[int]
    start: int
    end: int

    @property
    def overnight(self) -> bool:
        """Whether the span ends on the day after it begins."""
        return self.end <= self.start

    def contains(self, weekday: int, minute: int) -> bool:
        """Say whether a minute of a weekday (0 = Monday) lies in the span.

        :param weekday: 0 for Monday to 6 for Sunday.
        :param minute: of the day, from 0 to 1439.
        :returns: whether it lies in the span; its end does not.
        """
        if not self.overnight:
            return weekday in self.days and self.start <= minute < self.end
        began_yesterday = (weekday - 1) % 7 in self.days
        return (weekday in self.days and minute >= self.start) or (began_yesterday and minute < self.end)


class Window(BaseModel):
    """When captures may start. Times are wall-clock times of its zone, through changes of daylight saving as well.

    :param text: the window as it was written.
    """

    model_config = ConfigDict(frozen=True)

    text: str

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read a window.

        :param text: see the module's first lines.
        :returns: the window, with its text's blanks made single.
        :raises WindowError: it cannot be read; the message says what is wrong and how to write it.
        """
        window = cls.model_construct(text=" ".join(text.split()))
        _ = window.spans, window.zone
        return window

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = value.get("text")
        if not isinstance(value, str):
            raise ValueError(f"A capture window is text. {_HOW}")  # noqa: TRY004 - pydantic collects ValueErrors
        try:
            return {"text": cls.parse(value).text}
        except WindowError as error:
            raise ValueError(error.message) from error

    @model_serializer
    def _to_text(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "title": "Window", "description": "Capture window; " + _HOW}

    @cached_property
    def zone(self) -> ZoneInfo:
        """The window's time zone; UTC where none is written."""
        match = _ZONE.search(self.text)
        name = match["zone"] if match else "UTC"
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise WindowError(
                f"The capture window {self.text!r} names the time zone {name!r}, which is not known. {_HOW}"
            ) from error

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The spans of the week that the window is made of."""
        body = _ZONE.sub("", self.text)
        if not body.strip():
            raise WindowError(f"The capture window is empty. {_HOW} To capture at any time, leave the window out.")
        return tuple(self._span(part.strip()) for part in body.split(";"))

    def contains(self, now: datetime) -> bool:
        """Say whether a capture may start at a moment (with a time zone).

        :param now: the moment, with a time zone.
        :returns: whether the window is open.
        """
        local = now.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        return any(span.contains(local.weekday(), minute) for span in self.spans)

    def next_opening(self, now: datetime) -> datetime:
        """Return the first moment, from ``now`` on, at which a capture may start (UTC, to the minute unless now).

        :param now: the moment to begin at, with a time zone.
        :returns: with the time zone UTC.
        :raises WindowError: the window does not open within 15 days.
        """
        if self.contains(now):
            return now.astimezone(UTC)
        # Minute by minute is exact whatever daylight saving does, and at most 21,600 steps. A weekly span that lies
        # wholly in the hour that spring skips opens a week later.
        moment = now.astimezone(UTC).replace(second=0, microsecond=0)
        for _ in range(15 * _DAY_MINUTES):
            moment += timedelta(minutes=1)
            if self.contains(moment):
                return moment
        raise WindowError(f"The capture window {self.text!r} does not open within two weeks. {_HOW}")

    def _span(self, text: str) -> Span:
        match = _SPAN.fullmatch(text)
        if match is None:
            raise WindowError(f"The capture window {self.text!r} cannot be read at {text!r}. {_HOW}")
        start = self._minute(match["h1"], match["m1"])
        end = self._minute(match["h2"], match["m2"])
        if start in {end, _DAY_MINUTES}:
            raise WindowError(
                f"The capture window {self.text!r} has a span without length, {text!r}; a whole day is 00:00-24:00."
            )
        return Span(days=self._days(match["days"]), start=start, end=end)

    def _minute(self, hours: str, minutes: str) -> int:
        value = int(hours) * 60 + int(minutes)
        if int(minutes) > 59 or value > _DAY_MINUTES:
            raise WindowError(
                f"The capture window {self.text!r} holds {hours}:{minutes}, which is no time of day. {_HOW}"
            )
        return value

    def _days(self, text: str | None) -> frozenset[int]:
        if text is None:
            return frozenset(range(7))
        days: set[int] = set()
        for part in text.split(","):
            ends = [self._day(name.strip()) for name in part.split("-")]
            if len(ends) > 2:
                raise WindowError(f"The capture window {self.text!r} cannot be read at {part.strip()!r}. {_HOW}")
            day = ends[0]
            days.add(day)
            while day != ends[-1]:
                day = (day + 1) % 7
                days.add(day)
        return frozenset(days)

    def _day(self, name: str) -> int:
        try:
            return _DAYS.index(name.lower())
        except ValueError as error:
            raise WindowError(
                f"The capture window {self.text!r} names the day {name!r}; days are Mon, Tue, Wed, Thu, Fri, Sat, Sun."
            ) from error
