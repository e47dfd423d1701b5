"""The slots of a DAG's schedule: which there were, and which is the newest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.timetables.base import Timetable

_WITHOUT_SLOTS = ("@once", "@continuous")


class Slots:
    """The slots of a schedule.

    :param schedule: the DAG's ``schedule``; only a cron expression or a preset has slots that can be told.
    """

    def __init__(self, schedule: Any) -> None:
        self._cron = schedule if isinstance(schedule, str) and schedule not in _WITHOUT_SLOTS else None

    def __bool__(self) -> bool:
        return self._cron is not None

    def newest(self) -> datetime | None:
        """Return the slot whose run is the newest that there can be by now; None without a schedule."""
        if self._cron is None:
            return None
        import pendulum
        from airflow.timetables.base import TimeRestriction

        restriction = TimeRestriction(earliest=pendulum.datetime(2000, 1, 1), latest=None, catchup=False)
        info = self._timetable().next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
        return None if info is None else info.logical_date

    def since(self, moment: datetime) -> Iterator[datetime]:
        """Give every slot from a moment to the newest one.

        :param moment: with a time zone.
        :returns: the slots, oldest first; as many as there are.
        """
        newest = self.newest()
        if newest is None:
            return
        import pendulum
        from airflow.timetables.base import TimeRestriction

        timetable, last = self._timetable(), None
        restriction = TimeRestriction(earliest=pendulum.instance(moment), latest=None, catchup=True)
        while True:
            info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
            if info is None or info.logical_date is None or info.logical_date > newest:
                return
            last = info.data_interval
            yield info.logical_date

    def is_past(self, slot: datetime | None) -> bool:
        """Say whether a later slot has come.

        :param slot: a slot; None stands for a manual run, which has none.
        :returns: False where it cannot be told.
        """
        newest = self.newest()
        return slot is not None and newest is not None and slot < newest

    def _timetable(self) -> Timetable:
        """Make the timetable that Airflow makes of the same expression."""
        from airflow.configuration import conf
        from airflow.timetables.interval import CronDataIntervalTimetable
        from airflow.timetables.trigger import CronTriggerTimetable

        assert self._cron is not None
        if conf.getboolean("scheduler", "create_cron_data_intervals"):
            return CronDataIntervalTimetable(self._cron, timezone="UTC")
        return CronTriggerTimetable(self._cron, timezone="UTC")
