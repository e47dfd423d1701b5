"""Exporting what is missing: every slot in which a server has no manifest, in one plan.

A past slot cannot be captured any more: what was captured in it is adopted, and of the rest it is said that it is
missing. Only the present is captured: the newest slot of the schedule, or where there is no schedule the run itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sealift.classic.models import Guest
from sealift.cos.models import ObjectInfo
from sealift.exports import ledger, names
from sealift.exports.durations import History, read_history
from sealift.exports.errors import SettingsError
from sealift.exports.plan import (
    Limits,
    MissedSlot,
    Plan,
    PlanItem,
    assemble,
    check_bucket,
    guests_with_template,
    plan_item,
)
from sealift.exports.ports import ClassicApi, CosApi
from sealift.exports.selection import Selection, resolve
from sealift.exports.settings import PlanSettings

SLOTS_AT_MOST: Final = 400
"""Most past slots of one plan: each costs the account a call."""


def make_missing(
    *,
    settings: PlanSettings,
    selection: Selection,
    classic: ClassicApi,
    cos: CosApi,
    plan_id: str,
    slots: Sequence[str],
    present: str | None,
    run_period: str,
    now: datetime,
    limits: Limits | None = None,
) -> Plan:
    """Make a plan of what is missing; captures nothing.

    It costs what :func:`sealift.exports.plan.make_plan` costs, and the account one page more for each past slot in
    which something is missing.

    :param settings: how the run exports.
    :param selection: which servers it is about.
    :param classic: the account.
    :param cos: the object store.
    :param plan_id: the plan's id.
    :param slots: periods of the past slots.
    :param present: period of the newest slot, which may be captured now; None where there is no schedule. A server that
        was never exported is then exported under ``run_period``.
    :param run_period: period of the run itself.
    :param now: the present time, with a time zone.
    :param limits: what the deployment bounds waves by.
    :returns: the plan. Each server stands in it for the present, and besides for each past slot that can be adopted.
    :raises InputError: the selection or a setting cannot be used.
    :raises sealift.cos.errors.CosError: the bucket is missing, in another region, or may not be written.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    past = sorted(set(slots) - {present or run_period})
    if len(past) > SLOTS_AT_MOST:
        raise SettingsError(
            f"{len(past)} past slots are asked for, and one run takes {SLOTS_AT_MOST} at most. Give a later since, or "
            "name the slots that matter."
        )
    if settings.capture_now:
        raise SettingsError(
            "capture_now does not go with only=missing: it would capture a server as it is now once for every past "
            "slot. The present is captured anyway; leave capture_now off."
        )
    for period in (*past, present or run_period):
        names.check_period(period)
    check_bucket(cos, settings)
    resolved = resolve(selection, classic)
    listed: list[ObjectInfo] = []
    done = ledger.exported_periods(
        cos,
        bucket=settings.bucket,
        prefix=settings.prefix,
        guest_ids=[guest.id for guest in resolved.guests],
        listed=listed,
    )
    history = _History(cos, settings, listed)
    missed: list[MissedSlot] = []
    items: list[PlanItem] = []
    for period in past:
        missing = [one for one in resolved.guests if period not in done.get(one.id, {}) and _was_there(one, period)]
        templates = guests_with_template(classic, [one.id for one in missing], period)
        items += [
            plan_item(
                guest,
                settings=settings,
                period=period,
                done=False,
                past_slot=True,
                template_exists=True,
                history=history.read(),
            )
            for guest in missing
            if guest.id in templates
        ]
        lost = [guest.id for guest in missing if guest.id not in templates]
        if lost:
            missed.append(MissedSlot(period=period, guest_ids=lost))
    now_for = {guest.id: _present(done.get(guest.id, {}), present, run_period) for guest in resolved.guests}
    open_now = {guest.id for guest in resolved.guests if now_for[guest.id] not in done.get(guest.id, {})}
    templates = guests_with_template(classic, open_now, present or run_period)
    items += [
        plan_item(
            guest,
            settings=settings,
            period=now_for[guest.id],
            done=guest.id not in open_now,
            past_slot=False,
            template_exists=guest.id in templates,
            history=history.read() if guest.id in open_now else History(),
        )
        for guest in resolved.guests
    ]
    return assemble(
        plan_id=plan_id,
        created_at=now,
        period=present or run_period,
        settings=settings,
        selection=selection,
        notes=resolved.notes,
        items=items,
        bare_metal=resolved.bare_metal,
        unknown_ids=resolved.unknown_ids,
        missed=missed,
        history=history.known,
        limits=limits,
    )


class _History:
    """The history of durations, read once and only if something is exported."""

    def __init__(self, cos: CosApi, settings: PlanSettings, listed: list[ObjectInfo]) -> None:
        self._cos = cos
        self._settings = settings
        self._listed = listed
        self._read = False
        self.known = History()

    def read(self) -> History:
        """Return the history."""
        if not self._read:
            self._read = True
            self.known = read_history(
                self._cos, bucket=self._settings.bucket, prefix=self._settings.prefix, listed=self._listed
            )
        return self.known


def _present(done: dict[str, datetime], present: str | None, run_period: str) -> str:
    """Say for which period a server stands in the plan: without a schedule, an exported server for its newest."""
    if present is not None:
        return present
    return max(done, key=lambda period: (done[period], period)) if done else run_period


def _was_there(guest: Guest, period: str) -> bool:
    """A server that was made after a slot is not missing from it."""
    slot, made = names.slot_of_period(period), guest.create_date
    return slot is None or made is None or made.tzinfo is None or made <= slot
