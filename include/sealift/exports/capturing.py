"""The first step: see to it that the export's template exists, once.

Two workers may run this at once for one export (Airflow can take a worker for dead that is not). Three things keep
them from capturing twice. The offline slot says that another try may have submitted, and for how long to wait before
that is certain (:mod:`sealift.exports.slots`). The order of things here: the server's active transaction is checked
*before* the last look for the template, so that a capture that another worker submitted before the check shows as an
active transaction or, if it is over, as a template in the look after it. And the API refuses to capture a busy server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicAuthError,
    ClassicBadReplyError,
    ClassicError,
    ClassicNotFoundError,
    ClassicOutcomeUnknownError,
    ClassicPermissionError,
    ClassicRateLimitedError,
    ClassicTransientError,
    ClassicUnreachableError,
)
from sealift.classic.models import Template
from sealift.exports import names
from sealift.exports.disks import PlannedDisk, planned_disks
from sealift.exports.errors import (
    DisksChangedError,
    DuplicateTemplatesError,
    OutcomeOpen,
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
from sealift.exports.manifest import read_manifest
from sealift.exports.plan import PlanItem
from sealift.exports.ports import ClassicApi, Clock, CosApi, Sleep
from sealift.exports.settings import PlanSettings
from sealift.exports.slots import Admission, OfflineGate

SUBMISSIONS_AT_MOST: Final = 3
"""So often a capture or an export whose outcome stayed unknown is submitted again before that counts as a failure."""

_CERTAIN: Final = (
    ClassicAuthError,
    ClassicNotFoundError,
    ClassicPermissionError,
    ClassicRateLimitedError,
    ClassicTransientError,
    ClassicUnreachableError,
)
"""What a write raises only where nothing was done: refused at the door, or never sent."""


class Captured(BaseModel):
    """What the first step leaves: the template, and the disks that the export will hold.

    :param adopted: the template was found rather than made by this call.
    :param exported: the export is done already, and nothing is left to wait for.
    :param disk_count: how many objects the export must leave.
    """

    model_config = ConfigDict(frozen=True)

    template_id: int
    guest_id: int
    export_id: str
    adopted: bool
    exported: bool = False
    disk_count: int


def _nothing() -> None:
    """Nothing is remembered."""


def ensure_captured(
    *,
    classic: ClassicApi,
    cos: CosApi,
    item: PlanItem,
    settings: PlanSettings,
    gate: OfflineGate,
    recall: Callable[[], int | None] = _nothing,
    clock: Clock = real_clock,
    sleep: Sleep = real_sleep,
    look_waits: Sequence[float] = LOOK_AGAIN,
) -> Captured:
    """See to it that the export's template exists: adopt it, refuse, or submit the capture, once.

    :param classic: the account.
    :param cos: the object store, which knows whether the export is done already.
    :param item: the server, as the plan has it.
    :param settings: the plan's settings: window, bucket.
    :param gate: admits captures: see :class:`sealift.exports.slots.OfflineSlots`.
    :param recall: gives the id that an earlier try was given, if any: see :mod:`sealift.exports.remembering`.
    :param clock: tells the time, in UTC.
    :param sleep: waits between looks after a lost reply.
    :param look_waits: seconds between those looks.
    :returns: the template's id; it may not be ready yet.
    :raises DuplicateTemplatesError: the account holds two templates of this export.
    :raises OfflineCapReached: no offline slot is free; retryable.
    :raises OutsideWindow: the capture window is closed; retryable.
    :raises OutcomeOpen: this try or another may have submitted the capture, and no template shows yet; retryable.
    :raises OutcomeUnknownError: as before, too often in a row; retryable.
    :raises ServerBusyError: the server has an active transaction; retryable.
    :raises TemplateMissingError: the remembered template does not show; retryable, and nothing is captured anew.
    :raises StepError: the server is gone, its disks changed, or the remembered template has another name.
    :raises sealift.classic.errors.ClassicError: the account refused, in its own words.
    :raises sealift.cos.errors.CosError: the object store did not answer; nothing was submitted.
    :raises PastSlotError: the run is for a past slot and no template was captured in it.
    :raises WindowClosedError: the capture window is closed, and the plan refuses captures outside it.
    """

    def captured(template_id: int, *, adopted: bool, exported: bool = False) -> Captured:
        return Captured(
            template_id=template_id,
            guest_id=item.guest_id,
            export_id=item.export_id,
            adopted=adopted,
            exported=exported,
            disk_count=len(item.disks),
        )

    found = find_template(classic, item)
    if found is None:
        done = _exported_template(cos, item, settings)
        if done is not None:
            return captured(done, adopted=True, exported=True)
        remembered = recall()
        if remembered is not None:
            found = look_again(lambda: _remembered(classic, item, remembered), sleep=sleep, waits=look_waits)
            if found is None:
                raise TemplateMissingError(
                    f"The account does not show template {remembered}, which an earlier try captured of "
                    f"{item.name}. It was deleted, or does not show yet; nothing is captured anew. If it was deleted, "
                    "start a new run for the server."
                )
    if found is not None:
        done = _exported_template(cos, item, settings)
        return captured(found.id, adopted=True, exported=done == found.id)

    if item.adopt_only:
        raise PastSlotError(
            f"The run is for the past slot {item.period}, and the account holds no template of {item.name} that was "
            "captured in it. Set capture_now to capture the server as it is now."
        )
    _check_window(item, settings, clock())
    with gate.admit(classic, item) as admission:
        _check_guest(classic, item, sleep=sleep, look_waits=look_waits)
        found = find_template(classic, item)  # after the check of the transaction, see the module's first lines
        if found is not None:
            return captured(found.id, adopted=True)
        template, adopted = _submit(classic, item, settings, admission, sleep=sleep, look_waits=look_waits)
        return captured(template.id, adopted=adopted)


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


def _check_guest(classic: ClassicApi, item: PlanItem, *, sleep: Sleep, look_waits: Sequence[float]) -> None:
    # A list can lack a server that is there: a page that moved, a moment's 404.
    guest = look_again(
        lambda: classic.get_guests([item.guest_id]).get(item.guest_id), sleep=sleep, waits=look_waits[:3]
    )
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


def _exported_template(cos: CosApi, item: PlanItem, settings: PlanSettings) -> int | None:
    key = names.manifest_key(prefix=settings.prefix, guest_id=item.guest_id, period=item.period)
    manifest = read_manifest(cos, bucket=settings.bucket, key=key)
    return None if manifest is None else manifest.template.id


def _submit(
    classic: ClassicApi,
    item: PlanItem,
    settings: PlanSettings,
    admission: Admission,
    *,
    sleep: Sleep,
    look_waits: Sequence[float],
) -> tuple[Template, bool]:
    """Submit the capture, once.

    :returns: the template, and whether it was found rather than told by the reply.
    """
    note = names.template_note(export=item.export_id, bucket=settings.bucket, key_prefix=item.images)
    admission.submitting()
    try:
        return classic.capture(
            item.guest_id,
            name=item.template_name,
            block_device_ids=[disk.block_device_id for disk in item.disks],
            note=note,
        ), False
    except (ClassicOutcomeUnknownError, ClassicBadReplyError) as error:
        found = look_again(lambda: find_template(classic, item), sleep=sleep, waits=look_waits)
        if found is None and admission.attempt > SUBMISSIONS_AT_MOST:
            raise OutcomeUnknownError(
                f"The capture of {item.name} was submitted {admission.attempt} times, each time no clear reply came, "
                f"and no template named {item.template_name} ever showed: something on the way, or the account, "
                f"refuses it without saying so. ({error})"
            ) from error
        if found is None:
            raise OutcomeOpen(
                f"The reply to the capture of {item.name} was lost, and no template named {item.template_name} showed "
                f"within {sum(look_waits):.0f} s. Nothing is submitted again before {admission.certain_at:%H:%M:%S} "
                f"UTC, when it is certain what came of it. ({error})",
                until=admission.certain_at,
            ) from error
        return found, True
    except ClassicActiveTransactionError as error:
        # The server's transaction may be our own capture: sent by another worker of this export, or delivered twice on
        # the way. So the slot stays taken until that is certain.
        found = look_again(lambda: find_template(classic, item), sleep=sleep, waits=look_waits[:3])
        if found is None:
            raise ServerBusyError(
                f"{item.name} has an active transaction, so that the API refused the capture. A retry looks again. "
                f"({error})"
            ) from error
        return found, True
    except _CERTAIN:
        admission.refused()
        raise
    except ClassicError:
        # An error in the API's own words: it was refused, as a rule. If it was carried out all the same, the template
        # or at least the server's transaction shows.
        found = look_again(lambda: find_template(classic, item), sleep=sleep, waits=look_waits[:3])
        if found is None:
            guest = classic.guest_states([item.guest_id]).get(item.guest_id)
            if guest is not None and guest.active_transaction is None:
                # A capture that ended between the two looks, or showed late: its template is there by now.
                found = find_template(classic, item)
                if found is None:
                    admission.refused()
        if found is None:
            raise
        return found, True


def _identity(disks: Sequence[PlannedDisk]) -> list[tuple[int, str, float, str]]:
    return [(disk.block_device_id, disk.device, disk.capacity, disk.units) for disk in disks]


def _devices(disks: Sequence[PlannedDisk]) -> str:
    return ", ".join(f"device {disk.device} with {disk.capacity:g} {disk.units}" for disk in disks) or "none"
