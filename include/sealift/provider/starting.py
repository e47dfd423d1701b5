"""Asking for an export once its template is whole, the same in a worker and in the triggerer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sealift.provider.waits import ENDED_KEY

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.exports.plan import WaveSlice
    from sealift.provider.hooks.cos import CosHook


@dataclass(frozen=True, kw_only=True)
class Started:
    """What starting an export leaves.

    :param handed_on: the terms of the wait for the objects, of JSON: ids, keys and times.
    :param link: the page of the exported disks in the console.
    :param sentence: what was done, for the task's log.
    """

    handed_on: dict[str, Any]
    link: str
    sentence: str


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
    facts = {"exported": started.exported, "submitted": not started.adopted}
    terms = export_terms(item, settings, template_id=template_id, started_at=datetime.now(UTC))
    handed_on = dict(terms.model_copy(update=facts).model_dump(mode="json", exclude_defaults=True))
    return Started(
        handed_on=handed_on if ended is None else handed_on | {ENDED_KEY: ended},
        link=cos.url_of(settings.bucket, item.disk_keys[0]),
        sentence=f"{'Found' if started.adopted else 'Started'} the export of the template {template_id} of {item.name} "
        f"to {settings.bucket}/{item.images}.",
    )
