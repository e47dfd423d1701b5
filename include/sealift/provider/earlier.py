"""What a run's parameters say of earlier runs: try the failed of a plan again, or export what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from sealift.provider.schedule import Slots


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The parameters, checked.

    :param only: what the run is restricted to; None for a plain run.
    :param plan: the earlier plan, by id or key.
    :param plan_is_over: its run is known to be over.
    :param since: the first moment whose slots are looked at.
    :param slots: slots that are looked at.
    """

    only: Literal["failed", "missing"] | None = None
    plan: str = ""
    plan_is_over: bool = False
    since: datetime | None = None
    slots: list[datetime] = field(default_factory=list)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, run_type: str, now: datetime) -> Self:
        """Read them from a run's parameters.

        :param params: the run's.
        :param run_type: the run's kind: what a slot's own run may ask for is less.
        :param now: the present time, with a time zone.
        :returns: the parameters.
        :raises SettingsError: they contradict each other or cannot be read.
        """
        from sealift.exports.errors import SettingsError

        only = params.get("only") or None
        plan = str(params.get("plan") or "").strip()
        over = bool(params.get("plan_is_over"))
        since = str(params.get("since") or "").strip()
        slots = [str(one).strip() for one in params.get("slots") or [] if str(one).strip()]
        if only not in (None, "failed", "missing"):
            raise SettingsError(f"only: {only!r} is not known; give failed or missing, or leave it empty.")
        if only != "failed" and (plan or over):
            given = "plan" if plan else "plan_is_over"
            raise SettingsError(
                f"{given} is given, which speaks of an earlier plan. Set only to failed to try its failed servers "
                f"again, or leave {given} out."
            )
        if only == "failed" and not plan:
            raise SettingsError(
                "only=failed needs the plan whose failed servers are to be tried again: give its id or its key in the "
                "bucket as plan. The log of the failed run's report names it."
            )
        if only != "missing" and (since or slots):
            raise SettingsError(
                f"{'since' if since else 'slots'} names past slots. Set only to missing to export what is missing in "
                "them, or leave it out."
            )
        if only == "failed" and run_type != "manual":
            raise SettingsError("only=failed is for runs that somebody triggers, not for a schedule or a backfill.")
        if only is not None and run_type == "backfill":
            raise SettingsError(
                "A backfill adopts what was captured in its slots by itself; only does not go with it. To look at many "
                "slots in one run, trigger plan_exports with only=missing."
            )
        return cls(
            only=only,
            plan=plan,
            plan_is_over=over,
            since=_moment(since, "since", now) if since else None,
            slots=[_moment(one, "slots", now) for one in slots],
        )

    def past_periods(self, schedule: Slots) -> list[str]:
        """Name the slots that are looked at.

        :param schedule: the DAG's.
        :returns: their periods, oldest first.
        :raises SettingsError: ``since`` is given, and there is no schedule whose slots could be told; or there are too
            many.
        """
        from sealift.exports import names
        from sealift.exports.errors import SettingsError
        from sealift.exports.missing import SLOTS_AT_MOST

        found = list(self.slots)
        if self.since is not None:
            if not schedule:
                raise SettingsError(
                    "since means the slots of the schedule, and plan_exports has none ([sealift] schedule). Name the "
                    "slots instead, as slots."
                )
            found += itertools.islice(schedule.since(self.since), SLOTS_AT_MOST + 2)
            if len(found) > SLOTS_AT_MOST:
                raise SettingsError(
                    f"There are more than {SLOTS_AT_MOST} slots since {self.since:%Y-%m-%d}, and one run looks at no "
                    "more. Give a later since."
                )
        return [names.period_of_slot(one) for one in sorted(set(found))]


def _moment(text: str, what: str, now: datetime) -> datetime:
    from sealift.exports.errors import SettingsError
    from sealift.exports.names import slot_of_period

    moment = slot_of_period(text)
    if moment is None:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise SettingsError(
                f"{what}: {text!r} is no time. Write it as 2026-11-01, 2026-11-01T02:00Z or 20261101T0200Z."
            ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > now:
        raise SettingsError(f"{what}: {text} has not come yet. Give an earlier time.")
    return moment.astimezone(UTC)
