"""Trying the failed again: a plan of just those servers of an earlier plan that ended failed, or without an outcome.

The exports keep their ids, periods and keys. So a template that an earlier run captured is adopted by its name, objects
that are there are found, and nothing is captured or exported twice.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from sealift.cos.models import ObjectInfo
from sealift.exports import ledger, names
from sealift.exports.durations import History, read_history
from sealift.exports.errors import InputError, SelectionError
from sealift.exports.plan import (
    Limits,
    Outcome,
    Plan,
    PlanItem,
    assemble,
    check_bucket,
    guests_with_template,
    plan_item,
    read_plan,
)
from sealift.exports.ports import ClassicApi, CosApi
from sealift.exports.report import OutcomeKind, read_run_report, read_wave_reports
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings

_LISTED_AT_MOST: Final = 5000
"""So many objects of plans are listed to suggest one; the message is only a help."""


def find_first(cos: CosApi, place: str, settings: PlanSettings) -> Plan:
    """Read the plan whose failed servers are to be tried again.

    :param cos: the object store.
    :param place: the plan's id, or the key of any object that belongs to it.
    :param settings: they name the bucket, and the prefix where ``place`` does not.
    :returns: the plan.
    :raises InputError: there is no such plan, or it was made by a dry run.
    :raises PlanError: it cannot be read.
    """
    meant = names.parse_plan_place(place)
    if meant is None:
        raise InputError(
            f"plan: {place!r} is neither a plan's id nor the key of one. Copy the id from the log of make_plan or "
            "report, or the key, as sealift/plans/manual-20261123T020000Z-1b9f0c3d.json."
        )
    prefix, plan_id = meant
    prefix = settings.prefix if prefix is None else prefix
    key = names.plan_key(prefix=prefix, plan_id=plan_id)
    if cos.head(settings.bucket, key) is None:
        raise InputError(
            f"plan: there is no plan at {settings.bucket}/{key}. {_suggestion(cos, settings.bucket, prefix, plan_id)}"
        )
    plan = read_plan(cos, bucket=settings.bucket, key=key)
    if plan.settings.dry_run:
        raise InputError(
            f"The plan {plan_id} was made by a dry run: nothing of it was carried out, so nothing can have failed. "
            "Start a run with the same fields and without dry_run."
        )
    if plan.settings.bucket != settings.bucket:
        raise InputError(
            f"The plan {plan_id} lies in {settings.bucket}, and is for exports to {plan.settings.bucket}. Give "
            f"bucket {plan.settings.bucket}."
        )
    return plan


def failed_items(cos: CosApi, first: Plan, *, over: bool = False) -> list[PlanItem]:
    """Say which exports of a plan failed, or have no outcome.

    :param cos: the object store.
    :param first: the plan.
    :param over: the plan's run is known to be over, though it left no report.
    :returns: the items, in the plan's order.
    :raises InputError: the run has not reported, so that it may still be at work, or nothing failed.
    :raises PlanError: a report cannot be read.
    """
    settings = first.settings
    key = names.report_key(prefix=settings.prefix, plan_id=first.plan_id)
    report = read_run_report(cos, bucket=settings.bucket, key=key)
    if report is not None:
        outcomes = report.outcomes
    elif over:
        outcomes = [one for wave in read_wave_reports(cos, first).values() for one in wave.outcomes]
    else:
        raise InputError(
            f"The run of the plan {first.plan_id} has left no report at {settings.bucket}/{key}: it may still be at "
            "work. Wait for its end, or clear its task report, which writes one. If you know that it is over, for "
            "example because it was deleted, set plan_is_over."
        )
    kinds = {one.export_id: one.kind for one in outcomes}
    ended = {OutcomeKind.EXPORTED, OutcomeKind.ALREADY_EXPORTED, OutcomeKind.NOT_EXPORTABLE}
    failed = [
        item
        for item in first.items
        if item.outcome is not Outcome.NOT_EXPORTABLE
        and kinds.get(item.export_id) not in ended
        and (item.outcome is Outcome.EXPORT or item.export_id in kinds)
    ]
    if not failed:
        raise InputError(
            f"Nothing of the plan {first.plan_id} failed: there is nothing to try again. Its report is at "
            f"{settings.bucket}/{key}."
        )
    return failed


def settings_like(first: Plan, settings: PlanSettings) -> PlanSettings:
    """Return a retry's settings: its own, but what decides where the exports lie is the first plan's.

    :param first: the plan whose servers are tried again.
    :param settings: what the new run was given.
    :returns: the settings.
    """
    same = {name: getattr(first.settings, name) for name in ("bucket", "region", "prefix", "format")}
    return settings.model_copy(update=same)


def make_retry(
    *,
    first: Plan,
    failed: list[PlanItem],
    settings: PlanSettings,
    selection: Selection,
    classic: ClassicApi,
    cos: CosApi,
    plan_id: str,
    now: datetime,
    is_past: Callable[[str], bool] = lambda _period: False,
    limits: Limits | None = None,
) -> Plan:
    """Make a plan of the failed servers of another; captures nothing.

    :param first: the plan that they failed in.
    :param failed: see :func:`failed_items`.
    :param settings: see :func:`settings_like`.
    :param selection: narrows the failed servers, where it says anything; what it excludes is left out.
    :param classic: the account.
    :param cos: the object store.
    :param plan_id: the new plan's id.
    :param now: the present time, with a time zone.
    :param is_past: whether a period's slot has passed, so that it may not be captured any more.
    :param limits: what the deployment bounds waves by.
    :returns: the plan; servers that are exported by now stand in it as that.
    :raises SelectionError: the selection fits none of the failed servers.
    :raises sealift.cos.errors.CosError: the bucket may not be written.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    check_bucket(cos, settings)
    guests = classic.get_guests({item.guest_id for item in failed})
    unknown = sorted({item.guest_id for item in failed} - guests.keys())
    narrows = selection.ids or selection.has_criteria
    chosen = {
        one.id
        for one in guests.values()
        if (not narrows or selection.chooses(one)) and not selection.exclude.touches(one)
    }
    if not chosen and not unknown:
        raise SelectionError(
            f"None of the {len(guests)} failed servers of the plan {first.plan_id} fits the selection. Leave the "
            "selection empty to try all of them again."
        )
    notes = [
        f"{item.name} failed in the plan {first.plan_id} and is not tried again: the selection leaves it out."
        for item in failed
        if item.guest_id in guests and item.guest_id not in chosen
    ]
    items: list[PlanItem] = []
    listed: list[ObjectInfo] = []
    history: History | None = None
    for period, group in itertools.groupby(sorted(failed, key=_in_order), key=lambda item: item.period):
        firsts = [item for item in group if item.guest_id in chosen]
        ids = [item.guest_id for item in firsts]
        done = ledger.exported_guests(
            cos, bucket=settings.bucket, prefix=settings.prefix, period=period, guest_ids=ids, listed=listed
        )
        left = [one for one in ids if one not in done]
        templates = guests_with_template(classic, left, period)
        if left and history is None:
            history = read_history(cos, bucket=settings.bucket, prefix=settings.prefix, listed=listed)
        items += [
            plan_item(
                guests[item.guest_id],
                settings=settings,
                period=period,
                done=item.guest_id in done,
                past_slot=item.adopt_only or is_past(period),
                template_exists=item.guest_id in templates,
                history=history or History(),
                first=item,
            )
            for item in firsts
        ]
    return assemble(
        plan_id=plan_id,
        created_at=now,
        period=first.period,
        settings=settings,
        selection=selection,
        notes=notes,
        items=items,
        unknown_ids=unknown,
        history=history or History(),
        retry_of=first.plan_id,
        limits=limits,
    )


def _in_order(item: PlanItem) -> tuple[bool, str, int]:
    """What only adopts a template goes first: it takes nothing offline."""
    return (not item.adopt_only, item.period, item.guest_id)


def _suggestion(cos: CosApi, bucket: str, prefix: str, plan_id: str) -> str:
    """Name the plans that may have been meant."""
    found: dict[str, datetime] = {}
    for info, file in _plan_files(cos, bucket, prefix):
        if file.wave is None and not file.report:
            found[file.plan_id] = info.last_modified
    if not found:
        return "There is no plan at all below that prefix: is it the prefix of the run that you mean?"
    near = difflib.get_close_matches(plan_id, found, n=3, cutoff=0.5)
    named = near or sorted(found, key=lambda one: found[one], reverse=True)[:3]
    return f"{'Did you mean' if near else 'The newest are'} {', '.join(named)}{'?' if near else '.'}"


def _plan_files(cos: CosApi, bucket: str, prefix: str) -> Iterator[tuple[ObjectInfo, names.PlanFile]]:
    room = names.room_prefix(prefix, "plans")
    for info in itertools.islice(cos.list(bucket, room), _LISTED_AT_MOST):
        file = names.parse_plan_file(info.key.removeprefix(room))
        if file is not None:
            yield info, file
