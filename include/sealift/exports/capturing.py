"""The first step: see to it that the export's template exists, once.

Two workers may run this at once for one export (Airflow can take a worker for dead that is not). What keeps them from
capturing twice is the order of things here: the server's active transaction is checked *before* the last look for the
template. A capture that another worker submitted before the check shows as an active transaction or, if it is over, as
a template in the look after it; one submitted later makes the API refuse ours, as the server is busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicBadReplyError,
    ClassicOutcomeUnknownError,
)
from sealift.classic.models import GuestState, Template
from sealift.exports import deadlines, names
from sealift.exports.disks import PlannedDisk, planned_disks
from sealift.exports.errors import (
    DisksChangedError,
    DuplicateTemplatesError,
    OfflineCapReached,
    OutcomeUnknownError,
    OutsideWindow,
    PastSlotError,
    ServerBusyError,
    ServerGoneError,
    StepError,
    TemplateMissingError,
    WindowClosedError,
)
from sealift.exports.looking import LOOK_AGAIN, look_again, real_clock, real_sleep
from sealift.exports.plan import PlanItem
from sealift.exports.ports import ClassicApi, Clock, Sleep
from sealift.exports.settings import PlanSettings

UNSETTLED: Final = timedelta(hours=1)
"""A template without children and without transactions counts as a capture in flight for so long, then as broken."""


class Captured(BaseModel):
    """What the first step leaves: the template, and the disks that the export will hold.

    :param adopted: the template was found rather than made by this call.
    :param disk_count: how many objects the export must leave.
    """

    model_config = ConfigDict(frozen=True)

    template_id: int
    guest_id: int
    export_id: str
    adopted: bool
    disk_count: int


class OfflineGate(Protocol):
    """Admits captures so that no more than the cap are offline.

    ``admit`` either returns a context in which the capture is submitted, or raises :class:`OfflineCapReached`. What
    orders concurrent submitters (a lock held through the context) belongs into an implementation of this.
    """

    def admit(self, classic: ClassicApi, item: PlanItem, *, now: datetime) -> AbstractContextManager[None]: ...


class AskTheAccount:
    """Counts the captures that the account itself shows to be running, immediately before each submission.

    :param max_offline: most servers offline for capture at once.
    """

    def __init__(self, *, max_offline: int) -> None:
        self.max_offline = max_offline

    def admit(self, classic: ClassicApi, item: PlanItem, *, now: datetime) -> AbstractContextManager[None]:
        """Admit a capture if the account shows fewer than ``max_offline`` running.

        :param classic: the account.
        :param item: the server to capture, for the message.
        :param now: the present time, with a time zone.
        :returns: a context in which to submit the capture; it does nothing.
        :raises OfflineCapReached: the cap is reached; retryable.
        """
        in_flight = captures_in_flight(classic, now=now)
        if in_flight >= self.max_offline:
            raise OfflineCapReached(
                f"{item.name} waits for an offline slot: the account shows {in_flight} captures running, and at most "
                f"{self.max_offline} servers may be offline at once. Nothing was submitted.",
                in_flight=in_flight,
                max_offline=self.max_offline,
            )
        return nullcontext()


def ensure_captured(
    *,
    classic: ClassicApi,
    item: PlanItem,
    settings: PlanSettings,
    remembered_template_id: int | None = None,
    clock: Clock = real_clock,
    sleep: Sleep = real_sleep,
    gate: OfflineGate | None = None,
    look_waits: Sequence[float] = LOOK_AGAIN,
) -> Captured:
    """See to it that the export's template exists: adopt it, refuse, or submit the capture, once.

    :param classic: the account.
    :param item: the server, as the plan has it.
    :param settings: the plan's settings: cap, window, bucket.
    :param remembered_template_id: the id that an earlier try was given, from the task state store.
    :param clock: tells the time, in UTC.
    :param sleep: waits between looks after a lost reply.
    :param gate: admits captures; asks the account if not given.
    :param look_waits: seconds between those looks.
    :returns: the template's id; it may not be ready yet.
    :raises DuplicateTemplatesError: the account holds two templates of this export.
    :raises OfflineCapReached: no offline slot is free; retryable.
    :raises OutsideWindow: the capture window is closed; retryable.
    :raises ServerBusyError: the server has an active transaction; retryable.
    :raises OutcomeUnknownError: the reply was lost and looking did not settle it; retryable.
    :raises TemplateMissingError: the remembered template does not show; retryable, and nothing is captured anew.
    :raises StepError: the server is gone, its disks changed, or the remembered template has another name.
    :raises sealift.classic.errors.ClassicError: the account refused, in its own words.
    :raises PastSlotError: the run is for a past slot and no template was captured in it.
    :raises WindowClosedError: the capture window is closed, and the plan refuses captures outside it.
    """

    def captured(template: Template, *, adopted: bool) -> Captured:
        return Captured(
            template_id=template.id,
            guest_id=item.guest_id,
            export_id=item.export_id,
            adopted=adopted,
            disk_count=len(item.disks),
        )

    found = find_template(classic, item)
    if found is None and remembered_template_id is not None:
        found = look_again(lambda: _remembered(classic, item, remembered_template_id), sleep=sleep, waits=look_waits)
        if found is None:
            raise TemplateMissingError(
                f"The account does not show template {remembered_template_id}, which an earlier try captured of "
                f"{item.name}. It was deleted, or does not show yet; nothing is captured anew. If it was deleted, "
                "start a new run for the server."
            )
    if found is not None:
        return captured(found, adopted=True)

    if item.adopt_only:
        raise PastSlotError(
            f"The run is for the past slot {item.period}, and the account holds no template of {item.name} that was "
            "captured in it. Set capture_now to capture the server as it is now."
        )
    _check_window(item, settings, clock())
    with (gate or AskTheAccount(max_offline=settings.max_offline)).admit(classic, item, now=clock()):
        _check_guest(classic, item)
        found = find_template(classic, item)  # after the check of the transaction, see the module's first lines
        if found is not None:
            return captured(found, adopted=True)
        return _submit(classic, item, settings, captured=captured, sleep=sleep, look_waits=look_waits)


def find_template(classic: ClassicApi, item: PlanItem) -> Template | None:
    """Find the export's template by its exact name.

    :param classic: the account.
    :param item: the server, as the plan has it.
    :returns: the template, or None where the account holds none of that name.
    :raises DuplicateTemplatesError: there are two or more.
    """
    named = [one for one in classic.templates_named(item.template_name) if one.name == item.template_name]
    if len({one.id for one in named}) > 1:
        ids = sorted({one.id for one in named})
        raise DuplicateTemplatesError(
            f"The account holds {len(ids)} templates named {item.template_name} for {item.name}: "
            f"{' and '.join(map(str, ids))}. The export is quarantined, as nobody can tell which of them it should be. "
            "Look at both under Devices > Manage > Images, rename or delete the wrong one, then clear the task.",
            template_ids=ids,
        )
    return named[0] if named else None


def captures_in_flight(classic: ClassicApi, *, now: datetime) -> int:
    """Count the captures of this account that keep a server offline now, as the account shows them.

    :param classic: the account.
    :param now: the present time, with a time zone.
    :returns: the number of servers; see :func:`offline_guests` for what counts.
    """
    return len(offline_guests(classic, now=now))


def offline_guests(classic: ClassicApi, *, now: datetime) -> set[int]:
    """Return the guests that one of our captures keeps offline now.

    A template of ours counts while its server has an active transaction, or while it has no sized copy yet (whether
    the server's transaction spans the whole capture is unconfirmed). A template that is being *exported* has sized
    copies and an idle server, and does not count; nor does one that has stood without copies and transactions for an
    hour, which is broken. Servers are asked about only for templates that are unfinished or younger than the longest
    capture, so that templates of past years cost nothing.

    :param classic: the account.
    :param now: the present time, with a time zone.
    :returns: the ids of the guests.
    """
    candidates: dict[int, list[Template]] = {}
    for template in classic.templates_with_prefix(names.TEMPLATE_PREFIX):
        export = names.parse_template_name(template.name)
        if export is None:
            continue
        young = template.create_date is None or now - template.create_date < deadlines.CAPTURE_MOST
        if young or not _has_sizes(template):
            candidates.setdefault(names.parse_export_id(export)[0], []).append(template)
    if not candidates:
        return set()
    states = classic.guest_states(list(candidates))
    return {
        guest_id
        for guest_id, templates in candidates.items()
        if any(_offline(template, states.get(guest_id), now) for template in templates)
    }


def _offline(template: Template, guest: GuestState | None, now: datetime) -> bool:
    if guest is not None and guest.active_transaction is not None:
        return True
    if _has_sizes(template):
        return False
    if template.transactions_left:
        return True
    return template.create_date is None or now - template.create_date < UNSETTLED


def _has_sizes(template: Template) -> bool:
    return bool(template.children) and all(child.block_devices_disk_space_total for child in template.children)


def _remembered(classic: ClassicApi, item: PlanItem, template_id: int) -> Template | None:
    template = classic.template_states([template_id]).get(template_id)
    if template is not None and template.name != item.template_name:
        raise StepError(
            f"Template {template_id}, which an earlier try captured of {item.name}, is now named {template.name!r} "
            f"instead of {item.template_name!r}. Name it as it was, then clear the capture task."
        )
    return template


def _check_window(item: PlanItem, settings: PlanSettings, now: datetime) -> None:
    if settings.window is not None and not settings.window.contains(now):
        opens = settings.window.next_opening(now)
        if settings.outside_window == "refuse":
            raise WindowClosedError(
                f"The capture window {settings.window.text!r} is closed, and the plan refuses captures outside it: "
                f"{item.name} was not captured. Start a run while the window is open; it opens at "
                f"{opens:%Y-%m-%d %H:%M} UTC."
            )
        raise OutsideWindow(
            f"The capture window {settings.window.text!r} is closed, so that {item.name} is not captured now. It opens "
            f"at {opens:%Y-%m-%d %H:%M} UTC. Nothing was submitted.",
            opens_at=opens,
        )


def _check_guest(classic: ClassicApi, item: PlanItem) -> None:
    guest = classic.get_guests([item.guest_id]).get(item.guest_id)
    if guest is None:
        raise ServerGoneError(
            f"The account does not know {item.name} any more, or the connection's user may not see it. Nothing was "
            "submitted. Take it out of the selection, or give the user access."
        )
    transaction = guest.active_transaction
    if transaction is not None:
        status = transaction.status_friendly_name or transaction.status_name or "status not told"
        raise ServerBusyError(
            f"{item.name} has an active transaction ({status}, transaction {transaction.id}), so that no capture can "
            "start. Nothing was submitted; a retry looks again."
        )
    disks = planned_disks(guest)
    if _identity(disks) != _identity(item.disks):
        raise DisksChangedError(
            f"The disks of {item.name} changed after the plan was made: planned were {_devices(item.disks)}, there are "
            f"{_devices(disks)}. Nothing was submitted. Start a new run, which plans with the disks as they are."
        )


def _submit(
    classic: ClassicApi,
    item: PlanItem,
    settings: PlanSettings,
    *,
    captured: _MakeCaptured,
    sleep: Sleep,
    look_waits: Sequence[float],
) -> Captured:
    note = names.template_note(export=item.export_id, bucket=settings.bucket, key_prefix=item.images)
    try:
        template = classic.capture(
            item.guest_id,
            name=item.template_name,
            block_device_ids=[disk.block_device_id for disk in item.disks],
            note=note,
        )
    except (ClassicOutcomeUnknownError, ClassicBadReplyError) as error:
        found = look_again(lambda: find_template(classic, item), sleep=sleep, waits=look_waits)
        if found is None:
            raise OutcomeUnknownError(
                f"The reply to the capture of {item.name} was lost, and no template named {item.template_name} showed "
                f"within {sum(look_waits):.0f} s. A retry looks again before it submits anything. ({error})"
            ) from error
        return captured(found, adopted=True)
    except ClassicActiveTransactionError as error:
        # Another worker of this same export may have been a moment faster: then its template is ours.
        found = look_again(lambda: find_template(classic, item), sleep=sleep, waits=look_waits[:3])
        if found is None:
            raise ServerBusyError(
                f"{item.name} has an active transaction, so that the API refused the capture. A retry looks again. "
                f"({error})"
            ) from error
        return captured(found, adopted=True)
    return captured(template, adopted=False)


class _MakeCaptured(Protocol):
    def __call__(self, template: Template, *, adopted: bool) -> Captured: ...


def _identity(disks: Sequence[PlannedDisk]) -> list[tuple[int, str, float, str]]:
    return [(disk.block_device_id, disk.device, disk.capacity, disk.units) for disk in disks]


def _devices(disks: Sequence[PlannedDisk]) -> str:
    return ", ".join(f"device {disk.device} with {disk.capacity:g} {disk.units}" for disk in disks) or "none"
