"""Asking the Classic API to copy a template's disks into the bucket, once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sealift.provider.errors import WaitFailedForGood
from sealift.provider.links import ObjectLink, TemplateLink, template_url
from sealift.provider.operators.base import ServerStepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


def template_id_of(captured: str) -> int:
    """Read the template's id out of what the capture returned.

    :param captured: the capture's XCom as JSON.
    :returns: id of the parent template group.
    :raises WaitFailedForGood: if there is none, because the capture was skipped or marked done by hand.
    """
    value = json.loads(captured) if captured else None
    if not isinstance(value, dict) or "template_id" not in value:
        raise WaitFailedForGood(
            "The capture left no template id. Clear this server's task capture: it finds the template or makes one.",
            reason="no-template",
        )
    return int(value["template_id"])


class ExportImageOperator(ServerStepOperator):
    """Starts the export of a template, unless its objects or its transaction are there already.

    :param captured: what :class:`~sealift.provider.operators.capture.CaptureImageOperator` returned, as
        JSON, templated.
    """

    template_fields: Sequence[str] = (*ServerStepOperator.template_fields, "captured")
    operator_extra_links = (TemplateLink(), ObjectLink())

    def __init__(self, *, captured: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.captured = captured

    def step(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Look, then adopt or submit, or wait until it is certain whether another try submitted.

        :param context: the task's context.
        :returns: the terms of the wait for the objects: ids, keys and times.
        """
        from sealift.exports.errors import OutcomeOpen
        from sealift.exports.steps import ensure_export_started
        from sealift.exports.waiting import export_terms

        template_id = template_id_of(self.captured)
        item, settings = self.item, self.wave.settings
        self.remember_link(TemplateLink, template_url(template_id))
        try:
            started = ensure_export_started(
                classic=self.classic.client,
                cos=self.cos.client,
                item=item,
                settings=settings,
                template_id=template_id,
                ibm_api_key=self.cos.export_api_key,
            )
        except OutcomeOpen as uncertain:
            self.wait_until(uncertain.until, uncertain)
        self.log.info(
            "%s the export of the template %s of %s to %s/%s.",
            "Found" if started.adopted else "Started",
            template_id,
            item.name,
            settings.bucket,
            item.images,
        )
        self.remember_link(ObjectLink, self.cos.url_of(settings.bucket, item.disk_keys[0]))
        terms = export_terms(item, settings, template_id=template_id, started_at=datetime.now(UTC))
        facts = {"exported": started.exported, "submitted": not started.adopted}
        return dict(terms.model_copy(update=facts).model_dump(mode="json"))
