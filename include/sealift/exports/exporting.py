"""The second step: see to it that the template's export to the bucket is submitted.

``copyToIcos`` answers ``true`` and nothing else: no transaction id, no key. What tells that an export runs is a
transaction on the template or its children, and what tells that it is over is the objects.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicBadReplyError,
    ClassicOutcomeUnknownError,
)
from sealift.classic.models import Template
from sealift.exports import ledger, names
from sealift.exports.errors import OutcomeUnknownError, StepError, TemplateMissingError
from sealift.exports.looking import LOOK_AGAIN, look_again, real_sleep
from sealift.exports.plan import PlanItem
from sealift.exports.ports import ClassicApi, CosApi, Sleep
from sealift.exports.settings import PlanSettings


class ExportStarted(BaseModel):
    """What the second step leaves.

    :param keys: the objects that the export must leave, in the order of the disks.
    :param adopted: an export was found (running, or over) rather than submitted by this call.
    """

    model_config = ConfigDict(frozen=True)

    template_id: int
    export_id: str
    keys: list[str]
    adopted: bool


def ensure_export_started(
    *,
    classic: ClassicApi,
    cos: CosApi,
    item: PlanItem,
    settings: PlanSettings,
    template_id: int,
    ibm_api_key: str,
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
    :param sleep: waits between looks after a lost reply.
    :param look_waits: seconds between those looks.
    :returns: the keys of the objects to wait for.
    :raises TemplateMissingError: the account does not show the template; retryable.
    :raises OutcomeUnknownError: the reply was lost and looking did not settle it; retryable. Submitting again later
        writes the same objects from the same template.
    :raises StepError: the template is not this export's.
    :raises sealift.classic.errors.ClassicError: the account refused, in its own words.
    """
    started = ExportStarted(template_id=template_id, export_id=item.export_id, keys=item.disk_keys, adopted=True)
    if ledger.is_exported(
        cos, bucket=settings.bucket, prefix=settings.prefix, guest_id=item.guest_id, period=item.period
    ) or _objects_there(cos, item, settings):
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
    if template.transactions_left or _transaction(template):
        return started
    uri = names.disk_uri(region=settings.region, bucket=settings.bucket, images=item.images)
    try:
        classic.export_template(template_id, uri=uri, ibm_api_key=ibm_api_key)
    except ClassicOutcomeUnknownError as error:
        if look_again(lambda: _running(classic, cos, item, settings, template_id), sleep=sleep, waits=look_waits):
            return started
        raise OutcomeUnknownError(
            f"The reply to the export of {item.name} (template {template_id}) was lost, and neither a transaction nor "
            f"objects showed within {sum(look_waits):.0f} s. A retry looks again before it submits. ({error})"
        ) from error
    except (ClassicActiveTransactionError, ClassicBadReplyError):
        # Refused as busy: another worker's export runs. Anything but true: it may have been accepted all the same.
        if look_again(lambda: _running(classic, cos, item, settings, template_id), sleep=sleep, waits=look_waits[:3]):
            return started
        raise
    return started.model_copy(update={"adopted": False})


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
