"""Starting a capture and, once its template is whole, an export: the same in a worker and in the triggerer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sealift.provider.links import template_url
from sealift.provider.metrics import count_submission
from sealift.provider.settings import settings as deployment
from sealift.provider.waits import ENDED_KEY

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.exports.plan import PlanItem, WaveSlice
    from sealift.exports.settings import PlanSettings
    from sealift.exports.slots import OfflineGate
    from sealift.exports.terms import ExportTurn
    from sealift.provider.hooks.cos import CosHook


@dataclass(frozen=True, kw_only=True)
class Started:
    """What starting a capture or an export leaves.

    :param handed_on: the terms of the wait that follows, of JSON: ids, keys and times.
    :param link: the page of the template or of the exported disks in the console.
    :param sentence: what was done, for the task's log.
    """

    handed_on: dict[str, Any]
    link: str
    sentence: str


def start_capture(
    *,
    classic: ClassicClient,
    cos: CosHook,
    wave: WaveSlice,
    guest_id: int,
    gate: OfflineGate,
) -> Started:
    """Look, then adopt or submit the capture of one server.

    :param classic: the account.
    :param cos: the hook of the run's bucket.
    :param wave: the wave that the server is of.
    :param guest_id: the virtual server.
    :param gate: admits captures.
    :returns: what the next task is to know, and what to tell people.
    :raises sealift.exports.errors.ExportsError: see :func:`sealift.exports.steps.ensure_captured`.
    :raises sealift.classic.errors.ClassicError: the account refused.
    :raises sealift.cos.errors.CosError: the object store did not answer. If that was after the capture, another try
        finds its template.
    """
    from sealift.exports.steps import CaptureMemory, ensure_captured
    from sealift.exports.waiting import capture_terms

    item, settings = wave.item(guest_id), wave.settings
    memory = CaptureMemory(cos=cos.client, item=item, settings=settings, plan_id=wave.plan_id)
    captured = ensure_captured(
        classic=classic,
        cos=cos.client,
        item=item,
        settings=settings,
        gate=gate,
        recall=memory.recall,
    )
    count_submission("capture", adopted=captured.adopted, datacenter=item.datacenter)
    if not captured.exported:
        memory.keep(captured.template_id)
    terms = capture_terms(item, settings, template_id=captured.template_id, started_at=datetime.now(UTC))
    terms = terms.model_copy(update={"exported": captured.exported, "turn": _turn(item, settings)})
    return Started(
        handed_on=terms.handed_on(),
        link=template_url(captured.template_id),
        sentence=f"{'Adopted' if captured.adopted else 'Created'} the template {captured.template_id} of {item.name}.",
    )


def _turn(item: PlanItem, settings: PlanSettings) -> ExportTurn | None:
    """Say what the export waits for once the template is whole."""
    from sealift.exports.names import claims_root
    from sealift.exports.terms import ExportTurn

    kept = deployment()
    if not (kept.max_exports or kept.max_exports_per_datacenter):
        return None
    return ExportTurn(
        root=claims_root(prefix=settings.prefix),
        datacenter=item.datacenter or "",
        max_exports=kept.max_exports,
        max_in_datacenter=kept.max_exports_per_datacenter,
    )


def start_export(
    *,
    classic: ClassicClient,
    cos: CosHook,
    wave: WaveSlice,
    guest_id: int,
    template_id: int,
    ended: Any = None,
) -> Started:
    """Look, then adopt or submit the export of one server.

    :param classic: the account.
    :param cos: the hook of the bucket, which holds the key that the Classic API writes with.
    :param wave: the wave that the server is of.
    :param guest_id: the virtual server.
    :param template_id: its template, which is whole.
    :param ended: when the wait saw the template become whole, as JSON, or None.
    :returns: what the next task is to know, and what to tell people.
    :raises sealift.exports.errors.ExportsError: see :func:`sealift.exports.steps.ensure_export_started`.
    :raises sealift.classic.errors.ClassicError: the account refused.
    :raises sealift.cos.errors.CosError: the object store did not answer.
    :raises ConnectionProblem: the connection holds no key to write with.
    """
    from sealift.exports.steps import ensure_export_started
    from sealift.exports.waiting import export_terms

    item, settings = wave.item(guest_id), wave.settings
    started = ensure_export_started(
        classic=classic,
        cos=cos.client,
        item=item,
        settings=settings,
        template_id=template_id,
        ibm_api_key=cos.export_api_key,
    )
    count_submission("export", adopted=started.adopted, datacenter=item.datacenter)
    facts = {"exported": started.exported, "submitted": not started.adopted}
    terms = export_terms(item, settings, template_id=template_id, started_at=datetime.now(UTC))
    handed_on = terms.model_copy(update=facts).handed_on()
    return Started(
        handed_on=handed_on if ended is None else handed_on | {ENDED_KEY: ended},
        link=cos.url_of(settings.bucket, item.disk_keys[0]),
        sentence=f"{'Found' if started.adopted else 'Started'} the export of the template {template_id} of {item.name} "
        f"to {settings.bucket}/{item.images}.",
    )
