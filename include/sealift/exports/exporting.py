"""The second step: see to it that the template's export to the bucket is submitted.

``copyToIcos`` answers ``true`` and nothing else: no transaction id, no key. What tells that an export runs is a
transaction on the template or its children, and what tells that it is over is the objects.

A second submission takes no server offline, but it would write over objects that may be proven by then. So there is a
claim, a register in the bucket, with the two rules of the offline slots (:mod:`sealift.exports.slots`): who holds it
submits within half of ``settle`` or not at all, and another try submits nothing before a whole ``settle`` has passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicBadReplyError,
    ClassicError,
    ClassicLoadError,
    ClassicOutcomeUnknownError,
)
from sealift.classic.models import Template
from sealift.cos.errors import CosError
from sealift.exports import ledger, names, turns
from sealift.exports.capturing import SUBMISSIONS_AT_MOST
from sealift.exports.errors import (
    ExportsError,
    OutcomeOpen,
    OutcomeUnknownError,
    ServerBusyError,
    StepError,
    TemplateMissingError,
)
from sealift.exports.looking import LOOK_AGAIN, look_again, real_clock, real_sleep
from sealift.exports.plan import PlanItem
from sealift.exports.ports import ClassicApi, Clock, CosApi, Sleep
from sealift.exports.registers import Entry, Holding, Register, new_token
from sealift.exports.settings import PlanSettings
from sealift.exports.surveying import settle_time

BUSY_LOOK: Final = timedelta(minutes=2)
"""How soon an export looks again at a template that is busy with something else."""


class ExportStarted(BaseModel):
    """What the second step leaves.

    :param keys: the objects that the export must leave, in the order of the disks.
    :param adopted: an export was found (running, or over) rather than submitted by this call.
    :param exported: the export is proven already, and nothing is left to wait for.
    """

    model_config = ConfigDict(frozen=True)

    template_id: int
    export_id: str
    keys: list[str]
    adopted: bool
    exported: bool = False


def ensure_export_started(
    *,
    classic: ClassicApi,
    cos: CosApi,
    item: PlanItem,
    settings: PlanSettings,
    template_id: int,
    ibm_api_key: str,
    clock: Clock = real_clock,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Sleep = real_sleep,
    look_waits: Sequence[float] = LOOK_AGAIN,
) -> ExportStarted:
    """See to it that the export is submitted: adopt one that runs or is over, or submit it.

    Sources: softlayer-go services for ``copyToIcos``, which answers ``true`` and names nothing; IMGDOC
    export-image-ibm-cos for the objects' names.

    :param classic: the account.
    :param cos: the object store.
    :param item: the server, as the plan has it.
    :param settings: the plan's settings: bucket, region, prefix.
    :param template_id: the parent template, from :func:`sealift.exports.capturing.ensure_captured`.
    :param ibm_api_key: IBM Cloud API key that may write to the bucket; goes into the request's body only.
    :param clock: tells the time, in UTC.
    :param monotonic: seconds that never go back.
    :param sleep: waits between looks after a lost reply.
    :param look_waits: seconds between those looks.
    :returns: the keys of the objects to wait for.
    :raises TemplateMissingError: the account does not show the template; retryable.
    :raises OutcomeOpen: this try or another may have submitted it, and neither transaction nor objects show yet;
        retryable.
    :raises OutcomeUnknownError: as before, too often in a row; retryable.
    :raises StepError: the template is not this export's.
    :raises sealift.classic.errors.ClassicError: the account refused, in its own words. Where they are about its load
        (``ClassicLoadError``), what they teach has been noted.
    :raises sealift.cos.errors.CosError: the object store did not answer; nothing was submitted.
    """
    started = ExportStarted(template_id=template_id, export_id=item.export_id, keys=item.disk_keys, adopted=True)
    found = _found(classic, cos, item, settings, template_id, started, clock=clock)
    if found is not None:
        return found
    began, now = monotonic(), clock()
    settle = settle_time(timeout=classic.timeout, minutes=settings.grace_minutes)
    register = _claims(cos, item, settings)
    claim = _claim(register, register.look(), item, settings, template_id, clock=clock, settle=settle)
    try:
        # Whoever submitted while this try was held up has left a claim, or what is looked for here.
        found = _found(classic, cos, item, settings, template_id, started, clock=clock)
        late = monotonic() > began + settle.total_seconds() / 2 or clock() > now + settle / 2
    except BaseException:
        _give_back(register, claim)
        raise
    if found is not None or late:
        _give_back(register, claim)
        if found is not None:
            return found
        raise OutcomeOpen(
            f"Too much time passed since the export of {item.name} was claimed: another try may rely on nothing being "
            "submitted by now. Nothing was; it looks again.",
            until=clock(),
        )
    uri = names.disk_uri(region=settings.region, bucket=settings.bucket, images=item.images)
    try:
        classic.export_template(template_id, uri=uri, ibm_api_key=ibm_api_key)
    except (ClassicOutcomeUnknownError, ClassicBadReplyError) as error:
        # A reply of anything but true is passed on where nothing shows: the account may have said no.
        waits = look_waits if isinstance(error, ClassicOutcomeUnknownError) else look_waits[:3]
        if look_again(lambda: _running(classic, cos, item, settings, template_id), sleep=sleep, waits=waits):
            return started
        if isinstance(error, ClassicBadReplyError):
            raise
        if claim.entry.attempt > SUBMISSIONS_AT_MOST:
            raise OutcomeUnknownError(
                f"The export of {item.name} (template {template_id}) was submitted {claim.entry.attempt} times, each "
                "time no clear reply came, and neither a transaction nor objects ever showed: something on the way, or "
                f"the account, refuses it without saying so. ({error})"
            ) from error
        certain_at = claim.certain_at(settle)
        raise OutcomeOpen(
            f"The reply to the export of {item.name} (template {template_id}) was lost, and neither a transaction nor "
            f"objects showed within {sum(waits):.0f} s. Nothing is submitted again before {certain_at:%H:%M:%S} UTC, "
            f"when it is certain what came of it. ({error})",
            until=certain_at,
        ) from error
    except ClassicActiveTransactionError:
        # Another worker's export runs, or this one was delivered twice on the way.
        if look_again(lambda: _running(classic, cos, item, settings, template_id), sleep=sleep, waits=look_waits[:3]):
            return started
        raise
    except ClassicError as error:
        # An error in the API's own words: it was refused, as a rule. If it was carried out all the same, that shows.
        if look_again(lambda: _running(classic, cos, item, settings, template_id), sleep=sleep, waits=look_waits[:3]):
            return started
        _give_back(register, claim)
        _learn(classic, cos, item, settings, error, now=clock())
        raise
    return started.model_copy(update={"adopted": False})


def forget_claim(*, cos: CosApi, item: PlanItem, settings: PlanSettings) -> None:
    """Remove the claim of an export whose manifest is written: everybody looks for that first, from now on.

    :param cos: the object store.
    :param item: the server, as the plan has it.
    :param settings: the plan's settings: bucket, prefix.
    :raises sealift.cos.errors.CosError: the object store did not answer; the claim does no harm where it stays.
    """
    _claims(cos, item, settings).clear()


def _claims(cos: CosApi, item: PlanItem, settings: PlanSettings) -> Register:
    root = names.claim_root(prefix=settings.prefix, guest_id=item.guest_id, period=item.period)
    return Register(cos=cos, bucket=settings.bucket, root=root)


def _claim(
    register: Register,
    seen: Holding | None,
    item: PlanItem,
    settings: PlanSettings,
    template_id: int,
    *,
    clock: Clock,
    settle: timedelta,
) -> Holding:
    """Take the claim.

    :raises OutcomeOpen: another try took it a short while ago, or in this moment.
    """
    now = clock()
    if seen is None or not seen.held or now >= seen.certain_at(settle):
        entry = Entry(
            export_id=item.export_id,
            guest_id=item.guest_id,
            token=new_token(),
            taken_at=now,
            settle_seconds=settle.total_seconds(),
            attempt=seen.entry.attempt + 1 if seen is not None and seen.held else 1,
            datacenter=item.datacenter or "",
            template_id=template_id,
            lasts_seconds=item.export_deadline(settings).total_seconds(),
        )
        claim = register.advance(seen, entry)
        if claim is not None:
            return claim
        seen = register.look()
    certain_at = seen.certain_at(settle) if seen is not None and seen.held else now + settle
    raise OutcomeOpen(
        f"Another try for {item.name} may have submitted its export a short while ago; neither a transaction nor "
        f"objects show yet. Nothing is submitted before {certain_at:%H:%M:%S} UTC, when it is certain what came of it.",
        until=certain_at,
    )


def _give_back(register: Register, claim: Holding) -> None:
    """Give the claim back, where nothing was submitted. If that fails, it ends by itself in a while."""
    with suppress(CosError, ExportsError):
        register.advance(claim, claim.entry.model_copy(update={"state": "free"}))


def _learn(
    classic: ClassicApi, cos: CosApi, item: PlanItem, settings: PlanSettings, refusal: ClassicError, *, now: datetime
) -> None:
    """Note what a refusal teaches, where it is for the account's load."""
    if isinstance(refusal, ClassicLoadError):
        turns.learn_from_refusal(
            classic,
            cos,
            bucket=settings.bucket,
            root=names.claims_root(prefix=settings.prefix),
            export_id=item.export_id,
            datacenter=item.datacenter or "",
            words=refusal.message,
            now=now,
        )


def _found(
    classic: ClassicApi,
    cos: CosApi,
    item: PlanItem,
    settings: PlanSettings,
    template_id: int,
    started: ExportStarted,
    *,
    clock: Clock,
) -> ExportStarted | None:
    """Look for what makes a submission needless: the manifest, the objects, or a transaction of ours.

    :raises OutcomeOpen: the template has a transaction that is nobody's export: one of the capture's that came late, or
        a copy to another data center. It is waited for.
    """
    if ledger.is_exported(
        cos, bucket=settings.bucket, prefix=settings.prefix, guest_id=item.guest_id, period=item.period
    ):
        return started.model_copy(update={"exported": True})
    if _objects_there(cos, item, settings):
        return started
    template = classic.template_states([template_id]).get(template_id)
    if template is None:
        raise TemplateMissingError(
            f"The account does not show template {template_id} of {item.name}, so that it cannot be exported. A retry "
            "looks again; if the template was deleted, start a new run for the server."
        )
    if template.name != item.template_name:
        raise StepError(
            f"Template {template_id} is named {template.name!r}, not {item.template_name!r}: it is not the template of "
            f"this export of {item.name}. Nothing was submitted. Clear the capture task, which finds the right one."
        )
    if not (template.transactions_left or _transaction(template)):
        return None
    if _claims(cos, item, settings).look() is not None:
        return started
    longest = item.capture_deadline(settings) + item.export_deadline(settings)
    if template.create_date is not None and clock() > template.create_date + longest:
        raise ServerBusyError(
            f"The template {template_id} of {item.name} has had a transaction for longer than a capture and an export "
            "take, and it is not the transaction of this export. Look at the template under Devices > Manage > Images."
        )
    raise OutcomeOpen(
        f"The template {template_id} of {item.name} has a transaction, and nobody has submitted its export yet: "
        "something else is done with it. The export waits for its end.",
        until=clock() + BUSY_LOOK,
    )


def _running(classic: ClassicApi, cos: CosApi, item: PlanItem, settings: PlanSettings, template_id: int) -> bool | None:
    template = classic.template_states([template_id]).get(template_id)
    if template is not None and (template.transactions_left or _transaction(template)):
        return True
    return _objects_there(cos, item, settings) or None


def _objects_there(cos: CosApi, item: PlanItem, settings: PlanSettings) -> bool:
    sizes = {one.key: one.size for one in cos.list(settings.bucket, names.disks_prefix(item.images))}
    return all(sizes.get(key, 0) > 0 for key in item.disk_keys)


def _transaction(template: Template) -> bool:
    return template.transaction is not None or any(child.transaction is not None for child in template.children)
