"""How long to wait for a capture and for an export, worked out from the size of the disks and the account's history.

Where enough exports were measured (:mod:`sealift.exports.durations`), a deadline is an hour and twice what such disks
take in the slowest tenth of cases, and at most 48 hours for a capture and 72 for an export; where the slowest tenth
alone takes longer than that, it is an hour and the slowest tenth, and at most a week.

Without a history: IBM publishes no speed. The slowest figure published for a comparable service is Google's 12 hours
per TB, 24 MB/s; we assume 10 MB/s, less than half of it, on top of a fixed hour, never less than 4 hours for a capture
and 6 for an export, and never more than 48 and 72.

A deadline only ends *our* waiting: the API offers no cancel, and a retry goes on waiting for the same template.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sealift.exports.durations import Pace

ASSUMED_BYTES_PER_SECOND: Final = 10 * 10**6
FIXED: Final = timedelta(hours=1)
CAPTURE_LEAST, CAPTURE_MOST = timedelta(hours=4), timedelta(hours=48)
EXPORT_LEAST, EXPORT_MOST = timedelta(hours=6), timedelta(hours=72)
MOST_EVER: Final = timedelta(days=7)
"""However slow an account has been."""
MARGIN: Final = 2
"""How much longer than in the slowest tenth of cases something may take."""
GRACE: Final = timedelta(minutes=15)
"""How long something may be missing (a template, an object, a size) before it counts as gone."""


def capture_deadline(size: int, minutes: float | None = None, *, pace: Pace | None = None) -> timedelta:
    """Return how long to wait for a template.

    :param size: bytes of all captured disks together.
    :param minutes: what the plan's settings say instead, if anything.
    :param pace: how fast captures are in this account, where its history tells.
    :returns: never less for more bytes; see the module's first lines.
    """
    return _deadline(size, minutes, pace, CAPTURE_LEAST, CAPTURE_MOST)


def export_deadline(size: int, minutes: float | None = None, *, pace: Pace | None = None) -> timedelta:
    """Return how long to wait for an export; parameters as for :func:`capture_deadline`.

    :returns: never less for more bytes; see the module's first lines.
    """
    return _deadline(size, minutes, pace, EXPORT_LEAST, EXPORT_MOST)


def stuck_after(deadline: timedelta, minutes: float | None = None) -> timedelta:
    """Return after how long without a change of status a transaction is stuck: half the deadline.

    One status may last for the whole copy of a large disk, so that this grows with the size as well.

    :param deadline: of the whole wait.
    :param minutes: what the plan's settings say instead, if anything.
    :returns: the longest time that one status may last.
    """
    return deadline / 2 if minutes is None else timedelta(minutes=minutes)


def grace(minutes: float | None = None) -> timedelta:
    """Return how long something may be missing before it counts as gone.

    :param minutes: what the plan's settings say instead, if anything.
    :returns: 15 minutes, unless the settings say something else.
    """
    return GRACE if minutes is None else timedelta(minutes=minutes)


def _deadline(size: int, minutes: float | None, pace: Pace | None, least: timedelta, most: timedelta) -> timedelta:
    if minutes is not None:
        return timedelta(minutes=minutes)
    if pace is None:
        return min(most, max(least, FIXED + timedelta(seconds=size / ASSUMED_BYTES_PER_SECOND)))
    slow = pace.slow(size)
    return min(MOST_EVER, max(min(most, FIXED + MARGIN * slow), FIXED + slow))
